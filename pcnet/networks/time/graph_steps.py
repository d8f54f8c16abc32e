"""Steps of any graph: its own energy, with what the step before carried on held under other names."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.inference.equilibrium import EnergyPoint, ErrorProblem, Metric
from pcnet.networks.graph.network import GraphNetwork
from pcnet.networks.graph.problem import GraphPoint, GraphProblem, problem_of
from pcnet.networks.graph.structure import Clamped
from pcnet.networks.time.steps import StepClamp, Steps
from pcnet.typing import State


class GraphSteps(Steps):
    """`GraphProblem` at every step.

    Args:
        graph: of one step.
        carried: name of the held node by the name of the free node whose values it gets, in the order of the memory.
        sense: name of the observed node.
    """

    def __init__(self, graph: GraphNetwork, carried: Mapping[str, str], sense: str) -> None:
        self.graph, self.names_carried, self.sense = graph, carried, sense
        held = dict.fromkeys((sense, *carried.values()), torch.empty(0))
        self.names = graph.structure(Clamped(held)).free
        self.readout = next(p for p in graph.predictions if p.target == sense)

    def _past(self, memory: State) -> dict[str, Tensor]:
        return dict(zip(self.names_carried.values(), memory, strict=True))

    def _sensed(self, sense: Tensor) -> Float[Tensor, "B N"]:
        return self.graph.clamp({self.sense: sense}).values[self.sense]

    def problem(self, clamped: StepClamp) -> GraphProblem:
        held = {self.sense: self._sensed(clamped.sense)} | self._past(clamped.past)
        return self.graph.problem(Clamped(held))

    def sweep(self, problem: GraphProblem) -> State:
        return self.graph.feedforward(problem) if torch.is_grad_enabled() else self.graph.sweep(problem)

    def carried(self, values: State) -> State:
        free = dict(zip(self.names, values, strict=True))
        return tuple(free[name] for name in self.names_carried)

    def before(self, memory: State, expected: State) -> State:
        known = dict(zip(self.names_carried, memory, strict=True))
        return tuple(known.get(name, group) for name, group in zip(self.names, expected, strict=True))

    def expected(self, memory: State) -> State:
        problem = self.graph.problem(Clamped(self._past(memory)))
        nodes = dict(zip(problem.names, self.graph.feedforward(problem), strict=True))
        # A node that does nothing but predict the sense is in no energy while the sense is free.
        widths = self.graph.widths
        return tuple(nodes[n] if n in nodes else memory[0].new_zeros(len(memory[0]), widths[n]) for n in self.names)

    def read(self, values: State, memory: State) -> Float[Tensor, "B M"]:
        nodes = self._past(memory) | dict(zip(self.names, values, strict=True))
        terms = zip(self.readout.sources, self.readout.layers, strict=True)
        return sum(layer(nodes[source]) for source, layer in terms)

    def costs(self, prediction: Float[Tensor, "B M"], sense: Tensor) -> Float[Tensor, " B"]:
        """`surprise` row by row."""
        return self.readout.energy(self._sensed(sense), prediction)

    def surprise(self, prediction: Float[Tensor, "B M"], sense: Tensor) -> Float[Tensor, ""]:
        return self.costs(prediction, sense).mean()

    def mismatch(self, problem: GraphProblem, point: GraphPoint) -> Float[Tensor, ""]:
        parts = zip(problem.structure.predictions, point.sent, strict=True)
        errors = [p.weight * p.energy(point.nodes[p.target], s.prediction) for p, s in parts if p.target != self.sense]
        priors = [prior(point.nodes[name]) for name, prior in problem.structure.priors.items()]
        return sum(cost.mean() for cost in errors + priors)

    def nudged(self, problem: GraphProblem, outcome: Tensor, strength: float) -> "PushedStep":
        return PushedStep(self, problem, outcome, strength)

    def sent_back(self, problem: GraphProblem, point: GraphPoint, adjoint: State, earlier: EnergyPoint) -> State:
        past = {name: problem.held[name].detach().requires_grad_() for name in self.names_carried.values()}
        with torch.enable_grad():
            again = problem_of(problem.structure, Clamped(problem.clamped.values | past))
            residual = again.at(point.values).residual
            inner = sum((a * r).sum() for a, r in zip(adjoint, residual, strict=True))
        sent = torch.autograd.grad(inner, list(past.values()), materialize_grads=True)
        by_name = dict(zip(self.names_carried, sent, strict=True))
        return tuple(
            -by_name[name] if name in by_name else torch.zeros_like(group)
            for name, group in zip(self.names, earlier.values, strict=True)
        )

    def reading(self, problem: GraphProblem, values: State) -> dict[str, dict[str, Tensor]]:
        seen = self.graph.reading(problem, values)
        past = tuple(problem.held[name] for name in self.names_carried.values())
        law = self.readout.energy.centre(self.forecast(past))
        return {name: seen[name] for name in self.names} | {self.sense: seen[self.sense] | {"prediction": law}}


@dataclass(frozen=True)
class PushedPoint(EnergyPoint):
    """A `PushedStep` evaluated at one state.

    Attributes:
        free: the step without the nudge, at the same state.
    """

    free: GraphPoint


class PushedStep(ErrorProblem):
    """F + strength * surprise at the next outcome, the surprise's derivatives by autograd; its metric is that of F alone.

    Args:
        steps: of the network.
        free: F.
        outcome: what is sensed at the next step.
        strength: of either sign.

    Raises:
        ValueError: F has kinks (priors with |x|), whose pseudo-gradient cannot be added to.
    """

    def __init__(self, steps: GraphSteps, free: GraphProblem, outcome: Tensor, strength: float) -> None:
        if free.kinked:
            raise ValueError(f"nodes {', '.join(free.structure.sparse)}: a nudge needs priors without a kink at zero")
        self.steps, self.free, self.outcome, self.strength = steps, free, outcome, strength
        self.names, self.widths = free.names, free.widths

    def rows(self, index: Int[Tensor, " R"]) -> "PushedStep":
        return PushedStep(self.steps, self.free.rows(index), self.outcome[index], self.strength)

    def at(self, x: State) -> PushedPoint:
        return self._pushed(self.free.at(x))

    def at_errors(self, errors: State) -> PushedPoint:
        return self._pushed(self.free.at_errors(errors))

    def errors(self, values: State) -> State:
        return self.free.errors(values)

    def pull_back(self, point: PushedPoint, gradient: State) -> State:
        return self.free.pull_back(point.free, gradient)

    def push_forward(self, point: PushedPoint, direction: State) -> State:
        return self.free.push_forward(point.free, direction)

    def gauss_newton(self, point: PushedPoint) -> Metric:
        return self.free.gauss_newton(point.free)

    def _pushed(self, point: GraphPoint) -> PushedPoint:
        with torch.enable_grad():
            values = tuple(group.detach().requires_grad_() for group in point.values)
            cost = self.steps.costs(self.steps.forecast(self.steps.carried(values)), self.outcome)
            total = cost.sum()
        learns = torch.is_grad_enabled()
        sent = torch.autograd.grad(total, values, retain_graph=learns, materialize_grads=True)
        residual = tuple(r + self.strength * g for r, g in zip(point.residual, sent, strict=True))
        energy = point.energy + self.strength * (cost if learns else cost.detach())
        return PushedPoint(point.values, residual, energy, point)
