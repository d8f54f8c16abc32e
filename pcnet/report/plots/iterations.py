"""Predictive coding while it infers: score, excess loss and decoded beliefs after each number of iterations."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from pcnet.report import results as run
from pcnet.report.plots.scale import LABEL, log_ticks, score_scale
from pcnet.report.plots.simplex import FEWER_POINTS, Canvas, canvas, marker_area
from pcnet.report.plots.style import GREY, blank, colours, ink, label_ends
from pcnet.report.results import EQUILIBRIUM, WEIGHTS, Results

FEWEST_PANELS, MOST_PANELS = 5, 8


def iterations(results: Results) -> Figure | None:
    """Score and excess loss over inference iterations, and below them what the decoded beliefs look like by then."""
    names = run.iterative(results)
    curves = {"score": _scores(results, names), "excess": _excess(results, names)}
    labels = run.iterations(label for curve in curves.values() for line in curve.values() for label in line.index)
    if len(labels) < 2:
        return None
    shared = canvas(results, FEWER_POINTS // 2)
    strips = [name for name in names if shared and run.decoded_iterations(results, name)]
    figure = blank(12.5, 4.4 + 1.85 * len(strips))
    parts = figure.subfigures(1 + len(strips), 1, height_ratios=[4.4] + [1.85] * len(strips), squeeze=False)[:, 0]
    _panels(parts[0], curves, labels, colours(run.models(results)))
    for part, name in zip(parts[1:], strips):
        _strip(part, results, name, shared)
    return figure


def _scores(results: Results, names: list[str]) -> dict[str, pd.Series]:
    """Score of each model by iteration label."""
    seen = run.iterations(results.probes["iteration"])
    return {
        name: pd.Series(
            {label: run.score(run.headline(results, name, WEIGHTS[0], iteration=label)) for label in seen}, dtype=float
        ).dropna()
        for name in names
    }


def _excess(results: Results, names: list[str]) -> dict[str, pd.Series]:
    seen = run.iterations(results.excess["iteration"])
    return {
        name: pd.Series({label: run.excess_loss(results, name, label) for label in seen}, dtype=float).dropna()
        for name in names
    }


def _panels(part: SubFigure, curves: dict, labels: list[str], palette: dict[str, str]) -> None:
    left, right = part.subplots(1, 2)
    scale = score_scale(np.concatenate([line.to_numpy() for line in curves["score"].values()]))
    placed = {name: pd.Series(scale.place(line.to_numpy()), line.index) for name, line in curves["score"].items()}
    scale.dress(left.yaxis)
    left.set(title="belief in the values", ylabel=LABEL)
    right.set(title="loss of the prediction", yscale="log", ylabel="excess loss (nats per token)")
    positive = {name: line[line > 0] for name, line in curves["excess"].items()}
    for axes, lines in ((left, placed), (right, positive)):
        _lines(axes, lines, labels, palette)
    log_ticks(right.yaxis, "{:g}".format)


def _lines(axes: Axes, lines: dict[str, pd.Series], labels: list[str], palette: dict[str, str]) -> None:
    """One line a model; the equilibrium stands apart and is reached by a dotted stretch."""
    at = {label: i + 0.6 * (label == EQUILIBRIUM) for i, label in enumerate(labels)}
    if not any(len(line) for line in lines.values()):
        axes.text(0.5, 0.5, "not there yet", transform=axes.transAxes, ha="center", color=GREY)
    for name, line in lines.items():
        x = np.array([at[label] for label in line.index])
        counted = np.array([label != EQUILIBRIUM for label in line.index], bool)
        axes.plot(x, line, color=palette[name], lw=1.2, ls=":")
        axes.plot(x[counted], line[counted], color=palette[name], marker="o", ms=5)
        axes.plot(x[~counted], line[~counted], color=palette[name], marker="D", ms=7)
    axes.set_xticks(list(at.values()), list(at))
    axes.set(xlabel="inference iterations per token", xlim=(-0.35, max(at.values()) + 0.35))
    axes.grid(axis="y")
    label_ends(axes, {n: (at[s.index[-1]], float(s.iloc[-1])) for n, s in lines.items() if len(s)}, palette)


def _strip(part: SubFigure, results: Results, model: str, shared: Canvas) -> None:
    """One row of simplex panels: the fractal coming into focus."""
    counted = run.decoded_iterations(results, model)
    keep = np.unique(np.linspace(0, len(counted) - 1, min(MOST_PANELS - 1, len(counted))).round().astype(int))
    shown = [(counted[i], f"iteration{counted[i]}") for i in keep] + [(EQUILIBRIUM, "trained")]
    panels = part.subplots(1, max(FEWEST_PANELS, len(shown)), squeeze=False)[0]
    for axes, (label, kind) in zip(panels, shown):
        shared.panel(axes, run.decoded(results, model, kind), size=marker_area(len(shared.rows), 0.45, 7))
        axes.set_title(_after(label), loc="center", fontsize=10, fontweight="normal", pad=0)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    part.suptitle(
        model, x=0.01, ha="left", fontsize=11, fontweight="bold", color=ink(colours(run.models(results))[model])
    )


def _after(label: str) -> str:
    return label if label == EQUILIBRIUM else f"after {label}"
