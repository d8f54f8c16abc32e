"""Recurrent networks: one state per layer, carried from token to token."""

import abc
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from pcnet.predictor import Predictor, check_sizes
from pcnet.sites import Site
from pcnet.typing import State


class Cell(nn.Module):
    """One layer, run over a sequence."""

    def __init__(self, recurrence: nn.RNNBase) -> None:
        super().__init__()
        self.recurrence = recurrence
        self.hidden = Site()

    def forward(self, x: Float[Tensor, "B L _"], memory: State) -> tuple[Float[Tensor, "B L D"], State]:
        initial = tuple(part.unsqueeze(0) for part in memory)  # torch wants the layer first
        hidden, final = self.recurrence(x, initial if len(initial) > 1 else initial[0])
        final = final if isinstance(final, tuple) else (final,)
        return self.hidden(hidden), tuple(part.squeeze(0) for part in final)


class Recurrent(Predictor):
    """Layers of recurrent cells on one-hot tokens with a linear read-out.

    Sites: `cells.0.hidden`, ...

    Args:
        vocab_size: distinct tokens.
        width: units per layer.
        layers: number of layers.
        scale: weights start as normal noise of standard deviation scale / sqrt(fan-in).
    """

    parts: ClassVar[int] = 1
    """Tensors that one cell carries from token to token."""

    def __init__(self, vocab_size: int, width: int = 64, layers: int = 1, scale: float = 0.6) -> None:
        super().__init__(vocab_size)
        check_sizes(width=width, layers=layers)
        self.width = width
        self.cells = nn.ModuleList(
            Cell(self.recurrence(vocab_size if index == 0 else width, width)) for index in range(layers)
        )
        self.readout = nn.Linear(width, vocab_size)
        self._initialise(scale)

    @abc.abstractmethod
    def recurrence(self, inputs: int, width: int) -> nn.RNNBase:
        """One layer of the kind of cell."""

    @torch.no_grad()
    def _initialise(self, scale: float) -> None:
        for parameter in self.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0.0, scale / parameter.shape[1] ** 0.5)
            else:
                parameter.zero_()

    def forward(self, tokens: Int[Tensor, "B L"]) -> Float[Tensor, "B L V"]:
        self.check_tokens(tokens)
        return self._advance(self.start(tokens.shape[0]), tokens)[0]

    def start(self, batch_size: int) -> State:
        """Zeros: hidden units of every layer (and the cell state that an LSTM has beside them)."""
        count = self.parts * len(self.cells)
        return tuple(self.readout.weight.new_zeros(batch_size, self.width) for _ in range(count))

    def step(self, memory: State, tokens: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B V"], State]:
        logits, memory = self._advance(memory, tokens.unsqueeze(1))
        return logits.squeeze(1), memory

    def _advance(self, memory: State, tokens: Int[Tensor, "B L"]) -> tuple[Float[Tensor, "B L V"], State]:
        x = functional.one_hot(tokens, self.vocab_size).to(self.readout.weight.dtype)
        carried: list[Tensor] = []
        for index, cell in enumerate(self.cells):
            x, parts = cell(x, memory[self.parts * index : self.parts * (index + 1)])
            carried += parts
        return self.readout(x), tuple(carried)

    def flops(self, length: int, iterations: float) -> float:
        """Every matrix is used once per token."""
        return length * 2 * sum(parameter.numel() for parameter in self.parameters() if parameter.ndim == 2)

    def sequential_depth(self, length: int, iterations: float) -> float:
        """Layers run as a wave: token t of a layer needs token t-1 of the layer and token t below; then the read-out."""
        return length + len(self.cells)


class RNN(Recurrent):
    """h = tanh(W x + R h). See `Recurrent`."""

    def recurrence(self, inputs: int, width: int) -> nn.RNN:
        return nn.RNN(inputs, width, batch_first=True)


class GRU(Recurrent):
    """Gated recurrent units (Cho et al. 2014). See `Recurrent`."""

    def recurrence(self, inputs: int, width: int) -> nn.GRU:
        return nn.GRU(inputs, width, batch_first=True)


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997). See `Recurrent`."""

    parts = 2

    def recurrence(self, inputs: int, width: int) -> nn.LSTM:
        return nn.LSTM(inputs, width, batch_first=True)
