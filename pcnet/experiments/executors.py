"""Who does the jobs of a run. What a run is does not depend on it: results come back as values."""

import abc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Protocol

import joblib

from pcnet.experiments.errors import RunFailed
from pcnet.experiments.experiment import Job
from pcnet.experiments.run_folder import RunFolder
from pcnet.tables import Tables


class View(Protocol):
    """Whoever watches a run."""

    def begin(self, jobs: int, done: int, headline: str) -> None:
        """A run of so many jobs begins, of which some were done before."""

    def progress(self, part: str, step: int, steps: int, loss: float | None) -> None:
        """A job has come so far."""

    def finished(self, part: str, said: str) -> None:
        """A job has ended; what the experiment says of it may be empty."""


class Silent:
    """Watches and says nothing."""

    def begin(self, jobs: int, done: int, headline: str) -> None: ...
    def progress(self, part: str, step: int, steps: int, loss: float | None) -> None: ...
    def finished(self, part: str, said: str) -> None: ...


@dataclass(frozen=True)
class Desk:
    """Where jobs are done and results go.

    Args:
        folder: of the run; keeps what comes back.
        view: told how far a job is.
        said: called with the part and the tables of a job that has ended, once they are kept.
    """

    folder: RunFolder
    view: View
    said: Callable[[str, Tables], str] = lambda part, tables: ""

    def ready(self, waiting: Sequence[Job]) -> Job | None:
        """The first job of which every needed part is there."""
        return next((job for job in waiting if all(self.folder.has(part) for part in job.needs)), None)

    def keep(self, job: Job, tables: Tables) -> None:
        """Take a job's results in."""
        self.folder.add(job.part, tables)
        self.folder.write_tables()
        self.view.finished(job.part, self.said(job.part, tables))


class Executor(abc.ABC):
    """Does jobs, each as soon as the parts that it needs are there.

    A job is called with a folder for its files. An executor whose workers share the run's disk passes the run's own folder;
    one whose workers don't lays there what needed jobs left, and brings home what the job leaves.
    """

    @abc.abstractmethod
    def do(self, jobs: Sequence[Job], desk: Desk) -> list[str]:
        """Do all jobs that can be done; says which failed. A failure stops only the jobs that need its part."""


@dataclass(frozen=True)
class InThisProcess(Executor):
    """One job after the other, here: slower, but errors keep their tracebacks."""

    def do(self, jobs: Sequence[Job], desk: Desk) -> list[str]:
        waiting = list(jobs)
        while job := desk.ready(waiting):
            waiting.remove(job)
            desk.keep(job, job.work(desk.folder.path, lambda *told, part=job.part: desk.view.progress(part, *told)))
        return [f"{job.part} needs {', '.join(job.needs)}" for job in waiting]


@dataclass(frozen=True)
class LocalWorkers(Executor):
    """Worker processes of one thread each, so that no number depends on how many there are.

    Args:
        count: how many; None is one for each processor that this process may use (affinity and container limits count).

    Raises:
        ValueError: `count` is below 1.
    """

    count: int | None = None

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")

    def do(self, jobs: Sequence[Job], desk: Desk) -> list[str]:
        failures: list[str] = []
        for alone in (False, True):
            todo = [job for job in jobs if job.alone == alone]
            count = 1 if alone else self.count or joblib.cpu_count()
            if todo:
                failures += _Pool(min(count, len(todo)), desk).do(todo)
        return failures


class _Pool:
    """Worker processes that do jobs in order."""

    def __init__(self, count: int, desk: Desk) -> None:
        self.count = count
        self.desk = desk
        context = get_context("spawn")
        self.messages = context.Queue()
        self.pool = ProcessPoolExecutor(count, mp_context=context, initializer=_enter, initargs=(self.messages,))

    def do(self, todo: Sequence[Job]) -> list[str]:
        running: dict[Future, Job] = {}
        waiting, failures = list(todo), []
        try:
            while True:
                while len(running) < self.count and (job := self.desk.ready(waiting)):
                    waiting.remove(job)
                    running[self.pool.submit(_work, job, self.desk.folder.path)] = job
                if not running:
                    break
                done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                self._listen()
                failures += [self._finish(running.pop(future), future) for future in done]
        except BaseException:
            self._stop()
            raise
        self.pool.shutdown()
        return [failure for failure in failures if failure]

    def _finish(self, job: Job, future: Future) -> str:
        """Take a job's end in; its failure as text, or nothing."""
        error = future.exception()
        if isinstance(error, BrokenExecutor):
            raise RunFailed(f"{job.part}: a worker process died") from error
        if error is not None:
            return f"{job.part} failed: {type(error).__name__}: {error}"
        self.desk.keep(job, future.result())
        return ""

    def _listen(self) -> None:
        while True:
            try:
                self.desk.view.progress(*self.messages.get_nowait())
            except Empty:
                return

    def _stop(self) -> None:
        for process in multiprocessing.active_children():
            process.terminate()
        self.pool.shutdown(wait=False, cancel_futures=True)


_send: Callable[[tuple], None] = lambda message: None  # noqa: E731  set once in each worker


def _enter(messages: multiprocessing.Queue) -> None:
    """Begin a worker: one thread, Ctrl-C ignored (the parent stops it), ended when the parent ends."""
    global _send
    import scipy.linalg  # noqa: F401  every library of linear algebra must be loaded before it can be limited
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _send = messages.put
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _work(job: Job, folder: Path) -> Tables:
    return job.work(folder, lambda step, steps, loss: _send((job.part, step, steps, loss)))
