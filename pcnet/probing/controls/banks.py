"""Features that know nothing of the process, by the dozen: what a model's are ranked among."""

import abc
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float

from pcnet.probing.rows.dataset import Array, as_numpy
from pcnet.probing.rows.history import tokens_by_lag
from pcnet.probing.rows.subject import Subject
from pcnet.processes import Words, random_hmm

SPECTRAL_RADII = (0.5, 0.9, 1.2)
"""Spectral radii of the reservoirs' recurrent weights, each of them a bank."""


class BankSource(abc.ABC):
    """Where a verdict gets its banks from. It is asked only where anything can be decided, so a source may be costly."""

    @property
    @abc.abstractmethod
    def fewest_members(self) -> int:
        """Of any of its banks."""

    @abc.abstractmethod
    def key(self, site: str, width: int) -> Hashable:
        """What the banks depend on: they are asked for once for all sites of one key."""

    @abc.abstractmethod
    def banks(self, subject: Subject, site: str, width: int) -> "tuple[ControlBank, ...]":
        """The banks for a site with so many features, members having one row per word of the subject."""


@dataclass(frozen=True, eq=False)
class ControlBank(BankSource):
    """Features of networks (or beliefs) that were not made for the process, all drawn in one way.

    If a model's features were drawn like the members, its rank among them would be uniform: that is the whole test, and
    it needs no assumption but this one. With m members the least p value is 1 / (1 + m).

    Args:
        name: what the column ``control`` says.
        members: features of each, one row per word.
    """

    name: str
    members: Sequence[Float[Array, "N D"]]

    def __post_init__(self) -> None:
        rows = {len(member) for member in self.members}
        if not self.members:
            raise ValueError(f"members=(): bank {self.name!r} needs at least one")
        if len(rows) > 1:
            raise ValueError(f"members: those of bank {self.name!r} have {sorted(rows)} rows; give one for each word")

    @property
    def fewest_members(self) -> int:
        return len(self.members)

    def key(self, site: str, width: int) -> Hashable:
        return None

    def banks(self, subject: Subject, site: str, width: int) -> "tuple[ControlBank, ...]":
        return (self,)


@dataclass(frozen=True, eq=False)
class DefaultBanks(BankSource):
    """Untrained networks as wide as the site, one bank for each of ``SPECTRAL_RADII``, and beliefs of other processes.

    Args:
        num_members: of each bank.
        seed: of every draw.
    """

    num_members: int = 39
    seed: int = 0

    @property
    def fewest_members(self) -> int:
        return self.num_members

    def key(self, site: str, width: int) -> Hashable:
        return width

    def banks(self, subject: Subject, site: str, width: int) -> tuple[ControlBank, ...]:
        words, process = subject.words, subject.process
        generator = np.random.default_rng(self.seed)

        def bank(name: str, draw: Callable[[], np.ndarray]) -> ControlBank:
            return ControlBank(name, tuple(draw() for _ in range(self.num_members)))

        # the order of the draws: other processes come first
        others = bank("other_process", lambda: other_belief(words, process.num_states, process.vocab_size, generator))
        reservoirs = [
            bank(f"reservoir_{radius}", lambda radius=radius: reservoir(words, width, radius, generator))
            for radius in SPECTRAL_RADII
        ]
        return (*reservoirs, others)


@dataclass(frozen=True, eq=False)
class UntrainedCopies(BankSource):
    """Copies of the model with fresh weights: the controls that are most like the model.

    Args:
        activations: features by site of the copy that an integer draws, one row per word: build the model with this seed
            by the initialiser that the trained one started from, and walk the words.
        seeds: one copy for each; 39 allow a p value of .025.
        name: what the column ``control`` says.
    """

    activations: Callable[[int], Mapping[str, Float[Array, "N D"]]]
    seeds: Sequence[int] = tuple(range(39))
    name: str = "untrained copies"

    @property
    def fewest_members(self) -> int:
        return len(self.seeds)

    @cached_property
    def _copies(self) -> tuple[Mapping[str, Float[Array, "N D"]], ...]:
        return tuple(map(self.activations, self.seeds))

    def key(self, site: str, width: int) -> Hashable:
        return site

    def banks(self, subject: Subject, site: str, width: int) -> tuple[ControlBank, ...]:
        return (ControlBank(self.name, tuple(copy[site] for copy in self._copies)),)


@dataclass(frozen=True, eq=False)
class ScoredControlBank:
    """A bank of which only the scores are left, to judge many models by it at the cost of one.

    Args:
        name: the bank's.
        gains: held-out gain of each member over the other controls, measured as the model's is.
    """

    name: str
    gains: Float[np.ndarray, " m"]


def reservoir(
    words: Words, width: int, spectral_radius: float, generator: np.random.Generator
) -> Float[np.ndarray, "N D"]:
    r"""States of an untrained recurrent network after every word.

    .. math:: h_t = \tanh(W h_{t-1} + U_{x_t} + b), \qquad h_0 = 0

    W has normal entries of variance spectral_radius^2 / D, so ``spectral_radius`` is its spectral radius for large D; U and b are standard
    normal with variances 1 and 1/4.

    Args:
        words: rows of which ``tokens`` and ``lengths`` are looked at.
        width: D, number of units; match the model's.
        spectral_radius: positive; past echoes longer the larger it is, and chaotically much above 1.
        generator: source of every draw.

    Raises:
        ValueError: if ``width`` is less than 1 or ``spectral_radius`` isn't positive.
    """
    if width < 1 or not spectral_radius > 0:
        raise ValueError(
            f"width={width}, spectral_radius={spectral_radius}: the width must be at least 1 and the spectral_radius positive"
        )
    history = tokens_by_lag(words)
    recurrent = generator.standard_normal((width, width)) * spectral_radius / math.sqrt(width)
    inputs = generator.standard_normal((history.max() + 1, width))
    bias = 0.5 * generator.standard_normal(width)
    state = np.zeros((len(history), width))
    for lag in reversed(range(history.shape[1])):
        token = history[:, lag]
        begun = np.flatnonzero(token >= 0)
        state[begun] = np.tanh(state[begun] @ recurrent + inputs[token[begun]] + bias)
    return state


def other_belief(
    words: Words, num_states: int, vocab_size: int, generator: np.random.Generator
) -> Float[np.ndarray, "N S"]:
    """Filtered beliefs of a random process that never made these words, from its stationary law on.

    Args:
        words: rows of which ``tokens`` and ``lengths`` are looked at.
        num_states: of the random process; match the true one's.
        vocab_size: number of tokens.
        generator: source of every draw.
    """
    process = random_hmm(num_states, vocab_size, torch.Generator().manual_seed(int(generator.integers(2**62))))
    matrices = process.transition_matrices.numpy()
    history = tokens_by_lag(words)
    belief = np.tile(process.initial_distribution.numpy(), (len(history), 1))
    for lag in reversed(range(history.shape[1])):
        for token in range(vocab_size):
            rows = np.flatnonzero(history[:, lag] == token)
            after = belief[rows] @ matrices[token]
            belief[rows] = after / after.sum(axis=1, keepdims=True)
    return belief


def least_members(num_sites: int, level: float) -> int:
    """Members that a bank needs so that a yes is possible after Holm's correction over sites."""
    return math.ceil(num_sites / level - 1e-9) - 1


def as_features(features: Float[Array, "N D"]) -> Float[np.ndarray, "N D"]:
    """Float64, whatever came."""
    return as_numpy(features).astype(np.float64)
