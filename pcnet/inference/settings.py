"""What a run says about inference: which solver, how close, how long, and from where."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch

from pcnet.inference.equilibrium import Equilibrium, InitialValues, Relaxation, scale
from pcnet.inference.gauss_newton import GaussNewton
from pcnet.inference.loop import check_fit, check_settings, check_values, group_rms, solve
from pcnet.inference.point import Point
from pcnet.inference.solution import Solution, Status, Work
from pcnet.inference.solver import Solver, check_step_size
from pcnet.typing import State

Descent = Callable[[Equilibrium, State, float, int], Point]
"""(problem, values, step size, steps) -> the problem evaluated after so many steps x <- retract(x, -step_size residual(x))."""


@dataclass(frozen=True)
class Expected(InitialValues):
    """Start at the network's own expectation: all prediction errors zero."""

    def __call__(self, expected: State, past: State) -> State:
        return expected


@dataclass(frozen=True)
class CarriedOver(InitialValues):
    """Start where the token before ended."""

    def __call__(self, expected: State, past: State) -> State:
        return past


@dataclass(frozen=True)
class RandomValues(InitialValues):
    """Start at normal noise, the same for the same seed and shape.

    Args:
        scale: standard deviation.
        seed: of the generator.
    """

    scale: float = 1.0
    seed: int = 0

    def __call__(self, expected: State, past: State) -> State:
        generator = torch.Generator().manual_seed(self.seed)
        return tuple(
            self.scale * torch.randn(group.shape, generator=generator, dtype=group.dtype).to(group.device)
            for group in expected
        )


@dataclass(frozen=True)
class Inference(Relaxation):
    """Relax until the stopping rule of `solve` holds.

    Args:
        solver: how values move.
        atol: rms of the energy's gradient, in every node group, at which a row counts as converged.
        rtol: the same relative to the rms of the values.
        max_steps: the most steps, per token in a temporal network; 0 only evaluates.
        check_every: steps between looks at whether all rows are done; raise it on a GPU.
        initial: where values start.
        compact: whether rows that are done are dropped from the computation, see `solve`.
    """

    solver: Solver = field(default_factory=GaussNewton)
    atol: float = 1e-4
    rtol: float = 0.0
    max_steps: int = 100
    check_every: int = 1
    initial: InitialValues = field(default_factory=Expected)
    compact: bool = False

    def __post_init__(self) -> None:
        check_settings(self.atol, self.rtol, self.max_steps, self.check_every)

    def relax(self, problem: Equilibrium, values: State, record: Collection[int] = ()) -> Solution:
        return solve(
            problem,
            values,
            self.solver,
            atol=self.atol,
            rtol=self.rtol,
            max_steps=self.max_steps,
            check_every=self.check_every,
            record=record,
            compact=self.compact,
        )


@dataclass(frozen=True)
class FixedSteps(Relaxation):
    """Exactly so many steps of plain descent, without a look at whether they arrive: x <- x - step_size dF/dx.

    What published predictive coding trains with. No row counts as converged, however close it came: read `residual`.

    Args:
        step_size: > 0.
        steps: at least 1.
        initial: where values start.
    """

    step_size: float = 0.1
    steps: int = 20
    initial: InitialValues = field(default_factory=Expected)

    def __post_init__(self) -> None:
        check_step_size(self.step_size)
        if not self.steps >= 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def relax(self, problem: Equilibrium, values: State, record: Collection[int] = ()) -> Solution:
        return self.follow(_descended, problem, values, record)

    @torch.no_grad()
    def follow(self, descend: Descent, problem: Equilibrium, values: State, record: Collection[int]) -> Solution:
        """`relax`, by a way of descending from one recorded number of steps to the next."""
        check_values(problem, values)
        trace = {0: values} if 0 in record else {}
        done, x = 0, values
        for k in sorted({*(k for k in record if 0 < k < self.steps), self.steps}):
            point, done = descend(problem, x, self.step_size, k - done), k
            x = point.values
            trace |= {k: x} if k in record else {}
        check_fit(values, point)
        residual = group_rms(point.residual)
        status = torch.where(residual.isfinite().all(-1), Status.UNCONVERGED.value, Status.DIVERGED.value)
        steps = torch.full_like(status, self.steps)
        trace |= {k: point.values for k in record if k not in trace}
        work = Work(steps + 1, torch.zeros_like(steps))
        return Solution(
            point.values, point, residual, torch.zeros_like(residual), steps, status, work, trace, problem.names
        )


def _descended(problem: Equilibrium, x: State, step_size: float, steps: int) -> Point:
    point = problem.at(x)
    for _ in range(steps):
        x = problem.retract(x, scale(point.residual, -step_size))
        point = problem.at(x)
    return point
