"""The picture of `pcnet probe`: every site's score among its controls, and the beliefs it holds beside the exact ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pcnet.report.headlines import fixed
from pcnet.report.plots.simplex import belief_colours, marker_area, thinned
from pcnet.report.plots.style import GREY, INK, LIGHT, PALETTE, blank, ink, save, styled, wrapped
from pcnet.report.process.beliefs import TRIANGLE

MOST_POINTS, MOST_SITES = 6000, 24
SHORTEST_HELD_OUT = 4
SITE, TOKENS, CHANCE = PALETTE[0], PALETTE[3], GREY
LOWEST = -0.2
"""Scores below stand at the edge."""
ROOM = 0.6
"""How far decoded beliefs may lie outside the exact ones and still be drawn in place, in extents of the latter."""


@dataclass(frozen=True, eq=False)
class Paper:
    """Which beliefs are drawn, where and in which colour.

    Args:
        rows: those drawn.
        colours: of each.
        corners: where each pure state is drawn.
        origin: belief that stands at the origin.
        labels: of the axes; empty for the triangle.
        limits: lowest and highest x, lowest and highest y.
    """

    rows: Int[NDArray, " n"]
    colours: Float[NDArray, "n 3"]
    corners: Float[NDArray, "S 2"]
    origin: Float[NDArray, " S"]
    labels: tuple[str, str]
    limits: tuple[float, float, float, float]

    @classmethod
    def of(cls, beliefs: Float[NDArray, "N S"], lengths: Int[NDArray, " N"]) -> Self:
        """The triangle for three states; for more the first two principal coordinates of the exact beliefs.

        Args:
            beliefs: exact ones, at least three states.
            lengths: words that were never held out aren't drawn.
        """
        held = np.flatnonzero(lengths >= SHORTEST_HELD_OUT)
        rows = held[thinned(lengths[held], MOST_POINTS)]
        if beliefs.shape[1] == 3:
            corners, origin, labels = TRIANGLE, np.zeros(3), ("", "")
        else:
            corners, origin, labels = _principal(beliefs[held])
        points = corners if not labels[0] else (beliefs[rows] - origin) @ corners
        low, high = points.min(0), points.max(0)
        margin = 0.1 * max(*(high - low), 1e-6)
        limits = (low[0] - margin, high[0] + margin, low[1] - margin, high[1] + margin)
        return cls(rows, belief_colours(beliefs[rows]), corners, origin, labels, limits)

    def place(self, beliefs: Float[NDArray, "N S"]) -> Float[NDArray, "n 2"]:
        """Where the drawn rows of these stand."""
        return (beliefs[self.rows] - self.origin) @ self.corners

    def widened(self, clouds: list[Float[NDArray, "N S"]]) -> Self:
        """With room for clouds that reach beyond the exact beliefs, within reason."""
        points = np.concatenate([self.place(cloud) for cloud in clouds])
        left, right, bottom, top = self.limits
        extent = max(right - left, top - bottom)
        room, margin = ROOM * extent, 0.03 * extent
        (low_x, low_y), (high_x, high_y) = points.min(0) - margin, points.max(0) + margin
        limits = (
            min(left, max(low_x, left - room)),
            max(right, min(high_x, right + room)),
            min(bottom, max(low_y, bottom - room)),
            max(top, min(high_y, top + room)),
        )
        return type(self)(self.rows, self.colours, self.corners, self.origin, self.labels, limits)


@styled()
def draw_probe(
    summary: pd.DataFrame,
    answers: Mapping[str, str],
    title: str,
    lengths: Int[NDArray, " N"],
    exact: Float[NDArray, "N S"] | None,
    decoded: Mapping[str, Float[NDArray, "N S"] | None],
    folder: Path,
) -> Path:
    """Draw ``probe.png`` and ``probe.svg``: a row for each site.

    Args:
        summary: of sites and controls: site, control, label, r2, r2_min, r2_max. Controls that stand beside every site
            have an empty site; a site's own score has an empty control.
        answers: of the verdict, by site; empty without one.
        title: what was decoded, in words.
        lengths: tokens that each row has seen.
        exact: beliefs; None where none are drawn.
        decoded: what each site's probe reads out, held out.
        folder: where the files go.

    Returns:
        The PNG.
    """
    sites = [site for site in dict.fromkeys(summary["site"]) if site]
    shown = sites[:MOST_SITES]
    columns = 1 if exact is None else 2 if exact.shape[1] == 2 else 3
    controls = len(_rows_of(summary, shown[0]))
    figure = blank(6.6 + 4.2 * (columns - 1), len(shown) * max(3.6, 0.27 * controls + 1.1) + 0.6)
    grid = figure.add_gridspec(len(shown), columns, width_ratios=[1.35, 1, 1][:columns])
    left = max(LOWEST, float(summary["r2_min"].min())) - 0.02
    paper = None
    if exact is not None and columns == 3:
        paper = Paper.of(exact, lengths).widened([decoded[site] for site in shown])
    for row, site in enumerate(shown):
        axes = figure.add_subplot(grid[row, 0])
        _scores(axes, _rows_of(summary, site), left)
        answer = f"; verdict: {answers[site]}" if site in answers else ""
        axes.set_title(wrapped(site, 40) + answer)
        if columns == 2:
            _agreement(figure.add_subplot(grid[row, 1]), exact, decoded[site], lengths)
        elif paper is not None:
            _cloud(figure.add_subplot(grid[row, 1]), paper, decoded[site], "decoded beliefs")
            _cloud(figure.add_subplot(grid[row, 2]), paper, exact, "exact beliefs")
    others = f" (the first {len(shown)} of {len(sites)} sites; all are in summary.csv)" * (len(sites) > len(shown))
    if exact is not None:
        drawn = "held-out rows, at most" if columns == 2 else "held-out rows coloured by their exact belief, at most"
        figure.supxlabel(f"points: {drawn} {MOST_POINTS:,}", x=0.99, ha="right", fontsize=10, color=GREY)
    figure.suptitle(f"Held-out R² of {title}{others}", x=0.01, ha="left", fontsize=14, fontweight="bold")
    return save(figure, folder, "probe")


def _rows_of(summary: pd.DataFrame, site: str) -> pd.DataFrame:
    """A site, what it is together with the next-token law, then its controls, the hardest first."""
    own, shared = summary[summary["site"] == site], summary[summary["site"] == ""]
    first = own[(own["control"] == "") | own["control"].str.contains("+", regex=False)]
    others = pd.concat([shared, own.drop(first.index)])
    return pd.concat([first, others.sort_values("r2", ascending=False, kind="stable")], ignore_index=True)


def _scores(axes: Axes, rows: pd.DataFrame, left: float) -> None:
    axes.set_xlim(left, 1.02)
    axes.axvline(max(left, rows["r2"].iloc[0]), color=SITE, lw=1, ls=(0, (4, 2)), zorder=1)
    for place, row in enumerate(rows.itertuples()):
        colour, marker = _look(row)
        hollow = {"mfc": "white", "mew": 1.8} if row.site and "+" in row.control else {}
        ends = np.clip([row.r2_min, row.r2_max], left, None)
        axes.plot(ends, [place, place], color=colour, lw=5, alpha=0.4, solid_capstyle="butt")
        axes.plot(max(left, row.r2), place, marker, ms=6.5, color=colour, clip_on=False, zorder=3, **hollow)
        number = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "annotation_clip": False}
        weight = "bold" if not row.control else "normal"
        axes.annotate(
            fixed(row.r2, 3),
            (1, place),
            (8, 0),
            color=ink(colour),
            fontsize=10,
            fontweight=weight,
            va="center",
            **number,
        )
    axes.set_yticks(range(len(rows)), rows["label"])
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_xlabel("held-out R² (median; bar: range over fold seeds)")


def _look(row: tuple) -> tuple[str, str]:
    """Colour and marker: of the site, of what tokens give away, of chance."""
    if row.control == "" or "+" in row.control:
        return SITE, "o"
    if not row.site:
        return TOKENS, "D"
    return CHANCE, "X" if row.control.startswith("shuffled") else "s"


def _principal(beliefs: Float[NDArray, "N S"]) -> tuple[NDArray, NDArray, tuple[str, str]]:
    """The first two principal axes, their origin and names."""
    origin = beliefs.mean(0)
    variances, axes = np.linalg.eigh(np.cov(beliefs.T))
    shares = np.clip(variances[::-1], 0, None) / max(variances.sum(), np.finfo(float).tiny)
    names = tuple(f"principal coordinate {k + 1} ({shares[k]:.0%} of variance)" for k in range(2))
    return axes[:, ::-1][:, :2], origin, names


def _cloud(axes: Axes, paper: Paper, beliefs: Float[NDArray, "N S"], title: str) -> None:
    points = paper.place(beliefs)
    left, right, bottom, top = paper.limits
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xlabel=paper.labels[0], ylabel=paper.labels[1])
    axes.set_title(title, loc="center", pad=16)
    distinct = len(np.unique(points.round(4), axis=0))
    axes.scatter(*points.T, s=marker_area(distinct, 0.8, 36), c=paper.colours, lw=0, rasterized=True)
    outside = np.count_nonzero((points < [left, bottom]).any(1) | (points > [right, top]).any(1))
    if outside:
        axes.annotate(f"{outside:,} of {len(points):,} outside", (0.99, 0.01), xycoords="axes fraction", ha="right")
    if paper.labels[0]:
        return
    axes.fill(*paper.corners.T, facecolor="none", edgecolor=LIGHT, lw=1, zorder=0)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for state, (x, y) in enumerate(paper.corners):
        side = {"va": "bottom", "xytext": (0, 9)} if y > 0.5 else {"va": "top", "xytext": (0, -12)}
        halo = {"boxstyle": "square,pad=0.1", "facecolor": (1, 1, 1, 0.8), "edgecolor": "none"}
        note = {"textcoords": "offset points", "ha": "center", "fontsize": 10, "annotation_clip": False, "bbox": halo}
        axes.annotate(f"state {state}", (x, y), **side, **note)


def _agreement(
    axes: Axes, exact: Float[NDArray, "N S"], decoded: Float[NDArray, "N S"], lengths: Int[NDArray, " N"]
) -> None:
    """Two states: one number, decoded against exact."""
    held = np.flatnonzero(lengths >= SHORTEST_HELD_OUT)
    rows = held[thinned(lengths[held], MOST_POINTS)]
    axes.axline((0, 0), slope=1, color=INK, lw=1, ls=(0, (4, 2)), zorder=1)
    axes.scatter(exact[rows, 1], decoded[rows, 1], s=marker_area(len(rows), 2, 20), color=SITE, alpha=0.6, lw=0)
    axes.set(xlabel="exact belief in state 1", ylabel="decoded belief in state 1")
    axes.set_title("decoded beside exact", loc="center")
    axes.grid()
