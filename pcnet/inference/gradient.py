"""Descent on the values themselves: what a recurrent network of value and error units does in its own time.

Without a step size, every row takes its own from the curvature where it starts: one Lanczos run of a few Hessian products.
"""

import abc
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.inference.curvature import Extremes, extremes
from pcnet.inference.equilibrium import CurvedProblem, Equilibrium, add, axpy, scale, subtract
from pcnet.inference.point import EnergyPoint, Point
from pcnet.inference.solver import Solver, check_step_size
from pcnet.typing import State

LANCZOS_STEPS = 16
"""Hessian products from which an automatic step size is made."""
FLATTEST, SADDLE = 1e-4, 1e-2
"""Of the largest curvature: what a smallest one below that, or a negative one, is taken for."""

BESIDE = 1e-6
"""Values that are as good as zero but no kink."""


class Pace(NamedTuple):
    """A step size of its own for every row.

    Attributes:
        step_size: of the row.
        momentum: of the row.
        products: Hessian products that it took to find them.
    """

    step_size: Float[Tensor, "B 1"]
    momentum: Float[Tensor, "B 1"]
    products: Int[Tensor, " B"]


def inverse_curvature(problem: CurvedProblem, point: EnergyPoint) -> Pace:
    """Step size 1 / (largest curvature): half of what is stable, the optimum for a condition number of 1 to 3."""
    found = extremes(problem, _off_kinks(problem, point), steps=LANCZOS_STEPS)
    step_size = _reciprocal(found.ceiling).unsqueeze(-1)
    return Pace(step_size, torch.zeros_like(step_size), _counted(found))


def heavy_ball(problem: CurvedProblem, point: EnergyPoint) -> Pace:
    """Step size 1/L, momentum (1 - sqrt(m/L))^2, from the largest curvature L and the smallest m: rate 1 - sqrt(m/L).

    Polyak's optimum, 4 / (sqrt L + sqrt m)^2, is twice as fast on a quadratic but unstable as soon as a curvature on the way
    exceeds L; this one bears up to four times as much.
    """
    found = extremes(problem, _off_kinks(problem, point), steps=LANCZOS_STEPS)
    ratio = (found.smallest * _reciprocal(found.ceiling)).clamp(FLATTEST, 1.0)
    ratio = torch.where(found.smallest > 0, ratio, SADDLE)
    momentum = (1 - ratio.sqrt()).square()
    return Pace(_reciprocal(found.ceiling).unsqueeze(-1), momentum.unsqueeze(-1), _counted(found))


def _off_kinks(problem: CurvedProblem, point: EnergyPoint) -> EnergyPoint:
    """A point beside, where no unit is held in its kink: curvature leaves those out, and they may start to move later."""
    if not problem.kinked:
        return point
    return problem.at(tuple(torch.where(x == 0, BESIDE, x) for x in point.values))


def _reciprocal(curvature: Tensor) -> Tensor:
    """1 / curvature; a row without any stays where it is."""
    return torch.where(curvature > 0, 1 / curvature, 0.0 * curvature)


def _counted(found: Extremes) -> Int[Tensor, " B"]:
    return torch.full_like(found.largest, found.products, dtype=torch.long)


@dataclass(frozen=True)
class Paced(Solver, abc.ABC):
    """Plain descent with one step size, given or taken from the curvature.

    Args:
        step_size: > 0, in units of the values' own time constant; None takes 1 / (largest curvature), per sample, where the
            values start, and then needs a `CurvedProblem`.
    """

    step_size: float | None = None

    def __post_init__(self) -> None:
        if self.step_size is not None:
            check_step_size(self.step_size)

    @property
    def requires(self) -> type[Equilibrium]:
        return CurvedProblem if self.step_size is None else Equilibrium

    def init(self, problem: Equilibrium, point: Point) -> Pace | tuple:
        return inverse_curvature(problem, point) if self.step_size is None else ()

    def products(self, carry: Pace | tuple) -> Int[Tensor, " B"] | int:
        return _products(carry)


@dataclass(frozen=True)
class Euler(Paced):
    """Explicit Euler on the gradient flow: x <- x - step_size dF/dx.

    Stable while step_size < 2 / (largest curvature); the number of steps grows as the condition number of the Hessian.

    Args:
        step_size: as in `Paced`.
    """

    def step(self, problem: Equilibrium, point: Point, carry: Pace | tuple) -> tuple[State, Pace | tuple]:
        return scale(point.residual, -_step_size(self.step_size, carry)), carry


@dataclass(frozen=True)
class Heun(Paced):
    """Heun's method on the gradient flow: x <- x - step_size / 2 (g(x) + g(x - step_size g(x))), g = dF/dx.

    Second order in the step size, for whoever wants the time course and not only its end; it is stable up to the same step
    as Euler and costs twice as much per step.

    Args:
        step_size: as in `Paced`.
    """

    evaluations = 2

    def step(self, problem: Equilibrium, point: Point, carry: Pace | tuple) -> tuple[State, Pace | tuple]:
        step_size = _step_size(self.step_size, carry)
        ahead = problem.at(problem.retract(point.values, scale(point.residual, -step_size)))
        return scale(add(point.residual, ahead.residual), -0.5 * step_size), carry


class Velocity(NamedTuple):
    """What heavy-ball descent remembers.

    Attributes:
        before: the state one step ago; what moved since is the velocity, whatever stopped it on its way.
        pace: step sizes, if automatic.
    """

    before: State
    pace: Pace | tuple


@dataclass(frozen=True)
class Momentum(Solver):
    """Heavy-ball descent: v <- momentum v - step_size dF/dx, x <- x + v (Polyak 1964).

    Stable while step_size < 2 (1 + momentum) / (largest curvature); at its best the number of steps grows as the square
    root of the condition number. v is how far x has really come; a unit that a kink has stopped has none.

    Args:
        step_size: > 0; None takes 1 / (largest curvature), per sample, where the values start, and then needs a
            `CurvedProblem`.
        momentum: in [0, 1); None, beside an automatic step size, follows from the condition number there:
            (1 - 1 / sqrt(condition number))^2.
    """

    step_size: float | None = None
    momentum: float | None = None

    def __post_init__(self) -> None:
        if self.step_size is not None:
            check_step_size(self.step_size)
            if self.momentum is None:
                raise ValueError("momentum must be given together with a step_size, got None")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")

    @property
    def requires(self) -> type[Equilibrium]:
        return CurvedProblem if self.step_size is None else Equilibrium

    def init(self, problem: Equilibrium, point: Point) -> Velocity:
        return Velocity(point.values, self._pace(problem, point) if self.step_size is None else ())

    def _pace(self, problem: CurvedProblem, point: EnergyPoint) -> Pace:
        if self.momentum is None:
            return heavy_ball(problem, point)
        pace = inverse_curvature(problem, point)
        return pace._replace(momentum=torch.full_like(pace.momentum, self.momentum))

    def step(self, problem: Equilibrium, point: Point, carry: Velocity) -> tuple[State, Velocity]:
        momentum = self.momentum if self.step_size is not None else carry.pace.momentum
        step_size = _step_size(self.step_size, carry.pace)
        velocity = scale(subtract(point.values, carry.before), momentum)
        if problem.kinked:
            velocity = tuple(torch.where(x == 0, 0.0, v) for x, v in zip(point.values, velocity, strict=True))
        return axpy(velocity, -step_size, point.residual), Velocity(point.values, carry.pace)

    def restart(self, problem: Equilibrium, point: Point, carry: Velocity) -> Velocity:
        return carry._replace(before=point.values)

    def products(self, carry: Velocity) -> Int[Tensor, " B"] | int:
        return _products(carry.pace)


def _step_size(given: float | None, pace: Pace | tuple) -> Float[Tensor, "B 1"] | float:
    return pace.step_size if given is None else given


def _products(pace: Pace | tuple) -> Int[Tensor, " B"] | int:
    return pace.products if isinstance(pace, Pace) else 0
