"""A decoder without ground truth: coordinates of belief from activations and the model's own outputs alone."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pcnet.probing.regression.moments import Design
from pcnet.probing.regression.protocol import DEFAULT_PROTOCOL, Protocol, held_out_fits
from pcnet.probing.rows.dataset import Array, ProbeData, Weighted, equal_weights


@dataclass(frozen=True, eq=False)
class PredictiveGeometry:
    """What the activations know about the future, in as few coordinates as predict it.

    Attributes:
        coordinates: of each word, decoded by a fit that didn't see it (but for the shortest words).
        rank: number of coordinates; 0 if the activations predict nothing.
        r2: held-out share of the futures' variance that each rank explains, ranks 0, 1, 2, ...
    """

    coordinates: Float[np.ndarray, "N r"]
    rank: int
    r2: Float[np.ndarray, " R"]


def predictive_geometry(
    features: Float[Array, "N D"],
    futures: Float[Array, "N F"],
    rows: Weighted,
    protocol: Protocol = DEFAULT_PROTOCOL,
    fold_seed: int = 0,
    tolerance: float = 0.005,
) -> PredictiveGeometry:
    r"""Reduced-rank regression of futures on activations; neither the process nor its beliefs are looked at.

    .. math:: \hat F = (X W) V_r V_r^T, \qquad z = (X W - \bar f) V_r

    A belief's laws of the future are linear in it, so in a model that holds the belief linearly, and predicts well, the
    predictable part of the future spans an affine image of the belief: of its dimension, but stretched. X W is ridge
    regression under the protocol (the activations are whitened by it: large directions that predict nothing don't
    count); V_r are the top directions of the fitted futures. The rank is the smallest that explains, on held-out words,
    the best rank's share less ``tolerance``.

    Beliefs that no future of so many tokens tells apart can't be found, nor directions that hardly change it: what
    comes out is the geometry of predictions ``tokens`` ahead, at most that of the belief.

    Args:
        features: activations, one row per word.
        futures: ``own_futures`` of the model.
        rows: the words: ``lengths`` and ``probabilities`` are used.
        protocol: folds, penalties and which words always train.
        fold_seed: which deal of the words to folds.
        tolerance: share of the futures' variance that is not worth a coordinate.

    Raises:
        ValueError: as in ``probe``, or if the tolerance is not in [0, 1).

    Reference: Izenman 1975, Reduced-rank regression for the multivariate linear model.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance={tolerance}: it must be at least 0 and below 1")
    data = ProbeData.checked(features, futures, rows)
    labels, weights = protocol.folds(data.lengths, fold_seed), equal_weights(data.lengths)
    design = Design.single(data.features, data.targets)
    (fits,) = held_out_fits(design, data.lengths, labels, protocol, (True,))
    most = min(data.targets.shape[1], data.features.shape[1])
    decoded, errors = np.empty_like(data.targets), np.zeros(most + 1)
    for fold, fit in enumerate(fits):
        train = labels != fold
        fitted = fit.predict(data.features)
        held = np.flatnonzero(~train)
        mean, basis = _directions(fitted[train], weights[train])
        residual = data.targets[held] - mean
        errors += _errors_by_rank(residual, (fitted[held] - mean) @ basis.T, basis, weights[held])[: most + 1]
        chosen = ~train | ((labels < 0) & (fold == 0))
        decoded[chosen] = fitted[chosen]
    scored = labels >= 0
    centre = np.average(data.targets[scored], axis=0, weights=weights[scored])
    total = np.sum(weights[scored, None] * (data.targets[scored] - centre) ** 2)
    if not total > 0:
        raise ValueError("futures: all rows are equal; there is nothing to predict")
    r2 = 1 - errors / total
    rank = int(np.argmax(r2 >= r2.max() - tolerance))
    mean, basis = _directions(decoded, weights)
    return PredictiveGeometry((decoded - mean) @ basis[:rank].T, rank, r2)


def _directions(
    fitted: Float[np.ndarray, "n F"], weights: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " F"], Float[np.ndarray, "F F"]]:
    """Weighted mean, and the principal directions, strongest first."""
    mean = np.average(fitted, axis=0, weights=weights)
    centred = fitted - mean
    return mean, np.linalg.eigh(centred.T @ (weights[:, None] * centred))[1][:, ::-1].T


def _errors_by_rank(
    residual: Float[np.ndarray, "n F"],
    scores: Float[np.ndarray, "n F"],
    basis: Float[np.ndarray, "F F"],
    weights: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " R"]:
    """Weighted squared error with 0, 1, 2, ... directions: each turns the residual along it into its error."""
    along = residual @ basis.T
    gains = weights @ (along**2 - (along - scores) ** 2)
    return np.sum(weights[:, None] * residual**2) - np.concatenate([[0.0], np.cumsum(gains)])
