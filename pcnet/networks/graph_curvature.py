"""Curvature of a graph's energy along directions in errors, at two matrix products a layer.

    Q^T H Q v,      Q = dx/deps, H = d2F/dx2,

would take six by its parts: Q v pushes v up the trunk (one), H bends it (four), Q^T pulls it back (one). Here v goes up the
trunk once and comes back once: what a trunk prediction's own curvature sends and what Q^T pulls through it travel together.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pcnet.energies import ErrorEnergy
from pcnet.networks.layers import Return
from pcnet.typing import State

if TYPE_CHECKING:
    from pcnet.networks.graph_problem import GraphPoint, GraphProblem


class ErrorCurvature:
    """One product with Q^T H Q in the making.

    Args:
        problem: whose energy.
        point: where.
        direction: v.
    """

    def __init__(self, problem: "GraphProblem", point: "GraphPoint", direction: State) -> None:
        self.problem, self.point, self.structure = problem, point, problem.structure
        self.errors = dict(zip(self.structure.free, direction, strict=True))
        self.moved: dict[str, Tensor] = {}
        self.pushed: dict[int, Tensor | None] = {}
        self.returns: dict[int, tuple[Return | None, ...]] = {}
        self.total: dict[str, Tensor] = {}

    def product(self) -> State:
        """Q^T H Q v."""
        for name in self.structure.order:
            self._move(name)
        trunk = set(self.structure.trunk.values())
        for index in range(len(self.structure.predictions)):
            if index not in trunk:
                self._turn(index)
                self._curve_beside(index)
        for name, prior in self.structure.priors.items():
            self._add(name, prior.curvature(self.point.nodes[name]) * self.moved[name])
        for name in reversed(self.structure.order):
            self._come_back(name)
        return tuple(self.total[name] for name in self.structure.free)

    def _move(self, name: str) -> None:
        """dx of one node: its error's own and what its sources push."""
        index = self.structure.trunk.get(name)
        step = self.errors[name]
        if index is not None:
            pushed = self._turn(index)
            energy, sent = self.structure.energies[index], self.point.sent[index]
            step = step if pushed is None else step + energy.push_centre(sent.prediction, pushed)
        self.moved[name] = self.problem.allowed(self.point, name, step)

    def _turn(self, index: int) -> Tensor | None:
        """How a prediction changes; None if none of its sources moves."""
        p = self.structure.predictions[index]
        turned = [
            part.turn(self.moved[source]) if source in self.errors else None
            for source, part in zip(p.sources, self.point.sent[index].parts)
        ]
        pushed = [turn[0] for turn in turned if turn is not None]
        self.returns[index] = tuple(None if turn is None else turn[1] for turn in turned)
        self.pushed[index] = sum(pushed[1:], pushed[0]) if pushed else None
        return self.pushed[index]

    def _curve_beside(self, index: int) -> None:
        """What a prediction beside the trunk adds: to its target if that is free, and to its sources."""
        target = self.structure.predictions[index].target
        if self.pushed[index] is None and target not in self.moved:
            return
        by_value, by_prediction = self._curved(index)
        if target in self.moved:
            self._add(target, by_value)
        self._send_back(index, by_prediction)

    def _come_back(self, name: str) -> None:
        """Add what the energy of a node's own prediction bends, and pull everything through that prediction."""
        index = self.structure.trunk.get(name)
        if index is None:
            self.total[name] = self.problem.allowed(self.point, name, self._so_far(name))
            return
        energy, sent = self.structure.energies[index], self.point.sent[index]
        if isinstance(energy, ErrorEnergy) and name not in self.point.moving:
            # Value and prediction move apart by v alone, and what its curvature sends either way cancels on the way back.
            back = self.total.get(name)
            bend = energy.bend(self.point.nodes[name] - sent.prediction)
            own = self.problem.weighted(self.structure.predictions[index], bend * self.errors[name])
            self.total[name] = own if back is None else own + back
            self._send_back(index, torch.zeros_like(own) if back is None else back)
            return
        by_value, by_prediction = self._curved(index)
        self._add(name, by_value)
        self.total[name] = self.problem.allowed(self.point, name, self.total[name])
        self._send_back(index, by_prediction + energy.pull_centre(sent.prediction, self.total[name]))

    def _curved(self, index: int) -> Sequence[Tensor]:
        """d2E (dvalue, dprediction), weighted."""
        p, sent, pushed = self.structure.predictions[index], self.point.sent[index], self.pushed[index]
        value = self.point.nodes[p.target]
        bent = self.structure.energies[index].curvature_product(
            value,
            sent.prediction,
            self.moved.get(p.target, torch.zeros_like(value)),
            torch.zeros_like(sent.prediction) if pushed is None else pushed,
        )
        return [self.problem.weighted(p, g) for g in bent]

    def _send_back(self, index: int, gradient: Tensor) -> None:
        """Pull a change of the signal through a prediction whose Jacobian has changed too."""
        for source, back in zip(self.structure.predictions[index].sources, self.returns[index]):
            if back is not None:
                self._add(source, back(gradient, self.point.signals[index]))

    def _so_far(self, name: str) -> Tensor:
        return self.total[name] if name in self.total else torch.zeros_like(self.moved[name])

    def _add(self, name: str, gradient: Tensor) -> None:
        self.total[name] = self.total[name] + gradient if name in self.total else gradient
