"""Gauss-Newton's model of a graph's curvature in error coordinates, with its inverse.

    P = diag(h) + G^T G,      h: curvature of each free node's own energy, and of its prior where it is its own error,
                              G: the root of what outputs add, see `OutputCurvature`.

G has R rows and N columns. The linear system is solved in the smaller of the two: N x N where N <= R; R x R by Woodbury's
identity where R < N; and by conjugate gradients, with products only, where both exceed `LARGE`.

A root that nothing predicts has no stiffness of its own: there h is a share of the mean curvature that G gives its units, so
that P can be inverted whatever G's rank: sqrt(machine epsilon) where P is to be exact, `DAMPING` in a preconditioner.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.inference.equilibrium import Metric, PackedMetric, packed, unpacked
from pcnet.inference.linear import conjugate_gradients
from pcnet.inference.trust_region import Diagonal
from pcnet.networks.graph.outputs import OutputCurvature
from pcnet.networks.graph.trunk import Trunk
from pcnet.typing import State

LARGE = 512
"""The smaller of R and N up to which the system is factorised; G alone takes R x N numbers a row of the batch."""
WORTHWHILE = 64
"""The same for a preconditioner, which need not be exact: R rows of G cost R passes through the graph, a product two."""

DAMPING = 1e-2
"""Share of the mean curvature from outputs that a preconditioner takes for stiffness where a unit has none."""
SOFTEST = 1e-6
"""No stiffness counts for less: an energy of one's own may be flat somewhere."""


class Woodbury(NamedTuple):
    """P by its R rows.

    Attributes:
        diagonal: h.
        rows: G.
        factor: lower triangular, of 1 + G h^-1 G^T.
    """

    diagonal: Float[Tensor, "B N"]
    rows: Float[Tensor, "B R N"]
    factor: Float[Tensor, "B R R"]

    @classmethod
    def of(cls, diagonal: Float[Tensor, "B N"], rows: Float[Tensor, "B R N"]) -> "Woodbury":
        """From h and G."""
        scaled = rows / diagonal.unsqueeze(-2) if (diagonal != 1).any() else rows
        one = torch.eye(rows.shape[-2], dtype=rows.dtype, device=rows.device)
        return cls(diagonal, rows, torch.linalg.cholesky_ex(one + scaled @ rows.mT).L)

    def solve(self, gradient: State) -> State:
        # Row vectors times matrices: a batch of G @ g takes a CPU ten times as long.
        scaled = packed(gradient) / self.diagonal
        projected = scaled.unsqueeze(-2) @ self.rows.mT
        weights = torch.cholesky_solve(projected.mT, self.factor).mT
        solved = scaled - (weights @ self.rows).squeeze(-2) / self.diagonal
        return unpacked(solved, gradient)

    def length(self, step: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        curved = (step.unsqueeze(-2) @ self.rows.mT).square().sum((-1, -2))
        return ((self.diagonal * step * step).sum(-1) + curved).sqrt()


class Factorised(NamedTuple):
    """P by its matrix.

    Attributes:
        factor: lower triangular, of P.
    """

    factor: Float[Tensor, "B N N"]

    def solve(self, gradient: State) -> State:
        return unpacked(torch.cholesky_solve(packed(gradient).unsqueeze(-1), self.factor).squeeze(-1), gradient)

    def length(self, step: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        return torch.linalg.vector_norm(step.unsqueeze(-2) @ self.factor, dim=(-1, -2))


@dataclass(frozen=True)
class MatrixFree:
    """P by its products.

    Args:
        curvature: G^T G.
        diagonal: h.
    """

    curvature: OutputCurvature
    diagonal: Float[Tensor, "B N"]

    def product(self, direction: State) -> State:
        """P times a direction in errors."""
        groups = zip(direction, unpacked(self.diagonal, direction), self.curvature.product(direction))
        return tuple(h * d + g for d, h, g in groups)

    def solve(self, gradient: State) -> State:
        rtol = torch.finfo(self.diagonal.dtype).eps ** 0.75
        return conjugate_gradients(self.product, gradient, Diagonal(self.diagonal).solve, rtol=rtol, max_steps=1000)


def metric_of(trunk: Trunk) -> Metric:
    """P at one point, ready to be solved to rounding."""
    share, curvature = torch.finfo(trunk.point.energy.dtype).eps ** 0.5, OutputCurvature(trunk)
    if min(curvature.height, curvature.free_units) > LARGE:
        return MatrixFree(curvature, _stiffness(trunk, share, None))
    return _factorised(curvature, share)


def preconditioner_of(trunk: Trunk) -> PackedMetric:
    """P where it is cheap, else diag(h)."""
    curvature = OutputCurvature(trunk)
    if min(curvature.height, curvature.free_units) > WORTHWHILE:
        return Diagonal(stiffness_of(trunk))
    return _factorised(curvature, DAMPING)


def no_preconditioner_of(trunk: Trunk) -> PackedMetric:
    """1 in the form of `preconditioner_of`, made of views that take no memory."""
    curvature, batch = OutputCurvature(trunk), len(trunk.point.energy)
    height, width = curvature.height, curvature.free_units
    one = trunk.point.energy.new_ones(()).expand(batch, width)
    if min(height, width) > WORTHWHILE:
        return Diagonal(one)
    small = torch.eye(min(height, width), dtype=one.dtype, device=one.device).expand(batch, -1, -1)
    return Woodbury(one, one.new_zeros(()).expand(batch, height, width), small) if height < width else Factorised(small)


def stiffness_of(trunk: Trunk) -> Float[Tensor, "B N"]:
    """h, 1 where there is none."""
    return _stiffness(trunk, DAMPING, None)


def _factorised(curvature: OutputCurvature, share: float) -> Woodbury | Factorised:
    trunk, width, energy = curvature.trunk, curvature.free_units, curvature.point.energy
    if curvature.height < width:
        rows = curvature.rows()
        return Woodbury.of(_stiffness(trunk, share, lambda: rows.square().sum(-2)), rows)
    every = torch.eye(width, dtype=energy.dtype, device=energy.device).expand(len(energy), -1, -1)
    curved = packed(curvature.product(every.split(trunk.structure.free_widths, -1)))
    diagonal = _stiffness(trunk, share, lambda: curved.diagonal(dim1=-2, dim2=-1))
    return Factorised(torch.linalg.cholesky_ex(0.5 * (curved + curved.mT) + diagonal.diag_embed()).L)


def _stiffness(trunk: Trunk, share: float, curvature: Callable[[], Tensor] | None) -> Float[Tensor, "B N"]:
    """h; a share of the mean curvature that G gives the same node where there is none, 1 where G is not known."""
    structure = trunk.structure
    own = [_own_stiffness(trunk, name) for name in structure.free]
    roots = [k for k, name in enumerate(structure.free) if name not in structure.trunk]
    given = curvature().split(structure.free_widths, -1) if roots and curvature is not None else None
    for k in roots:
        least = torch.ones_like(own[k]) if given is None else share * given[k].mean(-1, keepdim=True)
        own[k] = torch.maximum(own[k], least)
    return torch.cat(own, -1).clamp(min=SOFTEST)


def _own_stiffness(trunk: Trunk, name: str) -> Float[Tensor, "B D"]:
    structure, value = trunk.structure, trunk.point.nodes[name]
    index = structure.trunk.get(name)
    if index is not None and structure.units[index]:
        return torch.ones_like(value)
    total = torch.zeros_like(value)
    if index is not None:
        stiffness = structure.energies[index].stiffness(value, trunk.point.sent[index].prediction)
        return total + structure.predictions[index].weighted(stiffness)
    return total + structure.priors[name].curvature(value).clamp(min=0) if name in structure.priors else total
