"""How steep and how flat an energy is around a point: extreme eigenvalues of its Hessian, from products with it alone.

Descent is stable below 2 / (largest curvature), and the number of its steps grows with the condition number, so these set
step sizes and explain why inference is slow. Every row has its own spectrum; all rows start from the same seeded vector, so
that a row's answer does not depend on its company.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.inference.equilibrium import CurvedProblem
from pcnet.inference.point import EnergyPoint

Product = Callable[[Float[Tensor, "B N"]], Float[Tensor, "B N"]]


@dataclass(frozen=True)
class Extremes:
    """The ends of the spectrum of a Hessian, as far as a Krylov space of a few steps shows them.

    Attributes:
        smallest: eigenvalue; the estimate lies above the true one.
        largest: eigenvalue; the estimate lies below the true one.
        smallest_error: an eigenvalue lies within this of `smallest`.
        largest_error: an eigenvalue lies within this of `largest`.
        products: Hessian products that it took.
    """

    smallest: Float[Tensor, " B"]
    largest: Float[Tensor, " B"]
    smallest_error: Float[Tensor, " B"]
    largest_error: Float[Tensor, " B"]
    products: int

    @property
    def condition_number(self) -> Float[Tensor, " B"]:
        """largest / smallest; infinite where the energy is not convex."""
        return torch.where(self.smallest > 0, self.largest / self.smallest, torch.inf)

    @property
    def ceiling(self) -> Float[Tensor, " B"]:
        """A magnitude that curvatures hardly exceed: the largest one with its error, for step sizes."""
        upper, lower = self.largest.abs() + self.largest_error, self.smallest.abs() + self.smallest_error
        return torch.maximum(upper, lower)


@torch.no_grad()
def extremes(problem: CurvedProblem, point: EnergyPoint, *, steps: int = 30, seed: int = 0) -> Extremes:
    """Both ends of the spectrum of the Hessian, by Lanczos with full reorthogonalisation.

    Exact once `steps` reaches the number of distinct eigenvalues; well-separated ends come much sooner. Memory: `steps`
    directions.

    Args:
        problem: whose Hessian.
        point: where.
        steps: Hessian products at most, one more for the start.
        seed: of the starting direction.

    Reference: Saad, Numerical Methods for Large Eigenvalue Problems, section 6.6.
    """
    _check(steps)
    product = _packed(problem, point)
    start = _start(product, point, seed)
    steps = min(steps, start.shape[-1])
    diagonal, below = _tridiagonal(product, start, steps)
    matrix = torch.diag_embed(diagonal) + torch.diag_embed(below[:, :-1], 1) + torch.diag_embed(below[:, :-1], -1)
    finite = matrix.isfinite().flatten(1).all(-1)
    ritz, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], matrix, 0.0))
    ritz = torch.where(finite[:, None], ritz, torch.nan)
    errors = (below[:, -1:] * vectors[:, -1]).abs()
    return Extremes(ritz[:, 0], ritz[:, -1], errors[:, 0], errors[:, -1], steps + 1)


def _tridiagonal(product: Product, direction: Tensor, steps: int) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]]:
    """Lanczos: H in the orthonormal basis of its Krylov space, diagonal and what stands below it.

    Where a row's space is exhausted its further diagonal repeats the first entry, which lies inside the spectrum.
    """
    basis = direction.new_zeros(len(direction), steps, direction.shape[-1])
    diagonal, below = basis.new_zeros(2, len(direction), steps)
    alive, norm = torch.ones_like(diagonal[:, 0], dtype=torch.bool), torch.zeros_like(diagonal[:, 0])
    tiny = 10 * direction.shape[-1] * torch.finfo(direction.dtype).eps
    for k in range(steps):
        basis[:, k] = direction
        image = product(direction)
        diagonal[:, k] = torch.where(alive, (direction * image).sum(-1), diagonal[:, 0])
        norm = torch.maximum(norm, torch.linalg.vector_norm(image, dim=-1))
        for _ in range(2):  # twice is enough (Kahan)
            seen = basis[:, : k + 1]
            image = image - ((seen @ image.unsqueeze(-1)).mT @ seen).squeeze(-2)
        length = torch.linalg.vector_norm(image, dim=-1)
        alive = alive & ~(length <= tiny * norm)
        below[:, k] = torch.where(alive, length, 0.0)
        direction = _normalised(image, below[:, k])
    return diagonal, below


def _packed(problem: CurvedProblem, point: EnergyPoint) -> Product:
    """H times packed directions."""
    widths = [group.shape[-1] for group in point.values]
    return lambda direction: torch.cat(problem.hessian_product(point, direction.split(widths, -1)), -1)


def _start(product: Product, point: EnergyPoint, seed: int) -> Float[Tensor, "B N"]:
    """Normal noise, the same in every row, over the units that can move: H of the noise is exactly zero at the others."""
    like, width = point.values[0], sum(group.shape[-1] for group in point.values)
    noise = torch.randn(1, width, generator=torch.Generator().manual_seed(seed), dtype=like.dtype).to(like.device)
    noise = noise.expand(len(like), -1)
    noise = torch.where(product(noise) != 0, noise, 0.0)
    return _normalised(noise, torch.linalg.vector_norm(noise, dim=-1))


def _normalised(vector: Tensor, norm: Tensor) -> Tensor:
    """vector / norm; nothing where the norm is zero."""
    return vector * torch.where(norm > 0, 1 / norm, norm).unsqueeze(-1)


def _check(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
