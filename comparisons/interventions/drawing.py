"""Figure of what was measured."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from comparisons.interventions.plan import DRAWN, LEAST, NEXT, RANDOM, SHUFFLED, SUBSPACE
from comparisons.kept import save_picture

EDITS = {
    LEAST: ("#0072B2", "o", "-"),
    SUBSPACE: ("#CC3311", "^", "--"),
    NEXT: ("#009E73", "D", ":"),
    SHUFFLED: ("#E69F00", "s", "-."),
    RANDOM: ("#555555", "", "-"),
}
"""Colour, marker and line of each."""
LOWEST = -0.45
"""R2 below this is drawn there."""
SIZE = 13


def figure(rows: pd.DataFrame, path: Path) -> None:
    """For each process and kind of pairs a row of dose-response curves, a model each, and below it R2 over horizons."""
    shown = rows[rows.place.str.startswith(DRAWN)].dropna(subset=["r2"])
    kinds = list(dict.fromkeys(zip(shown.process, shown.pairs, strict=True)))
    models = list(dict.fromkeys(shown.model))
    if not models:
        return
    page = pyplot.figure(figsize=(3.1 * len(models) + 0.6, 5.4 * len(kinds) + 0.6), layout="constrained")
    blocks = page.subfigures(len(kinds), 1, squeeze=False, hspace=0.02)[:, 0]
    with pyplot.rc_context({"font.size": SIZE - 1, "axes.titlesize": SIZE, "axes.labelsize": SIZE}):
        for block, (process, pairs) in zip(blocks, kinds, strict=True):
            part = shown[(shown.process == process) & (shown.pairs == pairs)]
            block.suptitle(f"{process}, pairs: {pairs}", fontsize=SIZE + 2, fontweight="bold")
            draw_kind(block, part, models)
        handles, labels = blocks[0].axes[0].get_legend_handles_labels()
        page.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=SIZE)
    save_picture(page, path)


def draw_kind(block: SubFigure, part: pd.DataFrame, models: list[str]) -> None:
    """Two rows of panels with the same axes: shares by dose, R2 by horizon."""
    grid = block.subplots(2, len(models), sharey="row", squeeze=False)
    for (upper, lower), model in zip(grid.T, models, strict=True):
        own = part[part.model == model]
        if len(own):
            draw_doses(upper, own)
            draw_horizons(lower, own)
        title = f"{model}\n{own.place.iloc[0] if len(own) else 'left out'}"
        upper.set(title=title, xlabel="dose (1 = the other belief)")
        lower.set(xlabel="joint law of the next ... tokens")
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)
    grid[0, 0].set(ylabel="share of the\nexact change", ylim=(-0.5, 1.65))
    grid[1, 0].set(ylabel="R2 of the change", ylim=(LOWEST - 0.05, 1.08))


def draw_doses(axes: Axes, part: pd.DataFrame) -> None:
    """How much of the exact change of the farthest joint law the model makes.

    The band spans the random subspaces of which all doses were measured, the bar at the whole move all of them.
    """
    farthest = part[part.horizon == part.horizon.max()]
    top = part.dose.max()
    axes.plot([0, top], [0, top], color="black", lw=1, ls=(0, (1, 2)), label="exact")
    for edit in EDITS:
        chosen = farthest[farthest.edit == edit]
        share = chosen.realised * chosen.dose  # of the whole change; the table's is of the dose's own
        always = chosen.groupby("number").dose.transform("nunique") == chosen.dose.nunique()
        found = share[always].groupby(chosen.dose).agg(["median", "min", "max"])
        if len(found):
            draw_edit(axes, edit, np.r_[0.0, found.index], np.vstack([np.zeros(3), found.to_numpy()]))
        if edit == RANDOM:
            axes.vlines(1.0, *share[chosen.dose == 1.0].agg(["min", "max"]), color=EDITS[edit][0], lw=4, alpha=0.6)


def draw_horizons(axes: Axes, part: pd.DataFrame) -> None:
    """R2 of the whole move: the belief's with its 95 % interval, those of the random subspaces from least to largest."""
    axes.axhline(0, color="black", lw=0.8)
    axes.axhline(0.9, color="black", lw=0.8, ls=(0, (1, 2)))
    whole = part[part.dose == 1.0]
    for edit in EDITS:
        own = whole[whole.edit == edit]
        found = own.r2.clip(lower=LOWEST).groupby(own.horizon).agg(["median", "min", "max"])
        if len(found):
            draw_edit(axes, edit, found.index.to_numpy(), found.to_numpy())
    belief = whole[whole.edit == LEAST]
    spread = [np.maximum(belief.r2 - belief.low, 0), np.maximum(belief.high - belief.r2, 0)]
    axes.errorbar(belief.horizon, belief.r2, yerr=spread, color=EDITS[LEAST][0], fmt="none", capsize=3, lw=1.5)
    horizons = sorted(part.horizon.unique())
    axes.set(xticks=horizons, xlim=(horizons[0] - 0.3, horizons[-1] + 0.3))


def draw_edit(axes: Axes, edit: str, x: np.ndarray, middle_and_ends: np.ndarray) -> None:
    """A line; with a band where there are several."""
    colour, marker, line = EDITS[edit]
    middle, low, high = middle_and_ends.T
    label = f"{edit} (median, least to largest)" if edit == RANDOM else edit
    look = {"ms": 9, "lw": 3.2} if edit == LEAST else {"ms": 5, "lw": 1.6}  # seen beneath what coincides with it
    if edit == RANDOM:
        axes.fill_between(x, low, high, color=colour, alpha=0.3, lw=0)
    axes.plot(x, middle, color=colour, marker=marker, ls=line, label=label, **look)
