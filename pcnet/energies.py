"""Prediction-error energies: what a mismatch costs, and what it weighs. Per sample, in nats, never averaged over the batch."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Gaussian(nn.Module):
    """F = 1/2 eps^T Pi eps - 1/2 log|Pi| with a diagonal precision Pi, constants dropped.

    The log-determinant matters as soon as the precision is learned: without it the energy falls to zero by letting Pi go
    to zero, and predictions get worse.

    Args:
        width: number of units.
        learned: whether log Pi is a parameter (log, so that Pi stays positive); otherwise Pi stays at 1.
    """

    def __init__(self, width: int, learned: bool = False) -> None:
        super().__init__()
        self.log_precision = nn.Parameter(torch.zeros(width), requires_grad=learned)

    @property
    def precision(self) -> Float[Tensor, " D"]:
        return self.log_precision.exp()

    @property
    def log_normaliser(self) -> Float[Tensor, ""]:
        """-1/2 log|Pi|: what the energy is at zero error."""
        return -0.5 * self.log_precision.sum()

    def forward(self, error: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        return 0.5 * (self.precision * error * error).sum(-1) + self.log_normaliser
