"""Anderson acceleration: descent that learns the curvature from its own last few steps."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.inference.equilibrium import CurvedProblem, Equilibrium
from pcnet.inference.gradient import Pace, inverse_curvature
from pcnet.inference.point import Point
from pcnet.inference.solver import Solver, check_step_size
from pcnet.typing import State


class History(NamedTuple):
    """The last steps, newest first, all node groups packed into one vector.

    Attributes:
        moves: how the state changed at each.
        changes: how the residual changed with it; zero where there is no such step.
        state: where the last step began.
        residual: there.
        pace: step sizes, if automatic.
    """

    moves: Float[Tensor, "B M N"]
    changes: Float[Tensor, "B M N"]
    state: Float[Tensor, "B N"]
    residual: Float[Tensor, "B N"]
    pace: Pace | tuple


@dataclass(frozen=True)
class Anderson(Solver):
    """Anderson acceleration of x <- x - step_size r(x), per sample.

        gamma = argmin |r - sum_j gamma_j dr_j|^2,      x <- x - sum_j gamma_j dx_j - step_size (r - sum_j gamma_j dr_j),

    with dx_j, dr_j the changes over the last `history` steps. On a quadratic it does what GMRES does restricted to that
    memory: with m distinct curvatures, done in m + 1 steps. Needs no energy and no Hessian products (a step size apart).
    A row whose accelerated step made the residual grow `patience` times forgets its history, and takes the plain step from
    where it was before.

    Args:
        step_size: > 0, of the plain step (the damping beta); None as in `Euler`.
        history: steps remembered, at least 1. Memory: twice as many states.
        ridge: >= 0, of the least squares, relative to each remembered change in the residual: an absolute one, as is
            often the default, stalls as soon as the residual is smaller than it. Never below ten roundings.
        patience: > 1.

    Reference: Walker and Ni, SIAM J. Numer. Anal. 49 (2011) 1715.
    """

    step_size: float | None = None
    history: int = 5
    ridge: float = 1e-12
    patience: float = 2.0

    def __post_init__(self) -> None:
        if self.step_size is not None:
            check_step_size(self.step_size)
        if self.history < 1:
            raise ValueError(f"history must be at least 1, got {self.history}")
        if not 0 <= self.ridge < float("inf"):
            raise ValueError(f"ridge must be a finite number >= 0, got {self.ridge}")
        if not self.patience > 1:
            raise ValueError(f"patience must be greater than 1, got {self.patience}")

    @property
    def requires(self) -> type[Equilibrium]:
        return CurvedProblem if self.step_size is None else Equilibrium

    def init(self, problem: Equilibrium, point: Point) -> History:
        state, residual = torch.cat(point.values, -1), torch.cat(point.residual, -1)
        nothing = state.new_zeros(len(state), self.history, state.shape[-1])
        pace = inverse_curvature(problem, point) if self.step_size is None else ()
        return History(nothing, nothing, state, residual, pace)

    def step(self, problem: Equilibrium, point: Point, carry: History) -> tuple[State, History]:
        state, residual = torch.cat(point.values, -1), torch.cat(point.residual, -1)
        step_size = self.step_size if self.step_size is not None else carry.pace.step_size
        failed = self._failed(residual, carry).unsqueeze(-1)
        moves = self._remembered(failed, state - carry.state, carry.moves)
        changes = self._remembered(failed, residual - carry.residual, carry.changes)
        start, residual = torch.where(failed, carry.state, state), torch.where(failed, carry.residual, residual)
        weights, left = self._mixture(changes, residual)
        accelerated = (weights @ moves).squeeze(-2) + step_size * left
        increment = (start - state) - accelerated
        widths = [group.shape[-1] for group in point.values]
        return increment.split(widths, -1), History(moves, changes, start, residual, carry.pace)

    def _failed(self, residual: Tensor, carry: History) -> Tensor:
        """Rows whose last step was accelerated and made matters worse."""
        norm, before = (torch.linalg.vector_norm(r, dim=-1) for r in (residual, carry.residual))
        return (norm > self.patience * before) & (carry.changes[:, 0] != 0).any(-1)

    @staticmethod
    def _remembered(failed: Tensor, newest: Tensor, old: Tensor) -> Float[Tensor, "B M N"]:
        return torch.where(failed.unsqueeze(-1), 0.0, torch.cat([newest.unsqueeze(-2), old[:, :-1]], -2))

    def _mixture(
        self, changes: Float[Tensor, "B M N"], residual: Float[Tensor, "B N"]
    ) -> tuple[Float[Tensor, "B 1 M"], Float[Tensor, "B N"]]:
        """gamma, and what it leaves of the residual: normal equations of changes scaled to length 1, refined once."""
        length = torch.linalg.vector_norm(changes, dim=-1, keepdim=True)
        length = torch.where(length > 0, length, 1.0)
        scaled = changes / length
        ridge = max(self.ridge, 10 * torch.finfo(residual.dtype).eps)
        gram = scaled @ scaled.mT + ridge * torch.eye(self.history, dtype=residual.dtype, device=residual.device)
        factors, pivots, _ = torch.linalg.lu_factor_ex(gram)
        weights, left = torch.zeros_like(length), residual
        for _ in range(2):
            weights = weights + torch.linalg.lu_solve(factors, pivots, scaled @ left.unsqueeze(-1))
            left = residual - (weights.mT @ scaled).squeeze(-2)
        return (weights / length).mT, left

    def restart(self, problem: Equilibrium, point: Point, carry: History) -> History:
        nothing = torch.zeros_like(carry.moves)
        return History(nothing, nothing, torch.cat(point.values, -1), torch.cat(point.residual, -1), carry.pace)

    def products(self, carry: History) -> Int[Tensor, " B"] | int:
        return carry.pace.products if isinstance(carry.pace, Pace) else 0
