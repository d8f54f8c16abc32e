"""Which graphs are dense chains, for which plain descent has a program written for the machine."""

from collections.abc import Collection, Sequence
from typing import Protocol

from pcnet.energies import Energy, Gaussian
from pcnet.networks.activations import Identity
from pcnet.networks.fast.chain_levels import CURVES
from pcnet.networks.layers import Dense, Layer


class Link(Protocol):
    """A prediction, as far as it matters here."""

    target: str
    sources: tuple[str, ...]
    layers: Sequence[Layer]
    energy: Energy
    weight: float


def dense_chain(predictions: Sequence[Link], free: Sequence[str], others: Collection[object]) -> tuple[Dense, ...]:
    """The layers of a graph from its held source up, if `ChainFlow` can run it; none if not.

    It can if the graph is a chain of `Dense` layers between held ends, of unit precision and with nothing else.

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
    return tuple(p.layers[0] for p in predictions) if fits else ()


def _plain(p: Link) -> bool:
    """One dense layer that nothing scales, and errors squared, that nobody weighs."""
    layer = p.layers[0]
    simple = len(p.layers) == 1 and p.weight == 1 and type(layer) is Dense and layer.gain == 1
    return simple and type(layer.activation) in CURVES and type(p.energy) is Gaussian and p.energy.is_unit
