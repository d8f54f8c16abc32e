"""`run(settings, folder)`: train what is missing, examine it, measure what it costs. Everything else calls this one function.

Jobs run side by side in worker processes of one thread each, so that no number depends on how many there are. A finished job
leaves its part in the run's folder at once, and a job whose part is there is not done again.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Protocol

from pcnet.config import Settings, build
from pcnet.jobs import Job, bills, floor, plan
from pcnet.records import RunFolder


class RunFailed(RuntimeError):
    """Some jobs of a run failed; the message names them and why."""


class View(Protocol):
    """Whoever watches a run."""

    def begin(self, jobs: list[Job], done: int, floor: float) -> None: ...
    def progress(self, part: str, step: int, steps: int, loss: float | None) -> None: ...
    def finished(self, job: Job, folder: RunFolder) -> None: ...


class Silent:
    """Watches and says nothing."""

    def begin(self, jobs: list[Job], done: int, floor: float) -> None: ...
    def progress(self, part: str, step: int, steps: int, loss: float | None) -> None: ...
    def finished(self, job: Job, folder: RunFolder) -> None: ...


@dataclass(frozen=True)
class RunRecord:
    """What a run left behind.

    Attributes:
        folder: its tables, checkpoints, figures and report.
        report: the report.
    """

    folder: RunFolder
    report: Path


def run(settings: Settings, path: Path, view: View | None = None) -> RunRecord:
    """Do everything that is missing in the run's folder, then lay tables, figures and the report together.

    Args:
        settings: resolved (`pcnet.config.resolve`).
        path: the run's folder; made for these settings, or by an earlier run with the same.
        view: told what happens.

    Raises:
        ConfigError: the folder belongs to other settings or is in use.
        RunFailed: some jobs failed; what the others found is kept, laid together and in the report.
    """
    from pcnet import report

    folder, view = RunFolder(path), view or Silent()
    with folder.locked():
        folder.open(settings)
        jobs, last = plan(settings, path), bills(settings, path)
        done = sum(folder.has(job.part) for job in (*jobs, *last))
        view.begin([*jobs, *last], done, floor(build(settings)))
        workers = settings["workers"] or os.cpu_count()
        failures: list[str] = []
        for batch, side_by_side in ((jobs, workers), (last, 1)):
            todo = [job for job in batch if not folder.has(job.part)]
            if todo and settings["workers"] == 0:
                _here(todo, folder, view)
            elif todo:
                failures += _Workers(min(side_by_side, len(todo)), folder, view).do(todo)
        folder.write_tables()
        record = RunRecord(folder, report.write(path))
        if failures:
            raise RunFailed("; ".join(failures))
        return record


def _here(todo: list[Job], folder: RunFolder, view: View) -> None:
    """Do all jobs one after the other in this process: slower, but errors keep their tracebacks."""
    for job in sorted(todo, key=lambda job: len(job.needs)):
        job.run(lambda step, steps, loss, part=job.part: view.progress(part, step, steps, loss))
        folder.write_tables()
        view.finished(job, folder)


class _Workers:
    """Worker processes that do jobs in order, each as soon as what it needs is there."""

    def __init__(self, count: int, folder: RunFolder, view: View) -> None:
        self.count = count
        self.folder = folder
        self.view = view
        context = get_context("spawn")
        self.messages = context.Queue()
        self.pool = ProcessPoolExecutor(count, mp_context=context, initializer=_enter, initargs=(self.messages,))

    def do(self, todo: list[Job]) -> list[str]:
        """Do all jobs that can be done; says which failed. A failure stops only the jobs that need its part."""
        running: dict[Future, Job] = {}
        waiting, failures = list(todo), []
        try:
            while True:
                while len(running) < self.count and (job := self._ready(waiting)):
                    waiting.remove(job)
                    running[self.pool.submit(_work, job)] = job
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

    def _ready(self, waiting: list[Job]) -> Job | None:
        return next((job for job in waiting if all(self.folder.has(part) for part in job.needs)), None)

    def _finish(self, job: Job, future: Future) -> str:
        """Take a job's end in; its failure as text, or nothing."""
        error = future.exception()
        if isinstance(error, BrokenExecutor):
            raise RunFailed(f"{job.part}: a worker process died") from error
        if error is not None:
            return f"{job.part} failed: {type(error).__name__}: {error}"
        self.folder.write_tables()
        self.view.finished(job, self.folder)
        return ""

    def _listen(self) -> None:
        while True:
            try:
                self.view.progress(*self.messages.get_nowait())
            except Empty:
                return

    def _stop(self) -> None:
        for process in multiprocessing.active_children():
            process.terminate()
        self.pool.shutdown(wait=False, cancel_futures=True)


_send: Callable[[tuple], None] = lambda message: None  # noqa: E731  set once in each worker


def _enter(messages: multiprocessing.Queue) -> None:
    """A worker: one thread, deaf to Ctrl-C (the parent stops it), gone when the parent is gone."""
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


def _work(job: Job) -> None:
    job.run(lambda step, steps, loss: _send((job.part, step, steps, loss)))
