"""The command: ``python -m comparisons.belief_speed``."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from comparisons.belief_speed.tasks import ROWS, TOLERANCE, Hidden, Row, error
from comparisons.kept import load_table, save_table, whole
from comparisons.library_speed.environments import InstallError, interpreter
from comparisons.library_speed.roster import Peer
from comparisons.library_speed.workers import ROOT, Separate, Worker, WorkerError

DESCRIPTION = """Time what pcnet knows of a process beside dynamax and hmmlearn, one thread each, in turns: the same answers, checked
first. Peers come from the package index into environments of their own, made once."""

INSTALLS = {
    "dynamax_worker": Peer("dynamax", "dynamax", "", (("dynamax==1.0.3", "jax==0.10.2", "jaxlib==0.10.2"),)),
    "hmmlearn_worker": Peer("hmmlearn", "hmmlearn", "", (("hmmlearn==0.3.3",),)),
    "pcnet_worker": Peer("pcnet", "pcnet", ""),
}
SLOW = 1000
"""Milliseconds of a step from which two turns are enough."""
HERE = Path(__file__).parent
SMOKE = {"filter3": Hidden(3, 3, 16, 8), "words": None, "mixed_states": None}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser("python -m comparisons.belief_speed", description=DESCRIPTION)
    found.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="default all")
    found.add_argument("--rounds", type=int, default=15, help="turns of everyone; default 15")
    found.add_argument("--burst", type=float, default=0.1, help="seconds that a turn lasts at least; default 0.1")
    found.add_argument("--out", type=Path, default=Path("runs/belief_speed"), help="folder; default runs/belief_speed")
    found.add_argument("--smoke", action="store_true", help="three small rows of pcnet alone; nothing installed")
    found.add_argument("--replot", action="store_true", help="print what was measured before")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, then write and print the table."""
    options = parser().parse_args(arguments)
    if options.rounds < 1 or not options.burst > 0:
        parser().error(f"--rounds and --burst must be positive, got {options.rounds} and {options.burst:g}")
    folder = options.out / "smoke" if options.smoke else options.out
    if not options.replot:
        folder.mkdir(parents=True, exist_ok=True)
        rows: list[dict] = []
        for name in SMOKE if options.smoke else options.rows:
            rows += measured(name, folder, options)
            save_table(rows, folder / "belief_speed.csv")
    rows = load_table(folder / "belief_speed.csv")
    if not rows:
        parser().error(f"there is nothing measured in {folder}")
    text = markdown(rows)
    with whole(folder / "belief_speed.md") as path:
        path.write_text(text)
    print(text)
    return 0


def measured(name: str, folder: Path, options: argparse.Namespace) -> list[dict]:
    """One row of the table for each peer, or for the bound."""
    row, hidden = ROWS[name], ROWS[name].hidden
    peers, rounds, burst = row.peers, options.rounds, options.burst
    if options.smoke:
        hidden, peers, rounds, burst = SMOKE[name] or hidden, (), 2, 0.001
    task = hidden.write(folder / "tasks" / f"{name}.npz")
    lines = {peer: {"row": name, "what": row.name, "peer": peer, "bound": row.bound} for peer in peers or ("",)}
    with ExitStack() as stack:
        workers: dict[str, tuple[Worker, int]] = {}
        for who in (f"pcnet_worker:{row.own}", *peers):
            try:
                workers[who] = stack.enter_context(started(who, task, folder)), 0
                workers[who] = workers[who][0], ready(workers[who][0], row, task, burst, folder, name, who)
            except (InstallError, WorkerError) as failure:
                workers.pop(who, None)
                for line in lines.values() if who == f"pcnet_worker:{row.own}" else [lines[who]]:
                    line["status"] = f"{who}: {failure}"
        times = taken(workers, rounds)
    for peer, line in lines.items():
        line |= summary(row, times.get(f"pcnet_worker:{row.own}"), times.get(peer))
    return list(lines.values())


def started(who: str, task: Path, folder: Path) -> Worker:
    """A process that is pinned to one core and does what it is told."""
    python = interpreter(INSTALLS[who.split(":")[0]], folder / "environments")
    path = (HERE, ROOT) if python == Path(sys.executable) else (HERE,)
    log = folder / "logs" / f"{task.stem}-{who.replace(':', '-')}.log"
    return Separate(python, who, task, 1, log, path)


def ready(worker: Worker, row: Row, task: Path, burst: float, folder: Path, name: str, who: str) -> int:
    """Check a worker's answers, have it compile what it compiles, and see how many steps make a turn."""
    if row.checked:
        with np.load(task) as file:
            checks = folder / "checks" / f"{name}-{who.replace(':', '-')}.npz"
            checks.parent.mkdir(exist_ok=True)
            wrong = error(dict(file), worker.check(checks))
        if not wrong < TOLERANCE:
            raise WorkerError(f"computes something else: off by {wrong:.1e}")
    once = worker.run(1)["wall"]  # some compile twice
    steps = max(1, min(5, round(burst / (once + 1e-9))))
    return max(1, round(burst * steps / (worker.run(steps)["wall"] + 1e-9)))


def taken(workers: dict[str, tuple[Worker, int]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds a step, one number a round, everyone once a round in an order drawn anew; who is very slow, twice."""
    generator = np.random.default_rng(0)
    times: dict[str, list[float]] = {who: [] for who in workers}
    for _ in range(rounds):
        for who in generator.permutation(list(workers)).tolist():
            worker, steps = workers[who]
            if len(times[who]) == 2 and min(times[who]) > SLOW:
                continue
            times[who].append(1000 * worker.run(steps)["wall"] / steps)
    return times


def summary(row: Row, own: list[float] | None, peer: list[float] | None) -> dict:
    """Medians, quartiles of the paired ratio, and whether the bound is kept."""
    if own is None:
        return {}
    found: dict = {"pcnet_ms": np.median(own), "status": "timed"}
    if peer is not None:
        low, middle, high = np.quantile(np.divide(own[: len(peer)], peer), [0.25, 0.5, 0.75])
        found |= {"peer_ms": np.median(peer), "ratio": middle, "ratio_low": low, "ratio_high": high}
        found["reached"] = "yes" if middle <= row.bound else "no"
    elif row.milliseconds is not None:
        found |= {"bound_ms": row.milliseconds, "reached": "yes" if found["pcnet_ms"] <= row.milliseconds else "no"}
    return {key: value for key, value in found.items() if key != "status" or peer is not None or not row.peers}


def markdown(rows: list[dict]) -> str:
    """The table for people."""
    lines = [
        f"One thread each, in turns. Answers agree with a loop in float64 to {TOLERANCE:g}. Load now: {os.getloadavg()[0]:.1f}.",
        "",
        "| what | pcnet, ms | beside | ms | pcnet / peer (quartiles) | demanded | reached |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    floors = dict.fromkeys(ROWS[row["row"]].hidden for row in rows if ROWS[row["row"]].checked)
    lines += ["", *(f"Necessary at {hidden.states} states: {hidden.floor()}." for hidden in floors)]
    return "\n".join(lines)


def cells(row: dict) -> Iterator[str]:
    """One line's cells; what is missing says why."""
    known = {key: value for key, value in row.items() if value == value}  # not NaN
    yield known["what"]
    yield f"{known['pcnet_ms']:.3g}" if "pcnet_ms" in known else known.get("status", "")
    yield str(known.get("peer") or "").replace("_worker", "")
    yield (
        f"{known['peer_ms']:.3g}" if "peer_ms" in known else ("" if not known.get("peer") else known.get("status", ""))
    )
    yield f"{known['ratio']:.3f} ({known['ratio_low']:.3f}-{known['ratio_high']:.3f})" if "ratio" in known else ""
    yield (
        f"{known['bound_ms']:g} ms" if "bound_ms" in known else (f"<= {known['bound']:.3g}" if "bound" in known else "")
    )
    yield str(known.get("reached", ""))


if __name__ == "__main__":
    sys.exit(main())
