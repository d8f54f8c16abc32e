"""What every predictive-coding network has: value nodes, predictions of them, and an energy of the errors."""

import abc
from typing import Any

from torch import nn

from pcnet.inference.equilibrium import Equilibrium
from pcnet.typing import State


class PCNetwork(nn.Module, abc.ABC):
    """A network that infers: with its inputs clamped, its values relax to an equilibrium of `problem(clamped)`."""

    @abc.abstractmethod
    def problem(self, clamped: Any) -> Equilibrium:
        """What must vanish given what is clamped; the most structured subtype the network can promise."""

    @abc.abstractmethod
    def initial_values(self, clamped: Any) -> State:
        """Where the free values start."""
