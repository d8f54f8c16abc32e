"""A graph pushed away from an outcome: an energy with a prediction of negative weight, and a metric that stays positive."""

from collections.abc import Callable

from jaxtyping import Int
from torch import Tensor

from pcnet.inference.equilibrium import CurvedErrorProblem, Metric, PackedMetric
from pcnet.networks import GraphPoint, GraphProblem
from pcnet.networks.graph.structure import Structure
from pcnet.typing import State


class PushedGraph(CurvedErrorProblem):
    """F - beta l, with the curvature of F alone as Gauss-Newton's metric.

    The curvature of F - beta l itself is no metric, because it need not be positive; where it is not, there is no
    equilibrium. Products with it are exact.

    Args:
        problem: F - beta l.
        model: F + 0 l, over the same nodes.
    """

    def __init__(self, problem: GraphProblem, model: GraphProblem) -> None:
        self.problem, self.model = problem, model
        self.names, self.widths, self.kinked = problem.names, problem.widths, problem.kinked

    @property
    def structure(self) -> Structure:
        """Of the energy itself."""
        return self.problem.structure

    def at(self, x: State) -> GraphPoint:
        return self.problem.at(x)

    def rows(self, index: Int[Tensor, " R"]) -> "PushedGraph":
        return PushedGraph(self.problem.rows(index), self.model.rows(index))

    def retract(self, x: State, increment: State) -> State:
        return self.problem.retract(x, increment)

    def hessian_product(self, point: GraphPoint, direction: State) -> State:
        return self.problem.hessian_product(point, direction)

    def at_errors(self, errors: State) -> GraphPoint:
        return self.problem.at_errors(errors)

    def errors(self, values: State) -> State:
        return self.problem.errors(values)

    def pull_back(self, point: GraphPoint, gradient: State) -> State:
        return self.problem.pull_back(point, gradient)

    def push_forward(self, point: GraphPoint, direction: State) -> State:
        return self.problem.push_forward(point, direction)

    def error_gradient(self, point: GraphPoint) -> State:
        return self.problem.error_gradient(point)

    def error_curvature(self, point: GraphPoint) -> Callable[[Tensor], Tensor]:
        return self.problem.error_curvature(point)

    def stiffness(self, point: GraphPoint) -> Tensor:
        return self.model.stiffness(point)

    def preconditioner(self, point: GraphPoint) -> PackedMetric:
        return self.model.preconditioner(point)

    def no_preconditioner(self, point: GraphPoint) -> PackedMetric:
        return self.model.no_preconditioner(point)

    def gauss_newton(self, point: GraphPoint) -> Metric:
        return self.model.gauss_newton(point)
