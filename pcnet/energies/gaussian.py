"""Squared errors: Gaussian noise of fixed, learned, or input-dependent precision."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pcnet.energies.checks import check_positive, check_widths
from pcnet.energies.energy import Energy, ErrorEnergy, per_direction


class Gaussian(ErrorEnergy):
    """E = 1/2 error^T Pi error - 1/2 log|Pi| with a diagonal precision Pi; minus the log density but for N/2 log 2 pi.

    The log-determinant matters as soon as the precision is learned: without it the energy falls to zero by letting Pi go
    to zero, and predictions get worse. It is there for a fixed precision too, so that energies can be compared.

    Args:
        width: number of units.
        learned: whether log Pi is a parameter that requires a gradient (log, so that Pi stays positive); otherwise Pi stays
            as it is, and a fixed precision of 1 costs no multiplication.
        precision: Pi to start with, above 0: one number for all units, or one for each.

    Raises:
        ValueError: the width is not positive, or a precision is not, or there is not one for each unit.
    """

    def __init__(self, width: int, learned: bool = False, precision: float | Float[Tensor, " N"] = 1.0) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.width = width
        self._uniform = None if isinstance(precision, Tensor) else check_positive("precision", precision)
        self.log_precision = nn.Parameter(_log_precisions(precision, width), requires_grad=learned)
        self.register_load_state_dict_post_hook(_forget_uniform)

    @property
    def precision(self) -> Float[Tensor, " N"]:
        """Pi."""
        fixed = self._fixed
        return self.log_precision.exp() if fixed is None else torch.full_like(self.log_precision, fixed)

    @property
    def log_normaliser(self) -> Float[Tensor, ""]:
        """-1/2 log|Pi|: what the energy is at zero error."""
        return -0.5 * self.log_precision.sum()

    @property
    def is_unit(self) -> bool:
        """Whether the precision is 1 everywhere and is not learned."""
        return self._fixed == 1

    @property
    def _fixed(self) -> float | None:
        """The precision of all units where it is one number that is not learned: exact in every dtype, and no tensor."""
        return None if self.log_precision.requires_grad else self._uniform

    def cost(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "*B"]:
        self._check(error)
        fixed = self._fixed
        if fixed is None:
            return 0.5 * (self.precision * error * error).sum(-1) + self.log_normaliser
        squares = (error * error).sum(-1)
        return 0.5 * squares if fixed == 1.0 else 0.5 * fixed * squares - 0.5 * self.width * math.log(fixed)

    def derivative(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
        self._check(error)
        fixed = self._fixed
        if fixed is None:
            return self.precision * error
        return error if fixed == 1.0 else fixed * error

    def second_derivative(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "1 N"]:
        self._check(error)
        return self.precision.unsqueeze(0)

    def majoriser(self, error: Float[Tensor, "*B N"]) -> Float[Tensor, "1 N"]:
        return self.second_derivative(error)

    def _check(self, error: Tensor) -> None:
        if error.shape[-1] != self.width:
            raise ValueError(f"errors of shape {tuple(error.shape)} do not fit the precision of shape ({self.width},)")


class InputPrecision(Energy):
    """A Gaussian energy whose precision is predicted, unit by unit, by the same layers as the mean.

        E = 1/2 sum_i exp(s_i) (value_i - m_i)^2 - s_i,      prediction = (m_1 .. m_N, s_1 .. s_N), s the log precision

    For noise that depends on the input. The curvature in the prediction is indefinite; its positive part is the Fisher
    information diag(exp(s), 1/2), which is its mean over values drawn from the prediction.
    """

    def prediction_width(self, width: int) -> int:
        return 2 * width

    def forward(self, value: Tensor, prediction: Tensor) -> Tensor:
        error, log_precision = _split(value, prediction)
        return 0.5 * (log_precision.exp() * error * error - log_precision).sum(-1)

    def gradient(self, value: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
        error, log_precision = _split(value, prediction)
        weighted = log_precision.exp() * error
        return weighted, torch.cat((-weighted, 0.5 * (weighted * error - 1)), -1)

    def curvature_product(
        self, value: Tensor, prediction: Tensor, dvalue: Tensor, dprediction: Tensor
    ) -> tuple[Tensor, Tensor]:
        error, log_precision = _split(value, prediction)
        derror, dlog_precision = _split(dvalue, dprediction)
        dweighted = log_precision.exp() * (derror + error * dlog_precision)
        dsquare = log_precision.exp() * error * (derror + 0.5 * error * dlog_precision)
        return dweighted, torch.cat((-dweighted, dsquare), -1)

    def stiffness(self, value: Tensor, prediction: Tensor) -> Tensor:
        return _split(value, prediction)[1].exp()

    def root(self, value: Tensor, prediction: Tensor) -> Tensor:
        return self._fisher(value, prediction).sqrt().diag_embed()

    def positive_product(self, value: Tensor, prediction: Tensor, direction: Tensor) -> Tensor:
        return per_direction(self._fisher(value, prediction), direction) * direction

    def centre(self, prediction: Tensor) -> Tensor:
        return prediction[..., : prediction.shape[-1] // 2]

    def pull_centre(self, prediction: Tensor, gradient: Tensor) -> Tensor:
        return torch.cat((gradient, torch.zeros_like(gradient)), -1)

    def push_centre(self, prediction: Tensor, direction: Tensor) -> Tensor:
        return direction[..., : direction.shape[-1] // 2]

    def _fisher(self, value: Tensor, prediction: Tensor) -> Float[Tensor, "B M"]:
        precision = self.stiffness(value, prediction)
        return torch.cat((precision, torch.full_like(precision, 0.5)), -1)


def _split(value: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """Error and log precision, or their changes."""
    check_widths(value, prediction, per_unit=2)
    mean, log_precision = prediction.tensor_split(2, -1)
    return value - mean, log_precision


def _log_precisions(precision: float | Tensor, width: int) -> Float[Tensor, " N"]:
    if not isinstance(precision, Tensor):
        return torch.full((width,), math.log(precision))
    if precision.shape != (width,):
        raise ValueError(f"precision must be a number or have shape ({width},), got {tuple(precision.shape)}")
    if not ((precision > 0) & precision.isfinite()).all():
        raise ValueError(f"precision must be finite and > 0, got {precision.tolist()}")
    return precision.detach().log().to(torch.get_default_dtype())


def _forget_uniform(energy: Gaussian, incompatible_keys: Any) -> None:
    """A checkpoint may bring other precisions than the constructor's."""
    if energy._uniform is not None and (energy.log_precision.float() != math.log(energy._uniform)).any():
        energy._uniform = None
