"""What the rows of a batch are to foresee, and what it costs them: a graph's targets, or what is sensed at the next step."""

import abc
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.energies import Energy, ErrorEnergy, Gaussian
from pcnet.inference.equilibrium import EnergyPoint, ErrorProblem
from pcnet.learning.example import Example
from pcnet.learning.explicit import difference, energy_gradients, handed, valued
from pcnet.learning.pushed import PushedGraph
from pcnet.networks import Clamped, GraphNetwork, GraphProblem, Prediction, Skip
from pcnet.networks.graph.problem import problem_of
from pcnet.networks.graph.structure import Structure
from pcnet.networks.time.network import TemporalNetwork
from pcnet.networks.time.steps import StepClamp
from pcnet.typing import State

End = tuple[ErrorProblem, EnergyPoint]
"""A problem, and the point where its values rest."""


class Task(abc.ABC):
    """Rows that relax by themselves, and a cost l of the outcome that follows from their values."""

    @property
    @abc.abstractmethod
    def problem(self) -> ErrorProblem:
        """F while the outcome has no say; differentiable in the weights when it is asked for with gradients."""

    @abc.abstractmethod
    def cost(self, values: State) -> Float[Tensor, ""]:
        """l at these values of the free nodes, mean over rows; differentiable in values and weights."""

    @abc.abstractmethod
    def nudged(self, strength: float) -> ErrorProblem:
        """F + strength * l, of any sign."""

    @abc.abstractmethod
    def nudge_loss(
        self, value: Float[Tensor, ""], strengths: Sequence[float], ends: Sequence[End], distance: float
    ) -> Float[Tensor, ""]:
        """A scalar with this value, whose backward is that of the mean of (F_upper - F_lower) / distance, values held.

        Args:
            value: of the loss.
            strengths: of the two nudges, the upper one first.
            ends: what was nudged so, and the point where it came to rest.
            distance: between the strengths.
        """

    @abc.abstractmethod
    def rows(self, index: Int[Tensor, " R"]) -> "Task":
        """The same for some of the rows."""


class NextSense(Task):
    """Steps of a temporal network, each with its own past held, that are to foresee what is sensed at the step after.

    Args:
        network: that carries values on.
        now: what each row holds.
        outcome: what is sensed at the next step.
    """

    def __init__(self, network: TemporalNetwork, now: StepClamp, outcome: Tensor) -> None:
        self.network, self.now, self.outcome = network, now, outcome

    @property
    def problem(self) -> ErrorProblem:
        return self.network.problem(self.now)

    def cost(self, values: State) -> Float[Tensor, ""]:
        steps = self.network.steps()
        return steps.surprise(steps.forecast(steps.carried(values)), self.outcome)

    def nudged(self, strength: float) -> ErrorProblem:
        steps = self.network.steps()
        return steps.nudged(steps.problem(self.now), self.outcome, strength)

    def nudge_loss(
        self, value: Float[Tensor, ""], strengths: Sequence[float], ends: Sequence[End], distance: float
    ) -> Float[Tensor, ""]:
        # The problems are made anew, with gradients, one after the other.
        points = (self.nudged(strength).at(point.values) for strength, (_, point) in zip(strengths, ends, strict=True))
        upper, lower = (point.energy.sum() for point in points)
        return valued(value, (upper - lower) / (distance * len(self.outcome)))

    def rows(self, index: Int[Tensor, " R"]) -> "NextSense":
        now = StepClamp(self.now.sense[index], tuple(group[index] for group in self.now.past))
        return NextSense(self.network, now, self.outcome[index])

    def local(self, values: State) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The cost, with gradients only in what predicts the sense, and the rest of F at these values, with gradients in weights.

        The cost is that at zero error, where nothing of the outcome has been explained away yet.
        """
        steps = self.network.steps()
        memory = steps.carried(values)
        with torch.no_grad():
            expected = steps.expected(memory)
        surprise = steps.surprise(steps.read(expected, memory), self.outcome)
        problem = steps.problem(self.now)
        return surprise, steps.mismatch(problem, problem.at(values))


class OutputTask(Task):
    """An example with its inputs held and its targets free.

        l = sum over targets of E(target, mu),

    mu the network's prediction of the target, E that prediction's energy, its weight in F left out. A target that
    nothing predicts, such as the cause of an image in a generative network, is compared with the value inferred for it, at
    1/2 error^2 a unit.

    A target that only is predicted, and predicts nothing itself, follows whatever is predicted of it at no cost, unless its
    energy depends on more than the error: it is left out of the problem.

    Args:
        network: what says something.
        example: with inputs and targets.

    Raises:
        ValueError: no inputs, no targets, or nothing determines what a target is predicted from.
    """

    def __init__(self, network: GraphNetwork, example: Example) -> None:
        self.network = network
        self.clamped, self.targets = example.split(network)
        whole = network.structure(self.clamped)
        said = {name: _said(network, whole, name) for name in self.targets}
        needed = {source for p in whole.predictions for source in p.sources} | whole.priors.keys()
        idle = {name for name, p in said.items() if name not in needed and p is not None and _is_indifferent(p.energy)}
        self._predictions = tuple(p for p in whole.predictions if p.target not in idle)
        self._priors, self._free = whole.priors, tuple(name for name in whole.free if name not in idle)
        self.readouts = tuple(self._readout(name, p) for name, p in said.items())

    def _readout(self, name: str, p: Prediction | None) -> Prediction:
        """The prediction that a target is compared with, its target a node of its own."""
        if p is not None:
            return Prediction(_judged(name), list(zip(p.sources, p.layers)), p.energy)
        energy = Gaussian(self.network.widths[name]).to(self.targets[name])
        return Prediction(_judged(name), [(name, Skip())], energy)

    @cached_property
    def problem(self) -> GraphProblem:
        """F of what is free while the targets have no say."""
        problem = problem_of(self._structure(()), self.clamped)
        self._check_determined(problem)
        return problem

    def _structure(self, more: tuple[Prediction, ...]) -> Structure:
        widths = self.network.widths | {_judged(name): self.network.widths[name] for name in self.targets}
        return Structure.of((*self._predictions, *more), self._priors, widths, self._free)

    def _check_determined(self, problem: GraphProblem) -> None:
        known = problem.held.keys() | set(problem.names)
        for name, readout in zip(self.targets, self.readouts):
            missing = [source for source in readout.sources if source not in known]
            if missing:
                raise ValueError(f"target {name!r} follows from node {missing[0]!r}, which nothing determines")

    def nudged(self, strength: float) -> ErrorProblem:
        problem = self._with_nudge(strength)
        return problem if strength >= 0 else PushedGraph(problem, self._with_nudge(0.0))

    def nudge_loss(
        self, value: Float[Tensor, ""], strengths: Sequence[float], ends: Sequence[End], distance: float
    ) -> Float[Tensor, ""]:
        upper, lower = (energy_gradients(problem.structure, point) for problem, point in ends)
        return handed(value, difference(upper, lower), 1 / (distance * len(ends[0][1].energy)))

    def _with_nudge(self, strength: float) -> GraphProblem:
        """F + strength * l; its metric is only good where the strength is not negative."""
        nudges = tuple(Prediction(r.target, list(zip(r.sources, r.layers)), r.energy) for r in self.readouts)
        for nudge in nudges:
            nudge.weight = strength  # negative too, which a network's own predictions must not have
        judged = {_judged(name): value for name, value in self.targets.items()}
        return problem_of(self._structure(nudges), Clamped(self.clamped.values | judged))

    def cost(self, values: State) -> Float[Tensor, ""]:
        return self.energy(self.problem.nodes(values)).mean()

    def energy(self, nodes: Mapping[str, Tensor]) -> Float[Tensor, " B"]:
        """l at these values of the nodes; differentiable."""
        total = 0.0
        for readout, target in zip(self.readouts, self.targets.values()):
            mu = sum(layer(nodes[source]) for source, layer in zip(readout.sources, readout.layers))
            total = total + readout.energy(target, mu)
        return total

    def rows(self, index: Int[Tensor, " R"]) -> "OutputTask":
        held, targets = (
            {name: value[index] for name, value in part.items()} for part in (self.clamped.values, self.targets)
        )
        return OutputTask(self.network, Example(held, targets))

    def swept(self) -> State:
        """The feedforward sweep, differentiable in the weights."""
        return self.network.feedforward(self.problem)


def _said(network: GraphNetwork, free: Structure, name: str) -> Prediction | None:
    """The prediction of a node that its error is measured from while it is free; the first one that leaves it no free value."""
    if name in free.trunk:
        return free.predictions[free.trunk[name]]
    laws = (p for p in network.predictions if p.target == name and (p.energy.observed_only or name not in free.free))
    return next(laws, None)


def _is_indifferent(energy: Energy) -> bool:
    """Whether the energy of a value that follows its prediction is the same whatever that is, or there is no such value."""
    return energy.observed_only or isinstance(energy, ErrorEnergy)


def _judged(name: str) -> str:
    """A node that no network can have: names hold no dots."""
    return f"{name}.target"
