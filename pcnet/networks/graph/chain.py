"""Plain descent on graphs that are dense chains, by the program written for them; it gives the numbers of a loop over `at`."""

from collections.abc import Mapping

from torch import Tensor

from pcnet.energies import Gaussian
from pcnet.networks.activations import Identity
from pcnet.networks.fast.chain_flow import ChainFlow
from pcnet.networks.fast.chain_levels import IN_PLACE
from pcnet.networks.graph.point import GraphPoint, Sent
from pcnet.networks.graph.structure import Prediction, Structure
from pcnet.networks.layers import Dense
from pcnet.typing import State


def dense_chain(structure: Structure) -> tuple[Dense, ...]:
    """The layers of a graph from its clamped source up, if `ChainFlow` can run it; none if not.

    It can if the graph is a chain of `Dense` layers between clamped ends, of unit precision and with nothing else.
    """
    predictions, free = structure.predictions, structure.free
    targets = [p.target for p in predictions]
    ends = {*predictions[0].sources, *targets[-1:]} if predictions else set()
    fits = (
        not structure.priors
        and bool(free)
        and targets[:-1] == list(free)
        and not ends & set(free)
        and all(p.sources == (below,) for p, below in zip(predictions[1:], targets))
        and all(_plain(p) for p in predictions)
        and type(predictions[-1].layers[0].activation) is Identity
    )
    return tuple(p.layers[0] for p in predictions) if fits else ()


def _plain(p: Prediction) -> bool:
    """Whether a prediction is one dense layer of scale 1 with an activation that works in place, and costs 1/2 error^2."""
    layer = p.layers[0]
    simple = len(p.layers) == 1 and p.weight == 1 and type(layer) is Dense and layer.scale == 1
    return simple and type(layer.activation) in IN_PLACE and type(p.energy) is Gaussian and p.energy.is_unit


def descend_chain(
    layers: tuple[Dense, ...],
    clamped: Mapping[str, Tensor],
    structure: Structure,
    values: State | None,
    expected: Tensor,
    step_size: float,
    steps: int,
) -> GraphPoint:
    """The graph after so many steps x <- x - step_size dF/dx.

    Args:
        layers: what `dense_chain` found.
        clamped: values of the two ends.
        structure: of the graph.
        values: where to start; None is the feedforward sweep, from where fewer operations are needed.
        expected: the prediction of the first free node.
        step_size: > 0.
        steps: at least 1.
    """
    bottom, top = structure.predictions[0].sources[0], structure.predictions[-1].target
    flow = ChainFlow(
        [layer.weight for layer in layers],
        [layer.bias for layer in layers],
        [layer.activation for layer in layers[:-1]],
    )
    end = flow.run(clamped[bottom], clamped[top], values, step_size=step_size, steps=steps, expected=expected)
    parts = [layer.linearised(*ends) for layer, *ends in zip(layers, end.levels, end.predictions)]
    pairs = zip(end.errors, end.input_gradients[1:], layers[1:])
    residual = tuple(error + gradient @ layer.weight for error, gradient, layer in pairs)
    sent = tuple(Sent(part.prediction, (part,), p.sources) for part, p in zip(parts, structure.predictions))
    nodes = {**clamped, **dict(zip(structure.free, end.values))}
    return GraphPoint(end.values, residual, end.energy, nodes, sent, tuple(-error for error in end.errors), {})
