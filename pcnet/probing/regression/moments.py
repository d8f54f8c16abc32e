"""Weighted second moments of features and targets: all that a linear regression needs to know about its rows."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float, Int

CHUNK_ROWS = 1024  # a chunk with a hundred replicates still fits a cache

WIDE = 128  # with fewer features threads wait for the interpreter more than they compute


@dataclass(frozen=True)
class Design:
    """Rows of a regression whose targets may stand in several orders (replicates) beside the same features.

    Replicate r pairs the features of row i with the targets of row ``order[i, r]``; one replicate in the natural
    order is an ordinary regression. Permutations share everything that depends on the features alone.

    Args:
        features: any floating precision; converted to float64 a few thousand rows at a time, never as a whole.
        targets: T numbers per row, float64.
        order: row numbers, one column per replicate.
    """

    features: Float[np.ndarray, "N D"]
    targets: Float[np.ndarray, "N T"]
    order: Int[np.ndarray, "N R"]

    @classmethod
    def single(cls, features: Float[np.ndarray, "N D"], targets: Float[np.ndarray, "N T"]) -> Self:
        """The ordinary regression: one replicate, in the order in which the rows stand."""
        return cls(features, np.asarray(targets, dtype=np.float64), np.arange(len(features))[:, None])

    @property
    def is_wide(self) -> bool:
        """Whether its matrices are worth a thread each."""
        return self.features.shape[1] >= WIDE

    @property
    def num_replicates(self) -> int:
        """Number of orders in which the targets stand."""
        return self.order.shape[1]

    def centre(self) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, " Q"]]:
        """Plain means of features and of targets (Q = R T columns), about which moments don't cancel."""
        mean = self.targets.mean(axis=0, dtype=np.float64)
        return self.features.mean(axis=0, dtype=np.float64), np.tile(mean, self.num_replicates)

    def block(self, rows: Int[np.ndarray, " n"]) -> tuple[Float[np.ndarray, "n D"], Float[np.ndarray, "n Q"]]:
        """The chosen rows in float64, the replicates' targets side by side."""
        return self.features[rows].astype(np.float64), self.targets_of(rows)

    def targets_of(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n Q"]:
        """Of the chosen rows, the replicates side by side."""
        return np.take(self.targets, self.order[rows], axis=0).reshape(len(rows), -1)


@dataclass(frozen=True)
class Moments:
    r"""Sums over rows of w, w x, w y, w x x^T, w x y^T and w y^2, with x and y counted from a fixed centre.

    .. math:: M(A \cup B) = M(A) + M(B)

    for disjoint sets of rows, so one pass over the data serves every training set of a cross-validation. Subtraction
    never happens: training sets are sums of the folds that they contain.

    Args:
        weight: total weight of the rows.
        x, y, xx, xy, yy: the sums; of ``yy`` only the diagonal.
        centre_x, centre_y: what was subtracted from features and targets first; equal in moments that are added.
    """

    weight: float
    x: Float[np.ndarray, " D"]
    y: Float[np.ndarray, " Q"]
    xx: Float[np.ndarray, "D D"]
    xy: Float[np.ndarray, "D Q"]
    yy: Float[np.ndarray, " Q"]
    centre_x: Float[np.ndarray, " D"]
    centre_y: Float[np.ndarray, " Q"]

    def __add__(self, other: Self) -> Self:
        if not (np.array_equal(self.centre_x, other.centre_x) and np.array_equal(self.centre_y, other.centre_y)):
            raise ValueError("moments add up only about one centre; measure both with the same `centre`")
        sums = (getattr(self, name) + getattr(other, name) for name in ("weight", "x", "y", "xx", "xy", "yy"))
        return Moments(*sums, self.centre_x, self.centre_y)

    def about_origin(self) -> Self:
        """The same rows counted from zero, which a regression without a constant needs."""
        a, b, x, y = self.centre_x, self.centre_y, self.x, self.y
        return Moments(
            weight=self.weight,
            x=x + self.weight * a,
            y=y + self.weight * b,
            xx=self.xx + np.outer(a, x) + np.outer(x, a) + self.weight * np.outer(a, a),
            xy=self.xy + np.outer(a, y) + np.outer(x, b) + self.weight * np.outer(a, b),
            yy=self.yy + 2 * b * y + self.weight * b**2,
            centre_x=np.zeros_like(a),
            centre_y=np.zeros_like(b),
        )


def chunks(rows: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " m"]]:
    """Row numbers in pieces of at most ``CHUNK_ROWS``."""
    return [rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS)]


def measure(
    design: Design,
    weights: Float[np.ndarray, " N"],
    rows: Int[np.ndarray, " n"],
    centre: tuple[Float[np.ndarray, " D"], Float[np.ndarray, " Q"]],
) -> Moments:
    """Moments of the chosen rows, in one pass.

    Costs n D (D + 2 Q) multiplications and the memory of one chunk.

    Args:
        design: features, targets and their replicates.
        weights: one per row of the design, not negative.
        rows: which rows count; none gives zeros.
        centre: subtracted first; the same for all moments that are to be added (see ``Design.centre``).
    """
    centre_x, centre_y = centre
    num_features, num_targets = len(centre_x), len(centre_y)
    x, y, yy = np.zeros(num_features), np.zeros(num_targets), np.zeros(num_targets)
    xx, xy = np.zeros((num_features, num_features)), np.zeros((num_features, num_targets))
    for chunk in chunks(rows):
        w, root = weights[chunk], np.sqrt(weights[chunk])[:, None]
        block_x, block_y = design.block(chunk)
        block_x -= centre_x
        block_y -= centre_y
        x += w @ block_x
        y += w @ block_y
        block_x *= root
        xx += block_x.T @ block_x  # a matrix times its own transpose takes half the work
        block_x *= root
        xy += block_x.T @ block_y
        yy += w @ block_y**2
    return Moments(float(weights[rows].sum()), x, y, xx, xy, yy, centre_x, centre_y)


def total(parts: list[Moments]) -> Moments:
    """Moments of the union of disjoint sets of rows."""
    result, *others = parts
    for part in others:
        result = result + part
    return result
