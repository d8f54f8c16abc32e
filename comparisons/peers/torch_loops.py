"""The loops that people write in torch: as tutorials show them, with autograd on the values only, and unrolled and compiled."""

import abc
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

ADAM = partial(torch.optim.Adam, fused=True)
"""Of all loops in torch: one pass over the weights."""


class Step(abc.ABC):
    """Training steps of one network from given weights; gradients of the weights are means over the batch."""

    def __init__(self, task: dict[str, np.ndarray], threads: int):
        torch.set_num_threads(threads)
        self.task = task
        self.step_size, self.iterations = float(task["step_size"]), int(task["iterations"])
        self.batches = [(torch.tensor(x), torch.tensor(y)) for x, y in zip(task["inputs"], task["targets"])]
        self.seen = 0
        self.layers = self.given()
        self.optimizer = ADAM(self.layers.parameters(), lr=float(task["learning_rate"]))

    def given(self) -> nn.ModuleList:
        """Layers with the task's weights."""
        layers = nn.ModuleList()
        for i in range(len(self.task["widths"]) - 1):
            weight, bias = torch.tensor(self.task[f"weight{i}"]), torch.tensor(self.task[f"bias{i}"])
            layer = nn.Linear(*reversed(weight.shape))
            layer.weight.data, layer.bias.data = weight, bias
            layers.append(layer)
        return layers

    @abc.abstractmethod
    def train(self, layers: nn.ModuleList, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> list[Tensor]:
        """One training step; returns the final values."""

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.train(self.layers, self.optimizer, *self.batches[self.seen % len(self.batches)])
            self.seen += 1

    def check(self) -> dict[str, np.ndarray]:
        """One step of plain descent (whose change of weight is the gradient times a power of two) and one of Adam."""
        found = {}
        for name, optimizer, rate in (
            ("descent", torch.optim.SGD, "gradient_scale"),
            ("adam", ADAM, "adam_rate"),
        ):
            layers = self.given()
            values = self.train(layers, optimizer(layers.parameters(), lr=float(self.task[rate])), *self.batches[0])
            for i, layer in enumerate(layers):
                found[f"{name}_weight{i}"] = layer.weight.detach().numpy()
                found[f"{name}_bias{i}"] = layer.bias.detach().numpy()
            for i, value in enumerate(values, 1):
                found[f"value{i}"] = value.detach().numpy()
        return found

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}


def feedforward(layers: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """Hidden values of a sweep."""
    values = []
    for layer in layers[:-1]:
        x = torch.tanh(layer(x))
        values.append(x)
    return values


def energy(layers: nn.ModuleList, x: Tensor, values: list[Tensor], y: Tensor) -> Tensor:
    """Half the squared errors, summed over units and batch."""
    total = x.new_zeros(())
    for layer, below, value in zip(layers, [x, *values], values):
        total = total + 0.5 * (value - torch.tanh(layer(below))).square().sum()
    return total + 0.5 * (y - layers[-1](values[-1])).square().sum()


class Tutorial(Step):
    """Weights require gradients all along, so every iteration's backward pass computes theirs as well and throws them away."""

    def train(self, layers: nn.ModuleList, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> list[Tensor]:
        with torch.no_grad():
            values = [nn.Parameter(value) for value in feedforward(layers, x)]
        inference = torch.optim.SGD(values, lr=self.step_size)
        for _ in range(self.iterations):
            inference.zero_grad()
            energy(layers, x, values, y).backward()
            inference.step()
        optimizer.zero_grad()
        (energy(layers, x, values, y) / len(x)).backward()
        optimizer.step()
        return values


class StatesOnly(Step):
    """Autograd asked for the gradient of the values alone while they relax, and of the weights once."""

    def train(self, layers: nn.ModuleList, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> list[Tensor]:
        layers.requires_grad_(False)
        values = [value.requires_grad_() for value in feedforward(layers, x)]
        for _ in range(self.iterations):
            gradients = torch.autograd.grad(energy(layers, x, values, y), values)
            with torch.no_grad():
                for value, gradient in zip(values, gradients):
                    value -= self.step_size * gradient
        layers.requires_grad_(True)
        values = [value.detach() for value in values]
        optimizer.zero_grad()
        (energy(layers, x, values, y) / len(x)).backward()
        optimizer.step()
        return values


class Compiled(Step):
    """Derivatives by hand, all iterations unrolled, ``torch.compile``: as far as a torch user gets without leaving torch."""

    def __init__(self, task: dict[str, np.ndarray], threads: int):
        self.settled = torch.compile(
            settle(int(task["iterations"]), float(task["step_size"])), fullgraph=True, dynamic=False
        )
        super().__init__(task, threads)

    @torch.no_grad()
    def train(self, layers: nn.ModuleList, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> list[Tensor]:
        weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
        values, of_weights, of_biases = self.settled(weights, biases, x, y)
        for parameter, gradient in zip([*weights, *biases], [*of_weights, *of_biases]):
            parameter.grad = gradient
        optimizer.step()
        return values


Settled = tuple[list[Tensor], list[Tensor], list[Tensor]]


def settle(iterations: int, step_size: float) -> Callable[[list[Tensor], list[Tensor], Tensor, Tensor], Settled]:
    """The function to compile: final values and the gradients of weights and biases there."""

    def run(weights: list[Tensor], biases: list[Tensor], x: Tensor, y: Tensor) -> Settled:
        first = torch.tanh(functional.linear(x, weights[0], biases[0]))  # the input is held: once is enough
        values = [first]
        for weight, bias in zip(weights[1:-1], biases[1:-1]):
            values.append(torch.tanh(functional.linear(values[-1], weight, bias)))
        for _ in range(iterations):
            errors, sent = errors_at(weights, biases, first, values, y)
            pulled = [back @ weight for back, weight in zip(sent[1:], weights[1:])]
            values = [value + step_size * (back - error) for value, error, back in zip(values, errors, pulled)]
        _, sent = errors_at(weights, biases, first, values, y)
        sent = [back / -len(x) for back in sent]
        below = [x, *values]
        return values, [back.T @ value for back, value in zip(sent, below)], [back.sum(0) for back in sent]

    return run


def errors_at(
    weights: list[Tensor], biases: list[Tensor], first: Tensor, values: list[Tensor], y: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Errors of every prediction, and the errors times the slope of the prediction they belong to."""
    predictions = [first]
    for value, weight, bias in zip(values[:-1], weights[1:-1], biases[1:-1]):
        predictions.append(torch.tanh(functional.linear(value, weight, bias)))
    errors = [value - prediction for value, prediction in zip(values, predictions)]
    last = y - functional.linear(values[-1], weights[-1], biases[-1])
    sent = [error * (1 - prediction.square()) for error, prediction in zip(errors, predictions)]
    return [*errors, last], [*sent, last]
