"""Is a belief there and linear, there and not linear, or not there?"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.base import clone

from pcnet.probing.controls.known import AdditiveHistory
from pcnet.probing.controls.shuffles import ShuffledBeliefs
from pcnet.probing.geometry.decoded import Decoded
from pcnet.probing.regression.nonlinear import NonlinearProbe
from pcnet.probing.regression.probes import LinearProbe, PrincipalComponentProbe
from pcnet.probing.regression.protocol import Protocol
from pcnet.probing.rows.dataset import Array, ProbeData, effective_sample_size
from pcnet.probing.rows.subject import Subject

ONE_DEAL = Protocol(fold_seeds=(0,))
"""The default protocol with one deal of the words to folds: what the nonlinear check can afford."""

Estimator = LinearProbe | PrincipalComponentProbe | NonlinearProbe


def probe_with(
    estimator: Estimator, features: Float[Array, "N D"], subject: Subject, protocol: Protocol = ONE_DEAL
) -> pd.DataFrame:
    """Held-out scores under the rows, weights, folds and groups of the default protocol, for another estimator than its own.

    Each fold is decoded by a fit to the others, which chooses its complexity on those same folds.

    Args:
        estimator: cloned for each fit.
        features: one row per word.
        subject: words, targets and groups.
        protocol: its numbers; the penalties are the estimator's.

    Returns:
        One row per fold seed and weighting: fold_seed, weights, estimator, r2, r2_basis_free, rmse, cosine, r2_0, ...,
        rows, n_eff and features.

    Raises:
        ValueError: as in ``probe``.
    """
    words = subject.words
    data = ProbeData.checked(features, subject.targets, words.lengths, words.probabilities)
    rows, lines = protocol.scored(data.lengths), []
    for seed in protocol.fold_seeds:
        found = _decoded(estimator, data, protocol, protocol.folds(data.lengths, seed, subject.groups))
        for name, weights in data.score_weights().items():
            scores = Decoded.checked(data.targets[rows], found[rows], weights[rows]).scores()
            size = {
                "rows": len(rows),
                "n_eff": effective_sample_size(weights[rows]),
                "features": data.features.shape[1],
            }
            lines.append({"fold_seed": seed, "weights": name, "estimator": type(estimator).__name__} | scores | size)
    return pd.DataFrame(lines)


def _decoded(
    estimator: Estimator, data: ProbeData, protocol: Protocol, labels: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "N T"]:
    found = np.zeros_like(data.targets)
    weights = protocol.fit_weights(data)
    for fold in range(protocol.num_folds):
        train, held = labels != fold, labels == fold
        fitted = clone(estimator).fit(data.features[train], data.targets[train], weights[train], labels[train])
        found[held] = fitted.predict(data.features[held])
    return found


class Presence(Enum):
    """How a target is held by features."""

    LINEAR = "present, linear"
    PARTLY_LINEAR = "present, partly linear"
    NOT_LINEAR = "present, not linear"
    ABSENT = "not found"


@dataclass(frozen=True)
class Reading:
    """One kind of probe on the features and on its controls; held-out R2, words equally weighted within a length.

    Args:
        features: of the features.
        history: the same probe on every token of the word, one-hot by its distance from the newest.
        shuffled: the best of the permutations of the targets within length.
    """

    features: float
    history: float
    shuffled: float

    @property
    def present(self) -> bool:
        """Whether the features beat both controls."""
        return self.features > max(self.history, self.shuffled, 0.0)


@dataclass(frozen=True)
class PresenceCheck:
    """A linear reading and a nonlinear one, each beside its own controls.

    Args:
        linear, nonlinear: the two readings.
        margin: R2 by which the nonlinear one must be ahead to count.
        num_permutations: behind ``shuffled``; the chance that a reading beats them all for nothing is 1 / (1 + this).
    """

    linear: Reading
    nonlinear: Reading
    margin: float
    num_permutations: int

    @property
    def answer(self) -> Presence:
        """Linear if the linear probe finds it and bending adds less than the margin."""
        ahead = self.nonlinear.present and self.nonlinear.features - self.linear.features > self.margin
        if self.linear.present:
            return Presence.PARTLY_LINEAR if ahead else Presence.LINEAR
        return Presence.NOT_LINEAR if ahead else Presence.ABSENT

    def __str__(self) -> str:
        def line(name: str, reading: Reading) -> str:
            return (
                f"{name}: R2 {reading.features:.3f}; history {reading.history:.3f}, "
                f"best of {self.num_permutations} shuffles {reading.shuffled:.3f}"
            )

        return "\n".join([self.answer.value, line("linear", self.linear), line("nonlinear", self.nonlinear)])


def check_presence(
    subject: Subject,
    protocol: Protocol = ONE_DEAL,
    nonlinear: NonlinearProbe | None = None,
    num_permutations: int = 19,
    margin: float = 0.1,
    seed: int = 0,
) -> PresenceCheck:
    """Whether the subject's features hold its targets in a way that a linear probe misses.

    What bends enough reads anything from features that name the word, so "not linear" means: better than the same bending
    probe does from the tokens themselves, and than from its best shuffle. Costs 2 (2 + permutations) cross-validations;
    half a minute for 500 words of 8 features on one busy core.

    Args:
        subject: with features.
        protocol: rows, weights and folds.
        nonlinear: the bending probe; ``NonlinearProbe()`` if None.
        num_permutations: at least 19 for a chance of .05.
        margin: as in ``PresenceCheck``.
        seed: of the permutations.

    Raises:
        ValueError: if the subject has no features, or as in ``probe``.
    """
    bending = NonlinearProbe() if nonlinear is None else nonlinear
    order = ShuffledBeliefs(num_permutations, seed).permutations(subject.words)
    readings = [_reading(each, subject, protocol, order) for each in (LinearProbe(protocol.alphas), bending)]
    return PresenceCheck(*readings, margin, num_permutations)


def _reading(estimator: Estimator, subject: Subject, protocol: Protocol, order: Int[np.ndarray, "N R"]) -> Reading:
    words, features = subject.words, subject.model_features()

    def score(rows: Float[Array, "N D"], targets: Float[Array, "N T"]) -> float:
        judged = Subject(subject.process, words, targets, groups=subject.groups)
        table = probe_with(estimator, rows, judged, protocol)
        return float(table[table["weights"] == "equal"]["r2"].median())

    history = score(AdditiveHistory().features(subject), subject.targets)
    shuffled = max(score(features, subject.targets[column]) for column in order.T)
    return Reading(score(features, subject.targets), history, shuffled)
