"""The command: ``python -m comparisons.solvers``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from comparisons.kept import load_table, markdown, progress, save_table, whole
from comparisons.solvers.picture import draw
from comparisons.solvers.points import KEY, SMOKE, Plan
from comparisons.solvers.race import measure
from comparisons.solvers.tables import summary, verdict

DESCRIPTION = """tanh networks 64 - width x depth - 10 with input and target held, and a linear one, in float32 on one thread;
every solver starts at the feedforward sweep and runs until every node group of every row lies within 1e-4 (rms) of an
equilibrium found in float64. Descents in values and in errors, with and without momentum, are tuned by an oracle: of a grid
around what the curvature suggests, the setting that arrives first. The rule that makes a solver the default: it converges at
every point, and of those that set themselves it is the first at most of them. Those close to it are timed in turns with it; a
ratio whose quartiles hold 1 is a tie."""


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser("python -m comparisons.solvers", description=DESCRIPTION)
    found.add_argument("--out", type=Path, default=Path("runs/solvers"), help="folder; default runs/solvers")
    found.add_argument(
        "--patience",
        type=float,
        default=22.0,
        help="stop a solver after so many times the default's time at the latest; default 22",
    )
    found.add_argument("--smoke", action="store_true", help="one small network of each kind")
    found.add_argument("--replot", action="store_true", help="table and figure anew from what was measured")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, then write and print the table and draw the figure."""
    options = parser().parse_args(arguments)
    if not options.patience > 1:
        parser().error(f"--patience must be above 1, got {options.patience:g}")
    folder = options.out / "smoke" if options.smoke else options.out
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if not options.replot:
        collect(SMOKE if options.smoke else Plan(), folder, options.patience)
    elif not (folder / "times.csv").is_file():
        parser().error(f"there is nothing measured in {folder}")
    report(folder)
    return 0


def collect(plan: Plan, folder: Path, patience: float) -> None:
    """Point after point; what is in the files is not measured again."""
    rows = load_table(folder / "times.csv")
    done = {tuple(row[name] for name in KEY) for row in rows}
    # Courses are written first: those of a point without times were cut off.
    traces = [row for row in load_table(folder / "courses.csv") if tuple(row[name] for name in KEY) in done]
    with progress("{task.fields[left]} points left") as bar:
        cost = sum(point.cost for point in plan.points)
        task = bar.add_task("solvers", total=cost, left=len(plan.points))
        for k, point in enumerate(plan.points):
            bar.update(task, description=point.name, left=len(plan.points) - k)
            if tuple(vars(point)[name] for name in KEY) not in done:
                times, courses = measure(point, plan, patience)
                rows, traces = rows + times, traces + courses
                save_table(traces, folder / "courses.csv")
                save_table(rows, folder / "times.csv")
            bar.advance(task, point.cost)
        bar.update(task, description="solvers", left=0)


def report(folder: Path) -> None:
    """Table, verdict and figure of what has been measured."""
    rows = pd.read_csv(folder / "times.csv")
    text = markdown(summary(rows)) + "\n" + verdict(rows)
    with whole(folder / "solvers.md") as temporary:
        temporary.write_text(text)
    draw(pd.read_csv(folder / "courses.csv"), folder / "solvers.png")
    print(text)


if __name__ == "__main__":
    sys.exit(main())
