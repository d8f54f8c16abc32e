"""How energy, errors and residuals of every node change over the iterations of one inference."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pcnet.networks import GraphProblem
from pcnet.networks.graph.problem import GraphPoint
from pcnet.typing import State

COLUMNS = "iteration row node energy error residual".split()


@torch.no_grad()
def course(problem: GraphProblem, trace: Mapping[int, State]) -> pd.DataFrame:
    """One line per recorded iteration, row of the batch and node that is predicted, has a prior, or is free.

    The energies of a row add up to its F. A hidden node whose error and residual both are zero while others' are not has
    not been reached by any signal yet.

    Args:
        problem: that was solved.
        trace: values by iteration, as `Solution.trace` has them.

    Returns:
        Columns `iteration`, `row`, `node`, then `energy` in nats (of all predictions of the node, and of its prior), `error`
        (rms of value - prediction, the one its error is measured from) and `residual` (rms of dF/dvalue, what the stopping rule looks
        at); NaN where a node has none: it is held, or nothing predicts it.

    Raises:
        ValueError: the trace is empty.
    """
    if not trace:
        raise ValueError("trace is empty; record iterations, as in infer(clamped, record=(0, 1, 10))")
    parts = [
        pd.DataFrame({"iteration": iteration, "row": np.arange(len(measured["energy"])), "node": node} | measured)
        for iteration, values in sorted(trace.items())
        for node, measured in _by_node(problem, problem.at(values)).items()
    ]
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _by_node(problem: GraphProblem, point: GraphPoint) -> dict[str, dict[str, np.ndarray]]:
    """Energy, error and residual of every node, in the network's order."""
    structure, nothing = problem.structure, torch.full_like(point.energy, torch.nan)
    residuals = dict(zip(problem.names, point.residual, strict=True))
    energies, errors = {name: torch.zeros_like(point.energy) for name in problem.names}, {}
    for index, (p, s) in enumerate(zip(structure.predictions, point.sent)):
        value = point.nodes[p.target]
        energies[p.target] = energies.get(p.target, 0.0) + p.weight * p.energy(value, s.prediction)
        if structure.trunk.get(p.target, index) == index:
            errors.setdefault(p.target, value - p.energy.centre(s.prediction))
    for name, prior in structure.priors.items():
        energies[name] = energies[name] + prior(point.nodes[name])
    return {
        name: {
            "energy": energies[name].cpu().numpy(),
            "error": _rms(errors.get(name), nothing),
            "residual": _rms(residuals.get(name), nothing),
        }
        for name in structure.widths
        if name in energies
    }


def _rms(group: Tensor | None, nothing: Tensor) -> np.ndarray:
    measured = nothing if group is None else torch.linalg.vector_norm(group, dim=-1) / group.shape[-1] ** 0.5
    return measured.cpu().numpy()
