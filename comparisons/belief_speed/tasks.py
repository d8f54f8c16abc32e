"""What is timed, what each answer has to be, and what was demanded."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

TOLERANCE = 1e-5
"""Greatest error of a belief, and of a log-likelihood relative to its size, that passes as the same answer."""


@dataclass(frozen=True)
class Hidden:
    """A hidden Markov model whose tokens depend on the state that they lead to, and sequences of it.

    Attributes:
        states, vocab_size: sizes of a random model; the published Mess3 if there are 3 states.
        batch, length: of the sequences.
    """

    states: int
    vocab_size: int
    batch: int = 1024
    length: int = 64

    def arrays(self) -> dict[str, np.ndarray]:
        """Chain, emission by the next state, law before the first token, and tokens; the same in every run."""
        generator = np.random.default_rng(0)
        if self.states == 3:
            chain = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
            emission = np.full((3, 3), 0.075) + 0.775 * np.eye(3)
        else:
            chain = generator.exponential(size=(self.states, self.states))
            emission = generator.exponential(size=(self.states, self.vocab_size))
        chain, emission = (law / law.sum(1, keepdims=True) for law in (chain, emission))
        initial = np.full(self.states, 1 / self.states)
        state = generator.choice(self.states, size=self.batch, p=initial)
        tokens = np.empty((self.batch, self.length), dtype=np.int64)
        for t in range(self.length):
            state = drawn(chain[state], generator)
            tokens[:, t] = drawn(emission[state], generator)
        return {"chain": chain, "emission": emission, "initial": initial, "tokens": tokens}

    def write(self, path: Path) -> Path:
        """A file for the workers."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **self.arrays())
        return path

    def floor(self) -> str:
        """Operations and memory traffic without which beliefs before and after every token can't be written."""
        tokens = self.batch * self.length
        flops = tokens * self.states * (2 * self.states + 3)
        return f"{flops / 1e6:.0f} MFLOP and {tokens * (8 + 2 * 4 * self.states) / 1e6:.1f} MB in float32"


def drawn(laws: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """One outcome of each law."""
    return (laws.cumsum(1) < generator.random(len(laws))[:, None]).sum(1).clip(max=laws.shape[1] - 1)


def filtered(task: dict[str, np.ndarray], tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Beliefs after every token and log-likelihoods, one token at a time in float64: what everyone is checked against."""
    belief = np.tile(task["initial"], (len(tokens), 1))
    beliefs, surprise = np.empty((*tokens.shape, belief.shape[1])), np.zeros(len(tokens))
    for t in range(tokens.shape[1]):
        belief = (belief @ task["chain"]) * task["emission"].T[tokens[:, t]]
        total = belief.sum(1, keepdims=True)
        belief = beliefs[:, t] = belief / total
        surprise += np.log(total[:, 0])
    return beliefs, surprise


def error(task: dict[str, np.ndarray], answer: dict[str, np.ndarray]) -> float:
    """How far an answer is from that of the loop on the answer's own tokens."""
    beliefs, surprise = filtered(task, answer["tokens"])
    wrong = np.abs(answer["filtered"] - beliefs).max()
    return float(max(wrong, np.abs(answer["log_likelihood"] / surprise - 1).max()))


@dataclass(frozen=True)
class Row:
    """One line of the table: what pcnet does, and against whom or against what bound.

    Attributes:
        name: for people.
        own: pcnet's implementation, a class of ``pcnet_worker``.
        peers: implementations it is compared with.
        bound: greatest ratio of times, pcnet's over the fastest peer's.
        milliseconds: greatest time of pcnet, where a time was demanded instead.
        hidden: the task; none for what takes no sequences.
        checked: whether the answers are beliefs.
    """

    name: str
    own: str
    peers: tuple[str, ...] = ()
    bound: float | None = None
    milliseconds: float | None = None
    hidden: Hidden = field(default_factory=lambda: Hidden(3, 3))
    checked: bool = True

    def demanded(self) -> str:
        """The bound, for people."""
        return f"{self.milliseconds:g} ms" if self.bound is None else f"<= {self.bound:.3g}"

    def reached(self, own: float, ratio: float) -> bool | None:
        """Whether the bound is kept; None where it isn't known.

        Args:
            own: milliseconds of pcnet.
            ratio: pcnet's time over the peer's; NaN where no peer was timed.
        """
        if self.bound is None:
            return own <= self.milliseconds
        return None if np.isnan(ratio) else ratio <= self.bound


SAMPLING = ("dynamax_worker:Observe", "dynamax_worker:ObserveFused", "hmmlearn_worker:Observe")
ROWS = {
    "filter3": Row("filter, 3 states, float32", "Filter", ("dynamax_worker:Filter", "hmmlearn_worker:Filter"), 1.0),
    "filter3_double": Row("filter, 3 states, float64", "FilterDouble", ("dynamax_worker:FilterDouble",), 1.0),
    "filter64": Row("filter, 64 states, float32", "Filter", ("dynamax_worker:Filter",), 1.0, hidden=Hidden(64, 8)),
    "filter64_double": Row(
        "filter, 64 states, float64", "FilterDouble", ("dynamax_worker:FilterDouble",), 1.0, hidden=Hidden(64, 8)
    ),
    "observe": Row("observe: sample and filter, 3 states, float32", "Observe", SAMPLING, 1 / 3),
    "observe_double": Row("observe in float64, peers in float32", "ObserveDouble", SAMPLING[:2], 1 / 3),
    "mixed_states": Row("mixed-state presentation of rrxor", "MixedStates", milliseconds=50, checked=False),
    "words": Row("88,572 Mess3 words with beliefs", "WordTree", milliseconds=200, checked=False),
    "stream10": Row(
        "5-factor stream, 64 x 10, by a training step", "Stream10", ("pcnet_worker:Step10",), 0.05, checked=False
    ),
    "stream64": Row(
        "5-factor stream, 64 x 64, by a training step", "Stream64", ("pcnet_worker:Step64",), 0.05, checked=False
    ),
}
"""In the order of the table."""
