"""Loss over training: how far each model is above what can be known, and its loss beside the floor."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcnet.report import results as run
from pcnet.report.headlines import fixed
from pcnet.report.plots.scale import log_ticks
from pcnet.report.plots.style import INK, blank, colours, label_ends
from pcnet.report.results import Results

MILLION = 1e6


def training(results: Results) -> Figure | None:
    """Excess loss (log) and loss against tokens seen, a line for each training seed, named at its end."""
    rows = results.training.dropna(subset=["tokens", "loss"])
    if rows.empty:
        return None
    positive = rows[rows["excess"] > 0]
    figure = blank(12.5, 4.6)
    left, right = figure.subplots(1, 2)
    palette = colours(run.models(results))
    _curves(left, positive, "excess", palette)
    _exact(left, results, rows, palette)
    _curves(right, rows, "loss", palette)
    _dress_excess(left)
    _dress_loss(right, rows)
    for axes in (left, right):
        axes.set_xlim(0, 1.03 * rows["tokens"].max() / MILLION)
    label_ends(left, _ends(positive, "excess"), palette)
    label_ends(right, _ends(rows, "loss"), palette)
    return figure


def _curves(axes: Axes, rows: pd.DataFrame, name: str, palette: dict[str, str]) -> None:
    for (model, _), line in rows.groupby(["model", "seed"], dropna=False, sort=False):
        axes.plot(line["tokens"] / MILLION, line[name], color=palette[model], lw=1.5, alpha=0.9)


def _exact(axes: Axes, results: Results, rows: pd.DataFrame, palette: dict[str, str]) -> None:
    """A diamond at the end of each finished model's line: its exact excess at the equilibrium."""
    for model, line in rows.groupby("model", sort=False):
        exact = run.excess_loss(results, model)
        if exact > 0:
            end = line["tokens"].max() / MILLION
            axes.plot([end], [exact], "D", ms=6, mfc="white", mec=palette[model], mew=1.6, zorder=5, clip_on=False)


def _ends(rows: pd.DataFrame, name: str) -> dict[str, tuple[float, float]]:
    """Where each model's longest line ends."""
    last = rows.loc[rows.groupby("model", sort=False)["tokens"].idxmax()] if len(rows) else rows
    return {row["model"]: (row["tokens"] / MILLION, row[name]) for _, row in last.iterrows()}


def _dress_excess(axes: Axes) -> None:
    axes.set(yscale="log", xlabel="tokens seen (million)", ylabel="excess loss (nats per token)")
    axes.set_title("above the exact Bayesian observer")
    log_ticks(axes.yaxis, "{:g}".format)
    axes.grid(axis="y")


def _dress_loss(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set(xlabel="tokens seen (million)", ylabel="loss (nats per token)")
    axes.set_title("loss and its floor")
    floor = float(rows["floor"].median())
    if not np.isnan(floor):
        axes.axhline(floor, color=INK, lw=1.2, ls=(0, (4, 3)))
        note = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "top", "color": INK}
        axes.annotate(f"floor {fixed(floor, 4)} nats", (0.02, floor), (0, -4), fontsize=10, **note)
        top = max(float(rows["loss"].max()), floor + 1e-3)
        axes.set_ylim(floor - 0.12 * (top - floor), top + 0.04 * (top - floor))
