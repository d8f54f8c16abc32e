"""What is measured, and where."""

from dataclasses import dataclass, replace
from typing import Self

from pcnet.baselines import Transformer
from pcnet.predictor import Predictor
from pcnet.probing import AllValues, ClampedLevel, HiddenUnits, Place, ResidualHistory, ResidualStream
from pcnet.sites import Iterates

ALL, EQUAL = "all", "equal next-token law"
LEAST, RANDOM, SHUFFLED = "belief", "random subspace", "shuffled belief"
SUBSPACE, NEXT = "next-token subspace", "next-token law"
"""Moved until what a linear probe reads of the next-token law is the other's, or until the model's own law is."""
WHOLE = "everything the place holds"
"""The place of the other history's own state: the most that moving this place can do."""
DRAWN = ("all positions to block", "hidden units", "level 1 clamped")
"""The names of the places whose dose-response curves are drawn begin so; one for each model."""


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        history: length of the histories whose state is moved.
        horizon: tokens ahead.
        shortest: words from which directions are learned have at least this length.
        pairs: of each half of the histories.
        enough: histories from which on directions are learned once for each half, from the words of the other; for fewer
            they are learned anew for each pair, from all words but the pair's.
        doses: shares of the move, at one place of each model; elsewhere it is the whole, 1.
        subspaces: random ones for the whole move and for ablation.
        subspaces_by_dose: random ones for its other shares.
        ablated: most histories of each half whose state is ablated.
    """

    history: int = 6
    horizon: int = 5
    shortest: int = 3
    pairs: int = 60
    enough: int = 200
    doses: tuple[float, ...] = (0.25, 0.5, 1.0, 1.5)
    subspaces: int = 20
    subspaces_by_dose: int = 3
    ablated: int = 60

    def at(self, place: str) -> Self:
        """Dose-response curves where they are drawn, the whole move alone elsewhere."""
        return self if place.startswith(DRAWN) else replace(self, doses=(1.0,))


def places(model: Predictor) -> dict[str, Place]:
    """Where a model's state is moved, by name."""
    if isinstance(model, Transformer):
        middle = len(model.blocks) // 2 - 1 if len(model.blocks) > 1 else 0
        return {
            f"all positions to block {middle}": ResidualHistory(model, middle),
            f"last position after block {middle}": ResidualStream(model, middle),
        }
    if isinstance(model, Iterates):
        levels = {f"level {level} clamped": ClampedLevel(model, level) for level in range(1, len(model.levels) + 1)}
        return levels | {"all levels clamped": AllValues(model)}
    return {"hidden units": HiddenUnits(model)}
