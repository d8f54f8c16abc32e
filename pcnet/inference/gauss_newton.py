"""Gauss-Newton in error coordinates, damped by a trust region, its steps refined with the exact curvature where that is cheap."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcnet.inference.carry import merge
from pcnet.inference.equilibrium import (
    CurvedErrorProblem,
    ErrorProblem,
    LinearGaussian,
    PackedMetric,
    packed,
    scale,
    zeros_like,
)
from pcnet.inference.error_coordinates import ErrorView
from pcnet.inference.point import EnergyPoint
from pcnet.inference.solver import Solver
from pcnet.inference.trust_region import SHRINK, Diagonal, System, Trial
from pcnet.typing import State

TIGHTEST = 1e-2
"""Relative tolerance of the linear systems that is never tightened further."""
OPENING = 2
"""Products of the very first step, taken far from the minimum in the metric diag(h): P would serve it no better."""


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
      second, and again for rows whose step took more than `patience` products, was cut at the region's edge, or was rejected.
    * Other problems (a temporal network, whose P has the curvature of its tanh): steps with P alone, made anew each time.

    Every row has its own radius. A step that lowers the energy by less than a small share of what the model says is taken
    back to a quarter, one evaluation a time, so energies never rise from one kept point to the next; a row that ran out of
    steps may end at a point that was still to be rejected.

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
        trial = Trial.none(point, problem.coordinates(point.values), torch.inf)
        return Memory(trial, problem.problem.no_preconditioner(point), torch.ones_like(trial.energy, dtype=torch.bool))

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
        last, errors = carry.trial, problem.coordinates(point.values)
        rejected, radius = last.judged(point.energy)
        gradient = packed(problem.gradient(point))
        norm = torch.linalg.vector_norm(gradient, dim=-1)
        opening = bool(last.gradient.isinf().all())
        metric = carry.metric if opening else self._renewed(problem, point, carry, rejected)
        chosen = Diagonal(problem.problem.stiffness(point)) if opening else metric
        most = min(OPENING, self.max_products) if opening else self.max_products
        system = System(
            problem.problem.error_curvature(point), chosen, radius, last.tolerance(norm, self.forcing, TIGHTEST)
        )
        # A rejected row has nothing to compute: its system has a right side of zero.
        downhill = torch.where(rejected.unsqueeze(-1), 0.0, -gradient)
        found = system.solve(downhill, most, self.check_every)
        if problem.kinked:
            found = found.unless_held(packed(point.values), downhill, system.product)
        stale = rejected | (found.length > 0.9 * radius) | (found.needed > self.patience) | opening
        onward = Trial(point.energy, packed(errors), found, radius, last.first(norm), last.products + found.products)
        increment, trial = last.followed(problem, errors, rejected, onward)
        return increment, Memory(trial, metric, stale)

    def _renewed(
        self, problem: ErrorView, point: EnergyPoint, carry: Memory, rejected: Bool[Tensor, " B"]
    ) -> PackedMetric:
        """The metric, made anew in rows that need it."""
        wanted = carry.stale & ~rejected
        if not wanted.any():
            return carry.metric
        metric = problem.problem.preconditioner(point)
        return metric if wanted.all() else merge(wanted, metric, carry.metric)

    def products(self, carry: "Memory | Backtracking") -> Int[Tensor, " B"] | int:
        return 0 if isinstance(carry, Backtracking) else carry.trial.products
