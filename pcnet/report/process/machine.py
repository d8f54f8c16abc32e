"""A machine as a diagram: states on a circle, an arrow for each pair of them with the tokens that lead there."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from pcnet.report.plots.style import GREY, INK, LIGHT

MOST_STATES, MOST_ARROWS = 12, 40
"""States and arrows of a diagram, at most."""
FONT, LINE, GLYPH = 8.5, 1.25, 0.6
"""Size of a label in points; height of a line and width of a glyph in units of it."""

ENOUGH, BARELY = 0.05, 0.012
"""Distance from which on two labels count as far enough apart; by how much they may overlap."""
BOW = 0.25
"""How far from its chord, in units of it, an arrow is drawn out that has a counterpart."""
Colour = tuple[float, float, float]
Box = tuple[Float[NDArray, "... 2"], Float[NDArray, " 2"] | float]
"""Centre and half extent; or many centres."""


@dataclass(frozen=True)
class Arrow:
    """All ways to go from one state to another.

    Args:
        source: row of the state left.
        target: row of the state reached.
        label: a line for each token, with its probability.
    """

    source: int
    target: int
    label: str

    @property
    def is_loop(self) -> bool:
        """Whether it leads back to where it came from."""
        return self.source == self.target


@dataclass(frozen=True)
class Diagram:
    """A machine laid out, in units in which its states stand on a circle of radius 1.

    Args:
        places: of the states.
        radius: of a state.
        limit: half the side of the square that holds everything.
        curves: of the arrows, between the rims of their states.
        labels: centre and half extent of each arrow's label.
    """

    places: Float[NDArray, "S 2"]
    radius: float
    limit: float
    curves: dict[Arrow, Float[NDArray, "points 2"]]
    labels: dict[Arrow, Box]

    @property
    def readable(self) -> bool:
        """Whether no label lies upon another or on a state."""
        taken = [(place, 0.8 * self.radius) for place in self.places]
        for centre, half in self.labels.values():
            if _clearance(centre, half, taken) < -BARELY:
                return False
            taken.append((centre, half))
        return True


def arrows(matrices: Float[NDArray, "V S S"]) -> list[Arrow]:
    """The arrows of a machine, one for each pair of states with a token that leads from one to the other."""
    lines: dict[tuple[int, int], list[str]] = {}
    for source, target, token in zip(*np.nonzero(matrices.transpose(1, 2, 0))):
        text = f"{token}: {probability(matrices[token, source, target])}"
        lines.setdefault((int(source), int(target)), []).append(text)
    return [Arrow(*pair, "\n".join(texts)) for pair, texts in lines.items()]


def probability(value: float) -> str:
    """A probability as a simple fraction if it is one, else to four decimals."""
    simple = Fraction(float(value)).limit_denominator(12)
    if abs(simple - value) < 1e-9:
        return str(simple)
    if value < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.4f}".strip("0") if value < 0.99995 else ">.9999"


def lay_out(states: int, drawn: Sequence[Arrow], inches: float) -> Diagram | None:
    """Find a place for everything; None if the diagram would not be readable.

    Args:
        states: how many.
        drawn: from `arrows`.
        inches: side of the square that there is.
    """
    if states > MOST_STATES or len(drawn) > MOST_ARROWS:
        return None
    first = np.pi if states == 2 else np.pi / 2
    order = _ordered(states, [(arrow.source, arrow.target) for arrow in drawn])
    angles = first - 2 * np.pi * np.argsort(order) / states
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (states > 1)
    radius = min(0.16, 0.42 * np.sin(np.pi / max(states, 2)))
    limit = 1.2
    for _ in range(20):  # a label is the larger, in units, the more units there are
        halves = {arrow: _extent(arrow.label, inches / (2 * limit)) for arrow in drawn}
        loops = {arrow: _loop_label(places[arrow.source], radius, halves[arrow]) for arrow in drawn if arrow.is_loop}
        reach = [np.abs(places).max() + radius, *((np.abs(centre) + halves[a]).max() for a, centre in loops.items())]
        limit = max(*reach, 1.0) + 0.06
    pairs = {(arrow.source, arrow.target) for arrow in drawn}
    curves = {arrow: _curve(places, radius, arrow, (arrow.target, arrow.source) in pairs) for arrow in drawn}
    labels = {arrow: (centre, halves[arrow]) for arrow, centre in loops.items()}
    nodes = [(place, radius) for place in places]
    for arrow in drawn:
        if not arrow.is_loop:
            labels[arrow] = _placed(arrow, curves, halves[arrow], [*nodes, *labels.values()])
    found = Diagram(places, radius, limit, curves, labels)
    return found if found.readable else None


def draw_machine(axes: Axes, diagram: Diagram, colours: Sequence[Colour], faint: Sequence[bool]) -> None:
    """Draw states, arrows and labels.

    Args:
        axes: gets limits and loses its frame.
        diagram: what goes where.
        colours: of the states.
        faint: which states are never visited again: drawn hollow.
    """
    sides = (-diagram.limit, diagram.limit)
    axes.set(xlim=sides, ylim=sides, aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    box = {"boxstyle": "square,pad=0.12", "facecolor": "white", "edgecolor": LIGHT, "linewidth": 0.5}
    for arrow, (centre, _) in diagram.labels.items():
        head = "-|>,head_length=6,head_width=3"
        path = Path(diagram.curves[arrow])
        axes.add_patch(FancyArrowPatch(path=path, arrowstyle=head, color=GREY, lw=1.3, zorder=1, shrinkA=0, shrinkB=0))
        axes.text(*centre, arrow.label, ha="center", va="center", fontsize=FONT, zorder=2, bbox=box, linespacing=1.1)
    for state, (place, colour) in enumerate(zip(diagram.places, colours)):
        face, edge = ("white", colour) if faint[state] else (colour, INK)
        axes.add_patch(Circle(place, diagram.radius, facecolor=face, edgecolor=edge, lw=1.6, zorder=3))
        text = INK if faint[state] or np.mean(colour) > 0.55 else "white"
        axes.text(*place, str(state), ha="center", va="center", color=text, fontweight="bold", zorder=4)


def _ordered(states: int, pairs: Sequence[tuple[int, int]]) -> Int[NDArray, " S"]:
    """Order around the circle with few crossings and short arrows, found by swapping two states while that helps."""
    edges = np.array(sorted({tuple(sorted(pair)) for pair in pairs if pair[0] != pair[1]}), dtype=int).reshape(-1, 2)
    order, best = np.arange(states), _tangle(np.arange(states), edges)
    improved = True
    while improved:
        improved = False
        for i, j in itertools.combinations(range(1, states), 2):
            trial = order.copy()
            trial[[i, j]] = trial[[j, i]]
            cost = _tangle(trial, edges)
            if cost < best:
                order, best, improved = trial, cost, True
    return order


def _tangle(order: Int[NDArray, " S"], edges: Int[NDArray, "E 2"]) -> tuple[int, int]:
    seats = np.sort(np.argsort(order)[edges], axis=1)
    low, high = seats.T
    inside = (low[:, None] < low) & (low < high[:, None]) & (high[:, None] < high)
    steps = high - low
    return int(inside.sum()), int(np.minimum(steps, len(order) - steps).sum())


def _extent(label: str, scale: float) -> Float[NDArray, " 2"]:
    """Half the width and half the height of a label where a unit has so many inches."""
    lines = label.split("\n")
    return np.array([GLYPH * max(map(len, lines)), LINE * len(lines)]) * FONT / 72 / scale / 2


def _outward(place: Float[NDArray, " 2"]) -> Float[NDArray, " 2"]:
    return place / np.linalg.norm(place) if place.any() else np.array([0.0, 1.0])


def _loop_label(place: Float[NDArray, " 2"], radius: float, half: Float[NDArray, " 2"]) -> Float[NDArray, " 2"]:
    """Centre of a loop's label: outside the loop, touching it."""
    outward = _outward(place)
    return place + 2.75 * radius * outward + half * np.sign(outward.round(6)) * np.sqrt(np.abs(outward))


def _curve(places: Float[NDArray, "S 2"], radius: float, arrow: Arrow, paired: bool) -> Float[NDArray, "points 2"]:
    """The arrow as a fine polygon between the rims of its states: bowed if another one goes the other way."""
    start, end = places[arrow.source], places[arrow.target]
    t = np.linspace(0, 1, 121)[:, None]
    if arrow.is_loop:
        outward = _outward(start)
        side = np.array([-outward[1], outward[0]])
        first, second = (start + radius * (3.2 * outward + sign * 1.9 * side) for sign in (1, -1))
        curve = (1 - t) ** 3 * start + 3 * t * (1 - t) ** 2 * first + 3 * t**2 * (1 - t) * second + t**3 * end
    else:
        along = end - start
        middle = (start + end) / 2 + BOW * paired * np.array([-along[1], along[0]])
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    gap = radius + 0.02
    return curve[(np.linalg.norm(curve - start, axis=1) > gap) & (np.linalg.norm(curve - end, axis=1) > gap)]


def _placed(
    arrow: Arrow, curves: dict[Arrow, Float[NDArray, "points 2"]], half: Float[NDArray, " 2"], taken: list[Box]
) -> Box:
    """Where along its arrow a label keeps clear of what stands there already and of other arrows."""
    along = sorted(np.linspace(0.2, 0.8, 31), key=lambda t: abs(t - 0.5))  # the middle, if all are as good
    candidates = curves[arrow][(np.array(along) * (len(curves[arrow]) - 1)).astype(int)]
    others = [(curve, 0.0) for other, curve in curves.items() if other is not arrow]
    best = max(candidates, key=lambda point: 2 * _clearance(point, half, taken) + _clearance(point, half, others))
    return best, half


def _clearance(point: Float[NDArray, " 2"], half: Float[NDArray, " 2"], taken: Sequence[Box]) -> float:
    """Least distance of a box to those taken (negative where they overlap); far enough is as good as farther."""
    gaps = [(np.abs(point - centre) - half - other).max(-1).min(initial=ENOUGH) for centre, other in taken]
    return min([*gaps, ENOUGH])
