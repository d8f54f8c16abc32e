"""The experiment: who is timed, in what order, and the table."""

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from comparisons.belief_speed.tasks import ROWS, TOLERANCE, Row, error
from comparisons.kept import markdown
from comparisons.library_speed.environments import interpreter
from comparisons.library_speed.roster import Peer
from comparisons.library_speed.workers import ROOT, Separate, Worker, WorkerError
from pcnet.experiments import Experiment, Job, Report, RunFolder, Schema, Tables

INSTALLS = {
    "dynamax_worker": Peer("dynamax", "dynamax", "", (("dynamax==1.0.3", "jax==0.10.2", "jaxlib==0.10.2"),)),
    "hmmlearn_worker": Peer("hmmlearn", "hmmlearn", "", (("hmmlearn==0.3.3",),)),
    "pcnet_worker": Peer("pcnet", "pcnet", ""),
}
SLOW = 1000
"""Milliseconds of a step from which two turns are enough."""
HERE = Path(__file__).parent

Timed = tuple[Worker, int]
"""A worker that is ready, and its steps in a turn."""


@dataclass(frozen=True)
class BeliefSpeed(Experiment):
    """How fast does what pcnet knows of a process come, beside dynamax and hmmlearn?

    Everyone has one thread, and takes turns with the others in an order drawn anew each round, so that what disturbs the machine
    disturbs all; ratios are taken within rounds. That all give the same answers is checked first. Peers come from the package
    index into environments of their own, made once; while one can't be made, the rows that need it fail.

    Args:
        rows: of the table.
        peers: dynamax and hmmlearn, or one of them, or none.
        rounds: turns of everyone.
        burst: seconds that a turn lasts at least.
        batch: sequences of a task.
        length: of these sequences.
        environments: folder of the peers' environments, which can serve several runs.
    """

    rows: tuple[str, ...] = tuple(ROWS)
    peers: tuple[str, ...] = ("dynamax", "hmmlearn")
    rounds: int = 15
    burst: float = 0.1
    batch: int = 1024
    length: int = 64
    environments: str = "runs/environments"

    name: ClassVar[str] = "belief_speed"
    schema = Schema(belief_speed="row:text peer:text pcnet_ms peer_ms ratio ratio_low ratio_high load status:text")
    smoke: ClassVar[dict] = dict(
        rows=["filter3", "words", "mixed_states"], peers=[], rounds=2, burst=0.001, batch=16, length=8
    )

    def __post_init__(self) -> None:
        for row in self.rows:
            if row not in ROWS:
                raise ValueError(f"rows: there is no {row!r}; there are {', '.join(ROWS)}")
        if self.rounds < 1 or not self.burst > 0:
            raise ValueError(f"rounds and burst must be positive, got {self.rounds} and {self.burst:g}")

    def jobs(self) -> list[Job]:
        return [Job(name, partial(self.measure, name), alone=True) for name in self.rows]

    def measure(self, name: str, files: Path, told: Report) -> Tables:
        """One row of the table for each peer that it is compared with, or one row for the bound."""
        row, load = ROWS[name], os.getloadavg()[0]
        task = replace(row.hidden, batch=self.batch, length=self.length).write(files / "tasks" / f"{name}.npz")
        own, peers = f"pcnet_worker:{row.own}", [peer for peer in row.peers if self.wants(peer)]
        workers: dict[str, Timed] = {}
        reasons: dict[str, str] = {}
        with ExitStack() as stack:
            for who in (own, *peers):
                try:
                    worker = stack.enter_context(self.started(who, task, files))
                    if row.checked:
                        check(worker, task, files / "checks" / f"{name}-{who.replace(':', '-')}.npz")
                    workers[who] = worker, self.steps(worker)
                except WorkerError as failure:
                    if who == own:
                        raise
                    reasons[who] = str(failure)
            times = taken(workers, self.rounds, told)
        lines = [
            {"row": name, "peer": peer, "load": load, "status": reasons.get(peer, "")}
            | compared(times[own], times.get(peer))
            for peer in peers or [""]
        ]
        return {"belief_speed": pd.DataFrame(lines, columns=list(self.schema["belief_speed"]))}

    def wants(self, peer: str) -> bool:
        return INSTALLS[peer.split(":")[0]].name in ("pcnet", *self.peers)

    def started(self, who: str, task: Path, files: Path) -> Worker:
        """A process that is pinned to one core and does what it is told."""
        python = interpreter(INSTALLS[who.split(":")[0]], Path(self.environments))
        path = (HERE, ROOT) if python == Path(sys.executable) else (HERE,)
        return Separate(python, who, task, 1, files / "logs" / f"{task.stem}-{who.replace(':', '-')}.log", path)

    def steps(self, worker: Worker) -> int:
        """How many steps make a turn, once a worker has compiled what it compiles."""
        once = worker.run(1)["wall"]  # some compile twice
        steps = max(1, min(5, round(self.burst / (once + 1e-9))))
        return max(1, round(self.burst * steps / (worker.run(steps)["wall"] + 1e-9)))

    def report(self, folder: RunFolder) -> str:
        table = folder.table("belief_speed")
        lines = [line for name in ROWS for _, line in table[table["row"] == name].iterrows()]
        if not lines:
            return "Nothing has been timed yet."
        floors = dict.fromkeys(ROWS[line["row"]].hidden for line in lines if ROWS[line["row"]].checked)
        sizes = {"batch": self.batch, "length": self.length}
        return "\n".join(
            [
                f"One thread each, in turns. Answers agree with a loop in float64 to {TOLERANCE:g}. "
                f"Load before: up to {table['load'].max():.1f}.\n",
                markdown(pd.DataFrame([readable(ROWS[line["row"]], line) for line in lines])),
                *(f"Necessary at {hidden.states} states: {replace(hidden, **sizes).floor()}." for hidden in floors),
            ]
        )


def check(worker: Worker, task: Path, answers: Path) -> None:
    """Raise a `WorkerError` unless the answers that a worker writes into a file are those of the loop in float64."""
    answers.parent.mkdir(exist_ok=True)
    with np.load(task) as file:
        wrong = error(dict(file), worker.check(answers))
    if not wrong < TOLERANCE:
        raise WorkerError(f"computes something else: off by {wrong:.1e}")


def taken(workers: dict[str, Timed], rounds: int, told: Report) -> dict[str, list[float]]:
    """Milliseconds a step, one number a round, everyone once a round in an order drawn anew; who is very slow, twice."""
    generator = np.random.default_rng(0)
    times: dict[str, list[float]] = {who: [] for who in workers}
    for number in range(rounds):
        told(number, rounds, None)
        for who in generator.permutation(list(workers)).tolist():
            worker, steps = workers[who]
            if len(times[who]) == 2 and min(times[who]) > SLOW:
                continue
            times[who].append(1000 * worker.run(steps)["wall"] / steps)
    return times


def compared(own: list[float], peer: list[float] | None) -> dict[str, float]:
    """Medians, and quartiles of the paired ratio."""
    if peer is None:
        return {"pcnet_ms": np.median(own)}
    low, middle, high = np.quantile(np.divide(own[: len(peer)], peer), [0.25, 0.5, 0.75])
    medians = {"pcnet_ms": np.median(own), "peer_ms": np.median(peer)}
    return medians | {"ratio": middle, "ratio_low": low, "ratio_high": high}


def readable(row: Row, line: pd.Series) -> dict[str, str]:
    """A line of the table for people; where a peer couldn't be timed it says why."""
    timed, reached = not np.isnan(line["peer_ms"]), row.reached(line["pcnet_ms"], line["ratio"])
    return {
        "what": row.name,
        "pcnet, ms": f"{line['pcnet_ms']:.3g}",
        "beside": line["peer"].replace("_worker", ""),
        "ms": f"{line['peer_ms']:.3g}" if timed else line["status"],
        "pcnet / peer (quartiles)": "{ratio:.3f} ({ratio_low:.3f}-{ratio_high:.3f})".format(**line) if timed else "",
        "demanded": row.demanded(),
        "reached": {True: "yes", False: "no", None: ""}[reached],
    }
