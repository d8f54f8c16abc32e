"""The comparison with other libraries: what is timed, what is kept of it, and the report."""

import os
import platform
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import pandas as pd

from comparisons.library_speed import figure, table
from comparisons.library_speed.environments import InstallError, interpreter
from comparisons.library_speed.roster import PCNET, PEERS, Peer
from comparisons.library_speed.rounds import Cell, Workplace
from comparisons.library_speed.task import TASKS
from comparisons.peers.worker import CAN_PIN
from pcnet.experiments import Experiment, Job, Report, RunFolder, Schema, Tables


@dataclass(frozen=True)
class LibrarySpeed(Experiment):
    """How long does one training step take in pcnet, and in PCX, FabricPC, ngc-learn and loops in torch?

    All do the same work, which is checked first against a float64 reference. Peers come from the package index into
    environments of their own, made once; the rest works where this command does. Everybody is timed once a round, so that
    what disturbs the machine disturbs all, and ratios are taken within rounds.

    Args:
        peers: names of those that are compared with pcnet.
        tasks: small or large; smoke is a tiny one.
        threads: numbers of cores.
        rounds: turns of everyone; by default 30 (small) and 12 (large).
        burst: seconds that a turn lasts at least.
        environments: folder of the peers' environments, which can serve several runs.
        separate: whether everyone works in a process of its own, pinned to its cores.
    """

    peers: tuple[str, ...] = tuple(PEERS)
    tasks: tuple[str, ...] = ("small", "large")
    threads: tuple[int, ...] = (1, 2)
    rounds: int | None = None
    burst: float = 0.5
    environments: str = "runs/environments"
    separate: bool = True

    name: ClassVar[str] = "library_speed"
    schema = Schema(
        machine="processor:text cores load",
        installs="implementation:text problem:text",
        status="task:text threads implementation:text label:text family:text note:text variant:text status:text "
        "error_values error_gradients error_adam versions:text start_s first_step_s",
        rounds="task:text threads round implementation:text steps wall_ms cpu_ms",
    )
    smoke: ClassVar[dict] = dict(
        peers=["torch_states", "torch_tutorial"], tasks=["smoke"], threads=[1], burst=0.02, separate=False
    )

    def __post_init__(self) -> None:
        for setting, known in (("peers", PEERS), ("tasks", TASKS)):
            for name in getattr(self, setting):
                if name not in known:
                    raise ValueError(f"{setting}: there is no {name!r}; there are {', '.join(known)}")
        if min(1 if self.rounds is None else self.rounds, *self.threads) < 1:
            raise ValueError("threads and rounds must be at least 1")
        if not self.burst > 0:
            raise ValueError(f"burst must be > 0, got {self.burst:g}")

    @property
    def compared(self) -> list[Peer]:
        """Everyone, pcnet first."""
        return [PCNET, *(PEERS[name] for name in self.peers)]

    @property
    def cells(self) -> dict[str, tuple[str, int]]:
        """What is timed, by part: tasks with numbers of threads."""
        return {f"{task}-threads{threads}": (task, threads) for task in self.tasks for threads in self.threads}

    def jobs(self) -> list[Job]:
        return [
            Job("environments", self.prepare),
            *(Job(part, partial(self.time, *cell), ("environments",), alone=True) for part, cell in self.cells.items()),
        ]

    def prepare(self, files: Path, told: Report) -> Tables:
        """Look at the machine, before there is work on it, and make the environments that are not there yet."""
        machine, installs = {"processor": processor(), "cores": cores(), "load": os.getloadavg()[0]}, []
        for done, peer in enumerate(self.compared):
            told(done, len(self.compared), None)
            problem = ""
            try:
                interpreter(peer, Path(self.environments))
            except InstallError as error:
                problem = f"not installed: {error}"
            installs.append({"implementation": peer.name, "problem": problem})
        return {"machine": pd.DataFrame([machine]), "installs": pd.DataFrame(installs)}

    def time(self, task: str, threads: int, files: Path, told: Report) -> Tables:
        """Check everyone, then time all in turns."""
        installs = RunFolder(files, self.schema).part("environments", "installs")
        problems = dict(zip(installs.implementation, installs.problem))
        place = Workplace(files, Path(self.environments), problems, self.separate)
        cell = Cell(TASKS[task], threads, place, self.burst)
        cell.time(self.compared, self.rounds or TASKS[task].rounds, told)
        found = {"status": pd.DataFrame(cell.status.values()), "rounds": pd.DataFrame(cell.rounds)}
        return {name: rows.reindex(columns=list(self.schema[name])) for name, rows in found.items()}

    def said(self, part: str, tables: Tables) -> str:
        if "machine" in tables and tables["machine"].load[0] > table.QUIET:
            return f"other work is running (load {tables['machine'].load[0]:.1f}): times will say little"
        rows = tables["status"] if "status" in tables else pd.DataFrame({"status": []})
        return "; ".join(f"{part}, {row.label}: {row.status}" for row in rows[rows.status != "timed"].itertuples())

    def summary(self, folder: RunFolder) -> pd.DataFrame:
        """One row per task, number of threads and implementation; see `table.summarise`."""
        there = [part for part in self.cells if folder.has(part)]
        if not there:
            return pd.DataFrame()
        return table.summarise(
            *(pd.concat([folder.part(part, name) for part in there]) for name in ("status", "rounds"))
        )

    def report(self, folder: RunFolder) -> str:
        summary = self.summary(folder)
        if summary.empty:
            return "Nothing has been timed yet."
        if "ratio" in summary:
            figure.draw(summary, folder.path / "library_speed.png")
        return table.markdown(summary, folder.table("machine").iloc[0])


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if CAN_PIN else os.cpu_count() or 1


def processor() -> str:
    """The processor's own name, where the system tells."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
