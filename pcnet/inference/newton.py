"""Newton's method on values: truncated conjugate gradients inside a trust region, and the closed form where there is one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcnet.inference.carry import merge
from pcnet.inference.equilibrium import (
    CurvedProblem,
    EnergyPoint,
    Equilibrium,
    ErrorProblem,
    LinearGaussian,
    axpy,
    dot,
    scale,
    subtract,
    zeros_like,
)
from pcnet.inference.error_coordinates import ErrorView
from pcnet.inference.solver import Solver
from pcnet.typing import State

ACCEPT, POOR, GOOD = 1e-4, 0.25, 0.75
"""Actual over predicted decrease: below the first a step is refused, below the second the region shrinks, above the third it
may grow."""
SHRINK, GROW = 0.25, 2.0
"""What the radius is multiplied by."""
TIGHTEST = 1e-3
"""Relative tolerance of the linear systems that is never tightened further."""
FLATTEST = 1e-6
"""Of the largest curvature met: directions flatter than that are taken for flat, and bounded by it."""


class Region(NamedTuple):
    """The last step tried and what the quadratic model said of it.

    Attributes:
        energy: where the step began.
        start: the values there.
        step: from there.
        slope: gradient times step.
        curvature: step times Hessian times step.
        length: of the step, in the norm of the preconditioner.
        radius: of the trust region.
        gradient: norm of the very first gradient.
        products: Hessian products so far.
    """

    energy: Float[Tensor, " B"]
    start: State
    step: State
    slope: Float[Tensor, " B"]
    curvature: Float[Tensor, " B"]
    length: Float[Tensor, " B"]
    radius: Float[Tensor, " B"]
    gradient: Float[Tensor, " B"]
    products: Int[Tensor, " B"]

    def shortened(self, factor: float) -> "Region":
        """The same step, so much of it; none of it asks for another step from where it began."""
        return self._replace(
            step=scale(self.step, factor),
            slope=factor * self.slope,
            curvature=factor**2 * self.curvature,
            length=factor * self.length,
            radius=SHRINK * self.length,
        )


@dataclass(frozen=True)
class NewtonCG(Solver):
    """Newton with Steihaug's truncated conjugate gradients: min over |d| <= radius of g^T d + 1/2 d^T H d.

    Converges quadratically where the Hessian is positive definite and follows directions of negative curvature out of
    saddles. Every row has its own radius. Where the energy falls by less than the model said, the row goes back along the
    step: one evaluation a step, as many Hessian products as the hardest row needs.

    Args:
        preconditioned: whether conjugate gradients run in the metric of Gauss-Newton in error coordinates (an
            `ErrorProblem`): its inverse, one small system per sample, makes depth cheap.
        radius: of the first trust region, > 0; None takes the first Newton step at its word.
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

    def init(self, problem: CurvedProblem, point: EnergyPoint) -> Region:
        unknown, nothing = torch.full_like(point.energy, torch.inf), torch.zeros_like(point.energy)
        radius, still = unknown if self.radius is None else nothing + self.radius, zeros_like(point.values)
        norm, count = dot(point.residual, point.residual).sqrt(), torch.zeros_like(nothing, dtype=torch.long)
        return Region(unknown, point.values, still, nothing, nothing, nothing, radius, norm, count)

    def step(self, problem: CurvedProblem, point: EnergyPoint, carry: Region) -> tuple[State, Region]:
        refused, radius = _judge(point.energy, carry)
        metric = problem.gauss_newton(point) if self.preconditioned else None

        def precondition(gradient: State) -> State:
            if metric is None:
                return gradient
            return problem.push_forward(point, metric.solve(problem.pull_back(point, gradient)))

        # A refused row has nothing to compute: its system has a right side of zero.
        downhill = scale(point.residual, -(~refused).to(point.energy.dtype).unsqueeze(-1))
        norm = dot(downhill, downhill).sqrt()
        systems = TrustRegion(
            lambda direction: problem.hessian_product(point, direction),
            precondition,
            radius,
            (norm / carry.gradient).sqrt().clamp(TIGHTEST, self.forcing),
        )
        step, left, length, products = systems.solve(downhill, self.max_products, self.check_every)
        bent = dot(step, subtract(downhill, left))
        if problem.kinked:
            step, products = aligned(point, step), products + 1
            bent = dot(step, problem.hessian_product(point, step))
        onward = Region(
            point.energy, point.values, step, -dot(downhill, step), bent, length, radius, carry.gradient, carry.products
        )
        # Where kinks stop units, energy can rise along all but the very beginning of a step that the model likes.
        region = merge(refused, carry.shortened(0.0 if problem.kinked else SHRINK), onward)
        back = subtract(problem.retract(carry.start, region.step), point.values)
        return merge(refused, back, step), region._replace(products=carry.products + products)

    def products(self, carry: Region) -> Int[Tensor, " B"]:
        return carry.products


def aligned(point: EnergyPoint, step: State) -> State:
    """The step without what would take a unit at zero against its own pseudo-gradient, into the wrong orthant."""
    groups = zip(point.values, point.residual, step, strict=True)
    return tuple(torch.where((x == 0) & (r * d > 0), 0.0, d) for x, r, d in groups)


def _judge(energy: Float[Tensor, " B"], last: Region) -> tuple[Bool[Tensor, " B"], Float[Tensor, " B"]]:
    """Whether the last step is refused, and the radius that follows from what it achieved."""
    predicted = -(last.slope + 0.5 * last.curvature)
    noise = 100 * torch.finfo(energy.dtype).eps * (1 + last.energy.abs())  # infinite before the first step
    lost = ((energy > last.energy + noise) & (last.length > 0)).to(energy.dtype)  # none: back where the step began
    ratio = torch.where(predicted > noise, (last.energy - energy) / predicted, 1 - 2 * lost)
    grown = torch.where((ratio > GOOD) & (last.length > 0.9 * last.radius), GROW * last.radius, last.radius)
    return ratio < ACCEPT, torch.where(ratio < POOR, SHRINK * last.length, grown)


@dataclass(frozen=True)
class TrustRegion:
    """Quadratic models, one per sample, each to be minimised in a ball.

    Args:
        product: d -> H d.
        precondition: r -> an approximation of H^-1 r, symmetric positive definite; the ball is round in its norm.
        radius: of the ball.
        rtol: relative tolerance on sqrt(r^T M r), M the preconditioner.
    """

    product: Callable[[State], State]
    precondition: Callable[[State], State]
    radius: Float[Tensor, " B"]
    rtol: Float[Tensor, " B"]

    def solve(
        self, right_side: State, max_steps: int, check_every: int
    ) -> tuple[State, State, Float[Tensor, " B"], int]:
        """Conjugate gradients from zero until the tolerance, the ball's edge, or a direction in which the energy curves down.

        Returns:
            The step, what is left of the right side, the step's length in the norm of M^-1, and products computed.
        """
        x, left = zeros_like(right_side), right_side
        direction = descent = self.precondition(left)
        decrement = dot(left, descent)
        goal = self.rtol**2 * decrement
        # In the norm of M^-1: |x|^2, <x, direction>, |direction|^2, by recurrence.
        xx, xd, dd = torch.zeros_like(decrement), torch.zeros_like(decrement), decrement
        active, steepest = decrement > 0, torch.zeros_like(decrement)
        for k in range(max_steps):
            if k % check_every == 0 and not active.any():
                return x, left, xx.sqrt(), k
            image = self.product(direction)
            curvature = dot(direction, image)
            steepest = torch.maximum(steepest, curvature.abs() / dd)
            flat = FLATTEST * steepest * dd
            wished = decrement / torch.maximum(curvature.abs(), flat)
            allowed = (-xd + (xd * xd + dd * (self.radius**2 - xx)).clamp(min=0).sqrt()) / dd
            length = torch.where(active, torch.minimum(wished, allowed), 0.0)
            x, left = axpy(x, length.unsqueeze(-1), direction), axpy(left, -length.unsqueeze(-1), image)
            descent = self.precondition(left)
            previous, decrement = decrement, dot(left, descent)
            ratio = torch.where(active, decrement / previous, 0.0)
            xx, xd, dd = xx + length * (2 * xd + length * dd), ratio * (xd + length * dd), decrement + ratio**2 * dd
            direction = axpy(descent, ratio.unsqueeze(-1), direction)
            active = active & (curvature > flat) & (wished < allowed) & (decrement > goal)
        return x, left, xx.sqrt(), max_steps


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
