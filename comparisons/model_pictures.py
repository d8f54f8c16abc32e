"""How models are named, coloured, ordered and drawn wherever they stand side by side, site by site."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from comparisons.kept import save_picture

NAMES = {
    "transformer": "transformer",
    "gru": "GRU",
    "temporal_pc": "PC, implicit",
    "temporal_pc_nudged": "PC, nudged",
    "temporal_pc_local": "PC, local",
}
COLOURS = defaultdict(lambda: "black", zip(NAMES, ("#0072B2", "#009E73", "#D55E00", "#CC79A7", "#7F7F7F"), strict=True))


def by_model(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows by process and in the order of the models, else as they come."""
    order = {model: number for number, model in enumerate(NAMES)}
    return rows.sort_values(
        ["process", "model"], key=lambda words: words.map(order) if words.name == "model" else words
    )


def spread(values: pd.Series, digits: int = 3) -> str:
    """Median, with the range where there are several; a dash where there is none."""
    if values.isna().all():
        return "-"
    text = f"{values.median():.{digits}f}"
    return text if len(values) < 2 else f"{text} ({values.min():.{digits}f} to {values.max():.{digits}f})"


def short(site: str) -> str:
    """A site as a tick label."""
    words = site.replace("blocks.", "block ").replace("layers.", "level ").replace("cells.", "cell ")
    words = words.replace(".resid_post", "").replace(".hidden", "").replace(".", " ")
    return words.replace("all activation", "all layers")


@dataclass(frozen=True)
class Picture:
    """A row of panels per process: on the left by site, on the right by inference iteration.

    Args:
        titles: of the two columns.
        score: the column that is drawn of untrained copies, and over iterations.
        frame: given axes and a process's rows, draws what belongs to the process: reference lines, limits, the label.
        mark: given axes, a place, the rows of a site, their colour and a label or None, draws the trained model.
    """

    titles: tuple[str, str]
    score: str
    frame: Callable[[Axes, pd.DataFrame], None]
    mark: Callable[[Axes, int, pd.DataFrame, str, str | None], None]

    def draw(self, table: pd.DataFrame, path: Path) -> None:
        """Draw a table with the columns process, model, site, iteration, copy and those that are drawn."""
        found = list(dict.fromkeys(table["process"]))
        if not found:
            return
        page, grid = pyplot.subplots(
            len(found), 2, figsize=(13, 3.9 * len(found)), squeeze=False, layout="constrained", width_ratios=(3, 2)
        )
        for panels, process in zip(grid, found, strict=True):
            rows = by_model(table[table["process"] == process])
            for axes in panels:
                self.frame(axes, rows)
                axes.spines[["top", "right"]].set_visible(False)
            self._by_site(panels[0], rows[rows["iteration"] == "equilibrium"])
            self._by_iteration(panels[1], rows[rows["copy"] == "trained"])
        for axes, title in zip(grid[0], self.titles, strict=True):
            axes.set_title(title, fontsize=11)
        finish(page, grid[0, 0], path)

    def _by_site(self, axes: Axes, rows: pd.DataFrame) -> None:
        """Trained models as they are marked, untrained copies as bars from least to largest."""
        sites = list(dict.fromkeys(zip(rows["model"], rows["site"], strict=True)))
        labelled = set()
        for x, (model, site) in enumerate(sites):
            here, colour = rows[(rows["model"] == model) & (rows["site"] == site)], COLOURS[model]
            self.mark(
                axes, x, here[here["copy"] == "trained"], colour, None if model in labelled else NAMES.get(model, model)
            )
            labelled.add(model)
            copies = here[here["copy"] == "untrained"][self.score]
            axes.vlines(x + 0.25, copies.min(), copies.max(), color=colour, lw=6, alpha=0.35)
            axes.plot(x + 0.25, copies.max(), "_", color=colour, ms=8)
        names = [short(site) for _, site in sites]
        axes.set_xticks(range(len(sites)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)

    def _by_iteration(self, axes: Axes, rows: pd.DataFrame) -> None:
        """All values and all errors of predictive-coding networks; bands are ranges over training seeds."""
        rows = rows[rows["site"].isin(["all value", "all error"]) & (rows["iteration"] != "equilibrium")]
        steps = rows.assign(step=rows["iteration"].astype(int))
        for (model, site), part in steps.groupby(["model", "site"], sort=False):
            curve = part.groupby("step")[self.score].agg(["median", "min", "max"])
            curve.index += 1
            band(axes, curve, COLOURS[model], "-" if site == "all value" else ":")
        axes.set_xscale("log", base=2)
        axes.set_xticks([1, 2, 3, 5, 9, 17, 33, 65, 129], [0, 1, 2, 4, 8, 16, 32, 64, 128])
        axes.set_xlabel("inference iterations (Momentum) at the last token")


def point(axes: Axes, x: float, values: pd.Series, colour: str, label: str | None, face: str | None = None) -> None:
    """The median, and the range over training seeds as a line."""
    axes.vlines(x, values.min(), values.max(), color=colour, lw=2)
    axes.plot(x, values.median(), "o", ms=7, color=colour, mfc=face or colour, zorder=3, label=label)


def band(axes: Axes, curve: pd.DataFrame, colour: str, style: str, label: str | None = None) -> None:
    """The median as a line, and the range."""
    axes.plot(curve.index, curve["median"], style, marker=".", color=colour, label=label)
    axes.fill_between(curve.index, curve["min"], curve["max"], color=colour, alpha=0.2, lw=0)


def finish(page: Figure, first: Axes, path: Path) -> None:
    """Save a page with the legend of its first panel below."""
    handles, labels = first.get_legend_handles_labels()
    page.legend(handles, labels, loc="outside lower center", ncol=4, frameon=False)
    save_picture(page, path, dpi=130)
