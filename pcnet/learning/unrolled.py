"""Differentiating through every step of inference: the check on implicit gradients."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pcnet.inference import Equilibrium, Euler, Solver, unroll
from pcnet.learning.example import Example
from pcnet.learning.relaxed import diverged
from pcnet.learning.rule import LearningRule, with_weight_prior
from pcnet.learning.settled import walk
from pcnet.typing import State


@dataclass(frozen=True)
class Unrolled(LearningRule):
    """The gradient of the task loss through a fixed number of solver steps, and through where they start.

    The check on `Implicit`: equal to it when the steps converge (8 truncated steps differ by 60-100 % in a temporal
    network). Memory grows with the number of steps. Values start where the network's inference starts them: the feedforward
    sweep, by default. Of a temporal network the steps are per step of the sequence, and the gradient goes back through time.

    Args:
        steps: solver steps.
        solver: a differentiable solver.
    """

    steps: int = 8
    solver: Solver = field(default_factory=Euler)

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps must be at least 0, got {self.steps}")

    def loss(self, network: nn.Module, batch: Float[Tensor, "B L *N"] | Example) -> Float[Tensor, ""]:
        def unrolled(problem: Equilibrium, expected: State, before: State) -> State:
            start = network.inference.initial(expected, before)
            return unroll(problem, start, self.solver, steps=self.steps)

        task, values = walk(self, network, batch, unrolled)
        loss = task.cost(values)
        if not torch.isfinite(loss):
            raise diverged(network)
        return with_weight_prior(network, loss)
