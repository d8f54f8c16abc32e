"""Descent on the values themselves: what a recurrent network of value and error units does in its own time."""

from dataclasses import dataclass

from pcnet.inference.equilibrium import Equilibrium, Point, zeros_like
from pcnet.inference.solve import Solver
from pcnet.typing import State


@dataclass(frozen=True)
class Euler(Solver):
    """Explicit Euler on the gradient flow: x <- x - step_size dF/dx.

    Stable while step_size < 2 / (largest curvature); the number of steps grows as the condition number of the Hessian.

    Args:
        step_size: > 0, in units of the values' own time constant.
    """

    step_size: float = 0.1

    def __post_init__(self) -> None:
        _check_step_size(self.step_size)

    def step(self, problem: Equilibrium, point: Point, carry: tuple) -> tuple[State, tuple]:
        return tuple(-self.step_size * group for group in point.residual), carry


@dataclass(frozen=True)
class Momentum(Solver):
    """Heavy-ball descent: v <- momentum v - step_size dF/dx, x <- x + v (Polyak 1964).

    Stable while step_size < 2 (1 + momentum) / (largest curvature); at its best the number of steps grows as the square
    root of the condition number.

    Args:
        step_size: > 0.
        momentum: in [0, 1).
    """

    step_size: float = 0.1
    momentum: float = 0.7

    def __post_init__(self) -> None:
        _check_step_size(self.step_size)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")

    def init(self, problem: Equilibrium, point: Point) -> State:
        return zeros_like(point.values)

    def step(self, problem: Equilibrium, point: Point, carry: State) -> tuple[State, State]:
        velocity = tuple(self.momentum * v - self.step_size * r for v, r in zip(carry, point.residual, strict=True))
        return velocity, velocity


def _check_step_size(step_size: float) -> None:
    if not 0 < step_size < float("inf"):
        raise ValueError(f"step_size must be a finite number > 0, got {step_size}")
