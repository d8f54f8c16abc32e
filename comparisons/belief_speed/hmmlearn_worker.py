"""hmmlearn: its compiled forward pass, sequence by sequence, and its sampler."""

import importlib.metadata

import numpy as np
from hmmlearn import _hmmc
from hmmlearn.hmm import CategoricalHMM


class Filter:
    """Beliefs of given sequences; the forward pass is not part of its public interface, but nothing public filters."""

    def __init__(self, task: dict[str, np.ndarray], threads: int) -> None:
        self.model = CategoricalHMM(len(task["chain"]))
        self.model.startprob_ = task["initial"] @ task["chain"]
        self.model.transmat_, self.model.emissionprob_ = task["chain"], task["emission"]
        self.model.n_features = task["emission"].shape[1]
        self.tokens = task["tokens"]
        self.random = np.random.RandomState(0)

    def follow(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights = self.model.emissionprob_.T[tokens]
        beliefs, logs = np.empty(weights.shape), np.empty(len(tokens))
        for row, weight in enumerate(weights):
            logs[row], beliefs[row], _ = _hmmc.forward_scaling(self.model.startprob_, self.model.transmat_, weight)
        return beliefs, logs

    def once(self) -> dict[str, np.ndarray]:
        beliefs, logs = self.follow(self.tokens)
        return {"tokens": self.tokens, "filtered": beliefs, "log_likelihood": logs}

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.once()

    def check(self) -> dict[str, np.ndarray]:
        return self.once()

    def versions(self) -> dict[str, str]:
        return {"hmmlearn": importlib.metadata.version("hmmlearn")}


class Observe(Filter):
    """Sequences, one after the other, then their beliefs."""

    def once(self) -> dict[str, np.ndarray]:
        batch, length = self.tokens.shape
        tokens = np.stack([self.model.sample(length, self.random)[0][:, 0] for _ in range(batch)])
        beliefs, logs = self.follow(tokens)
        return {"tokens": tokens, "filtered": beliefs, "log_likelihood": logs}
