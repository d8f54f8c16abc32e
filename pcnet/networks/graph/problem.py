"""The energy of a graph of predictions, with its derivatives put together from those of layers and energies.

    F = sum_p w_p E_p(x_target, mu_p) + sum_n prior_n(x_n),      mu_p = sum over sources s of layer_ps(x_s).

With v = dE_p/dx_target and s = dE_p/dmu_p, a prediction adds w_p v to the residual of its target and w_p J_ps^T s to that of
each free source, so that one `Linearised` layer serves residual, Hessian products and error coordinates. Nothing is
differentiated through the whole graph.

Error coordinates: each free node x_n = centre(mu_n) + eps_n, mu_n the first of its predictions whose sources come before it.
A node that nothing predicts is its own error, and so is one whose prior has a kink at zero (kinks stay where they are) and
the first node of a circle. Units that are held (a half-occluded image) keep their value, whatever is predicted.
"""

from collections.abc import Mapping
from functools import cached_property, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.energies import Energy, ErrorEnergy
from pcnet.inference import FixedSteps
from pcnet.inference.equilibrium import (
    CurvedErrorProblem,
    Equilibrium,
    LinearGaussian,
    Metric,
    PackedMetric,
    Program,
    Relaxation,
    add,
    packed,
)
from pcnet.networks.graph.chain import dense_chain, descend_chain
from pcnet.networks.graph.curvature import ErrorCurvature
from pcnet.networks.graph.metric import metric_of, no_preconditioner_of, preconditioner_of, stiffness_of
from pcnet.networks.graph.point import GraphPoint, Sent
from pcnet.networks.graph.structure import Clamped, Prediction, Structure
from pcnet.networks.graph.trunk import Trunk
from pcnet.networks.layers import Linearised
from pcnet.typing import State


class GraphProblem(CurvedErrorProblem):
    """F over the free units of a graph, by node in the network's order.

    Args:
        structure: which predictions count, and in which order.
        clamped: what is held.
    """

    def __init__(self, structure: Structure, clamped: Clamped) -> None:
        self.structure = structure
        self.clamped = clamped
        self.free_units = {name: ~observed for name, observed in clamped.observed.items()}
        self.held = {name: value for name, value in clamped.values.items() if name not in structure.free}
        self.names = structure.free
        self.widths = structure.free_widths
        self.kinked = bool(structure.sparse)
        self._constant: dict[tuple[int, int], Linearised] = {}

    def zeros(self, *shape: int) -> Float[Tensor, "B ..."]:
        """Zeros of this shape for every row."""
        return next(iter(self.clamped.values.values())).new_zeros(self.clamped.batch_size, *shape)

    def rows(self, index: Int[Tensor, " R"]) -> Equilibrium:
        return type(self)(self.structure, self.clamped.rows(index))

    def send(self, index: int, nodes: Mapping[str, Tensor]) -> Sent:
        """Evaluate one prediction; layers whose source is held are evaluated once for all."""
        p = self.structure.predictions[index]
        parts = tuple(self._part(index, k, source, nodes) for k, source in enumerate(p.sources))
        prediction = parts[0].prediction if len(parts) == 1 else sum(part.prediction for part in parts)
        return Sent(prediction, parts, p.sources)

    def _part(self, index: int, k: int, source: str, nodes: Mapping[str, Tensor]) -> Linearised:
        layer = self.structure.layers[index][k]
        if source not in self.held:
            return layer.linearise(nodes[source])
        if torch.is_grad_enabled():  # constants made without gradients would cut the weights off
            return layer.linearise(self.held[source])
        if (index, k) not in self._constant:
            self._constant[index, k] = layer.linearise(self.held[source])
        return self._constant[index, k]

    @cached_property
    @torch.no_grad()
    def swept(self) -> State:
        """Every node at its prediction, in order, held units held; nodes that are their own error at zero."""
        return self.feedforward()

    def feedforward(self) -> State:
        """`swept`, made anew, differentiable in the weights."""
        nodes = dict(self.held)
        for name in self.structure.order:
            index = self.structure.trunk.get(name)
            if index is None:
                value = self.zeros(self.structure.widths[name])
            else:
                value = self.structure.energies[index].centre(self.send(index, nodes).prediction)
            nodes[name] = self.hold(name, value)
        return tuple(nodes[name] for name in self.structure.free)

    def faster(self, relaxation: Relaxation) -> Program | None:
        """A program of its own for plain descent on a dense chain."""
        chain = dense_chain(self.structure) if isinstance(relaxation, FixedSteps) else ()
        if not chain:
            return None

        def descend(problem: "GraphProblem", values: State, step_size: float, steps: int) -> GraphPoint:
            start = None if values is self.__dict__.get("swept") else values
            expected = self.send(0, self.held).prediction
            return descend_chain(chain, self.held, self.structure, start, expected, step_size, steps)

        return partial(relaxation.follow, descend, self)

    def at(self, x: State) -> GraphPoint:
        nodes = self.nodes(x)
        return self._evaluate(nodes, tuple(self.send(index, nodes) for index in range(len(self.structure.predictions))))

    def nodes(self, x: State) -> dict[str, Tensor]:
        """Values of all nodes by name; held units at what they are held at."""
        free = {name: self.hold(name, group) for name, group in zip(self.structure.free, x, strict=True)}
        return self.held | free

    def hold(self, name: str, value: Tensor) -> Tensor:
        """The values of a free node with its held units put back."""
        if name not in self.free_units:
            return value
        return torch.where(self.free_units[name], value, self.clamped.values[name])

    def _evaluate(
        self, nodes: dict[str, Tensor], sent: tuple[Sent, ...], known: Mapping[int, Tensor] | None = None
    ) -> GraphPoint:
        """From all values and predictions, and from the errors of some predictions, should they be known already."""
        errors, energy = self._unit_errors(nodes, sent, known or {})
        opposite = dict(zip(errors, torch._foreach_neg(list(errors.values())))) if errors else {}
        total: dict[str, Tensor] = {}
        signals = []
        for index, (p, s) in enumerate(zip(self.structure.predictions, sent)):
            if index in errors:
                by_value, signal = errors[index], opposite[index]
            else:
                cost, *gradients = _mismatch(self.structure.energies[index], nodes[p.target], s.prediction)
                by_value, signal = (p.weighted(g) for g in gradients)
                energy = energy + p.weighted(cost)
            self._collect(total, p, by_value, signal, s)
            signals.append(signal)
        for name, prior in self.structure.priors.items():
            total[name] = total.get(name, 0.0) + prior.gradient(nodes[name])
            energy = energy + prior(nodes[name])
        movable, residual = {}, []
        for name in self.structure.free:
            gradient, mask = self.pseudo_gradient(name, nodes[name], total[name])
            residual.append(gradient)
            movable |= {} if mask is None else {name: mask}
        values = tuple(nodes[name] for name in self.structure.free)
        return GraphPoint(values, tuple(residual), energy, nodes, sent, tuple(signals), movable)

    def _unit_errors(
        self, nodes: dict[str, Tensor], sent: tuple[Sent, ...], known: Mapping[int, Tensor]
    ) -> tuple[dict[int, Tensor], Float[Tensor, " B"]]:
        """Errors of the predictions that cost 1/2 |error|^2, all at once, and what they cost."""
        indices = [index for index, unit in enumerate(self.structure.units) if unit]
        if not indices:
            return {}, self.zeros()
        new = [index for index in indices if index not in known]
        values = [nodes[self.structure.predictions[index].target] for index in new]
        found = torch._foreach_sub(values, [sent[index].prediction for index in new]) if new else []
        errors = {**known, **dict(zip(new, found))}
        errors = {index: errors[index] for index in indices}
        together = packed(tuple(errors.values()))
        return errors, 0.5 * torch.linalg.vecdot(together, together)

    def _collect(self, total: dict[str, Tensor], p: Prediction, by_value: Tensor, signal: Tensor, sent: Sent) -> None:
        """Add what one prediction sends to its target and to its sources."""
        if p.target not in self.held:
            total[p.target] = total[p.target] + by_value if p.target in total else by_value
        sent.pull(signal, total, self.structure.places)

    def pseudo_gradient(self, name: str, value: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        """The gradient where units are free, the pseudo-gradient at a kink, and where that is if not everywhere."""
        mask = self.free_units[name].to(gradient.dtype) if name in self.free_units else None
        if name in self.structure.sparse:
            strength = self.structure.sparse[name]
            at_zero = gradient.sign() * (gradient.abs() - strength).clamp(min=0)
            gradient = torch.where(value == 0, at_zero, gradient)
            support = ((value != 0) | (gradient != 0)).to(gradient.dtype)
            mask = support if mask is None else mask * support
        return (gradient if mask is None else gradient * mask), mask

    def retract(self, x: State, increment: State) -> State:
        moved = add(x, increment)
        if not self.kinked:
            return moved
        return tuple(
            new.masked_fill(group * new < 0, 0.0) if name in self.structure.sparse else new
            for name, group, new in zip(self.structure.free, x, moved)
        )

    def hessian_product(self, point: GraphPoint, direction: State) -> State:
        free = self.structure.free
        moved = {name: point.allowed(name, group) for name, group in zip(free, direction, strict=True)}
        total: dict[str, Tensor] = {}
        for p, s, signal in zip(self.structure.predictions, point.sent, point.signals):
            dmu, dvalue = s.push(moved), moved.get(p.target)
            if dmu is None and dvalue is None:
                continue
            value = point.nodes[p.target]
            dmu = torch.zeros_like(s.prediction) if dmu is None else dmu
            dvalue = torch.zeros_like(value) if dvalue is None else dvalue
            by_value, by_prediction = p.energy.curvature_product(value, s.prediction, dvalue, dmu)
            self._collect(total, p, p.weighted(by_value), p.weighted(by_prediction), s)
            for source, part in zip(p.sources, s.parts):
                if source in moved:
                    total[source] = total[source] + part.directional_derivative(signal, moved[source])
        for name, prior in self.structure.priors.items():
            total[name] = total.get(name, 0.0) + prior.curvature(point.nodes[name]) * moved[name]
        return tuple(point.allowed(name, total[name]) for name in free)

    def at_errors(self, errors: State) -> GraphPoint:
        given = dict(zip(self.structure.free, errors, strict=True))
        nodes, sent, known = dict(self.held), {}, {}
        for name in self.structure.order:
            value = given[name]
            if name in self.structure.trunk:
                index = self.structure.trunk[name]
                sent[index] = self.send(index, nodes)
                value = self.structure.energies[index].centre(sent[index].prediction) + value
                if name not in self.free_units and not torch.is_grad_enabled():  # else weights would be cut off
                    known[index] = given[name]
            nodes[name] = self.hold(name, value)
        every = range(len(self.structure.predictions))
        return self._evaluate(nodes, tuple(sent[i] if i in sent else self.send(i, nodes) for i in every), known)

    def errors(self, values: State) -> State:
        nodes = self.nodes(values)
        return tuple(self._error(name, nodes) for name in self.structure.free)

    def _error(self, name: str, nodes: Mapping[str, Tensor]) -> Tensor:
        if name not in self.structure.trunk:
            return nodes[name]
        index = self.structure.trunk[name]
        return nodes[name] - self.structure.predictions[index].energy.centre(self.send(index, nodes).prediction)

    def trunk(self, point: GraphPoint) -> Trunk:
        """The way between errors and values at a point."""
        return Trunk(self.structure, self.clamped, point)

    def pull_back(self, point: GraphPoint, gradient: State) -> State:
        pulled = self.trunk(point).pull(dict(zip(self.structure.free, gradient, strict=True)))
        return tuple(pulled[name] for name in self.structure.free)

    def push_forward(self, point: GraphPoint, direction: State) -> State:
        pushed = self.trunk(point).push(direction)
        return tuple(pushed[name] for name in self.structure.free)

    def error_curvature(self, point: GraphPoint) -> ErrorCurvature:
        return ErrorCurvature(self.trunk(point))

    def gauss_newton(self, point: GraphPoint) -> Metric:
        return metric_of(self.trunk(point))

    def stiffness(self, point: GraphPoint) -> Float[Tensor, "B N"]:
        return stiffness_of(self.trunk(point))

    def preconditioner(self, point: GraphPoint) -> PackedMetric:
        return preconditioner_of(self.trunk(point))

    def no_preconditioner(self, point: GraphPoint) -> PackedMetric:
        return no_preconditioner_of(self.trunk(point))


class CurvedGraph(GraphProblem):
    """A graph of any layers and energies."""


class LinearGraph(GraphProblem, LinearGaussian):
    """A graph of linear layers and Gaussian energies."""


def _mismatch(energy: Energy, value: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a mismatch costs, and its gradients in value and prediction."""
    if isinstance(energy, ErrorEnergy):
        error = value - prediction
        derivative = energy.derivative(error)
        return energy.cost(error), derivative, derivative.neg()
    return energy(value, prediction), *energy.gradient(value, prediction)


def problem_of(structure: Structure, clamped: Clamped) -> GraphProblem:
    """The most structured problem that can be promised."""
    return (LinearGraph if structure.linear_gaussian else CurvedGraph)(structure, clamped)
