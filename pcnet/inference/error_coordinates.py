"""Inference in prediction errors instead of values."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.inference.equilibrium import EnergyPoint, EnergyProblem, ErrorProblem, Metric, zeros_like
from pcnet.inference.solve import Solver
from pcnet.typing import State


class InErrors(EnergyProblem):
    """A problem whose state is its prediction errors; its points still speak of values."""

    def __init__(self, problem: ErrorProblem) -> None:
        self.problem = problem

    def at(self, x: State) -> EnergyPoint:
        return self.problem.at_errors(x)

    def coordinates(self, values: State) -> State:
        return self.problem.errors(values)

    def gradient(self, point: EnergyPoint) -> State:
        """dF/deps."""
        return self.problem.pull_back(point, point.residual)

    def metric(self, point: EnergyPoint) -> Metric:
        return self.problem.gauss_newton(point)


class Backtracking(NamedTuple):
    """The last step tried, should it have to be shortened.

    Attributes:
        energy: energy where the step began.
        step: the step taken from there, in errors.
    """

    energy: Float[Tensor, " B"]
    step: State


@dataclass(frozen=True)
class GaussNewton(Solver):
    """Gauss-Newton in error coordinates: eps <- eps - P^-1 dF/deps, with P = diag(curvature) + J^T Lam J.

    J is the Jacobian of the clamped output with respect to the errors, Lam the curvature of the output's energy, so one
    step costs a V x V system per sample (Woodbury). A linear-Gaussian network is solved in one step, a trained temporal
    network in one to six. Where a step raises the energy the row goes back along it, a quarter of the way at a time: one
    evaluation a step, no inner loop.

    Args:
        shrink: what a step that raised the energy is multiplied by, in (0, 1).

    Reference: error coordinates, arXiv 2505.20137.
    """

    shrink: float = 0.25
    requires = ErrorProblem

    def __post_init__(self) -> None:
        if not 0 < self.shrink < 1:
            raise ValueError(f"shrink must be in (0, 1), got {self.shrink}")

    def view(self, problem: ErrorProblem) -> InErrors:
        return InErrors(problem)

    def init(self, problem: InErrors, point: EnergyPoint) -> Backtracking:
        return Backtracking(torch.full_like(point.energy, torch.inf), zeros_like(point.values))

    def step(self, problem: InErrors, point: EnergyPoint, carry: Backtracking) -> tuple[State, Backtracking]:
        descent = problem.metric(point).solve(problem.gradient(point))
        slack = 1e-6 if point.energy.dtype == torch.float32 else 1e-12
        worse = point.energy > carry.energy + slack * (1 + carry.energy.abs())
        if not worse.any():
            step = tuple(-group for group in descent)
            return step, Backtracking(point.energy, step)
        back = worse.unsqueeze(-1)
        increment = tuple(
            torch.where(back, (self.shrink - 1) * old, -new) for old, new in zip(carry.step, descent, strict=True)
        )
        step = tuple(torch.where(back, self.shrink * old, -new) for old, new in zip(carry.step, descent, strict=True))
        return increment, Backtracking(torch.where(worse, carry.energy, point.energy), step)
