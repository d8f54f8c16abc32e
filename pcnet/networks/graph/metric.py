"""Gauss-Newton's model of a graph's curvature in error coordinates, with its inverse.

    P = diag(h) + G^T G,      h: curvature of each free node's own energy, and of its prior where it is its own error,
                              G^T G = sum over predictions of what is held of J^T Lam J, J from the errors to the prediction.

G has R rows, one for every number predicted of what is held (or for every unit that has both a prediction and a prior), and
N columns, one for every free unit. The linear system is
solved in the smaller of the two: N x N where N <= R; R x R by Woodbury's identity where R < N; and by conjugate gradients,
with products from `push_forward` and `pull_back` only, where both exceed `LARGE`.

A root that nothing predicts has no stiffness of its own: there h is a share of the mean curvature that G gives its units, so
that P can be inverted whatever G's rank: sqrt(machine epsilon) where P is to be exact, `DAMPING` in a preconditioner.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.energies.energy import per_direction
from pcnet.inference.equilibrium import Metric, PackedMetric, packed, unpacked
from pcnet.inference.linear import conjugate_gradients
from pcnet.inference.trust_region import Diagonal
from pcnet.typing import State

if TYPE_CHECKING:
    from pcnet.networks.graph.problem import GraphPoint, GraphProblem, Sent
    from pcnet.networks.graph.structure import Prediction

LARGE = 512
"""The smaller of R and N up to which the system is factorised; G alone takes R x N numbers a row of the batch."""
WORTHWHILE = 64
"""The same for a preconditioner, which need not be exact: R rows of G cost R passes through the graph, a product two."""

DAMPING = 1e-2
"""Share of the mean curvature from outputs that a preconditioner takes for stiffness where a unit has none."""
SOFTEST = 1e-6
"""No stiffness counts for less: an energy of one's own may be flat somewhere."""


class Woodbury(NamedTuple):
    """P by its R rows.

    Attributes:
        diagonal: h.
        rows: G.
        factor: lower triangular, of 1 + G h^-1 G^T.
    """

    diagonal: Float[Tensor, "B N"]
    rows: Float[Tensor, "B R N"]
    factor: Float[Tensor, "B R R"]

    @classmethod
    def of(cls, diagonal: Float[Tensor, "B N"], rows: Float[Tensor, "B R N"]) -> "Woodbury":
        """From h and G."""
        scaled = rows / diagonal.unsqueeze(-2) if (diagonal != 1).any() else rows
        one = torch.eye(rows.shape[-2], dtype=rows.dtype, device=rows.device)
        return cls(diagonal, rows, torch.linalg.cholesky_ex(one + scaled @ rows.mT).L)

    def solve(self, gradient: State) -> State:
        # Row vectors times matrices: a batch of G @ g takes a CPU ten times as long.
        scaled = packed(gradient) / self.diagonal
        projected = scaled.unsqueeze(-2) @ self.rows.mT
        weights = torch.cholesky_solve(projected.mT, self.factor).mT
        solved = scaled - (weights @ self.rows).squeeze(-2) / self.diagonal
        return unpacked(solved, gradient)

    def length(self, step: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        curved = (step.unsqueeze(-2) @ self.rows.mT).square().sum((-1, -2))
        return ((self.diagonal * step * step).sum(-1) + curved).sqrt()


class Dense(NamedTuple):
    """P by its matrix.

    Attributes:
        factor: lower triangular, of P.
    """

    factor: Float[Tensor, "B N N"]

    def solve(self, gradient: State) -> State:
        return unpacked(torch.cholesky_solve(packed(gradient).unsqueeze(-1), self.factor).squeeze(-1), gradient)

    def length(self, step: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        return torch.linalg.vector_norm(step.unsqueeze(-2) @ self.factor, dim=(-1, -2))


@dataclass(frozen=True)
class MatrixFree:
    """P by its products.

    Args:
        problem: whose P.
        point: where.
        diagonal: h.
    """

    problem: "GraphProblem"
    point: "GraphPoint"
    diagonal: Float[Tensor, "B N"]

    def product(self, direction: State) -> State:
        """P times a direction in errors."""
        curved = zip(
            direction, unpacked(self.diagonal, direction), outputs_product(self.problem, self.point, direction)
        )
        return tuple(h * d + g for d, h, g in curved)

    def solve(self, gradient: State) -> State:
        rtol = torch.finfo(self.diagonal.dtype).eps ** 0.75
        return conjugate_gradients(self.product, gradient, Diagonal(self.diagonal).solve, rtol=rtol, max_steps=1000)


def metric_of(problem: "GraphProblem", point: "GraphPoint") -> Metric:
    """P at one point, ready to be solved to rounding."""
    share = torch.finfo(point.energy.dtype).eps ** 0.5
    if min(_height(problem), sum(problem.widths)) > LARGE:
        return MatrixFree(problem, point, _stiffness(problem, point, share, None))
    return _factorised(problem, point, share)


def preconditioner_of(problem: "GraphProblem", point: "GraphPoint") -> PackedMetric:
    """P where it is cheap, else diag(h)."""
    if min(_height(problem), sum(problem.widths)) > WORTHWHILE:
        return Diagonal(stiffness_of(problem, point))
    return _factorised(problem, point, DAMPING)


def stiffness_of(problem: "GraphProblem", point: "GraphPoint") -> Float[Tensor, "B N"]:
    """h, 1 where there is none."""
    return _stiffness(problem, point, DAMPING, None)


def no_preconditioner_of(problem: "GraphProblem", point: "GraphPoint") -> PackedMetric:
    """1 in the form of `preconditioner_of`, made of views that take no memory."""
    height, width, batch = _height(problem), sum(problem.widths), len(point.energy)
    one = point.energy.new_ones(()).expand(batch, width)
    if min(height, width) > WORTHWHILE:
        return Diagonal(one)
    small = torch.eye(min(height, width), dtype=one.dtype, device=one.device).expand(batch, -1, -1)
    return Woodbury(one, one.new_zeros(()).expand(batch, height, width), small) if height < width else Dense(small)


def _factorised(problem: "GraphProblem", point: "GraphPoint", share: float) -> Woodbury | Dense:
    if _height(problem) < sum(problem.widths):
        rows = output_rows(problem, point)
        return Woodbury.of(_stiffness(problem, point, share, lambda: rows.square().sum(-2)), rows)
    width = sum(problem.widths)
    every = torch.eye(width, dtype=point.energy.dtype, device=point.energy.device).expand(len(point.energy), -1, -1)
    curved = packed(outputs_product(problem, point, every.split(problem.widths, -1)))
    diagonal = _stiffness(problem, point, share, lambda: curved.diagonal(dim1=-2, dim2=-1))
    return Dense(torch.linalg.cholesky_ex(0.5 * (curved + curved.mT) + diagonal.diag_embed()).L)


def _outputs(problem: "GraphProblem") -> Iterator[tuple[int, "Prediction", bool]]:
    """Predictions of which at least a part is compared with what is held, or lies beside the trunk; whether it is the trunk."""
    for index, p in enumerate(problem.structure.predictions):
        trunk = problem.structure.trunk.get(p.target) == index
        if not trunk or p.target in problem.unheld:
            yield index, p, trunk


def _restrained(problem: "GraphProblem") -> list[str]:
    """Nodes with a prior on a value that is more than its own error."""
    return [name for name in problem.structure.priors if name in problem.structure.trunk]


def _seen(problem: "GraphProblem", p: "Prediction") -> Float[Tensor, "B M"]:
    """Which of the numbers predicted of a node concern units that are held: 1 there, 0 elsewhere."""
    held = problem.clamped.observed[p.target]
    return held.repeat(1, p.energy.prediction_width(held.shape[-1]) // held.shape[-1])


def _height(problem: "GraphProblem") -> int:
    """R: the number of rows of G."""
    widths = problem.structure.widths
    predicted = sum(p.energy.prediction_width(widths[p.target]) for _, p, _ in _outputs(problem))
    return predicted + sum(widths[name] for name in _restrained(problem))


def _stiffness(
    problem: "GraphProblem", point: "GraphPoint", share: float, curvature: Callable[[], Tensor] | None
) -> Float[Tensor, "B N"]:
    """h; a share of the mean curvature that G gives the same node where there is none, 1 where G is not known."""
    own = [_own_stiffness(problem, point, name) for name in problem.structure.free]
    if all(name in problem.structure.trunk for name in problem.structure.free):
        return torch.cat(own, -1).clamp(min=SOFTEST)
    given = None if curvature is None else curvature().split(problem.widths, -1)
    for k, name in enumerate(problem.structure.free):
        if name not in problem.structure.trunk:
            least = torch.ones_like(own[k]) if given is None else share * given[k].mean(-1, keepdim=True)
            own[k] = torch.maximum(own[k], least)
    return torch.cat(own, -1).clamp(min=SOFTEST)


def _own_stiffness(problem: "GraphProblem", point: "GraphPoint", name: str) -> Float[Tensor, "B D"]:
    structure, value = problem.structure, point.nodes[name]
    if name in structure.trunk and structure.units[structure.trunk[name]]:
        return torch.ones_like(value)
    total = torch.zeros_like(value)
    if name in structure.trunk:
        index = structure.trunk[name]
        p = structure.predictions[index]
        total = total + problem.weighted(p, structure.energies[index].stiffness(value, point.sent[index].prediction))
    elif name in structure.priors:
        total = total + structure.priors[name].curvature(value).clamp(min=0)
    return total


def output_rows(problem: "GraphProblem", point: "GraphPoint") -> Float[Tensor, "B R N"]:
    """G."""
    blocks = [_block(problem, point, index, p, trunk) for index, p, trunk in _outputs(problem)]
    for name in _restrained(problem):
        curvature = problem.structure.priors[name].curvature(point.nodes[name]).clamp(min=0)
        blocks.append(_down(problem, point, {name: curvature.sqrt().diag_embed()}))
    if not blocks:  # nothing that is held is predicted
        return point.energy.new_zeros(len(point.energy), 0, sum(problem.widths))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, -2)


def _block(
    problem: "GraphProblem", point: "GraphPoint", index: int, p: "Prediction", trunk: bool
) -> Float[Tensor, "B R N"]:
    """The rows of G that one prediction gives: the root of its curvature, pulled through it and back along the trunk."""
    structure, sent = problem.structure, point.sent[index]
    root = p.weight**0.5 * p.energy.root(point.nodes[p.target], sent.prediction)
    if trunk:  # its free units are errors themselves
        root = root * _seen(problem, p).unsqueeze(-2)
    root = root.expand(len(point.energy), -1, -1)
    rows: dict[str, Tensor] = {}
    if not trunk and p.target in structure.free:
        rows[p.target] = -p.energy.push_centre(sent.prediction, root)
    _pull(p, sent, root, rows, structure.free)
    return _down(problem, point, rows)


def _down(problem: "GraphProblem", point: "GraphPoint", rows: dict[str, Tensor]) -> Float[Tensor, "B R N"]:
    """Gradients in values, of some nodes at least, as gradients in errors: back along the trunk."""
    structure, some = problem.structure, next(iter(rows.values()))
    for name in reversed(structure.order):
        if name not in rows:
            rows[name] = some.new_zeros(()).expand(len(some), some.shape[-2], structure.widths[name])
            continue
        rows[name] = problem.allowed(point, name, rows[name])
        if name in structure.trunk:
            on = structure.trunk[name]
            own, said = structure.predictions[on], point.sent[on]
            _pull(own, said, structure.energies[on].pull_centre(said.prediction, rows[name]), rows, structure.free)
    return torch.cat([rows[name] for name in structure.free], -1)


def _pull(p: "Prediction", sent: "Sent", gradient: Tensor, rows: dict[str, Tensor], free: tuple[str, ...]) -> None:
    for source, part in zip(p.sources, sent.parts):
        if source in free:
            pulled = part.pull(gradient)
            rows[source] = rows[source] + pulled if source in rows else pulled


def outputs_product(problem: "GraphProblem", point: "GraphPoint", direction: State) -> State:
    """G^T G times one or several directions in errors, G never formed."""
    structure = problem.structure
    moved = dict(zip(structure.free, problem.push_forward(point, direction), strict=True))
    total = {name: torch.zeros_like(group) for name, group in moved.items()}
    for index, p, trunk in _outputs(problem):
        sent, energy = point.sent[index], structure.energies[index]
        pushed = [part.push(moved[source]) for source, part in zip(p.sources, sent.parts) if source in moved]
        shift = sum(pushed[1:], pushed[0]) if pushed else None
        if not trunk and p.target in moved:
            own = energy.pull_centre(sent.prediction, moved[p.target])
            shift = -own if shift is None else shift - own
        if shift is None:
            continue
        if trunk:
            seen = _seen(problem, p)
            seen = seen if seen.dim() == shift.dim() else seen.unsqueeze(-2)
            shift = shift * seen
        signal = problem.weighted(p, energy.positive_product(point.nodes[p.target], sent.prediction, shift))
        signal = signal * seen if trunk else signal
        if not trunk and p.target in moved:
            total[p.target] = total[p.target] - energy.push_centre(sent.prediction, signal)
        for source, part in zip(p.sources, sent.parts):
            if source in moved:
                total[source] = total[source] + part.pull(signal)
    for name in _restrained(problem):
        curvature = structure.priors[name].curvature(point.nodes[name]).clamp(min=0)
        total[name] = total[name] + per_direction(curvature, moved[name]) * moved[name]
    return problem.pull_back(point, tuple(total[name] for name in structure.free))
