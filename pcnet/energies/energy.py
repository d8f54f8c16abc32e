"""What a mismatch between a value and its prediction costs, with the derivatives that inference needs.

An energy is a function E(value, prediction) per sample, in nats, summed over units. Networks ask it for first derivatives,
for exact second derivatives times a direction, and for a positive part of its curvature, which is what Gauss-Newton
steps are made of. Three ways to write one: `ErrorEnergy` for functions of value - prediction, `AutogradEnergy` where only
the cost itself is worth writing, and `Energy` for everything else.
"""

import abc
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pcnet.energies.checks import check_widths


class Energy(nn.Module, abc.ABC):
    """E(value, prediction): what a mismatch costs, per sample, in nats.

    A layer outputs M = `prediction_width(N)` numbers for a node of N units. Rows never mix.

    Attributes:
        observed_only: the energy makes sense only for values that are clamped (labels, pixels); as a function of free values
            it has no minimum.
    """

    observed_only: ClassVar[bool] = False

    @abc.abstractmethod
    def prediction_width(self, width: int) -> int:
        """How many numbers a layer must output to predict a node of `width` units."""

    @abc.abstractmethod
    def forward(self, value: Float[Tensor, "B N"], prediction: Float[Tensor, "B M"]) -> Float[Tensor, " B"]:
        """E, per sample, summed over units.

        Raises:
            ValueError: shapes do not fit each other.
        """

    @abc.abstractmethod
    def gradient(
        self, value: Float[Tensor, "B N"], prediction: Float[Tensor, "B M"]
    ) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B M"]]:
        """dE/dvalue and dE/dprediction."""

    @abc.abstractmethod
    def curvature_product(
        self,
        value: Float[Tensor, "B N"],
        prediction: Float[Tensor, "B M"],
        dvalue: Float[Tensor, "B N"],
        dprediction: Float[Tensor, "B M"],
    ) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B M"]]:
        """The exact second derivative of E times a direction: how `gradient` changes along it."""

    @abc.abstractmethod
    def stiffness(self, value: Float[Tensor, "B N"], prediction: Float[Tensor, "B M"]) -> Float[Tensor, "#B N"]:
        """A diagonal model of d2E/dvalue2, at least 0: the exact second derivatives wherever those are positive."""

    @abc.abstractmethod
    def root(self, value: Float[Tensor, "B N"], prediction: Float[Tensor, "B M"]) -> Float[Tensor, "#B R M"]:
        """Q with Q^T Q = `positive_product`: the root of the positive part of d2E/dprediction2."""

    @abc.abstractmethod
    def positive_product(
        self, value: Float[Tensor, "B N"], prediction: Float[Tensor, "B M"], direction: Float[Tensor, "B *K M"]
    ) -> Float[Tensor, "B *K M"]:
        """The positive part of d2E/dprediction2 times one or several directions a row, its root never formed.

        It equals the exact second derivative wherever that is positive; elsewhere it is what the energy's class says.
        """

    @abc.abstractmethod
    def centre(self, prediction: Float[Tensor, "B M"]) -> Float[Tensor, "B N"]:
        """The value that a prediction stands for: where E is least, or the mean of the law that it parametrises."""

    @abc.abstractmethod
    def pull_centre(
        self, prediction: Float[Tensor, "B M"], gradient: Float[Tensor, "B *K N"]
    ) -> Float[Tensor, "B *K M"]:
        """(dcentre/dprediction)^T times one or several gradients a row."""

    @abc.abstractmethod
    def push_centre(
        self, prediction: Float[Tensor, "B M"], direction: Float[Tensor, "B *K M"]
    ) -> Float[Tensor, "B *K N"]:
        """dcentre/dprediction times one or several directions a row."""


class _Centred(Energy, abc.ABC):
    """Energies that are least where the value equals the prediction: one predicted number a unit, identity as `centre`."""

    def prediction_width(self, width: int) -> int:
        return width

    def centre(self, prediction: Tensor) -> Tensor:
        return prediction

    def pull_centre(self, prediction: Tensor, gradient: Tensor) -> Tensor:
        return gradient

    def push_centre(self, prediction: Tensor, direction: Tensor) -> Tensor:
        return direction


class ErrorEnergy(_Centred, abc.ABC):
    """An energy of the error = value - prediction alone, unit by unit: E = sum_i cost_i(error_i), least at zero error.

    A subclass gives the cost, its first and second derivative (`derivative`, `second_derivative`), and `majoriser`, the positive stand-in for
    the second derivative that `stiffness` and `positive_product` are made of.
    """

    @abc.abstractmethod
    def cost(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "*B"]:
        """E as a function of the error."""

    @abc.abstractmethod
    def derivative(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
        """dE/derror; may be `error` itself, so never change it in place."""

    @abc.abstractmethod
    def second_derivative(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "#*B N"]:
        """d2E/derror2, exact, of any sign."""

    @abc.abstractmethod
    def majoriser(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "#*B N"]:
        """The curvature, above 0, of a parabola that touches the cost at `error` and lies above it, symmetric about zero error.

        It is derivative(error) / error, and equals `second_derivative` where the cost is itself such a parabola. Steps made with it never raise
        the energy (half-quadratic minimisation: Geman & Reynolds, IEEE PAMI 14, 367, 1992).
        """

    def forward(self, value: Tensor, prediction: Tensor) -> Tensor:
        return self.cost(_error(value, prediction))

    def gradient(self, value: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
        derivative = self.derivative(_error(value, prediction))
        return derivative, derivative.neg()

    def curvature_product(
        self, value: Tensor, prediction: Tensor, dvalue: Tensor, dprediction: Tensor
    ) -> tuple[Tensor, Tensor]:
        product = self.second_derivative(_error(value, prediction)) * (dvalue - dprediction)
        return product, product.neg()

    def stiffness(self, value: Tensor, prediction: Tensor) -> Tensor:
        return self.majoriser(_error(value, prediction))

    def root(self, value: Tensor, prediction: Tensor) -> Tensor:
        return self.majoriser(_error(value, prediction)).sqrt().diag_embed()

    def positive_product(self, value: Tensor, prediction: Tensor, direction: Tensor) -> Tensor:
        return per_direction(self.majoriser(_error(value, prediction)), direction) * direction


class AutogradEnergy(_Centred, abc.ABC):
    """An energy of which only `forward` is written; every derivative comes from autograd.

    Units must not interact: the term of unit i may depend on value_i and prediction_i only, and is least where they are
    equal. Second derivatives below zero count as zero in `stiffness` and `positive_product`. A gradient costs a backward
    pass, and a product with the curvature two; write an `ErrorEnergy` where that matters.
    """

    def gradient(self, value: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
        check_widths(value, prediction)
        return torch.func.grad(self._total, argnums=(0, 1))(value, prediction)

    def curvature_product(
        self, value: Tensor, prediction: Tensor, dvalue: Tensor, dprediction: Tensor
    ) -> tuple[Tensor, Tensor]:
        def change(value: Tensor, prediction: Tensor) -> Tensor:
            by_value, by_prediction = self.gradient(value, prediction)
            return (by_value * dvalue).sum() + (by_prediction * dprediction).sum()

        return torch.func.grad(change, argnums=(0, 1))(value, prediction)

    def stiffness(self, value: Tensor, prediction: Tensor) -> Tensor:
        ones = torch.ones_like(value)
        return self.curvature_product(value, prediction, ones, torch.zeros_like(ones))[0].clamp(min=0)

    def root(self, value: Tensor, prediction: Tensor) -> Tensor:
        return self._positive(value, prediction).sqrt().diag_embed()

    def positive_product(self, value: Tensor, prediction: Tensor, direction: Tensor) -> Tensor:
        return per_direction(self._positive(value, prediction), direction) * direction

    def _positive(self, value: Tensor, prediction: Tensor) -> Float[Tensor, "B N"]:
        """The diagonal of d2E/dprediction2, which is all of it where units do not interact."""
        ones = torch.ones_like(prediction)
        return self.curvature_product(value, prediction, torch.zeros_like(ones), ones)[1].clamp(min=0)

    def _total(self, value: Tensor, prediction: Tensor) -> Float[Tensor, ""]:
        energy = self(value, prediction)
        if energy.shape != value.shape[:-1]:
            raise ValueError(
                f"{type(self).__name__}.forward must give one number a row, of shape {tuple(value.shape[:-1])}, "
                f"got {tuple(energy.shape)}"
            )
        return energy.sum()


def per_direction(per_row: Float[Tensor, "#B N"], direction: Float[Tensor, "B *K N"]) -> Float[Tensor, "#B *#K N"]:
    """The numbers of each row, shaped so that they multiply every direction of that row."""
    return per_row if direction.ndim == per_row.ndim else per_row.unsqueeze(-2)


def _error(value: Tensor, prediction: Tensor) -> Tensor:
    check_widths(value, prediction)
    return value - prediction
