"""Layers: how one node group predicts another, with the derivatives that inference needs.

A layer maps packed rows to packed rows, each row alone. `linearise(x)` evaluates it once and hands out its Jacobian as two
products: `push` carries directions from the source to the prediction, `pull` carries gradients back. `Dense` and
`ActiveDense` do so by hand; `AutogradLayer` does so for any `torch.nn.Module`, convolutions fused with their pooling among
them.
"""

import abc
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from pcnet.energies.energy import per_direction
from pcnet.networks.activations import Activation, Identity
from pcnet.networks.second_order import ActivatedOutput, ActivatedSource, ConstantJacobian, SecondOrder
from pcnet.predictor import check_sizes


class Linearised(abc.ABC):
    """A layer evaluated at one source.

    Attributes:
        prediction: what the layer predicts.
    """

    prediction: Float[Tensor, "B M"]

    @abc.abstractmethod
    def push(self, direction: Float[Tensor, "B *K N"]) -> Float[Tensor, "B *K M"]:
        """The Jacobian times directions of the source."""

    @abc.abstractmethod
    def pull(self, gradient: Float[Tensor, "B *K M"]) -> Float[Tensor, "B *K N"]:
        """The transposed Jacobian times gradients in the prediction."""

    @abc.abstractmethod
    def directional_derivative(
        self, gradient: Float[Tensor, "B M"], direction: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B N"]:
        """How `pull(gradient)` changes when the source moves along `direction`."""

    @abc.abstractmethod
    def second_order(self, signal: Float[Tensor, "B M"]) -> SecondOrder:
        """The layer ready for Hessian products: `pull(gradient) + directional_derivative(signal, direction)` at once."""

    @abc.abstractmethod
    def weight_gradients(self, gradient: Float[Tensor, "B M"]) -> dict[str, Tensor]:
        """Gradients of sum(gradient * prediction) in the layer's parameters, by name, summed over the batch."""


class Layer(nn.Module, abc.ABC):
    """How one node group predicts another; rows never mix."""

    @property
    @abc.abstractmethod
    def linear(self) -> bool:
        """Whether the prediction is affine in the source."""

    @abc.abstractmethod
    def linearise(self, source: Float[Tensor, "B N"]) -> Linearised:
        """Evaluate, ready for derivatives."""

    def forward(self, source: Float[Tensor, "B N"]) -> Float[Tensor, "B M"]:
        """The prediction alone."""
        return self.linearise(source).prediction


class Skip(Layer):
    """mu = x: the identity path of a residual block."""

    @property
    def linear(self) -> bool:
        return True

    def linearise(self, source: Tensor) -> Linearised:
        return _LinearisedSkip(source)


class _LinearisedSkip(Linearised):
    def __init__(self, source: Tensor) -> None:
        self.prediction = source

    def push(self, direction: Tensor) -> Tensor:
        return direction

    def pull(self, gradient: Tensor) -> Tensor:
        return gradient

    def directional_derivative(self, gradient: Tensor, direction: Tensor) -> Tensor:
        return torch.zeros_like(direction)

    def second_order(self, signal: Tensor) -> SecondOrder:
        return ConstantJacobian()

    def weight_gradients(self, gradient: Tensor) -> dict[str, Tensor]:
        return {}


class _Weighted(Layer, abc.ABC):
    """What `Dense` and `ActiveDense` share: a matrix, a bias, an activation and a fixed scale."""

    def __init__(
        self,
        sources: int,
        targets: int,
        activation: Activation | None = None,
        bias: bool = True,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_sizes(sources=sources, targets=targets)
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale must be a finite number > 0, got {scale}")
        self.weight = nn.Parameter(torch.empty(targets, sources))
        self.bias = nn.Parameter(torch.zeros(targets)) if bias else None
        self.activation = activation or Identity()
        self.scale = scale
        nn.init.normal_(self.weight, std=sources**-0.5)

    @property
    def linear(self) -> bool:
        return isinstance(self.activation, Identity)

    def extra_repr(self) -> str:
        targets, sources = self.weight.shape
        return f"{sources}, {targets}, {self.activation}, bias={self.bias is not None}, scale={self.scale:g}"

    def scaled(self, x: Tensor) -> Tensor:
        """The fixed scale times x."""
        return x if self.scale == 1 else self.scale * x

    def parameter_gradients(self, gradient: Float[Tensor, "B M"], sent: Float[Tensor, "B N"]) -> dict[str, Tensor]:
        """Of W and b, from the gradient in W sent + b."""
        bias = {} if self.bias is None else {"bias": gradient.sum(0)}
        return {"weight": gradient.T @ sent} | bias


class Dense(_Weighted):
    """mu = scale * f(W x + b).

    Args:
        sources: units of the source.
        targets: units of the target.
        activation: f; None is the identity.
        bias: whether there is a b.
        scale: fixed factor > 0.
    """

    def linearise(self, source: Tensor) -> Linearised:
        return _LinearisedDense(self, source)

    def linearised(self, source: Float[Tensor, "B N"], activity: Float[Tensor, "B M"]) -> Linearised:
        """`linearise` where f(W x + b) is known already, for activations whose derivatives follow from it (see `IN_PLACE`)."""
        return _LinearisedDense(self, source, activity)


class _LinearisedDense(Linearised):
    def __init__(self, layer: Dense, source: Tensor, activity: Tensor | None = None) -> None:
        self.layer, self.source, self.weight = layer, source, layer.weight
        self.input = functional.linear(source, self.weight, layer.bias) if activity is None else activity
        self.activity = layer.activation(self.input) if activity is None else activity
        self.prediction = layer.scaled(self.activity)
        self.derivative = None if layer.linear else layer.activation.derivative(self.input, self.activity)

    def _through(self, x: Tensor) -> Tensor:
        """x times f' and the scale."""
        return self.layer.scaled(x if self.derivative is None else x * per_direction(self.derivative, x))

    def push(self, direction: Tensor) -> Tensor:
        return self._through(functional.linear(direction, self.weight))

    def pull(self, gradient: Tensor) -> Tensor:
        return self._through(gradient) @ self.weight

    def directional_derivative(self, gradient: Tensor, direction: Tensor) -> Tensor:
        if self.derivative is None:
            return torch.zeros_like(direction)
        curved = self.layer.activation.second_derivative(self.input, self.activity) * functional.linear(
            direction, self.weight
        )
        return self.layer.scaled(gradient * curved) @ self.weight

    def second_order(self, signal: Tensor) -> SecondOrder:
        if self.derivative is None:
            return ConstantJacobian(self.layer.scaled(self.weight))
        second = self.layer.activation.second_derivative(self.input, self.activity)
        return ActivatedOutput(self.weight, self.layer.scaled(self.derivative), self.layer.scaled(signal * second))

    def weight_gradients(self, gradient: Tensor) -> dict[str, Tensor]:
        return self.layer.parameter_gradients(self._through(gradient), self.source)


class ActiveDense(_Weighted):
    """mu = scale * (W f(x) + b): the source's activity f(x) is what is sent.

    Args:
        sources: units of the source.
        targets: units of the target.
        activation: f; None is the identity.
        bias: whether there is a b.
        scale: fixed factor > 0.
    """

    def linearise(self, source: Tensor) -> Linearised:
        return _LinearisedActiveDense(self, source)


class _LinearisedActiveDense(Linearised):
    def __init__(self, layer: ActiveDense, source: Tensor) -> None:
        self.layer, self.source = layer, source
        self.activity = layer.activation(source)
        self.derivative = None if layer.linear else layer.activation.derivative(source, self.activity)
        self.prediction = layer.scaled(functional.linear(self.activity, layer.weight, layer.bias))

    def _through(self, x: Tensor) -> Tensor:
        return self.layer.scaled(x if self.derivative is None else x * per_direction(self.derivative, x))

    def push(self, direction: Tensor) -> Tensor:
        return functional.linear(self._through(direction), self.layer.weight)

    def pull(self, gradient: Tensor) -> Tensor:
        return self._through(gradient @ self.layer.weight)

    def directional_derivative(self, gradient: Tensor, direction: Tensor) -> Tensor:
        if self.derivative is None:
            return torch.zeros_like(direction)
        curved = self.layer.activation.second_derivative(self.source, self.activity) * direction
        return self.layer.scaled(gradient @ self.layer.weight) * curved

    def second_order(self, signal: Tensor) -> SecondOrder:
        weight = self.layer.scaled(self.layer.weight)
        if self.derivative is None:
            return ConstantJacobian(weight)
        return ActivatedSource(
            weight,
            self.derivative,
            (signal @ weight) * self.layer.activation.second_derivative(self.source, self.activity),
        )

    def weight_gradients(self, gradient: Tensor) -> dict[str, Tensor]:
        return self.layer.parameter_gradients(self.layer.scaled(gradient), self.activity)


class AutogradLayer(Layer):
    """Any `torch.nn.Module` as a layer, its derivatives by automatic differentiation.

    What to use for a layer of your own and for convolutions. The module must treat every row alone (no batch
    normalisation) and be deterministic (no dropout while values are inferred). torch's own `LayerNorm` has wrong third
    derivatives: only `push` under gradients needs those, so write the norm out to unroll a solver that pushes.

    Args:
        module: takes (B, N) and returns (B, M).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        mixing = [type(part).__name__ for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        if mixing:
            raise ValueError(f"module has a {mixing[0]}, which mixes the rows of a batch; use a norm of each row")
        self.module = module

    @property
    def linear(self) -> bool:
        return _affine(self.module)

    def linearise(self, source: Tensor) -> Linearised:
        return _LinearisedByAutograd(self.module, source)


class _LinearisedByAutograd(Linearised):
    def __init__(self, module: nn.Module, source: Tensor) -> None:
        self.module = module
        self.differentiable = torch.is_grad_enabled()
        self.source = source if self.differentiable and source.requires_grad else source.detach().requires_grad_()
        self.run = module if self.differentiable else _without_weights(module)
        with torch.enable_grad():
            self.output = self.run(self.source)
        self.prediction = self.output if self.differentiable else self.output.detach()

    def _pull(self, gradient: Tensor, create_graph: bool) -> Tensor:
        with torch.enable_grad():
            (pulled,) = torch.autograd.grad(
                self.output, self.source, gradient, retain_graph=True, create_graph=create_graph, materialize_grads=True
            )
        return pulled

    def pull(self, gradient: Tensor) -> Tensor:
        if gradient.dim() == 2:
            return self._pull(gradient, self.differentiable)
        return torch.stack(
            [self._pull(part, self.differentiable) for part in gradient.expand(len(self.source), -1, -1).unbind(1)], 1
        )

    def push(self, direction: Tensor) -> Tensor:
        if direction.dim() == 3:
            return torch.stack([self.push(part) for part in direction.unbind(1)], 1)
        # Twice backwards: the pull is linear in its gradient, so its own transposed Jacobian is the Jacobian.
        probe = torch.zeros_like(self.output).requires_grad_()
        pulled = self._pull(probe, create_graph=True)
        (pushed,) = (
            torch.autograd.grad(
                pulled, probe, direction, retain_graph=True, create_graph=self.differentiable, materialize_grads=True
            )
            if pulled.requires_grad
            else (torch.zeros_like(self.output),)
        )
        return pushed

    def directional_derivative(self, gradient: Tensor, direction: Tensor) -> Tensor:
        # Under gradients the gradient given may itself come from this source: take the derivative at a copy of it.
        here = _LinearisedByAutograd(self.module, self.source.view_as(self.source)) if self.differentiable else self
        pulled = here._pull(gradient, create_graph=True)
        if not pulled.requires_grad:
            return torch.zeros_like(direction)
        (changed,) = torch.autograd.grad(
            pulled, here.source, direction, retain_graph=True, create_graph=self.differentiable, materialize_grads=True
        )
        return changed

    def second_order(self, signal: Tensor) -> SecondOrder:
        return _SecondOrderByAutograd(self, signal)

    def weight_gradients(self, gradient: Tensor) -> dict[str, Tensor]:
        learned = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        if not learned:
            return {}
        with torch.enable_grad():
            prediction = self.module(self.source.detach())
            gradients = torch.autograd.grad(prediction, list(learned.values()), gradient, materialize_grads=True)
        return {f"module.{name}": value for name, value in zip(learned, gradients)}


class _SecondOrderByAutograd(SecondOrder):
    def __init__(self, part: _LinearisedByAutograd, signal: Tensor) -> None:
        self.part, self.signal = part, signal

    def push(self, direction: Tensor, onto: Tensor | None) -> tuple[Tensor, Tensor]:
        pushed = self.part.push(direction)
        return (pushed if onto is None else onto + pushed), direction

    def pull(self, gradient: Tensor, direction: Tensor) -> Tensor:
        return self.part.pull(gradient) + self.part.directional_derivative(self.signal, direction)


_AFFINE = (
    *(nn.Linear, nn.Identity, nn.Flatten, nn.Unflatten),
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
)
"""Modules known to be affine; exactly these, since a subclass may compute anything."""


def _affine(module: nn.Module) -> bool:
    """Whether a module is known to be affine in its input."""
    return all(map(_affine, module)) if type(module) is nn.Sequential else type(module) in _AFFINE


def _without_weights(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The module with its weights held: no gradient is prepared for what inference does not change."""
    held = {name: p.detach() for name, p in (*module.named_parameters(), *module.named_buffers())}
    return lambda source: functional_call(module, held, (source,))
