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

from pcnet.experiments.executors import View


class TerminalView:
    """Bars with loss and time left while jobs go on; a line for every result as it comes.

    Args:
        progress: draws the bars; shown only where there is a terminal.
    """

    def __init__(self, progress: Progress) -> None:
        self.bars = progress
        self.console = progress.console
        self.started = time.monotonic()
        self.tasks: dict[str, TaskID] = {}
        self.total: TaskID | None = None

    def begin(self, jobs: int, done: int, headline: str) -> None:
        if self.total is not None:
            self.bars.remove_task(self.total)
        label = ", ".join(filter(None, ("jobs", headline)))
        self.total = self.bars.add_task(label, total=jobs, completed=done, loss="")

    def progress(self, part: str, step: int, steps: int, loss: float | None) -> None:
        if part not in self.tasks:
            self.tasks[part] = self.bars.add_task(part, total=steps, completed=step, loss="")
        shown = "" if loss is None else f"loss {loss:.4f}"
        self.bars.update(self.tasks[part], completed=step, loss=shown)

    def finished(self, part: str, said: str) -> None:
        if part in self.tasks:
            self.bars.remove_task(self.tasks.pop(part))
        self.bars.advance(self.total)
        if said:
            self.console.print(f"{time.monotonic() - self.started:6.0f} s  {said}", highlight=False)


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
