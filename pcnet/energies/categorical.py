"""The energy of an observed class, predicted by logits."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from pcnet.energies.checks import check_widths
from pcnet.energies.energy import Energy, per_direction


class Categorical(Energy):
    """E = -sum_i value_i log softmax(prediction)_i: the surprise at an observed class, cross-entropy.

    Values are one-hot, or probabilities of classes; a row of zeros is a missing label, which costs nothing. Values must be
    clamped: the energy is linear in them. With q = softmax(prediction) and S = sum_i value_i, the curvature in the
    prediction is S (diag(q) - q q^T), positive as it stands. The centre of a prediction is q.
    """

    observed_only = True

    def prediction_width(self, width: int) -> int:
        return width

    def forward(self, value: Tensor, prediction: Tensor) -> Tensor:
        check_widths(value, prediction)
        return -(value * functional.log_softmax(prediction, -1)).sum(-1)

    def gradient(self, value: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
        check_widths(value, prediction)
        surprise = functional.log_softmax(prediction, -1).neg()
        return surprise, value.sum(-1, keepdim=True) * (-surprise).exp() - value

    def curvature_product(
        self, value: Tensor, prediction: Tensor, dvalue: Tensor, dprediction: Tensor
    ) -> tuple[Tensor, Tensor]:
        check_widths(value, prediction)
        law = prediction.softmax(-1)
        shift = dprediction - (law * dprediction).sum(-1, keepdim=True)
        total, dtotal = value.sum(-1, keepdim=True), dvalue.sum(-1, keepdim=True)
        return -shift, law * (total * shift + dtotal) - dvalue

    def stiffness(self, value: Tensor, prediction: Tensor) -> Tensor:
        check_widths(value, prediction)
        return torch.zeros_like(value[:1])

    def root(self, value: Tensor, prediction: Tensor) -> Tensor:
        """sqrt(S q_i) (delta_ij - q_j): nothing has to be factorised."""
        check_widths(value, prediction)
        law = prediction.softmax(-1)
        identity = torch.eye(law.shape[-1], dtype=law.dtype, device=law.device)
        return (self._total(value) * law).sqrt().unsqueeze(-1) * (identity - law.unsqueeze(-2))

    def positive_product(self, value: Tensor, prediction: Tensor, direction: Tensor) -> Tensor:
        check_widths(value, prediction)
        return per_direction(self._total(value), direction) * _covary(prediction, direction)

    def centre(self, prediction: Tensor) -> Tensor:
        return prediction.softmax(-1)

    def pull_centre(self, prediction: Tensor, gradient: Tensor) -> Tensor:
        return _covary(prediction, gradient)

    def push_centre(self, prediction: Tensor, direction: Tensor) -> Tensor:
        return _covary(prediction, direction)

    def _total(self, value: Tensor) -> Float[Tensor, "B 1"]:
        """S; values that are no probabilities must not make a positive part negative."""
        return value.sum(-1, keepdim=True).clamp(min=0)


def _covary(prediction: Tensor, direction: Tensor) -> Tensor:
    """(diag(q) - q q^T) times each direction."""
    law = per_direction(prediction.softmax(-1), direction)
    return law * (direction - (law * direction).sum(-1, keepdim=True))
