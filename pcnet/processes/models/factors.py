"""How what the factors of a product do is numbered: tokens and states count like digits, the last factor running fastest."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from pcnet.processes.models.hmm import Process


def joined(sizes: Sequence[int], parts: Sequence[Int[Tensor, "*shape"]]) -> Int[Tensor, "*shape"]:
    """One number for what the factors' numbers are, the last factor's running fastest."""
    whole = parts[0]
    for size, part in zip(sizes[1:], parts[1:], strict=True):
        whole = whole * size + part
    return whole


def factor_tokens(factors: Sequence[Process], tokens: Int[Tensor, "*shape"]) -> list[Int[Tensor, "*shape"]]:
    """The factors' tokens again."""
    parts = []
    for factor in reversed(factors[1:]):
        rest = tokens // factor.vocab_size
        parts.append(tokens - rest * factor.vocab_size)
        tokens = rest
    return [tokens, *reversed(parts)]


def outer(parts: Sequence[Float[Tensor, "... S"]]) -> Float[Tensor, "... product"]:
    """What stands in the product's space for one vector of each factor: their Kronecker product."""
    whole = parts[0]
    for part in parts[1:]:
        whole = (whole.unsqueeze(-1) * part.unsqueeze(-2)).flatten(-2)
    return whole
