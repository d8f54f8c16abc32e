"""The recurrent view: a graph network written as a recurrent network of value units and error units.

Beside the value units x_n stands, for every prediction p, a population of error units that carry its weighted error xi_p,

    dx_n/dt      = -sum_(p predicts n) xi_p + sum_(p from n) J_pn^T xi_p - d prior_n(x_n),
    tau dxi_p/dt = x_target - mu_p - (w_p Pi_p)^-1 xi_p,      mu_p = sum over sources s of layer_ps(x_s).

Value units hear error units only and error units hear value units only, through the same weights in both directions. Where
error units rest, xi = w Pi eps and the first line is -dF/dx: the fixed points are the stationary points of the energy at any
tau. For tau -> 0 the time course becomes gradient descent on F, at a distance proportional to tau; with tau = 0 it is that.

A linear network comes to rest at every tau: 1/2 |x|^2 + tau/2 |xi|^2, counted from the fixed point, never grows. Elsewhere
slow error units can make a minimum of F oscillate: a unit with prior curvature c, whose one prediction's second derivative adds k (d2F/dx2
= c + k + w Pi J^2), does so beyond tau = 1 / (w Pi |c + k|) if c + k < 0.

Reference: Bogacz 2017, "A tutorial on the free-energy framework for modelling perception and learning", eqs. 12-14.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.energies import ErrorEnergy, Gaussian
from pcnet.inference.equilibrium import Equilibrium
from pcnet.inference.point import Point
from pcnet.networks.graph.point import Sent
from pcnet.networks.graph.problem import GraphProblem
from pcnet.networks.graph.structure import Prediction
from pcnet.typing import State


@dataclass(frozen=True)
class RecurrentPoint(Point):
    """A `RecurrentView` evaluated at one state.

    Attributes:
        nodes: values of every node, held or free.
        sent: of every prediction that has error units.
        errors: weighted errors xi of every prediction that has error units.
        movable: as in `GraphPoint`.
    """

    nodes: dict[str, Float[Tensor, "B D"]]
    sent: tuple[Sent, ...]
    errors: State
    movable: dict[str, Float[Tensor, "B D"]]


class RecurrentView(Equilibrium):
    """The network of value and error units whose fixed points are the stationary points of `problem`'s energy.

    Its state is the free values, in the problem's order, then the weighted errors of every prediction that touches a free
    node; begin at `start(values)`. Its residual is minus the velocity, so `Euler(h)` is a step of h in units of the values'
    own time constant; explicit solvers need h below about 2 tau w Pi as well. It has no energy, so solvers that need one refuse
    it.

    Energies: Gaussian as in the equations. Another `ErrorEnergy`, and any energy whose target is held (a class label), has
    error units that relax to what they stand for, tau dxi/dt = -w dE/dmu - xi.

    With an error time constant of 0 the errors in a state are ignored and follow from its values.

    Args:
        problem: a graph with what is held.
        error_time_constant: tau >= 0, in units of the values' time constant.

    Raises:
        TypeError: a free node's energy is no function of value - prediction, so no error unit can stand for it.
        ValueError: the time constant is negative or not finite.
    """

    def __init__(self, problem: GraphProblem, error_time_constant: float = 0.0) -> None:
        if not 0 <= error_time_constant < float("inf"):
            raise ValueError(f"error_time_constant must be a finite number >= 0, got {error_time_constant}")
        self.problem = problem
        self.error_time_constant = error_time_constant
        free, predictions = problem.structure.free, problem.structure.predictions
        self.indices = tuple(
            index for index, p in enumerate(predictions) if p.weight and {p.target, *p.sources} & set(free)
        )
        self.predictions = tuple(predictions[index] for index in self.indices)
        for p in self.predictions:
            _check_energy(p, p.target in free)
        widths = problem.structure.widths
        self.names = problem.names + tuple(f"{p.target} from {', '.join(p.sources)}" for p in self.predictions)
        self.widths = problem.widths + tuple(p.energy.prediction_width(widths[p.target]) for p in self.predictions)
        self.kinked = problem.kinked

    def rows(self, index: Int[Tensor, " R"]) -> "RecurrentView":
        return RecurrentView(self.problem.rows(index), self.error_time_constant)

    def split(self, x: State) -> tuple[State, State]:
        """Values and weighted errors of a state."""
        return x[: len(self.problem.names)], x[len(self.problem.names) :]

    def start(self, values: State) -> State:
        """These values, with error units that already follow them."""
        nodes = self.problem.nodes(values)
        return *values, *(self._followed(p, nodes, s) for p, s in zip(self.predictions, self._sent(nodes)))

    def retract(self, x: State, increment: State) -> State:
        (values, errors), (step, push) = self.split(x), self.split(increment)
        return *self.problem.retract(values, step), *(xi + d for xi, d in zip(errors, push, strict=True))

    def at(self, x: State) -> RecurrentPoint:
        values, errors = self.split(x)
        nodes = self.problem.nodes(values)
        sent = self._sent(nodes)
        followed = tuple(self._followed(p, nodes, s) for p, s in zip(self.predictions, sent))
        if self.error_time_constant == 0:
            errors, lag = followed, tuple(torch.zeros_like(xi) for xi in followed)
        else:
            lag = tuple(self._lag(p, xi - rest) for p, xi, rest in zip(self.predictions, errors, followed, strict=True))
        total = self._nothing(nodes)
        for p, s, xi in zip(self.predictions, sent, errors):
            pulled = [(source, -part.pull(xi)) for source, part in zip(p.sources, s.parts) if source in total]
            self._add(total, [(p.target, xi), *pulled])
        self._add(total, [(name, prior.gradient(nodes[name])) for name, prior in self.problem.structure.priors.items()])
        free = self.problem.names
        gradients, masks = zip(*(self.problem.pseudo_gradient(name, nodes[name], total[name]) for name in free))
        movable = {name: mask for name, mask in zip(free, masks) if mask is not None}
        values = tuple(nodes[name] for name in free)
        return RecurrentPoint((*values, *errors), (*gradients, *lag), nodes, sent, tuple(errors), movable)

    def jacobian_product(self, point: RecurrentPoint, direction: State) -> State:
        """How the residual changes when the state moves along `direction`: minus the linearised network."""
        step, push = self.split(direction)
        move = {name: self._allowed(point, name, group) for name, group in zip(self.problem.names, step, strict=True)}
        followed = tuple(self._followed_change(p, point, s, move) for p, s in zip(self.predictions, point.sent))
        if self.error_time_constant == 0:
            push, lag = followed, tuple(torch.zeros_like(xi) for xi in followed)
        else:
            lag = tuple(self._lag(p, d - rest) for p, d, rest in zip(self.predictions, push, followed, strict=True))
        total = self._nothing(point.nodes)
        for p, s, xi, d in zip(self.predictions, point.sent, point.errors, push):
            free = [(source, part) for source, part in zip(p.sources, s.parts) if source in total]
            pulled = [(source, -part.pull(d) - part.directional_derivative(xi, move[source])) for source, part in free]
            self._add(total, [(p.target, d), *pulled])
        priors = self.problem.structure.priors.items()
        self._add(total, [(name, prior.curvature(point.nodes[name]) * move[name]) for name, prior in priors])
        return *(self._allowed(point, name, total[name]) for name in self.problem.names), *lag

    @torch.no_grad()
    def connectivity(self, x: State) -> Float[Tensor, "B N N"]:
        """A, the weights between all units around a state, values first: d(change of state)/dt = A (change of state).

        Blocks are in the order of `names`, targets in rows. A linear network has the same A everywhere and the time course
        x(t) = x* + exp(A t) (x(0) - x*). Costs one `jacobian_product` a unit.

        Raises:
            ValueError: the error time constant is 0: error units that follow at once have no weights of their own.
        """
        if self.error_time_constant == 0:
            raise ValueError("error_time_constant must be > 0 for error units to have connections, got 0")
        point = self.at(x)
        columns = []
        for group, width in enumerate(self.widths):
            for unit in range(width):
                direction = [torch.zeros_like(part) for part in point.values]
                direction[group][:, unit] = 1
                columns.append(-torch.cat(self.jacobian_product(point, tuple(direction)), -1))
        return torch.stack(columns, -1)

    def _sent(self, nodes: Mapping[str, Tensor]) -> tuple[Sent, ...]:
        return tuple(self.problem.send(index, nodes) for index in self.indices)

    @staticmethod
    def _followed(p: Prediction, nodes: Mapping[str, Tensor], s: Sent) -> Tensor:
        """The weighted error where error units rest: -w dE/dmu."""
        return -p.weight * p.energy.gradient(nodes[p.target], s.prediction)[1]

    def _followed_change(self, p: Prediction, point: RecurrentPoint, s: Sent, move: Mapping[str, Tensor]) -> Tensor:
        """How that changes when values move."""
        value = point.nodes[p.target]
        pushed = s.push(move)
        dmu = torch.zeros_like(s.prediction) if pushed is None else pushed
        dvalue = move[p.target] if p.target in move else torch.zeros_like(value)
        return -p.weight * p.energy.curvature_product(value, s.prediction, dvalue, dmu)[1]

    def _lag(self, p: Prediction, behind: Tensor) -> Tensor:
        """The residual of error units that far from where they rest: their leak is (w Pi)^-1, or 1 without a precision."""
        inertia = p.weight * p.energy.precision if isinstance(p.energy, Gaussian) else 1.0
        return behind / (inertia * self.error_time_constant)

    @staticmethod
    def _allowed(point: RecurrentPoint, name: str, group: Tensor) -> Tensor:
        """A change of a node, zero at units that cannot move."""
        return group * point.movable[name] if name in point.movable else group

    def _nothing(self, nodes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What free nodes receive before anything was sent."""
        return {name: torch.zeros_like(nodes[name]) for name in self.problem.names}

    @staticmethod
    def _add(total: dict[str, Tensor], sends: list[tuple[str, Tensor]]) -> None:
        """Sum up what free nodes receive."""
        for name, sent in sends:
            if name in total:
                total[name] = total[name] + sent


def _check_energy(p: Prediction, free: bool) -> None:
    if free and not isinstance(p.energy, ErrorEnergy):
        raise TypeError(
            f"no error unit can stand for the {type(p.energy).__name__} energy of the free node {p.target!r}: it is no "
            f"function of value - prediction; hold the node or give it a Gaussian"
        )
