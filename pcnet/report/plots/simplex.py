"""Beliefs in the plane: the simplex projected, coloured by the true belief, panel beside panel."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from pcnet.report import results as run
from pcnet.report.headlines import fixed
from pcnet.report.plots.style import GREY, LIGHT, blank, wrapped
from pcnet.report.results import WEIGHTS, Results

MOST_POINTS, FEWER_POINTS = 30_000, 15_000
ANCHORS = ("#D55E00", "#56B4E9", "#5B2A86", "#E69F00", "#000000", "#009E73", "#CC79A7", "#F0E442")
TO_CONES = np.array(  # linear sRGB to cone responses, and their cube roots to OKLab (Ottosson 2020)
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def belief_colours(beliefs: np.ndarray) -> np.ndarray:
    """Colour of each belief: its mixture of one anchor a state, mixed in OKLab, so that equal steps look equal.

    The first three anchors (vermillion, sky blue, dark purple) stay apart in lightness or hue for all common colour
    vision deficiencies. Beyond eight states anchors repeat.

    Args:
        beliefs: (N, S), rows on the simplex.

    Returns:
        (N, 3), sRGB between 0 and 1.
    """
    srgb = np.array([to_rgb(ANCHORS[state % len(ANCHORS)]) for state in range(beliefs.shape[1])])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    mixed = beliefs @ (np.cbrt(linear @ TO_CONES.T) @ TO_OKLAB.T)
    linear = np.clip((mixed @ np.linalg.inv(TO_OKLAB).T) ** 3 @ np.linalg.inv(TO_CONES).T, 0, 1)
    return np.clip(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055), 0, 1)


def thinned(lengths: np.ndarray, most: int) -> np.ndarray:
    """Which words are drawn: all of the short ones, and as many of each longer length as fit, at random (seed 0).

    Args:
        lengths: length of each word.
        most: how many words at most.

    Returns:
        Row numbers in random order, so that no length lies on top of the others.
    """
    generator = np.random.default_rng(0)
    rows = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
    chosen, left = [], most
    for i, group in enumerate(sorted(rows, key=len)):
        chosen.append(generator.permutation(group)[: left // (len(rows) - i)])
        left -= len(chosen[-1])
    return generator.permutation(np.concatenate(chosen)) if chosen else np.empty(0, int)


@dataclass(frozen=True)
class Plane:
    """A fixed linear map from beliefs to the plane, the same for every panel.

    Args:
        corners: (S, 2), where each pure state is drawn.
        limits: lowest and highest x and y shown.
    """

    corners: np.ndarray
    limits: tuple[float, float, float, float]

    def place(self, beliefs: np.ndarray) -> np.ndarray:
        """Positions (N, 2) of beliefs (N, S)."""
        return beliefs @ self.corners


def plane(beliefs: np.ndarray) -> Plane:
    """The equilateral triangle for three states; else the first two principal axes of the true beliefs."""
    if beliefs.shape[1] == 3:
        corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
        return Plane(corners, _limits(corners))
    axes = np.linalg.svd(beliefs - beliefs.mean(0), full_matrices=False)[2][:2]
    corners = np.zeros((beliefs.shape[1], 2))
    corners[:, : len(axes)] = axes.T
    return Plane(corners, _limits(beliefs @ corners))


def _limits(points: np.ndarray) -> tuple[float, float, float, float]:
    low, high = points.min(0), points.max(0)
    margin = 0.08 * max(*(high - low), 0.1)
    return low[0] - margin, high[0] + margin, low[1] - margin, high[1] + margin


@dataclass(frozen=True)
class Canvas:
    """What all panels of one run share: which words are drawn, where and in which colour.

    Args:
        beliefs: (N, S), the true ones.
        rows: words drawn.
        plane: the projection.
        colours: (len(rows), 3).
    """

    beliefs: np.ndarray
    rows: np.ndarray
    plane: Plane
    colours: np.ndarray

    def panel(self, axes: Axes, decoded: np.ndarray | None, size: float, named: bool = False) -> None:
        """Draw one cloud of beliefs, or say that it isn't there; on request with the names of the states."""
        low_x, high_x, low_y, high_y = self.plane.limits
        axes.set(xlim=(low_x, high_x), ylim=(low_y, high_y), aspect="equal", xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if len(self.plane.corners) == 3:
            axes.fill(*self.plane.corners.T, facecolor="none", edgecolor=LIGHT, lw=1, zorder=0)
        if named:
            _name_corners(axes, self.plane)
        if decoded is None or decoded.shape != self.beliefs.shape:
            axes.text(0.5, 0.4, "not there yet", transform=axes.transAxes, ha="center", color=GREY)
            return
        finite = np.isfinite(decoded[self.rows]).all(1)
        points = self.plane.place(decoded[self.rows[finite]])
        axes.scatter(*points.T, s=size, c=self.colours[finite], lw=0, marker="s" if size < 2 else "o", rasterized=True)


def _name_corners(axes: Axes, plane: Plane) -> None:
    """Write the names of the states that are in sight beside their corners; several may share one in a projection."""
    low_x, high_x, low_y, high_y = plane.limits
    places, inverse = np.unique(plane.corners.round(6), axis=0, return_inverse=True)
    for i, (x, y) in enumerate(places):
        if low_x <= x <= high_x and low_y <= y <= high_y:
            states = np.flatnonzero(inverse == i)
            text = f"state{'s' * (len(states) > 1)} {', '.join(map(str, states))}"
            up = y > (low_y + high_y) / 2
            note = {"textcoords": "offset points", "ha": "center", "va": "bottom" if up else "top", "fontsize": 10}
            axes.annotate(text, (x, y), (0, 5 if up else -6), annotation_clip=False, **note)


def canvas(results: Results, most: int) -> Canvas | None:
    """Prepare panels of at most so many words; None while the true beliefs aren't there."""
    truth = run.truth(results)
    if truth is None:
        return None
    rows = thinned(truth["lengths"], most)
    return Canvas(truth["beliefs"], rows, plane(truth["beliefs"]), belief_colours(truth["beliefs"][rows]))


KINDS = ("trained", "untrained", "shuffled")


def simplex(results: Results) -> Figure | None:
    """Ground truth at the left; a column a model: its decoded beliefs, its untrained copy, the shuffled control."""
    whole, shared = canvas(results, MOST_POINTS), canvas(results, FEWER_POINTS)
    names = [m for m in run.models(results) if any(_decoded(results, m, kind) is not None for kind in KINDS)]
    if whole is None or shared is None or not names:
        return None
    figure = blank(3.9 + 1.78 * len(names), 6.1)
    grid = figure.add_gridspec(3, 1 + len(names), width_ratios=[2.1] + [1] * len(names))
    truth = figure.add_subplot(grid[:, 0])
    distinct = len(np.unique(whole.beliefs[whole.rows].round(6), axis=0))
    whole.panel(truth, whole.beliefs, size=marker_area(distinct, 0.8, 45), named=True)
    truth.set_title("ground truth", loc="center")
    for column, model in enumerate(names, start=1):
        for row, kind in enumerate(KINDS):
            axes = figure.add_subplot(grid[row, column])
            shared.panel(axes, _decoded(results, model, kind), size=marker_area(len(shared.rows), 0.45, 9))
            _title(
                axes,
                wrapped(model) if row == 0 else "",
                _panel_score(results, model, kind),
                kind if column == 1 else "",
            )
    return figure


def _decoded(results: Results, model: str, kind: str) -> np.ndarray | None:
    return run.decoded_copy(results, model) if kind == "untrained" else run.decoded(results, model, kind)


def marker_area(points: int, least: float, most: float) -> float:
    """Area of a marker in square points: larger where there are few, within limits."""
    return min(most, least * max(1.0, 10_000 / max(1, points)))


def _panel_score(results: Results, model: str, kind: str) -> str:
    """The held-out score that belongs to a panel, as its second title line."""
    if kind == "trained":
        return f"R² {fixed(run.score(run.headline(results, model, WEIGHTS[0])), 3)}"
    if kind == "untrained":
        return f"best R² {fixed(run.copies(results, model, WEIGHTS[0]).max(), 3)}"
    return f"95th pct R² {fixed(run.shuffled(results, model, WEIGHTS[0]), 3)}"


def _title(axes: Axes, name: str, score: str, kind: str) -> None:
    axes.set_title(score, loc="center", fontsize=10, fontweight="normal", pad=0)
    if name:
        above = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
        axes.annotate(name, (0.5, 1), (0, 17), ha="center", va="bottom", fontweight="bold", fontsize=10, **above)
    if kind:
        axes.set_ylabel(kind, fontweight="bold", labelpad=8)
