"""A problem relaxed for learning, the rows in which that failed left out."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pcnet.inference import Relaxation, Solution, Status
from pcnet.inference.equilibrium import EnergyPoint, ErrorProblem, zeros_like
from pcnet.networks import PCNetwork
from pcnet.typing import State


@dataclass(frozen=True)
class Relaxed:
    """Where inference ended.

    Attributes:
        point: the problem evaluated there, all rows.
        good: rows that have not diverged.
        solution: with what there is to report, should none be left.
    """

    point: EnergyPoint
    good: Bool[Tensor, " B"]
    solution: Solution | None = None


@torch.no_grad()
def relax(
    network: PCNetwork,
    problem: ErrorProblem,
    relaxation: Relaxation | None = None,
    start: State | None = None,
) -> Relaxed:
    """Relax a problem of the network; a problem with nothing free is only evaluated.

    Args:
        network: whose problem it is.
        problem: of this network, or one made from its nodes and predictions.
        relaxation: how; None is the network's own way.
        start: where values start; None is where the relaxation starts them.
    """
    if not problem.names:
        point = problem.at(())
        return Relaxed(point, point.energy.isfinite())
    relaxation = relaxation or network.inference
    if start is None:
        swept = network.sweep(problem)
        start = relaxation.initial(swept, zeros_like(swept))
    solution = relaxation.run(problem, start)
    point = solution.point if isinstance(solution.point, EnergyPoint) else problem.at(solution.values)
    return Relaxed(point, _good(solution, point), solution)


def _good(solution: Solution, point: EnergyPoint) -> Bool[Tensor, " B"]:
    """Neither a residual nor an energy that is not a number."""
    return (solution.status != Status.DIVERGED) & point.energy.isfinite()


def kept(network: PCNetwork, ends: Collection[Relaxed]) -> Int[Tensor, " R"] | None:
    """The rows that are good in all of these; None if that is every row.

    Raises:
        FloatingPointError: no row is left.
    """
    good = torch.stack([end.good for end in ends]).all(0)
    if good.all():
        return None
    if good.any():
        return good.nonzero().squeeze(-1)
    told = (end.solution.report() for end in ends if end.solution is not None and not end.good.all())
    raise diverged(network, next(told, ""))


@torch.no_grad()
def for_rows(
    problem: ErrorProblem, point: EnergyPoint, rows: Int[Tensor, " R"] | None
) -> tuple[ErrorProblem, EnergyPoint]:
    """Problem and point of these rows alone; None is all of them."""
    if rows is None:
        return problem, point
    problem = problem.rows(rows)
    return problem, problem.at(tuple(group[rows] for group in point.values))


def diverged(network: PCNetwork, report: str = "") -> FloatingPointError:
    """The error of a batch of which no row is left, with its cause as far as it is known."""
    broken = [name for name, p in network.named_parameters() if not torch.isfinite(p).all()]
    cause = (
        f"the parameter {broken[0]} is not finite" if broken else "lower the step size, the scale or the learning rate"
    )
    return FloatingPointError(
        "\n".join(filter(None, (f"inference diverged in every row of the batch; {cause}", report)))
    )
