"""Ridge regression from moments: every penalty in one eigendecomposition, the penalty chosen on held-out folds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float

from pcnet.probing.regression.moments import WIDE, Moments, total
from pcnet.probing.regression.principal import LinearPath, PrincipalDirections
from pcnet.probing.regression.side_by_side import side_by_side

ALPHAS = tuple(10.0**exponent for exponent in range(-12, 3))
"""Default penalties, each relative to the top eigenvalue of the standardised Gram matrix."""


def check_alphas(alphas: Sequence[float]) -> None:
    """Raises ValueError unless the penalties are an ascending grid of positive numbers."""
    grid = np.asarray(alphas, dtype=np.float64)
    if grid.ndim != 1 or not len(grid) or not np.all(np.isfinite(grid) & (grid > 0)) or np.any(np.diff(grid) <= 0):
        raise ValueError(f"alphas={alphas!r}: give an ascending grid of positive finite numbers")


def ridge_path(train: Moments, alphas: Sequence[float], fit_intercept: bool) -> LinearPath:
    r"""Ridge on standardised features for all penalties, by one eigendecomposition of the Gram matrix.

    .. math:: W_\alpha = S V (\Lambda + \alpha \lambda_{max})^{-1} V^T Z^T Y

    in the terms of ``PrincipalDirections``; the constant isn't penalised. Constant features get coefficient zero, and so do
    directions whose eigenvalue is zero up to rounding, so collinear features and ``alpha=0`` (the least-squares solution
    of smallest norm) are safe.

    Args:
        train: moments of the training rows.
        alphas: penalties relative to the top eigenvalue, at least 0.
        fit_intercept: whether a constant is fitted beside the slopes.

    Raises:
        ValueError: if the training rows have no weight.
    """
    found = PrincipalDirections.of(train, fit_intercept)
    kept, top = found.eigenvalues > 0, found.eigenvalues[-1]
    denominator = np.where(kept, found.eigenvalues, 1.0) + np.asarray(alphas)[:, None] * top
    return LinearPath(found, np.where(kept, 1 / denominator, 0.0))


@dataclass(frozen=True)
class Ridge:
    """A fitted linear map for R replicates of T targets (Q = R T columns).

    Args:
        coef, intercept: prediction = features @ coef + intercept.
        alpha: the chosen penalty of each replicate, relative to the top eigenvalue.
        at_edge: whether that is the smallest or the largest of the grid.
    """

    coef: Float[np.ndarray, "D Q"]
    intercept: Float[np.ndarray, " Q"]
    alpha: Float[np.ndarray, " R"]
    at_edge: Bool[np.ndarray, " R"]

    def predict(self, features: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N Q"]:
        """The map's values at raw features."""
        return features @ self.coef + self.intercept


def select_ridge(always: Moments, folds: Sequence[Moments], alphas: Sequence[float], fit_intercept: bool) -> Ridge:
    """Fits on all the rows given, with the penalty that predicts each fold best from the other rows.

    One penalty for all targets: the one of least summed squared error, which is that of largest variance-weighted R2;
    of equals the largest. Costs one eigendecomposition per fold and one more.

    Args:
        always: moments of rows that train every fit and judge none; may be empty.
        folds: moments of the folds, at least two.
        alphas: the grid, ascending.
        fit_intercept: whether a constant is fitted.

    Raises:
        ValueError: with fewer than two folds.
    """
    errors = errors_on_folds(always, folds, lambda train: ridge_path(train, alphas, fit_intercept))
    return _refit(_without(always, folds), errors, alphas, fit_intercept, num_replicates=1)


def errors_on_folds(
    always: Moments, folds: Sequence[Moments], path: Callable[[Moments], LinearPath]
) -> Float[np.ndarray, "A Q"]:
    """Summed squared error of each map of a path on every fold, fitted to the other folds and to what always trains."""
    if len(folds) < 2:
        raise ValueError(f"folds: {len(folds)} given; choosing among maps needs at least 2")
    return sum(path(_without(always, folds, held)).squared_errors(fold) for held, fold in enumerate(folds))


def crossfit(
    always: Moments, folds: Sequence[Moments], alphas: Sequence[float], fit_intercept: bool, num_replicates: int
) -> list[Ridge]:
    """For each fold, ``select_ridge`` on all the others.

    A fit without folds i and j judges penalties twice, on j when i is held out and on i when j is, so K folds cost
    K (K + 1) / 2 eigendecompositions, not K^2.

    Args:
        always, folds, alphas, fit_intercept: as in ``select_ridge``; at least three folds.
        num_replicates: how many groups of equally many targets choose their penalties apart.
    """
    errors = np.zeros((len(folds), len(alphas), folds[0].xy.shape[1]))
    pairs, wide = list(combinations(range(len(folds)), 2)), len(always.x) >= WIDE

    def judged(pair: tuple[int, int]) -> tuple[Float[np.ndarray, "A Q"], Float[np.ndarray, "A Q"]]:
        one, other = pair
        path = ridge_path(_without(always, folds, one, other), alphas, fit_intercept)
        return path.squared_errors(folds[other]), path.squared_errors(folds[one])

    for (one, other), (of_other, of_one) in zip(pairs, side_by_side(judged, pairs, wide), strict=True):
        errors[one] += of_other
        errors[other] += of_one
    return side_by_side(
        lambda held: _refit(_without(always, folds, held), errors[held], alphas, fit_intercept, num_replicates),
        range(len(folds)),
        wide,
    )


def _without(always: Moments, folds: Sequence[Moments], *held: int) -> Moments:
    return total([always, *(fold for number, fold in enumerate(folds) if number not in held)])


def _refit(
    train: Moments, errors: Float[np.ndarray, "A Q"], alphas: Sequence[float], fit_intercept: bool, num_replicates: int
) -> Ridge:
    """Fits with the penalty of least error, chosen by each replicate for itself."""
    per_replicate = errors.reshape(len(alphas), num_replicates, -1).sum(axis=-1)
    best = len(alphas) - 1 - np.argmin(per_replicate[::-1], axis=0)
    chosen = np.repeat(best, errors.shape[1] // num_replicates)
    at_edge = np.isin(best, (0, len(alphas) - 1))
    return Ridge(*ridge_path(train, alphas, fit_intercept).chosen(chosen), np.asarray(alphas)[best], at_edge)
