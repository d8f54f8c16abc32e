"""The loop that relaxes values to an equilibrium, and the only stopping rule there is.

A row is converged when, in value coordinates and for every node group g,

    rms(residual_g) <= atol + rtol * rms(x_g).

A total over all nodes would not do: deep levels look converged while no signal has reached them yet. A finished row is
frozen bit for bit while others go on; failure is data, one status per row, so that a batch never hides one bad row.
"""

from collections.abc import Collection

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcnet.inference.carry import select
from pcnet.inference.compaction import Entry, Ledger
from pcnet.inference.equilibrium import Equilibrium
from pcnet.inference.point import Point
from pcnet.inference.solution import Solution, Status, Work
from pcnet.inference.solver import Solver, check_structure
from pcnet.typing import State


def group_rms(state: State) -> Float[Tensor, "B G"]:
    """Root mean square of every node group, per sample."""
    norms = torch.stack([torch.linalg.vector_norm(group, dim=-1) for group in state], dim=-1)
    return norms / norms.new_tensor([group.shape[-1] ** 0.5 for group in state])


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
    compact: bool = False,
) -> Solution:
    """Relax `values` until the stopping rule holds in every row, or `max_steps` have gone by. Never differentiates.

    Args:
        problem: what must vanish.
        values: where to start; a row that is not finite has diverged before its first step.
        solver: how to move.
        atol: absolute tolerance on the rms of the residual in every node group.
        rtol: the same relative to the rms of the group's values.
        max_steps: the most steps a row may take; 0 only evaluates.
        check_every: how many steps to take between looks at whether all rows are done (a look costs a GPU synchronisation).
            What it changes is speed: rows are frozen at every step.
        record: numbers of steps after which to keep the values in the trace.
        compact: drop finished rows from the computation as soon as a look finds at most half of them still moving. It saves
            their cost; the others then agree to rounding only with what they would be in another batch, and no longer bit
            for bit.

    Raises:
        TypeError: the solver needs more structure than the problem has.
        ValueError: a tolerance or a number of steps is out of range, or the values have not the problem's shapes.
    """
    check_settings(atol, rtol, max_steps, check_every)
    check_structure(solver, problem)
    check_values(problem, values)
    run = _Run(problem, values, solver)
    check_fit(values, run.point)
    whole, ledger, trace = run.view, None, {}
    for k in range(max_steps + 1):
        residual, bound, status = _look(run.point, atol, rtol)
        active = status == Status.UNCONVERGED
        if k in record:
            trace[k] = ledger.values(run.point.values) if ledger else run.point.values
        moving = int(active.sum()) if k % check_every == 0 else None
        if k == max_steps or moving == 0:
            break
        run.step(active, frozen=moving != len(active))
        if compact and moving is not None and 2 * moving <= len(active):
            ledger = ledger or Ledger(run.entry(status))
            ledger.write(run.entry(status))
            ledger.keep(run.drop(active))
        run.look()
    entry, point = run.entry(status), run.point
    if ledger:
        entry = ledger.write(entry)
        point = whole.at(entry.state)
        residual, bound, _ = _look(point, atol, rtol)
        entry = entry._replace(evaluations=entry.evaluations + 1)
    trace |= {k: point.values for k in record if k not in trace}
    return _solution(entry, point, residual, bound, trace, problem.names)


def _solution(
    entry: Entry, point: Point, residual: Tensor, bound: Tensor | float, trace: dict[int, State], names: tuple[str, ...]
) -> Solution:
    tolerance = bound if isinstance(bound, Tensor) else torch.full_like(residual, bound)
    work = Work(entry.evaluations, entry.products)
    return Solution(point.values, point, residual, tolerance, entry.steps, entry.status, work, trace, names)


class _Run:
    """The rows still computed, and where they are."""

    def __init__(self, problem: Equilibrium, values: State, solver: Solver) -> None:
        self.solver = solver
        self.view = solver.view(problem)
        self.x = self.view.coordinates(values)
        self.point = self.view.at(self.x)
        self.carry = solver.init(self.view, self.point)
        self.steps = torch.zeros(len(values[0]), dtype=torch.long, device=values[0].device)
        self.evaluations = 1

    def step(self, active: Bool[Tensor, " B"], frozen: bool) -> None:
        """Move the active rows; where some are frozen, they stay where they are bit for bit."""
        increment, self.carry = self.solver.step(self.view, self.point, self.carry)
        moved = self.view.retract(self.x, increment)
        if frozen:
            active_rows = active.unsqueeze(-1)
            moved = tuple(torch.where(active_rows, new, old) for new, old in zip(moved, self.x, strict=True))
        self.x = moved
        self.steps += active
        self.evaluations += self.solver.evaluations - 1

    def look(self) -> None:
        """Evaluate the problem where the rows are now."""
        self.point = self.view.at(self.x)
        self.evaluations += 1

    def drop(self, active: Bool[Tensor, " B"]) -> Int[Tensor, " R"]:
        """Go on with the active rows alone; returns which those are."""
        keep = active.nonzero().squeeze(-1)
        self.view, self.x, self.carry = self.view.rows(keep), select(self.x, keep), select(self.carry, keep)
        self.steps = self.steps[keep]
        return keep

    def entry(self, status: Int[Tensor, " B"]) -> Entry:
        """What is to be known of these rows."""
        evaluations, products = (
            torch.zeros_like(self.steps) + count for count in (self.evaluations, self.solver.products(self.carry))
        )
        return Entry(self.x, self.point.values, self.steps, status, evaluations, products)


def _look(point: Point, atol: float, rtol: float) -> tuple[Tensor, Tensor | float, Int[Tensor, " B"]]:
    """rms of the residual of every node group, what it must come down to, and what follows for each row."""
    residual = group_rms(point.residual)
    bound = atol + rtol * group_rms(point.values) if rtol else atol
    status = torch.where((residual <= bound).all(-1), Status.CONVERGED.value, Status.UNCONVERGED.value)
    return residual, bound, status.masked_fill_(~residual.isfinite().all(-1), Status.DIVERGED.value)


def unroll(problem: Equilibrium, values: State, solver: Solver, *, steps: int) -> State:
    """The values after exactly `steps` steps, differentiable through every one: the check on implicit gradients.

    An automatic step size is a constant to the derivative.

    Raises:
        TypeError: the solver needs more structure than the problem has.
        ValueError: a negative number of steps, or values that have not the problem's shapes.
    """
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    check_structure(solver, problem)
    check_values(problem, values)
    problem = solver.view(problem)
    x = problem.coordinates(values)
    point = problem.at(x)
    carry = solver.init(problem, point)
    for _ in range(steps):
        increment, carry = solver.step(problem, point, carry)
        x = problem.retract(x, increment)
        point = problem.at(x)
    return point.values


def check_settings(atol: float, rtol: float, max_steps: int, check_every: int) -> None:
    """Raise a ValueError that names the first setting of `solve` that is out of range."""
    for name, value in (("atol", atol), ("rtol", rtol)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be a finite number >= 0, got {value}")
    for name, value, least in (("max_steps", max_steps, 0), ("check_every", check_every, 1)):
        if not value >= least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def check_values(problem: Equilibrium, values: State) -> None:
    """Raise a ValueError where the values are not one floating-point (rows, units) tensor for every node group."""
    shapes = [tuple(group.shape) for group in values]
    if not values or any(len(shape) != 2 for shape in shapes):
        raise ValueError(f"values must be one (rows, units) tensor per node group, got shapes {shapes}")
    if len({shape[0] for shape in shapes}) > 1:
        raise ValueError(f"values must have the same number of rows in every node group, got shapes {shapes}")
    if problem.widths and tuple(shape[1] for shape in shapes) != problem.widths:
        raise ValueError(f"values must have {problem.widths} units in the node groups, got shapes {shapes}")
    if not all(group.is_floating_point() for group in values):
        raise ValueError(f"values must be floating-point numbers, got {[str(group.dtype) for group in values]}")


def check_fit(values: State, point: Point) -> None:
    """Raise a ValueError where an evaluation did not give the values' own shapes back: another number of rows, say."""
    shapes = [tuple(group.shape) for group in values]
    for found in (point.values, point.residual):
        if [tuple(group.shape) for group in found] != shapes:
            raise ValueError(f"values have shapes {shapes}, the problem has {[tuple(group.shape) for group in found]}")
