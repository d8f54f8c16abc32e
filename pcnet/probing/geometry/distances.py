"""Whether what is far apart in the beliefs is far apart in what is decoded: R2 between all pairwise distances."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

from pcnet.probing.geometry.shapes import matrix, row_counts, same_rows
from pcnet.probing.rows.dataset import Array, as_numpy
from pcnet.processes import Words

BLOCK_ROWS = 512
"""Rows whose distances to all others are held at once."""


def prefix_counts(words: Words) -> Int[np.ndarray, " N"]:
    """How many of the longest words begin with each word: its number of rows if every position of those is a row.

    The published distance R2 on rrxor takes all positions of all 436 words of length 10: 4360 rows of which only 1046
    differ. With these counts the 1046 rows give the same number.

    Args:
        words: all words of lengths 1..n.
    """
    tokens, lengths = as_numpy(words.tokens), as_numpy(words.lengths)
    longest = tokens[lengths == lengths.max()]
    counts = np.zeros(len(tokens), dtype=np.int64)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        both = np.concatenate([tokens[rows, :length], longest[:, :length]])
        names = np.unique(both, axis=0, return_inverse=True)[1].ravel()
        counts[rows] = np.bincount(names[len(rows) :], minlength=names.max() + 1)[names[: len(rows)]]
    return counts


def distance_r2(
    points: Float[Array, "N D"],
    truth: Float[Array, "N T"],
    counts: Int[Array, " N"] | None = None,
    pairs: int | None = None,
    seed: int = 0,
) -> float:
    r"""Squared correlation between distances in one representation and distances in another, over pairs of rows.

    .. math:: R^2 = \mathrm{corr}_{i<j}(|x_i - x_j|, |y_i - y_j|)^2

    A perfect representation of the belief has 1 against the belief, but not 0 against the next-token law: that
    ``intrinsic`` value is ``distance_r2(beliefs, laws, counts)`` (rrxor, length 10: .2846 over 9,502,620 pairs), and
    only what exceeds it speaks for the law. Memory: 512 N numbers; N^2 (D + T) operations.

    Args:
        points: decoded beliefs (held out), or activations.
        truth: what their distances are compared with.
        counts: how many rows each row stands for (see ``prefix_counts``); pairs of equal rows count, at distance 0.
        pairs: take so many random pairs instead of all, drawn by ``counts``; for rows beyond some 30,000.
        seed: of that draw.

    Returns:
        Between 0 and 1; NaN never: equal distances everywhere are an error.

    Raises:
        ValueError: on rows that don't match, fewer than two rows, or distances that are all equal.
    """
    points, truth = matrix("points", points), matrix("truth", truth)
    same_rows(points, truth)
    counts = np.ones(len(points), dtype=np.int64) if counts is None else row_counts(counts, len(points))
    if counts.sum() < 2:
        raise ValueError(f"points: {counts.sum()} rows; distances need at least 2")
    blocks = _all_pairs(points, truth, counts) if pairs is None else _some_pairs(points, truth, counts, pairs, seed)
    return _squared_correlation(blocks)


Block = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]


def _all_pairs(points: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> Iterator[Block]:
    for start in range(0, len(points), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        own = counts[rows].astype(np.float64)
        weights = np.triu(np.outer(own, counts[start:]))
        np.fill_diagonal(weights, own * (own - 1) / 2)
        distances = [cdist(part[rows], part[start:]).ravel() for part in (points, truth)]
        yield *distances, weights.ravel()


def _some_pairs(points: np.ndarray, truth: np.ndarray, counts: np.ndarray, pairs: int, seed: int) -> Iterator[Block]:
    if pairs < 2:
        raise ValueError(f"pairs={pairs}: a correlation needs at least 2")
    generator, ends = np.random.default_rng(seed), np.cumsum(counts)
    first = generator.integers(ends[-1], size=pairs)
    second = (first + generator.integers(1, ends[-1], size=pairs)) % ends[-1]
    one, other = (np.searchsorted(ends, drawn, side="right") for drawn in (first, second))
    distances = [np.linalg.norm(part[one] - part[other], axis=1) for part in (points, truth)]
    yield *distances, np.ones(pairs)


def _squared_correlation(blocks: Iterator[Block]) -> float:
    weight, first, second, product = 0.0, np.zeros(2), np.zeros(2), 0.0
    for x, y, mass in blocks:
        weight += mass.sum()
        first += mass @ x, mass @ y
        second += mass @ x**2, mass @ y**2
        product += mass @ (x * y)
    mean = first / weight
    variance = second / weight - mean**2
    for name, spread, size in zip(("points", "truth"), variance, second / weight, strict=True):
        if not spread > 1e-12 * size:
            raise ValueError(f"{name}: all distances are equal; their correlation with others means nothing")
    return float((product / weight - mean[0] * mean[1]) ** 2 / variance.prod())
