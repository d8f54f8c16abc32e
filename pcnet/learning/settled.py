"""A batch at equilibrium: every step a row, what diverged left out. A graph's example is a sequence of one step."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pcnet.inference import Relaxation, Status
from pcnet.inference.equilibrium import EnergyPoint, EnergyProblem, zeros_like
from pcnet.learning.example import Example
from pcnet.learning.explicit import energy_gradients, handed
from pcnet.learning.relaxed import for_rows, kept, relax
from pcnet.learning.rule import LearningRule, check_example, check_graph, check_sequences
from pcnet.learning.task import NextSense, OutputTask, Task
from pcnet.networks import Clamped, GraphNetwork, GraphPoint, GraphProblem
from pcnet.networks.graph.trivial import warn_if_trivial
from pcnet.networks.time.network import TemporalNetwork, Trajectory
from pcnet.networks.time.steps import Relax, StepClamp
from pcnet.typing import State

Solve = Callable[[EnergyProblem, EnergyPoint, State], State]
"""A linear system in the Hessian of one step's energy: its problem, the problem at its values, and the right side."""


class Settled(abc.ABC):
    """Values at their equilibria, a row for every step of every sequence.

    Attributes:
        values: of all rows.
        task: what the rows are to foresee; None where all that is known is held.
    """

    values: State
    task: Task | None

    @abc.abstractmethod
    def energy(self) -> Float[Tensor, ""]:
        """Mean energy, with its gradients in the weights: values are held."""

    @abc.abstractmethod
    def adjoint(self, sent: State, solve: Solve) -> State:
        """H^-1 sent for every row, through time: each step also gets what its values sent into the step after it."""


@dataclass(frozen=True)
class SettledExample(Settled):
    """Rows of a graph.

    Attributes:
        task: what is said of the targets, while they are free.
        problem: of these rows.
        point: the problem at the equilibria.
    """

    task: OutputTask | None
    problem: GraphProblem
    point: GraphPoint

    @property
    def values(self) -> State:
        return self.point.values

    def energy(self) -> Float[Tensor, ""]:
        gradients = energy_gradients(self.problem.structure, self.point)
        return handed(self.point.energy.mean(), gradients, 1 / len(self.point.energy))

    def adjoint(self, sent: State, solve: Solve) -> State:
        return solve(self.problem, self.point, sent)


@dataclass(frozen=True)
class SettledSequences(Settled):
    """All steps but the last of sequences, each with its own past held.

    Attributes:
        network: that carries values on.
        senses: of the sequences that have not diverged, (B, L, ...).
        trajectory: of their first L-1 steps.
    """

    network: TemporalNetwork
    senses: Float[Tensor, "B L *N"]
    trajectory: Trajectory

    @cached_property
    def values(self) -> State:
        return _rows(self.trajectory.values)

    @cached_property
    def task(self) -> NextSense:
        return next_sense(self.network, self.senses, self.trajectory.past)

    def energy(self) -> Float[Tensor, ""]:
        return self.task.problem.at(self.values).energy.mean()

    @torch.no_grad()
    def adjoint(self, sent: State, solve: Solve) -> State:
        steps = self.network.steps()
        rows, length = self.trajectory.status.shape
        sent = tuple(group.unflatten(0, (rows, length)) for group in sent)
        adjoints: list[State] = []
        later: tuple[EnergyProblem, EnergyPoint, State] | None = None
        for t in reversed(range(length)):
            past, values, right = (
                tuple(group[:, t] for group in state) for state in (self.trajectory.past, self.trajectory.values, sent)
            )
            problem = steps.problem(StepClamp(self.senses[:, t], past))
            point = problem.at(values)
            if later is not None:
                back = steps.sent_back(*later, point)
                right = tuple(own + other for own, other in zip(right, back, strict=True))
            later = problem, point, solve(problem, point, right)
            adjoints.append(later[2])
        return tuple(torch.stack(groups[::-1], 1).flatten(0, 1) for groups in zip(*adjoints, strict=True))


def settle(
    rule: LearningRule, network: nn.Module, batch: Tensor | Example, inference: Relaxation | None, *, targets_held: bool
) -> Settled:
    """Relax every step of a batch.

    Args:
        rule: that asks, for messages.
        network: a temporal one with sequences, or a graph with an example.
        batch: to relax.
        inference: how; None is the network's own way.
        targets_held: whether an example's targets are held too. What a sequence senses next never is.

    Raises:
        TypeError: the rule is not for this kind of network, or the batch not for the network.
        FloatingPointError: inference diverged everywhere.
    """
    if isinstance(network, TemporalNetwork):
        return _settled_sequences(network, check_sequences(rule, network, batch), inference)
    network = check_graph(rule, network)
    example = check_example(rule, network, batch)
    task = None if targets_held else OutputTask(network, example)
    problem = task.problem if task else network.problem(_all_held(network, example))
    end = relax(network, problem, inference)
    rows = kept(network, [end])
    problem, point = for_rows(problem, end.point, rows)
    return SettledExample(task.rows(rows) if task and rows is not None else task, problem, point)


def _all_held(network: GraphNetwork, example: Example) -> Clamped:
    clamped = example.whole(network)
    if not example.targets:
        warn_if_trivial(network, clamped)
    return clamped


def _settled_sequences(network: TemporalNetwork, senses: Tensor, inference: Relaxation | None) -> SettledSequences:
    trajectory = network.infer(senses[:, :-1], inference)
    good = (trajectory.status != Status.DIVERGED).all(-1)
    if good.all():
        return SettledSequences(network, senses, trajectory)
    if not good.any():
        raise FloatingPointError("inference diverged in every sequence of the batch; lower the step size or the scale")
    return SettledSequences(network, senses[good], trajectory.rows(good))


def walk(rule: LearningRule, network: nn.Module, batch: Tensor | Example, relax: Relax) -> tuple[Task, State]:
    """Let values of every step be whatever `relax` makes of them; the task over all steps, and these values, a row each.

    Differentiable as far as `relax` is. See `settle` for the other arguments.
    """
    if isinstance(network, TemporalNetwork):
        senses = check_sequences(rule, network, batch)
        memory = network.start(len(senses))
        steps = list(network.steps().scan(senses[:, :-1], memory, relax))
        values, memories = (_stacked(states) for states in zip(*steps, strict=True))
        past = tuple(torch.cat([m.unsqueeze(1), after[:, :-1]], 1) for m, after in zip(memory, memories, strict=True))
        return next_sense(network, senses, past), _rows(values)
    network = check_graph(rule, network)
    task = OutputTask(network, check_example(rule, network, batch))
    swept = task.swept()
    return task, relax(task.problem, swept, zeros_like(swept)) if swept else swept


def next_sense(network: TemporalNetwork, senses: Float[Tensor, "B L *N"], past: State) -> NextSense:
    """The task of all steps but the last."""
    now, outcome = senses[:, :-1].flatten(0, 1), senses[:, 1:].flatten(0, 1)
    return NextSense(network, StepClamp(now, _rows(past)), outcome)


def _rows(state: State) -> State:
    """Every step a row."""
    return tuple(group.flatten(0, 1) for group in state)


def _stacked(states: tuple[State, ...]) -> State:
    return tuple(torch.stack(groups, 1) for groups in zip(*states, strict=True))
