"""A graph evaluated at one state: its values, its predictions, and the layers at the values that they predict from."""

from collections.abc import Container, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pcnet.inference.point import EnergyPoint
from pcnet.networks.layers import Linearised


@dataclass(frozen=True)
class Sent:
    """One prediction evaluated.

    Attributes:
        prediction: the sum of what its layers predict.
        parts: its layers, one for each source.
        sources: names of the nodes it is made from.
    """

    prediction: Float[Tensor, "B M"]
    parts: tuple[Linearised, ...]
    sources: tuple[str, ...]

    def push(self, directions: Mapping[str, Tensor]) -> Tensor | None:
        """How the prediction changes when sources move along these directions; None where no source does."""
        pushed = [part.push(directions[s]) for s, part in zip(self.sources, self.parts) if s in directions]
        return sum(pushed[1:], pushed[0]) if pushed else None

    def pull(self, gradient: Float[Tensor, "B *K M"], total: dict[str, Tensor], nodes: Container[str]) -> None:
        """Add to `total` the gradients in those sources that are among `nodes`, given the gradient in the prediction."""
        for source, part in zip(self.sources, self.parts):
            if source in nodes:
                pulled = part.pull(gradient)
                total[source] = total[source] + pulled if source in total else pulled


@dataclass(frozen=True)
class GraphPoint(EnergyPoint):
    """A `GraphProblem` evaluated at one state.

    Attributes:
        nodes: every node's values, clamped or free.
        sent: of every prediction that counts.
        signals: gradient of every prediction's weighted energy in what it predicts.
        movable: 1 at units that are free and that no sparse prior keeps at zero, else 0; for nodes where that is not 1
            everywhere.
    """

    nodes: dict[str, Float[Tensor, "B D"]]
    sent: tuple[Sent, ...]
    signals: tuple[Float[Tensor, "B M"], ...]
    movable: dict[str, Float[Tensor, "B D"]]

    def allowed(self, name: str, change: Float[Tensor, "B *K D"]) -> Float[Tensor, "B *K D"]:
        """A change of a node, zero at units that cannot move."""
        mask = self.movable.get(name)
        return change if mask is None else change * (mask if mask.dim() == change.dim() else mask.unsqueeze(-2))
