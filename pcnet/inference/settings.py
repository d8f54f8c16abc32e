"""What a run says about inference: which solver, how close, how long, and from where."""

import abc
from dataclasses import dataclass, field

import torch

from pcnet.inference.equilibrium import Equilibrium
from pcnet.inference.error_coordinates import GaussNewton
from pcnet.inference.solve import Solution, Solver, check_settings, solve
from pcnet.typing import State


class InitialValues(abc.ABC):
    """Where the values of a new token start."""

    @abc.abstractmethod
    def __call__(self, expected: State, past: State) -> State:
        """Starting values, from what the network expects before the token and from the values of the token before."""


@dataclass(frozen=True)
class Expected(InitialValues):
    """Start at the network's own expectation: all prediction errors zero."""

    def __call__(self, expected: State, past: State) -> State:
        return expected


@dataclass(frozen=True)
class CarriedOver(InitialValues):
    """Start where the token before ended."""

    def __call__(self, expected: State, past: State) -> State:
        return past


@dataclass(frozen=True)
class RandomValues(InitialValues):
    """Start at normal noise, the same for the same seed and shape.

    Args:
        scale: standard deviation.
        seed: of the generator.
    """

    scale: float = 1.0
    seed: int = 0

    def __call__(self, expected: State, past: State) -> State:
        generator = torch.Generator().manual_seed(self.seed)
        return tuple(
            self.scale * torch.randn(group.shape, generator=generator, dtype=group.dtype).to(group.device)
            for group in expected
        )


@dataclass(frozen=True)
class Inference:
    """How a network relaxes its values.

    Args:
        solver: how values move.
        atol: rms of the energy's gradient, in every node group, at which a row counts as converged.
        rtol: the same relative to the rms of the values.
        max_steps: the most steps per token.
        check_every: steps between looks at whether all rows are done; raise it on a GPU.
        initial: where values start.
    """

    solver: Solver = field(default_factory=GaussNewton)
    atol: float = 1e-4
    rtol: float = 0.0
    max_steps: int = 100
    check_every: int = 1
    initial: InitialValues = field(default_factory=Expected)

    def __post_init__(self) -> None:
        check_settings(self.atol, self.rtol, self.max_steps, self.check_every)

    def run(self, problem: Equilibrium, values: State, record: tuple[int, ...] = ()) -> Solution:
        """`solve` with these settings."""
        return solve(
            problem,
            values,
            self.solver,
            atol=self.atol,
            rtol=self.rtol,
            max_steps=self.max_steps,
            check_every=self.check_every,
            record=record,
        )
