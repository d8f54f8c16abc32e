"""The curvature that errors receive from outputs: from predictions of what is clamped, and from priors beside a prediction.

    G^T G = sum over predictions of what is clamped of J^T Lam J,      J from the errors to the prediction,

and the same for predictions of free nodes that are not on the trunk, and for priors of nodes that are. G has one row for every
number predicted and for every unit with a prior, one column for every free unit.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.energies.energy import per_direction
from pcnet.networks.graph.structure import Prediction
from pcnet.networks.graph.trunk import Trunk
from pcnet.typing import State


@dataclass(frozen=True)
class Output:
    """A prediction of which at least a part is compared with what is clamped, or that is not on the trunk.

    Attributes:
        index: of the prediction.
        prediction: the module.
        on_trunk: whether its target's error is measured from it; then only observed units count.
    """

    index: int
    prediction: Prediction
    on_trunk: bool


class OutputCurvature:
    """G^T G at one point.

    Args:
        trunk: of the graph, at the point.
    """

    def __init__(self, trunk: Trunk) -> None:
        self.trunk, self.structure, self.point = trunk, trunk.structure, trunk.point
        on_trunk = set(self.structure.trunk.values())
        self.outputs = [
            Output(index, p, index in on_trunk)
            for index, p in enumerate(self.structure.predictions)
            if index not in on_trunk or p.target in trunk.clamped.observed
        ]
        self.restrained = [name for name in self.structure.priors if name in self.structure.trunk]
        self.free_units = sum(self.structure.free_widths)

    @property
    def height(self) -> int:
        """The number of rows of G."""
        widths = self.structure.widths
        targets = [(o.prediction.energy, widths[o.prediction.target]) for o in self.outputs]
        predicted = sum(energy.prediction_width(width) for energy, width in targets)
        return predicted + sum(widths[name] for name in self.restrained)

    def rows(self) -> Float[Tensor, "B R N"]:
        """G."""
        blocks = [self._block(output) for output in self.outputs]
        blocks += [self._down({name: self._prior(name).sqrt().diag_embed()}) for name in self.restrained]
        if not blocks:  # nothing that is clamped is predicted
            return self.point.energy.new_zeros(len(self.point.energy), 0, self.free_units)
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, -2)

    def product(self, direction: State) -> State:
        """G^T G times one or several directions in errors, G never formed."""
        moved = self.trunk.push(direction)
        total = {name: torch.zeros_like(moved[name]) for name in self.structure.free}
        for output in self.outputs:
            self._add_product(output, moved, total)
        for name in self.restrained:
            total[name] = total[name] + per_direction(self._prior(name), moved[name]) * moved[name]
        pulled = self.trunk.pull(total)
        return tuple(pulled[name] for name in self.structure.free)

    def _add_product(self, output: Output, moved: dict[str, Tensor], total: dict[str, Tensor]) -> None:
        """Add J^T Lam J of one prediction, in values."""
        p, sent, energy = output.prediction, self.point.sent[output.index], self.structure.energies[output.index]
        shift = sent.push(moved)
        beside = not output.on_trunk and p.target in moved
        if beside:
            own = energy.pull_centre(sent.prediction, moved[p.target])
            shift = -own if shift is None else shift - own
        if shift is None:
            return
        observed = per_direction(self._observed(p), shift) if output.on_trunk else None
        shift = shift if observed is None else shift * observed
        signal = p.weighted(energy.positive_product(self.point.nodes[p.target], sent.prediction, shift))
        signal = signal if observed is None else signal * observed
        if beside:
            total[p.target] = total[p.target] - energy.push_centre(sent.prediction, signal)
        sent.pull(signal, total, self.structure.places)

    def _block(self, output: Output) -> Float[Tensor, "B R N"]:
        """The rows of G that one prediction gives: the root of its curvature, pulled through it and back along the trunk."""
        p, sent = output.prediction, self.point.sent[output.index]
        root = p.weight**0.5 * p.energy.root(self.point.nodes[p.target], sent.prediction)
        if output.on_trunk:  # its free units are errors themselves
            root = root * self._observed(p).unsqueeze(-2)
        root = root.expand(len(self.point.energy), -1, -1)
        rows: dict[str, Tensor] = {}
        if not output.on_trunk and p.target in self.structure.places:
            rows[p.target] = -p.energy.push_centre(sent.prediction, root)
        sent.pull(root, rows, self.structure.places)
        return self._down(rows)

    def _down(self, rows: dict[str, Tensor]) -> Float[Tensor, "B R N"]:
        """Rows of gradients in values as rows of G: back along the trunk."""
        some, widths, pulled = next(iter(rows.values())), self.structure.widths, self.trunk.pull(rows)
        nothing = some.new_zeros(())
        return torch.cat(
            [
                pulled[name] if name in pulled else nothing.expand(*some.shape[:-1], widths[name])
                for name in self.structure.free
            ],
            -1,
        )

    def _prior(self, name: str) -> Float[Tensor, "B D"]:
        """The positive part of a prior's curvature."""
        return self.structure.priors[name].curvature(self.point.nodes[name]).clamp(min=0)

    def _observed(self, p: Prediction) -> Float[Tensor, "B M"]:
        """1 where a number predicted of a node concerns an observed unit, else 0."""
        observed = self.trunk.clamped.observed[p.target]
        return observed.repeat(1, p.energy.prediction_width(observed.shape[-1]) // observed.shape[-1])
