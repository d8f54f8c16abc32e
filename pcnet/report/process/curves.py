"""How the loss floor falls with context, and the eigenvalues that say how fast."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Complex, Float
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from numpy.typing import NDArray

from pcnet.report.plots.style import GREY, LIGHT, PALETTE

BLUE, ORANGE, GREEN, RED = PALETTE[:4]
SAME, CROWDED = 1e-6, 0.1
"""Eigenvalues closer than this share a point; nearer than this to another one there is no room for a label."""


def draw_floor(axes: Axes, floor: Float[NDArray, " lengths"], rate: tuple[float, float, float], excess: str) -> None:
    """Draw the floor at each context length, the entropy rate below it, and the excess entropy between them.

    Args:
        axes: gets a second scale in bits at its right.
        floor: h(0), h(1), ... in nats.
        rate: entropy rate in nats with its lowest and highest value, equal where it is exact; NaN if unknown.
        excess: what the legend says of the shaded area.
    """
    lengths = np.arange(len(floor))
    value, low, high = rate
    if math.isfinite(value):
        axes.bar(lengths, floor - value, 1.0, bottom=value, color=BLUE, alpha=0.18, lw=0, label=excess)
        if high - low > 1e-4 * max(floor[0], 1e-9):
            axes.axhspan(low, high, color=RED, alpha=0.25, lw=0, label=f"between {low:.4f} and {high:.4f}")
        axes.axhline(value, color=RED, ls="--", lw=1.5, label=f"entropy rate {value:.4f} nats")
    axes.plot(lengths, floor, "o-", color=BLUE, ms=5, label="loss floor h(L)")
    axes.set(xlabel="context length L, tokens", ylabel="uncertainty of next token, nats", xlim=(-0.6, len(floor) - 0.4))
    bottom = min(floor.min(), value if math.isfinite(value) else math.inf)
    span = max(floor.max() - bottom, 0.2)
    axes.set_ylim(bottom - 0.08 * span, floor.max() + 0.34 * span)  # the legend stands above everything
    axes.set_xticks(lengths[:: math.ceil(len(lengths) / 12)])
    axes.grid(axis="y")
    axes.secondary_yaxis(
        "right", functions=(lambda nats: nats / math.log(2), lambda bits: bits * math.log(2))
    ).set_ylabel("bits")
    axes.legend(loc="upper right")


def draw_spectrum(axes: Axes, eigenvalues: Complex[NDArray, " n"], slowest: complex | None) -> None:
    """Draw the eigenvalues in the complex plane with the unit circle; how often each occurs, where more than once.

    Args:
        axes: gets limits.
        eigenvalues: with repetitions.
        slowest: the one that decays last, ringed; none is where it is None or 0.
    """
    axes.axhline(0, color=LIGHT, lw=1, zorder=0)
    axes.axvline(0, color=LIGHT, lw=1, zorder=0)
    axes.add_patch(Circle((0, 0), 1, facecolor="none", edgecolor=GREY, lw=1, zorder=1))
    points, counts = distinct(eigenvalues)
    axes.scatter(points.real, points.imag, s=34, color=BLUE, lw=0, zorder=3, label="eigenvalue")
    for point, count in zip(points, counts):
        if count > 1 and np.sort(np.abs(points - point))[:2][-1] > CROWDED:
            axes.annotate(f"×{count}", (point.real, point.imag), (5, 4), textcoords="offset points", fontsize=9)
    if slowest:
        label = f"slowest decay, |λ| = {abs(slowest):.3f}"
        both = np.unique(np.array([slowest, np.conj(slowest)]))
        axes.scatter(both.real, both.imag, s=120, facecolor="none", edgecolor=RED, lw=1.8, zorder=4, label=label)
    axes.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.35), aspect="equal", xlabel="real part", ylabel="imaginary part")
    axes.legend(loc="upper center", ncols=2, columnspacing=1.0, handletextpad=0.3, borderaxespad=0.0)


def distinct(eigenvalues: Sequence[complex] | Complex[NDArray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues that differ, and how often each occurs."""
    points: list[complex] = []
    counts: list[int] = []
    for value in np.asarray(eigenvalues):
        near = next((k for k, point in enumerate(points) if abs(point - value) < SAME), None)
        if near is None:
            points.append(value)
            counts.append(1)
        else:
            counts[near] += 1
    return np.array(points), np.array(counts)
