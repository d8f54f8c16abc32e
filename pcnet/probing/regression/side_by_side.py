"""Independent pieces of linear algebra, each on a core of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(job: Callable[[Item], Result], items: Sequence[Item], wide: bool) -> list[Result]:
    """Results in order, computed by as many threads as torch may use.

    The matrices of a probe are small: a thread each for two of them takes half the time of two threads for one after the
    other. Threads of the linear algebra itself are kept at one meanwhile.

    Args:
        job: spends its time in numpy.
        items: what it is called with.
        wide: whether a piece is large enough for a thread; if not, one after the other.
    """
    workers = min(torch.get_num_threads(), len(items))
    if workers < 2 or not wide:
        return [job(item) for item in items]
    with _libraries().limit(limits=1), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(job, items))


@cache
def _libraries() -> ThreadpoolController:
    """Looking for them takes milliseconds."""
    return ThreadpoolController()
