"""What an experiment is: jobs, the tables they write, what to say when one ends, and a report."""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pcnet.experiments.run_folder import RunFolder
from pcnet.tables import Schema as Schema
from pcnet.tables import Tables as Tables

Report = Callable[[int, int, float | None], None]
"""Told (step, steps, latest loss or None) while a job goes on."""


@dataclass(frozen=True)
class Job:
    """One piece of work, done once: its tables are a part of the run.

    A job must be picklable, since it may be done in another process: `work` is a function of a module, a method of the
    experiment, or a `functools.partial` of one.

    Args:
        part: names the work and the part that it leaves; the same name for the same work.
        work: called with the folder of the run's files, where it may read what needed jobs left and leave files of its own
            (checkpoints, arrays), and with what is told the progress; returns the tables.
        needs: parts that must be there first.
        alone: whether nothing else may run meanwhile, because something is timed.
    """

    part: str
    work: Callable[[Path, Report], Tables]
    needs: tuple[str, ...] = ()
    alone: bool = False


class Borrowed(NamedTuple):
    """Jobs of another experiment whose files are needed: done in its own folder, where a later run of it finds them.

    Attributes:
        folder: of that run.
        settings: of that experiment, for a folder that isn't there yet.
        jobs: picks or makes the jobs, given that experiment; a folder that is there keeps the settings that it has.
    """

    folder: Path
    settings: dict[str, Any]
    jobs: "Callable[[Experiment], Sequence[Job]]"


class Experiment(abc.ABC):
    """A question that a command answers: `pcnet compare FILE.yaml`, or `command("module.Class")` of a module of your own.

    The constructor's arguments are the settings; they are typed, documented under ``Args:`` and have defaults, since YAML
    files, the command line and ``--help`` are made from them. Everything else (folders, resuming, locks, progress, exit
    codes, ``--smoke``, ``--replot``) is the harness's.

    Attributes:
        name: names the folder, ``runs/NAME``.
        schema: the tables and their columns.
        smoke: arguments of the run that ``--smoke`` does, where they differ from the defaults.
    """

    name: str
    schema: ClassVar[Schema]
    smoke: ClassVar[Mapping[str, Any]] = {}

    @abc.abstractmethod
    def jobs(self) -> Sequence[Job]:
        """All jobs, those that take longest first."""

    @abc.abstractmethod
    def report(self, folder: RunFolder) -> str:
        """Draw what there is to look at into the folder, finished or not, and return what the command prints."""

    def borrowed(self, folder: Path) -> Sequence[Borrowed]:
        """What is needed of other experiments' runs.

        Args:
            folder: of this run, for what is to lie inside it.
        """
        return ()

    def said(self, part: str, tables: Tables) -> str:
        """A line for a job that has just ended; empty says nothing."""
        return ""

    def headline(self) -> str:
        """A few words for the bar of the whole run."""
        return ""

    @classmethod
    def shortened(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a run that ends within a minute and shows that everything works."""
        return {**arguments, **cls.smoke}
