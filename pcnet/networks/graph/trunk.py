"""The trunk of a graph: the predictions that errors are measured from, and the way from errors to values along them.

Each free node is x_n = centre(mu_n) + eps_n, mu_n the first of its predictions whose sources come before it. A node without one
is its own error. With Q = dx/deps, `push` is Q times directions in errors, `pull` Q^T times gradients in values.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pcnet.networks.graph.point import GraphPoint
from pcnet.networks.graph.structure import Clamped, Structure
from pcnet.typing import State


@dataclass(frozen=True)
class Trunk:
    """The way between errors and values at one point.

    Attributes:
        structure: of the graph.
        clamped: what is clamped.
        point: where.
    """

    structure: Structure
    clamped: Clamped
    point: GraphPoint

    def push(self, direction: State) -> dict[str, Float[Tensor, "B *K D"]]:
        """Directions in errors, one group for each free node, as directions in values."""
        structure, point = self.structure, self.point
        moved: dict[str, Tensor] = {}
        for name in structure.order:
            step = direction[structure.places[name]]
            index = structure.trunk.get(name)
            pushed = None if index is None else point.sent[index].push(moved)
            if pushed is not None:
                step = step + structure.energies[index].push_centre(point.sent[index].prediction, pushed)
            moved[name] = point.allowed(name, step)
        return moved

    def pull(self, gradients: dict[str, Float[Tensor, "B *K D"]]) -> dict[str, Float[Tensor, "B *K D"]]:
        """Gradients in the values of some free nodes as gradients in errors; a node that is left out receives nothing."""
        structure, point, total = self.structure, self.point, dict(gradients)
        for name in reversed(structure.order):
            if name not in total:
                continue
            total[name] = point.allowed(name, total[name])
            index = structure.trunk.get(name)
            if index is not None:
                sent = point.sent[index]
                sent.pull(structure.energies[index].pull_centre(sent.prediction, total[name]), total, structure.places)
        return total
