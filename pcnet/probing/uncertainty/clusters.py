"""Held-out errors of rows that come in sequences: a sequence is in training or in test, never in both."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pcnet.probing.regression.moments import Design, chunks, measure
from pcnet.probing.regression.protocol import DEFAULT_PROTOCOL, Protocol
from pcnet.probing.regression.ridge import Ridge, crossfit
from pcnet.probing.rows.dataset import Array, ProbeData, WeightedRows, as_numpy


@dataclass(frozen=True, eq=False)
class ClusterFits:
    """Affine probes of sampled rows, one for each fold of sequences, fitted on the other folds.

    Args:
        labels: fold of each row.
        fits: what each fold is judged by.
        errors: held-out squared error of each row, its targets together.
    """

    labels: Int[np.ndarray, " N"]
    fits: tuple[Ridge, ...]
    errors: Float[np.ndarray, " N"]

    def fresh_errors(
        self, features: Float[np.ndarray, "n D"], targets: Float[np.ndarray, "n T"]
    ) -> Float[np.ndarray, " n"]:
        """Squared error of fresh rows, averaged over the folds' fits in proportion to the rows that each judged."""
        share = np.bincount(self.labels) / len(self.labels)
        parts = [part * squared(fit, features, targets) for part, fit in zip(share, self.fits, strict=True)]
        return np.sum(parts, axis=0)


def cluster_fits(
    features: Float[Array, "N D"],
    targets: Float[Array, "N T"],
    groups: Int[Array, " N"],
    protocol: Protocol = DEFAULT_PROTOCOL,
) -> ClusterFits:
    """The default protocol's fit for sampled rows; two departures: every row counts the same, and folds are sequences.

    Sampled words are there as often as they are likely, so weights would count probability twice.

    Args:
        features: one row per position of a sequence.
        targets: what they should encode.
        groups: the sequence of each row; at least as many as folds.
        protocol: number of folds, first fold seed and penalties.

    Raises:
        ValueError: if there are fewer sequences than folds, or as in ``probe``.
    """
    names, group = np.unique(as_numpy(groups), return_inverse=True)
    rows = len(group)
    data = ProbeData.checked(features, targets, WeightedRows(np.ones(rows, dtype=np.int64), np.ones(rows)))
    if len(names) < protocol.num_folds:
        raise ValueError(f"groups: {len(names)} sequences; num_folds={protocol.num_folds} needs at least as many")
    dealt = np.random.default_rng(protocol.fold_seeds[0]).permutation(len(names)) % protocol.num_folds
    labels = dealt[group]
    design, weights = Design.single(data.features, data.targets), np.ones(rows)
    centre, no_rows = design.centre(), np.arange(0)
    folds = [measure(design, weights, np.flatnonzero(labels == fold), centre) for fold in range(protocol.num_folds)]
    fits = crossfit(measure(design, weights, no_rows, centre), folds, protocol.alphas, True, 1)
    errors = np.empty(rows)
    for fold, fit in enumerate(fits):
        for part in chunks(np.flatnonzero(labels == fold)):
            errors[part] = squared(fit, data.features[part], data.targets[part])
    return ClusterFits(labels, tuple(fits), errors)


def squared(
    fit: Ridge, features: Float[np.ndarray, "n D"], targets: Float[np.ndarray, "n T"]
) -> Float[np.ndarray, " n"]:
    """Squared error of each row, its targets together."""
    return ((targets - fit.predict(features.astype(np.float64))) ** 2).sum(axis=1)
