"""Shares of cases with their intervals."""

import math

import pandas as pd
import scipy.stats


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share, after Wilson (1927), J. Am. Stat. Assoc. 22, 209."""
    interval = scipy.stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
    return interval.low, interval.high


def percent(lines: pd.DataFrame, names: tuple[str, str, str], digits: int) -> list[str]:
    """Shares with their intervals, for reading; empty where a share is NaN.

    Args:
        lines: shares and the ends of their intervals, between 0 and 1.
        names: columns of the share, the lower and the upper end.
        digits: after the point.
    """
    return [
        ""
        if math.isnan(share)
        else "{:.{d}f} ({:.{d}f} to {:.{d}f})".format(100 * share, 100 * low, 100 * high, d=digits)
        for share, low, high in lines[list(names)].to_numpy(float)
    ]
