"""All drawings of a process, one file each and all on one page."""

import math
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from pcnet.card import Card, Fact, Undefined
from pcnet.report.plots.simplex import ANCHORS, belief_colours
from pcnet.report.plots.style import GREY, blank, save, styled
from pcnet.report.process.beliefs import draw_beliefs, stretched
from pcnet.report.process.curves import draw_floor, draw_spectrum
from pcnet.report.process.machine import MOST_STATES, Diagram, arrows, draw_machine, lay_out
from pcnet.report.process.matrices import draw_matrices

SIDE = 5.2
"""Of one drawing, in inches."""
Drawing = Callable[[Card, Axes], None]


def draw_card(card: Card, folder: Path) -> list[Path]:
    """Draw the states, the beliefs, the floor and the spectrum, each alone and all on one page, as PNG and SVG.

    Args:
        card: of a process.
        folder: where the files go; made if missing.

    Returns:
        The PNG files, the page first.
    """
    drawings = [states, beliefs, floor, spectrum, *([mixed_states] if _machine(card) is not None else [])]
    with styled():
        paths = [save(page(card), folder, "card")]
        return paths + [save(alone(card, draw), folder, draw.__name__) for draw in drawings]


def page(card: Card) -> Figure:
    """The four drawings together."""
    figure = blank(2.1 * SIDE, 2.1 * SIDE)
    panels = figure.subplots(2, 2)
    for draw, axes in zip((states, beliefs, floor, spectrum), panels.flat):
        draw(card, axes)
    figure.suptitle(card.title, fontsize=15, fontweight="bold", x=0.01, ha="left")
    figure.supxlabel(_answers(card), fontsize=10.5, color=GREY, x=0.01, ha="left")
    return figure


def alone(card: Card, draw: Drawing) -> Figure:
    """One drawing by itself."""
    figure = blank(SIDE + 0.6, SIDE)
    draw(card, figure.subplots())
    return figure


def _answers(card: Card) -> str:
    """The numbers that are known, in one line."""
    known = {name: fact for name, fact in card.entropies.items() if not isinstance(fact, Undefined)}
    texts = [f"{name} {_rounded(fact)}" for name, fact in list(known.items())[:3]]
    given = (
        ""
        if isinstance(card.sufficient, Undefined)
        else f"next-token law determines belief: {'yes' if card.sufficient else 'no'}"
    )
    return "; ".join(filter(None, [f"{', '.join(texts)} nats" * bool(texts), given]))


def _rounded(nats: float) -> str:
    return "infinite" if math.isinf(nats) else f"{nats + 0.0:.4f}"


def states(card: Card, axes: Axes) -> None:
    """The hidden states as a diagram; the matrices where there are too many arrows, or no hidden states."""
    matrices = card.process.transition_matrices.numpy()
    count = card.process.num_states
    diagram = lay_out(count, arrows(matrices), SIDE - 0.5) if card.has_states else None
    if diagram is None:
        draw_matrices(axes, matrices)
        axes.set_title("Transition matrices", pad=16)
    else:
        draw_machine(axes, diagram, [to_rgb(ANCHORS[state % len(ANCHORS)]) for state in range(count)], [False] * count)
        axes.set_title("Hidden states; token: probability")


def _machine(card: Card) -> Diagram | None:
    """The mixed states as a diagram, where they close and are few."""
    machine = card.machine
    few = machine.closed and len(machine) <= MOST_STATES
    return lay_out(len(machine), arrows(machine.transition_matrices.numpy()), SIDE - 0.5) if few else None


def mixed_states(card: Card, axes: Axes) -> None:
    """The mixed states as a diagram: which belief follows which; those that are never visited again are hollow."""
    machine, diagram = card.machine, _machine(card)
    laws = stretched(machine.probabilities.numpy(), card.weights.numpy())
    colours = [tuple(colour) for colour in belief_colours(machine.states.numpy() if card.has_states else laws)]
    if diagram is not None:
        draw_machine(axes, diagram, colours, machine.transient.tolist())
    axes.set_title("Mixed states (0: before any token)")


def beliefs(card: Card, axes: Axes) -> None:
    """Where the beliefs lie."""
    machine = card.machine
    draw_beliefs(
        axes, machine.states.numpy(), card.weights.numpy(), machine.probabilities.numpy(), states=card.has_states
    )
    count = f"{len(machine):,}" + ("" if machine.closed else " and more")
    axes.set_title(f"Beliefs: {count}" if card.has_states else f"Beliefs, in one of many bases: {count}")


def floor(card: Card, axes: Axes) -> None:
    """The loss floor against context length."""
    rate, excess = card.entropies["entropy rate"], card.entropies["excess entropy"]
    bounds = _bounds(rate)
    shaded = "excess entropy"
    if not isinstance(excess, Undefined):
        here = float((card.floor - bounds[0]).sum())
        shaded += f" {_rounded(excess)} nats" + (f", {here:.4f} up to here" if excess - here > 0.005 * excess else "")
    draw_floor(axes, card.floor.numpy(), bounds, shaded)
    axes.set_title("Loss floor")


def _bounds(rate: Fact) -> tuple[float, float, float]:
    """A number between its bounds, or between two standard errors to either side if it comes from samples."""
    if isinstance(rate, Undefined):
        return math.nan, math.nan, math.nan
    if rate.standard_error:
        return float(rate), rate - 2 * rate.standard_error, rate + 2 * rate.standard_error
    return float(rate), rate.low, rate.high


def spectrum(card: Card, axes: Axes) -> None:
    """Eigenvalues in the complex plane."""
    slowest = None if isinstance(card.spectrum, Undefined) else card.spectrum.slowest
    draw_spectrum(axes, card.modes.numpy(), slowest)
    axes.set_title(
        "Spectrum of T = sum of T[x]" if isinstance(card.spectrum, Undefined) else "Spectrum of the mixed states"
    )
