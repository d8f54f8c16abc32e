"""Draws from the distribution whose energy F is: not a solver, it never stops."""

import math

import torch
from torch import Tensor

from pcnet.inference.equilibrium import EnergyProblem, add, scale
from pcnet.inference.loop import check_fit, check_values
from pcnet.inference.solver import check_step_size
from pcnet.typing import State


@torch.no_grad()
def sample(
    problem: EnergyProblem,
    values: State,
    step_size: float,
    steps: int,
    generator: torch.Generator,
    *,
    temperature: float = 1.0,
    thin: int = 1,
) -> tuple[Tensor, ...]:
    """Unadjusted Langevin draws from exp(-F / temperature), one chain per row.

        x <- x - step_size dF/dx + sqrt(2 step_size temperature) noise.

    There is no accept step, so the draws have a bias in proportion to the step size: on a quadratic energy with Hessian H
    their mean is exact and their covariance is temperature H^-1 (1 - step_size H / 2)^-1. Stable while step_size < 2 /
    (largest curvature). Drop the first draws, until the start is forgotten, and expect neighbours to be correlated. With an
    L1 prior the noise goes straight across its kinks.

    Args:
        problem: an energy; what the network predicts and observes is in it.
        values: where the chains start.
        step_size: > 0.
        steps: of every chain, at least 1.
        generator: of the noise; the same gives the same draws.
        temperature: > 0; 1 gives the posterior, small values gather around the minimum.
        thin: keep one state of so many.

    Returns:
        Per node group (B, K, N) with K = steps // thin. A chain that has diverged is not finite from there on.

    Raises:
        TypeError: the problem has no energy.
        ValueError: a number out of range, or values that have not the problem's shapes.

    Reference: Roberts and Tweedie, Bernoulli 2 (1996) 341.
    """
    if not isinstance(problem, EnergyProblem):
        raise TypeError(f"sample needs an EnergyProblem, got a {type(problem).__name__}")
    check_step_size(step_size)
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be a finite number > 0, got {temperature}")
    if not 1 <= thin <= steps:
        raise ValueError(f"thin must be from 1 to the number of steps ({steps}), got {thin}")
    check_values(problem, values)
    point = problem.at(values)
    check_fit(values, point)
    spread, draws = math.sqrt(2 * step_size * temperature), []
    for k in range(1, steps + 1):
        noise = [torch.randn(g.shape, generator=generator, dtype=g.dtype, device=generator.device) for g in values]
        noise = tuple(group.to(value.device) for group, value in zip(noise, values, strict=True))
        point = problem.at(add(add(point.values, scale(point.residual, -step_size)), scale(noise, spread)))
        if k % thin == 0:
            draws.append(point.values)
    return tuple(torch.stack(groups, 1) for groups in zip(*draws, strict=True))
