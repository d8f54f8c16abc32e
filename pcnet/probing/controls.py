"""What a sceptic asks for: features that know less than a model might, and targets that mean nothing.

Each control takes the place of a model's features, or of the targets, in the protocol that scores the model.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import scipy.special
from jaxtyping import Float, Int

from pcnet.probing.dataset import Array, ProbeData, as_numpy, probability_weights
from pcnet.probing.protocol import (
    COLUMNS,
    DEFAULT_PROTOCOL,
    MEASURED,
    Protocol,
    no_scores,
    probe_replicates,
)
from pcnet.probing.subject import Subject
from pcnet.probing.targets import equal_rows, group_means
from pcnet.processes import Words, constrained_beliefs


class Control(abc.ABC):
    """A rival explanation of a probe's score: the score means what exceeds the control's."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What the column ``control`` of ``probes.csv`` says."""

    @abc.abstractmethod
    def population_r2(self, subject: Subject) -> float:
        """What the control explains of the targets if the whole population is known; NaN where that means nothing."""

    @abc.abstractmethod
    def score(
        self, subject: Subject, protocol: Protocol = DEFAULT_PROTOCOL, offsets: Sequence[bool] = (True, False)
    ) -> pd.DataFrame:
        """Held-out scores in the columns of ``probe``; no rows for a control that has none.

        Args:
            subject: process, words and targets, and what the control needs of the model.
            protocol: the same as for the model.
            offsets: whether the fits have a constant.

        Raises:
            ValueError: if the subject lacks what the control looks at; otherwise as in ``probe``.
        """


class FeatureControl(Control, abc.ABC):
    """A control that puts other features in the place of the model's."""

    @abc.abstractmethod
    def features(self, subject: Subject) -> Float[Array, "N D"]:
        """The features, one row per word."""

    def population_r2(self, subject: Subject) -> float:
        return subject.population_r2(self.features(subject))

    def score(
        self, subject: Subject, protocol: Protocol = DEFAULT_PROTOCOL, offsets: Sequence[bool] = (True, False)
    ) -> pd.DataFrame:
        return subject.probe(self.features(subject), protocol, offsets)


@dataclass(frozen=True)
class NextTokenLaw(FeatureControl):
    """The exact law of the next token: what a perfect predictor's output gives away.

    Where it determines the belief affinely (Mess3: population R2 1.000) nothing beyond it can be shown; on rrxor it
    explains .246 and on z1r .478 (words up to length 10).
    """

    name: ClassVar[str] = "next_token"

    def features(self, subject: Subject) -> Float[Array, "N D"]:
        return subject.words.next_token_laws


@dataclass(frozen=True)
class LastToken(FeatureControl):
    """Which token came last, one-hot."""

    name: ClassVar[str] = "last_token"

    def features(self, subject: Subject) -> Float[Array, "N D"]:
        return one_hot(subject.words.last_tokens.numpy()[:, None], subject.process.vocab_size)


@dataclass(frozen=True)
class AdditiveHistory(FeatureControl):
    """Every token of the word, one-hot by its distance from the newest, with a symbol for "before the start"."""

    name: ClassVar[str] = "additive_history"

    def features(self, subject: Subject) -> Float[Array, "N D"]:
        return one_hot(tokens_by_lag(subject.words) + 1, subject.process.vocab_size + 1)


@dataclass(frozen=True)
class ConstrainedBelief(FeatureControl):
    """What attention alone can form: the belief that adds up each token's effect as if it were the only one.

    Reference: Piotrowski et al. (2025), arXiv 2502.01954.
    """

    name: ClassVar[str] = "constrained"

    def features(self, subject: Subject) -> Float[Array, "N D"]:
        return constrained_beliefs(subject.process, subject.words)


@dataclass(frozen=True)
class ModelSoftmax(FeatureControl):
    """The model's own next-token law: what its output says of the belief."""

    name: ClassVar[str] = "softmax"

    def features(self, subject: Subject) -> Float[Array, "N D"]:
        return scipy.special.softmax(as_numpy(subject.model_logits()).astype(np.float64), axis=1)


@dataclass(frozen=True)
class RandomSubspace(FeatureControl):
    """The model's features seen through a random subspace of the belief simplex's dimension, S - 1.

    Args:
        seed: draws the orthonormal directions.
    """

    name: ClassVar[str] = "random_subspace"
    seed: int = 0

    def features(self, subject: Subject) -> Float[Array, "N D"]:
        features = as_numpy(subject.model_features())
        dimension = min(subject.process.num_states - 1, features.shape[1])
        gaussian = np.random.default_rng(self.seed).standard_normal((features.shape[1], dimension))
        return features @ np.linalg.qr(gaussian)[0].astype(np.result_type(features, np.float32))


@dataclass(frozen=True)
class LastTokensTable(Control):
    """The mean target for each ending of k tokens, "before the start" counting as a token.

    A table can't predict an ending that it hasn't seen, so it has a population value and no held-out score.

    Args:
        num_tokens: k, at least 1.
    """

    num_tokens: int

    def __post_init__(self) -> None:
        if self.num_tokens < 1:
            raise ValueError(f"num_tokens={self.num_tokens}: it must be at least 1")

    @property
    def name(self) -> str:
        return f"last_{self.num_tokens}_table"

    def population_r2(self, subject: Subject) -> float:
        weights = probability_weights(subject.words.lengths.numpy(), subject.words.probabilities.numpy())
        endings = equal_rows(tokens_by_lag(subject.words)[:, : self.num_tokens])
        return subject.population_r2(group_means(as_numpy(subject.targets), endings, weights))

    def score(
        self, subject: Subject, protocol: Protocol = DEFAULT_PROTOCOL, offsets: Sequence[bool] = (True, False)
    ) -> pd.DataFrame:
        return no_scores()


@dataclass(frozen=True)
class ShuffledBeliefs(Control):
    """The model's own features against targets exchanged at random between words of the same length.

    Nothing is left to decode but the length. The 95th percentile over the permutations is the score to beat. Each
    permutation chooses its own penalty.

    Args:
        num_permutations: at least 100 for the percentile to mean anything.
        seed: draws the permutations.
        quantile: which of the permutations' scores is reported.
    """

    name: ClassVar[str] = "shuffled"
    num_permutations: int = 100
    seed: int = 0
    quantile: float = 0.95

    def __post_init__(self) -> None:
        if self.num_permutations < 1:
            raise ValueError(f"num_permutations={self.num_permutations}: it must be at least 1")
        if not 0 <= self.quantile <= 1:
            raise ValueError(f"quantile={self.quantile}: it must lie in [0, 1]")

    def population_r2(self, subject: Subject) -> float:
        """NaN: fitted and scored on the same words, shuffled targets measure nothing but the number of features."""
        return float("nan")

    def score(
        self, subject: Subject, protocol: Protocol = DEFAULT_PROTOCOL, offsets: Sequence[bool] = (True, False)
    ) -> pd.DataFrame:
        scores = self.permutation_scores(subject, protocol, offsets)
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
        words = subject.words
        data = ProbeData.checked(subject.model_features(), subject.targets, words.lengths, words.probabilities)
        return probe_replicates(data, self._permutations(data.lengths), protocol, offsets)

    def _permutations(self, lengths: Int[np.ndarray, " N"]) -> Int[np.ndarray, "N R"]:
        generator = np.random.default_rng(self.seed)
        order = np.empty((len(lengths), self.num_permutations), dtype=np.int64)
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            order[rows] = generator.permuted(np.tile(rows[:, None], self.num_permutations), axis=0)
        return order


def tokens_by_lag(words: Words) -> Int[np.ndarray, "N L"]:
    """Tokens counted back from the newest; -1 before the start of a word."""
    tokens, lengths = words.tokens.numpy(), words.lengths.numpy()
    place = lengths[:, None] - 1 - np.arange(tokens.shape[1])
    return np.where(place >= 0, np.take_along_axis(tokens, np.maximum(place, 0), axis=1), -1)


def one_hot(symbols: Int[np.ndarray, "N L"], num_symbols: int) -> Float[np.ndarray, "N D"]:
    """One indicator for each column and each symbol 0..num_symbols-1; D = L num_symbols."""
    return (symbols[:, :, None] == np.arange(num_symbols)).reshape(len(symbols), -1).astype(np.float32)
