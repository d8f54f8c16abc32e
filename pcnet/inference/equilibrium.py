"""What must vanish at an equilibrium, and what a way of relaxing values to it is.

A problem is data (weights, clamped values) plus one method: `at(x)` evaluates it once and returns a `Point`, so that nothing is
computed twice. Everything is per sample. Subclasses of `Equilibrium` promise more structure, for solvers that need it.
"""

import abc
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.inference.point import EnergyPoint, Point
from pcnet.inference.solution import Solution
from pcnet.typing import State

Program = Callable[[State, Collection[int]], Solution]
"""(values to start from, numbers of steps to record) -> where it ended: a whole relaxation."""


class Equilibrium(abc.ABC):
    """A residual to be brought to zero over the free value nodes; clamped nodes live inside.

    Attributes:
        names: of the node groups, for messages; empty where the problem has none to give.
        widths: units of every node group, to refuse other values by a clear message; empty where the problem does not say.
        kinked: whether the energy has kinks (L1 priors), so that `retract` does more than add.
    """

    names: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    kinked: bool = False

    @abc.abstractmethod
    def at(self, x: State) -> Point:
        """Evaluate the problem at `x`."""

    @abc.abstractmethod
    def rows(self, index: Int[Tensor, " R"]) -> "Equilibrium":
        """The same problem for these rows only, in this order."""

    def retract(self, x: State, increment: State) -> State:
        """Where a step from `x` lands: x + increment, unless the energy has kinks that stop it.

        With an L1 prior the residual is the pseudo-gradient, zero at a unit that its kink holds at zero, and a unit whose
        sign the step would change stops at zero (orthant-wise step, Andrew & Gao 2007). So every solver has its proximal
        step without knowing. A state in error coordinates is retracted in them: nodes with kinks are their own errors.
        """
        return add(x, increment)

    def coordinates(self, values: State) -> State:
        """The state whose `at` has these values: the values themselves, unless the problem is written in other coordinates."""
        return values

    def faster(self, relaxation: "Relaxation") -> Program | None:
        """The problem's own program that does what `relaxation` says in less time; None where there is none.

        It returns the same `Solution` to rounding.
        """
        return None


class InitialValues(abc.ABC):
    """Where the values of a new token start."""

    @abc.abstractmethod
    def __call__(self, expected: State, past: State) -> State:
        """Starting values, from what the network expects before the token and from the values of the token before."""


class Relaxation(abc.ABC):
    """How a network relaxes its values: until they are at equilibrium (`Inference`), or for so long (`FixedSteps`).

    Attributes:
        initial: where values start.
    """

    initial: InitialValues

    def run(self, problem: Equilibrium, values: State, record: Collection[int] = ()) -> Solution:
        """Relax `values`, without differentiating, and keep them in the trace after the recorded numbers of steps.

        The problem is asked first whether it has a faster program for this.
        """
        program = problem.faster(self)
        return self.relax(problem, values, record) if program is None else program(values, record)

    @abc.abstractmethod
    def relax(self, problem: Equilibrium, values: State, record: Collection[int] = ()) -> Solution:
        """`run` by evaluations of the problem alone."""


class EnergyProblem(Equilibrium):
    """An `Equilibrium` whose residual is the gradient of an energy, so its Jacobian is the symmetric Hessian."""

    @abc.abstractmethod
    def at(self, x: State) -> EnergyPoint: ...


class CurvedProblem(EnergyProblem):
    """An `EnergyProblem` that knows its Hessian."""

    @abc.abstractmethod
    def hessian_product(self, point: EnergyPoint, direction: State) -> State:
        """d2F/dx2 times `direction`, at `point`, in value coordinates.

        Units that cannot move there (observed, or held in a kink) are left out: zero, like their residual.
        """


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

    def error_gradient(self, point: EnergyPoint) -> State:
        """dF/deps: the residual pulled back, unless the energy has kinks.

        Then the pseudo-gradient in errors has to be made from the whole gradient in errors: what is zero in values, because a
        kink holds it, need not be zero in errors.
        """
        return self.pull_back(point, point.residual)

    @abc.abstractmethod
    def gauss_newton(self, point: EnergyPoint) -> Metric:
        """A positive-definite model of d2F/deps2 at `point`."""


class PackedMetric(Metric, Protocol):
    """A `Metric` that can be kept from step to step: a `NamedTuple` of batch-first tensors, as a solver's carry is.

    Its `solve` takes the state packed in one group, (B, N), or in its own groups.
    """

    def __iter__(self) -> Iterator: ...

    def length(self, step: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        """sqrt(step^T P step)."""
        ...


class CurvedErrorProblem(ErrorProblem, CurvedProblem):
    """An `ErrorProblem` whose curvature along directions in errors is cheap, so that Gauss-Newton's steps can be refined."""

    @abc.abstractmethod
    def error_curvature(self, point: EnergyPoint) -> Callable[[Float[Tensor, "B N"]], Float[Tensor, "B N"]]:
        """Q^T (d2F/dx2) Q, Q = dx/deps, as a product with directions in errors, all groups packed side by side.

        That is d2F/deps2 but for the curvature of Q in proportion to the residual: exact where predictions are linear, and
        at every equilibrium. Zero for units that cannot move.
        """

    @abc.abstractmethod
    def stiffness(self, point: EnergyPoint) -> Float[Tensor, "B N"]:
        """A positive diagonal model of that curvature: every error's own."""

    @abc.abstractmethod
    def preconditioner(self, point: EnergyPoint) -> PackedMetric:
        """A positive-definite model of that curvature with a cheap inverse: Gauss-Newton's where it can be factorised."""

    @abc.abstractmethod
    def no_preconditioner(self, point: EnergyPoint) -> PackedMetric:
        """The unit matrix in the form that `preconditioner` has here: what a solver remembers before it has made one."""


class LinearGaussian(ErrorProblem):
    """An `ErrorProblem` with linear predictions and Gaussian energies: its Gauss-Newton metric is the exact curvature.

    The curvature is the same at all values, so one step of Gauss-Newton lands on the minimum: the posterior mean.
    """


def zeros_like(state: Sequence[Tensor]) -> State:
    """A state of zeros with the shapes of `state`."""
    return tuple(group.new_zeros(group.shape) for group in state)


def dot(left: State, right: State) -> Float[Tensor, " B"]:
    """The inner product of two states, per sample."""
    return sum((a * b).sum(-1) for a, b in zip(left, right, strict=True))


def add(left: State, right: State) -> State:
    """left + right."""
    return tuple(torch._foreach_add(left, right))


def subtract(left: State, right: State) -> State:
    """left - right."""
    return tuple(torch._foreach_sub(left, right))


def scale(state: State, factor: Float[Tensor, "B 1"] | float) -> State:
    """factor * state, with one factor for all samples or one each."""
    return tuple(torch._foreach_mul(state, [factor] * len(state) if isinstance(factor, Tensor) else factor))


def axpy(state: State, factor: Float[Tensor, "B 1"] | float, direction: State) -> State:
    """state + factor * direction, with one factor for all samples or one each."""
    if isinstance(factor, Tensor):
        return tuple(torch.addcmul(group, factor, step) for group, step in zip(state, direction, strict=True))
    return tuple(torch._foreach_add(state, direction, alpha=factor))


def packed(state: State) -> Float[Tensor, "B *K N"]:
    """All node groups side by side."""
    return state[0] if len(state) == 1 else torch.cat(state, -1)


def unpacked(whole: Float[Tensor, "B *K N"], like: State) -> State:
    """The groups again, as wide as these."""
    return (whole,) if len(like) == 1 else whole.split([group.shape[-1] for group in like], -1)
