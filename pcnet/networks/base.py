"""What every predictive-coding network has: value nodes, predictions of them, and an energy of the errors."""

import abc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import nn

from pcnet.inference import Inference, Relaxation, Solution
from pcnet.inference.equilibrium import Equilibrium
from pcnet.sites import Iterates, Site
from pcnet.typing import State


class PCNetwork(nn.Module, Iterates, abc.ABC):
    """A network that infers: with its inputs clamped, its values relax to an equilibrium of `problem(clamped)`."""

    recorded: ClassVar[tuple[int, ...]] = ()
    """Iterations at which sites are to be seen; empty: at the end only."""

    @abc.abstractmethod
    def problem(self, clamped: Any) -> Equilibrium:
        """What must vanish given what is clamped; the most structured subtype the network can promise."""

    @abc.abstractmethod
    def initial_values(self, clamped: Any) -> State:
        """Where the free values start."""

    @property
    def tolerance(self) -> float:
        return self.inference.atol if isinstance(self.inference, Inference) else float("nan")

    @contextmanager
    def examining(self, inference: Relaxation) -> Iterator[None]:
        before, self.inference = self.inference, inference
        try:
            yield
        finally:
            self.inference = before

    @contextmanager
    def recording(self, iterations: tuple[int, ...]) -> Iterator[None]:
        before, self.recorded = self.recorded, iterations
        try:
            yield
        finally:
            self.recorded = before

    @property
    def watched(self) -> bool:
        """Whether any site is being recorded."""
        return any(site.watched for site in self.modules() if isinstance(site, Site))

    def shown(self, solution: Solution) -> list[State]:
        """The values to be shown at the sites: at the recorded iterations, or at the end."""
        return [solution.trace[k] for k in self.recorded] if self.recorded else [solution.values]
