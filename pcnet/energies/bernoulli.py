"""The energy of observed units between 0 and 1, predicted by logits."""

import torch
from torch import Tensor
from torch.nn import functional

from pcnet.energies.checks import check_widths
from pcnet.energies.energy import Energy, per_direction


class Bernoulli(Energy):
    """E = sum_i log(1 + exp(prediction_i)) - value_i prediction_i: the surprise at independent binary units.

    For black-and-white pixels or several labels at once; values are 0, 1, or probabilities between, and must be clamped: the
    energy is linear in them. With q = sigmoid(prediction), the curvature in the prediction is q (1 - q), positive as it
    stands. The centre of a prediction is q.
    """

    observed_only = True

    def prediction_width(self, width: int) -> int:
        return width

    def forward(self, value: Tensor, prediction: Tensor) -> Tensor:
        check_widths(value, prediction)
        return (functional.softplus(prediction) - value * prediction).sum(-1)

    def gradient(self, value: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
        check_widths(value, prediction)
        return prediction.neg(), prediction.sigmoid() - value

    def curvature_product(
        self, value: Tensor, prediction: Tensor, dvalue: Tensor, dprediction: Tensor
    ) -> tuple[Tensor, Tensor]:
        check_widths(value, prediction)
        return dprediction.neg(), _variance(prediction) * dprediction - dvalue

    def stiffness(self, value: Tensor, prediction: Tensor) -> Tensor:
        check_widths(value, prediction)
        return torch.zeros_like(value[:1])

    def root(self, value: Tensor, prediction: Tensor) -> Tensor:
        check_widths(value, prediction)
        return _variance(prediction).sqrt().diag_embed()

    def positive_product(self, value: Tensor, prediction: Tensor, direction: Tensor) -> Tensor:
        check_widths(value, prediction)
        return per_direction(_variance(prediction), direction) * direction

    def centre(self, prediction: Tensor) -> Tensor:
        return prediction.sigmoid()

    def pull_centre(self, prediction: Tensor, gradient: Tensor) -> Tensor:
        return per_direction(_variance(prediction), gradient) * gradient

    def push_centre(self, prediction: Tensor, direction: Tensor) -> Tensor:
        return per_direction(_variance(prediction), direction) * direction


def _variance(prediction: Tensor) -> Tensor:
    """q (1 - q), without cancellation at either end."""
    return prediction.sigmoid() * prediction.neg().sigmoid()
