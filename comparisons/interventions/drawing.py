"""Table and figure of what was measured."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes

from comparisons.interventions.bench import ALL, LEAST, NEXT, RANDOM, SHUFFLED, WHOLE
from comparisons.kept import save_picture

HEADLINES = ("all positions to block 1", "hidden units", "level 1 clamped")
COLOURS = {LEAST: "#0072B2", RANDOM: "#7F7F7F", SHUFFLED: "#E69F00", NEXT: "#CC79A7"}
MARKERS = {LEAST: "o", RANDOM: "x", SHUFFLED: "s", NEXT: "^"}
MODEL_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")


def table(rows: pd.DataFrame, losses: pd.DataFrame) -> pd.DataFrame:
    """A line per place: R2 of the whole move for the next 1 and the next few tokens, and its controls."""
    lines = []
    farthest = rows.horizon.max()
    for (process, model, place, pairs), part in rows[rows.dose == 1.0].groupby(
        ["process", "model", "place", "pairs"], sort=False
    ):
        lost = losses[(losses.process == process) & (losses.model == model) & (losses.place == place)]
        nats = lost.groupby("ablated").divergence.mean()
        last = part[part.horizon == farthest]
        lines.append(
            {
                "process": process,
                "model": model,
                "state": place,
                "pairs": f"{pairs} ({part['count'].iloc[0]})",
                "R2, next 1": r2(part[part.horizon == 1], LEAST),
                f"R2, next {farthest} (95 %)": interval(last, LEAST),
                "least of 1.." + str(farthest): f"{part[part.edit == LEAST].r2.min():.3f}",
                **{name: r2(last, name) for name in (WHOLE, "pattern", "pseudo-inverse", "optimised")},
                "random (range)": spread(last),
                **{name: r2(last, name) for name in (SHUFFLED, NEXT)},
                "nats lost: nothing, random, belief ablated": ", ".join(
                    f"{nats[name]:.4f}" for name in ("nothing", RANDOM, "belief")
                ),
            }
        )
    return pd.DataFrame(lines)


def r2(part: pd.DataFrame, edit: str) -> str:
    values = part[part.edit == edit].r2
    return "-" if values.isna().all() else f"{values.mean():.3f}"


def interval(part: pd.DataFrame, edit: str) -> str:
    row = part[part.edit == edit].iloc[0]
    return f"{row.r2:.3f} ({row.low:.3f} to {row.high:.3f})"


def spread(part: pd.DataFrame) -> str:
    values = part[part.edit == RANDOM].r2
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"


def figure(rows: pd.DataFrame, path: Path) -> None:
    """A row for each process and kind of pairs: dose-response curves of every model, then R2 over horizons."""
    shown = rows[rows.place.isin(HEADLINES) | rows.place.str.startswith("all positions")]
    kinds = list(dict.fromkeys(zip(shown.process, shown.pairs, strict=True)))
    kinds = [kind for kind in kinds if kind[1] == ALL or kind[0] != "mess3"]
    models = list(dict.fromkeys(shown.model))
    page, grid = pyplot.subplots(
        len(kinds),
        len(models) + 1,
        figsize=(3.5 * (len(models) + 1), 3.2 * len(kinds) + 0.8),
        layout="constrained",
        squeeze=False,
    )
    for axes_row, (process, pairs) in zip(grid, kinds, strict=True):
        part = shown[(shown.process == process) & (shown.pairs == pairs)]
        for axes, model in zip(axes_row, models, strict=False):
            own = part[part.model == model]
            if len(own):
                draw_doses(axes, own)
            else:
                axes.set_axis_off()
            place = own.place.iloc[0] if len(own) else "left out"
            axes.set_title(f"{process}: {model}\n{place}", fontsize=11)
        axes_row[0].set_ylabel(f"pairs: {pairs}\nshare of the exact change", fontsize=11)
        draw_horizons(axes_row[-1], part, models)
        axes_row[-1].set_title(f"{process}: whole move\npairs: {pairs}", fontsize=11)
    for axes in grid[-1, :-1]:
        axes.set_xlabel("dose (1 = the other belief)", fontsize=11)
    grid[-1, -1].set_xlabel("tokens ahead", fontsize=11)
    handles = dict(zip(*reversed(grid[0, 0].get_legend_handles_labels()), strict=True))
    handles |= dict(zip(*reversed(grid[0, -1].get_legend_handles_labels()), strict=True))
    page.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False, fontsize=11
    )
    save_picture(page, path)


def draw_doses(axes: Axes, part: pd.DataFrame) -> None:
    """How much of the exact change of the farthest joint law the model makes, for every dose; bands span random seeds."""
    farthest = part[part.horizon == part.horizon.max()]
    top = part.dose.max()
    axes.plot([0, top], [0, top], color="black", lw=1, ls="--", label="exact")
    for edit, colour in COLOURS.items():
        chosen = farthest[farthest.edit == edit]
        share = chosen.realised * chosen.dose  # of the whole change; the table's is of the dose's own
        own = share.groupby(chosen.dose).agg(["mean", "min", "max"])
        if len(own):
            x = [0.0, *own.index]
            axes.plot(x, [0.0, *own["mean"]], color=colour, marker=MARKERS[edit], ms=5, lw=1.5, label=edit)
            axes.fill_between(x, [0.0, *own["min"]], [0.0, *own["max"]], color=colour, alpha=0.25, lw=0)
    axes.set_ylim(-0.6, 1.65)
    axes.spines[["top", "right"]].set_visible(False)


def draw_horizons(axes: Axes, part: pd.DataFrame, models: list[str]) -> None:
    """R2 of the whole move, with intervals."""
    axes.axhline(0, color="black", lw=0.8)
    axes.axhline(0.9, color="black", lw=0.8, ls=":")
    for place, (model, colour) in enumerate(zip(models, MODEL_COLOURS, strict=False)):
        own = part[(part.model == model) & (part.edit == LEAST) & (part.dose == 1.0)].dropna(subset=["r2"])
        spread = [np.maximum(own.r2 - own.low, 0), np.maximum(own.high - own.r2, 0)]
        x = own.horizon + 0.12 * (place - (len(models) - 1) / 2)
        axes.errorbar(x, own.r2, yerr=spread, color=colour, marker="osD^v"[place], ms=5, capsize=2.5, label=model)
    axes.set_ylim(
        min(-0.1, math.floor(10 * np.nanmin([0.0, *part[(part.edit == LEAST) & (part.dose == 1.0)].low])) / 10), 1.05
    )
    axes.set_ylabel("R2 of the change (joint law)", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
