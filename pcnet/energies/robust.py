"""Errors that count less than squared: outliers pull with a bounded force."""

import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.energies.checks import check_positive
from pcnet.energies.energy import ErrorEnergy


class Laplace(ErrorEnergy):
    """E = sum_i |error_i| / scale: minus the log density of Laplace noise but for the constant N log(2 scale).

    Many errors come out exactly zero, and there the cost has a kink: `derivative` is sign(error) / scale, 0 at 0, `second_derivative` is 0,
    and descent does not settle at a kink. Where it must, take `Huber`. `majoriser` is
    1 / (scale max(|error|, scale / 1000)): a parabola above the cost but for errors under a thousandth of the scale, where
    it would be infinitely steep.

    Args:
        scale: mean absolute error, above 0; fixed.

    Raises:
        ValueError: the scale is not positive.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = check_positive("scale", scale)

    def cost(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "*B"]:
        return error.abs().sum(-1) / self.scale

    def derivative(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
        return error.sign() / self.scale

    def second_derivative(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
        return torch.zeros_like(error)

    def majoriser(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
        return 1 / (self.scale * error.abs().clamp(min=1e-3 * self.scale))


class Huber(ErrorEnergy):
    """E = sum_i 1/2 error_i^2 where |error_i| <= threshold, threshold (|error_i| - threshold / 2) beyond.

    Quadratic for small errors, linear for outliers, smooth in between. `second_derivative` is 1 inside and 0 beyond; `majoriser` is
    threshold / |error| beyond, so that outliers keep some stiffness.

    Args:
        threshold: the error beyond which the pull stops growing, above 0.

    Raises:
        ValueError: the threshold is not positive.

    Reference:
        Huber, Annals of Mathematical Statistics 35, 73 (1964).
    """

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.threshold = check_positive("threshold", threshold)

    def cost(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "*B"]:
        inside = error.clamp(-self.threshold, self.threshold)
        return (inside * (error - 0.5 * inside)).sum(-1)

    def derivative(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
        return error.clamp(-self.threshold, self.threshold)

    def second_derivative(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
        return (error.abs() <= self.threshold).to(error.dtype)

    def majoriser(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
        return self.threshold / error.abs().clamp(min=self.threshold)
