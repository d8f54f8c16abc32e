"""The command: ``python -m comparisons.library_speed``."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from comparisons.library_speed import figure, table
from comparisons.library_speed.roster import PCNET, PEERS, SMOKE_PEERS
from comparisons.library_speed.rounds import Session
from comparisons.library_speed.task import SMOKE, TASKS, Task
from comparisons.library_speed.view import shown

DESCRIPTION = """Time one training step of pcnet beside PCX, FabricPC, ngc-learn and loops in torch: the same work, checked first.
Peers come from the package index into environments of their own, made once; the rest works where this command does."""


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser("python -m comparisons.library_speed", description=DESCRIPTION)
    found.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="beside pcnet; default all")
    found.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default all")
    found.add_argument("--threads", nargs="+", type=positive, default=[1, 2], help="numbers of cores; default 1 2")
    found.add_argument("--rounds", type=positive, help="turns of everyone; default 30 (small) and 12 (large)")
    found.add_argument("--burst", type=float, default=0.5, help="seconds that a turn lasts at least; default 0.5")
    found.add_argument(
        "--out", type=Path, default=Path("runs/library_speed"), help="folder; default runs/library_speed"
    )
    found.add_argument(
        "--smoke", action="store_true", help="a tiny task, loops in torch and pcnet in this process, nothing installed"
    )
    found.add_argument("--replot", action="store_true", help="table and figure anew from what was measured")
    return found


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, then write and print the table and draw the figure."""
    options = parser().parse_args(arguments)
    if not options.burst > 0:
        parser().error(f"--burst must be > 0, got {options.burst:g}")
    if not options.replot:
        measure(options)
    elif not (options.out / "rounds.csv").is_file():
        parser().error(f"there is nothing measured in {options.out}")
    return report(options.out)


def measure(options: argparse.Namespace) -> None:
    """Everything asked for, cell after cell; the files are written after each."""
    tasks = [SMOKE] if options.smoke else [TASKS[name] for name in options.tasks]
    cells = [(task, threads) for task in tasks for threads in ([1] if options.smoke else options.threads)]
    names = SMOKE_PEERS if options.smoke else options.peers
    burst = min(options.burst, 0.02) if options.smoke else options.burst
    about = {"machine": machine(), "tasks": {task.name: told(task) for task in tasks}}
    (options.out / "checks").mkdir(parents=True, exist_ok=True)
    with shown(burst) as view:
        peers = [PCNET, *(PEERS[name] for name in names)]
        session = Session(options.out, peers, options.rounds, burst, view, separate=not options.smoke)
        if about["machine"]["load_before"] > table.QUIET:
            view.say(f"other work is running (load {about['machine']['load_before']:.1f}): times will say little")
        session.prepare()
        view.plan([(task, options.rounds or task.rounds) for task, _ in cells], len(peers) - len(session.missing))
        for task, threads in cells:
            session.cell(task, threads)
            table.write(options.out, "status.csv", pd.DataFrame(session.found.status).to_csv(index=False))
            table.write(options.out, "rounds.csv", pd.DataFrame(session.found.rounds).to_csv(index=False))
            table.write(options.out, "about.json", json.dumps(about, indent=1))


def told(task: Task) -> dict[str, object]:
    return {"describe": task.describe(), "operations": task.operations}


def machine() -> dict[str, object]:
    """What the times depend on."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return {"processor": processor(), "cores": cores, "load_before": load()}


def processor() -> str:
    """The processor's own name, where the system tells."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def load() -> float:
    """Processes that wanted to run over the last minute, on average."""
    return os.getloadavg()[0]


def report(folder: Path) -> int:
    """Write the summary, the table and the figure; print the table. Returns 1 where pcnet itself was not timed."""
    words = dict.fromkeys(("status", "variant", "note", "versions"), str)
    status = pd.read_csv(folder / "status.csv", dtype=words)
    status = status.fillna({word: "" for word in words if word in status})
    about = json.loads((folder / "about.json").read_text())
    operations = {name: task["operations"] for name, task in about["tasks"].items()}
    summary = table.summarise(status, pd.read_csv(folder / "rounds.csv"), operations)
    table.write(folder, "summary.csv", summary.to_csv(index=False))
    text = table.markdown(summary, about)
    table.write(folder, "library_speed.md", text)
    print(text)
    timed = summary[(summary.implementation == PCNET.name) & (summary.status == "timed")]
    if len(timed) < len(summary.groupby(["task", "threads"])):
        print("pcnet itself could not be timed everywhere: see the rows above", file=sys.stderr)
        return 1
    print(f"figure: {figure.draw(summary, about, folder)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
