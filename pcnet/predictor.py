"""The contract that every sequence model keeps: predictive coding, transformer, recurrent network."""

import abc

from jaxtyping import Float, Int
from torch import Tensor, nn

from pcnet.typing import State


class Predictor(nn.Module, abc.ABC):
    """A causal model of token sequences.

    Attributes:
        vocab_size: number of distinct tokens.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        check_sizes(vocab_size=vocab_size)
        self.vocab_size = vocab_size

    @abc.abstractmethod
    def forward(self, tokens: Int[Tensor, "B L"]) -> Float[Tensor, "B L V"]:
        """Logits for token t+1 after tokens 0..t; nothing later than t is looked at."""

    @abc.abstractmethod
    def start(self, batch_size: int) -> State:
        """What the model remembers before the first token, batch first."""

    @abc.abstractmethod
    def step(self, memory: State, tokens: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B V"], State]:
        """One token further: logits for the next token, and the new memory. Equal to `forward`, token by token."""

    @abc.abstractmethod
    def flops(self, length: int, iterations: float) -> float:
        """Floating-point operations of the matrix products for one sequence (a multiply-add is two).

        Args:
            length: tokens.
            iterations: inference iterations per token; models without inference ignore it.
        """

    @abc.abstractmethod
    def sequential_depth(self, length: int, iterations: float) -> float:
        """Longest chain of matrix products of which each needs the one before, for one sequence."""

    @property
    def num_parameters(self) -> int:
        """Numbers that learning may change."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def check_tokens(self, tokens: Tensor) -> None:
        """Raise unless `tokens` is a (B, L) integer tensor within the vocabulary."""
        if tokens.ndim != 2 or tokens.dtype.is_floating_point:
            raise ValueError(
                f"tokens must be integers of shape (B, L), got {tokens.dtype} of shape {tuple(tokens.shape)}"
            )
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.vocab_size:
            raise ValueError(
                f"tokens must lie in 0..{self.vocab_size - 1}, got values from {int(tokens.min())} to {int(tokens.max())}"
            )


def check_sizes(**sizes: int) -> None:
    """Raise a ValueError that names the first size below one."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
