"""Scores with their controls: what each model reached, and what a sceptic gets without it."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcnet.report import results as run
from pcnet.report.headlines import fixed
from pcnet.report.plots.scale import LABEL, ScoreScale, score_scale
from pcnet.report.plots.style import GREY, INK, blank, colours, ink, wrapped
from pcnet.report.results import WEIGHTS, Results

LINES = {"last_token": "last token", "additive_history": "additive history", "next_token": "next-token law"}
STEP = 16  # points between the labels above a panel
TITLES = {"probability": "words weighted by probability", "equal": "words weighted equally"}


def scores(results: Results) -> Figure | None:
    """A row a model, a panel a weighting: score, untrained copies, shuffled beliefs; other controls as lines."""
    names = [m for m in run.models(results) if any(len(run.headline(results, m, w)) for w in WEIGHTS)]
    if not names:
        return None
    figure = blank(12.5, 2.3 + 0.6 * len(names))
    panels = figure.subplots(1, 2, sharey=True)
    scale = score_scale(_shown(results, names))
    for axes, weights in zip(panels, WEIGHTS):
        for row, model in enumerate(names):
            _model_row(axes, results, model, weights, row, scale)
        _dress(axes, names, scale)
        lines = _control_lines(axes, results, weights, scale)
        axes.set_title(TITLES[weights], pad=12 + STEP * lines)
    _legend(figure, panels[0])
    return figure


def _shown(results: Results, names: list[str]) -> list[float]:
    """Everything that the axis must hold; the controls' lines may stand at its end."""
    trained = [run.headline(results, m, w)["r2"].max() for m in names for w in WEIGHTS]
    copies = [run.copies(results, m, w) for m in names for w in WEIGHTS]
    shuffled = [run.shuffled(results, m, w) for m in names for w in WEIGHTS]
    return [*trained, *(c.min() for c in copies), *(c.max() for c in copies), *shuffled]


def _model_row(axes: Axes, results: Results, model: str, weights: str, row: int, scale: ScoreScale) -> None:
    colour = colours(run.models(results))[model]
    copies = run.copies(results, model, weights).dropna().to_numpy()
    axes.plot(scale.place(copies), np.full(len(copies), row), "o", ms=4.5, mfc="white", mec=colour, mew=1)
    if len(copies):
        axes.plot(scale.place(copies.max()), row, "o", ms=8, mfc="white", mec=colour, mew=2)
    axes.plot(scale.place(run.shuffled(results, model, weights)), row, "x", ms=7, color=GREY, mew=1.8, clip_on=False)
    _trained(axes, run.headline(results, model, weights), row, colour, scale)


def _trained(axes: Axes, rows: pd.DataFrame, row: int, colour: str, scale: ScoreScale) -> None:
    if rows.empty:
        return
    axes.plot(scale.place(rows["r2"].agg(["min", "max"]).to_numpy()), [row, row], color=colour, lw=4, alpha=0.45)
    score = run.score(rows)
    axes.plot(scale.place(score), row, "o", ms=9, color=colour)
    above = {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontweight": "bold"}
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    axes.annotate(fixed(score, 3), (scale.place(score), row), (0, 8), color=ink(colour), fontsize=10, bbox=box, **above)


def _dress(axes: Axes, names: list[str], scale: ScoreScale) -> None:
    scale.dress(axes.xaxis)
    axes.set_yticks(range(len(names)), [wrapped(name, 22) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.65)
    axes.tick_params(axis="y", length=0, labelsize=11)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_xlabel(LABEL)


def _control_lines(axes: Axes, results: Results, weights: str, scale: ScoreScale) -> int:
    """Vertical lines that end beside their labels, the leftmost highest, so that no line runs through a label.

    Returns:
        How many there are.
    """
    values = {control: run.score(run.headline(results, "", weights, control=control)) for control in LINES}
    found = sorted((value, control) for control, value in values.items() if not np.isnan(value))
    low, high = axes.get_xlim()
    for level, (value, control) in enumerate(reversed(found)):
        at = (float(scale.place(value)) - low) / (high - low)
        side, shift = ("left", 4) if at < 0.6 else ("right", -4)
        text = f"{LINES[control]} {fixed(value, 3)}" + " →" * (value > scale.ticks[-1])
        above = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
        axes.plot([at, at], [0, 1], transform=axes.transAxes, color=INK, lw=1, ls=(0, (4, 2)), zorder=1)
        stub = {"arrowstyle": "-", "color": INK, "lw": 1, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (at, 1), (0, 12 + STEP * level), arrowprops=stub, **above)
        axes.annotate(text, (at, 1), (shift, 8 + STEP * level), ha=side, va="center", fontsize=10, **above)
    return len(found)


def _legend(figure: Figure, axes: Axes) -> None:
    plain = {"ls": "none", "color": GREY}
    handles = [
        axes.plot([], [], "o", ms=9, **plain, label="trained, median")[0],
        axes.plot([], [], lw=4, alpha=0.45, color=GREY, label="range over folds and seeds")[0],
        axes.plot([], [], "o", ms=4.5, mfc="white", **plain, label="untrained copies")[0],
        axes.plot([], [], "o", ms=8, mfc="white", mew=2, **plain, label="the best of them")[0],
        axes.plot([], [], "x", ms=7, mew=1.8, **plain, label="shuffled beliefs, 95th percentile")[0],
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, handletextpad=0.5, columnspacing=1.8)
