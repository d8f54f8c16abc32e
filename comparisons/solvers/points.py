"""The problems: networks of some depth, width and weights, with what is held."""

import copy
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from pcnet import Backprop, EnergyProblem, Example, HierarchicalPC, Identity, Standard, Tanh

CLASSES = 10
LINEAR, DIGITS = "linear", "digits"
KEY = ["depth", "width", "weights", "batch"]
"""Columns that name a point."""


@dataclass(frozen=True)
class Point:
    """One problem.

    Args:
        weights: "gain 1.2", say: random, of that gain; "digits": trained on them; "linear": random, without tanh.
        depth: layers of weights.
        width: of hidden nodes.
        batch: rows.
    """

    weights: str
    depth: int
    width: int
    batch: int

    @property
    def part(self) -> str:
        """Names it among the parts of a run."""
        return f"{self.weights.replace(' ', '-')}-depth{self.depth}-width{self.width}-batch{self.batch}"


@dataclass(frozen=True)
class Task:
    """A network with what is held.

    Args:
        net: in float32.
        x: inputs.
        y: targets.
    """

    net: HierarchicalPC
    x: Tensor
    y: Tensor

    def problem(self) -> EnergyProblem:
        """Made anew each time, as somebody has to who wants an answer."""
        return self.net.problem(self.net.clamp({self.net.inputs: self.x, self.net.outputs: self.y}))

    def double(self) -> "Task":
        """The same in float64."""
        return Task(copy.deepcopy(self.net).double(), self.x.double(), self.y.double())


def make(point: Point, steps: int) -> Task:
    """Noise and random classes, or digits and their classes in a network trained on others for so many steps."""
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    gain = float(point.weights.removeprefix("gain ")) if point.weights.startswith("gain") else 1.0
    widths = [64, *[point.width] * (point.depth - 1), CLASSES]
    activation = Identity() if point.weights == LINEAR else Tanh()
    net = HierarchicalPC(widths, parameterisation=Standard(gain, activation=activation))
    if point.weights != DIGITS:
        x = torch.randn(point.batch, 64, generator=generator)
        return Task(net, x, torch.eye(CLASSES)[torch.randint(CLASSES, (point.batch,), generator=generator)])
    pixels, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    images, goals = (pixels / 8 - 1).float(), torch.eye(CLASSES)[labels]
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 1e-3)
    for _ in range(steps):
        rows = torch.randint(1000, (64,), generator=generator)
        optimizer.zero_grad()
        Backprop().loss(net, Example({net.inputs: images[rows]}, {net.outputs: goals[rows]})).backward()
        optimizer.step()
    rows = 1000 + torch.randperm(797, generator=generator)[: point.batch]
    return Task(net, images[rows], goals[rows])
