"""Intervals for scores: over sampled sequences by the bootstrap, over training seeds by Student's t."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

FEWEST_CLUSTERS = 10
COUNTS_AT_ONCE = 2**18
"""Entries of a block of draws: some 10 MB at a time."""


@dataclass(frozen=True)
class Interval:
    """A score and how far it may be off.

    Args:
        estimate: the score.
        low, high: ends of the interval.
        level: share of such intervals that should hold the true value.
        units: how many sequences or training runs it rests on.
        over: what varies: "sequences" or "training seeds".
    """

    estimate: float
    low: float
    high: float
    level: float
    units: int
    over: str

    def __str__(self) -> str:
        return f"{self.estimate:.3f} ({self.low:.3f} to {self.high:.3f}, {100 * self.level:g} % over {self.units} {self.over})"


@dataclass(frozen=True, eq=False)
class ClusterSums:
    r"""All that an R2 needs to know about rows, summed over each cluster.

    .. math:: R^2 = 1 - \frac{\sum_g E_g}{\sum_g Q_g - |\sum_g S_g|^2 / \sum_g N_g}

    with E_g the held-out squared errors of cluster g, Q_g its squared targets, S_g their sum and N_g its rows.

    Args:
        errors, squares, sums, rows: E, Q, S and N, targets counted from their mean over all rows.
    """

    errors: Float[np.ndarray, " G"]
    squares: Float[np.ndarray, " G"]
    sums: Float[np.ndarray, "G T"]
    rows: Float[np.ndarray, " G"]

    @classmethod
    def of(
        cls, errors: Float[np.ndarray, " N"], targets: Float[np.ndarray, "N T"], groups: Int[np.ndarray, " N"]
    ) -> Self:
        """Sums the rows of each cluster.

        Args:
            errors: held-out squared error of each row, its targets together.
            targets: what should have been decoded.
            groups: the sequence that each row was taken from.

        Raises:
            ValueError: if shapes don't match, errors are negative or not finite, the clusters are fewer than 10, or the
                targets don't vary.
        """
        errors, targets, groups = np.asarray(errors, float), np.asarray(targets, float), np.asarray(groups)
        if errors.ndim != 1 or targets.ndim != 2 or groups.ndim != 1 or not len(errors) == len(targets) == len(groups):
            raise ValueError(
                f"errors {errors.shape}, targets {targets.shape} and groups {groups.shape} must have one entry, one row "
                "and one entry for each row of the sample"
            )
        if bad := np.flatnonzero(~((errors >= 0) & np.isfinite(errors) & np.isfinite(targets).all(axis=1))).tolist():
            raise ValueError(f"row {bad[0]}: error {errors[bad[0]]}, targets {targets[bad[0]]}; all must be finite")
        names, group = np.unique(groups, return_inverse=True)
        if len(names) < FEWEST_CLUSTERS:
            raise ValueError(f"groups: {len(names)} clusters; an interval over them needs at least {FEWEST_CLUSTERS}")
        centred = targets - targets.mean(axis=0)
        if not np.ptp(targets, axis=0).max() > 0:
            raise ValueError("targets: all rows are equal; their R2 is undefined")
        sums = np.zeros((len(names), targets.shape[1]))
        np.add.at(sums, group, centred)
        squares = np.bincount(group, (centred**2).sum(axis=1))
        return cls(np.bincount(group, errors), squares, sums, np.bincount(group).astype(float))

    def r2(self, counts: Float[np.ndarray, "B G"]) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, " B"]]:
        """Score and its standard error (linearised) if cluster g stood there ``counts[b, g]`` times."""
        mean = (counts @ self.sums) / (counts @ self.rows)[:, None]
        error = counts @ self.errors
        variance = counts @ self.squares - (counts @ self.rows) * (mean**2).sum(axis=1)
        share = (error / variance)[:, None]
        about_mean = self.squares - 2 * mean @ self.sums.T + self.rows * (mean**2).sum(axis=1, keepdims=True)
        influence = (share * about_mean - self.errors) / variance[:, None]
        clusters = counts.sum(axis=1)
        spread = np.sqrt((counts * influence**2).sum(axis=1) * clusters / (clusters - 1))
        return 1 - share[:, 0], spread


def redrawn(
    score: Callable[[Float[np.ndarray, "b G"]], tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]],
    num_clusters: int,
    num_resamples: int,
    generator: np.random.Generator,
) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, " B"]]:
    """Scores and standard errors where as many clusters as there are, are drawn with replacement, again and again.

    Args:
        score: of b draws, told how often each cluster was drawn.
        num_clusters, num_resamples: G and B.
        generator: source of every draw.
    """
    at_once = max(1, COUNTS_AT_ONCE // num_clusters)
    sizes = [min(at_once, num_resamples - start) for start in range(0, num_resamples, at_once)]
    even = np.full(num_clusters, 1 / num_clusters)
    parts = [score(generator.multinomial(num_clusters, even, size).astype(float)) for size in sizes]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def bootstrap_interval(
    errors: Float[np.ndarray, " N"],
    targets: Float[np.ndarray, "N T"],
    groups: Int[np.ndarray, " N"],
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """An interval for the held-out R2 of sampled rows: whole sequences are drawn again, their errors kept.

    Nothing is refitted, so no copy of a row can stand in training and in test. Studentised: each draw's deviation is
    measured in its own standard error, since R2 is a ratio and its errors are skewed. It holds the score that these
    fits (each fold's on the others) reach on average on fresh sequences of the same process; what another sample would
    have done to the fits is not in it, nor is training. Words that were enumerated exhaustively weren't sampled: there
    is nothing to draw again, and only ``seed_interval`` means something.

    Args:
        errors: held-out squared error of each row, its targets together; folds must have kept sequences whole.
        targets: what should have been decoded.
        groups: the sequence that each row was taken from; at least 10.
        level: of the interval, in (0, 1).
        num_resamples: draws, at least 100.
        seed: of the draws.

    Raises:
        ValueError: naming the argument, its value and what is allowed.

    Reference: Bayle, Bayle, Janson and Mackey (2020), NeurIPS 33, for what cross-validation estimates; Efron and
        Tibshirani (1993), An Introduction to the Bootstrap, 12.5.
    """
    check_level(level)
    if num_resamples < 100:
        raise ValueError(f"num_resamples={num_resamples}: it must be at least 100")
    sums = ClusterSums.of(errors, targets, groups)
    generator = np.random.default_rng(seed)
    clusters = len(sums.errors)
    (estimate,), (spread,) = sums.r2(np.ones((1, clusters)))
    scores, spreads = redrawn(sums.r2, clusters, num_resamples, generator)
    tail = (1 - level) / 2
    low, high = np.quantile(studentised(scores - estimate, spreads), [tail, 1 - tail])
    return Interval(
        float(estimate), float(estimate - high * spread), float(estimate - low * spread), level, clusters, "sequences"
    )


def studentised(deviations: Float[np.ndarray, " B"], spreads: Float[np.ndarray, " B"]) -> Float[np.ndarray, " B"]:
    """Deviations in units of their standard errors; 0 where there is neither."""
    return np.divide(deviations, spreads, out=np.zeros_like(deviations), where=spreads > 0)


def seed_interval(scores: Sequence[float], level: float = 0.95) -> Interval:
    r"""An interval for the mean score of models trained alike, over their training seeds.

    .. math:: \bar r \pm t_{n-1} \, s / \sqrt n

    Args:
        scores: one for each training seed; at least two, for one alone says nothing of how far it may be off.
        level: of the interval, in (0, 1).

    Raises:
        ValueError: if there are fewer than two scores or one isn't finite.
    """
    check_level(level)
    values = finite("scores", scores, least=2)
    half = scipy.stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    mean = float(values.mean())
    return Interval(mean, mean - float(half), mean + float(half), level, len(values), "training seeds")


def check_level(level: float) -> None:
    """ValueError unless it is a share."""
    if not 0 < level < 1:
        raise ValueError(f"level={level}: it must lie in (0, 1)")


def finite(name: str, values: Sequence[float], least: int) -> Float[np.ndarray, " n"]:
    """As an array; ValueError on too few numbers or one that isn't finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < least:
        raise ValueError(f"{name} has shape {array.shape}; give at least {least} numbers")
    if not np.isfinite(array).all():
        place = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{name}[{place}]={array[place]}: each must be finite")
    return array
