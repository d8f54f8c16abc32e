"""Differentiating through every step of inference: the check on implicit gradients."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.inference import Euler, Solver, unroll
from pcnet.learning.example import Example
from pcnet.learning.relaxed import diverged
from pcnet.learning.rule import EquilibriumRule, next_token_loss, with_weight_prior
from pcnet.learning.task import OutputTask
from pcnet.networks import GraphNetwork, TemporalPC
from pcnet.networks.time.temporal import TokenClamp


@dataclass(frozen=True)
class Unrolled(EquilibriumRule):
    """The gradient of the task loss through a fixed number of solver steps, and through where they start.

    The check on `Implicit`: equal to it when the steps converge (8 truncated steps differ by 60-100 % in a temporal
    network). Memory grows with the number of steps. Of a graph network, the targets are free and the values start at the
    feedforward sweep; of a temporal network the steps are per token, and the gradient goes back through time.

    Args:
        steps: solver steps.
        solver: a differentiable solver.
    """

    steps: int = 8
    solver: Solver = field(default_factory=Euler)

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps must be at least 0, got {self.steps}")

    def example_loss(self, network: GraphNetwork, example: Example) -> Float[Tensor, ""]:
        task = OutputTask(network, example)
        values = task.swept()
        if values:
            values = unroll(task.problem, values, self.solver, steps=self.steps)
        loss = task.energy(task.problem.nodes(values)).mean()
        if not torch.isfinite(loss):
            raise diverged(network)
        return with_weight_prior(network, loss)

    def token_loss(self, network: TemporalPC, tokens: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
        past, logits = network.start(tokens.shape[0]), []
        for token in tokens[:, :-1].unbind(1):
            clamped = TokenClamp(token, past)
            past = unroll(network.problem(clamped), network.initial_values(clamped), self.solver, steps=self.steps)
            logits.append(network.forecast(past))
        return next_token_loss(torch.stack(logits, 1), tokens[:, 1:])
