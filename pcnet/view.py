"""What a person sees of a run in the terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pcnet.experiment import View
from pcnet.jobs import Examine, Job, Train
from pcnet.records import RunFolder


class TerminalView:
    """Bars with loss, floor and time left while models train; a line for every result as it comes.

    Args:
        progress: draws the bars; shown only where there is a terminal.
    """

    def __init__(self, progress: Progress) -> None:
        self.bars = progress
        self.console = progress.console
        self.started = time.monotonic()
        self.floor = float("nan")
        self.tasks: dict[str, TaskID] = {}

    def begin(self, jobs: list[Job], done: int, floor: float) -> None:
        self.floor = floor
        self.total = self.bars.add_task(f"jobs, loss floor {floor:.5f} nats", total=len(jobs), completed=done, loss="")

    def progress(self, part: str, step: int, steps: int, loss: float | None) -> None:
        if part not in self.tasks:
            self.tasks[part] = self.bars.add_task(part, total=steps, completed=step, loss="")
        shown = "" if loss is None else f"loss {loss:.4f}"
        self.bars.update(self.tasks[part], completed=step, loss=shown)

    def finished(self, job: Job, folder: RunFolder) -> None:
        if job.part in self.tasks:
            self.bars.remove_task(self.tasks.pop(job.part))
        self.bars.advance(self.total)
        line = _result(job, folder)
        if line:
            self.console.print(f"{time.monotonic() - self.started:6.0f} s  {line}", highlight=False)


@contextmanager
def terminal_view() -> Iterator[View]:
    """A view on standard error that leaves standard output to the results."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    ]
    console = Console(file=sys.stderr, soft_wrap=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        yield TerminalView(bars)


def _result(job: Job, folder: RunFolder) -> str:
    if isinstance(job, Train):
        last = folder.part(job.part, "training").iloc[-1]
        return f"{job.model} (seed {job.seed}) trained on {last.tokens:,} tokens: loss {last.loss:.4f}, floor {last.floor:.4f}"
    if isinstance(job, Examine):
        excess = folder.part(job.part, "excess")["excess"].iloc[0]
        rows = folder.part(job.part, "probes")
        own = rows[
            rows["headline"]
            & (rows["control"] == "")
            & (rows["target"] == "filtered")
            & rows["offset"]
            & (rows["position"] == "all")
        ]
        r2 = own.groupby("weights")["r2"].median()
        return f"{job.model} (seed {job.seed}): excess {excess:.5f} nats, R2 {r2['probability']:.4f} / {r2['equal']:.4f} (probability / equal)"
    return ""
