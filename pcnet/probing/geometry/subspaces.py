"""Directions of activation space: angles between subspaces, how many dimensions are used, and whether factors stay apart."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import scipy.linalg
from jaxtyping import Float

from pcnet.probing.geometry.shapes import matrix, row_weights, same_rows
from pcnet.probing.rows.dataset import Array

TOLERANCE = 1e-9
"""Singular values below this share of the largest are zero."""


def spanned(vectors: Float[Array, "k D"]) -> Float[np.ndarray, "r D"]:
    """Orthonormal rows that span the same space, strongest direction first."""
    _, sizes, basis = np.linalg.svd(matrix("vectors", vectors), full_matrices=False)
    return basis[sizes > TOLERANCE * max(sizes[0], np.finfo(float).tiny)]


def principal_angles(one: Float[Array, "k D"], other: Float[Array, "l D"]) -> Float[np.ndarray, " m"]:
    """Angles between two subspaces in radians, ascending: 0 for a shared direction, pi / 2 for orthogonal ones.

    Args:
        one, other: rows that span them; need not be independent.

    Raises:
        ValueError: if they don't live in the same space or one has no direction.
    """
    first, second = spanned(one), spanned(other)
    for name, basis in (("one", first), ("other", second)):
        if not len(basis):
            raise ValueError(f"{name}: all vectors are zero; a subspace needs a direction")
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"other lives in {second.shape[1]} dimensions, one in {first.shape[1]}")
    return np.sort(scipy.linalg.subspace_angles(first.T, second.T))


def participation_ratio(points: Float[Array, "N D"], weights: Float[Array, " N"] | None = None) -> float:
    r"""Effective dimension of a cloud: :math:`(\sum_k \lambda_k)^2 / \sum_k \lambda_k^2` of its covariance.

    Raises:
        ValueError: if all rows are equal.
    """
    spectrum = variances(points, weights)
    return float(spectrum.sum() ** 2 / np.sum(spectrum**2))


def dimensions_for(points: Float[Array, "N D"], share: float = 0.95, weights: Float[Array, " N"] | None = None) -> int:
    """How many principal directions hold this share of the variance.

    Raises:
        ValueError: if the share isn't in (0, 1] or all rows are equal.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: it must be above 0 and at most 1")
    spectrum = variances(points, weights)
    held = np.cumsum(spectrum) / spectrum.sum()
    return int(np.searchsorted(held, share * (1 - 1e-12)) + 1)


def variances(points: Float[Array, "N D"], weights: Float[Array, " N"] | None = None) -> Float[np.ndarray, " D"]:
    """Variance along each principal direction, descending."""
    points = matrix("points", points)
    mass = row_weights(weights, len(points))
    centred = np.sqrt(mass)[:, None] * (points - mass @ points)
    spectrum = scipy.linalg.svdvals(centred) ** 2
    if not spectrum[0] > 0:
        raise ValueError("points: all rows are equal; they fill no dimension")
    return spectrum


def encoding_directions(
    features: Float[Array, "N D"], beliefs: Float[Array, "N T"], weights: Float[Array, " N"] | None = None
) -> Float[np.ndarray, "T D"]:
    r"""How the features move when the belief moves: least squares of features on beliefs, a row per belief coordinate.

    .. math:: \min_{A, b} \sum_i w_i |x_i - b - \eta_i A|^2

    Unlike a read-out's coefficients these don't lean away from nuisances. The rows span at most T - 1 dimensions, since
    beliefs sum to 1 (the solution of smallest norm is taken).

    Args:
        features: activations.
        beliefs: exact; for factors, side by side.
        weights: of rows; equal if None.
    """
    features, beliefs = matrix("features", features), matrix("beliefs", beliefs)
    same_rows(features, beliefs)
    mass = row_weights(weights, len(features))
    root = np.sqrt(mass)[:, None]
    x, y = root * (beliefs - mass @ beliefs), root * (features - mass @ features)
    return np.linalg.lstsq(x, y, rcond=TOLERANCE)[0]


def factor_overlaps(
    features: Float[Array, "N D"],
    factors: Mapping[str, Float[Array, "N S"]],
    weights: Float[Array, " N"] | None = None,
) -> pd.DataFrame:
    """Whether a product's factors are held in orthogonal subspaces.

    The features are regressed on all factors' beliefs together; each factor's coefficients span its subspace.

    Args:
        features: activations on words of a product process.
        factors: the filtered belief of each factor, by name; at least two.
        weights: of rows; equal if None.

    Returns:
        A row per pair: one, other, their dimensions, overlap (mean squared cosine of the principal angles: 1 if one subspace
        holds the other, 0 at right angles), chance (the mean over random subspaces of these dimensions), smallest_angle
        in degrees.

    Raises:
        ValueError: with fewer than two factors, or one that the features don't move with.

    Reference: arXiv 2602.02385: transformers hold products in orthogonal subspaces, sum of (d_n - 1) dimensions.
    """
    if len(factors) < 2:
        raise ValueError(f"factors: {len(factors)} given; overlap needs at least two")
    parts = {name: matrix(f"factors[{name!r}]", belief) for name, belief in factors.items()}
    directions = encoding_directions(features, np.concatenate(list(parts.values()), axis=1), weights)
    edges = np.cumsum([part.shape[1] for part in parts.values()])[:-1]
    spans = {name: spanned(rows) for name, rows in zip(parts, np.split(directions, edges), strict=True)}
    lines = []
    for one, other in combinations(spans, 2):
        angles = principal_angles(spans[one], spans[other])
        sizes = {"dimension_one": len(spans[one]), "dimension_other": len(spans[other])}
        seen = {"overlap": float(np.mean(np.cos(angles) ** 2)), "smallest_angle": float(np.degrees(angles[0]))}
        lines.append(
            {"one": one, "other": other} | sizes | seen | {"chance": max(sizes.values()) / directions.shape[1]}
        )
    return pd.DataFrame(lines)
