"""Linear systems in the Hessian of an energy, per sample."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pcnet.inference.equilibrium import axpy, dot, zeros_like
from pcnet.typing import State

Product = Callable[[State], State]


class Conjugate(NamedTuple):
    """Where preconditioned conjugate gradients have come; how far to go, and when to stop, is the caller's.

    Attributes:
        x: the solution so far.
        residual: r = right side - H x.
        direction: of the next step.
        decrement: r^T M r, M the preconditioner.
    """

    x: State
    residual: State
    direction: State
    decrement: Float[Tensor, " B"]

    @classmethod
    def start(cls, right_side: State, precondition: Product) -> "Conjugate":
        """At x = 0."""
        direction = precondition(right_side)
        return cls(zeros_like(right_side), right_side, direction, dot(right_side, direction))

    def step(
        self, length: Float[Tensor, " B"], image: State, precondition: Product, active: Bool[Tensor, " B"]
    ) -> tuple["Conjugate", Float[Tensor, " B"]]:
        """After a step, and the share of the old direction in the new one; 0 for rows that are not active.

        Args:
            length: of the step, in multiples of the direction.
            image: H times the direction.
            precondition: r -> M r.
            active: rows that go on.
        """
        column = length.unsqueeze(-1)
        x, pairs = axpy(self.x, column, self.direction), zip(self.residual, image, strict=True)
        residual = tuple(torch.addcmul(group, column, part, value=-1) for group, part in pairs)
        descent = precondition(residual)
        decrement = dot(residual, descent)
        share = decrement / torch.where(active, self.decrement, torch.inf)
        return Conjugate(x, residual, axpy(descent, share.unsqueeze(-1), self.direction), decrement), share


def conjugate_gradients(
    product: Product,
    right_side: State,
    precondition: Product,
    *,
    rtol: float,
    max_steps: int = 100,
) -> State:
    """Solve H x = right_side for symmetric positive-definite H by preconditioned conjugate gradients.

    Every row has its own step lengths and is left alone once its preconditioned residual has fallen to `rtol` of where it
    began; the loop ends when all rows have (reading that costs a GPU synchronisation per step).

    Args:
        product: x -> H x.
        right_side: one vector per sample.
        precondition: r -> an approximation of H^-1 r, symmetric positive definite.
        rtol: relative tolerance on sqrt(r^T M r), M the preconditioner.
        max_steps: the most steps to take.

    Returns:
        The solution; rows that needed more steps are returned as far as they got.
    """
    at = Conjugate.start(right_side, precondition)
    goal = rtol**2 * at.decrement
    for _ in range(max_steps):
        active = at.decrement > goal
        if not active.any():
            break
        image = product(at.direction)
        curvature = dot(at.direction, image)
        # A row of zeros, or one that has finished, divides nothing by nothing: its step is zero.
        length = torch.where(active & (curvature > 0), at.decrement / curvature, 0.0)
        at, _ = at.step(length, image, precondition, active)
        at = at._replace(decrement=torch.where(length != 0, at.decrement, 0.0))
    return at.x
