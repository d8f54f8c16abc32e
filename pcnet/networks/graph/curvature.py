"""Curvature of a graph's energy along directions in errors, at two matrix products a layer.

    Q^T H Q v,      Q = dx/deps, H = d2F/dx2,

would take six by its parts: one for Q v, four for H, one for Q^T. Here v goes up the trunk once and comes back once, because
what the curvature of a prediction on the trunk sends to its sources is added to what Q^T pulls through that prediction.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.energies import ErrorEnergy
from pcnet.networks.graph.trunk import Trunk

Groups = list[Tensor | None]
"""One entry for every free node, in the network's order; None where nothing has come yet."""


class Link:
    """One prediction at a point, ready for Hessian products.

    Args:
        trunk: of the graph, at the point.
        index: of the prediction.
    """

    def __init__(self, trunk: Trunk, index: int) -> None:
        structure, point = trunk.structure, trunk.point
        p, sent, places = structure.predictions[index], point.sent[index], structure.places
        self.target, self.weight, self.energy = places.get(p.target), p.weight, structure.energies[index]
        self.value, self.prediction = point.nodes[p.target], sent.prediction
        signal = point.signals[index]
        self.parts = [(places[s], part.second_order(signal)) for s, part in zip(p.sources, sent.parts) if s in places]

    def push(self, moved: Groups, onto: Tensor | None = None) -> tuple[Tensor | None, list[Any]]:
        """How the prediction changes, added onto something, None if nothing is; and what `pull` has to know."""
        kept = []
        for source, layer in self.parts:
            onto, known = layer.push(moved[source], onto)
            kept.append(known)
        return onto, kept

    def pull(self, gradient: Tensor, kept: list[Any], total: Groups) -> None:
        """Add to its sources what comes back through it."""
        for (source, layer), known in zip(self.parts, kept):
            pulled = layer.pull(gradient, known)
            total[source] = pulled if total[source] is None else total[source] + pulled

    def curvature_product(self, dvalue: Tensor | None, dprediction: Tensor | None) -> tuple[Tensor, Tensor]:
        """d2E (dvalue, dprediction), weighted; a None does not move."""
        by_value, by_prediction = self.energy.curvature_product(
            self.value,
            self.prediction,
            torch.zeros_like(self.value) if dvalue is None else dvalue,
            torch.zeros_like(self.prediction) if dprediction is None else dprediction,
        )
        return self.weight * by_value, self.weight * by_prediction


@dataclass(frozen=True)
class Step:
    """One node on the way up and down the trunk.

    Attributes:
        place: of the node.
        name: of the node.
        link: the prediction that its error is measured from.
        plain: value and prediction move apart by the error alone; then what the energy's curvature sends either way cancels
            on the way back, and what is left is a diagonal.
    """

    place: int
    name: str
    link: Link | None
    plain: bool


class ErrorCurvature:
    """Q^T H Q at a point, as a function of packed directions.

    Args:
        trunk: of the graph, at the point.
    """

    def __init__(self, trunk: Trunk) -> None:
        self.trunk, self.point, self.structure = trunk, trunk.point, trunk.structure
        structure, on_trunk = self.structure, set(self.structure.trunk.values())
        self.steps = [self._step(name) for name in structure.order]
        self.beside = [Link(trunk, k) for k in range(len(structure.predictions)) if k not in on_trunk]
        self.priors = [(structure.places[n], p.curvature(self.point.nodes[n])) for n, p in structure.priors.items()]
        unit = all(step.plain and structure.units[structure.trunk[step.name]] for step in self.steps)
        self.diagonal = self.point.energy.new_ones(1) if unit else self._diagonal()

    def _step(self, name: str) -> Step:
        place, index = self.structure.places[name], self.structure.trunk.get(name)
        if index is None:
            return Step(place, name, None, False)
        link = Link(self.trunk, index)
        return Step(place, name, link, isinstance(link.energy, ErrorEnergy) and name not in self.point.movable)

    def _diagonal(self) -> Float[Tensor, "B N"]:
        own = [torch.zeros_like(group) for group in self.point.values]
        for step in self.steps:
            if step.plain:
                second = step.link.energy.second_derivative(step.link.value - step.link.prediction)
                own[step.place] = (step.link.weight * second).expand_as(own[step.place])
        return torch.cat(own, -1)

    def __call__(self, direction: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """The product."""
        errors = direction.split(self.structure.free_widths, -1)
        moved: Groups = [None] * len(errors)
        pushes = []
        for step in self.steps:
            group = errors[step.place]
            if step.plain:
                moved[step.place], kept = step.link.push(moved, group)
                pushes.append((None, kept))
                continue
            pushed, kept = step.link.push(moved) if step.link is not None else (None, [])
            pushes.append((pushed, kept))
            if pushed is not None:
                group = group + step.link.energy.push_centre(step.link.prediction, pushed)
            moved[step.place] = self.point.allowed(step.name, group)
        total = self._beside(moved)
        for step, (pushed, kept) in zip(reversed(self.steps), reversed(pushes)):
            place = step.place
            if total[place] is None:
                total[place] = torch.zeros_like(errors[place])
            if step.plain:
                step.link.pull(total[place], kept, total)
            else:
                self._come_back(step, moved[place], pushed, kept, total)
        return torch.addcmul(torch.cat(total, -1), self.diagonal, direction)

    def _beside(self, moved: Groups) -> Groups:
        """What priors and predictions beside the trunk add."""
        total: Groups = [None] * len(moved)
        for place, curvature in self.priors:
            total[place] = curvature * moved[place]
        for link in self.beside:
            pushed, kept = link.push(moved)
            if pushed is None and link.target is None:
                continue
            by_value, by_prediction = link.curvature_product(
                None if link.target is None else moved[link.target], pushed
            )
            if link.target is not None:
                total[link.target] = by_value if total[link.target] is None else total[link.target] + by_value
            link.pull(by_prediction, kept, total)
        return total

    def _come_back(self, step: Step, moved: Tensor, pushed: Tensor | None, kept: list[Any], total: Groups) -> None:
        """Add the curvature of the energy of a node's own prediction, and pull everything through that prediction."""
        link, place = step.link, step.place
        if link is None:
            total[place] = self.point.allowed(step.name, total[place])
            return
        by_value, by_prediction = link.curvature_product(moved, pushed)
        total[place] = self.point.allowed(step.name, total[place] + by_value)
        link.pull(by_prediction + link.energy.pull_centre(link.prediction, total[place]), kept, total)
