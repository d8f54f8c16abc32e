"""Incremental predictive coding: weights move with every step of inference."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.inference import Euler, Solver
from pcnet.inference.loop import group_rms
from pcnet.inference.solver import check_structure
from pcnet.learning.example import Example
from pcnet.learning.explicit import energy_gradients, handed
from pcnet.learning.relaxed import Relaxed, for_rows, kept
from pcnet.learning.rule import SteppedRule, check_example, check_graph, with_weight_prior
from pcnet.networks import Clamped, GraphNetwork, GraphPoint
from pcnet.networks.graph.trivial import warn_if_trivial
from pcnet.predictor import check_sizes
from pcnet.typing import State


@dataclass(frozen=True)
class Incremental(SteppedRule):
    """Values and weights descend the same energy together, one step of each per iteration.

        x <- x - step_size dF/dx,     theta <- optimiser(theta, dF/dtheta),     both derivatives at the same x and theta,

    inputs and targets held, values starting at the feedforward sweep. The value of each loss is the mean energy before its
    step, its backward the mean of dF/dtheta over the rows whose inference has not diverged. An iteration costs one
    evaluation of the energy, one of the weights' gradients and one step of the optimiser; there is no equilibrium to wait
    for. The learning rate acts `steps` times a batch: less than that of other rules is right.

    Args:
        solver: how values move. Its memory is kept from step to step; with a solver that moves in error coordinates it is
            errors, not values, that stay where they are while the weights move.
        steps: iterations per batch.

    Reference: Salvatori et al. 2022, "Incremental predictive coding", arXiv 2212.00720, algorithm 1.
    """

    solver: Solver = field(default_factory=lambda: Euler(0.1))
    steps: int = 20

    def __post_init__(self) -> None:
        check_sizes(steps=self.steps)

    def updates(self, network: GraphNetwork, example: Example) -> Iterator[Float[Tensor, ""]]:
        clamped = check_example(self, check_graph(self, network), example).whole(network)
        if not example.targets:
            warn_if_trivial(network, clamped)
        run = _Run(network, clamped, self.solver)
        for _ in range(self.steps):
            loss = run.loss()
            run.move()  # before the weights do
            yield loss


class _Run:
    """Values on their way, in the coordinates of the solver."""

    def __init__(self, network: GraphNetwork, clamped: Clamped, solver: Solver) -> None:
        self.network, self.clamped, self.solver = network, clamped, solver
        self.state: State | None = None
        self.carry: Any = None

    @torch.no_grad()
    def _look(self) -> GraphPoint:
        """Evaluate the energy with the weights of this moment."""
        self.problem = self.network.problem(self.clamped)
        if not self.problem.names:
            return self.problem.at(())
        if self.state is None:
            check_structure(self.solver, self.problem)
        self.view = self.solver.view(self.problem)
        if self.state is None:
            self.state = self.view.coordinates(self.network.sweep(self.problem))
        point = self.view.at(self.state)
        if self.carry is None:
            self.carry = self.solver.init(self.view, point)
        return point

    def loss(self) -> Float[Tensor, ""]:
        self.point = self._look()
        finite = self.point.energy.isfinite()
        good = finite & group_rms(self.point.residual).isfinite().all(-1) if self.problem.names else finite
        rows = kept(self.network, [Relaxed(self.point, good)])
        problem, point = for_rows(self.problem, self.point, rows)
        gradients = energy_gradients(problem.structure, point)
        return with_weight_prior(self.network, handed(point.energy.mean(), gradients, 1 / len(point.energy)))

    @torch.no_grad()
    def move(self) -> None:
        if self.problem.names:
            increment, self.carry = self.solver.step(self.view, self.point, self.carry)
            self.state = self.view.retract(self.state, increment)
