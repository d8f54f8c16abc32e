"""What must vanish at an equilibrium, and what one look at a state tells about it.

A problem is data (weights, clamped values) plus one method: `at(x)` evaluates it once and returns a `Point`, from which the
loop reads its stopping test and the solver its step, so that nothing is computed twice. Everything is per sample.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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


class Equilibrium(abc.ABC):
    """A residual to be brought to zero over the free value nodes; clamped nodes live inside."""

    @abc.abstractmethod
    def at(self, x: State) -> Point:
        """Evaluate the problem at `x`."""

    def coordinates(self, values: State) -> State:
        """The state whose `at` has these values: the values themselves, unless the problem is written in other coordinates."""
        return values


class EnergyProblem(Equilibrium):
    """An `Equilibrium` whose residual is the gradient of an energy, so its Jacobian is the symmetric Hessian."""

    @abc.abstractmethod
    def at(self, x: State) -> EnergyPoint: ...


class CurvedProblem(EnergyProblem):
    """An `EnergyProblem` that knows its Hessian."""

    @abc.abstractmethod
    def hessian_product(self, point: EnergyPoint, direction: State) -> State:
        """d2F/dx2 times `direction`, at `point`, in value coordinates."""


class Metric(Protocol):
    """A symmetric positive-definite model of the curvature that knows its inverse."""

    def solve(self, gradient: State) -> State: ...


class ErrorProblem(EnergyProblem):
    """An `EnergyProblem` that can also be written in its prediction errors instead of its values.

    With eps = x - prediction(x) and the predictions running one way through the levels, errors and values determine
    each other (determinant 1). One step of Gauss-Newton there solves a linear-Gaussian network of any depth, where the
    condition number in values grows about as the depth squared (arXiv 2505.20137).
    """

    @abc.abstractmethod
    def at_errors(self, errors: State) -> EnergyPoint:
        """Evaluate at the values that these errors imply."""

    @abc.abstractmethod
    def errors(self, values: State) -> State:
        """eps = x - prediction(x)."""

    @abc.abstractmethod
    def pull_back(self, point: EnergyPoint, gradient: State) -> State:
        """(dx/deps)^T times a gradient in values: the same gradient in errors."""

    @abc.abstractmethod
    def push_forward(self, point: EnergyPoint, direction: State) -> State:
        """dx/deps times a direction in errors: the same direction in values."""

    @abc.abstractmethod
    def gauss_newton(self, point: EnergyPoint) -> Metric:
        """A positive-definite model of d2F/deps2 at `point`."""


def zeros_like(state: Sequence[Tensor]) -> State:
    """A state of zeros with the shapes of `state`."""
    return tuple(group.new_zeros(group.shape) for group in state)


def dot(left: State, right: State) -> Float[Tensor, " B"]:
    """The inner product of two states, per sample."""
    return sum((a * b).sum(-1) for a, b in zip(left, right, strict=True))


def axpy(state: State, scale: Float[Tensor, "B 1"] | float, direction: State) -> State:
    """state + scale * direction, with one scale per sample."""
    return tuple(group + scale * step for group, step in zip(state, direction, strict=True))
