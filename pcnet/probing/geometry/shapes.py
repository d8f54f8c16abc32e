"""Shapes of sets of points: on the simplex, against each other up to turning and scaling, and how many dimensions they fill."""

from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from pcnet.probing.rows.dataset import Array, as_numpy


def simplex_projection(points: Float[Array, "N S"]) -> Float[np.ndarray, "N S"]:
    r"""The nearest point of the probability simplex: what decoded beliefs must be before they are read as probabilities.

    .. math:: \arg\min_{p \ge 0,\ \sum_s p_s = 1} |p - x|^2 = \max(x - \theta, 0)

    Exact, by sorting; N S log S operations.

    Args:
        points: decoded beliefs, anywhere.

    Raises:
        ValueError: on entries that aren't finite.

    Reference: Held, Wolfe, Crowder 1974, Validation of subgradient optimization, section 4.
    """
    points = matrix("points", points)
    falling = -np.sort(-points, axis=1)
    thresholds = (np.cumsum(falling, axis=1) - 1) / np.arange(1, points.shape[1] + 1)
    support = np.count_nonzero(falling > thresholds, axis=1)
    return np.maximum(points - thresholds[np.arange(len(points)), support - 1][:, None], 0.0)


def procrustes_residual(
    points: Float[Array, "N D"], truth: Float[Array, "N T"], weights: Float[Array, " N"] | None = None
) -> float:
    r"""What is left of one shape when another is laid over it by shift, turn, mirror and one scale.

    .. math:: \min_{c, R^T R = 1, b} \frac{\sum_i w_i |y_i - b - c R^T x_i|^2}{\sum_i w_i |y_i - \bar y|^2}
        = 1 - \frac{(\sum_k \sigma_k(X^T Y))^2}{|X|^2 |Y|^2}

    0 for equal shapes, 1 for unrelated ones; unlike R2 it doesn't forgive a squeezed axis. The narrower set is filled
    with zero columns. Symmetric in its two arguments. In sample: it fits no more than a turn and a scale.

    Args:
        points: decoded beliefs, or coordinates from a decoder that never saw beliefs.
        truth: exact beliefs.
        weights: of rows, not negative; equal if None.

    Raises:
        ValueError: on rows that don't match or a set that is one point.
    """
    points, truth = matrix("points", points), matrix("truth", truth)
    mass = row_weights(weights, len(points))
    same_rows(points, truth)
    sets = [np.sqrt(mass)[:, None] * (part - mass @ part) for part in (points, truth)]
    sizes = [np.sum(part**2) for part in sets]
    for name, size in zip(("points", "truth"), sizes, strict=True):
        if not size > 0:
            raise ValueError(f"{name}: all rows are equal; a shape needs at least two points that differ")
    common = scipy.linalg.svdvals(sets[0].T @ sets[1]).sum()
    return float(max(1 - common**2 / (sizes[0] * sizes[1]), 0.0))


class CorrelationDimension(NamedTuple):
    """Attributes: slope of log pairs against log radius, its spread over halves of the range, and the range."""

    dimension: float
    spread: float
    smallest_radius: float
    largest_radius: float


def correlation_dimension(
    points: Float[Array, "N D"],
    radii: tuple[float, float] = (0.02, 0.2),
    steps: int = 12,
    counts: Int[Array, " N"] | None = None,
) -> CorrelationDimension:
    r"""How many dimensions a set of points fills, from how many pairs are close.

    .. math:: C(r) = \frac{\sum_{i \ne j} n_i n_j [|x_i - x_j| < r]}{\sum_{i \ne j} n_i n_j} \sim r^D

    Set it beside that of the exact beliefs on the same rows: both share the bias of a finite set. The radii must lie
    above the noise of the decoder, or its dimension is that of the noise.

    Args:
        points: decoded or exact beliefs; a point that occurs many times is one point unless ``counts`` says otherwise.
        radii: smallest and largest, as shares of the set's root-mean-square extent (twice the rms distance to the mean).
        steps: radii between them, equally spaced in the logarithm, at least 4.
        counts: how many times each row stands for; ones if None.

    Raises:
        ValueError: on radii that don't ascend, or fewer than two pairs within the smallest.

    Reference: Grassberger, Procaccia 1983, Physica D 9, 189.
    """
    points = matrix("points", points)
    if not 0 < radii[0] < radii[1] or steps < 4:
        raise ValueError(f"radii={radii}, steps={steps}: give two ascending positive radii and at least 4 steps")
    counts = np.ones(len(points)) if counts is None else row_counts(counts, len(points))
    extent = 2 * np.sqrt(np.mean(np.sum((points - points.mean(axis=0)) ** 2, axis=1)))
    scale = np.geomspace(*radii, steps) * extent
    tree = cKDTree(points)
    close = tree.count_neighbors(tree, scale, weights=counts.astype(np.float64)) - np.sum(counts**2)
    if close[0] < 2:
        raise ValueError(f"radii={radii}: no pair is closer than {scale[0]:.3g}; raise the smallest radius")
    x, y, half = np.log(scale), np.log(close), steps // 2
    lower, upper = np.polyfit(x[:half], y[:half], 1)[0], np.polyfit(x[half:], y[half:], 1)[0]
    return CorrelationDimension(float(np.polyfit(x, y, 1)[0]), float(abs(upper - lower)), *map(float, scale[[0, -1]]))


def matrix(name: str, values: Float[Array, "N D"]) -> Float[np.ndarray, "N D"]:
    """As float64; ValueError unless it is a finite matrix with rows and columns."""
    array = as_numpy(values).astype(np.float64)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name} has shape {array.shape}; it must be (rows, columns), neither of them 0")
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"{name} holds {array[row, column]} at row {row}, column {column}; every entry must be finite")
    return array


def same_rows(points: np.ndarray, truth: np.ndarray) -> None:
    """ValueError unless both have as many rows."""
    if len(points) != len(truth):
        raise ValueError(f"truth has {len(truth)} rows, points have {len(points)}; both need one per word")


def row_weights(weights: Float[Array, " N"] | None, rows: int) -> Float[np.ndarray, " N"]:
    """Weights that sum to 1, equal if none are given; ValueError on a wrong number, sign or sum."""
    mass = np.ones(rows) if weights is None else as_numpy(weights).astype(np.float64)
    if mass.shape != (rows,) or not (np.isfinite(mass) & (mass >= 0)).all() or not mass.sum() > 0:
        raise ValueError(f"weights: give {rows} finite numbers, none negative, not all zero; got shape {mass.shape}")
    return mass / mass.sum()


def row_counts(counts: Int[Array, " N"], rows: int) -> Int[np.ndarray, " N"]:
    """ValueError unless there is one whole number for each row, at least 0."""
    array = as_numpy(counts)
    if array.shape != (rows,) or array.dtype.kind not in "iu" or (array < 0).any():
        raise ValueError(f"counts: give {rows} integers, none negative; got shape {array.shape}, dtype {array.dtype}")
    return array
