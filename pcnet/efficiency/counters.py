"""What a call really executes, seen from torch's dispatcher: the independent check on every model's analytic count.

A matrix product is what torch's own counter takes for one (mm, addmm, bmm, ...) or the solution of a dense linear system.
A product written as elementwise multiplication and a sum is invisible here; a model's own count includes it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry


def count_flops(call: Callable[[], object]) -> float:
    """Floating-point operations of the matrix products that `call` executes; a multiply-add is two.

    A dense n x n system counts 2/3 n^3 for its factors and 2 n^2 for each right-hand side.

    Args:
        call: runs what is counted; its gradients, too, if it takes any.
    """
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten._linalg_solve_ex: _solve_flops})
    with _unfused(), counter:
        call()
    return counter.get_total_flops()


def measure_depth(call: Callable[[], object]) -> int:
    """Longest chain of matrix products, each needing the one before, that ends in the tensors `call` returns.

    A value that the host reads (has every row converged?) holds up everything that is started after it: it is a link of
    the chain although no tensor carries it on. Views share the depth of their storage, so a buffer written piece by piece
    is as deep as its deepest piece: step a model token by token to see the wave through stacked recurrent layers.

    Args:
        call: runs what is measured.

    Raises:
        ValueError: no tensor is returned.
    """
    tracker = _ProductDepth()
    with _unfused(), tracker:
        answer = call()
    tensors = _tensors(answer)
    if not tensors:
        raise ValueError(f"call must return tensors, got a {type(answer).__name__}")
    return tracker.depth(tensors)


class _ProductDepth(TorchDispatchMode):
    """Knows for every storage how many matrix products, one after another, made it."""

    def __init__(self) -> None:
        super().__init__()
        self._depths: dict[StorageWeakRef, int] = {}
        self._read_by_host = 0

    def depth(self, tensors: list[Tensor]) -> int:
        return max((self._depths.get(_storage(tensor), 0) for tensor in tensors), default=0)

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        inputs = _tensors((args, kwargs))
        depth = max(self._read_by_host, self.depth(inputs)) + _is_product(function)
        result = function(*args, **(kwargs or {}))
        if isinstance(result, bool | int | float):
            self._read_by_host = depth
        for tensor in _tensors(result) or inputs:  # what returns no tensor may have written into its arguments
            self._depths[_storage(tensor)] = depth
        return result


def _is_product(function: Any) -> bool:
    packet = function.overloadpacket
    return packet in flop_registry or packet is torch.ops.aten._linalg_solve_ex


def _solve_flops(matrix: torch.Size, right_side: torch.Size, *_: object, out_shape: object = None) -> float:
    columns = prod(right_side) / prod(matrix[:-1])
    return prod(matrix[:-2]) * (2 * matrix[-1] ** 3 / 3 + 2 * matrix[-1] ** 2 * columns)


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@contextmanager
def _unfused() -> Iterator[None]:
    """Attention and recurrent layers run product by product, not as one kernel that no counter sees into."""
    libraries = torch.backends.mkldnn, torch.backends.cudnn
    before = [library.enabled for library in libraries]
    try:
        for library in libraries:
            library.enabled = False  # not `flags()`, which also sets precisions and warns of them
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for library, enabled in zip(libraries, before, strict=True):
            library.enabled = enabled
