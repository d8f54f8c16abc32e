"""What an answer costs: the same models in the same order and colour, one small panel a quantity."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcnet.report import results as run
from pcnet.report.headlines import count, milliseconds
from pcnet.report.plots.scale import log_ticks
from pcnet.report.plots.style import GREY, INK, blank, colours, wrapped
from pcnet.report.results import Results

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Quantity:
    """One panel.

    Args:
        title: its heading.
        unit: label of its axis.
        column: of ``cost.csv``.
        text: how a value is written at the end of its bar.
        batch: the batch size whose rows are shown.
        high: column of the whisker's end; empty for none.
        divisor: what the column is divided by.
    """

    title: str
    unit: str
    column: str
    text: Callable[[float], str] = count
    batch: int = 1
    high: str = ""
    divisor: float = 1.0


def cost(results: Results) -> Figure | None:
    """Horizontal bars on log axes: latency (whisker to the 90th percentile), operations, depth, parameters, memory."""
    names = [name for name in run.models(results) if name in set(results.cost["model"])]
    if not names:
        return None
    quantities = _quantities(int(results.cost["batch"].max()))
    figure = blank(12.5, 2 * (1.3 + 0.4 * len(names)))
    figure.get_layout_engine().set(hspace=0.08)
    panels = figure.subplots(2, 3, sharey=True).ravel()
    palette = colours(run.models(results))
    for axes, quantity in zip(panels, quantities):
        _bars(axes, results, names, quantity, [palette[name] for name in names])
    for axes in panels[len(quantities) :]:
        axes.set_visible(False)
    return figure


def _quantities(largest: int) -> list[Quantity]:
    latency = {"column": "latency_p50_ms", "text": milliseconds, "high": "latency_p90_ms"}
    return [
        Quantity("latency, one sequence", "milliseconds", **latency),
        Quantity(f"latency, batch of {largest}", "milliseconds a batch", **latency, batch=largest),
        Quantity("sequential depth", "dependent matrix products", "sequential_depth"),
        Quantity("operations, one sequence", "FLOPs", "flops"),
        Quantity("parameters", "count", "parameters"),
        Quantity(f"peak memory, batch of {largest}", "MiB", "peak_bytes", batch=largest, divisor=MEBIBYTE),
    ]


def _bars(axes: Axes, results: Results, names: list[str], quantity: Quantity, palette: list[str]) -> None:
    rows = pd.DataFrame([run.cost_row(results, name, quantity.batch) for name in names])
    values = rows[quantity.column].to_numpy(float) / quantity.divisor
    ends = np.fmax(values, rows[quantity.high].to_numpy(float)) if quantity.high else values
    low, high = _decades(values, ends)
    axes.barh(range(len(names)), np.where(values > 0, values, np.nan), left=0, color=palette, height=0.62)
    for row, (value, end) in enumerate(zip(values, ends)):
        if quantity.high and end > 0:
            axes.plot([value, end], [row, row], color=INK, lw=1.4, marker="|", ms=7, markevery=[1])
        words = {"textcoords": "offset points", "va": "center", "fontsize": 10}
        axes.annotate(
            quantity.text(value), (end if end > 0 else low, row), (5, 0), color=INK if end > 0 else GREY, **words
        )
    axes.set(xscale="log", xlim=(low, high), ylim=(len(names) - 0.5, -0.5), xlabel=quantity.unit, title=quantity.title)
    log_ticks(axes.xaxis, count)
    axes.set_yticks(range(len(names)), [wrapped(name, 22) for name in names])
    axes.tick_params(axis="y", length=0, labelsize=11)


def _decades(values: np.ndarray, ends: np.ndarray) -> tuple[float, float]:
    """Limits that begin at a power of ten well below every bar and leave room for the numbers at their ends."""
    shown = values[values > 0]
    if not len(shown):
        return 0.1, 10.0
    low = 10.0 ** np.floor(np.log10(shown.min() / 2))
    return low, low * (np.nanmax(ends) / low) ** 1.35
