"""Which solver reaches the equilibrium first? ``python -m comparisons.solvers``

tanh networks 64 - width x depth - 10 with input and target held, in float32 on one thread; every solver starts at the
feedforward sweep and runs until every row lies within 1e-4 (rms over all free units) of an equilibrium found in float64.
Descents in values and in errors are tuned: each is given every setting of a small grid around what its curvature suggests, and
the fastest counts. A solver is stopped once it has taken `--patience` times the time of the default one (three times, from 1.5
seconds on), and reported as a bound.
"""

import argparse
import copy
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sklearn.datasets import load_digits
from torch import Tensor

from pcnet import (
    Anderson,
    Backprop,
    Euler,
    Example,
    GaussNewton,
    Heun,
    HierarchicalPC,
    InErrors,
    Inference,
    Momentum,
    NewtonCG,
    Solver,
    Standard,
)
from pcnet.diagnostics import conditioning

matplotlib.use("Agg")
from matplotlib import pyplot

GOAL = 1e-4
SETTLED = 2e-5
"""Largest entry of a gradient with which a row counts as having arrived in some minimum, though not the reference."""
LONGEST = 8.0
"""Seconds that the default solver may take."""
ENOUGH = 1.5
"""Seconds after which another solver is stopped once it has taken three times as long as the default."""
CLOSE = 4.0
"""Times the default's time: solvers within it are timed again, in turns with it."""
CLASSES = 10
DEFAULT = "Gauss-Newton (default)"
VALUES, ERRORS = "descent in values, tuned", "descent in errors, tuned"
STYLE = {
    DEFAULT: ("#D55E00", "-"),
    ERRORS: ("#0072B2", "-"),
    "Newton-CG, preconditioned": ("#009E73", "-"),
    "Anderson in errors": ("#56B4E9", "--"),
    "Euler in errors": ("#0072B2", ":"),
    VALUES: ("#000000", "-"),
    "Anderson in values": ("#CC79A7", "--"),
    "Heun in values": ("#999999", ":"),
    "Newton-CG": ("#E69F00", "-."),
}


@dataclass(frozen=True)
class Point:
    """One problem."""

    weights: str
    depth: int
    width: int
    batch: int

    @property
    def name(self) -> str:
        return f"{self.weights}, depth {self.depth}, width {self.width}, batch {self.batch}"


@dataclass(frozen=True)
class Plan:
    """Which problems, and how long for each."""

    weights: tuple[str, ...] = ("gain 0.9", "gain 1.0", "gain 1.2", "digits")
    depths: tuple[int, ...] = (5, 10, 20, 40)
    widths: tuple[int, ...] = (64, 256)
    batches: tuple[int, ...] = (1, 64)
    repeats: int = 9
    training_steps: int = 150

    @property
    def points(self) -> list[Point]:
        return [
            Point(weights, depth, width, batch)
            for depth in self.depths
            for width in self.widths
            for weights in self.weights
            for batch in self.batches
        ]


SMOKE = Plan(("gain 1.0", "digits"), (3,), (16,), (4,), 1, 10)


def network(point: Point, steps: int) -> tuple[HierarchicalPC, Tensor, Tensor]:
    """The network of a point with what is held: noise and random classes, or digits and their classes."""
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    gain = 1.0 if point.weights == "digits" else float(point.weights.removeprefix("gain "))
    widths = [64, *[point.width] * (point.depth - 1), CLASSES]
    net = HierarchicalPC(widths, parameterisation=Standard(gain))
    if point.weights != "digits":
        x = torch.randn(point.batch, 64, generator=generator)
        return net, x, torch.eye(CLASSES)[torch.randint(CLASSES, (point.batch,), generator=generator)]
    pixels, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    images, goals = (pixels / 8 - 1).float(), torch.eye(CLASSES)[labels]
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 1e-3)
    for _ in range(steps):
        rows = torch.randint(1000, (64,), generator=generator)
        optimizer.zero_grad()
        Backprop().loss(net, Example({net.inputs: images[rows]}, {net.outputs: goals[rows]})).backward()
        optimizer.step()
    rows = 1000 + torch.randperm(797, generator=generator)[: point.batch]
    return net, images[rows], goals[rows]


@torch.no_grad()
def equilibrium(net: HierarchicalPC, x: Tensor, y: Tensor, start: Sequence[Tensor] | None = None) -> Tensor:
    """In float64, to a residual of 1e-11: the reference."""
    exact = copy.deepcopy(net).double()
    clamped = exact.clamp({net.inputs: x.double(), net.outputs: y.double()})
    problem = exact.problem(clamped)
    values = exact.sweep(problem) if start is None else tuple(group.double() for group in start)
    solution = Inference(NewtonCG(preconditioned=True), atol=1e-11, max_steps=1000).run(problem, values)
    if not solution.converged.all():
        raise RuntimeError(f"no reference equilibrium: {solution.report()}")
    return torch.cat(solution.values, -1)


@dataclass
class Course:
    """How far one solver was from the equilibrium, and how long it had taken.

    Attributes:
        distance: after every step, worst row first.
        seconds: that the steps have taken.
        arrived: whether every row is within the goal.
        elsewhere: rows that settled in another minimum.
    """

    distance: list[float]
    seconds: list[float]
    arrived: bool
    elsewhere: int = 0


@torch.no_grad()
def follow(solver: Solver, net: HierarchicalPC, x: Tensor, y: Tensor, goal: Tensor, limit: float) -> Course:
    """Step by step, looking at the distance with the clock stopped."""
    start = time.perf_counter()
    problem = net.problem(net.clamp({net.inputs: x, net.outputs: y}))
    view = solver.view(problem)
    state = view.coordinates(net.sweep(problem))
    point = view.at(state)
    carry = solver.init(view, point)
    spent = time.perf_counter() - start
    course = Course([], [], False)
    while True:
        distance = torch.linalg.vector_norm(torch.cat(point.values, -1) - goal, dim=-1) / goal.shape[-1] ** 0.5
        settled = torch.stack([group.abs().amax(-1) for group in point.residual]).amax(0) < SETTLED
        course.distance.append(float(distance.nan_to_num(torch.inf).max()))
        course.seconds.append(spent)
        there = (distance <= GOAL) | settled
        if there.all() or spent > limit or not np.isfinite(course.distance[-1]):
            course.arrived, course.elsewhere = bool(there.all()), int((settled & (distance > 100 * GOAL)).sum())
            return course
        start = time.perf_counter()
        increment, carry = solver.step(view, point, carry)
        state = view.retract(state, increment)
        point = view.at(state)
        spent += time.perf_counter() - start


def grid(net: HierarchicalPC, x: Tensor, y: Tensor, *, errors: bool) -> list[Solver]:
    """Steps and momenta to try: around the inverse of the largest curvature where values start."""
    problem = net.problem(net.clamp({net.inputs: x, net.outputs: y}))
    table = conditioning(problem, net.sweep(problem), steps=30)
    largest = table[table.coordinates == ("errors" if errors else "values")].largest.max()
    momenta = (0.3, 0.5, 0.7, 0.85) if errors else (0.9, 0.95, 0.98)
    solvers = [Momentum(share / largest, momentum) for share in (0.7, 1.4) for momentum in momenta]
    return [InErrors(solver) for solver in solvers] if errors else solvers


def others() -> dict[str, Solver]:
    """Solvers that set themselves."""
    return {
        "Newton-CG, preconditioned": NewtonCG(preconditioned=True),
        "Newton-CG": NewtonCG(),
        "Anderson in errors": InErrors(Anderson()),
        "Euler in errors": InErrors(Euler()),
        "Anderson in values": Anderson(),
        "Heun in values": Heun(),
    }


def measure(point: Point, plan: Plan, patience: float) -> tuple[list[dict], list[dict]]:
    """Every solver at one point: a row for each, and their courses."""
    net, x, y = network(point, plan.training_steps)
    goal = equilibrium(net, x, y).float()
    courses: dict[str, list[Course]] = {}

    def run(name: str, solver: Solver, limit: float) -> Course:
        found = follow(solver, net, x, y, goal, limit)
        courses.setdefault(name, []).append(found)
        return found

    def tune(name: str, solvers: Sequence[Solver], limit: float) -> Solver:
        """The one that arrives first; each may take as long as the best so far."""
        best, fastest = solvers[0], None
        for solver in solvers:
            found = follow(solver, net, x, y, goal, limit if fastest is None else fastest.seconds[-1])
            better = fastest is None or (found.arrived, -found.seconds[-1]) > (fastest.arrived, -fastest.seconds[-1])
            best, fastest = (solver, found) if better else (best, fastest)
        courses.setdefault(name, []).append(fastest)
        return best

    follow(GaussNewton(), net, x, y, goal, LONGEST)  # what is made once is not timed
    default = run(DEFAULT, GaussNewton(), LONGEST).seconds[-1]
    bound = max(0.02, min(patience * default, max(ENOUGH, 3 * default)))
    in_errors = tune(ERRORS, grid(net, x, y, errors=True), bound)
    in_values = tune(VALUES, grid(net, x, y, errors=False), bound)
    for name, solver in others().items():
        run(name, solver, bound / 3)
    race(run, courses, {DEFAULT: GaussNewton(), ERRORS: in_errors} | others(), plan.repeats, 2 * bound)
    settings = {ERRORS: in_errors, VALUES: in_values}
    rows = [line(point, name, found, settings.get(name)) for name, found in courses.items()]
    return rows, [trace for name, found in courses.items() for trace in traced(point, name, found[0])]


def race(
    run: Callable[[str, Solver, float], Course],
    courses: dict[str, list[Course]],
    solvers: dict[str, Solver],
    rounds: int,
    limit: float,
) -> None:
    """Time the solvers that may be the first again, in turns; only these rounds count.

    What went before is not comparable: the tuned one was the luckiest of its grid, and the default ran on a cold machine.
    """
    default = courses[DEFAULT][0].seconds[-1]
    close = [name for name in solvers if courses[name][0].arrived and courses[name][0].seconds[-1] < CLOSE * default]
    close = [DEFAULT, *(name for name in close if name != DEFAULT)]
    courses |= {name: [] for name in close}
    start = time.perf_counter()
    for k in range(rounds):
        if k >= 2 and time.perf_counter() - start > min(LONGEST, limit):
            break
        for name in close:
            run(name, solvers[name], LONGEST)


def line(point: Point, name: str, found: list[Course], solver: Solver | None) -> dict:
    """Medians over rounds."""
    arrived = all(course.arrived for course in found)
    return {
        **vars(point),
        "solver": name,
        "arrived": arrived,
        "milliseconds": 1e3 * float(np.median([course.seconds[-1] for course in found])),
        "iterations": len(found[0].distance) - 1,
        "distance": found[0].distance[-1],
        "elsewhere": found[0].elsewhere,
        "settings": "" if solver is None else str(solver),
    }


def traced(point: Point, name: str, course: Course) -> Iterator[dict]:
    """Points of a course, thinned out."""
    chosen = sorted({0, *np.unique(np.geomspace(1, len(course.distance), 60).astype(int) - 1)})
    for k in chosen:
        yield {
            **vars(point),
            "solver": name,
            "iteration": k,
            "milliseconds": 1e3 * course.seconds[k],
            "distance": course.distance[k],
        }


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per point: the default, and how many times as long the others took."""
    lines = []
    for key, part in rows.groupby(["depth", "width", "weights", "batch"], sort=False):
        table = part.set_index("solver")
        default = table.loc[DEFAULT]
        arrived = table[table.arrived & (table.index != DEFAULT)]
        fastest = arrived.milliseconds.idxmin() if len(arrived) else ""
        lines.append(
            {
                **dict(zip(("depth", "width", "weights", "batch"), key)),
                "default ms": f"{default.milliseconds:.1f}" + ("" if default.arrived else " (not there)"),
                "its iterations": int(default.iterations),
                "values / default": ratio(table, VALUES),
                "errors / default": ratio(table, ERRORS),
                "errors' iterations": int(table.loc[ERRORS].iterations),
                "next best / default": ratio(table, fastest) if fastest else "",
                "next best": fastest,
                "rows elsewhere": int(table.elsewhere.max()),
            }
        )
    return pd.DataFrame(lines)


def ratio(table: pd.DataFrame, name: str) -> str:
    """How many times the default's time; a bound where the solver did not arrive."""
    row = table.loc[name]
    return ("" if row.arrived else "> ") + f"{row.milliseconds / table.loc[DEFAULT].milliseconds:.2g}"


def verdict(rows: pd.DataFrame) -> str:
    """What was set out to be reached, and whether it was."""
    table = rows.set_index(["depth", "width", "weights", "batch"])
    default = table[table.solver == DEFAULT]
    best = table[table.arrived].groupby(level=[0, 1, 2, 3]).milliseconds.min()
    first = default.milliseconds <= best.reindex(default.index) * (1 + 1e-9)
    deep = table[(table.solver == VALUES)].milliseconds / default.milliseconds
    deep = deep[[index[0] == 20 for index in deep.index]]
    errors = table[table.solver == ERRORS].milliseconds / default.milliseconds
    text = [
        f"converged: the default solver at {int(default.arrived.sum())} of {len(default)} points",
        f"fastest in wall time: the default solver at {int((first & default.arrived).sum())} of {len(default)} points",
        f"tuned descent in errors takes {errors.median():.2g} times the default's time (median; {errors.min():.2g} to {errors.max():.2g})",
    ]
    if len(deep):
        text.append(
            f"tuned descent in values at depth 20: at least {deep.min():.3g} to {deep.max():.3g} times the default's time"
        )
    slower = [str(index) for index, won in first.items() if not won]
    return "\n".join(f"* {part}" for part in text + ([f"not fastest at {', '.join(slower)}"] if slower else [])) + "\n"


def figure(traces: pd.DataFrame, path: Path) -> None:
    """Distance against time and against iterations, at the deepest points of every kind of weights."""
    widest = traces[traces.width == traces.width.max()]
    depth = 20 if 20 in set(widest.depth) else widest.depth.max()
    shown = widest[(widest.depth == depth) & (widest.batch == widest.batch.max())]
    kinds = list(shown.weights.unique())
    figure, grid = pyplot.subplots(
        2, len(kinds), figsize=(3.3 * len(kinds) + 0.4, 6.4), sharey=True, squeeze=False, layout="constrained"
    )
    for column, kind in enumerate(kinds):
        for row, (x, label) in enumerate((("milliseconds", "time (ms)"), ("iteration", "iterations"))):
            axes = grid[row, column]
            for name, (colour, dashes) in STYLE.items():
                part = shown[(shown.weights == kind) & (shown.solver == name)]
                part = part[part.distance > 0]
                offset = 1 if x == "iteration" else 0
                axes.plot(
                    part[x] + offset,
                    part.distance,
                    dashes,
                    color=colour,
                    lw=2.2 if name == DEFAULT else 1.4,
                    label=name,
                )
            axes.axhline(GOAL, color="#666666", lw=0.8, ls=(0, (2, 2)))
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_ylim(GOAL / 20, None)
            axes.set_xlabel(label if x == "milliseconds" else "1 + iterations")
            axes.spines[["top", "right"]].set_visible(False)
        grid[0, column].set_title(kind, fontsize=11)
    for row in grid:
        row[0].set_ylabel("distance to equilibrium\n(rms, worst row)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    figure.suptitle(
        f"depth {depth}, width {shown.width.max()}, batch {shown.batch.max()}; dotted line: arrived", fontsize=11
    )
    temporary = path.with_suffix(".new.png")
    figure.savefig(temporary, dpi=160)
    pyplot.close(figure)
    os.replace(temporary, path)


def save(rows: list[dict], path: Path) -> None:
    """A table, replaced whole."""
    temporary = path.with_suffix(".new")
    pd.DataFrame(rows).to_csv(temporary, index=False)
    os.replace(temporary, path)


def collect(plan: Plan, folder: Path, patience: float) -> None:
    """Point after point; what is in the files is not measured again."""
    tables = [folder / "rows.csv", folder / "traces.csv"]
    rows, traces = (pd.read_csv(path).to_dict("records") if path.is_file() else [] for path in tables)
    done = {(row["weights"], row["depth"], row["width"], row["batch"]) for row in rows}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("solvers", total=len(plan.points))
        for point in plan.points:
            progress.update(task, description=point.name)
            if (point.weights, point.depth, point.width, point.batch) not in done:
                for kept, found, path in zip((rows, traces), measure(point, plan, patience), tables):
                    kept += found
                    save(kept, path)
            progress.advance(task)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def report(folder: Path) -> None:
    """Tables and figure of what has been measured."""
    rows = pd.read_csv(folder / "rows.csv")
    text = markdown(summary(rows)) + "\n" + verdict(rows)
    (folder / "solvers.md").write_text(text)
    figure(pd.read_csv(folder / "traces.csv"), folder / "solvers.png")
    print(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, then write and print the table and draw the figure."""
    parser = argparse.ArgumentParser("python -m comparisons.solvers", description=__doc__.split("\n\n")[1])
    parser.add_argument("--out", type=Path, default=Path("runs/solvers"), help="folder; default runs/solvers")
    parser.add_argument(
        "--patience", type=float, default=22.0, help="stop a solver after so many times the default's time; default 22"
    )
    parser.add_argument("--smoke", action="store_true", help="one small network of each kind")
    parser.add_argument("--replot", action="store_true", help="table and figure anew from what was measured")
    options = parser.parse_args(arguments)
    if not options.patience > 1:
        parser.error(f"--patience must be above 1, got {options.patience:g}")
    folder = options.out / "smoke" if options.smoke else options.out
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if not options.replot:
        collect(SMOKE if options.smoke else Plan(), folder, options.patience)
    elif not (folder / "rows.csv").is_file():
        parser.error(f"there is nothing measured in {folder}")
    report(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
