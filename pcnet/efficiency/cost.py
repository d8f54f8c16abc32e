"""The bill of one model: what a run's cost table holds."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.efficiency.memory import peak_memory
from pcnet.efficiency.timing import Bench, latency, num_threads
from pcnet.predictor import Predictor, check_sizes
from pcnet.processes import HiddenMarkovModel
from pcnet.sites import Iterates, capture

TYPICAL_SEQUENCES = 256
"""Sequences on which inference iterations are counted."""


@dataclass(frozen=True)
class Cost:
    """One row of the cost table: one model answering batches of one size.

    Attributes:
        model: its name.
        device: where it ran.
        threads: of torch's CPU operations.
        batch: sequences per call.
        length: tokens per sequence.
        tolerance: rms of the energy's gradient at which inference stops; NaN for models without inference, like
            everything about iterations.
        parameters: trained numbers.
        flops: of the matrix products for one sequence alone, at the mean number of iterations. A batch executes more per
            sequence: it goes on until its slowest row has converged.
        latency_p50_ms: median time of one call.
        latency_p90_ms: 90th percentile.
        sequential_depth: longest chain of dependent matrix products for one sequence, at the mean number of iterations.
        iterations_p50: median inference iterations per token.
        iterations_p90: 90th percentile.
        peak_bytes: see `pcnet.efficiency.peak_memory`.
    """

    model: str
    device: str
    threads: int
    batch: int
    length: int
    tolerance: float
    parameters: int
    flops: float
    latency_p50_ms: float
    latency_p90_ms: float
    sequential_depth: float
    iterations_p50: float
    iterations_p90: float
    peak_bytes: float


@torch.no_grad()
def measure(
    name: str,
    model: Predictor,
    process: HiddenMarkovModel,
    length: int,
    batch_sizes: Sequence[int],
    bench: Bench | None = None,
) -> list[Cost]:
    """What an answer of `model` costs on typical sequences, one row per batch size.

    A copy is measured: the model's mode and device stay as they are. Nothing else should run meanwhile.

    Args:
        name: of the model, for the table.
        model: any predictor.
        process: what the sequences are drawn from.
        length: tokens per sequence.
        batch_sizes: sequences per call.
        bench: threads, device, seed, and how long to time each batch size; None is `Bench()`.

    Raises:
        ValueError: a size is below one, there is no batch size, or the process has other tokens than the model.
    """
    _check(model, process, length, batch_sizes)
    bench = bench or Bench()
    model = copy.deepcopy(model).to(bench.device).eval()
    with num_threads(bench.threads):
        shared = _per_sequence(model, bench.draw(process, TYPICAL_SEQUENCES, length))
        rows = []
        for batch in batch_sizes:
            timed = latency(model, process, batch, length, bench)
            peak = peak_memory(partial(model, bench.draw(process, batch, length)), bench.device)
            at = {"device": str(bench.device), "threads": bench.threads, "batch": batch, "length": length}
            times = {"latency_p50_ms": timed.p50_ms, "latency_p90_ms": timed.p90_ms}
            rows.append(Cost(model=name, **at, **shared, **times, peak_bytes=peak))
    return rows


def _per_sequence(model: Predictor, tokens: Int[Tensor, "B L"]) -> dict[str, float]:
    """What does not depend on the batch size."""
    length, steps = tokens.shape[1], _iterations(model, tokens)
    p50, p90 = np.quantile(steps, [0.5, 0.9])
    return {
        "tolerance": model.tolerance if isinstance(model, Iterates) else float("nan"),
        "parameters": model.num_parameters,
        "flops": float(model.flops(length, steps.mean())),
        "sequential_depth": float(model.sequential_depth(length, steps.mean())),
        "iterations_p50": float(p50),
        "iterations_p90": float(p90),
    }


def _iterations(model: Predictor, tokens: Int[Tensor, "B L"]) -> Float[np.ndarray, " N"]:
    """Inference iterations of every token; NaN for a model that doesn't infer."""
    if not isinstance(model, Iterates):
        return np.array([np.nan])
    steps = capture(model, tokens, list(model.diagnostic_sites))["diagnostics.steps"]
    return steps.double().flatten().cpu().numpy()


def _check(model: Predictor, process: HiddenMarkovModel, length: int, batch_sizes: Sequence[int]) -> None:
    check_sizes(length=length)
    if not batch_sizes:
        raise ValueError("batch_sizes must name at least one batch size")
    for batch in batch_sizes:
        check_sizes(batch_sizes=batch)
    if process.vocab_size != model.vocab_size:
        raise ValueError(f"process has {process.vocab_size} tokens, the model {model.vocab_size}")
