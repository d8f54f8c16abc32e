"""Networks of one graph a step: values of some nodes are carried on and held at the next step under other names."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pcnet.inference import Inference, Relaxation, Solution
from pcnet.inference.equilibrium import ErrorProblem
from pcnet.networks.base import PCNetwork
from pcnet.networks.graph.network import GraphNetwork
from pcnet.networks.time.graph_steps import GraphSteps
from pcnet.networks.time.steps import Relax, StepClamp, Steps
from pcnet.networks.time.token_steps import token_steps
from pcnet.sites import Site
from pcnet.typing import State


@dataclass(frozen=True)
class Trajectory:
    """The values of whole sequences, every step at its own equilibrium.

    Attributes:
        values: per free node (B, L, D).
        past: the memory before every step, per carried node (B, L, D).
        status: a `pcnet.inference.Status` per step.
        steps: solver steps per step of the sequence.
    """

    values: State
    past: State
    status: Int[Tensor, "B L"]
    steps: Int[Tensor, "B L"]

    def rows(self, chosen: Tensor) -> "Trajectory":
        """The chosen sequences only."""
        values, past = (tuple(group[chosen] for group in state) for state in (self.values, self.past))
        return Trajectory(values, past, self.status[chosen], self.steps[chosen])


class TemporalNetwork(PCNetwork, abc.ABC):
    """A graph whose values are carried on: what is sensed arrives step by step, and every step relaxes to its equilibrium.

        x_t = argmin F(x; what is sensed at t, memory m_(t-1)),      m_t = the carried nodes of x_t,      m_0 = 0.

    Each step minimises its own energy with the memory held: that is filtering, not the minimum of one energy over all time.
    The forecast of the next sense is the network's prediction at zero error, given the memory alone, so the model is causal
    by construction.

    Sites: `layers.NODE.value|prediction|error` of every free node, `layers.SENSE.prediction` (of what is sensed, before it
    is) and `layers.SENSE.error` (at the equilibrium), `diagnostics.status|steps|residual`.

    Args:
        graph: of one step. Its predictions become the network's own, under the same names.
        carried: for every free node whose values are carried on, the name of the node that holds them at the next step.
        sense: the node that is observed.
        inference: how values relax; None is `Inference()`.

    Raises:
        ValueError: a name is not that of a node, widths differ, or nothing predicts the sense.
    """

    diagnostic_sites = ("diagnostics.*",)

    def __init__(
        self, graph: GraphNetwork, carried: Mapping[str, str], sense: str, inference: Relaxation | None = None
    ) -> None:
        nn.Module.__init__(self)
        _check(graph, carried, sense)
        # Not as a module of its own: what is in it is registered below, under the names that checkpoints and sites have.
        object.__setattr__(self, "graph", graph)
        self.carried, self.sense = dict(carried), sense
        free = GraphSteps(graph, self.carried, sense).names
        shown = [name for name in graph.widths if name == sense or name in free]
        self.layers = nn.ModuleDict({name: _sites(("value",) * (name != sense)) for name in shown})
        self.predictions = graph.predictions
        self.priors = nn.ModuleDict({name: node.prior for name, node in graph.layers.items() if node.prior is not None})
        self.diagnostics = nn.ModuleDict({name: Site() for name in ("status", "steps", "residual")})
        self.inference = inference or Inference()

    def steps(self) -> Steps:
        """How a step is computed with the weights of this moment: by a program made for such graphs, if there is one."""
        alone = len(self.graph.widths) == 2 * len(self.carried) + 1 and not self.priors
        found = token_steps(self.graph.predictions, self.carried, self.sense) if alone else None
        return found or GraphSteps(self.graph, self.carried, self.sense)

    def problem(self, clamped: StepClamp) -> ErrorProblem:
        return self.steps().problem(clamped)

    def initial_values(self, clamped: StepClamp) -> State:
        steps = self.steps()
        expected = steps.sweep(steps.problem(clamped))
        return self.inference.initial(expected, steps.before(clamped.past, expected))

    def forecast(self, memory: State) -> Float[Tensor, "*B M"]:
        """The prediction of the next sense, before it is seen: logits, of a categorical sense."""
        return self.steps().forecast(memory)

    def weight_cost(self) -> Float[Tensor, ""] | None:
        """What the graph's weight prior says; None without one."""
        return self.graph.weight_cost()

    def start(self, batch_size: int) -> State:
        """The memory before the first step: zeros."""
        like = next(self.parameters())
        return tuple(like.new_zeros(batch_size, self.graph.widths[name]) for name in self.carried)

    @abc.abstractmethod
    def check(self, senses: Float[Tensor, "B L *N"]) -> None:
        """Raise a ValueError unless these sequences can be sensed."""

    @torch.no_grad()
    def step(self, memory: State, sense: Tensor) -> tuple[Float[Tensor, "B M"], State]:
        """One step further: the forecast of the sense after it, and the new memory."""
        steps = self.steps()
        ((_, after),) = steps.scan(sense.unsqueeze(1), memory, self._relaxing(steps, self.inference, []))
        return steps.forecast(after), after

    @torch.no_grad()
    def forward(self, senses: Float[Tensor, "B L *N"]) -> Float[Tensor, "B L M"]:
        """Forecasts of the next sense, every step inferred to its equilibrium; not differentiable (see `pcnet.learning`)."""
        self.check(senses)
        steps = self.steps()
        walk = steps.scan(senses, self.start(len(senses)), self._relaxing(steps, self.inference, []))
        return torch.stack([steps.forecast(after) for _, after in walk], 1)

    @torch.no_grad()
    def infer(self, senses: Float[Tensor, "B L *N"], inference: Relaxation | None = None) -> Trajectory:
        """The values of every step at its equilibrium."""
        steps, start, solutions = self.steps(), self.start(len(senses)), []
        walk = steps.scan(senses, start, self._relaxing(steps, inference or self.inference, solutions))
        memories = [start, *(memory for _, memory in walk)][:-1]
        values, past = (
            tuple(torch.stack(groups, 1) for groups in zip(*states, strict=True))
            for states in ([s.values for s in solutions], memories)
        )
        status, steps = (torch.stack([getattr(s, name) for s in solutions], 1) for name in ("status", "steps"))
        return Trajectory(values, past, status, steps)

    def _relaxing(self, steps: Steps, inference: Relaxation, solutions: list[Solution]) -> Relax:
        """Relax, keep the solution, and show it at the sites that are watched."""
        watched = self.watched

        def relax(problem: ErrorProblem, expected: State, before: State) -> State:
            solution = inference.run(problem, inference.initial(expected, before), self.recorded)
            solutions.append(solution)
            if watched:
                self._show(solution, [steps.reading(problem, values) for values in self.shown(solution)])
            return solution.values

        return relax

    def _show(self, solution: Solution, readings: list[dict[str, dict[str, Tensor]]]) -> None:
        """Pass one step through the sites, each (B, 1, D), or (B, 1, K, D) while recording."""
        for name, sites in self.layers.items():
            for kind, site in sites.items():
                seen = [reading[name][kind] for reading in readings if kind in reading[name]]
                if seen:
                    site(torch.stack(seen, 1).unsqueeze(1) if self.recorded else seen[0].unsqueeze(1))
        self.diagnostics["status"](solution.status[:, None, None])
        self.diagnostics["steps"](solution.steps[:, None, None])
        self.diagnostics["residual"](solution.residual.unsqueeze(1))


class TemporalGraph(TemporalNetwork):
    """A temporal network of your own: any layers, energies and priors, tokens or numbers sensed.

        graph = PCGraph(
            [Node("past", 3), Node("state", 3), Node("seen", 2)],
            [
                Prediction("state", [("past", Dense(3, 3))], Gaussian(3)),
                Prediction("seen", [("state", Dense(3, 2))], Gaussian(2)),
            ],
            inputs="seen", outputs="state",
        )
        network = TemporalGraph(graph, carried={"state": "past"}, sense="seen")
        network(torch.randn(8, 100, 2))  # forecasts (8, 100, 2): what is expected at the next step

    A linear-Gaussian one is the Kalman filter if each step is given its predictive covariance. See `TemporalNetwork`.
    """

    def check(self, senses: Float[Tensor, "B L *N"]) -> None:
        self.graph.clamp({self.sense: senses.flatten(0, 1)})


def _sites(more: tuple[str, ...]) -> nn.ModuleDict:
    return nn.ModuleDict({kind: Site() for kind in (*more, "prediction", "error")})


def _check(graph: GraphNetwork, carried: Mapping[str, str], sense: str) -> None:
    for argument, names in (("carried", (*carried, *carried.values())), ("sense", (sense,))):
        unknown = [name for name in names if name not in graph.widths]
        if unknown:
            raise ValueError(f"{argument}: there is no node {unknown[0]!r}; there are {', '.join(graph.widths)}")
    held = {sense, *carried.values()}
    if not carried or held & carried.keys() or len(held) <= len(carried):
        raise ValueError(
            f"carried must map free nodes to other nodes, one each and none the sense, got {dict(carried)}"
        )
    for name, past in carried.items():
        if graph.widths[name] != graph.widths[past]:
            raise ValueError(f"carried: {name!r} has {graph.widths[name]} units and {past!r} {graph.widths[past]}")
    if all(p.target != sense for p in graph.predictions):
        raise ValueError(f"sense: nothing predicts node {sense!r}")
