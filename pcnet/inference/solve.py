"""The loop that relaxes values to an equilibrium, and the only stopping rule there is.

A row is converged when, in value coordinates and for every node group g,

    rms(residual_g) <= atol + rtol * rms(x_g).

A total over all nodes would not do: deep levels look converged while no signal has reached them yet. A finished row is
frozen bit for bit while others go on; failure is data, one status per row, so that a batch never hides one bad row.
"""

import abc
import enum
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcnet.inference.equilibrium import Equilibrium, Point
from pcnet.typing import State


class Status(enum.IntEnum):
    """How the inference of one row ended."""

    CONVERGED = 0
    UNCONVERGED = 1
    """`max_steps` went by first."""
    DIVERGED = 2
    """Its residual is no longer a finite number."""


class Solver(abc.ABC):
    """One way of moving values towards equilibrium; a frozen dataclass, so it prints, compares and comes from YAML.

    A solver has no loop and no tolerance: `solve` has both.
    """

    requires: ClassVar[type[Equilibrium]] = Equilibrium

    def view(self, problem: Equilibrium) -> Equilibrium:
        """The problem in the coordinates this solver moves in."""
        return problem

    def init(self, problem: Equilibrium, point: Point) -> Any:
        """The solver's memory (its carry) before the first step."""
        return ()

    @abc.abstractmethod
    def step(self, problem: Equilibrium, point: Point, carry: Any) -> tuple[State, Any]:
        """The increment to add to the state, and the next carry. Rows never mix."""


@dataclass(frozen=True)
class Solution:
    """Where inference ended.

    Attributes:
        values: the free value nodes.
        point: the problem evaluated there.
        residual: rms of the residual in every node group.
        steps: solver steps that each row took before it stopped.
        status: a `Status` per row.
        trace: values after the recorded numbers of steps; a row that had stopped stays where it was.
    """

    values: State
    point: Point
    residual: Float[Tensor, "B G"]
    steps: Int[Tensor, " B"]
    status: Int[Tensor, " B"]
    trace: dict[int, State] = field(default_factory=dict)

    @property
    def converged(self) -> Bool[Tensor, " B"]:
        return self.status == Status.CONVERGED


def group_rms(state: State) -> Float[Tensor, "B G"]:
    """Root mean square of every node group, per sample."""
    return torch.stack([torch.linalg.vector_norm(group, dim=-1) / group.shape[-1] ** 0.5 for group in state], dim=-1)


def _status(residual: Tensor, point: Point, atol: float, rtol: float) -> Int[Tensor, " B"]:
    bound = atol + rtol * group_rms(point.values) if rtol else atol
    status = torch.where((residual <= bound).all(-1), Status.CONVERGED.value, Status.UNCONVERGED.value)
    return status.masked_fill_(~residual.isfinite().all(-1), Status.DIVERGED.value)


@torch.no_grad()
def solve(
    problem: Equilibrium,
    values: State,
    solver: Solver,
    *,
    atol: float = 1e-4,
    rtol: float = 0.0,
    max_steps: int = 100,
    check_every: int = 1,
    record: Collection[int] = (),
) -> Solution:
    """Relax `values` until the stopping rule holds in every row, or `max_steps` have gone by. Never differentiates.

    Args:
        problem: what must vanish.
        values: where to start.
        solver: how to move.
        atol: absolute tolerance on the rms of the residual in every node group.
        rtol: the same relative to the rms of the group's values.
        max_steps: the most steps a row may take; 0 only evaluates.
        check_every: how many steps to take between looks at whether all rows are done (a look costs a GPU synchronisation).
            What it changes is speed: rows are frozen at every step.
        record: numbers of steps after which to keep the values in the trace.

    Raises:
        TypeError: the solver needs more structure than the problem has.
        ValueError: a tolerance or a number of steps is out of range.
    """
    check_settings(atol, rtol, max_steps, check_every)
    if not isinstance(problem, solver.requires):
        raise TypeError(f"{type(solver).__name__} needs a {solver.requires.__name__}, got a {type(problem).__name__}")
    problem = solver.view(problem)
    x = problem.coordinates(values)
    point = problem.at(x)
    carry = solver.init(problem, point)
    steps = torch.zeros(x[0].shape[0], dtype=torch.long, device=x[0].device)
    trace = {}
    for k in range(max_steps + 1):
        residual = group_rms(point.residual)
        status = _status(residual, point, atol, rtol)
        active = status == Status.UNCONVERGED
        if k in record:
            trace[k] = point.values
        if k == max_steps or (k % check_every == 0 and not active.any()):
            break
        increment, carry = solver.step(problem, point, carry)
        moving = active.unsqueeze(-1).to(x[0].dtype)
        x = tuple(torch.addcmul(group, step, moving) for group, step in zip(x, increment, strict=True))
        steps += active
        point = problem.at(x)
    trace |= {k: point.values for k in record if k not in trace}
    return Solution(point.values, point, residual, steps, status, trace)


def unroll(problem: Equilibrium, values: State, solver: Solver, *, steps: int) -> State:
    """The values after exactly `steps` steps, differentiable through every one: the check on implicit gradients."""
    problem = solver.view(problem)
    x = problem.coordinates(values)
    point = problem.at(x)
    carry = solver.init(problem, point)
    for _ in range(steps):
        increment, carry = solver.step(problem, point, carry)
        x = tuple(group + step for group, step in zip(x, increment, strict=True))
        point = problem.at(x)
    return point.values


def check_settings(atol: float, rtol: float, max_steps: int, check_every: int) -> None:
    """Raise a ValueError that names the first setting of `solve` that is out of range."""
    for name, value in (("atol", atol), ("rtol", rtol)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be a finite number >= 0, got {value}")
    for name, value, least in (("max_steps", max_steps, 0), ("check_every", check_every, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
