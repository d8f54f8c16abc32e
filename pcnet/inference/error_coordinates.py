"""Inference in prediction errors instead of values: the same energy, far better conditioned in depth.

Where the condition number in values grows about as the depth squared, in errors it is the largest eigenvalue of
1 + J^T J, J from the errors to the clamped output.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxtyping import Int
from torch import Tensor

from pcnet.inference.equilibrium import CurvedProblem, EnergyProblem, Equilibrium, ErrorProblem, Metric
from pcnet.inference.point import EnergyPoint
from pcnet.inference.solver import Solver, needs
from pcnet.typing import State


class ErrorView(EnergyProblem):
    """A problem whose state is its prediction errors; the values of its points are still values.

    Args:
        problem: in values.
    """

    def __init__(self, problem: ErrorProblem) -> None:
        self.problem = problem
        self.names, self.widths, self.kinked = problem.names, problem.widths, problem.kinked
        self._seen: tuple[State, State] = ((), ())  # values just evaluated, and the errors they came from

    def at(self, x: State) -> EnergyPoint:
        point = self.problem.at_errors(x)
        self._seen = point.values, x
        return point

    def rows(self, index: Int[Tensor, " R"]) -> "ErrorView":
        return ErrorView(self.problem.rows(index))

    def retract(self, x: State, increment: State) -> State:
        return self.problem.retract(x, increment)

    def coordinates(self, values: State) -> State:
        """The errors that imply these values; free of charge for the values of the last point."""
        seen, errors = self._seen
        return errors if seen is values else self.problem.errors(values)

    def gradient(self, point: EnergyPoint) -> State:
        """dF/deps."""
        return self.problem.error_gradient(point)

    def metric(self, point: EnergyPoint) -> Metric:
        """A positive-definite model of d2F/deps2."""
        return self.problem.gauss_newton(point)

    @cached_property
    def landscape(self) -> "Landscape":
        """F as a function of the errors."""
        return (CurvedLandscape if isinstance(self.problem, CurvedProblem) else PlainLandscape)(self.problem)


@dataclass(frozen=True)
class ErrorPoint(EnergyPoint):
    """A `Landscape` at one state: its values are errors, its residual is dF/deps.

    Attributes:
        origin: the same point as the problem in values sees it.
    """

    origin: EnergyPoint


class Landscape(EnergyProblem):
    """F as a function of the errors, for solvers that know nothing of them.

    Args:
        problem: in values.
    """

    def __init__(self, problem: ErrorProblem) -> None:
        self.problem = problem
        self.names, self.widths, self.kinked = problem.names, problem.widths, problem.kinked

    def at(self, x: State) -> ErrorPoint:
        return self.point(x, self.problem.at_errors(x))

    def point(self, errors: State, origin: EnergyPoint) -> ErrorPoint:
        """The point at these errors, from the same point in values."""
        return ErrorPoint(errors, self.problem.error_gradient(origin), origin.energy, origin)

    def rows(self, index: Int[Tensor, " R"]) -> "Landscape":
        return type(self)(self.problem.rows(index))

    def retract(self, x: State, increment: State) -> State:
        return self.problem.retract(x, increment)


class PlainLandscape(Landscape):
    """A `Landscape` of unknown curvature."""


class CurvedLandscape(Landscape, CurvedProblem):
    """A `Landscape` with its curvature as Gauss and Newton would have it.

    d2F/deps2 is Q^T H Q with Q = dx/deps, plus a term of the predictions' curvature in proportion to the residual, which is
    left out: exact for linear networks, and at every equilibrium.
    """

    def hessian_product(self, point: ErrorPoint, direction: State) -> State:
        moved = self.problem.push_forward(point.origin, direction)
        return self.problem.pull_back(point.origin, self.problem.hessian_product(point.origin, moved))


@dataclass(frozen=True)
class InErrors(Solver):
    """Another solver, moving in errors: it sees points whose values are errors and whose residual is dF/deps.

    `solve` goes on reading the residual in values, so tolerances mean the same. With `Momentum` a strong and cheap method
    for deep networks; each step adds one sweep down the network and up again to what the solver costs in values.

    Args:
        solver: any that does not move in errors by itself.

    Reference: error coordinates, arXiv 2505.20137.
    """

    solver: Solver

    def __post_init__(self) -> None:
        if any(issubclass(structure, ErrorProblem) for structure in needs(self.solver)):
            raise TypeError(f"InErrors: {type(self.solver).__name__} already moves in errors")

    @property
    def requires(self) -> tuple[type[Equilibrium], ...]:
        return ErrorProblem, *needs(self.solver)

    @property
    def evaluations(self) -> int:
        return self.solver.evaluations

    def view(self, problem: ErrorProblem) -> ErrorView:
        return ErrorView(problem)

    def init(self, problem: ErrorView, point: EnergyPoint) -> Any:
        return self.solver.init(problem.landscape, self._seen(problem, point))

    def step(self, problem: ErrorView, point: EnergyPoint, carry: Any) -> tuple[State, Any]:
        return self.solver.step(problem.landscape, self._seen(problem, point), carry)

    def restart(self, problem: ErrorView, point: EnergyPoint, carry: Any) -> Any:
        return self.solver.restart(problem.landscape, self._seen(problem, point), carry)

    @staticmethod
    def _seen(problem: ErrorView, point: EnergyPoint) -> ErrorPoint:
        return problem.landscape.point(problem.coordinates(point.values), point)

    def products(self, carry: Any) -> Int[Tensor, " B"] | int:
        return self.solver.products(carry)
