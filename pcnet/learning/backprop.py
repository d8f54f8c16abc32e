"""Backpropagation: what local learning is compared with."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pcnet.learning.example import Example
from pcnet.learning.relaxed import diverged
from pcnet.learning.rule import (
    LearningRule,
    check_example,
    check_sequences,
    next_token_loss,
    refused,
    with_weight_prior,
)
from pcnet.learning.task import OutputTask
from pcnet.networks import GraphNetwork
from pcnet.networks.base import PCNetwork


@dataclass(frozen=True)
class Backprop(LearningRule):
    """The gradient of the task loss by reverse-mode differentiation of one feedforward pass.

    Of a graph network that pass is the sweep from the held inputs, every node at its prediction, and the loss the energy of
    the targets' predictions: the same network without inference. Of any other model it is `forward`, which must be
    differentiable, and the loss is the mean surprise at the next token.
    """

    def loss(self, network: nn.Module, batch: Int[Tensor, "B L"] | Example) -> Float[Tensor, ""]:
        if isinstance(network, GraphNetwork):
            return self._swept(network, check_example(self, network, batch))
        if isinstance(network, PCNetwork):
            raise refused(self, network)
        tokens = check_sequences(self, network, batch)
        return next_token_loss(network(tokens[:, :-1]), tokens[:, 1:])

    def _swept(self, network: GraphNetwork, example: Example) -> Float[Tensor, ""]:
        task = OutputTask(network, example)
        loss = task.energy(task.problem.nodes(task.swept())).mean()
        if not torch.isfinite(loss):
            raise diverged(network)
        return with_weight_prior(network, loss)
