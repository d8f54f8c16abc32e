"""Controls that put features that know less than a model might in the place of the model's.

`shuffles` has the controls that put other targets in the place of the true ones, `banks` untrained networks.
"""

import abc
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.special
import torch
from jaxtyping import Float, Int

from pcnet.probing.rows.dataset import Array, as_numpy, probability_weights
from pcnet.probing.rows.history import one_hot, tokens_by_lag
from pcnet.probing.rows.subject import Subject
from pcnet.probing.rows.targets import equal_rows, group_means
from pcnet.processes import Words, constrained_beliefs


class Control(abc.ABC):
    """Another explanation of a probe's score: the features, and the order of the targets, that know less than a model might.

    The score means what exceeds the control's. `pcnet.probing.score_control` scores every control in the same way, and
    `ControlTest` makes it a test.

    Attributes:
        held_out: whether it has held-out scores.
        has_population: whether what it explains of the whole population means anything.
    """

    held_out: ClassVar[bool] = True
    has_population: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What the column ``control`` of a table of scores says."""

    @abc.abstractmethod
    def features(self, subject: Subject) -> Float[Array, "N D"]:
        """The features, one row per word.

        Raises:
            ValueError: if the subject lacks what the control looks at.
        """

    @abc.abstractmethod
    def cells(self, subject: Subject) -> Int[np.ndarray, " N"] | None:
        """A number for each word: the control can't tell words of equal number apart. None if it knows features, affinely."""

    @abc.abstractmethod
    def orders(self, words: Words) -> Int[np.ndarray, "N R"]:
        """Whose target each word gets, a column for each time that the control is scored."""


class FeatureControl(Control, abc.ABC):
    """A control that knows features affinely, and leaves the targets where they are."""

    def cells(self, subject: Subject) -> None:
        return None

    def orders(self, words: Words) -> Int[np.ndarray, "N 1"]:
        return as_they_are(words)


class PartitionControl(Control, abc.ABC):
    """A control that knows any function of a word's cell, and leaves the targets where they are."""

    def orders(self, words: Words) -> Int[np.ndarray, "N 1"]:
        return as_they_are(words)


def as_they_are(words: Words) -> Int[np.ndarray, "N 1"]:
    """Every word has its own target, once."""
    return np.arange(len(words.lengths))[:, None]


@dataclass(frozen=True)
class NextTokenLaw(PartitionControl):
    """The exact law of the next token: what a perfect predictor's output gives away.

    Where it determines the belief affinely (Mess3: population R2 1.000) nothing beyond it can be shown; on rrxor it
    explains .246 and on z1r .478 (words up to length 10).
    """

    name: ClassVar[str] = "next_token"

    def features(self, subject: Subject) -> Float[Array, "N D"]:
        return subject.words.next_token_laws

    def cells(self, subject: Subject) -> Int[np.ndarray, " N"]:
        return equal_rows(as_numpy(subject.words.next_token_laws))


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
        return constrained_beliefs(subject.process, subject.words).numpy()


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
class LastTokensTable(PartitionControl):
    """The mean target for each ending of k tokens, "before the start" counting as a token.

    A table can't predict an ending that it hasn't seen, so it has a population value and no held-out score;
    ``MarkovApproximation`` has one.

    Args:
        num_tokens: k, at least 1.
    """

    held_out: ClassVar[bool] = False
    num_tokens: int

    def __post_init__(self) -> None:
        if self.num_tokens < 1:
            raise ValueError(f"num_tokens={self.num_tokens}: it must be at least 1")

    @property
    def name(self) -> str:
        return f"last_{self.num_tokens}_table"

    def features(self, subject: Subject) -> Float[np.ndarray, "N T"]:
        weights = probability_weights(subject.words.lengths.numpy(), subject.words.probabilities.numpy())
        return group_means(as_numpy(subject.targets), self.cells(subject), weights)

    def cells(self, subject: Subject) -> Int[np.ndarray, " N"]:
        return equal_rows(tokens_by_lag(subject.words)[:, : self.num_tokens])
