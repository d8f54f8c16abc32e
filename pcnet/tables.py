"""The run's tidy tables, and how files come into being: whole, or not at all."""

import os
from pathlib import Path

COLUMNS = {
    "training": "model seed step tokens loss floor excess".split(),
    "probes": "model trained gain seed site headline target control offset position iteration weights fold_seed r2 rmse"
    " rows n_eff features alpha alpha_at_edge".split(),
    "excess": "model seed iteration excess".split(),
    "cost": "model device threads batch length tolerance parameters flops latency_p50_ms latency_p90_ms"
    " sequential_depth iterations_p50 iterations_p90 peak_bytes".split(),
    "inference": "model seed tokens converged diverged unconverged residual_max iterations_p50 iterations_p90".split(),
    "checks": "model seed check value reference difference bound passed".split(),
}
"""Columns of each table, in order. Losses in nats per token, latencies in milliseconds, memory in bytes."""

EQUILIBRIUM = "equilibrium"
"""What the column `iteration` says of a model at its equilibrium, and of one that has no inference."""


def replace_file(path: Path, content: bytes) -> Path:
    """Write a file so that it appears under its name only when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    return temporary.replace(path)
