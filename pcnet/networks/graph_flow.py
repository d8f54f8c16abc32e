"""Which graphs are dense chains, for which plain descent has a program written for the machine."""

from collections.abc import Collection, Sequence
from typing import Protocol

import torch

from pcnet.energies import Energy, Gaussian
from pcnet.networks.activations import Identity
from pcnet.networks.chain_flow import ChainFlow
from pcnet.networks.chain_levels import CURVES
from pcnet.networks.layers import Dense, Layer


class Link(Protocol):
    """A prediction, as far as it matters here."""

    target: str
    sources: tuple[str, ...]
    layers: Sequence[Layer]
    energy: Energy
    weight: float


class ChainProgram:
    """`ChainFlow` of a chain's layers, made again whenever their weights are other tensors.

    Args:
        layers: from the held source up to the held target.
    """

    def __init__(self, layers: Sequence[Dense]) -> None:
        self.layers = tuple(layers)
        self._tensors: tuple[torch.Tensor | None, ...] = ()
        self._flow: ChainFlow | None = None

    @property
    def flow(self) -> ChainFlow:
        """The program on the layers' present weights."""
        tensors = tuple(tensor for layer in self.layers for tensor in (layer.weight, layer.bias))
        if len(tensors) != len(self._tensors) or any(a is not b for a, b in zip(tensors, self._tensors)):
            activations = [layer.activation for layer in self.layers[:-1]]
            self._tensors, self._flow = tensors, ChainFlow(tensors[::2], tensors[1::2], activations)
        return self._flow


def chain_program(predictions: Sequence[Link], free: Sequence[str], others: Collection[object]) -> ChainProgram | None:
    """The program of a graph, if it is a chain of `Dense` layers between held ends, of unit precision and with nothing else.

    Args:
        predictions: that count.
        free: names of free nodes.
        others: what else the energy has, priors for instance.
    """
    targets = [p.target for p in predictions]
    ends = {*predictions[0].sources, *targets[-1:]} if predictions else set()
    fits = (
        not others
        and bool(free)
        and targets[:-1] == list(free)
        and not ends & set(free)
        and all(p.sources == (below,) for p, below in zip(predictions[1:], targets))
        and all(_plain(p) for p in predictions)
        and type(predictions[-1].layers[0].activation) is Identity
    )
    return ChainProgram([p.layers[0] for p in predictions]) if fits else None


def _plain(p: Link) -> bool:
    """One dense layer that nothing scales, and errors squared."""
    layer = p.layers[0]
    simple = len(p.layers) == 1 and p.weight == 1 and type(layer) is Dense and layer.gain == 1
    return simple and type(layer.activation) in CURVES and type(p.energy) is Gaussian
