"""Checking first, then timing in turns: every implementation once a round, in an order drawn anew, on the same machine."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from comparisons.library_speed.environments import InstallError, interpreter
from comparisons.library_speed.reference import TOLERANCE, Expected, Variant, differences, reference
from comparisons.library_speed.roster import MATRICES, Peer
from comparisons.library_speed.task import Task
from comparisons.library_speed.view import View
from comparisons.library_speed.workers import Here, Separate, Worker, WorkerError, own_path

MATRIX_BURSTS, MATRIX_SECONDS = 10, 0.02

Row = dict[str, object]
Errors = dict[str, float]


@dataclass
class Found:
    """Everything measured, as rows of the two tables on disk."""

    status: list[Row] = field(default_factory=list)
    rounds: list[Row] = field(default_factory=list)


@dataclass
class Session:
    """One call of the command.

    Args:
        folder: where everything goes.
        peers: to compare, pcnet first.
        rounds: how often each is timed; None is the task's own number.
        burst: seconds that one turn should last at least.
        view: what a person sees.
        separate: whether each works in a process of its own.
    """

    folder: Path
    peers: list[Peer]
    rounds: int | None
    burst: float
    view: View
    separate: bool = True
    found: Found = field(default_factory=Found)
    errors: dict[tuple[str, str], Errors] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    references: dict[tuple[str, Variant], Expected] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make the environments that are not there yet."""
        for peer in self.peers:
            try:
                interpreter(peer, self.folder / "environments")
            except InstallError as error:
                self.missing[peer.name] = f"not installed: {error}"
                self.view.say(f"{peer.label}: {self.missing[peer.name]}")

    def open(self, peer: Peer, task: Path, threads: int, purpose: str = "") -> Worker:
        """A peer's worker; a `WorkerError` or an `InstallError` where there can be none."""
        if peer.name in self.missing:
            raise InstallError(self.missing[peer.name])
        if not self.separate:
            return Here(peer.implementation, task, threads)
        python = interpreter(peer, self.folder / "environments")
        log = self.folder / "logs" / f"{task.stem}-{threads}-{peer.name}{purpose}.log"
        return Separate(python, peer.implementation, task, threads, log, own_path(python), peer.xla_flags)

    def cell(self, task: Task, threads: int) -> None:
        """Check and time everyone on one task with one number of threads."""
        path = task.write(self.folder / "tasks")
        with ExitStack() as stack:
            workers = dict(self.started(stack, task, path, threads))
            matrices = {name: stack.enter_context(self.open(peer, path, threads)) for name, peer in MATRICES.items()}
            generator = np.random.default_rng(0)
            for k in range(self.rounds or task.rounds):
                for name in generator.permutation(list(workers)).tolist():
                    try:
                        self.keep(task, threads, k, name, *workers[name])
                    except WorkerError as error:
                        del workers[name]
                        self.lost(task, threads, name, f"stopped in round {k + 1}: {error}")
                    self.view.turn(task)
                for name, worker in matrices.items():
                    self.machine(task, threads, k, name, worker)

    def lost(self, task: Task, threads: int, name: str, reason: str) -> None:
        """A peer that stopped working: its row says why, and what was timed of it doesn't count."""
        cell = {"task": task.name, "threads": threads, "implementation": name}
        next(row for row in self.found.status if cell.items() <= row.items())["status"] = reason
        self.found.rounds = [row for row in self.found.rounds if not cell.items() <= row.items()]
        self.view.say(f"{name} {reason}")

    def started(
        self, stack: ExitStack, task: Task, path: Path, threads: int
    ) -> Iterator[tuple[str, tuple[Worker, int]]]:
        """The peers that work and compute what they should, with their steps in a turn; every one leaves its row of status."""
        for peer in self.peers:
            row: Row = {"task": task.name, "threads": threads, "implementation": peer.name, "label": peer.label}
            row |= {"family": peer.family, "note": peer.note, "variant": peer.variant.describe(), "status": "timed"}
            self.found.status.append(row)
            with self.view.starting(task, peer.label):
                try:
                    worker, steps = self.begun(peer, path, threads, row)
                except (InstallError, WorkerError) as error:
                    row["status"] = str(error)
                    self.view.say(f"{task.name}, {threads} thread(s), {peer.label}: {error}")
                    continue
            stack.enter_context(worker)
            yield peer.name, (worker, steps)

    def begun(self, peer: Peer, path: Path, threads: int, row: Row) -> tuple[Worker, int]:
        """A peer's worker, checked, with its first steps (where compilers compile) behind it, and its steps in a turn."""
        errors = self.checked(peer, path, threads)
        row |= {f"error_{kind}": error for kind, error in errors.items()}
        if not max(errors.values()) < TOLERANCE:
            raise WorkerError(f"computes something else: differs by {max(errors.values()):.1e} from its reference")
        worker = self.open(peer, path, threads)
        row["versions"] = ", ".join(f"{name} {version}" for name, version in worker.about["versions"].items())
        row |= {"start_s": worker.about["ready"], "first_step_s": worker.run(1)["wall"]}
        worker.run(2)  # some compile twice
        return worker, max(1, round(self.burst / (worker.run(1)["wall"] + 1e-9)))

    def checked(self, peer: Peer, path: Path, threads: int) -> Errors:
        """How far a peer is from its reference; looked at once a task, by a worker of its own.

        Not by the one that is timed: some libraries keep all networks that were ever made in one state that every step
        carries along.
        """
        key = (path.stem, peer.name)
        if key not in self.errors:
            with np.load(path) as file:
                task = dict(file)
            with self.open(peer, path, threads, "-check") as worker:
                written = worker.check(self.folder / "checks" / f"{path.stem}-{peer.name}.npz")
            self.errors[key] = differences(task, written, self.wanted(path.stem, task, peer.variant))
        return self.errors[key]

    def wanted(self, name: str, task: dict[str, np.ndarray], variant: Variant) -> Expected:
        """The reference of a variant of a task, computed once."""
        if (name, variant) not in self.references:
            self.references[name, variant] = reference(task, variant)
        return self.references[name, variant]

    def machine(self, task: Task, threads: int, k: int, name: str, worker: Worker) -> None:
        """Short bursts of matrix products: the best of them is what the machine can do."""
        steps = max(1, round(MATRIX_SECONDS / (worker.run(3)["wall"] / 3 + 1e-9)))
        for _ in range(MATRIX_BURSTS):
            self.keep(task, threads, k, name, worker, steps)

    def keep(self, task: Task, threads: int, k: int, name: str, worker: Worker, steps: int) -> None:
        """Let a worker take some steps and keep what each took."""
        taken = worker.run(steps)
        self.found.rounds.append(
            {"task": task.name, "threads": threads, "round": k, "implementation": name, "steps": steps}
            | {"wall_ms": 1000 * taken["wall"] / steps, "cpu_ms": 1000 * taken["cpu"] / steps}
        )
