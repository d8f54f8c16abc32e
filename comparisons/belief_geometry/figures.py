"""Figures of ``comparisons.belief_geometry``."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes

from comparisons.every_site import Look
from comparisons.kept import save_picture
from comparisons.model_pictures import COLOURS, NAMES, Picture, band, by_model, finish, point

PLACE = ["process", "model", "copy", "seed", "site", "part", "iteration"]
"""Columns that say where a score belongs."""


def draw(table: pd.DataFrame, known: pd.DataFrame, path: Path) -> None:
    """A row per process: by site, and by inference iteration."""
    rows = table[table["weights"] == "equal"]
    wide = rows.pivot_table("r2", PLACE, "target", sort=False).reset_index()
    titles = (
        "Filled: belief. Hollow: its part beyond the next-token law. Bars: belief, untrained",
        "All values (solid), all errors (dotted)",
    )
    Picture(titles, "belief", partial(frame, known), mark).draw(wide, path)


def frame(known: pd.DataFrame, axes: Axes, rows: pd.DataFrame) -> None:
    """Reference lines, limits and label of a panel."""
    process = rows["process"].iloc[0]
    reference_lines(axes, known[known["process"] == process])
    axes.set_ylim(max(-0.05, min(0.0, rows.drop(columns=PLACE).min(axis=None))), 1.03)
    axes.set_ylabel(f"{process}: held-out R²")


def reference_lines(axes: Axes, known: pd.DataFrame) -> None:
    """Scores of the exact law and of shuffled beliefs."""
    for name, style in (("next-token law, R2", "--"), ("shuffled beliefs, R2", ":")):
        for value in known[known["reference"] == name]["value"]:
            axes.axhline(value, color="black", lw=1, ls=style, label=name.removesuffix(", R2"))


def mark(axes: Axes, x: int, trained: pd.DataFrame, colour: str, label: str | None) -> None:
    """The belief filled, its part beyond the law hollow."""
    point(axes, x, trained["belief"], colour, label)
    if "beyond the law" in trained and trained["beyond the law"].notna().any():
        point(axes, x, trained["beyond the law"], colour, None, "white")


def draw_learning(table: pd.DataFrame, known: pd.DataFrame, path: Path) -> None:
    """A panel per process: all values, the last stream and the hidden state against optimiser steps."""
    table = by_model(table[table["weights"] == "equal"])
    found = list(dict.fromkeys(table["process"]))
    if not found:
        return
    page, grid = pyplot.subplots(
        1, len(found), figsize=(max(9.2, 4.6 * len(found)), 4.3), squeeze=False, layout="constrained", sharey=True
    )
    for axes, process in zip(grid[0], found, strict=True):
        reference_lines(axes, known[known["process"] == process])
        for model, rows in table[table["process"] == process].groupby("model", sort=False):
            draw_steps(axes, rows, model)
        axes.set_xscale("symlog", linthresh=10)
        axes.set(xlim=(0, None), ylim=(-0.05, 1.03), title=process, xlabel="optimiser steps")
        axes.spines[["top", "right"]].set_visible(False)
    grid[0, 0].set_ylabel("held-out R²")
    page.suptitle("Belief (solid) and its part beyond the next-token law (dotted); bands: training seeds", fontsize=11)
    finish(page, grid[0, 0], path)


def draw_steps(axes: Axes, rows: pd.DataFrame, model: str) -> None:
    """A model's headline site against optimiser steps."""
    here = rows[rows["headline"]]
    for target, style in (("belief", "-"), ("beyond the law", ":")):
        curve = here[here["target"] == target].groupby("step")["r2"].agg(["median", "min", "max"])
        band(axes, curve, COLOURS[model], style, NAMES.get(model, model) if target == "belief" else None)


def arrays_file(files: Path, which: Look) -> Path:
    """Where the run keeps what `draw_shapes` draws of a model."""
    return files / "arrays" / f"{which.label}.npz"


def draw_shapes(table: pd.DataFrame, files: Path) -> None:
    """What is found without ground truth, laid over the exact beliefs by an affine map for the eye only.

    Args:
        table: says which models there are; of each the one with the least seed is drawn.
        files: the run's folder.
    """
    seeds = by_model(table).groupby(["process", "model", "copy"], sort=False)["seed"].min().to_dict()
    processes, models = (list(dict.fromkeys(key[part] for key in seeds if key[2] == "trained")) for part in (0, 1))
    if not processes:
        return
    shown = {NAMES.get(model, model): (model, "trained") for model in models} | {"GRU, untrained": ("gru", "untrained")}
    size = (2.3 * (len(shown) + 1), 2.5 * len(processes))
    page, grid = pyplot.subplots(len(processes), len(shown) + 1, figsize=size, squeeze=False, layout="constrained")
    for line, process in zip(grid, processes, strict=True):
        for axes, (title, key) in zip(line[1:], shown.items(), strict=True):
            if (process, *key) in seeds:
                exact, seen = laid_over(np.load(arrays_file(files, Look(process, *key, seeds[process, *key]))))
                scatter(axes, seen, exact)
                scatter(line[0], exact, exact)
            axes.set_title(title, fontsize=10)
        line[0].set_title("exact beliefs", fontsize=10)
        line[0].set_ylabel(process)
    page.suptitle("Found from activations and the model's own predictions, without knowing the process", fontsize=11)
    page.supxlabel("first two principal axes of the exact beliefs; colour: place in the exact picture", fontsize=9)
    save_picture(page, files / "without_truth.png", dpi=130)


def laid_over(arrays: np.lib.npyio.NpzFile) -> tuple[np.ndarray, np.ndarray]:
    """Exact beliefs on their first two principal axes, and the coordinates found, by least squares on those."""
    beliefs, blind = arrays["beliefs"], arrays["blind"]
    centred = beliefs - beliefs.mean(axis=0)
    exact = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    design = np.concatenate([blind, np.ones((len(blind), 1))], axis=1)
    return exact, design @ np.linalg.lstsq(design, exact, rcond=None)[0]


def scatter(axes: Axes, points: np.ndarray, exact: np.ndarray) -> None:
    """Points coloured by their place in the exact picture, in its frame."""
    unit = (exact - exact.min(axis=0)) / np.ptp(exact, axis=0)
    colours = np.stack([unit[:, 0], 0.25 + 0.5 * unit[:, 1], 1 - unit[:, 0]], axis=1).clip(0, 1)
    axes.scatter(*points.T, s=5, c=colours, alpha=0.6, lw=0)
    margin = 0.3 * np.ptp(exact, axis=0)
    ends = np.transpose([exact.min(axis=0) - margin, exact.max(axis=0) + margin])
    axes.set(xlim=ends[0], ylim=ends[1], xticks=[], yticks=[])
