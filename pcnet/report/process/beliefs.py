"""Where an observer's beliefs lie: on the simplex of three states, or on the two main axes of a larger one."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pcnet.report.plots.simplex import belief_colours, marker_area
from pcnet.report.plots.style import GREY, LIGHT

TRIANGLE = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
WEIGHT = "probability, mean over context lengths"
NEGLIGIBLE = 1e-12
"""Variance that counts as none."""
MOST_NAMES = 9
"""Pure states that are named in a projection."""


@dataclass(frozen=True)
class Projection:
    """Beliefs in two dimensions.

    Args:
        points: where each is drawn.
        corners: where each pure state would be; none for a generalised process.
        labels: what the axes are; empty where the picture has none.
    """

    points: Float[NDArray, "N 2"]
    corners: Float[NDArray, "S 2"]
    labels: tuple[str, str]


def project(beliefs: Float[NDArray, "N S"], weights: Float[NDArray, " N"], states: bool) -> Projection:
    """The triangle for three states, the interval for two; else the two principal axes, weighted by probability.

    Args:
        beliefs: of a hidden Markov model, or vectors of a generalised one.
        weights: how probable each is.
        states: whether the beliefs are laws of a state.
    """
    weights = weights / weights.sum()
    if states and beliefs.shape[1] == 3:
        return Projection(beliefs @ TRIANGLE, TRIANGLE, ("", ""))
    if states and beliefs.shape[1] == 2:
        corners = np.array([[0.0, 0.0], [1.0, 0.0]])
        return Projection(np.stack([beliefs[:, 1], weights], axis=1), corners, ("belief in state 1", WEIGHT))
    mean = weights @ beliefs
    centred = beliefs - mean
    variances, axes = np.linalg.eigh((centred * weights[:, None]).T @ centred)
    shares = np.clip(variances[::-1], 0, None) / max(variances.sum(), np.finfo(float).tiny)
    shares = np.append(shares * (variances.sum() > NEGLIGIBLE), 0.0)[:2]
    plane = np.zeros((beliefs.shape[1], 2))
    plane[:, : len(variances)] = axes[:, ::-1][:, :2]
    plane *= shares > NEGLIGIBLE
    labels = [f"principal axis {k + 1} ({share:.0%} of variance)" for k, share in enumerate(shares)]
    corners = (np.eye(len(mean)) - mean) @ plane if states else np.empty((0, 2))
    return Projection(centred @ plane, corners, tuple(labels))


def draw_beliefs(
    axes: Axes, beliefs: Float[NDArray, "N S"], weights: Float[NDArray, " N"], laws: Float[NDArray, "N V"], states: bool
) -> None:
    """Draw a point for each belief, the larger the more probable.

    Args:
        axes: gets limits.
        beliefs: distinct ones.
        weights: how probable each is.
        laws: of the next token in each; colours the vectors of a generalised process, which are no mixtures of states.
        states: whether the beliefs are laws of a state, whose colours they then mix.
    """
    shown = project(beliefs, weights, states)
    colours = belief_colours(beliefs if states else stretched(laws, weights))
    order = np.argsort(-weights, kind="stable")  # rare ones on top, as they are smaller
    areas = _areas(weights, len(np.unique(shown.points.round(4), axis=0)))
    if not any(shown.labels):
        axes.fill(*TRIANGLE.T, facecolor="none", edgecolor=LIGHT, lw=1, zorder=0)
    if shown.labels[1] == WEIGHT:
        axes.vlines(shown.points[:, 0], 0, shown.points[:, 1], color=LIGHT, lw=1, zorder=0)
    axes.scatter(*shown.points[order].T, s=areas[order], c=colours[order], lw=0, rasterized=True)
    _frame(axes, shown)


def stretched(laws: Float[NDArray, "N V"], weights: Float[NDArray, " N"]) -> Float[NDArray, "N V"]:
    """Laws moved away from their mean, all by the same factor, as far as they stay laws: so that colours differ."""
    mean = weights @ laws / weights.sum()
    lowest = (laws - mean).min(0)
    room = np.divide(mean, -lowest, where=lowest < -NEGLIGIBLE, out=np.full(len(mean), np.inf)).min()
    return np.clip(mean + (laws - mean) * (room if np.isfinite(room) else 1), 0, 1)


def _areas(weights: Float[NDArray, " N"], places: int) -> Float[NDArray, " N"]:
    """Areas of the markers in square points: by probability where there are few places, else by how many there are."""
    least = marker_area(places, 0.8, 14)
    return np.maximum(least, 160 * (weights / weights.max()) ** 0.75 * min(1, 40 / places))


def _frame(axes: Axes, shown: Projection) -> None:
    if not any(shown.labels):
        axes.set(xlim=(-0.1, 1.1), ylim=(-0.13, 0.99), aspect="equal", xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        _name_corners(axes, shown.corners)
        return
    axes.set(xlabel=shown.labels[0], ylabel=shown.labels[1])
    if shown.labels[1] == WEIGHT:
        axes.set(xlim=(-0.04, 1.04), ylim=(0, 1.12 * shown.points[:, 1].max()))
        return
    _square(axes, shown)


def _square(axes: Axes, shown: Projection) -> None:
    """Equal scales on both axes, and the pure states that are in sight."""
    low, high = shown.points.min(0), shown.points.max(0)
    centre, half = (low + high) / 2, 0.6 * max(high - low)
    if half < NEGLIGIBLE:
        axes.set(xlabel="there is one belief only", ylabel="", xticks=[], yticks=[])
        return
    axes.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half), aspect="equal")
    seen = shown.corners[(np.abs(shown.corners - centre) < half).all(1)]
    if len(seen) == len(shown.corners) <= MOST_NAMES:
        axes.scatter(*seen.T, marker="+", s=60, color=GREY, lw=1, zorder=0)
        _name_corners(axes, seen, apart=0.16 * half)


def _name_corners(axes: Axes, corners: Float[NDArray, "S 2"], apart: float = 0.0) -> None:
    """Name the pure states beside where they would be; those that stand together share a name."""
    near = np.linalg.norm(corners[:, None] - corners, axis=2) <= apart + NEGLIGIBLE
    for state in range(len(corners)):
        shared = np.flatnonzero(near[state])
        if shared[0] == state or not near[state, :state].any():
            _name(axes, corners[shared].mean(0), shared, up=corners[state, 1] > corners[:, 1].mean())


def _name(axes: Axes, place: Float[NDArray, " 2"], states: Int[NDArray, " n"], up: bool) -> None:
    text = f"state{'s' * (len(states) > 1)} {', '.join(map(str, states))}"
    offset, side = ((0, 9), "bottom") if up else ((0, -10), "top")
    halo = {"boxstyle": "square,pad=0.1", "facecolor": (1, 1, 1, 0.75), "edgecolor": "none"}
    axes.annotate(text, place, offset, textcoords="offset points", ha="center", va=side, fontsize=10, bbox=halo)
