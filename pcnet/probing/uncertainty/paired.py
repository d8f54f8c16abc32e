"""Is one model's score better than another's? Tests that pair what is alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

from pcnet.probing.uncertainty.intervals import (
    ClusterSums,
    Interval,
    check_level,
    finite,
    redrawn,
    seed_interval,
    studentised,
)


@dataclass(frozen=True)
class PairedTest:
    """A difference of two scores, first minus second.

    Args:
        difference: with its interval.
        p_value: two-sided.
        hypothesis: what is rejected if the p value is small.
    """

    difference: Interval
    p_value: float
    hypothesis: str

    def __str__(self) -> str:
        low, high = self.difference.low, self.difference.high
        return (
            f"difference {self.difference.estimate:+.3f} ({low:+.3f} to {high:+.3f} over {self.difference.units} "
            f"{self.difference.over}), p = {self.p_value:.3g} for: {self.hypothesis}"
        )


def paired_rows(
    first: Float[np.ndarray, " N"],
    second: Float[np.ndarray, " N"],
    targets: Float[np.ndarray, "N T"],
    groups: Int[np.ndarray, " N"],
    level: float = 0.95,
    num_resamples: int = 1999,
    seed: int = 0,
) -> PairedTest:
    """Two models on the same sampled rows: the same sequences are drawn again for both, and nothing is refitted.

    Rejects that these two sets of fits decode fresh sequences equally well. It says nothing of models trained anew: that
    takes ``paired_seeds``. Rows of words that were enumerated exhaustively aren't a sample; no test is needed there, the
    difference is what it is.

    Args:
        first, second: held-out squared error of each row, its targets together, under each model; same folds.
        targets: what both should have decoded.
        groups: the sequence that each row was taken from; at least 10.
        level: of the interval for the difference of R2, in (0, 1).
        num_resamples: draws, at least 100.
        seed: of the draws.

    Raises:
        ValueError: as in ``bootstrap_interval``.

    Reference: Hall and Wilson (1991), Biometrics 47, 757: the draws are centred and studentised.
    """
    check_level(level)
    if num_resamples < 100:
        raise ValueError(f"num_resamples={num_resamples}: it must be at least 100")
    sums = [ClusterSums.of(errors, targets, groups) for errors in (first, second)]
    clusters = len(sums[0].errors)
    (estimate,), (spread,) = difference(*sums, np.ones((1, clusters)))
    generator = np.random.default_rng(seed)
    differences, spreads = redrawn(lambda counts: difference(*sums, counts), clusters, num_resamples, generator)
    deviations = studentised(differences - estimate, spreads)
    observed = studentised(np.array([estimate]), np.array([spread]))[0]
    low, high = np.quantile(deviations, [(1 - level) / 2, (1 + level) / 2])
    p_value = (1 + np.count_nonzero(np.abs(deviations) >= abs(observed))) / (1 + num_resamples)
    interval = Interval(
        float(estimate), float(estimate - high * spread), float(estimate - low * spread), level, clusters, "sequences"
    )
    return PairedTest(interval, float(p_value), "these fits decode fresh sequences equally well")


def difference(
    first: ClusterSums, second: ClusterSums, counts: Float[np.ndarray, "B G"]
) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, " B"]]:
    """First R2 minus second and its standard error: the variance is shared, so only the errors' differences count."""
    # an R2 is linear in the errors, so the difference is that of one set of rows with the difference of the errors
    change = ClusterSums(first.errors - second.errors, first.squares, first.sums, first.rows)
    score, spread = change.r2(counts)
    return score - 1, spread


def paired_seeds(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> PairedTest:
    """Two kinds of model, each trained from the same seeds and scored on the same rows.

    Rejects that training either kind anew gives the same score on average. Needs no sampled rows.

    Args:
        first, second: scores in the order of the training seeds, at least two of each.
        level: of the interval for the mean difference, in (0, 1).

    Raises:
        ValueError: if they are too few, not finite, or not as many as each other.
    """
    one, other = finite("first", first, least=2), finite("second", second, least=2)
    if len(one) != len(other):
        raise ValueError(
            f"first has {len(one)} scores and second {len(other)}; give one of each for every training seed"
        )
    interval = seed_interval(one - other, level)
    if not isinstance(interval, Interval):
        raise AssertionError("two differences have an interval")
    deviation = (one - other).std(ddof=1) / np.sqrt(len(one))
    if deviation > 0:
        p_value = float(2 * scipy.stats.t.sf(abs(interval.estimate) / deviation, len(one) - 1))
    else:
        p_value = float(interval.estimate == 0)
    return PairedTest(interval, p_value, "trained anew, both kinds score the same on average")
