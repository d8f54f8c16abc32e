"""Pointwise activations with the two derivatives that inference needs."""

import abc
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

FEW = 1024
"""Numbers up to which one call of tanh costs less than three cheaper ones."""


@cache
def _number(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A number as a tensor, made once: wrapping it at every call would cost more than the arithmetic of a small layer."""
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=dtype, device=device)


class Activation(abc.ABC):
    """f, f' and f'' of a pointwise function; a frozen dataclass, so it prints, compares and comes from YAML."""

    @abc.abstractmethod
    def __call__(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """f(x)."""

    @abc.abstractmethod
    def slope(self, x: Float[Tensor, "*B D"], activity: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """f'(x), given f(x) as well."""

    @abc.abstractmethod
    def bend(self, x: Float[Tensor, "*B D"], activity: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """f''(x), given f(x) as well; zero where f has a corner."""


@dataclass(frozen=True)
class Identity(Activation):
    """f(x) = x."""

    def __call__(self, x: Tensor) -> Tensor:
        return x

    def slope(self, x: Tensor, activity: Tensor) -> Tensor:
        return torch.ones_like(x)

    def bend(self, x: Tensor, activity: Tensor) -> Tensor:
        return torch.zeros_like(x)


@dataclass(frozen=True)
class Tanh(Activation):
    """f(x) = tanh(x), for more than a few numbers computed as 2 sigmoid(2x) - 1: half the time on a CPU.

    Its absolute rounding error is then that of tanh; its relative error near 0 is not.
    """

    def __call__(self, x: Tensor) -> Tensor:
        if x.numel() <= FEW:
            return torch.tanh(x)
        return torch.add(_number(-1.0, x.dtype, x.device), torch.sigmoid(x + x), alpha=2)

    def slope(self, x: Tensor, activity: Tensor) -> Tensor:
        return torch.addcmul(_number(1.0, x.dtype, x.device), activity, activity, value=-1)

    def bend(self, x: Tensor, activity: Tensor) -> Tensor:
        return torch.ops.aten.tanh_backward(-2 * activity, activity)  # -2 f (1 - f^2)


@dataclass(frozen=True)
class LeakyReLU(Activation):
    """f(x) = x for x > 0, else leak * x.

    Args:
        leak: slope of the negative side, in [0, 1].
    """

    leak: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.leak <= 1:
            raise ValueError(f"leak must be in [0, 1], got {self.leak}")

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.leak * x)

    def slope(self, x: Tensor, activity: Tensor) -> Tensor:
        return torch.where(x > 0, torch.ones_like(x), self.leak)

    def bend(self, x: Tensor, activity: Tensor) -> Tensor:
        return torch.zeros_like(x)


@dataclass(frozen=True)
class ReLU(Activation):
    """f(x) = max(x, 0)."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    def slope(self, x: Tensor, activity: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)

    def bend(self, x: Tensor, activity: Tensor) -> Tensor:
        return torch.zeros_like(x)


@dataclass(frozen=True)
class Softplus(Activation):
    """f(x) = log(1 + exp x)."""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.nn.functional.softplus(x)

    def slope(self, x: Tensor, activity: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def bend(self, x: Tensor, activity: Tensor) -> Tensor:
        gate = torch.sigmoid(x)
        return gate * (1 - gate)
