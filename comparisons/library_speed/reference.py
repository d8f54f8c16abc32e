"""What an implementation should have computed, in float64, by torch's autograd on the energy written out."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TOLERANCE = 1e-5
"""Largest relative difference from the reference, in single precision, with which an implementation counts as right."""


@dataclass(frozen=True)
class Variant:
    """What an implementation computes where libraries differ.

    Attributes:
        activation_first: whether a level is predicted as W f(x) + b instead of f(W x + b); the input is taken as it is.
        summed: whether the weights' gradient is a sum over the batch instead of a mean.
    """

    activation_first: bool = False
    summed: bool = False

    def describe(self) -> str:
        """In a few words; empty for the task as stated."""
        return "predicts W f(x) + b" if self.activation_first else ""

    def predict(self, level: int, depth: int, below: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Prediction of level `level` (from 1) of a chain of `depth` from the values of the level below."""
        if self.activation_first:
            return (below if level == 1 else below.tanh()) @ weight.T + bias
        drive = below @ weight.T + bias
        return drive if level == depth else drive.tanh()


@dataclass(frozen=True)
class Expected:
    """Final hidden values, and the gradients of weights and biases there, one tensor a level."""

    values: list[Tensor]
    weights: list[Tensor]
    biases: list[Tensor]


def reference(task: Mapping[str, np.ndarray], variant: Variant) -> Expected:
    """One training step on the first batch of a task file, up to the optimiser."""
    depth = len(task["widths"]) - 1
    weights = [double(task[f"weight{i}"]) for i in range(depth)]
    biases = [double(task[f"bias{i}"]) for i in range(depth)]
    x, y = double(task["inputs"][0]), double(task["targets"][0])

    def predict(level: int, below: Tensor) -> Tensor:
        return variant.predict(level, depth, below, weights[level - 1], biases[level - 1])

    def energy(values: list[Tensor]) -> Tensor:
        levels = [x, *values, y]
        return sum(0.5 * (levels[i] - predict(i, levels[i - 1])).square().sum() for i in range(1, depth + 1))

    values = []
    for level in range(1, depth):
        values.append(predict(level, values[-1] if values else x))
    for _ in range(int(task["iterations"])):
        values = [value.detach().requires_grad_() for value in values]
        gradients = torch.autograd.grad(energy(values), values)
        values = [value.detach() - float(task["step_size"]) * gradient for value, gradient in zip(values, gradients)]
    parameters = [parameter.requires_grad_() for parameter in (*weights, *biases)]
    found = torch.autograd.grad(energy(values), parameters)
    found = [gradient if variant.summed else gradient / len(x) for gradient in found]
    return Expected(values, list(found[:depth]), list(found[depth:]))


def differences(
    task: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], expected: Expected
) -> dict[str, float]:
    """Relative differences (2-norm) of what a worker's `check` wrote from the reference, the worst level of each kind.

    The step of Adam is compared where the gradient is above a hundredth of its rms: it divides by the gradient's size, so
    below that it shows the rounding of an element that hardly matters.
    """
    scale, rate = float(task["gradient_scale"]), float(task["adam_rate"])
    pairs: dict[str, list[float]] = {"values": [], "gradients": [], "adam": []}
    for i, value in enumerate(expected.values, 1):
        pairs["values"].append(relative(found[f"value{i}"], value.numpy()))
    for kind, gradients in (("weight", expected.weights), ("bias", expected.biases)):
        for i, gradient in enumerate(gradients):
            start, wanted = task[f"{kind}{i}"].astype(np.float64), gradient.numpy()
            pairs["gradients"].append(relative((start - found[f"descent_{kind}{i}"]) / scale, wanted))
            large = np.abs(wanted) > 0.01 * np.sqrt(np.mean(wanted**2))
            step = -rate * wanted / (np.abs(wanted) + 1e-8)
            pairs["adam"].append(relative((found[f"adam_{kind}{i}"] - start)[large], step[large]))
    return {kind: max(errors) for kind, errors in pairs.items()}


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """Norm of the difference, over the norm of what was wanted."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def double(array: np.ndarray) -> Tensor:
    """The array as a float64 tensor."""
    return torch.tensor(array, dtype=torch.float64)
