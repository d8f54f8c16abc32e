"""How a model is trained: the numbers that always travel together."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch.optim import Optimizer

from pcnet.learning.rule import LearningRule


@dataclass(frozen=True)
class Training:
    """How one model is trained.

    Args:
        rule: the learning rule.
        optimizer: class and arguments of a `torch.optim` optimiser.
        steps: optimiser steps.
        batch_size: sequences per step.
        clip: largest norm of the gradient; null does not clip.
        peak_at: share of the steps after which the learning rate is at its highest (`OneCycleLR`: it rises from a 25th and
            falls to nearly zero along cosines); null keeps it constant.
    """

    rule: LearningRule
    optimizer: Callable[[Iterable], Optimizer]
    steps: int = 2000
    batch_size: int = 256
    clip: float | None = 1.0
    peak_at: float | None = 0.1
