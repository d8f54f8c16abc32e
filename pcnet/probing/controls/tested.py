"""What features must add to: controls as tests, each with the exchanges of rows that it can't tell apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float, Int

from pcnet.probing.controls.known import (
    AdditiveHistory,
    ConstrainedBelief,
    Control,
    LastTokensTable,
    ModelSoftmax,
    NextTokenLaw,
)
from pcnet.probing.regression.moments import Design, measure
from pcnet.probing.regression.protocol import population_r2
from pcnet.probing.regression.ridge import ridge_path
from pcnet.probing.rows.dataset import Array, as_numpy, equal_weights
from pcnet.probing.rows.subject import Subject
from pcnet.probing.rows.targets import TOLERANCE, group_means

DECIDABLE_BELOW = 0.95
"""A control that explains this much of the targets leaves too little to show anything beyond it."""


@dataclass(frozen=True, eq=False)
class ControlTest:
    r"""A control as a null hypothesis: the features tell nothing of the targets beyond it.

    The test asks for the gain of [control + features] over [control] on what the control leaves of the targets, and
    compares it with the gains after exchanging these residuals within the strata. What the control explains of the
    targets is known (the population is), so the control alone errs by its residual and nothing else.

    Args:
        name: as in the column ``control`` of a table of scores.
        explained: the control's features, as the probe sees them.
        residual: targets minus what the control explains of them.
        strata: rows of equal number are exchanged. For a control that partitions the words, its cells within each
            length: a feature that is any function of the cell and the length gains as much in one order as in any
            other, so the p value is exact. For other controls, the lengths.
        population_r2: what the control explains if the whole population is known, words weighted by probability.
    """

    name: str
    explained: Float[np.ndarray, "N C"]
    residual: Float[np.ndarray, "N T"]
    strata: Int[np.ndarray, " N"]
    population_r2: float

    @property
    def decides(self) -> bool:
        """Whether the control leaves enough of the targets for an answer."""
        return self.population_r2 < DECIDABLE_BELOW

    @classmethod
    def of(cls, control: Control, subject: Subject) -> Self:
        """The test of a control: of its cells where it has any, else of its features.

        Raises:
            ValueError: if the subject lacks what the control looks at.
        """
        cells = control.cells(subject)
        if cells is None:
            return cls.of_features(control.name, control.features(subject), subject)
        return cls.of_cells(control.name, cells, subject)

    @classmethod
    def of_cells(cls, name: str, cells: Int[np.ndarray, " N"], subject: Subject) -> Self:
        """The control that knows a word's cell: any function of it, the best being the targets' mean in the cell.

        Args:
            name: the control's.
            cells: a number for each word.
            subject: words and targets.
        """
        lengths, targets = subject.words.lengths.numpy(), as_numpy(subject.targets)
        means = group_means(targets, cells, equal_weights(lengths))
        strata = np.unique(np.stack([lengths, cells]), axis=1, return_inverse=True)[1].ravel()
        # what is left of a determined target is rounding, and rounding isn't evidence
        residual = np.where(np.abs(targets - means) > TOLERANCE, targets - means, 0.0)
        return cls(name, telling(means), residual, strata, cell_r2(cells, subject))

    @classmethod
    def of_features(cls, name: str, features: Float[Array, "N C"], subject: Subject) -> Self:
        """The control that knows these features, affinely.

        Args:
            name: the control's.
            features: one row per word.
            subject: words and targets.
        """
        lengths, targets = subject.words.lengths.numpy(), as_numpy(subject.targets)
        known = telling(as_numpy(features).astype(np.float64))
        design = Design.single(known, targets)
        rows = measure(design, equal_weights(lengths), np.arange(len(lengths)), design.centre())
        best = ridge_path(rows, (0.0,), fit_intercept=True)
        residual = targets - known @ best.coef[0] - best.intercept[0]
        return cls(name, known, residual, lengths, population_r2(known, subject.targets, subject.words))


def cell_r2(cells: Int[np.ndarray, " N"], subject: Subject) -> float:
    """What any function of the cells explains of the targets, words weighted by probability; at most 1."""
    words = subject.words
    lengths, probabilities = words.lengths.numpy(), words.probabilities.numpy()
    weights = probabilities / np.bincount(lengths, weights=probabilities)[lengths]
    means = group_means(as_numpy(subject.targets), cells, weights)
    return population_r2(means, subject.targets, words)


def default_control_tests(subject: Subject) -> tuple[ControlTest, ...]:
    """The controls that a process gives by itself.

    * ``next_token``: any function of the exact next-token law;
    * ``last_1_table`` to ``last_4_table``: any function of the last k tokens, hence also the belief of any
      order-k Markov approximation of the process;
    * ``shuffled``: beliefs exchanged within each length; those exchanged within a last token are ``last_1_table``'s;
    * ``additive_history``, ``constrained``: affine functions of these features.

    Args:
        subject: process, words and targets.
    """
    longest = subject.words.tokens.shape[1]
    tables = (LastTokensTable(k) for k in range(1, min(4, longest) + 1))
    nothing = np.zeros(len(subject.words.lengths), dtype=np.int64)
    return (
        *(ControlTest.of(control, subject) for control in (NextTokenLaw(), *tables)),
        ControlTest.of_cells("shuffled", nothing, subject),
        *(ControlTest.of(control, subject) for control in (AdditiveHistory(), ConstrainedBelief())),
    )


def softmax_test(subject: Subject) -> ControlTest:
    """The model's own next-token law; ValueError if the subject has no logits."""
    return ControlTest.of(ModelSoftmax(), subject)


def known_to(controls: Sequence[ControlTest], targets: Float[np.ndarray, "N T"]) -> Float[np.ndarray, "N C"]:
    """All that the controls say of the targets, side by side."""
    return telling(np.concatenate([targets - control.residual for control in controls], axis=1))


def telling(said: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "N K"]:
    """The columns that vary by more than rounding, which a probe would standardise into features; one of zeros if none do."""
    varying = np.ptp(said, axis=0) > TOLERANCE
    return said[:, varying] if varying.any() else np.zeros((len(said), 1))
