"""How long one call takes: every call timed alone, so that the slow ones show."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pcnet.processes import HiddenMarkovModel, sample

WARM_UP_CALLS = 3


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call.

    Attributes:
        p50_ms: median.
        p90_ms: 90th percentile.
        runs: calls that were timed.
    """

    p50_ms: float
    p90_ms: float
    runs: int


@torch.no_grad()
def latency(
    model: nn.Module,
    process: HiddenMarkovModel,
    *,
    batch: int,
    length: int,
    threads: int,
    device: torch.device | str = "cpu",
    generator: torch.Generator,
    min_runs: int = 30,
    min_seconds: float = 1.0,
) -> Latency:
    """Time single calls of `model` on fresh sequences until there are enough of them and enough time has gone by.

    Every call is timed on its own, from the host, with the device idle before and done after it; blocks of calls, as
    `torch.utils.benchmark` takes them, would average the slow ones away. Calls differ in their sequences, so inference
    that takes longer on some tokens shows in the 90th percentile. The sequences are drawn and moved beforehand.

    Args:
        model: takes tokens; on `device`, timed in the mode it is in.
        process: what typical sequences are drawn from.
        batch: sequences per call.
        length: tokens per sequence.
        threads: of torch's CPU operations; set while this lasts.
        device: where the model is.
        generator: of the sequences; `min_runs` batches are drawn and then reused in turn.
        min_runs: calls to time at least.
        min_seconds: time to go on for at least.

    Raises:
        ValueError: a size is below one, or the time isn't a finite number >= 0.
    """
    for name, size in (("batch", batch), ("min_runs", min_runs)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    if not 0 <= min_seconds < float("inf"):
        raise ValueError(f"min_seconds must be a finite number >= 0, got {min_seconds}")
    tokens = sample(process, batch * min_runs, length, generator).to(device)
    calls = (lambda rows=rows: model(rows) for rows in itertools.cycle(tokens.split(batch)))
    with num_threads(threads):
        seconds = _timed(calls, torch.device(device), min_runs, min_seconds)
    p50, p90 = 1e3 * np.quantile(seconds, [0.5, 0.9])
    return Latency(float(p50), float(p90), len(seconds))


def _timed(
    calls: Iterator[Callable[[], object]], device: torch.device, min_runs: int, min_seconds: float
) -> list[float]:
    for call in itertools.islice(calls, WARM_UP_CALLS):
        call()
    seconds: list[float] = []
    while len(seconds) < min_runs or sum(seconds) < min_seconds:
        synchronize(device)
        begin = time.perf_counter()
        next(calls)()
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return seconds


@contextmanager
def num_threads(threads: int) -> Iterator[None]:
    """Let torch's CPU operations use this many threads while this lasts.

    Raises:
        ValueError: there is no thread.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was asked; a CPU always has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
