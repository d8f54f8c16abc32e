"""Gauss-Newton in error coordinates, damped by a trust region, its steps refined with the exact curvature where that is cheap."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcnet.inference.carry import merge
from pcnet.inference.equilibrium import (
    CurvedErrorProblem,
    EnergyPoint,
    ErrorProblem,
    LinearGaussian,
    PackedMetric,
    packed,
    scale,
    unpacked,
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
TIGHTEST = 1e-2
"""Relative tolerance of the linear systems that is never tightened further."""
FLATTEST = 1e-6
"""Of the metric's curvature: directions flatter than that are taken for flat, and bounded by it."""
OPENING = 2
"""Products of the very first step, taken far from the minimum in the metric diag(h): P would serve it no better."""


class Trial(NamedTuple):
    """The last step tried and what the quadratic model said of it.

    Attributes:
        energy: where the step began.
        start: the errors there.
        step: from there.
        slope: gradient times step.
        curvature: step times curvature times step.
        length: of the step, in the norm of the metric.
        radius: of the trust region.
        gradient: norm of the very first gradient.
        products: with the exact curvature, so far.
    """

    energy: Float[Tensor, " B"]
    start: Float[Tensor, "B N"]
    step: Float[Tensor, "B N"]
    slope: Float[Tensor, " B"]
    curvature: Float[Tensor, " B"]
    length: Float[Tensor, " B"]
    radius: Float[Tensor, " B"]
    gradient: Float[Tensor, " B"]
    products: Int[Tensor, " B"]

    def shortened(self, factor: float) -> "Trial":
        """The same step, so much of it; none of it asks for another step from where it began."""
        return self._replace(
            step=factor * self.step,
            slope=factor * self.slope,
            curvature=factor**2 * self.curvature,
            length=factor * self.length,
            radius=SHRINK * self.length,
        )


class Memory(NamedTuple):
    """What Gauss-Newton remembers.

    Attributes:
        trial: the last step.
        metric: kept from an earlier point; nothing where every step makes its own, or needs none.
        stale: rows that had better make a new one.
    """

    trial: Trial
    metric: Any
    stale: Bool[Tensor, " B"]


class Diagonal(NamedTuple):
    """diag(h) alone.

    Attributes:
        diagonal: h.
    """

    diagonal: Float[Tensor, "B N"]

    def solve(self, gradient: State) -> State:
        return unpacked(packed(gradient) / self.diagonal, gradient)

    def length(self, step: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        return (self.diagonal * step * step).sum(-1).sqrt()


class Backtracking(NamedTuple):
    """The last step with P alone, should it have to be shortened.

    Attributes:
        energy: where it began.
        start: the errors there.
        step: from there.
    """

    energy: Float[Tensor, " B"]
    start: State
    step: State

    @classmethod
    def of(cls, problem: ErrorView, point: EnergyPoint) -> "Backtracking":
        """Before the first step."""
        errors = problem.coordinates(point.values)
        return cls(torch.full_like(point.energy, torch.inf), errors, zeros_like(errors))

    def step_on(self, problem: ErrorView, point: EnergyPoint) -> tuple[State, "Backtracking"]:
        """Gauss-Newton's own step, or a quarter of the last one where that raised the energy."""
        errors = problem.coordinates(point.values)
        step = tuple(torch._foreach_neg(problem.metric(point).solve(problem.gradient(point))))
        slack = 1e-6 if point.energy.dtype == torch.float32 else 1e-12
        worse = point.energy > self.energy + slack * (1 + self.energy.abs())
        if not worse.any():
            return step, Backtracking(point.energy, errors, step)
        again = Backtracking(self.energy, self.start, scale(self.step, SHRINK))
        onward = merge(worse, again, Backtracking(point.energy, errors, step))
        landed = problem.retract(onward.start, onward.step)
        back = worse.unsqueeze(-1)
        increment = tuple(torch.where(back, new - old, ahead) for new, old, ahead in zip(landed, errors, step))
        return increment, onward


@dataclass(frozen=True)
class GaussNewton(Solver):
    """Gauss-Newton in error coordinates, inside a trust region; the default.

        eps <- eps + d,      d = argmin g^T d + 1/2 d^T H d over d^T P d <= radius^2,      g = dF/deps,
        P = diag(h) + J^T Lam J,      H = Q^T (d2F/dx2) Q, Q = dx/deps.

    J is the Jacobian of what is held with respect to the errors, Lam the curvature of its energy, so that P costs one system
    per sample, in the smaller of the number of held and of free units. What a step does follows from what the problem is:

    * `LinearGaussian`: H = P, and one step with P lands on the minimum.
    * `CurvedErrorProblem` (every other graph), where a product with H costs two sweeps through the network: conjugate
      gradients on H in the metric P, as many as pay. The first is Gauss-Newton's step with its best length. Steps with P
      alone would close in by a factor of .3 to .95 each, because P lacks the curvature of the predictions; with H they close
      in quadratically: 3 to 6 steps in tanh networks of 5 to 40 layers. The first step takes diag(h) for P; P is made at the
      second, and again for rows whose step took more than `patience` products, was cut at the region's edge, or was refused.
    * Other problems (a temporal network, whose P has the curvature of its tanh): steps with P alone, made anew each time.

    Every row has its own radius. A step that lowers the energy by less than a small share of what the model says is taken
    back to a quarter, one evaluation a time, so energies never rise from one kept point to the next; a row that ran out of
    steps may end at a point that was still to be refused.

    Args:
        forcing: tolerance of the linear systems relative to the gradient, in (0, 1), tightened as the gradient falls.
        patience: products of one step above which P is made anew, >= 0.
        max_products: with H per step at most; 0 takes steps with P alone.
        check_every: products between looks at whether all rows are done; raise it on a GPU.

    Reference: error coordinates, arXiv 2505.20137; truncated conjugate gradients, Steihaug, SIAM J. Numer. Anal. 20 (1983)
        626.
    """

    forcing: float = 0.1
    patience: int = 4
    max_products: int = 10
    check_every: int = 1
    requires = ErrorProblem

    def __post_init__(self) -> None:
        if not 0 < self.forcing < 1:
            raise ValueError(f"forcing must be in (0, 1), got {self.forcing}")
        for name, value, least in (
            ("patience", self.patience, 0),
            ("max_products", self.max_products, 0),
            ("check_every", self.check_every, 1),
        ):
            if not value >= least:
                raise ValueError(f"{name} must be at least {least}, got {value}")

    def view(self, problem: ErrorProblem) -> ErrorView:
        return ErrorView(problem)

    def init(self, problem: ErrorView, point: EnergyPoint) -> "Memory | Backtracking":
        if not self._refines(problem):
            return Backtracking.of(problem, point)
        unknown, nothing = torch.full_like(point.energy, torch.inf), torch.zeros_like(point.energy)
        start, count = packed(problem.coordinates(point.values)), torch.zeros_like(nothing, dtype=torch.long)
        trial = Trial(unknown, start, torch.zeros_like(start), nothing, nothing, nothing, unknown, unknown, count)
        return Memory(trial, problem.problem.no_preconditioner(point), torch.ones_like(unknown, dtype=torch.bool))

    def _refines(self, view: ErrorView) -> bool:
        """Whether H is at hand and is not P."""
        problem = view.problem
        return (
            self.max_products > 0
            and isinstance(problem, CurvedErrorProblem)
            and not isinstance(problem, LinearGaussian)
        )

    def step(
        self, problem: ErrorView, point: EnergyPoint, carry: "Memory | Backtracking"
    ) -> tuple[State, "Memory | Backtracking"]:
        return carry.step_on(problem, point) if isinstance(carry, Backtracking) else self._inside(problem, point, carry)

    def _inside(self, problem: ErrorView, point: EnergyPoint, carry: Memory) -> tuple[State, Memory]:
        """A step inside the trust region."""
        last = carry.trial
        refused, radius = _judged(point.energy, last)
        errors = problem.coordinates(point.values)
        here, gradient = packed(errors), packed(problem.gradient(point))
        norm = torch.linalg.vector_norm(gradient, dim=-1)
        first = torch.where(last.gradient.isinf(), norm, last.gradient).detach()
        opening = bool(last.gradient.isinf().all())
        metric = carry.metric if opening else self._renewed(problem, point, carry, refused)
        rtol = (norm / first).sqrt().clamp(TIGHTEST, self.forcing).detach()
        chosen = Diagonal(problem.problem.stiffness(point)) if opening else metric
        most = min(OPENING, self.max_products) if opening else self.max_products
        downhill = torch.where(refused.unsqueeze(-1), 0.0, -gradient)
        found = self._refined(problem, point, downhill, System(chosen, radius, rtol), most)
        stale = refused | (found.length > 0.9 * radius) | (found.products > self.patience) | opening
        slope = (gradient * found.step).sum(-1)
        onward = last._replace(
            energy=point.energy,
            start=here,
            step=found.step,
            slope=slope,
            curvature=found.curvature,
            length=found.length,
            gradient=first,
        )
        if refused.any():
            # Where kinks stop units, energy can rise along all but the very beginning of a step that the model likes.
            onward = merge(refused, last.shortened(0.0 if problem.kinked else SHRINK), onward._replace(radius=radius))
            back = packed(problem.retract(unpacked(last.start, errors), unpacked(onward.step, errors))) - here
            increment = torch.where(refused.unsqueeze(-1), back, found.step)
        else:
            onward, increment = onward._replace(radius=radius), found.step
        trial = onward._replace(products=last.products + found.products)
        return unpacked(increment, errors), Memory(trial, metric, stale)

    def _renewed(
        self, problem: ErrorView, point: EnergyPoint, carry: Memory, refused: Bool[Tensor, " B"]
    ) -> PackedMetric:
        """The metric, made anew in rows that need it."""
        wanted = carry.stale & ~refused
        if not wanted.any():
            return carry.metric
        metric = problem.problem.preconditioner(point)
        return metric if wanted.all() else merge(wanted, metric, carry.metric)

    def _refined(
        self, problem: ErrorView, point: EnergyPoint, downhill: Float[Tensor, "B N"], system: "System", most: int
    ) -> "Found":
        """The step by conjugate gradients; none in refused rows, whose right side is zero."""
        product = problem.problem.error_curvature(point)
        found = system.solve(product, downhill, most, self.check_every)
        if not problem.kinked:
            return found
        # A unit that a kink holds does not move against its own pseudo-gradient, into the wrong orthant.
        held = (packed(point.values) == 0) & (downhill * found.step < 0)
        step = torch.where(held, 0.0, found.step)
        return found._replace(step=step, curvature=_dot(step, product(step)), products=found.products + 1)

    def products(self, carry: Memory) -> Int[Tensor, " B"]:
        return 0 if isinstance(carry, Backtracking) else carry.trial.products


class Found(NamedTuple):
    """A step, and the quadratic model along it.

    Attributes:
        step: d.
        curvature: d^T H d.
        length: in the norm of the metric.
        products: with H that it took, per row.
    """

    step: Float[Tensor, "B N"]
    curvature: Float[Tensor, " B"]
    length: Float[Tensor, " B"]
    products: Int[Tensor, " B"]


@dataclass(frozen=True)
class System:
    """Quadratic models, one per sample, each to be minimised in a ball that is round in its metric's norm.

    Args:
        metric: P.
        radius: of the ball.
        rtol: relative tolerance on sqrt(r^T P^-1 r).
    """

    metric: PackedMetric
    radius: Float[Tensor, " B"]
    rtol: Float[Tensor, " B"]

    def solve(
        self,
        product: Callable[[Float[Tensor, "B N"]], Float[Tensor, "B N"]],
        downhill: Float[Tensor, "B N"],
        max_products: int,
        check_every: int,
    ) -> Found:
        """Conjugate gradients from zero until the tolerance, the ball's edge, or a direction in which the energy curves down."""
        x, left = torch.zeros_like(downhill), downhill
        direction = self._descent(left)
        decrement = _dot(left, direction)
        goal = self.rtol**2 * decrement.detach()
        active, used = decrement > 0, torch.zeros_like(goal, dtype=torch.long)
        path = Path.of(decrement, self.radius) if self.radius.isfinite().any() else None
        for k in range(max_products):
            if k % check_every == 0 and not active.any():
                break
            image = product(direction)
            used = used + active
            curvature = _dot(direction, image)
            flat = FLATTEST * decrement.detach()
            length = torch.where(active, decrement / torch.maximum(curvature.abs(), flat), 0.0)
            going = curvature > flat
            if path is not None:
                edge = path.edge()
                going = going & (length < edge)
                length = torch.where(active, torch.minimum(length, edge), 0.0)
            column = length.unsqueeze(-1)
            x, left = torch.addcmul(x, column, direction), torch.addcmul(left, column, image, value=-1)
            descent = self._descent(left)
            previous, decrement = decrement, _dot(left, descent)
            ratio = decrement / torch.where(active, previous, torch.inf)
            direction = torch.addcmul(descent, ratio.unsqueeze(-1), direction)
            path = None if path is None else path.onward(length, ratio, decrement)
            active = active & going & (decrement > goal)
        return Found(x, _dot(x, downhill - left), self.metric.length(x.detach()), used)

    def _descent(self, left: Tensor) -> Tensor:
        return self.metric.solve((left,))[0]


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


def _judged(energy: Float[Tensor, " B"], last: Trial) -> tuple[Bool[Tensor, " B"], Float[Tensor, " B"]]:
    """Whether the last step is refused, and the radius that follows from what it achieved."""
    predicted = -(last.slope + 0.5 * last.curvature)
    noise = 100 * torch.finfo(energy.dtype).eps * (1 + last.energy.abs())  # infinite before the first step
    lost = ((energy > last.energy + noise) & (last.length > 0)).to(energy.dtype)  # none: back where the step began
    ratio = torch.where(predicted > noise, (last.energy - energy) / predicted, 1 - 2 * lost)
    grown = torch.where((ratio > GOOD) & (last.length > 0.9 * last.radius), GROW * last.radius, last.radius)
    return ratio < ACCEPT, torch.where(ratio < POOR, SHRINK * last.length, grown).detach()


def _dot(left: Float[Tensor, "B N"], right: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
    return torch.linalg.vecdot(left, right)
