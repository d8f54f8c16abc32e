"""Inference that cannot do anything: where it happens, and a warning that says so."""

import warnings

import torch

from pcnet.inference.loop import group_rms
from pcnet.networks.graph.network import GraphNetwork
from pcnet.networks.graph.problem import GraphProblem
from pcnet.networks.graph.structure import Clamped

ROUNDING = 1e3
"""Times the dtype's resolution, relative to the values: a residual that is only rounding."""


class InferenceIsTrivial(UserWarning):
    """The output is free and the feedforward sweep already is the equilibrium: inference changes nothing."""


@torch.no_grad()
def inference_is_trivial(network: GraphNetwork, clamped: Clamped) -> bool:
    """Whether the feedforward sweep is the equilibrium because no held node is predicted from a free one.

    Then every error can be zero at once: a discriminative network with its output free. A network that happens to predict
    a held target exactly is not meant. Costs one sweep and one evaluation where no held node is predicted, nothing
    elsewhere.

    Args:
        network: with whatever weights.
        clamped: what is held.
    """
    problem = network.problem(clamped)
    if not problem.names or _explains(problem):
        return False
    values = network.sweep(problem)
    bound = ROUNDING * torch.finfo(values[0].dtype).eps * (1 + group_rms(values))
    return bool((group_rms(problem.at(values).residual) <= bound).all())


def warn_if_trivial(network: GraphNetwork, clamped: Clamped, *, stacklevel: int = 1) -> None:
    """Warn, where values are relaxed for learning or for their own sake, that nothing will come of it.

    Args:
        network: with whatever weights.
        clamped: what is held.
        stacklevel: whose line to name: 1 is the caller's own.
    """
    if inference_is_trivial(network, clamped):
        warnings.warn(
            f"inference has nothing to do: {_held(clamped)}, and nothing that is held is predicted from a node that is "
            "free, so the feedforward sweep makes every error zero and values stay where they start. To learn, hold a "
            f"target too, clamp({{..., {network.outputs!r}: targets}}); for an answer, call network(inputs), which is that "
            "sweep; for inference that matters without a target, predict what is held (downward > 0) or give free nodes a "
            "prior.",
            InferenceIsTrivial,
            stacklevel=stacklevel + 1,
        )


def _explains(problem: GraphProblem) -> bool:
    """Whether something held, all of it or some units, is predicted from a free node."""
    return any(
        p.weight and p.target in problem.clamped.values and set(p.sources) & set(problem.names)
        for p in problem.structure.predictions
    )


def _held(clamped: Clamped) -> str:
    names = ", ".join(repr(name) for name in clamped.values)
    return f"only {names} {'is' if len(clamped.values) == 1 else 'are'} held"
