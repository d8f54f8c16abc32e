"""Least squares on the largest principal directions, the number of them chosen on held-out folds."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pcnet.probing.regression.moments import Moments, total
from pcnet.probing.regression.principal import LinearPath, PrincipalDirections
from pcnet.probing.regression.ridge import errors_on_folds


def check_ranks(ranks: Sequence[int]) -> None:
    """Raises ValueError unless these are ascending whole numbers, at least 1."""
    grid = np.asarray(ranks)
    if grid.ndim != 1 or not len(grid) or grid.dtype.kind not in "iu" or grid[0] < 1 or np.any(np.diff(grid) <= 0):
        raise ValueError(f"ranks={ranks!r}: give ascending whole numbers, at least 1")


def rank_path(train: Moments, ranks: Sequence[int], fit_intercept: bool) -> LinearPath:
    """Least squares on every number of the largest principal directions of the standardised features.

    Directions whose eigenvalue is zero up to rounding don't exist, nor do constant features.

    Args:
        train: moments of the training rows.
        ranks: ascending; beyond the rank of the features nothing changes.
        fit_intercept: whether a constant is fitted beside the slopes.

    Raises:
        ValueError: if the training rows have no weight.
    """
    found = PrincipalDirections.of(train, fit_intercept)
    values = found.eigenvalues
    largest = np.arange(len(values))[::-1] < np.asarray(ranks)[:, None]
    return LinearPath(found, np.where(largest & (values > 0), 1 / np.where(values > 0, values, 1.0), 0.0))


def select_rank(
    always: Moments, folds: Sequence[Moments], ranks: Sequence[int], fit_intercept: bool
) -> tuple[int, Float[np.ndarray, "D Q"], Float[np.ndarray, " Q"]]:
    """Fits on all the rows given, with the number of directions that predicts each fold best from the other rows.

    Args:
        always: moments of rows that train every fit and judge none; may be empty.
        folds: moments of the folds, at least two.
        ranks: to choose from.
        fit_intercept: whether a constant is fitted.

    Returns:
        The rank, slopes and intercept.

    Raises:
        ValueError: with fewer than two folds.
    """
    errors = errors_on_folds(always, folds, lambda train: rank_path(train, ranks, fit_intercept)).sum(axis=1)
    rank = ranks[int(np.argmin(errors))]
    path = rank_path(total([always, *folds]), (rank,), fit_intercept)
    return rank, path.coef[0], path.intercept[0]
