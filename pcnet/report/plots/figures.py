"""All figures of a run, drawn and written."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from pcnet.report.plots.cost import cost
from pcnet.report.plots.iterations import iterations
from pcnet.report.plots.scores import scores
from pcnet.report.plots.simplex import simplex
from pcnet.report.plots.style import save, styled
from pcnet.report.plots.training import training
from pcnet.report.results import Results

FIGURES: dict[str, Callable[[Results], Figure | None]] = {
    "simplex": simplex,
    "training": training,
    "scores": scores,
    "iterations": iterations,
    "cost": cost,
}


@dataclass(frozen=True)
class Drawn:
    """Where one figure went.

    Args:
        name: key of ``FIGURES``.
        png: its PNG (the SVG stands beside it); None where the run holds too little to draw it.
    """

    name: str
    png: Path | None


def draw(results: Results) -> list[Drawn]:
    """Draw every figure that the run has the data for into ``figures/`` of its folder, as PNG and SVG.

    Args:
        results: a run folder, finished or not.
    """
    return [_draw(results, name) for name in FIGURES]


def _draw(results: Results, name: str) -> Drawn:
    with styled():
        figure = FIGURES[name](results)
        return Drawn(name, save(figure, results.folder / "figures", name) if figure else None)
