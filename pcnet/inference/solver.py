"""What a solver is: one way of moving values towards equilibrium."""

import abc
from typing import Any, ClassVar

from jaxtyping import Int
from torch import Tensor

from pcnet.inference.equilibrium import Equilibrium
from pcnet.inference.point import Point
from pcnet.typing import State

LARGEST_STEP = 1e6
"""Step sizes beyond this are mistakes: curvatures of 1e-6 don't occur beside a prediction error's own."""


class Solver(abc.ABC):
    """One way of moving values towards equilibrium; a frozen dataclass, so it prints, compares and comes from YAML.

    A solver has no loop and no tolerance: `solve` has both. Its memory (the carry) is made of nested tuples of batch-first
    tensors, so that rows can be dropped from it.

    Attributes:
        requires: the structure that a problem must have; several, where all are needed.
        evaluations: of the problem per step, the one at its end included.
    """

    requires: ClassVar[type[Equilibrium] | tuple[type[Equilibrium], ...]] = Equilibrium
    evaluations: ClassVar[int] = 1

    def view(self, problem: Equilibrium) -> Equilibrium:
        """The problem in the coordinates this solver moves in."""
        return problem

    def init(self, problem: Equilibrium, point: Point) -> Any:
        """The solver's memory (its carry) before the first step."""
        return ()

    @abc.abstractmethod
    def step(self, problem: Equilibrium, point: Point, carry: Any) -> tuple[State, Any]:
        """The increment to add to the state, and the next carry. Rows never mix."""

    def restart(self, problem: Equilibrium, point: Point, carry: Any) -> Any:
        """The memory of having just arrived at `point`, with nothing learned from the steps before but step sizes."""
        return carry

    def products(self, carry: Any) -> Int[Tensor, " B"] | int:
        """Hessian products computed for each row so far."""
        return 0


def needs(solver: Solver) -> tuple[type[Equilibrium], ...]:
    """Every structure that a problem must have for this solver."""
    return solver.requires if isinstance(solver.requires, tuple) else (solver.requires,)


def check_structure(solver: Solver, problem: Equilibrium) -> None:
    """Raise a TypeError where the solver needs more structure than the problem has."""
    for structure in needs(solver):
        if not isinstance(problem, structure):
            raise TypeError(f"{type(solver).__name__} needs a {structure.__name__}, got a {type(problem).__name__}")


def check_step_size(step_size: float) -> None:
    """Raise a ValueError for a step size that is not in (0, 1e6]."""
    if not 0 < step_size <= LARGEST_STEP:
        raise ValueError(f"step_size must be a finite number > 0 and at most {LARGEST_STEP:g}, got {step_size}")
