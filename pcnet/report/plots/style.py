"""What every figure shares: colours, type, labels that don't overlap, and files that appear only when complete."""

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from pcnet.files import replace_file

DPI = 160
GREY, LIGHT, INK = "#6b6b6b", "#d5d5d5", "#222222"
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")  # Okabe & Ito
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "grid.color": "#e9e9e9",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold dollar signs
    "legend.frameon": False,
    "legend.fontsize": 10,
    "svg.hashsalt": "pcnet",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def styled() -> AbstractContextManager:
    """The style, for as long as the context lasts; matplotlib's own settings come back after it."""
    defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
    return matplotlib.rc_context(defaults | STYLE)


def blank(width: float, height: float) -> Figure:
    """An empty figure in inches, laid out so that nothing is cut off."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write ``name.svg`` and ``name.png``, each complete before it has its name; returns the path of the PNG."""
    figure.draw_without_rendering()
    whole = figure.get_tightbbox().padded(0.12)
    figure.set_layout_engine("none")  # laid out once, for both files
    for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": "pcnet"})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=DPI, bbox_inches=whole, metadata=metadata)
        path = replace_file(folder / f"{name}.{kind}", buffer.getvalue())
    return path


def colours(models: Sequence[str]) -> dict[str, str]:
    """The colour of each model: by its place in the run, the same in every figure."""
    return {model: PALETTE[i % len(PALETTE)] for i, model in enumerate(models)}


def ink(colour: str) -> tuple[float, ...]:
    """The colour darkened enough to read as text on white."""
    return tuple(0.62 * channel for channel in to_rgb(colour))


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """The positions nearest to the wanted ones (least squares) that stand at least a gap apart, in the same order.

    Args:
        wanted: where the labels would like to be.
        gap: the least distance between two neighbours.
        low: the lowest position allowed.
        high: the highest position allowed; exceeded only if the labels don't fit.
    """
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(order))
    level = np.clip(_monotone(np.asarray(wanted, float)[order] - steps), low, max(low, high - steps[-1:].sum()))
    placed = np.empty(len(order))
    placed[order] = level + steps
    return placed


def _monotone(values: np.ndarray) -> np.ndarray:
    """The nearest non-decreasing sequence: neighbours out of order are pooled at their mean."""
    pools: list[list[float]] = []
    for value in values:
        pools.append([value])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    return np.array([np.mean(pool) for pool in pools for _ in pool])


def wrapped(name: str, width: int = 15) -> str:
    """A model's name on as many lines as it needs, broken after underscores, hyphens and dots where there are any."""
    parts = re.findall(r"[^_.-]*[_.-]*", name)
    lines = [""]
    for part in filter(None, parts):
        pieces = [part[i : i + width] for i in range(0, len(part), width)]
        if len(lines[-1] + pieces[0]) <= width:
            lines[-1] += pieces.pop(0)
        lines.extend(pieces)
    return "\n".join(filter(None, lines))


def label_ends(axes: Axes, ends: Mapping[str, tuple[float, float]], palette: Mapping[str, str]) -> None:
    """Name each line at the right of the axes, level with its end and joined to it, without overlap.

    Args:
        axes: its limits must be final.
        ends: name and last point (in data coordinates) of each line.
        palette: colour of each name.
    """
    if not ends:
        return
    to_axes = axes.transData + axes.transAxes.inverted()
    points = np.array([to_axes.transform(point) for point in ends.values()])
    heights = spread(points[:, 1], gap=0.075, low=0.0, high=1.0)
    for name, (x, y), height in zip(ends, points, heights):
        leader = {"transform": axes.transAxes, "clip_on": False, "color": palette[name]}
        axes.plot([x, 1.015, 1.04], [y, height, height], lw=1, ls=":", **leader)
        axes.text(1.05, height, wrapped(name, 22), transform=axes.transAxes, color=ink(palette[name]), va="center")
