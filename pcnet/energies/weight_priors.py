"""What weights cost by themselves: weight decay, as an energy in nats."""

import abc
from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from pcnet.energies.checks import check_not_negative


class WeightPrior(nn.Module, abc.ABC):
    """An energy of parameters, in nats, of the whole network and not of a sample: add it once to a sum over the data.

    Args:
        strength: at least 0.

    Raises:
        ValueError: the strength is negative.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = check_not_negative("strength", strength)

    def forward(self, parameters: Iterable[Tensor]) -> Float[Tensor, ""]:
        """The energy of all `parameters` together.

        Raises:
            ValueError: there are none, which is what a generator that was used before gives.
        """
        terms = [self.penalty(parameter) for parameter in parameters]
        if not terms:
            raise ValueError("parameters is empty")
        return self.strength * sum(terms)

    @abc.abstractmethod
    def penalty(self, parameter: Tensor) -> Float[Tensor, ""]:
        """The energy of one parameter at strength 1."""


class GaussianWeights(WeightPrior):
    """strength / 2 sum w^2: its gradient is weight decay, strength w."""

    def penalty(self, parameter: Tensor) -> Float[Tensor, ""]:
        return 0.5 * parameter.square().sum()


class LaplacianWeights(WeightPrior):
    """strength sum |w|: pulls every weight to zero with the same force."""

    def penalty(self, parameter: Tensor) -> Float[Tensor, ""]:
        return parameter.abs().sum()
