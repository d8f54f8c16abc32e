"""Targets that mean nothing: a model's own features against targets exchanged between words."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Int

from pcnet.probing.controls.known import Control
from pcnet.probing.regression.protocol import COLUMNS, DEFAULT_PROTOCOL, MEASURED, Protocol, probe_replicates
from pcnet.probing.rows.dataset import ProbeData
from pcnet.probing.rows.subject import Subject
from pcnet.processes import Words


@dataclass(frozen=True)
class Shuffled(Control, abc.ABC):
    """The model's own features against targets exchanged at random between words that share something.

    Nothing is left to decode but what they share. The 95th percentile over the permutations is the score to beat. Each
    permutation chooses its own penalty.

    Args:
        num_permutations: at least 100 for the percentile to mean anything.
        seed: draws the permutations.
        quantile: which of the permutations' scores is reported.
    """

    num_permutations: int = 100
    seed: int = 0
    quantile: float = 0.95

    def __post_init__(self) -> None:
        if self.num_permutations < 1:
            raise ValueError(f"num_permutations={self.num_permutations}: it must be at least 1")
        if not 0 <= self.quantile <= 1:
            raise ValueError(f"quantile={self.quantile}: it must lie in [0, 1]")

    @abc.abstractmethod
    def shared(self, words: Words) -> Int[np.ndarray, " N"]:
        """A number for each word; targets are exchanged between words of equal number."""

    def population_r2(self, subject: Subject) -> float:
        """NaN: fitted and scored on the same words, shuffled targets measure nothing but the number of features."""
        return float("nan")

    def score(
        self, subject: Subject, protocol: Protocol = DEFAULT_PROTOCOL, offsets: Sequence[bool] = (True, False)
    ) -> pd.DataFrame:
        return scores_of_shuffles([self], subject, protocol, offsets)[self.name]

    def summary(self, scores: pd.DataFrame) -> pd.DataFrame:
        """The columns of ``probe``, each score the percentile over the permutations, from those of all permutations."""
        groups = scores.groupby([name for name in COLUMNS if name not in MEASURED], sort=False)
        summary = pd.concat(
            [
                groups["r2"].quantile(self.quantile),
                groups["rmse"].quantile(1 - self.quantile),
                groups["alpha"].median(),
                groups["alpha_at_edge"].any(),
            ],
            axis=1,
        )
        return summary.reset_index()[list(COLUMNS)]

    def permutation_scores(
        self, subject: Subject, protocol: Protocol = DEFAULT_PROTOCOL, offsets: Sequence[bool] = (True, False)
    ) -> pd.DataFrame:
        """Every permutation's scores, in the columns of ``probe`` and the permutation's number as ``replicate``."""
        return _permutation_scores([self], subject, protocol, offsets)

    def permutations(self, words: Words) -> Int[np.ndarray, "N R"]:
        """Whose target each word gets, one column per permutation."""
        generator, shared = np.random.default_rng(self.seed), self.shared(words)
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


def scores_of_shuffles(
    shuffles: Sequence[Shuffled],
    subject: Subject,
    protocol: Protocol = DEFAULT_PROTOCOL,
    offsets: Sequence[bool] = (True, False),
) -> dict[str, pd.DataFrame]:
    """Scores of several kinds of shuffle by name, as ``Shuffled.score`` gives each.

    All their permutations are fitted at once: what depends on the features alone is computed once.

    Args:
        shuffles: of different names.
        subject, protocol, offsets: as in ``Control.score``.
    """
    scores = _permutation_scores(shuffles, subject, protocol, offsets)
    kind = np.repeat(np.arange(len(shuffles)), [each.num_permutations for each in shuffles])[scores["replicate"]]
    return {each.name: each.summary(scores[kind == number]) for number, each in enumerate(shuffles)}


def _permutation_scores(
    shuffles: Sequence[Shuffled], subject: Subject, protocol: Protocol, offsets: Sequence[bool]
) -> pd.DataFrame:
    words = subject.words
    data = ProbeData.checked(subject.model_features(), subject.targets, words.lengths, words.probabilities)
    order = np.concatenate([each.permutations(words) for each in shuffles], axis=1)
    return probe_replicates(data, order, protocol, offsets, subject.groups)
