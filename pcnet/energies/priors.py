"""What a value costs by itself, whatever was predicted: priors on the activity of nodes."""

import abc

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pcnet.energies.checks import check_not_negative, check_positive


class Prior(nn.Module, abc.ABC):
    """An energy of values alone, per sample, in nats, summed over units; constants that nothing changes are dropped.

    Attributes:
        sparsity: weight of |value| in it, 0 for smooth priors. `forward` contains that term and `gradient` its derivative
            away from zero; what happens at zero, where there is a kink, is up to the problem: a value at zero stays there
            while the rest of the energy pulls with less than `sparsity`.
    """

    sparsity: float = 0.0

    @abc.abstractmethod
    def forward(self, value: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        """The energy, per sample."""

    @abc.abstractmethod
    def gradient(self, value: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """Its derivative by each value; the middle of both sides at a kink."""

    @abc.abstractmethod
    def curvature(self, value: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """Its second derivative by each value, exact, of any sign; units do not interact."""


class GaussianPrior(Prior):
    """precision / 2 sum_i (value_i - mean_i)^2: values stay near a mean.

    Args:
        precision: above 0.
        mean: one number, or one for each unit.

    Raises:
        ValueError: the precision is not positive, or the mean not finite.
    """

    def __init__(self, precision: float = 1.0, mean: float | Float[Tensor, " N"] = 0.0) -> None:
        super().__init__()
        self.precision = check_positive("precision", precision)
        if not torch.as_tensor(mean).isfinite().all():
            raise ValueError(f"mean must be finite, got {mean}")
        if isinstance(mean, Tensor):
            self.register_buffer("mean", mean.detach().clone(), persistent=False)
        else:
            self.mean = float(mean)

    def forward(self, value: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        return 0.5 * self.precision * self._deviation(value).square().sum(-1)

    def gradient(self, value: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        return self.precision * self._deviation(value)

    def curvature(self, value: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        return torch.full_like(value, self.precision)

    def _deviation(self, value: Tensor) -> Tensor:
        if not isinstance(self.mean, Tensor):
            return value - self.mean
        if self.mean.shape != value.shape[-1:]:
            raise ValueError(
                f"values of shape {tuple(value.shape)} do not fit the mean of shape {tuple(self.mean.shape)}"
            )
        return value - self.mean.to(value.dtype)


class LaplacianPrior(Prior):
    """strength sum_i |value_i|: many values are exactly zero at the equilibrium.

    Args:
        strength: at least 0; also the `sparsity`.

    Raises:
        ValueError: the strength is negative.
    """

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = self.sparsity = check_not_negative("strength", strength)

    def forward(self, value: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        return self.strength * value.abs().sum(-1)

    def gradient(self, value: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        return self.strength * value.sign()

    def curvature(self, value: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        return torch.zeros_like(value)


class KurtoticPrior(Prior):
    """strength sum_i log(1 + value_i^2): values near zero are pulled in, large ones are left alone.

    Sparse without a kink: the pull 2 strength r / (1 + r^2) is greatest at |r| = 1. The curvature is negative beyond, so the
    energy may have several minima.

    Args:
        strength: at least 0.

    Raises:
        ValueError: the strength is negative.

    Reference:
        Rao & Ballard, Nature Neuroscience 2, 79 (1999), Methods; Olshausen & Field, Nature 381, 607 (1996).
    """

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = check_not_negative("strength", strength)

    def forward(self, value: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        return self.strength * value.square().log1p().sum(-1)

    def gradient(self, value: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        return 2 * self.strength * value / (1 + value.square())

    def curvature(self, value: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        squares = value.square()
        return 2 * self.strength * (1 - squares) / (1 + squares).square()
