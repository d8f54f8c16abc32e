"""Linear systems in the Hessian of an energy, per sample."""

from collections.abc import Callable

import torch

from pcnet.inference.equilibrium import axpy, dot, zeros_like
from pcnet.typing import State


def conjugate_gradients(
    product: Callable[[State], State],
    right_side: State,
    precondition: Callable[[State], State],
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
    x = zeros_like(right_side)
    residual = right_side
    direction = descent = precondition(residual)
    decrement = dot(residual, descent)
    goal = rtol**2 * decrement
    for _ in range(max_steps):
        active = decrement > goal
        if not active.any():
            break
        image = product(direction)
        curvature = dot(direction, image)
        # A row of zeros, or one that has finished, divides nothing by nothing: its step is zero.
        length = torch.where(active & (curvature > 0), decrement / curvature, 0.0).unsqueeze(-1)
        x = axpy(x, length, direction)
        residual = axpy(residual, -length, image)
        descent = precondition(residual)
        previous, decrement = decrement, dot(residual, descent)
        direction = axpy(descent, torch.where(active, decrement / previous, 0.0).unsqueeze(-1), direction)
        decrement = torch.where(length.squeeze(-1) != 0, decrement, 0.0)
    return x
