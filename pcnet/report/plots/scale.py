"""Axes: one for R2 that keeps the differences near one apart, -log10(1 - R2) labelled in R2; and plain log axes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullFormatter

from pcnet.report.headlines import fixed

NEAR_ONE = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
FAR_FROM_ONE = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
LABEL = "held-out R² (log scale of 1 − R²)"


@dataclass(frozen=True)
class ScoreScale:
    """Where a score stands on the axis; scores outside it stand at its ends.

    Args:
        ticks: the labelled scores in ascending order; the first and last are the ends of the axis.
    """

    ticks: tuple[float, ...]

    def place(self, score: float | np.ndarray) -> np.ndarray:
        """Position of one or more scores; NaN stays NaN."""
        return -np.log10(1 - np.clip(score, self.ticks[0], self.ticks[-1]))

    def dress(self, axis: Axis) -> None:
        """Put limits, ticks and labels on an axis."""
        low, high = self.place(np.array([self.ticks[0], self.ticks[-1]]))
        axis.axes.set(**{f"{axis.axis_name}lim": (low - 0.03 * (high - low), high + 0.03 * (high - low))})
        axis.set_ticks(self.place(np.array(self.ticks)), self._labels())

    def _labels(self) -> list[str]:
        """What stands at the ticks; the last but one stays bare where it is too near the last."""
        labels = [fixed(tick, 4).rstrip("0").rstrip(".") or "0" for tick in self.ticks]
        labels[0] = f"≤{labels[0]}" if self.ticks[0] == 0 else labels[0]
        places = self.place(np.array(self.ticks))
        if len(places) > 2 and places[-1] - places[-2] < 0.1 * (places[-1] - places[0]):
            labels[-2] = ""
        return labels


def score_scale(scores: Iterable[float], floor: float = 0.0) -> ScoreScale:
    """The scale whose ends enclose these scores.

    Args:
        scores: what must be shown in full; what isn't finite is passed over.
        floor: scores below it may be drawn at the edge.
    """
    shown = [score for score in scores if np.isfinite(score)]
    low, high = max(min(shown, default=0.0), floor), max(shown, default=0.5)
    ladder = NEAR_ONE if high > 0.9 else FAR_FROM_ONE
    last = next((i for i, tick in enumerate(ladder) if tick > max(high, 0.0)), len(ladder) - 1)
    first = max(i for i in range(last) if i == 0 or ladder[i] <= low)
    return ScoreScale(ladder[first : last + 1])


def log_ticks(axis: Axis, text: Callable[[float], str]) -> None:
    """Plain numbers on a log axis with its data: powers of ten, on short axes also 2 and 5 times them.

    Args:
        axis: its scale must be logarithmic.
        text: how a number is written.
    """
    axis.axes.autoscale_view()
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 50 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: text(value))
    axis.set_minor_formatter(NullFormatter())
