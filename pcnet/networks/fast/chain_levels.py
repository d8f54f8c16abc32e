"""The levels of a dense chain while its values move: everything in place.

A `Level` l >= 2 holds its value x, its prediction mu and the error e = x - mu, which gives way to d = e act'(a) once the value
has moved. It is predicted from the `Values` of the level below, which move by its d. Level 1 has a prediction that never
changes, so its values are linear in all d that have reached it, and there are two ways to keep them: as they are, or folded into
the weights that read them.
"""

import abc
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from pcnet.networks.activations import Activation, Identity, LeakyReLU, ReLU, Tanh, tanh_of_half

THIN = 64
"""A level of fewer units than this is stored transposed: its products take half the time on a CPU."""


class InPlace(abc.ABC):
    """An activation that works in place: act(a) is what `apply` makes of inner a.

    Attributes:
        inner: a factor that costs nothing, for it goes into the matrix product before.
    """

    inner: float = 1.0

    @abc.abstractmethod
    def apply(self, a: Tensor) -> None:
        """Replace inner a by act(a)."""

    @abc.abstractmethod
    def times_derivative(self, error: Tensor, prediction: Tensor) -> Tensor:
        """Replace e by e act'(a), given act(a), and return it."""


class InPlaceTanh(InPlace):
    """tanh(a), see `tanh_of_half`."""

    inner = 2.0

    def apply(self, a: Tensor) -> None:
        tanh_of_half(a, out=a)

    def times_derivative(self, error: Tensor, prediction: Tensor) -> Tensor:
        return torch.ops.aten.tanh_backward.grad_input(error, prediction, grad_input=error)


class InPlaceIdentity(InPlace):
    """a."""

    def apply(self, a: Tensor) -> None:
        pass

    def times_derivative(self, error: Tensor, prediction: Tensor) -> Tensor:
        return error


class InPlaceLeakyReLU(InPlace):
    """max(a, leak a).

    Args:
        leak: derivative on the negative side, and at 0; in [0, 1].
    """

    def __init__(self, leak: float) -> None:
        self.leak = leak

    def apply(self, a: Tensor) -> None:
        functional.leaky_relu_(a, self.leak)

    def times_derivative(self, error: Tensor, prediction: Tensor) -> Tensor:
        return torch.ops.aten.leaky_relu_backward.grad_input(error, prediction, self.leak, True, grad_input=error)


IN_PLACE: dict[type[Activation], Callable[[Activation], InPlace]] = {
    Tanh: lambda activation: InPlaceTanh(),
    Identity: lambda activation: InPlaceIdentity(),
    ReLU: lambda activation: InPlaceLeakyReLU(0.0),
    LeakyReLU: lambda activation: InPlaceLeakyReLU(activation.leak),
}
"""The activations that have a `InPlace`."""


class Buffers:
    """Memory that is handed out again under the same name for as long as its shape stays."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, width: int, like: Float[Tensor, "B _"]) -> Float[Tensor, "B D"]:
        """A (B, width) tensor of any content, with the rows, type and device of `like`."""
        held, rows = self._held.get(name), like.shape[0]
        if held is None or held.shape != (rows, width) or held.dtype != like.dtype or held.device != like.device:
            held = like.new_empty(width, rows).t() if width < THIN else like.new_empty(rows, width)
            self._held[name] = held
        return held


class Link(NamedTuple):
    """What predicts a level from the one below."""

    weight: Float[Tensor, "M N"]
    bias: Float[Tensor, " M"] | None
    activation: InPlace

    def drive(self, x: Float[Tensor, "B N"], out: Float[Tensor, "B M"]) -> Float[Tensor, "B M"]:
        """inner a = inner (W x + b)."""
        bias, beta = (out, 0.0) if self.bias is None else (self.bias, self.activation.inner)
        return torch.addmm(bias, x, self.weight.t(), beta=beta, alpha=self.activation.inner, out=out)


class Values(abc.ABC):
    """The values of a free level, as the level above deals with them."""

    @abc.abstractmethod
    def drive(self, out: Float[Tensor, "B M"]) -> None:
        """Write inner a of the level above."""

    @abc.abstractmethod
    def move(self, answer: Float[Tensor, "B M"], step_size: float) -> None:
        """Take one Euler step, given d of the level above."""


class Level:
    """A level l >= 2.

    Args:
        number: l.
        link: what predicts it.
        below: the values that it is predicted from.
        buffers: where its memory comes from.
        like: a tensor with the rows, type and device of the run.
    """

    def __init__(self, number: int, link: Link, below: Values, buffers: Buffers, like: Float[Tensor, "B _"]) -> None:
        self.activation, self.below = link.activation, below
        names = (f"{kind} {number}" for kind in ("value", "prediction", "error"))
        self.value, self.prediction, self.error = (buffers.take(name, len(link.weight), like) for name in names)

    def start(self) -> None:
        """Put the value at the prediction."""
        self.value.copy_(self.prediction)
        self.error.zero_()

    def predict(self) -> None:
        """mu, from the values below."""
        self.below.drive(self.prediction)
        self.activation.apply(self.prediction)

    def compare(self) -> None:
        """e = x - mu."""
        torch.sub(self.value, self.prediction, out=self.error)

    def answer(self) -> Float[Tensor, "B D"]:
        """d, which takes the place of e."""
        return self.activation.times_derivative(self.error, self.prediction)


class FreeValues(Values):
    """The values of a level l >= 2: x <- x - h e + h W^T d.

    Args:
        level: whose values they are.
        link: what predicts the level above.
    """

    def __init__(self, level: Level, link: Link) -> None:
        self._level, self._link = level, link

    def drive(self, out: Tensor) -> None:
        self._link.drive(self._level.value, out)

    def move(self, answer: Tensor, step_size: float) -> None:
        self._level.value.add_(self._level.error, alpha=-step_size).addmm_(answer, self._link.weight, alpha=step_size)


class FirstValues(Values):
    """The values of level 1.

    Attributes:
        constant: inner a of level 2 where level 1 is at its prediction.
    """

    constant: Float[Tensor, "B M"]

    @abc.abstractmethod
    def error(self) -> Float[Tensor, "B N"]:
        """e_1 as it is now, in memory of its own."""


class PlainValues(FirstValues):
    """Level 1 as its error: e <- (1-h) e + h W^T d. Two products a step.

    Args:
        start: e at the start, which is overwritten; None is zero.
        constant: see `FirstValues`.
        link: what predicts level 2.
        buffers: where memory comes from.
    """

    def __init__(self, start: Tensor | None, constant: Tensor, link: Link, buffers: Buffers) -> None:
        self.constant, self._weight, self._inner = constant, link.weight, link.activation.inner
        self._error = buffers.take("error 1", link.weight.shape[1], constant).zero_() if start is None else start

    def drive(self, out: Tensor) -> None:
        torch.addmm(self.constant, self._error, self._weight.t(), alpha=self._inner, out=out)

    def move(self, answer: Tensor, step_size: float) -> None:
        self._error.addmm_(answer, self._weight, beta=1 - step_size, alpha=step_size)

    def error(self) -> Tensor:
        return self._error.clone()


class FoldedValues(FirstValues):
    """Level 1 as a weighted sum of all d that have reached it: D <- (1-h) D + h d. One product a step, with W W^T.

    After k steps e = (1-h)^k e(0) + W^T D, and what level 2 sees of it is (1-h)^k W e(0) + (W W^T) D.

    Args:
        start: e at the start, which is kept; None is zero.
        constant: see `FirstValues`.
        link: what predicts level 2.
        buffers: where memory comes from.
    """

    def __init__(self, start: Tensor | None, constant: Tensor, link: Link, buffers: Buffers) -> None:
        self.constant = self._offset = constant
        self._start, self._decay, self._weight, self._inner = start, 1.0, link.weight, link.activation.inner
        transposed, width = link.weight.t(), len(link.weight)
        if start is not None:
            offset = buffers.take("offset", width, constant)
            self._offset = torch.addmm(constant, start, transposed, alpha=self._inner, out=offset)
        self._sum = buffers.take("sum", width, constant).zero_()
        self._gram = torch.mm(link.weight, transposed, out=buffers.take("gram", width, link.weight))

    def drive(self, out: Tensor) -> None:
        torch.addmm(self._offset, self._sum, self._gram, alpha=self._inner, out=out)

    def move(self, answer: Tensor, step_size: float) -> None:
        self._sum.lerp_(answer, step_size)
        self._decay *= 1 - step_size
        if self._start is not None:
            self._offset.lerp_(self.constant, step_size)

    def error(self) -> Tensor:
        error = self._sum @ self._weight
        return error if self._start is None else error.add_(self._start, alpha=self._decay)
