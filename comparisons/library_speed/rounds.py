"""Checking first, then timing in turns: every implementation once a round, in an order drawn anew, on the same machine."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from comparisons.library_speed.environments import InstallError, interpreter
from comparisons.library_speed.reference import TOLERANCE, differences, reference
from comparisons.library_speed.roster import MATRICES, Peer
from comparisons.library_speed.task import Task
from comparisons.library_speed.workers import Here, Separate, Worker, WorkerError, own_path
from pcnet.experiments import Report

MATRIX_BURSTS, MATRIX_SECONDS = 10, 0.02

Row = dict[str, object]


@dataclass(frozen=True)
class Workplace:
    """Where implementations work.

    Args:
        files: folder of the run, for tasks, checks and logs.
        environments: folder of the peers' environments.
        problems: why a peer could not be installed, by name; empty where it could.
        separate: whether each works in a process of its own.
    """

    files: Path
    environments: Path
    problems: dict[str, str]
    separate: bool

    def open(self, peer: Peer, task: Path, threads: int, purpose: str = "") -> Worker:
        """A peer's worker; a `WorkerError` or an `InstallError` where there can be none."""
        if self.problems.get(peer.name):
            raise InstallError(self.problems[peer.name])
        if not self.separate:
            return Here(peer.implementation, task, threads)
        python = interpreter(peer, self.environments)
        log = self.files / "logs" / f"{task.stem}-{threads}-{peer.name}{purpose}.log"
        return Separate(python, peer.implementation, task, threads, log, own_path(python), peer.xla_flags)


@dataclass
class Cell:
    """One task with one number of threads.

    Args:
        task: what everyone does.
        threads: cores that each may use.
        place: where.
        burst: seconds that one turn should last at least.

    Attributes:
        status: a row for everyone, by name.
        rounds: a row for every turn.
    """

    task: Task
    threads: int
    place: Workplace
    burst: float
    status: dict[str, Row] = field(default_factory=dict)
    rounds: list[Row] = field(default_factory=list)

    def time(self, peers: Sequence[Peer], rounds: int, told: Report) -> None:
        """Check everyone, then time those that compute what they should, in turns."""
        path = self.task.write(self.place.files / "tasks")
        with ExitStack() as stack:
            workers = dict(self.started(stack, peers, path))
            matrices = {
                name: stack.enter_context(self.place.open(peer, path, self.threads)) for name, peer in MATRICES.items()
            }
            generator = np.random.default_rng(0)
            for k in range(rounds):
                told(k, rounds, None)
                for name in generator.permutation(list(workers)).tolist():
                    try:
                        self.keep(k, name, *workers[name])
                    except WorkerError as error:
                        del workers[name]
                        self.status[name]["status"] = f"stopped in round {k + 1}: {error}"
                        self.rounds = [row for row in self.rounds if row["implementation"] != name]
                for name, worker in matrices.items():
                    self.machine(k, name, worker)

    def started(self, stack: ExitStack, peers: Sequence[Peer], path: Path) -> Iterator[tuple[str, tuple[Worker, int]]]:
        """The peers that work and compute what they should, with their steps in a turn; every one leaves its row of status."""
        for peer in peers:
            row: Row = {"task": self.task.name, "threads": self.threads, "implementation": peer.name}
            row |= {"label": peer.label, "family": peer.family, "note": peer.note}
            self.status[peer.name] = row | {"variant": peer.variant.describe(), "status": "timed"}
            try:
                worker, steps = self.begun(peer, path, self.status[peer.name])
            except (InstallError, WorkerError) as error:
                self.status[peer.name]["status"] = str(error)
                continue
            stack.enter_context(worker)
            yield peer.name, (worker, steps)

    def begun(self, peer: Peer, path: Path, row: Row) -> tuple[Worker, int]:
        """A peer's worker, checked, with its first steps (where compilers compile) behind it, and its steps in a turn."""
        errors = self.checked(peer, path)
        row |= {f"error_{kind}": error for kind, error in errors.items()}
        if not max(errors.values()) < TOLERANCE:
            raise WorkerError(f"computes something else: differs by {max(errors.values()):.1e} from its reference")
        worker = self.place.open(peer, path, self.threads)
        row["versions"] = ", ".join(f"{name} {version}" for name, version in worker.about["versions"].items())
        row |= {"start_s": worker.about["ready"], "first_step_s": worker.run(1)["wall"]}
        worker.run(2)  # some compile twice
        return worker, max(1, round(self.burst / (worker.run(1)["wall"] + 1e-9)))

    def checked(self, peer: Peer, path: Path) -> dict[str, float]:
        """How far a peer is from its reference, by a worker of its own.

        Not by the one that is timed: some libraries keep all networks that were ever made in one state that every step
        carries along.
        """
        checks = self.place.files / "checks"
        checks.mkdir(exist_ok=True)
        with np.load(path) as file:
            task = dict(file)
        with self.place.open(peer, path, self.threads, "-check") as worker:
            written = worker.check(checks / f"{path.stem}-{self.threads}-{peer.name}.npz")
        return differences(task, written, reference(task, peer.variant))

    def machine(self, k: int, name: str, worker: Worker) -> None:
        """Short bursts of matrix products: the best of them is what the machine can do."""
        steps = max(1, round(MATRIX_SECONDS / (worker.run(3)["wall"] / 3 + 1e-9)))
        for _ in range(MATRIX_BURSTS):
            self.keep(k, name, worker, steps)

    def keep(self, k: int, name: str, worker: Worker, steps: int) -> None:
        """Let a worker take some steps and keep what each took."""
        taken = worker.run(steps)
        row = {"task": self.task.name, "threads": self.threads, "round": k, "implementation": name, "steps": steps}
        self.rounds.append(row | {f"{kind}_ms": 1000 * taken[kind] / steps for kind in ("wall", "cpu")})
