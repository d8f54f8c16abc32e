"""The tables of a belief comparison. Losses in nats per token, latencies in milliseconds, memory in bytes."""

from pcnet.tables import Schema

SCHEMA = Schema(
    training="model:text seed step tokens loss floor excess",
    probes="model:text trained:flag scale seed site:text headline:flag target:text control:text offset:flag position:text"
    " iteration:text weights:text fold_seed r2 rmse rows n_eff features alpha alpha_at_edge:flag",
    verdicts="model:text seed site:text answer:text probe:text control:text gain p_value population_r2 rows n_eff features"
    " departures:text",
    excess="model:text seed iteration:text excess",
    cost="model:text device:text threads batch length tolerance parameters flops latency_p50_ms latency_p90_ms"
    " sequential_depth iterations_p50 iterations_p90 peak_bytes",
    inference="model:text seed tokens converged diverged unconverged residual_max iterations_p50 iterations_p90",
    checks="model:text seed check:text value reference difference bound passed:flag",
)

EQUILIBRIUM = "equilibrium"
"""What the column `iteration` says of a model at its equilibrium, and of one that has no inference."""
