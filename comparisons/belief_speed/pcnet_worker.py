"""pcnet: what each row of the table times."""

import abc
from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from pcnet import processes
from pcnet.baselines.transformer import Transformer
from pcnet.data.sequences import SequenceStream


class Timed(abc.ABC):
    """One call, again and again."""

    def __init__(self, task: dict[str, np.ndarray], threads: int) -> None:
        torch.set_num_threads(threads)
        matrices = task["chain"] * task["emission"].T[:, None]
        self.process = processes.HiddenMarkovModel(matrices, task["initial"])
        self.tokens = torch.from_numpy(task["tokens"])
        self.generator = torch.Generator().manual_seed(0)

    @abc.abstractmethod
    def once(self) -> object:
        """What is timed."""

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.once()

    def check(self) -> dict[str, np.ndarray]:
        return {}

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}


class Filter(Timed):
    """Beliefs of given sequences."""

    dtype = torch.float32

    def once(self) -> processes.Beliefs:
        return processes.filter_beliefs(self.process, self.tokens, dtype=self.dtype)

    def check(self) -> dict[str, np.ndarray]:
        found = self.once()
        return {
            "tokens": self.tokens.numpy(),
            "filtered": found.filtered.numpy(),
            "log_likelihood": found.log_likelihood.numpy(),
        }


class FilterDouble(Filter):
    """The same in float64."""

    dtype = torch.float64


class Observe(Timed):
    """Tokens, states, beliefs, next-token laws and word probabilities."""

    dtype = torch.float32

    def once(self) -> processes.Observed:
        return processes.observe(self.process, *self.tokens.shape, self.generator, dtype=self.dtype)

    def check(self) -> dict[str, np.ndarray]:
        seen = self.once()
        return {
            "tokens": seen.tokens.numpy(),
            "filtered": seen.filtered.numpy(),
            "log_likelihood": seen.log_word_probabilities[:, -1].numpy(),
        }


class ObserveDouble(Observe):
    """The same in float64."""

    dtype = torch.float64


class MixedStates(Timed):
    """The 36 mixed states of rrxor."""

    def once(self) -> processes.MixedStatePresentation:
        return processes.mixed_state_presentation(processes.rrxor())


class WordTree(Timed):
    """All words of Mess3 up to length 10."""

    def once(self) -> processes.Words:
        return processes.words(processes.mess3(), 10)


def five_factors() -> processes.Process:
    """Three of Mess3 and two Bloch walks: 3^3 4^2 = 432 tokens."""
    return processes.product([processes.mess3()] * 3 + [processes.bloch_walk()] * 2)


class Stream10(Timed):
    """Batches of a product with the loss of its exact observer, 64 sequences each."""

    length = 11

    def __init__(self, task: dict[str, np.ndarray], threads: int) -> None:
        super().__init__(task, threads)
        self.batches: Iterator = iter(SequenceStream(five_factors(), self.length, 64, 0))

    def once(self) -> object:
        return next(self.batches)


class Stream64(Stream10):
    """The same, 64 tokens of context."""

    length = 65


class Step10(Timed):
    """What waits for those batches: a training step of the default transformer."""

    length = 11

    def __init__(self, task: dict[str, np.ndarray], threads: int) -> None:
        super().__init__(task, threads)
        self.model = Transformer(432, self.length - 1)
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.batch = torch.randint(432, (64, self.length), generator=self.generator)

    def once(self) -> None:
        logits = self.model(self.batch[:, :-1])
        loss = cross_entropy(logits.flatten(0, 1), self.batch[:, 1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Step64(Step10):
    """The same, 64 tokens of context."""

    length = 65
