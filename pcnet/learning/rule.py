"""What a learning rule is: a loss whose backward is the update, or a series of them while values relax."""

import abc
from collections.abc import Iterator

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from pcnet.learning.example import Example
from pcnet.networks import GraphNetwork
from pcnet.networks.time.network import TemporalNetwork


class LearningRule(abc.ABC):
    """A loss with the value that models are judged by, whose backward is the rule's update."""

    @abc.abstractmethod
    def loss(self, network: nn.Module, batch: Int[Tensor, "B L"] | Example) -> Float[Tensor, ""]:
        """Mean over the batch, in nats; the rule's class says of what.

        Args:
            network: what learns.
            batch: sequences for a model of sequences (tokens (B, L), or what a temporal graph senses), an `Example` for a
                graph network.

        Raises:
            TypeError: the rule is not for this kind of network, or the batch not for the network.
            ValueError: the batch does not fit the network.
            FloatingPointError: inference diverged in every row; rows in which it did are otherwise left out of the mean.
        """


class SteppedRule(abc.ABC):
    """A rule whose weights move while values relax: one loss per iteration, each to be stepped before the next is asked for.

    for loss in rule.updates(network, example):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    """

    @abc.abstractmethod
    def updates(self, network: GraphNetwork, example: Example) -> Iterator[Float[Tensor, ""]]:
        """The losses of one batch, one per inference iteration.

        Raises:
            TypeError: the rule is not for this kind of network, or the batch not for the network.
            ValueError: the batch does not fit the network.
            FloatingPointError: inference has diverged in every row.
        """


def check_graph(rule: LearningRule | SteppedRule, network: nn.Module) -> GraphNetwork:
    """The network, if it is a graph.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(network, GraphNetwork):
        raise refused(rule, network)
    return network


def check_example(rule: LearningRule | SteppedRule, network: nn.Module, batch: Tensor | Example) -> Example:
    """The batch, if it is an example.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(batch, Example):
        raise TypeError(f"{_name(rule)} teaches a {_name(network)} by an Example, got a {_name(batch)}")
    return batch


def check_sequences(rule: LearningRule, network: nn.Module, batch: Tensor | Example) -> Float[Tensor, "B L *N"]:
    """The batch, if it is sequences: tokens (B, L), or of a temporal graph whatever its sense node takes.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(batch, Tensor):
        raise TypeError(f"{_name(rule)} teaches a {_name(network)} by a tensor of sequences, got a {_name(batch)}")
    return batch


def refused(rule: LearningRule | SteppedRule, network: nn.Module) -> TypeError:
    """The error of a rule that is given the wrong kind of network."""
    return TypeError(f"the rule {_name(rule)} is not for a {_name(network)}")


def _name(thing: object) -> str:
    return type(thing).__name__


def next_token_loss(logits: Float[Tensor, "B L V"], targets: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
    """Mean surprise, in nats."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def with_weight_prior(network: GraphNetwork | TemporalNetwork, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The same value, with the gradient of the network's weight prior added once."""
    cost = network.weight_cost()
    return loss if cost is None else loss + (cost - cost.detach())
