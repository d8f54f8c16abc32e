"""What a Hessian product meets in one layer: a Jacobian, and how it turns when the source moves.

Prepared once at a point, used for every direction.
"""

import abc
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


class Turn(abc.ABC):
    """A layer at a point, and the signal (the energy's gradient in its prediction) that is pulled through it there."""

    @abc.abstractmethod
    def push(
        self, direction: Float[Tensor, "B N"], onto: Float[Tensor, "B M"] | None
    ) -> tuple[Float[Tensor, "B M"], Any]:
        """The Jacobian times a direction of the source, added onto something; and what `pull` has to know of the direction."""

    @abc.abstractmethod
    def pull(self, gradient: Float[Tensor, "B M"], direction: Any) -> Float[Tensor, "B N"]:
        """The transposed Jacobian times a change of the signal, plus the change of that Jacobian times the signal."""


class Straight(Turn):
    """A Jacobian that does not turn: an identity path, or a matrix.

    Args:
        weight: the Jacobian; None is the identity.
    """

    def __init__(self, weight: Float[Tensor, "M N"] | None = None) -> None:
        self.weight = weight

    def push(self, direction: Tensor, onto: Tensor | None) -> tuple[Tensor, None]:
        pushed = direction if self.weight is None else functional.linear(direction, self.weight)
        return (pushed if onto is None else onto + pushed), None

    def pull(self, gradient: Tensor, direction: None) -> Tensor:
        return gradient if self.weight is None else gradient @ self.weight


class Bent(Turn):
    """diag(slope) W, of a layer f(W x + b).

    Args:
        weight: W.
        slope: f' at the layer's input.
        curve: signal times f'' there.
    """

    def __init__(self, weight: Float[Tensor, "M N"], slope: Float[Tensor, "B M"], curve: Float[Tensor, "B M"]) -> None:
        self.weight, self.slope, self.curve = weight, slope, curve

    def push(self, direction: Tensor, onto: Tensor | None) -> tuple[Tensor, Tensor]:
        moved = functional.linear(direction, self.weight)
        return (moved * self.slope if onto is None else torch.addcmul(onto, moved, self.slope)), moved

    def pull(self, gradient: Tensor, direction: Tensor) -> Tensor:
        return torch.addcmul(gradient * self.slope, self.curve, direction) @ self.weight


class BentBefore(Turn):
    """W diag(slope), of a layer W f(x) + b.

    Args:
        weight: W.
        slope: f' at the source.
        curve: W^T signal times f'' there.
    """

    def __init__(self, weight: Float[Tensor, "M N"], slope: Float[Tensor, "B N"], curve: Float[Tensor, "B N"]) -> None:
        self.weight, self.slope, self.curve = weight, slope, curve

    def push(self, direction: Tensor, onto: Tensor | None) -> tuple[Tensor, Tensor]:
        pushed = functional.linear(direction * self.slope, self.weight)
        return (pushed if onto is None else onto + pushed), direction

    def pull(self, gradient: Tensor, direction: Tensor) -> Tensor:
        return torch.addcmul((gradient @ self.weight) * self.slope, self.curve, direction)
