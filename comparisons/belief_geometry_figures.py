"""Figures of ``comparisons.belief_geometry``."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes

from comparisons.kept import save_picture

COLOURS = {
    "transformer": "#0072B2",
    "gru": "#009E73",
    "temporal_pc": "#D55E00",
    "temporal_pc_nudged": "#CC79A7",
    "temporal_pc_local": "#7F7F7F",
}
NAMES = {
    "transformer": "transformer",
    "gru": "GRU",
    "temporal_pc": "PC, implicit",
    "temporal_pc_nudged": "PC, nudged",
    "temporal_pc_local": "PC, local",
}


def draw(table: pd.DataFrame, known: pd.DataFrame, path: Path) -> None:
    """A row per process: by site, and by inference iteration."""
    table = table[table["weights"] == "equal"]
    found = list(dict.fromkeys(table["process"]))
    page, grid = pyplot.subplots(
        len(found), 2, figsize=(13, 3.9 * len(found)), squeeze=False, layout="constrained", width_ratios=(3, 2)
    )
    for (left, right), process in zip(grid, found, strict=True):
        rows = table[table["process"] == process]
        lowest = max(-0.05, min(0.0, rows["r2"].min()))
        for axes in (left, right):
            reference_lines(axes, known[known["process"] == process])
            axes.set_ylim(lowest, 1.03)
            axes.set_ylabel(f"{process}: held-out R²")
            axes.spines[["top", "right"]].set_visible(False)
        by_site(left, rows[rows["iteration"] == "equilibrium"])
        by_iteration(right, rows[rows["part"].isin(["value", "error"])])
    grid[0, 0].set_title(
        "Filled: belief. Hollow: its part beyond the next-token law. Bars: belief, untrained", fontsize=11
    )
    grid[0, 1].set_title("All values (solid), all errors (dotted)", fontsize=11)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    page.legend(handles, labels, loc="outside lower center", ncol=4, frameon=False)
    save_picture(page, path, dpi=130)


def reference_lines(axes: Axes, known: pd.DataFrame) -> None:
    for name, style in (("next-token law, R2", "--"), ("shuffled beliefs, R2", ":")):
        value = known[known["reference"] == name]["value"].iloc[0]
        axes.axhline(value, color="black", lw=1, ls=style, label=name.removesuffix(", R2"))


def by_model(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the models, else as they come."""
    return rows.sort_values("model", key=lambda names: names.map(list(NAMES).index), kind="stable")


def by_site(axes: Axes, rows: pd.DataFrame) -> None:
    """Trained models as points (range over seeds as a line), untrained copies as bars from least to best."""
    rows = by_model(rows)
    places = list(dict.fromkeys(zip(rows["model"], rows["site"], strict=True)))
    for x, (model, site) in enumerate(places):
        here = rows[(rows["model"] == model) & (rows["site"] == site)]
        label = NAMES[model] if x == [name for name, _ in places].index(model) else None
        for target, face in (("belief", COLOURS[model]), ("beyond the law", "white")):
            trained = here[(here["copy"] == "trained") & (here["target"] == target)]["r2"]
            if len(trained):
                axes.vlines(x, trained.min(), trained.max(), color=COLOURS[model], lw=2)
                axes.plot(x, trained.median(), "o", ms=7, color=COLOURS[model], mfc=face, zorder=3, label=label)
                label = None
        bare = here[here["copy"].str.startswith("untrained") & (here["target"] == "belief")]["r2"]
        axes.vlines(x + 0.25, bare.min(), bare.max(), color=COLOURS[model], lw=6, alpha=0.35)
        axes.plot(x + 0.25, bare.max(), "_", color=COLOURS[model], ms=8)
    axes.set_xticks(
        range(len(places)),
        [short(site) for _, site in places],
        rotation=60,
        ha="right",
        rotation_mode="anchor",
        fontsize=8,
    )


def by_iteration(axes: Axes, rows: pd.DataFrame) -> None:
    """All values and all errors of predictive-coding networks; the band is the range over seeds."""
    rows = rows[
        rows["site"].isin(["all value", "all error"]) & (rows["copy"] == "trained") & (rows["target"] == "belief")
    ]
    steps = rows[rows["iteration"] != "equilibrium"].assign(step=lambda part: part["iteration"].astype(int))
    for (model, site), part in steps.groupby(["model", "site"], sort=False):
        curve = part.groupby("step")["r2"].agg(["median", "min", "max"])
        style = "-" if site == "all value" else ":"
        axes.plot(1 + curve.index, curve["median"], style, marker=".", color=COLOURS[model])
        axes.fill_between(1 + curve.index, curve["min"], curve["max"], color=COLOURS[model], alpha=0.2, lw=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 2, 3, 5, 9, 17, 33, 65, 129], [0, 1, 2, 4, 8, 16, 32, 64, 128])
    axes.set_xlabel("inference iterations (Momentum) at the last token")


def draw_learning(table: pd.DataFrame, known: pd.DataFrame, path: Path) -> None:
    """A panel per process: all values, the last stream and the hidden state against optimiser steps."""
    found = list(dict.fromkeys(table["process"]))
    page, grid = pyplot.subplots(
        1, len(found), figsize=(max(9.2, 4.6 * len(found)), 4.3), squeeze=False, layout="constrained", sharey=True
    )
    table = by_model(table[table["weights"] == "equal"])
    for axes, process in zip(grid[0], found, strict=True):
        reference_lines(axes, known[known["process"] == process])
        for model, rows in table[table["process"] == process].groupby("model", sort=False):
            last = [site for site in rows["site"].unique() if not site.startswith("all ")][-1]
            here = rows[rows["site"] == ("all value" if "all value" in set(rows["site"]) else last)]
            for target, style in (("belief", "-"), ("beyond the law", ":")):
                curve = here[here["target"] == target].groupby("step")["r2"].agg(["median", "min", "max"])
                label = NAMES[model] if target == "belief" else None
                axes.plot(curve.index, curve["median"], style, marker=".", color=COLOURS[model], label=label)
                axes.fill_between(curve.index, curve["min"], curve["max"], color=COLOURS[model], alpha=0.2, lw=0)
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xlim(left=0)
        axes.set_ylim(-0.05, 1.03)
        axes.set_title(process)
        axes.set_xlabel("optimiser steps")
        axes.spines[["top", "right"]].set_visible(False)
    grid[0, 0].set_ylabel("held-out R²")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    page.legend(handles, labels, loc="outside lower center", ncol=4, frameon=False)
    page.suptitle("Belief (solid) and its part beyond the next-token law (dotted); bands: training seeds", fontsize=11)
    save_picture(page, path, dpi=130)


def short(site: str) -> str:
    """A site as a tick label."""
    words = site.replace("blocks.", "block ").replace("layers.", "level ").replace("cells.", "cell ")
    words = words.replace(".resid_post", "").replace(".hidden", "").replace(".", " ")
    return words.replace("all activation", "all layers")


def draw_shapes(folder: Path, path: Path) -> None:
    """What is found without ground truth, laid over the exact beliefs by an affine map for the eye only."""
    found = sorted(folder.glob("*-0-trained.npz"))
    processes = sorted({file.name.split("-")[0] for file in found})
    models = [name for name in NAMES if any(file.name.split("-")[1] == name for file in found)]
    page, grid = pyplot.subplots(
        len(processes),
        len(models) + 2,
        figsize=(2.3 * (len(models) + 2), 2.5 * len(processes)),
        squeeze=False,
        layout="constrained",
    )
    for line, process in zip(grid, processes, strict=True):
        files = {model: folder / f"{process}-{model}-0-trained.npz" for model in models}
        files["untrained"] = folder / f"{process}-gru-0-untrained.npz"
        for axes, (name, file) in zip(line[1:], files.items(), strict=True):
            if file.is_file():
                exact, seen = laid_over(np.load(file))
                scatter(axes, seen, exact)
                scatter(line[0], exact, exact)
            axes.set_title(NAMES.get(name, "GRU, untrained"), fontsize=10)
        line[0].set_title("exact beliefs", fontsize=10)
        line[0].set_ylabel(process)
    page.suptitle("Found from activations and the model's own predictions, without knowing the process", fontsize=11)
    page.supxlabel("first two principal axes of the exact beliefs; colour: place in the exact picture", fontsize=9)
    save_picture(page, path, dpi=130)


def laid_over(arrays: np.lib.npyio.NpzFile) -> tuple[np.ndarray, np.ndarray]:
    """Exact beliefs on their first two principal axes, and the coordinates found, by least squares on those."""
    beliefs, blind = arrays["beliefs"], arrays["blind"]
    centred = beliefs - beliefs.mean(axis=0)
    exact = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    design = np.concatenate([blind, np.ones((len(blind), 1))], axis=1)
    return exact, design @ np.linalg.lstsq(design, exact, rcond=None)[0]


def scatter(axes: Axes, points: np.ndarray, exact: np.ndarray) -> None:
    unit = (exact - exact.min(axis=0)) / np.ptp(exact, axis=0)
    colours = np.stack([unit[:, 0], 0.25 + 0.5 * unit[:, 1], 1 - unit[:, 0]], axis=1).clip(0, 1)
    axes.scatter(*points.T, s=5, c=colours, alpha=0.6, lw=0)
    margin = 0.3 * np.ptp(exact, axis=0)
    axes.set_xlim(exact[:, 0].min() - margin[0], exact[:, 0].max() + margin[0])
    axes.set_ylim(exact[:, 1].min() - margin[1], exact[:, 1].max() + margin[1])
    axes.set_xticks([])
    axes.set_yticks([])
