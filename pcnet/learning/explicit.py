"""Gradients of an energy in parameters, by formula, at values that are held: what local learning rules are made of.

With s_p = dF/dmu_p, the signal at prediction p = sum of its layers, every layer's parameters get

    dF/dtheta = sum over the batch of (dmu_p/dtheta)^T s_p,

for a dense layer the outer product of what arrives at its output and what its source sends. Nothing is differentiated
through inference, so memory does not depend on how long it took.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pcnet.networks import GraphPoint
from pcnet.networks.graph.structure import Structure
from pcnet.typing import State

Gradients = dict[nn.Parameter, Tensor]


@torch.no_grad()
def energy_gradients(structure: Structure, point: GraphPoint) -> Gradients:
    """dF/dtheta, summed over the batch, of layers, energies (a learned precision) and priors.

    Args:
        structure: of the problem.
        point: the problem evaluated at the values to hold.
    """
    total: Gradients = {}
    for index, signal in enumerate(point.signals):
        add_layers(total, structure, point, index, signal)
        add_energy(total, structure, point, index)
    for name, prior in structure.priors.items():
        _add_by_autograd(total, prior, lambda prior=prior, value=point.nodes[name]: prior(value))
    return total


def add_layers(
    total: Gradients, structure: Structure, point: GraphPoint, index: int, signal: Float[Tensor, "B M"]
) -> None:
    """Add what one prediction's layers get from a signal at what it predicts."""
    for layer, part in zip(structure.predictions[index].layers, point.sent[index].parts):
        if any(parameter.requires_grad for parameter in layer.parameters()):
            for name, gradient in part.weight_gradients(signal).items():
                _add(total, layer.get_parameter(name), gradient)


def add_energy(total: Gradients, structure: Structure, point: GraphPoint, index: int) -> None:
    """Add what the parameters of one prediction's energy get."""
    p = structure.predictions[index]
    value, prediction = point.nodes[p.target], point.sent[index].prediction
    _add_by_autograd(total, p.energy, lambda: p.weight * p.energy(value, prediction))


def _add(total: Gradients, parameter: nn.Parameter, gradient: Tensor) -> None:
    if parameter.requires_grad:
        total[parameter] = total[parameter] + gradient if parameter in total else gradient


def _add_by_autograd(total: Gradients, module: nn.Module, energy: Callable[[], Float[Tensor, " B"]]) -> None:
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not learned:
        return
    with torch.enable_grad():
        gradients = torch.autograd.grad(energy().sum(), learned, materialize_grads=True)
    for parameter, gradient in zip(learned, gradients, strict=True):
        _add(total, parameter, gradient)


@torch.no_grad()
def difference(upper: Gradients, lower: Gradients) -> Gradients:
    """upper - lower; a parameter that is in one of them only has a zero in the other."""
    result = dict(upper)
    for parameter, gradient in lower.items():
        result[parameter] = result[parameter] - gradient if parameter in result else -gradient
    return result


class _Handed(torch.autograd.Function):
    """A value whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: float, gradients: State, *parameters: Tensor) -> Tensor:
        ctx.factor = factor
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, sent: Tensor) -> tuple[Tensor | None, ...]:
        scale = sent * ctx.factor
        return None, None, None, *(scale * gradient for gradient in ctx.saved_tensors)


def handed(value: Float[Tensor, ""], gradients: Gradients, factor: float) -> Float[Tensor, ""]:
    """A scalar with this value whose backward gives every parameter `factor` times its gradient.

    Args:
        value: of the loss.
        gradients: of what is to be descended.
        factor: one over the number of rows, where gradients are sums and the loss is a mean.
    """
    return _Handed.apply(value.detach(), factor, tuple(gradients.values()), *gradients)


def valued(value: Tensor, gradient_of: Tensor) -> Tensor:
    """A scalar with the value of one and the gradient of the other."""
    return value.detach() + gradient_of - gradient_of.detach()
