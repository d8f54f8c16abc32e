"""Does a network that learns locally learn like backpropagation, or like predictive coding at equilibrium?

Where inference stops decides what the local rule learns. Values at the feedforward sweep carry no errors; a short way from
it, in errors, the local gradients of hidden weights point along backpropagation's; at the equilibrium they are the gradient of
F* = min_x F. One gradient per answer is compared, tensor by tensor of weights, by its direction.
"""

import enum
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pcnet.inference import Inference, NewtonCG, Relaxation, Solution, Status
from pcnet.learning.explicit import energy_gradients
from pcnet.networks import GraphNetwork, GraphProblem
from pcnet.networks.graph.structure import Clamped
from pcnet.networks.graph.trivial import inference_is_trivial
from pcnet.typing import State

ALIKE = 0.99
"""Mean cosine over weight tensors from which two gradients count as one."""

COLUMNS = "parameter norm backprop_norm equilibrium_norm cosine_backprop cosine_equilibrium".split()

Weights = dict[str, nn.Parameter]
Gradients = dict[str, Tensor]


class Regime(enum.StrEnum):
    """In a word, what the weights learn from."""

    TRIVIAL = "trivial"
    """Nothing: the feedforward sweep is the equilibrium."""
    BACKPROP = "backprop-like"
    EQUILIBRIUM = "equilibrium"
    BOTH = "backprop and equilibrium alike"
    """The two gradients have one direction here, and the run has it."""
    UNDERWAY = "neither backprop nor equilibrium"
    """Inference stopped on its way."""
    DIVERGED = "diverged"
    """No row has a finite gradient."""
    UNKNOWN = "equilibrium not found"
    """The reference solver reached it in no row."""


@dataclass(frozen=True, eq=False)
class Standing:
    """Where a run stands between backpropagation and equilibrium.

    Attributes:
        regime: the verdict.
        cosine_backprop: mean over weight tensors of the cosine between the local gradient where inference stopped and
            backpropagation's; NaN where the network has no feedforward sweep.
        cosine_equilibrium: the same with the gradient at the equilibrium.
        gap_closed: mean of (F at start - F where it stopped) / (F at start - F at equilibrium), over rows that have a gap.
        residual: largest rms of dF/dvalue of any node and row where inference stopped.
        rows: compared: neither diverged nor without a known equilibrium.
        gradients: per weight tensor `parameter`, `norm` of the local gradient, `backprop_norm`, `equilibrium_norm`,
            `cosine_backprop`, `cosine_equilibrium`.
    """

    regime: Regime
    cosine_backprop: float
    cosine_equilibrium: float
    gap_closed: float
    residual: float
    rows: int
    gradients: pd.DataFrame

    def __str__(self) -> str:
        if not self.rows or self.regime == Regime.TRIVIAL:
            return f"regime: {self.regime}"
        return (
            f"regime: {self.regime}; cosine of the weights' gradient with backprop's {self.cosine_backprop:.3f}, with that at "
            f"the equilibrium {self.cosine_equilibrium:.3f}; {self.gap_closed:.1%} of the energy gap closed, residual "
            f"{self.residual:.1e} ({self.rows} rows)"
        )


def standing(
    network: GraphNetwork, clamped: Clamped, start: State, solution: Solution, reference: Relaxation | None = None
) -> Standing:
    """Compare the local weight gradient where inference stopped with backpropagation's and with that at equilibrium.

    Backpropagation's gradient is that of F with every error held at zero: of the output's energy, after a feedforward
    sweep. The equilibrium is the one that the reference reaches from where inference stopped.

    Args:
        network: whose weights.
        clamped: inputs and targets.
        start: where inference started.
        solution: where it stopped.
        reference: finds the equilibrium; None is Newton in a trust region, to a residual of the dtype's resolution
            to the power 2/3.
    """
    problem = network.problem(clamped)
    equilibrium = (reference or _newton(network.dtype)).run(problem, solution.values)
    good = ((solution.status != Status.DIVERGED) & equilibrium.converged).nonzero().squeeze(-1)
    chosen = problem.rows(good)
    stopped, first, last = (tuple(g[good] for g in values) for values in (solution.values, start, equilibrium.values))
    weights = _weights(network)
    swept = _swept(chosen, weights) if _has_sweep(chosen) else {}
    table = _compared(_local(chosen, stopped, weights), swept, _local(chosen, last, weights))
    with torch.no_grad():
        gap = _gap_closed(*(chosen.at(values).energy for values in (first, stopped, last)))
    backprop, at_equilibrium = (_mean(table[f"cosine_{kind}"]) for kind in ("backprop", "equilibrium"))
    trivial = inference_is_trivial(network, clamped)
    regime = Regime.TRIVIAL if trivial else _verdict(solution, len(good), backprop, at_equilibrium)
    return Standing(regime, backprop, at_equilibrium, gap, float(solution.residual.max()), len(good), table)


def _newton(dtype: torch.dtype) -> Inference:
    """What converges from anywhere, as far down as the dtype allows."""
    return Inference(NewtonCG(preconditioned=True), atol=torch.finfo(dtype).eps ** (2 / 3), max_steps=300)


def _has_sweep(problem: GraphProblem) -> bool:
    """Whether every free node that is predicted starts a sweep at its prediction: nothing goes round in circles."""
    structure = problem.structure
    return all(p.target in structure.trunk for p in structure.predictions if p.target in structure.free)


def _weights(network: GraphNetwork) -> Weights:
    """Of layers, by name; parameters of energies and priors are no weights."""
    inside = {id(weight) for p in network.predictions for weight in p.layers.parameters()}
    return {name: w for name, w in network.named_parameters() if id(w) in inside and w.requires_grad}


@torch.no_grad()
def _local(problem: GraphProblem, values: State, weights: Weights) -> Gradients:
    """dF/dweights with the values held, as `Local` has it but for the mean over rows."""
    found = energy_gradients(problem.structure, problem.at(values))
    return {name: found[weight] if weight in found else torch.zeros_like(weight) for name, weight in weights.items()}


def _swept(problem: GraphProblem, weights: Weights) -> Gradients:
    """dF/dweights with the errors held at zero: backpropagation."""
    if not weights:
        return {}
    with torch.enable_grad():
        energy = problem.at_errors(tuple(problem.zeros(width) for width in problem.widths)).energy.sum()
        found = torch.autograd.grad(energy, list(weights.values()), materialize_grads=True)
    return dict(zip(weights, found, strict=True))


def _compared(local: Gradients, swept: Gradients, settled: Gradients) -> pd.DataFrame:
    """One line per weight tensor that any of the three gradients touches."""
    nan = float("nan")
    lines = []
    for name, gradient in local.items():
        backprop = swept.get(name)
        if not any(float(g.abs().max()) for g in (gradient, settled[name], backprop) if g is not None and g.numel()):
            continue
        norms = [nan if g is None else float(g.norm()) for g in (gradient, backprop, settled[name])]
        cosines = [nan if g is None else _cosine(gradient, g) for g in (backprop, settled[name])]
        lines.append([name, *norms, *cosines])
    return pd.DataFrame(lines, columns=COLUMNS)


def _cosine(a: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> float:
    """Between directions; 0 where only one of them is zero, NaN where both are."""
    norms = float(a.norm()), float(b.norm())
    if not all(norms):
        return 0.0 if any(norms) else float("nan")
    return float(((a / norms[0]) * (b / norms[1])).sum())


def _mean(cosines: pd.Series) -> float:
    return float(cosines.mean()) if len(cosines) else float("nan")


def _gap_closed(first: Float[Tensor, " B"], stopped: Float[Tensor, " B"], last: Float[Tensor, " B"]) -> float:
    gap = first - last
    has_gap = gap > 1e3 * torch.finfo(gap.dtype).eps * (1 + last.abs())
    return float(((first - stopped) / gap)[has_gap].mean())


def _verdict(solution: Solution, rows: int, backprop: float, equilibrium: float) -> Regime:
    if (solution.status == Status.DIVERGED).all():
        return Regime.DIVERGED
    if rows == 0:
        return Regime.UNKNOWN
    like_backprop, like_equilibrium = backprop >= ALIKE, equilibrium >= ALIKE
    if like_backprop and like_equilibrium:
        return Regime.BOTH
    if like_equilibrium:
        return Regime.EQUILIBRIUM
    return Regime.BACKPROP if like_backprop else Regime.UNDERWAY
