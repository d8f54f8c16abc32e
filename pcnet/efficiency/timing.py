"""How long one call takes: every call timed alone, so that the slow ones show."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from pcnet.predictor import check_sizes
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


@dataclass(frozen=True)
class Bench:
    """Where and for how long calls are timed.

    Args:
        threads: of torch's CPU operations, while calls are measured.
        device: where the model is.
        seed: of the sequences; with the same one every model answers the same.
        min_runs: calls to time at least; as many batches are drawn, and then reused in turn.
        min_seconds: time to go on for at least.

    Raises:
        ValueError: a number is below one, or the time isn't a finite number >= 0.
    """

    threads: int = 1
    device: torch.device | str = "cpu"
    seed: int = 0
    min_runs: int = 30
    min_seconds: float = 1.0

    def __post_init__(self) -> None:
        check_sizes(threads=self.threads, min_runs=self.min_runs)
        if not 0 <= self.min_seconds < float("inf"):
            raise ValueError(f"min_seconds must be a finite number >= 0, got {self.min_seconds}")

    def draw(self, process: HiddenMarkovModel, sequences: int, length: int) -> Int[Tensor, "B L"]:
        """Typical sequences, on the device."""
        return sample(process, sequences, length, torch.Generator().manual_seed(self.seed)).to(self.device)


@torch.no_grad()
def latency(model: nn.Module, process: HiddenMarkovModel, batch: int, length: int, bench: Bench) -> Latency:
    """Time single calls of `model` on fresh sequences until there are enough of them and enough time has gone by.

    Every call is timed on its own, from the host, with the device idle before and done after it; blocks of calls, as
    `torch.utils.benchmark` takes them, would average the slow ones away. Calls differ in their sequences, so inference
    that takes longer on some tokens shows in the 90th percentile. The sequences are drawn and moved beforehand.

    Args:
        model: takes tokens; on the bench's device, timed in the mode it is in.
        process: what typical sequences are drawn from.
        batch: sequences per call.
        length: tokens per sequence.
        bench: threads, device and time.

    Raises:
        ValueError: a size is below one.
    """
    check_sizes(batch=batch)
    tokens = bench.draw(process, batch * bench.min_runs, length)
    calls = (lambda rows=rows: model(rows) for rows in itertools.cycle(tokens.split(batch)))
    with num_threads(bench.threads):
        seconds = _timed(calls, torch.device(bench.device), bench.min_runs, bench.min_seconds)
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
    check_sizes(threads=threads)
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
