"""Is one kind of model's score better than another's? A test that pairs training runs of equal seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

from pcnet.probing.uncertainty.intervals import Interval, finite, seed_interval


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
    deviation = (one - other).std(ddof=1) / np.sqrt(len(one))
    if deviation > 0:
        p_value = float(2 * scipy.stats.t.sf(abs(interval.estimate) / deviation, len(one) - 1))
    else:
        p_value = float(interval.estimate == 0)
    return PairedTest(interval, p_value, "trained anew, both kinds score the same on average")
