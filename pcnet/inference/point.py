"""What one evaluation of a problem at one state tells; the loop reads its stopping test from it, and the solver its step."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pcnet.typing import State


@dataclass(frozen=True)
class Point:
    """A problem evaluated at one state.

    Attributes:
        values: the free value nodes x, whatever coordinates the solver moves in.
        residual: what vanishes at the equilibrium, in value coordinates (the energy's gradient dF/dx where there is one).
    """

    values: State
    residual: State


@dataclass(frozen=True)
class EnergyPoint(Point):
    """A `Point` of a problem that has an energy.

    Attributes:
        energy: F per sample, summed over nodes, in nats.
    """

    energy: Float[Tensor, " B"]
