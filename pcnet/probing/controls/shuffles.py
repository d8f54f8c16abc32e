"""Targets that mean nothing: a model's own features against targets exchanged between words."""

import abc
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from pcnet.probing.controls.known import Control
from pcnet.probing.rows.dataset import Array
from pcnet.probing.rows.sources import Rows
from pcnet.probing.rows.subject import Subject
from pcnet.processes import Words


@dataclass(frozen=True)
class Shuffled(Control, abc.ABC):
    """The model's own features against targets exchanged at random between words that share something.

    Nothing is left to decode but what they share. The 95th percentile over the permutations is the score to beat. Each
    permutation chooses its own penalty. Fitted and scored on the same words, shuffled targets measure nothing but the
    number of features: there is no population value.

    Where a word stands in several rows, words are exchanged and all rows of a word move with it: rows exchanged one by one
    would give equal features different targets, which no fit can follow, and so make the score to beat too low. The
    price: a rare word's target may come to stand in many rows, so the variance differs between orders. Each order is
    scored against its own variance, and where few words make up most rows the percentile is higher than that of
    distinct words would be.

    Args:
        num_permutations: at least 100 for the percentile to mean anything.
        seed: draws the permutations.
    """

    has_population: ClassVar[bool] = False
    num_permutations: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_permutations < 1:
            raise ValueError(f"num_permutations={self.num_permutations}: it must be at least 1")

    @abc.abstractmethod
    def shared(self, words: Words) -> Int[np.ndarray, " N"]:
        """A number for each word; targets are exchanged between words of equal number."""

    def features(self, subject: Subject) -> Float[Array, "N D"]:
        return subject.model_features()

    def cells(self, subject: Subject) -> Int[np.ndarray, " N"]:
        return self.shared(subject.words)

    def orders(self, words: Words) -> Int[np.ndarray, "N R"]:
        shared = self.shared(words)
        if not isinstance(words, Rows):
            return self._permuted(shared)
        repeats = words.repeats
        return repeats.first[self._permuted(shared[repeats.first])][repeats.word]

    def _permuted(self, shared: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n R"]:
        generator = np.random.default_rng(self.seed)
        order = np.empty((len(shared), self.num_permutations), dtype=np.int64)
        for number in np.unique(shared):
            rows = np.flatnonzero(shared == number)
            order[rows] = generator.permuted(np.tile(rows[:, None], self.num_permutations), axis=0)
        return order


class ShuffledBeliefs(Shuffled):
    """Targets exchanged between words of the same length: nothing is left but the length. The default."""

    name: ClassVar[str] = "shuffled"

    def shared(self, words: Words) -> Int[np.ndarray, " N"]:
        return words.lengths.numpy()


class ShuffledEverywhere(Shuffled):
    """Targets exchanged between any words: nothing is left at all."""

    name: ClassVar[str] = "shuffled_everywhere"

    def shared(self, words: Words) -> Int[np.ndarray, " N"]:
        return np.zeros(len(words.lengths), dtype=np.int64)


class ShuffledKeepingLastToken(Shuffled):
    """Targets exchanged between words of the same length and last token: features that hold no more than these two tie."""

    name: ClassVar[str] = "shuffled_keeping_last_token"

    def shared(self, words: Words) -> Int[np.ndarray, " N"]:
        last = words.last_tokens.numpy()
        return words.lengths.numpy() * (last.max() + 1) + last
