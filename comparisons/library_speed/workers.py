"""Implementations at work: each in a process of its own that waits for its turn, or, for a quick look, in this one."""

import abc
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from comparisons.peers import worker
from comparisons.peers.worker import made

SCRIPT = Path(worker.__file__)
ROOT = SCRIPT.parents[2]
LIMIT = 1200
"""Seconds that a worker may take to answer; the longest wait is for a compiler."""

Answer = dict[str, Any]


class WorkerError(RuntimeError):
    """A worker failed; the message says how in one line."""


class Worker(abc.ABC):
    """One implementation of one task, ready to step.

    Attributes:
        about: versions, and seconds of starting.
    """

    about: Answer

    @abc.abstractmethod
    def ask(self, **command: Any) -> Answer:
        """Carry out one command of ``comparisons/peers/worker.py``."""

    def check(self, path: Path) -> dict[str, np.ndarray]:
        """What one step of plain descent and one of Adam make of the task's weights."""
        self.ask(do="check", path=str(path))
        with np.load(path) as file:
            return dict(file)

    def run(self, steps: int) -> Answer:
        """Seconds of wall clock and of processor time of some training steps."""
        return self.ask(do="run", steps=steps)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of everything."""


class Separate(Worker):
    """A worker in a process of its own.

    Args:
        python: that runs it.
        implementation: module:Class in the folder of workers, or elsewhere on `path`.
        task: the task's file.
        threads: cores it may use.
        log: where its messages go.
        path: folders to import from, besides.
        xla_flags: for XLA.
    """

    def __init__(
        self,
        python: Path,
        implementation: str,
        task: Path,
        threads: int,
        log: Path,
        path: tuple[Path, ...] = (),
        xla_flags: str = "",
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.output = log.open("w")
        self.process = subprocess.Popen(
            [str(python), str(SCRIPT), implementation, str(task), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.output,
            env=surroundings(threads, path, xla_flags),
            text=True,
            bufsize=1,
        )
        self.about = self.answer()

    def ask(self, **command: Any) -> Answer:
        with suppress(BrokenPipeError):  # it has said why, or its log does
            print(json.dumps(command), file=self.process.stdin, flush=True)
        return self.answer()

    def answer(self) -> Answer:
        with selectors.DefaultSelector() as waiting:
            waiting.register(self.process.stdout, selectors.EVENT_READ)
            line = self.process.stdout.readline() if waiting.select(LIMIT) else None
        if line is None:
            raise self.failed(f"no answer within {LIMIT} s")
        if not line:
            self.close()
            raise WorkerError(self.last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise self.failed(answer["error"])
        return answer

    def failed(self, reason: str) -> WorkerError:
        self.close()
        return WorkerError(reason)

    def last_words(self) -> str:
        lines = self.log.read_text().split("\n")
        return next(
            (line.strip()[:200] for line in reversed(lines) if line.strip()), f"exit code {self.process.returncode}"
        )

    def close(self) -> None:
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.output.close()


def surroundings(threads: int, path: tuple[Path, ...] = (), xla_flags: str = "") -> dict[str, str]:
    """Environment variables of a worker: its threads, no accelerator, nobody's settings."""
    unwanted = {"XLA_FLAGS", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "JAX_ENABLE_X64", "MPLBACKEND"}
    variables = {name: value for name, value in os.environ.items() if name not in unwanted}
    for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM"):
        variables[f"{library}_NUM_THREADS"] = str(threads)
    if threads == 1 and not worker.CAN_PIN:
        xla_flags += " --xla_cpu_multi_thread_eigen=false"
    if xla_flags:
        variables["XLA_FLAGS"] = xla_flags.strip()
    if path:
        variables["PYTHONPATH"] = os.pathsep.join(map(str, path))
    return variables | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "PYTHONNOUSERSITE": "1"}


class Here(Worker):
    """A worker in this very process, for a quick look: nothing is pinned and nothing is installed."""

    def __init__(self, implementation: str, task: Path, threads: int) -> None:
        start = time.perf_counter()
        self.threads = torch.get_num_threads()
        with self.excused():
            self.implementation = made(f"comparisons.peers.{implementation}", task, threads)
        self.about = {"ready": time.perf_counter() - start, "versions": self.implementation.versions()}

    def ask(self, **command: Any) -> Answer:
        with self.excused():
            return worker.answer(self.implementation, command)

    @contextmanager
    def excused(self) -> Iterator[None]:
        """What goes wrong in an implementation is a `WorkerError`, as it is from a process of its own."""
        try:
            yield
        except Exception as error:
            self.close()
            raise WorkerError(worker.reason(error)) from error

    def close(self) -> None:
        torch.set_num_threads(self.threads)


def own_path(python: Path) -> tuple[Path, ...]:
    """Where this environment's own workers find pcnet, installed or not."""
    return (ROOT,) if python == Path(sys.executable) else ()
