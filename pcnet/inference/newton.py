"""Newton's method on values: truncated conjugate gradients inside a trust region, and the closed form where there is one."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.inference.equilibrium import (
    CurvedProblem,
    Equilibrium,
    ErrorProblem,
    LinearGaussian,
    Metric,
    packed,
    scale,
    unpacked,
)
from pcnet.inference.error_coordinates import ErrorView
from pcnet.inference.point import EnergyPoint
from pcnet.inference.solver import Solver
from pcnet.inference.trust_region import UNBOUNDED, Diagonal, System, Trial
from pcnet.typing import State

TIGHTEST = 1e-3
"""Relative tolerance of the linear systems that is never tightened further."""


class Pulled(NamedTuple):
    """A metric in errors, as one in values.

    Attributes:
        problem: that knows how errors become values.
        point: where.
        metric: in errors.
    """

    problem: ErrorProblem
    point: EnergyPoint
    metric: Metric

    def solve(self, gradient: State) -> State:
        groups = unpacked(gradient[0], self.point.values)
        metric = self.metric.solve(self.problem.pull_back(self.point, groups))
        return (packed(self.problem.push_forward(self.point, metric)),)


@dataclass(frozen=True)
class NewtonCG(Solver):
    """Newton with Steihaug's truncated conjugate gradients: min over |d| <= radius of g^T d + 1/2 d^T H d.

    Converges quadratically where the Hessian is positive definite and follows directions of negative curvature out of
    saddles. Every row has its own radius. Where the energy falls by less than the model said, the row goes back along the
    step: one evaluation a step, as many Hessian products as the hardest row needs.

    Args:
        preconditioned: whether conjugate gradients run in the metric of Gauss-Newton in error coordinates (an
            `ErrorProblem`): its inverse, one small system per sample, makes depth cheap.
        radius: of the first trust region, > 0; None does not bound the first Newton step.
        forcing: tolerance of the linear systems relative to the gradient, in (0, 1), tightened as the gradient falls.
        max_products: Hessian products per step at most.
        check_every: products between looks at whether all rows are done; raise it on a GPU.

    Reference: Steihaug, SIAM J. Numer. Anal. 20 (1983) 626.
    """

    preconditioned: bool = False
    radius: float | None = None
    forcing: float = 0.5
    max_products: int = 100
    check_every: int = 1

    def __post_init__(self) -> None:
        if self.radius is not None and not self.radius > 0:
            raise ValueError(f"radius must be > 0, got {self.radius}")
        if not 0 < self.forcing < 1:
            raise ValueError(f"forcing must be in (0, 1), got {self.forcing}")
        for name, value in (("max_products", self.max_products), ("check_every", self.check_every)):
            if not value >= 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    @property
    def requires(self) -> tuple[type[Equilibrium], ...]:
        return (CurvedProblem, ErrorProblem) if self.preconditioned else (CurvedProblem,)

    def init(self, problem: CurvedProblem, point: EnergyPoint) -> Trial:
        return Trial.none(point, point.values, UNBOUNDED if self.radius is None else self.radius)

    def step(self, problem: CurvedProblem, point: EnergyPoint, carry: Trial) -> tuple[State, Trial]:
        rejected, radius = carry.judged(point.energy)
        gradient = packed(point.residual)
        norm = torch.linalg.vector_norm(gradient, dim=-1)

        def product(direction: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
            return packed(problem.hessian_product(point, unpacked(direction, point.values)))

        system = System(product, self._metric(problem, point), radius, carry.tolerance(norm, self.forcing, TIGHTEST))
        # A rejected row has nothing to compute: its system has a right side of zero.
        downhill = torch.where(rejected.unsqueeze(-1), 0.0, -gradient)
        found = system.solve(downhill, self.max_products, self.check_every)
        if problem.kinked:
            found = found.unless_held(packed(point.values), downhill, product)
        values, count = packed(point.values), carry.products + found.products
        onward = Trial(point.energy, values, found, radius, carry.first(norm), count)
        return carry.followed(problem, point.values, rejected, onward)

    def _metric(self, problem: CurvedProblem, point: EnergyPoint) -> Metric:
        if self.preconditioned:
            return Pulled(problem, point, problem.gauss_newton(point))
        return Diagonal(torch.ones_like(point.energy).unsqueeze(-1))

    def products(self, carry: Trial) -> Int[Tensor, " B"]:
        return carry.products


@dataclass(frozen=True)
class Direct(Solver):
    """The minimum of a linear-Gaussian energy in one step: its posterior mean.

        eps <- eps - P^-1 dF/deps,      P the curvature in errors, the same everywhere.

    One linear system per sample, in the smaller of the clamped and the free dimension. Rounding in an ill-conditioned one is
    mended by a second step.
    """

    requires = LinearGaussian

    def view(self, problem: LinearGaussian) -> ErrorView:
        return ErrorView(problem)

    def step(self, problem: ErrorView, point: EnergyPoint, carry: tuple) -> tuple[State, tuple]:
        return scale(problem.metric(point).solve(problem.gradient(point)), -1.0), carry
