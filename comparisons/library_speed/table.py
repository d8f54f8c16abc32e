"""From what was measured to the table, and whether pcnet reaches what it set out to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from comparisons.library_speed.task import TASKS

MATRIX_OPERATIONS = {"matrix256": 2 * 256 * 256 * 256, "matrix1024": 2 * 256 * 1024 * 1024}
BASE = "pcnet"


def cores(threads: int) -> str:
    """Number of threads, in words."""
    return "1 thread" if threads == 1 else f"{threads} threads"


@dataclass(frozen=True)
class Target:
    """pcnet is to take at most `bound` of the time of `peer` on `task`."""

    task: str
    peer: str
    bound: float


TARGETS = (
    Target("small", "pcx", 0.90),
    Target("large", "pcx", 0.90),
    Target("small", "torch_tutorial", 0.25),
    Target("large", "torch_tutorial", 0.55),
)
QUIET = 0.5
"""Load before the run above which its times say little."""
BUSY = "**Other work was running (load {load:.1f} before the first measurement): times and ratios below are not to be quoted.**"
SHARE = 0.80
"""Share of the matrix rate that pcnet is to reach."""


def matrix_rate(rounds: pd.DataFrame) -> dict[str, float]:
    """Operations a second of the best burst, for each shape of matrix product."""
    best = rounds.groupby("implementation").wall_ms.min()
    return {name: count / best[name] * 1000 for name, count in MATRIX_OPERATIONS.items() if name in best}


def summarise(status: pd.DataFrame, rounds: pd.DataFrame) -> pd.DataFrame:
    """One row per task, number of threads and implementation, those that could not be timed included.

    Ratios are of times to pcnet's of the same round, so that what disturbs both cancels: their median, 10th and 90th
    percentile over the rounds.
    """
    rows = []
    for (task, threads), cell in status.groupby(["task", "threads"], sort=False):
        timed = rounds[(rounds.task == task) & (rounds.threads == threads)]
        rates = matrix_rate(timed)
        walls = timed[~timed.implementation.isin(MATRIX_OPERATIONS)].pivot(
            index="round", columns="implementation", values="wall_ms"
        )
        for row in cell.to_dict("records"):
            name = row["implementation"]
            own = timed[timed.implementation == name]
            rows.append(row | (figures(walls, own, name, TASKS[task].operations, rates) if len(own) else {}))
    return pd.DataFrame(rows)


def figures(
    walls: pd.DataFrame, own: pd.DataFrame, name: str, operations: int, rates: dict[str, float]
) -> dict[str, float]:
    """What the rounds say of one implementation."""
    share = operations / max(rates.values()) * 1000
    found = {"rounds": len(own), "median_ms": own.wall_ms.median(), "min_ms": own.wall_ms.min()}
    found |= {"min_cpu_ms": own.cpu_ms.min()} | {f"{shape}_gflops": rate / 1e9 for shape, rate in rates.items()}
    found |= {"share_min": share / found["min_ms"], "share_median": share / found["median_ms"]}
    if BASE in walls:
        ratios = (walls[name] / walls[BASE]).dropna()
        low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
        found |= {
            "ratio": middle,
            "ratio_low": low,
            "ratio_high": high,
            "ratio_min": found["min_ms"] / walls[BASE].min(),
        }
        found["pcnet_takes"] = (walls[BASE] / walls[name]).median()
    return found


def verdicts(summary: pd.DataFrame) -> list[str]:
    """A line for each thing that pcnet set out to reach and that was measured."""
    lines = []
    for (task, threads), cell in summary.groupby(["task", "threads"], sort=False):
        where, rows = f"{task}, {cores(threads)}", cell.set_index("implementation")
        for target in TARGETS:
            if target.task == task and target.peer in rows.index and pd.notna(rows.get("ratio", {}).get(target.peer)):
                row = rows.loc[target.peer]
                met = "met" if row.pcnet_takes <= target.bound else "NOT met"
                lines.append(
                    f"{where}: pcnet takes {row.pcnet_takes:.2f} of {row.label}, at most {target.bound:.2f} wanted: {met}"
                )
        if task in {target.task for target in TARGETS} and BASE in rows.index and "share_min" in rows:
            share = rows.loc[BASE].share_min
            met = "met" if share >= SHARE else "NOT met"
            lines.append(f"{where}: pcnet reaches {share:.0%} of the matrix rate, {SHARE:.0%} wanted: {met}")
    return lines


def markdown(summary: pd.DataFrame, machine: pd.Series) -> str:
    """The tables, what was measured, and the verdicts."""
    parts = ["# The same training step, by library", "", *preface(machine, summary.task.unique())]
    for (task, threads), cell in summary.groupby(["task", "threads"], sort=False):
        parts += ["", f"## {task}, {cores(threads)}", "", TASKS[task].describe() + ".", "", *grid(cell)]
    lines = verdicts(summary)
    own = summary[summary.implementation == BASE]
    if (own.status != "timed").any():
        lines.append("pcnet itself could not be timed everywhere: see the rows above")
    if lines:
        parts += ["", "## What pcnet set out to reach", "", *(f"* {line}" for line in lines)]
    notes = summary[summary.note != ""].drop_duplicates("implementation")
    parts += ["", "## Notes", "", *(f"* {label}: {note}." for label, note in zip(notes.label, notes.note))]
    return "\n".join(parts)


def preface(machine: pd.Series, tasks: Sequence[str]) -> list[str]:
    """What the columns mean, and on what machine."""
    return [
        f"{machine.processor}, {machine.cores} cores.",
        *(["", BUSY.format(load=machine.load)] if machine.load > QUIET else []),
        "",
        "One step: feed-forward start, Euler steps of the hidden values with input and target held, weight gradients at the"
        " final values, one step of Adam. `error`: largest relative difference from a float64 reference of what that"
        " implementation computes (values, gradients, step of Adam). `ms`: median and fastest turn, wall clock; compile time"
        " apart, in `first step`. `time / pcnet`: median over rounds of the ratio within a round, 10th to 90th percentile."
        " `share`: of the machine's single-precision matrix rate, measured in the same rounds, in the fastest turn, counting"
        " the products that the plain loop needs ("
        + ", ".join(f"{name} {TASKS[name].operations / 1e9:.4g} GFLOP" for name in tasks)
        + "); algebra that skips some of them counts in its favour.",
    ]


def grid(cell: pd.DataFrame) -> list[str]:
    """One cell's rows, fastest first; those that were not timed last, with the reason."""
    cell = cell.reindex(columns=[*cell.columns, *({"median_ms"} - {*cell.columns})])
    lines = [
        "| implementation | computes | versions | error | ms, median | ms, min | cpu ms, min | time / pcnet | share | first step, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for _, row in cell.sort_values("median_ms", na_position="last").iterrows():
        if pd.isna(row.median_ms):
            lines.append(f"| {row.label} | {row.status} |" + " |" * 8)
            continue
        error = max(row[name] for name in ("error_values", "error_gradients", "error_adam"))
        ratio = f"{row.ratio:.2f} ({row.ratio_low:.2f}–{row.ratio_high:.2f})" if pd.notna(row.get("ratio")) else ""
        lines.append(
            f"| {row.label} | {row.variant or 'the task'} | {row.versions} | {error:.0e} | {row.median_ms:.4g} | {row.min_ms:.4g}"
            f" | {row.min_cpu_ms:.4g} | {ratio} | {row.share_min:.2f}"
            f" | {row.first_step_s:.1f} |"
        )
    shapes = {"256 x 256 x 256": "matrix256_gflops", "256 x 1024 x 1024": "matrix1024_gflops"}
    rates = [f"{cell[name].max():.1f} ({shape})" for shape, name in shapes.items() if name in cell]
    return [*lines, "", f"Matrix rate, GFLOP/s: {', '.join(rates)}; the larger one counts."]
