"""Distance against time and against iterations."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes

from comparisons.kept import save_picture
from comparisons.solvers.minima import GOAL
from comparisons.solvers.points import LINEAR
from comparisons.solvers.race import DEFAULT, DEMANDED, ERRORS, PLAIN, VALUES

STYLE = {
    DEFAULT: ("#D55E00", "-"),
    ERRORS: ("#0072B2", "-"),
    VALUES: ("#000000", "-"),
    PLAIN: ("#000000", ":"),
    "Newton-CG, preconditioned": ("#009E73", "-"),
    "Newton-CG": ("#E69F00", "-."),
    "Anderson in errors": ("#56B4E9", "--"),
    "Anderson in values": ("#CC79A7", "--"),
    "Euler in errors": ("#0072B2", ":"),
    "Heun in values": ("#999999", ":"),
}
"""Colours that the colour-blind tell apart, with dashes."""
FLOOR, CEILING = GOAL / 500, 1.0
"""Distances beyond are drawn here."""


def draw(traces: pd.DataFrame, path: Path) -> None:
    """Every solver, at the widest network of the depth that was demanded (the deepest, where it was not run)."""
    tanh = traces[traces.weights != LINEAR]
    widest = tanh[tanh.width == tanh.width.max()]
    depth = DEMANDED if DEMANDED in set(widest.depth) else widest.depth.max()
    shown = widest[(widest.depth == depth) & (widest.batch == widest.batch.max())]
    kinds = list(shown.weights.unique())
    size = (max(9.0, 3.3 * len(kinds) + 0.6), 7.4)
    figure, grid = pyplot.subplots(2, len(kinds), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for column, kind in enumerate(kinds):
        part = shown[shown.weights == kind]
        curves(grid[0, column], part.milliseconds, part, "time (ms)")
        curves(grid[1, column], 1 + part.iteration, part, "1 + iterations")
        grid[0, column].set_title(kind, fontsize=14)
    for row in grid:
        row[0].set_ylabel("distance to equilibrium\n(rms, worst node group)", fontsize=13)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=13)
    figure.suptitle(
        f"tanh networks, depth {depth}, width {shown.width.max()}, batch {shown.batch.max()}; grey line: arrived",
        fontsize=14,
    )
    save_picture(figure, path)


def curves(axes: Axes, across: pd.Series, part: pd.DataFrame, label: str) -> None:
    """One line for every solver, a dot where it arrived."""
    for name, (colour, dashes) in STYLE.items():
        chosen = part[part.solver == name]
        x, y = across[chosen.index], chosen.distance.clip(FLOOR, CEILING)
        axes.plot(x, y, dashes, color=colour, lw=3.2 if name == DEFAULT else 2.0, label=name)
        arrived = y <= GOAL
        axes.plot(x[arrived], y[arrived], "o", color=colour, ms=7)
    axes.axhline(GOAL, color="#888888", lw=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(FLOOR / 2, 1.5 * CEILING)
    axes.set_xlabel(label, fontsize=13)
    axes.tick_params(labelsize=12)
    axes.spines[["top", "right"]].set_visible(False)
