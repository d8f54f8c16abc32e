"""A long-lived process around one implementation: reads commands on standard input, answers on standard output.

Runs inside the peer's own environment, so it needs nothing but the standard library and numpy. One JSON object a line:
``{"do": "check", "path": p}`` writes what one step makes of the task's weights to a file; ``{"do": "run", "steps": n}``
times n training steps; the end of the input ends the process. What libraries print goes to standard error.
"""

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

CAN_PIN = sys.platform == "linux"
"""Whether a process can be kept on some cores."""


class Implementation(Protocol):
    """What the modules of this folder implement, each for one library."""

    def run(self, steps: int) -> None:
        """Training steps with Adam, one after the other; returns when the last is done."""

    def check(self) -> dict[str, np.ndarray]:
        """Values and weights after one step from the task's weights, by plain descent and by Adam."""

    def versions(self) -> dict[str, str]:
        """Of what matters to speed."""


def pin(threads: int) -> None:
    """Keep the process on its first ``threads`` cores: libraries size their thread pools by what they may use."""
    if CAN_PIN:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def private_output() -> TextIO:
    """The original standard output, for answers only; prints of libraries go to standard error instead."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def timed(implementation: Implementation, steps: int) -> dict[str, float]:
    """Seconds of wall clock and of processor time of ``steps`` training steps."""
    wall, cpu = time.perf_counter(), time.process_time()
    implementation.run(steps)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def answer(implementation: Implementation, command: dict[str, Any]) -> dict[str, Any]:
    """Carry out one command."""
    if command["do"] == "check":
        np.savez(command["path"], **implementation.check())
        return {}
    if command["do"] == "run":
        return timed(implementation, command["steps"])
    raise ValueError(f"no such command: {command['do']!r}")


def made(where: str, task: Path, threads: int) -> Implementation:
    """The implementation of a task file that ``module:Class`` names."""
    module, name = where.split(":")
    with np.load(task) as file:
        return getattr(importlib.import_module(module), name)(dict(file), threads)


def reason(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def serve(options: argparse.Namespace, answers: TextIO) -> None:
    """Build the implementation, say how long that took, then carry out commands until there are no more."""

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    try:
        pin(options.threads)
        start = time.perf_counter()
        implementation = made(options.implementation, options.task, options.threads)
        say({"ready": time.perf_counter() - start, "versions": implementation.versions()})
        for line in sys.stdin:
            say(answer(implementation, json.loads(line)))
    except Exception as error:  # the harness makes it a row of the table
        traceback.print_exc()
        say({"error": reason(error)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("implementation", help="a module of this folder and the class in it: module:Class")
    parser.add_argument("task", type=Path, help="the .npz file that says what to compute")
    parser.add_argument("threads", type=int, help="cores it may use")
    serve(parser.parse_args(), private_output())
