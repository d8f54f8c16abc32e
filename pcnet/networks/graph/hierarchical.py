"""Hierarchies: a chain of nodes from the senses (layer 0) to the top, predicted upwards, downwards or both ways."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pcnet.energies import Energy, Gaussian, Prior, WeightPrior
from pcnet.inference import Relaxation
from pcnet.networks.activations import Activation, Identity, Tanh
from pcnet.networks.graph.network import GraphNetwork, Node, PCGraph
from pcnet.networks.graph.structure import Prediction
from pcnet.networks.layers import ActiveDense, Dense, Layer, Skip


@dataclass(frozen=True, kw_only=True)
class Parameterisation(abc.ABC):
    """What the layers of a dense chain are, how they are scaled, how their weights start and what weights cost.

    Args:
        activation: f of hidden predictions.
        bias: whether predictions have one; it starts at 0.
        weight_prior: on all weights but biases, added once to the mean energy of a batch.
    """

    activation: Activation = field(default_factory=Tanh)
    bias: bool = True
    weight_prior: WeightPrior | None = None

    @abc.abstractmethod
    def chain(self, widths: Sequence[int], outputs: Sequence[int]) -> list[list[Layer]]:
        """The layers that predict node k+1 from node k of a chain of these widths, several where paths add up.

        They output `outputs[k]` numbers: as many as the node has units, or the number that its energy needs.
        """


@dataclass(frozen=True)
class Standard(Parameterisation):
    """mu = f(W x + b), the last one linear; W starts as normal noise of standard deviation scale / sqrt(fan-in).

    Args:
        scale: >= 0; tanh networks deeper than a few layers keep their signal at about 1 and are chaotic well above.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.scale < float("inf"):
            raise ValueError(f"scale must be a finite number >= 0, got {self.scale}")

    @torch.no_grad()
    def chain(self, widths: Sequence[int], outputs: Sequence[int]) -> list[list[Layer]]:
        last = len(widths) - 2
        layers = [
            Dense(sources, targets, Identity() if k == last else self.activation, self.bias)
            for k, (sources, targets) in enumerate(zip(widths, outputs))
        ]
        for layer in layers:
            layer.weight.mul_(self.scale)
        return [[layer] for layer in layers]


@dataclass(frozen=True)
class MuPC(Parameterisation):
    """Depth-muP scaling for deep residual chains: predictions keep their size whatever width N and depth L.

        mu_1 = D^-1/2 W_1 x_0,   mu_l = x_(l-1) + (N L)^-1/2 W_l f(x_(l-1)),   mu_L = N^-1 W_L f(x_(L-1)),   W ~ N(0, 1).

    Where the widths of neighbours differ there is no identity path and the scale is fan-in^-1/2.

    Reference: muPC, arXiv 2505.13124, table 1.
    """

    @torch.no_grad()
    def chain(self, widths: Sequence[int], outputs: Sequence[int]) -> list[list[Layer]]:
        depth = len(widths) - 1
        steps = []
        for k, (sources, units, targets) in enumerate(zip(widths, widths[1:], outputs)):
            skips = sources == units == targets and 0 < k < depth - 1
            scale = 1 / sources if k == depth - 1 else (sources * depth) ** -0.5 if skips else sources**-0.5
            layer = ActiveDense(sources, targets, Identity() if k == 0 else self.activation, self.bias, scale)
            nn.init.normal_(layer.weight)
            steps.append([Skip(), layer] if skips else [layer])
        return steps


class HierarchicalPC(GraphNetwork):
    """A chain of nodes "0" (senses) .. "L" (top), each predicted from its neighbour below, above, or both.

        F = sum_l upward E_l(x_l, f(W_l x_(l-1) + b_l)) + sum_l downward E_l(x_l, g(V_l x_(l+1) + c_l)) + priors.

    With `upward` alone it is discriminative: an image is held at "0", a label at the top while it learns, and a test image is
    answered by a feedforward sweep, because a free top makes the equilibrium trivial. With `downward` alone it is
    generative: it infers causes of an image by relaxing, and makes images from a held top. With both it is bidirectional.

    Args:
        widths: units of every node, senses first.
        upward: weight >= 0 of the predictions of each node from the one below.
        downward: weight >= 0 of the predictions of each node from the one above.
        energies: per level, what a mismatch there costs; Gaussian of unit precision where left out. A level whose energy is
            `Categorical` takes class labels.
        priors: per level, on its values where they are free.
        parameterisation: the layers and their weights; None is `Standard()`: tanh, biases, weights of scale 1.
        inference: how values relax; None is `Inference()`.

    Reference: both ways at once as in Oliviers et al. 2025, "Bidirectional predictive coding".
    """

    def __init__(
        self,
        widths: Sequence[int],
        upward: float = 1.0,
        downward: float = 0.0,
        energies: Mapping[int, Energy] | None = None,
        priors: Mapping[int, Prior] | None = None,
        parameterisation: Parameterisation | None = None,
        inference: Relaxation | None = None,
    ) -> None:
        check_levels(widths, energies or {}, priors or {})
        scheme = parameterisation or Standard()
        asked = [energies[k].prediction_width(n) if k in (energies or {}) else n for k, n in enumerate(widths)]
        up = scheme.chain(widths, asked[1:]) if upward else None
        down = scheme.chain(widths[::-1], asked[-2::-1]) if downward else None
        parts = chain_of(widths, up, down, (upward, downward), energies, priors)
        super().__init__(**parts, inference=inference, weight_prior=scheme.weight_prior)

    @property
    def depth(self) -> int:
        """Number of the top level."""
        return len(self.widths) - 1


def hierarchy(
    widths: Sequence[int],
    up: Sequence[Layer | Sequence[Layer]] | None = None,
    down: Sequence[Layer | Sequence[Layer]] | None = None,
    *,
    weights: tuple[float, float] = (1.0, 1.0),
    energies: Mapping[int, Energy] | None = None,
    priors: Mapping[int, Prior] | None = None,
    inference: Relaxation | None = None,
) -> PCGraph:
    """A hierarchy of layers of your own, such as convolutions fused with their pooling.

    Args:
        widths: units of every node, senses first; of an image, channels * height * width.
        up: the layers that predict level 1, 2, ... from the one below; a list of layers where paths add up.
        down: the layers that predict level L-1, ..., 0 from the one above, in that order.
        weights: of the upward predictions and of the downward ones, >= 0.
        energies: per level, as in `HierarchicalPC`.
        priors: per level.
        inference: how values relax.
    """
    check_levels(widths, energies or {}, priors or {})
    return PCGraph(**chain_of(widths, up, down, weights, energies, priors), inference=inference)


def chain_of(
    widths: Sequence[int],
    up: Sequence[Layer | Sequence[Layer]] | None,
    down: Sequence[Layer | Sequence[Layer]] | None,
    weights: tuple[float, float],
    energies: Mapping[int, Energy] | None,
    priors: Mapping[int, Prior] | None,
) -> dict[str, Any]:
    """Nodes and predictions of a hierarchy, as the arguments of a `GraphNetwork`."""
    for name, weight in zip(("upward", "downward"), weights):
        if not 0 <= weight < float("inf"):
            raise ValueError(f"{name} must be a finite number >= 0, got {weight}")
    if up is None and down is None:
        raise ValueError("upward and downward are both 0: nothing predicts anything")
    levels = range(len(widths))
    costs = {level: (energies or {}).get(level) or Gaussian(widths[level]) for level in levels}
    predictions = []
    for name, steps, order, weight in (("up", up, levels, weights[0]), ("down", down, levels[::-1], weights[1])):
        if steps is not None and len(steps) != len(widths) - 1:
            raise ValueError(f"{name} must have {len(widths) - 1} steps between {len(widths)} levels, got {len(steps)}")
        for source, target, layers in zip(order, order[1:], steps or ()):
            terms = [(str(source), layer) for layer in ([layers] if isinstance(layers, Layer) else layers)]
            predictions.append(Prediction(str(target), terms, costs[target], weight))
    nodes = [Node(str(level), widths[level], (priors or {}).get(level)) for level in levels]
    return {"nodes": nodes, "predictions": predictions, "inputs": "0", "outputs": str(levels[-1])}


def check_levels(widths: Sequence[int], *by_level: Mapping[int, object]) -> None:
    """Raise a ValueError unless there are two levels at least and everything given by level has one."""
    if len(widths) < 2:
        raise ValueError(f"widths must name at least two levels, got {list(widths)}")
    for given in by_level:
        for level in given:
            if level not in range(len(widths)):
                raise ValueError(f"there is no level {level}; levels are 0 to {len(widths) - 1}")
