"""Least squares in the features' principal directions, where every way to shrink is a number for each direction."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from jaxtyping import Float, Int

from pcnet.probing.regression.moments import Moments

BLOCK = 1 << 17
"""Entries of a block of coefficients; a mebibyte stays in a core's cache while it is multiplied."""

PANEL = 64
"""Rows of a symmetric matrix that are multiplied together."""


@dataclass(frozen=True)
class PrincipalDirections:
    r"""Standardised features in the basis of their Gram matrix's eigenvectors, and the targets' covariance with them.

    .. math:: Z^T Z = V \Lambda V^T, \qquad W = S V f(\Lambda) V^T Z^T Y

    with Z the weighted features divided by their standard deviation, about their mean; without a constant by their root
    mean square, about zero. f = 1 / lambda is least squares; others shrink or cut. S divides by the deviations.

    Args:
        directions: S V; features about their mean times these are uncorrelated.
        eigenvalues: ascending; exactly zero where they are nothing but rounding, as those of collinear features are.
        cross: V^T Z^T Y, for Q columns of targets.
        mean_x, mean_y: where features and targets are counted from; zero without a constant.
    """

    directions: Float[np.ndarray, "D D"]
    eigenvalues: Float[np.ndarray, " D"]
    cross: Float[np.ndarray, "D Q"]
    mean_x: Float[np.ndarray, " D"]
    mean_y: Float[np.ndarray, " Q"]

    @classmethod
    def of(cls, train: Moments, fit_intercept: bool) -> Self:
        """From the moments of the training rows, by one eigendecomposition.

        Args:
            train: moments of the training rows.
            fit_intercept: whether a constant is fitted beside the slopes.

        Raises:
            ValueError: if the training rows have no weight.
        """
        if not train.weight > 0:
            raise ValueError(f"the training rows have total weight {train.weight:g}; it must be positive")
        rows = train if fit_intercept else train.about_origin()
        mean_x, mean_y = rows.x / rows.weight * fit_intercept, rows.y / rows.weight * fit_intercept
        gram = rows.xx / rows.weight - np.outer(mean_x, mean_x)
        covariance = rows.xy / rows.weight - np.outer(mean_x, mean_y)
        inverse = _inverse_scale(rows, np.diag(gram))
        values, vectors = np.linalg.eigh(gram * np.outer(inverse, inverse))
        kept = values > 10 * len(values) * np.finfo(np.float64).eps * values[-1]
        return cls(
            directions=inverse[:, None] * vectors,
            eigenvalues=np.where(kept, values, 0.0),
            cross=vectors.T @ (covariance * inverse[:, None]),
            mean_x=(mean_x + rows.centre_x) * fit_intercept,
            mean_y=(mean_y + rows.centre_y) * fit_intercept,
        )


@dataclass(frozen=True)
class LinearPath:
    """Linear maps W = directions @ (shrinkage * cross), one for each of A ways to shrink.

    Args:
        principal: of the training rows.
        shrinkage: what takes the place of one over the eigenvalue.
    """

    principal: PrincipalDirections
    shrinkage: Float[np.ndarray, "A D"]

    @cached_property
    def coef(self) -> Float[np.ndarray, "A D Q"]:
        """Slopes in units of the raw features."""
        return self.principal.directions @ (self.shrinkage[:, :, None] * self.principal.cross)

    @cached_property
    def intercept(self) -> Float[np.ndarray, "A Q"]:
        """Predictions at feature value zero."""
        return self.principal.mean_y - np.einsum("d,adq->aq", self.principal.mean_x, self.coef)

    def chosen(self, way: Int[np.ndarray, " Q"]) -> tuple[Float[np.ndarray, "D Q"], Float[np.ndarray, " Q"]]:
        """Slopes and intercepts with another way to shrink for each target."""
        found = self.principal
        coef = found.directions @ (self.shrinkage[way].T * found.cross)
        return coef, found.mean_y - found.mean_x @ coef

    def squared_errors(self, rows: Moments) -> Float[np.ndarray, "A Q"]:
        """Weighted sum over these rows of (y - b - x W)^2 for each map and target, from their moments alone.

        Costs D^2 A Q multiplications and additions, and 4 D^3 for the rows' Gram matrix in this basis.
        """
        found, shrink = self.principal, self.shrinkage
        # seen from the centre of the moments, where the sums don't cancel
        x, xy = found.directions.T @ rows.x, found.directions.T @ rows.xy
        offset = (
            found.mean_y - rows.centre_y + (shrink * ((rows.centre_x - found.mean_x) @ found.directions)) @ found.cross
        )
        linear = offset * ((shrink * x) @ found.cross) - shrink @ (found.cross * xy)
        errors = rows.yy + 2 * linear - 2 * offset * rows.y + rows.weight * offset**2
        errors += self._quadratic(found.directions.T @ rows.xx @ found.directions)
        return np.maximum(errors, 0.0)

    def _quadratic(self, gram: Float[np.ndarray, "D D"]) -> Float[np.ndarray, "A Q"]:
        """c^T G c for the coefficients c of each map and target in the basis of principal directions.

        G is symmetric, so its upper triangle with half the diagonal gives half of it for little more than half the work.
        """
        triangle = np.triu(gram, 1) + np.diag(np.diag(gram) / 2)
        found = np.empty((len(self.shrinkage), self.principal.cross.shape[1]))
        for columns in self._blocks():
            block = self.shrinkage.T[:, :, None] * self.principal.cross[:, None, columns]
            found[:, columns] = 2 * _form(triangle, block.reshape(len(block), -1)).reshape(len(self.shrinkage), -1)
        return found

    def _blocks(self) -> Iterator[slice]:
        """Targets a few at a time."""
        num_targets, each = self.principal.cross.shape[1], max(1, BLOCK // self.shrinkage.size)
        return (slice(start, start + each) for start in range(0, num_targets, each))


def _form(triangle: Float[np.ndarray, "D D"], vectors: Float[np.ndarray, "D K"]) -> Float[np.ndarray, " K"]:
    """v^T T v of each column, a panel of T's rows at a time, from its first column that isn't zero."""
    panels = (slice(start, start + PANEL) for start in range(0, len(vectors), PANEL))
    return sum(
        np.einsum("dk,dk->k", vectors[rows], triangle[rows, rows.start :] @ vectors[rows.start :]) for rows in panels
    )


def _inverse_scale(rows: Moments, variance: Float[np.ndarray, " D"]) -> Float[np.ndarray, " D"]:
    """One over each feature's standard deviation; zero where the deviation is nothing but rounding."""
    about_centre = np.diag(rows.xx) / rows.weight
    mean = rows.centre_x + rows.x / rows.weight
    rounding = np.maximum(1e-13 * about_centre, (1e-13 * mean) ** 2)
    return np.where(variance > rounding, 1 / np.sqrt(np.where(variance > rounding, variance, 1.0)), 0.0)


def principal_coordinates(targets: Float[np.ndarray, "N T"], centred: bool = True) -> Float[np.ndarray, "N R"]:
    """The targets in orthonormal coordinates in which they vary; no distance between rows changes.

    Least squares knows no other difference between the two, and beliefs of S states have one coordinate fewer.

    Args:
        targets: what a probe is to read.
        centred: whether about their mean, as a fit with a constant sees them; if not, no distance from zero changes.

    Returns:
        As many columns as the targets vary in; one of zeros if they don't.
    """
    about = targets - targets.mean(axis=0) if centred else targets
    _, sizes, directions = np.linalg.svd(about, full_matrices=False)
    varying = sizes > 1e-10 * max(np.abs(targets).max() * np.sqrt(len(targets)), np.finfo(float).tiny)
    return about @ directions[varying].T if varying.any() else np.zeros((len(targets), 1))
