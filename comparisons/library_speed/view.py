"""What a person sees while it runs: who is starting, how far it is, and the time left."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from comparisons.library_speed.task import Task

GUESSED_RATE = 4e10
"""Operations a second that a typical row reaches; only the time left is guessed from it."""
GUESSED_START = 12.0
"""Seconds that a worker typically takes to start, compile and be checked."""


class View:
    """A bar on standard error whose unit is guessed seconds; lines above it for what a person should know.

    Args:
        progress: draws the bar; shown only where there is a terminal.
        burst: seconds of a turn at least.
    """

    def __init__(self, progress: Progress, burst: float) -> None:
        self.progress, self.burst = progress, burst
        self.bar = progress.add_task("environments", total=None)

    def plan(self, cells: list[tuple[Task, int]], peers: int) -> None:
        """Told what will be timed: tasks with their numbers of rounds, and how many peers."""
        total = sum(peers * (self.cost(task) * rounds + self.start(task)) for task, rounds in cells)
        self.progress.update(self.bar, total=total, completed=0)

    def cost(self, task: Task) -> float:
        return max(self.burst, task.operations / GUESSED_RATE)

    def start(self, task: Task) -> float:
        return GUESSED_START + 10 * task.operations / GUESSED_RATE

    @contextmanager
    def starting(self, task: Task, label: str) -> Iterator[None]:
        """While a worker starts, compiles and is checked."""
        self.progress.update(self.bar, description=f"{task.name}: {label} starts")
        yield
        self.progress.update(self.bar, description=task.name, advance=self.start(task))

    def turn(self, task: Task) -> None:
        """After a turn."""
        self.progress.advance(self.bar, self.cost(task))

    def say(self, line: str) -> None:
        """A line for the person."""
        self.progress.console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def shown(burst: float) -> Iterator[View]:
    """A view on standard error; standard output is left to the results."""
    columns = [
        TextColumn("{task.description:32}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield View(progress, burst)
