"""A layer to second order at a point: its Jacobian J, and the derivative of J^T signal when the source moves.

Prepared once at a point, used for every product with the Hessian.
"""

import abc
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


class SecondOrder(abc.ABC):
    """A layer at a point, and the signal there: the energy's gradient in the layer's prediction."""

    @abc.abstractmethod
    def push(
        self, direction: Float[Tensor, "B N"], onto: Float[Tensor, "B M"] | None
    ) -> tuple[Float[Tensor, "B M"], Any]:
        """J times a direction of the source, added onto something; and what `pull` has to know of the direction."""

    @abc.abstractmethod
    def pull(self, gradient: Float[Tensor, "B M"], direction: Any) -> Float[Tensor, "B N"]:
        """J^T times a change of the signal, plus the change of J^T along the direction times the signal."""


class ConstantJacobian(SecondOrder):
    """A linear layer: an identity path, or a matrix.

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


class ActivatedOutput(SecondOrder):
    """A layer f(W x + b): J = diag(f') W.

    Args:
        weight: W.
        derivative: f' at the layer's input.
        curvature: signal times f'' there.
    """

    def __init__(
        self, weight: Float[Tensor, "M N"], derivative: Float[Tensor, "B M"], curvature: Float[Tensor, "B M"]
    ) -> None:
        self.weight, self.derivative, self.curvature = weight, derivative, curvature

    def push(self, direction: Tensor, onto: Tensor | None) -> tuple[Tensor, Tensor]:
        moved = functional.linear(direction, self.weight)
        return (moved * self.derivative if onto is None else torch.addcmul(onto, moved, self.derivative)), moved

    def pull(self, gradient: Tensor, direction: Tensor) -> Tensor:
        return torch.addcmul(gradient * self.derivative, self.curvature, direction) @ self.weight


class ActivatedSource(SecondOrder):
    """A layer W f(x) + b: J = W diag(f').

    Args:
        weight: W.
        derivative: f' at the source.
        curvature: W^T signal times f'' there.
    """

    def __init__(
        self, weight: Float[Tensor, "M N"], derivative: Float[Tensor, "B N"], curvature: Float[Tensor, "B N"]
    ) -> None:
        self.weight, self.derivative, self.curvature = weight, derivative, curvature

    def push(self, direction: Tensor, onto: Tensor | None) -> tuple[Tensor, Tensor]:
        pushed = functional.linear(direction * self.derivative, self.weight)
        return (pushed if onto is None else onto + pushed), direction

    def pull(self, gradient: Tensor, direction: Tensor) -> Tensor:
        return torch.addcmul((gradient @ self.weight) * self.derivative, self.curvature, direction)
