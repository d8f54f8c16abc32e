"""What is measured, and where."""

from dataclasses import dataclass

from pcnet.baselines import Transformer
from pcnet.networks import TemporalPC
from pcnet.predictor import Predictor
from pcnet.probing import AllValues, ClampedLevel, HiddenUnits, Place, ResidualHistory, ResidualStream

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
    """How much of what.

    Args:
        history: length of the histories whose state is moved.
        horizon: tokens ahead.
        fit_lengths: shortest and longest words on which directions are learned.
        pairs: of each half of the histories.
        enough: histories from which on directions are learned once for each half, from the words of the other; for fewer
            they are learned anew for each pair, from all words but the pair's.
        doses: shares of the move, at one place of each model (`DRAWN`); elsewhere it is the whole, 1.
        subspaces: random ones for the whole move and for ablation.
        subspaces_by_dose: random ones for its other shares.
        ablated: most histories of each half whose state is ablated.
        quick: whether models that are missing are trained for a few steps only.
    """

    processes: tuple[str, ...] = ("mess3", "rrxor")
    models: tuple[str, ...] = ("transformer", "gru", "temporal_pc", "temporal_pc_nudged", "temporal_pc_local")
    history: int = 6
    horizon: int = 5
    fit_lengths: tuple[int, int] = (3, 8)
    pairs: int = 60
    enough: int = 200
    doses: tuple[float, ...] = (0.25, 0.5, 1.0, 1.5)
    subspaces: int = 20
    subspaces_by_dose: int = 3
    ablated: int = 60
    quick: bool = False


SMOKE = Plan(
    processes=("mess3",),
    models=("transformer", "gru", "temporal_pc"),
    history=3,
    horizon=2,
    fit_lengths=(1, 4),
    pairs=6,
    enough=20,
    doses=(0.5, 1.0),
    subspaces=2,
    subspaces_by_dose=1,
    quick=True,
)


def places(model: Predictor) -> dict[str, Place]:
    """Where a model's state is moved, by name."""
    if isinstance(model, Transformer):
        middle = len(model.blocks) // 2 - 1 if len(model.blocks) > 1 else 0
        return {
            f"all positions to block {middle}": ResidualHistory(model, middle),
            f"last position after block {middle}": ResidualStream(model, middle),
        }
    if isinstance(model, TemporalPC):
        levels = {f"level {level} clamped": ClampedLevel(model, level) for level in range(1, len(model.levels) + 1)}
        return levels | {"all levels clamped": AllValues(model)}
    return {"hidden units": HiddenUnits(model)}
