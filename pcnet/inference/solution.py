"""What `solve` returns: where inference ended, how, and what it cost. Failure is data, one status per row."""

import enum
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcnet.inference.point import Point
from pcnet.typing import State

NAMED_ROWS = 5
"""Rows that a report names before it only counts them."""


class Status(enum.IntEnum):
    """How the inference of one row ended."""

    CONVERGED = 0
    UNCONVERGED = 1
    """`max_steps` went by first."""
    DIVERGED = 2
    """Its residual is no longer a finite number."""


@dataclass(frozen=True)
class Work:
    """What every row cost: computed rows count, frozen ones too as long as they are computed.

    Attributes:
        evaluations: of the problem.
        products: of its Hessian with a direction.
    """

    evaluations: Int[Tensor, " B"]
    products: Int[Tensor, " B"]


@dataclass(frozen=True)
class Solution:
    """Where inference ended.

    Attributes:
        values: the free value nodes.
        point: the problem evaluated there.
        residual: rms of the residual in every node group.
        tolerance: what that rms had to come down to.
        steps: solver steps that each row took before it stopped.
        status: a `Status` per row.
        work: what it cost.
        trace: values after the recorded numbers of steps; a row that had stopped stays where it was.
        names: of the node groups, where the problem gives them names.
    """

    values: State
    point: Point
    residual: Float[Tensor, "B G"]
    tolerance: Float[Tensor, "B G"]
    steps: Int[Tensor, " B"]
    status: Int[Tensor, " B"]
    work: Work
    trace: dict[int, State] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @property
    def converged(self) -> Bool[Tensor, " B"]:
        return self.status == Status.CONVERGED

    def report(self) -> str:
        """In words: how many rows converged, and for those that did not which, where in the network, and how far off."""
        rows = len(self.status)
        lines = [f"{int(self.converged.sum())} of {rows} rows converged"]
        if rows and self.converged.any():
            steps = self.steps[self.converged]
            lines[0] += f", after {int(steps.min())} to {int(steps.max())} steps"
        for status in (Status.DIVERGED, Status.UNCONVERGED):
            found = (self.status == status).nonzero().flatten().tolist()
            lines += [self._row(row, status) for row in found[:NAMED_ROWS]]
            if len(found) > NAMED_ROWS:
                lines.append(f"{len(found) - NAMED_ROWS} more rows {status.name.lower()}")
        return "\n".join(lines)

    def _row(self, row: int, status: Status) -> str:
        residual, tolerance = self.residual[row], self.tolerance[row]
        after = f"row {row} {status.name.lower()} after {int(self.steps[row])} steps"
        if status == Status.DIVERGED:
            broken = [self._name(group) for group in (~residual.isfinite()).nonzero().flatten().tolist()]
            return f"{after}: the residual of {', '.join(broken)} is not a finite number"
        tiny = torch.finfo(residual.dtype).tiny
        worst = int((residual / tolerance.clamp(min=tiny)).argmax())
        return f"{after}: worst is {self._name(worst)}, rms of residual {residual[worst]:.2e}, tolerance {tolerance[worst]:.2e}"

    def _name(self, group: int) -> str:
        return self.names[group] if self.names else f"group {group}"
