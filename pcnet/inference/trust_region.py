"""Steps inside a trust region: a quadratic model for each sample, minimised in a ball, and what its step has achieved."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcnet.inference.carry import merge
from pcnet.inference.equilibrium import EnergyProblem, Metric, PackedMetric, packed, unpacked
from pcnet.inference.linear import Conjugate
from pcnet.inference.point import EnergyPoint
from pcnet.typing import State

Product = Callable[[Float[Tensor, "B N"]], Float[Tensor, "B N"]]
"""d -> H d, all node groups packed side by side."""

ACCEPT, POOR, GOOD = 1e-4, 0.25, 0.75
"""Actual over predicted decrease: below the first a step is rejected, below the second the region shrinks, above the third it
may grow."""
SHRINK, GROW = 0.25, 2.0
"""What the radius is multiplied by."""
UNBOUNDED = 1e18
"""A radius that no step reaches, while lengths are followed all the same."""
FLATTEST = 1e-6
"""Of the curvature along the first direction: directions flatter than that are taken for flat, and bounded by it."""


class Found(NamedTuple):
    """A step, and the quadratic model along it.

    Attributes:
        step: d.
        directional_derivative: g^T d.
        curvature: d^T H d.
        length: in the norm of the metric.
        needed: products with H that the row itself needed.
        products: that were computed, for all rows alike.
    """

    step: Float[Tensor, "B N"]
    directional_derivative: Float[Tensor, " B"]
    curvature: Float[Tensor, " B"]
    length: Float[Tensor, " B"]
    needed: Int[Tensor, " B"]
    products: Int[Tensor, " B"]

    def unless_held(self, values: Float[Tensor, "B N"], downhill: Float[Tensor, "B N"], product: Product) -> "Found":
        """Without what would take a unit that a kink holds at zero against its own pseudo-gradient, into the wrong orthant."""
        step = torch.where((values == 0) & (downhill * self.step < 0), 0.0, self.step)
        return self._replace(
            step=step,
            directional_derivative=-_dot(downhill, step),
            curvature=_dot(step, product(step)),
            products=self.products + 1,
        )


class Trial(NamedTuple):
    """The last step tried and what the quadratic model said of it.

    Attributes:
        energy: where the step began; infinite before the first.
        start: the state there.
        found: the step from there.
        radius: of the trust region.
        gradient: norm of the very first gradient; infinite before it is known.
        products: with the curvature, in all steps so far.
    """

    energy: Float[Tensor, " B"]
    start: Float[Tensor, "B N"]
    found: Found
    radius: Float[Tensor, " B"]
    gradient: Float[Tensor, " B"]
    products: Int[Tensor, " B"]

    @classmethod
    def none(cls, point: EnergyPoint, state: State, radius: float) -> "Trial":
        """Before the first step."""
        unknown, nothing, start = (
            torch.full_like(point.energy, torch.inf),
            torch.zeros_like(point.energy),
            packed(state),
        )
        count = torch.zeros_like(nothing, dtype=torch.long)
        still = Found(torch.zeros_like(start), nothing, nothing, nothing, count, count)
        return cls(unknown, start, still, torch.full_like(unknown, radius), unknown, count)

    def judged(self, energy: Float[Tensor, " B"]) -> tuple[Bool[Tensor, " B"], Float[Tensor, " B"]]:
        """Whether the step is rejected, and the radius that follows from what it achieved."""
        length = self.found.length
        predicted = -(self.found.directional_derivative + 0.5 * self.found.curvature)
        noise = 100 * torch.finfo(energy.dtype).eps * (1 + self.energy.abs())  # infinite before the first step
        lost = ((energy > self.energy + noise) & (length > 0)).to(energy.dtype)  # none: back where the step began
        ratio = torch.where(predicted > noise, (self.energy - energy) / predicted, 1 - 2 * lost).detach()
        grown = torch.where((ratio > GOOD) & (length > 0.9 * self.radius), GROW * self.radius, self.radius)
        return ratio < ACCEPT, torch.where(ratio < POOR, SHRINK * length, grown)

    def first(self, norm: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Norm of the very first gradient; this one, if none was before."""
        return torch.where(self.gradient.isinf(), norm, self.gradient).detach()

    def tolerance(self, norm: Float[Tensor, " B"], loosest: float, tightest: float) -> Float[Tensor, " B"]:
        """Relative, for the next linear system: tighter as the norm of the gradient falls."""
        return (norm / self.first(norm)).sqrt().clamp(tightest, loosest).detach()

    def followed(
        self, problem: EnergyProblem, state: State, rejected: Bool[Tensor, " B"], onward: "Trial"
    ) -> tuple[State, "Trial"]:
        """The increment that goes on from `state`, in rejected rows back along the last step; and what to remember of it."""
        if not rejected.any():
            return unpacked(onward.found.step, state), onward
        # Where kinks stop units, energy can rise along all but the very beginning of a step that the model likes.
        shorter = self.shortened(0.0 if problem.kinked else SHRINK)._replace(products=onward.products)
        kept = merge(rejected, shorter, onward)
        back = packed(problem.retract(unpacked(kept.start, state), unpacked(kept.found.step, state))) - packed(state)
        return unpacked(torch.where(rejected.unsqueeze(-1), back, onward.found.step), state), kept

    def shortened(self, factor: float) -> "Trial":
        """The same step times `factor`; with 0 the row returns to where the step began and tries another one."""
        step, derivative, curvature, length, *counts = self.found
        found = Found(factor * step, factor * derivative, factor**2 * curvature, factor * length, *counts)
        return self._replace(found=found, radius=SHRINK * length)


@dataclass(frozen=True)
class System:
    """Quadratic models, one per sample, each to be minimised in a ball that is round in its metric's norm.

    Args:
        product: with H.
        metric: P, whose inverse is the preconditioner; its `length` is used only where no radius is finite.
        radius: of the ball.
        rtol: relative tolerance on sqrt(r^T P^-1 r).
    """

    product: Product
    metric: Metric | PackedMetric
    radius: Float[Tensor, " B"]
    rtol: Float[Tensor, " B"]

    def solve(self, downhill: Float[Tensor, "B N"], max_products: int, check_every: int) -> Found:
        """Conjugate gradients from zero until the tolerance, the ball's edge, or a direction of negative curvature.

        Args:
            downhill: minus the gradient; a row of zeros takes no step.
            max_products: at most.
            check_every: products between looks at whether all rows are done.
        """
        at = Conjugate.start((downhill,), self.metric.solve)
        goal = self.rtol**2 * at.decrement.detach()
        active, needed, computed = at.decrement > 0, torch.zeros_like(goal, dtype=torch.long), 0
        path = Path.of(at.decrement, self.radius) if self.radius.isfinite().any() else None
        flattest = goal
        for k in range(max_products):
            if k % check_every == 0 and not active.any():
                break
            image = self.product(at.direction[0])
            needed, computed = needed + active, k + 1
            curvature = _dot(at.direction[0], image)
            if k == 0:
                flattest = FLATTEST * (curvature.abs() / torch.where(active, at.decrement, torch.inf)).detach()
            flat = flattest * at.decrement.detach()
            length = torch.where(active, at.decrement / torch.maximum(curvature.abs(), flat), 0.0)
            going = curvature > flat
            if path is not None:
                edge = path.edge()
                going = going & (length < edge)
                length = torch.where(active, torch.minimum(length, edge), 0.0)
            at, share = at.step(length, (image,), self.metric.solve, active)
            path = None if path is None else path.onward(length, share, at.decrement)
            active = active & going & (at.decrement > goal)
        (x,), (left,) = at.x, at.residual
        length = self.metric.length(x.detach()) if path is None else path.xx.clamp(min=0).sqrt()
        return Found(x, -_dot(downhill, x), _dot(x, downhill - left), length, needed, torch.full_like(needed, computed))


class Path(NamedTuple):
    """How far conjugate gradients have come, in the norm of the metric, by recurrence.

    Attributes:
        radius: how far they may.
        xx: |x|^2.
        xd: <x, direction>.
        dd: |direction|^2.
    """

    radius: Float[Tensor, " B"]
    xx: Float[Tensor, " B"]
    xd: Float[Tensor, " B"]
    dd: Float[Tensor, " B"]

    @classmethod
    def of(cls, decrement: Float[Tensor, " B"], radius: Float[Tensor, " B"]) -> "Path":
        """Where they begin."""
        return cls(radius, torch.zeros_like(radius), torch.zeros_like(radius), decrement.detach())

    def edge(self) -> Float[Tensor, " B"]:
        """Multiple of the direction that leads to the edge."""
        room = self.dd * (self.radius**2 - self.xx)
        return (-self.xd + (self.xd**2 + room).clamp(min=0).sqrt()) / self.dd

    def onward(self, length: Float[Tensor, " B"], ratio: Float[Tensor, " B"], decrement: Float[Tensor, " B"]) -> "Path":
        """After a step of this length, with the next direction made from the last one in this ratio."""
        step, share = length.detach(), ratio.detach()
        return Path(
            self.radius,
            self.xx + step * (2 * self.xd + step * self.dd),
            share * (self.xd + step * self.dd),
            decrement.detach() + share**2 * self.dd,
        )


class Diagonal(NamedTuple):
    """The metric diag(h).

    Attributes:
        diagonal: h; one column for all alike.
    """

    diagonal: Float[Tensor, "B N"] | Float[Tensor, "B 1"]

    def solve(self, gradient: State) -> State:
        return unpacked(packed(gradient) / self.diagonal, gradient)

    def length(self, step: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        return (self.diagonal * step * step).sum(-1).sqrt()


def _dot(left: Float[Tensor, "B N"], right: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
    return torch.linalg.vecdot(left, right)
