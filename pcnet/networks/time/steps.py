"""One step of a temporal network: what is held, what relaxes, and what the step after it is told."""

import abc
from collections.abc import Callable, Iterator
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from pcnet.inference.equilibrium import EnergyPoint, EnergyProblem, ErrorProblem
from pcnet.typing import State


class StepClamp(NamedTuple):
    """What is held while one step is inferred.

    Attributes:
        sense: what is observed now: tokens (B,), or values (B, ...) of the sense node.
        past: the memory, values that the step before carried on.
    """

    sense: Tensor
    past: State


Relax = Callable[[EnergyProblem, State, State], State]
"""Values of one step from its problem, from the values at zero error, and from those of the step before."""


class Steps(abc.ABC):
    """The steps of one network, with its weights gathered once for all of them.

    There are two: `GraphSteps` for any graph, and `TokenSteps`, which is faster, for the graphs that it fits.
    """

    @abc.abstractmethod
    def problem(self, clamped: StepClamp) -> ErrorProblem:
        """The energy of one step over its free values, given what is held."""

    @abc.abstractmethod
    def sweep(self, problem: ErrorProblem) -> State:
        """Free values at zero error, from what the problem holds; differentiable."""

    @abc.abstractmethod
    def carried(self, values: State) -> State:
        """The memory that these free values leave."""

    @abc.abstractmethod
    def before(self, memory: State, expected: State) -> State:
        """The free values of the step before, as far as the memory has them; elsewhere the expected ones."""

    @abc.abstractmethod
    def expected(self, memory: State) -> State:
        """Free values of the next step at zero error, before anything of it is sensed; differentiable."""

    @abc.abstractmethod
    def read(self, values: State, memory: State) -> Float[Tensor, "B M"]:
        """What the network predicts of the sense from these free values."""

    @abc.abstractmethod
    def surprise(self, prediction: Float[Tensor, "B M"], sense: Tensor) -> Float[Tensor, ""]:
        """What it costs that this was sensed where that was predicted: mean over rows, in nats."""

    @abc.abstractmethod
    def mismatch(self, problem: ErrorProblem, point: EnergyPoint) -> Float[Tensor, ""]:
        """The energy but for what the sense costs: mean over rows, differentiable if the point is."""

    @abc.abstractmethod
    def nudged(self, problem: ErrorProblem, outcome: Tensor, strength: float) -> ErrorProblem:
        """F + strength * surprise at the outcome, as the next step's sense is forecast from the values.

        Args:
            problem: of F.
            outcome: what is sensed at the next step.
            strength: of either sign.
        """

    @abc.abstractmethod
    def sent_back(self, problem: ErrorProblem, point: EnergyPoint, adjoint: State, earlier: EnergyPoint) -> State:
        """-(dg/dx)^T adjoint, g = dF/dvalues of a step, x the free values of the step before it.

        Args:
            problem: of the step.
            point: the problem at the step's values.
            adjoint: one number for each of its free values.
            earlier: the problem of the step before, at x.
        """

    @abc.abstractmethod
    def reading(self, problem: ErrorProblem, values: State) -> dict[str, dict[str, Tensor]]:
        """By node, its value, prediction and error at these free values.

        The sense's prediction is the one at zero error, before it was seen; its error is taken at the values.
        """

    def forecast(self, memory: State) -> Float[Tensor, "*B M"]:
        """The prediction of the next sense at zero error; for a categorical sense, logits."""
        rows = tuple(group.flatten(0, -2) for group in memory)
        return self.read(self.expected(rows), rows).unflatten(0, memory[0].shape[:-1])

    def scan(self, senses: Float[Tensor, "B L *N"], memory: State, relax: Relax) -> Iterator[tuple[State, State]]:
        """The loop over time, the only one: yields the free values of every step, and the memory after it.

        Args:
            senses: what is observed, step by step.
            memory: before the first step.
            relax: how values get from the expected ones to where the step leaves them.
        """
        for sense in senses.unbind(1):
            problem = self.problem(StepClamp(sense, memory))
            expected = self.sweep(problem)
            values = relax(problem, expected, self.before(memory, expected))
            memory = self.carried(values)
            yield values, memory
