"""What a network says of its targets while they are free, and what that costs."""

from collections.abc import Mapping
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from pcnet.energies import Energy, ErrorEnergy, Gaussian
from pcnet.learning.example import Example
from pcnet.networks import Clamped, GraphNetwork, GraphProblem, Prediction, Skip
from pcnet.networks.graph.problem import problem_of
from pcnet.networks.graph.structure import Structure
from pcnet.typing import State


class OutputTask:
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

    def nudged(self, strength: float) -> GraphProblem:
        """F + strength * l, of any sign; its metric is only good where the strength is not negative."""
        nudges = tuple(Prediction(r.target, list(zip(r.sources, r.layers)), r.energy) for r in self.readouts)
        for nudge in nudges:
            nudge.weight = strength  # negative too, which a network's own predictions must not have
        judged = {_judged(name): value for name, value in self.targets.items()}
        return problem_of(self._structure(nudges), Clamped(self.clamped.values | judged))

    def energy(self, nodes: Mapping[str, Tensor]) -> Float[Tensor, " B"]:
        """l at these values of the nodes; differentiable."""
        total = 0.0
        for readout, target in zip(self.readouts, self.targets.values()):
            mu = sum(layer(nodes[source]) for source, layer in zip(readout.sources, readout.layers))
            total = total + readout.energy(target, mu)
        return total

    def rows(self, index: Tensor) -> "OutputTask":
        """The same for some of the rows."""
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
