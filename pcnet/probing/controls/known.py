"""What a sceptic asks for: features that know less than a model might.

Each control takes the place of a model's features in the protocol that scores the model; `shuffles` has those that take
the place of the targets, `untrained` networks that nobody taught.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import scipy.special
import torch
from jaxtyping import Float

from pcnet.probing.regression.protocol import DEFAULT_PROTOCOL, Protocol, no_scores
from pcnet.probing.rows.dataset import Array, as_numpy, probability_weights
from pcnet.probing.rows.history import one_hot, tokens_by_lag
from pcnet.probing.rows.subject import Subject
from pcnet.probing.rows.targets import constrained_belief, equal_rows, group_means


class Control(abc.ABC):
    """Another explanation of a probe's score: the score means what exceeds the control's."""

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
        return constrained_belief(subject.process, subject.words)


@dataclass(frozen=True)
class MarkovApproximation(FeatureControl):
    """What the process's Markov approximation of order k knows: the belief after the last k tokens alone.

    They are read from the stationary law on; words up to length k are known whole. For every word that ends in them it is
    the expected belief, so for filtered beliefs the population R2 is that of ``LastTokensTable``; exact features, unlike
    a table, can be held out too. The approximation's next-token law is a linear function of it.

    Args:
        order: k, at least 1.
    """

    order: int

    def __post_init__(self) -> None:
        if self.order < 1:
            raise ValueError(f"order={self.order}: it must be at least 1")

    @property
    def name(self) -> str:
        return f"markov_{self.order}"

    def features(self, subject: Subject) -> Float[Array, "N D"]:
        process = subject.process
        history = torch.as_tensor(tokens_by_lag(subject.words)[:, : self.order].copy())
        beliefs = process.initial_distribution.repeat(len(history), 1)
        for tokens in history.T.flip(0):
            for token in range(process.vocab_size):
                rows = tokens == token
                after = beliefs[rows] @ process.transition_matrices[token]
                beliefs[rows] = after / (after @ process.right_vector).unsqueeze(1)
        return beliefs


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

    A table can't predict an ending that it hasn't seen, so it has a population value and no held-out score;
    ``MarkovApproximation`` has one.

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
