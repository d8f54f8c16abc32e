"""The figure: time per step beside pcnet's, with its spread over the rounds."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from comparisons.library_speed.table import cores
from comparisons.library_speed.task import TASKS
from pcnet.files import whole

COLOURS = {"pcnet": "#0072B2", "jax": "#D55E00", "torch": "#009E73"}  # Okabe & Ito
MARKERS = {"pcnet": "D", "jax": "o", "torch": "s"}
NAMES = {"pcnet": "pcnet", "jax": "JAX libraries", "torch": "loops in torch"}
INK, GREY = "#222222", "#6b6b6b"
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "grid.color": "#e9e9e9",
    "legend.frameon": False,
    "svg.hashsalt": "pcnet",
}


def draw(summary: pd.DataFrame, path: Path) -> None:
    """A panel per task and number of threads."""
    timed = summary[summary.ratio.notna()]
    tasks, threads = timed.task.unique(), timed.threads.unique()
    rows = max(timed.groupby(["task", "threads"]).size(), default=1)
    with matplotlib.rc_context(matplotlib.rcParamsDefault | {"backend": matplotlib.get_backend()} | STYLE):
        figure = Figure(
            figsize=(1.2 + 5.4 * max(1, len(threads)), 1.2 + len(tasks) * (1.0 + 0.34 * rows)), layout="constrained"
        )
        panels = figure.subplots(max(1, len(tasks)), max(1, len(threads)), squeeze=False, sharex=True)
        for line, task in zip(panels, tasks):
            for panel, count in zip(line, threads):
                cell = timed[(timed.task == task) & (timed.threads == count)]
                rank(panel, cell.sort_values("ratio", ascending=False))
                shape, rest = TASKS[task].describe().split(", ", 1)
                panel.set_title(f"{task}, {cores(count)}: {shape}\n{rest}", fontsize=9)
        for panel in panels[-1]:
            panel.set_xlabel("time per training step, relative to pcnet")
        explain(figure, timed)
        with whole(path) as temporary:
            figure.savefig(temporary, dpi=160, facecolor="white", metadata={"Software": "pcnet"})


def rank(panel: Axes, cell: pd.DataFrame) -> None:
    """One panel: a row per implementation, slowest at the bottom."""
    heights = np.arange(len(cell))
    panel.set_xscale("log", base=2)
    panel.grid(axis="x")
    panel.axvline(1, color=COLOURS["pcnet"], linewidth=1)
    for height, (_, row) in zip(heights, cell.iterrows()):
        colour, hollow = COLOURS[row.family], bool(row.variant)
        panel.plot(
            [row.ratio_low, row.ratio_high], [height] * 2, color=colour, linewidth=5, alpha=0.35, solid_capstyle="butt"
        )
        face = "white" if hollow else colour
        panel.plot(
            row.ratio,
            height,
            MARKERS[row.family],
            color=colour,
            markerfacecolor=face,
            markersize=7,
            markeredgewidth=1.8,
        )
    base = cell[cell.implementation == "pcnet"]
    if len(base):
        panel.axvline(float(base.share_median.iloc[0]), color=GREY, linestyle=(0, (4, 3)), linewidth=1)
    panel.set_yticks(heights, [label + ("*" if variant else "") for label, variant in zip(cell.label, cell.variant)])
    panel.tick_params(axis="y", length=0, labelcolor=INK)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.margins(x=0.08, y=0.08)
    numbers = panel.twinx()
    numbers.set_ylim(panel.get_ylim())
    numbers.set_yticks(heights, [f"{row.ratio:.2f} ×   {duration(row.median_ms)}" for _, row in cell.iterrows()])
    numbers.tick_params(axis="y", length=0, labelcolor=INK)


def duration(milliseconds: float) -> str:
    """Three digits and a unit."""
    return f"{milliseconds / 1000:.3g} s" if milliseconds >= 1000 else f"{milliseconds:.3g} ms"


def explain(figure: Figure, timed: pd.DataFrame) -> None:
    """A legend below everything."""
    shown = [family for family in COLOURS if family in set(timed.family)]
    entries = [
        Line2D([], [], color=COLOURS[f], marker=MARKERS[f], linestyle="", markersize=7, label=NAMES[f]) for f in shown
    ]
    entries.append(Line2D([], [], color=GREY, linewidth=5, alpha=0.35, label="10 to 90 % of rounds"))
    entries.append(
        Line2D([], [], color=GREY, linestyle=(0, (4, 3)), linewidth=1, label="plain loop at the matrix rate")
    )
    if timed.variant.astype(bool).any():
        entries.append(
            Line2D([], [], color=GREY, marker="o", markerfacecolor="white", linestyle="", label="* computes a variant")
        )
    figure.legend(
        handles=entries,
        loc="outside lower center",
        ncols=len(entries) if timed.threads.nunique() > 1 else 2,
        fontsize=9,
    )
