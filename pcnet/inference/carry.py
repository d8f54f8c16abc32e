"""A solver's memory: nested tuples of batch-first tensors, of which single rows can be taken or replaced."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def select(carry: Any, index: Int[Tensor, " R"]) -> Any:
    """The memory of some rows only."""
    return _map(lambda tensor: tensor[index], carry)


def merge(chosen: Bool[Tensor, " B"], new: Any, old: Any) -> Any:
    """The new memory in the chosen rows, the old one in the others."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(chosen.view(-1, *[1] * (a.ndim - 1)), a, b)

    return _map(pick, new, old)


def overwrite(carry: Any, index: Int[Tensor, " R"], rows: Any) -> Any:
    """A copy of the memory with other rows at these places."""
    return _map(lambda whole, part: whole.index_copy(0, index, part), carry, rows)


def _map(function: Callable[..., Tensor], *carries: Any) -> Any:
    first = carries[0]
    if isinstance(first, Tensor):
        return function(*carries)
    if not isinstance(first, tuple):
        raise TypeError(f"a carry is made of nested tuples of tensors, got a {type(first).__name__}")
    parts = [_map(function, *group) for group in zip(*carries, strict=True)]
    return tuple(parts) if type(first) is tuple else type(first)(*parts)
