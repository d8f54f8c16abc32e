"""A safeguard: no step that raises the energy is kept."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcnet.inference.carry import merge
from pcnet.inference.equilibrium import EnergyProblem, Equilibrium, dot, scale, subtract
from pcnet.inference.point import EnergyPoint
from pcnet.inference.solver import Solver, needs
from pcnet.typing import State

PATIENCE = 2.0
"""Growth of the residual that is put up with where energies differ by no more than rounding."""


class Safeguard(NamedTuple):
    """What is known of the last point that was kept.

    Attributes:
        energy: there.
        residual: its norm there, or a smaller one seen since the energy last fell by more than rounding.
        state: there, in the solver's coordinates.
        length: of the steps taken from now on, as a fraction of what the solver says.
        rejected: whether a step from there has been rejected.
        returned: whether the row is back there.
        plain: whether the step from there was made without memory.
        inner: the solver's own memory.
    """

    energy: Float[Tensor, " B"]
    residual: Float[Tensor, " B"]
    state: State
    length: Float[Tensor, "B 1"]
    rejected: Bool[Tensor, " B"]
    returned: Bool[Tensor, " B"]
    plain: Bool[Tensor, " B"]
    inner: Any


@dataclass(frozen=True)
class Monotone(Solver):
    """Another solver whose energy never rises: a row whose step raised it goes back along it, and its steps are shortened.

    Where a solver with a memory is rejected twice in a row, the row goes on from where the step began with nothing remembered.
    Close to the minimum, where energies are all the same to rounding, it is the residual that may not double. One evaluation a
    step, no inner loop: a shortened step counts as one. For descent with a step size that may be too long for some rows, or
    that becomes so as the curvature changes on the way. The end of a row that ran out of steps may be a point that was still
    to be rejected.

    Args:
        solver: any of a problem with an energy.
        shrink: what a rejected step, and those after it, are multiplied by, in (0, 1).
        grow: what they are multiplied by after each step that was kept, at least 1, until they have the solver's own length.
    """

    solver: Solver
    shrink: float = 0.25
    grow: float = 1.2

    def __post_init__(self) -> None:
        if not 0 < self.shrink < 1:
            raise ValueError(f"shrink must be in (0, 1), got {self.shrink}")
        if not 1 <= self.grow < float("inf"):
            raise ValueError(f"grow must be a finite number >= 1, got {self.grow}")

    @property
    def requires(self) -> tuple[type[Equilibrium], ...]:
        return EnergyProblem, *needs(self.solver)

    @property
    def evaluations(self) -> int:
        return self.solver.evaluations

    def view(self, problem: EnergyProblem) -> EnergyProblem:
        return self.solver.view(problem)

    def init(self, problem: EnergyProblem, point: EnergyPoint) -> Safeguard:
        unknown, yes = torch.full_like(point.energy, torch.inf), torch.ones_like(point.energy, dtype=torch.bool)
        length, inner = torch.ones_like(unknown).unsqueeze(-1), self.solver.init(problem, point)
        return Safeguard(unknown, unknown, problem.coordinates(point.values), length, ~yes, ~yes, yes, inner)

    def step(self, problem: EnergyProblem, point: EnergyPoint, carry: Safeguard) -> tuple[State, Safeguard]:
        state, norm = problem.coordinates(point.values), dot(point.residual, point.residual).sqrt()
        fallen, worse = self._judge(point.energy, norm, carry)
        misled = worse & carry.rejected & ~carry.plain  # not its length is to blame but its direction
        factor = torch.where(misled, 1 / self.shrink, self.shrink).unsqueeze(-1)
        back = scale(
            subtract(state, carry.state), torch.where(misled, -1.0, self.shrink - 1).to(norm.dtype).unsqueeze(-1)
        )
        rejected = carry._replace(
            length=factor.to(norm.dtype) * carry.length, rejected=torch.ones_like(worse), returned=misled
        )
        fresh = self.solver.restart(problem, point, carry.inner)
        memory = fresh if fresh is carry.inner else merge(carry.returned, fresh, carry.inner)
        onward, inner = self.solver.step(problem, point, memory)
        kept = Safeguard(
            energy=point.energy,
            residual=torch.where(fallen, norm, torch.minimum(norm, carry.residual)),
            state=state,
            length=(self.grow * carry.length).clamp(max=1.0),
            rejected=torch.zeros_like(worse),
            returned=torch.zeros_like(worse),
            plain=torch.ones_like(worse) if fresh is carry.inner else carry.returned,
            inner=inner,
        )
        return merge(worse, back, scale(onward, kept.length)), merge(worse, rejected, kept)

    @staticmethod
    def _judge(energy: Tensor, norm: Tensor, last: Safeguard) -> tuple[Bool[Tensor, " B"], Bool[Tensor, " B"]]:
        """Whether the energy has fallen by more than rounding, and whether the step is to be rejected."""
        noise = (1e-6 if norm.dtype == torch.float32 else 1e-12) * (1 + last.energy.abs())  # infinite at first
        fallen, risen = energy < last.energy - noise, energy > last.energy + noise
        return fallen, (risen | (~fallen & (norm > PATIENCE * last.residual))) & ~last.returned

    def products(self, carry: Safeguard) -> Int[Tensor, " B"] | int:
        return self.solver.products(carry.inner)
