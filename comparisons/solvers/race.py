"""Solvers at one point: the default, descents tuned by an oracle, those that set themselves; the close ones timed in turns."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from comparisons.solvers.course import Course
from comparisons.solvers.minima import Minima
from comparisons.solvers.points import LINEAR, Point, Task
from pcnet import Anderson, Direct, Euler, GaussNewton, Heun, InErrors, Momentum, NewtonCG, Solver
from pcnet.diagnostics import conditioning

DEFAULT = "Gauss-Newton (default)"
VALUES, ERRORS = "descent in values, tuned", "descent in errors, tuned"
PLAIN = "descent in values, plain, tuned"
"""Without momentum; looked at in the depth demanded only, where the one with momentum tells less."""
TUNED = (VALUES, PLAIN, ERRORS)
SERIOUS = "Newton-CG, preconditioned"
"""Never given up before its limit: it goes fast at the end only."""
LONGEST = 60.0
"""Seconds that the default solver may take."""
DEMANDED = 20
"""The depth at which tuned descent in values gets all the patience there is."""
PLAIN_STEPS = ((0.9, 0.0), (1.6, 0.0), (1.9, 0.0))
"""Steps of plain descent in values, over the inverse of the largest curvature, and no momentum."""
JUDGED = 15
"""Steps before a setting is compared with others."""
CLOSE = 2.0
"""Times the default's time: solvers within it (and tuned descent in errors) are timed again, in turns with it."""
SLOW = 3.0
"""Seconds of the default above which nothing is timed twice."""
HOPELESS = 4.0
"""Times its limit: a solver that promises to take longer, after a quarter of the limit, is given up there (not in the figure,
and not tuned descent in values at the depth demanded)."""
TURNS = 2.5
"""Seconds for that, all together, but as many rounds at least as are asked for (one, where the default takes a second)."""


def others(point: Point) -> dict[str, Solver]:
    """Solvers that set themselves."""
    direct = {"direct": Direct()} if point.weights == LINEAR else {}
    return direct | {
        SERIOUS: NewtonCG(preconditioned=True),
        "Newton-CG": NewtonCG(),
        "Anderson in errors": InErrors(Anderson()),
        "Euler in errors": InErrors(Euler()),
        "Anderson in values": Anderson(),
        "Heun in values": Heun(),
    }


def grid(task: Task, *, errors: bool) -> list[Solver]:
    """Steps and momenta to try, around the inverse of the largest curvature where values start; momentum 0 is plain Euler."""
    problem = task.problem()
    table = conditioning(problem, task.net.sweep(problem), steps=30)
    largest = float(table[table.coordinates == ("errors" if errors else "values")].largest.max())
    if errors:
        pairs = [(share, momentum) for momentum in (0.2, 0.3, 0.4, 0.55, 0.7, 0.85) for share in (0.5, 0.8, 1.3)]
        return [InErrors(Momentum(share / largest, momentum)) for share, momentum in [(0.9, 0.0), (1.5, 0.0), *pairs]]
    pairs = [(share, momentum) for momentum in (0.8, 0.9, 0.95, 0.98) for share in (0.7, 1.4)]
    long = [(2.8, 0.9), (2.8, 0.95)]
    return [Momentum(share / largest, momentum) for share, momentum in [*PLAIN_STEPS, *pairs, *long]]


@dataclass(frozen=True)
class Limits:
    """Seconds for every solver, from what the default took.

    Args:
        point: where.
        default: seconds.
        patience: times the default's time that no other may exceed.
        widest: whether the point is one that the figure shows.
    """

    point: Point
    default: float
    patience: float
    widest: bool

    def within(self, times: float, least: float, more: float) -> float:
        """So many times the default's time, but `least` seconds where that is short, and `more` than it where it is long."""
        wished = min(max(times * self.default, least), self.default + more)
        return max(0.02, min(self.patience * self.default, wished))

    @property
    def demanded(self) -> bool:
        return self.point.depth == DEMANDED

    @property
    def values(self) -> float:
        return max(0.02, self.patience * self.default) if self.demanded else self.within(2, 1.0, 5)

    @property
    def errors(self) -> float:
        return self.within(6, 1.0, 5)

    @property
    def alone(self) -> float:
        """For solvers that set themselves."""
        return self.within(5, 4 if self.widest else 0.1, 5)


@dataclass(frozen=True)
class Bench:
    """One task, and its equilibria as far as they are known."""

    task: Task
    minima: Minima

    @classmethod
    def of(cls, task: Task) -> "Bench":
        exact = task.double()
        problem = exact.problem()
        return cls(task, Minima(problem, exact.net.sweep(problem)))

    def follow(self, solver: Solver, limit: float, impatient: bool = False) -> Course:
        course = Course(solver, self.task, self.minima)
        for share in (0.25, 0.5) if impatient else ():
            if hopeless(course.follow(share * limit), limit):
                return course
        return course.follow(limit)

    def tune(self, solvers: Sequence[Solver], limit: float, impatient: bool = False) -> Course:
        """The setting that arrives first.

        All go on by turns, each from where it was, to a time that doubles until one has arrived; meanwhile those that left
        the numbers are dropped, and of those that have taken some steps the half that promises less. The impatient give all up
        where the best is hopeless.
        """
        courses = [Course(solver, self.task, self.minima) for solver in solvers]
        until = limit / 32
        while True:
            for course in courses:
                course.follow(until)
            arrived = [course for course in courses if course.arrived]
            if arrived:
                return min(arrived, key=lambda course: course.spent)
            going = [course for course in courses if not course.failed]
            going.sort(key=lambda course: (course.expected(), course.distance[-1]))
            if not going or until >= limit or (impatient and hopeless(going[0], limit)):
                return going[0] if going else courses[0]
            judged = [course for course in going if len(course.distance) > JUDGED]
            kept = judged[: max(2, len(judged) // 2)]
            courses = [course for course in going if course in kept or course not in judged]
            until = min(2 * until, limit)

    def turns(self, courses: dict[str, Course], names: Sequence[str], least: int, most: int) -> dict[str, list[Course]]:
        """These and the default in every round, one after the other, again from the start; the order turns round each time."""
        default = courses[DEFAULT].spent
        if default > SLOW or not names:
            return {}
        found: dict[str, list[Course]] = {name: [] for name in (DEFAULT, *names)}
        start, least = time.perf_counter(), least if default < 1 else 1
        for k in range(most):
            if k >= least and time.perf_counter() - start > TURNS:
                break
            for name in list(found)[:: -1 if k % 2 else 1]:
                found[name].append(self.follow(courses[name].solver, LONGEST))
        return found


def hopeless(course: Course, limit: float) -> bool:
    """Whether it has come a quarter of the way in time, in some steps, and not in distance."""
    return course.spent >= 0.25 * limit and len(course.distance) > JUDGED and course.expected() > HOPELESS * limit


def measure(point: Point, task: Task, patience: float, repeats: int, widest: bool) -> tuple[list[dict], list[dict]]:
    """Every solver at one point: a row for each, and their courses.

    Solvers that come close to the default are timed again in turns with it, and only that counts: the tuned one was the
    luckiest of its grid, and the default ran on a cold machine.

    Args:
        point: where.
        task: made for the point.
        patience: times the default's time after which a solver is stopped at the latest.
        repeats: rounds of the second timing.
        widest: whether the point is one that the figure shows.
    """
    bench = Bench.of(task)
    bench.follow(GaussNewton(), 0.2)  # what is made once is not timed
    default = bench.follow(GaussNewton(), LONGEST)
    limits = Limits(point, default.spent, patience, widest)
    alone = {DEFAULT: default, ERRORS: bench.tune(grid(task, errors=True), limits.errors, impatient=not widest)}
    for name, solver in others(point).items():
        alone[name] = bench.follow(solver, limits.alone, impatient=not widest and name != SERIOUS)
    near = [name for name, course in alone.items() if course.arrived and course.spent < CLOSE * default.spent]
    near += [ERRORS] if alone[ERRORS].arrived else []
    rounds = bench.turns(alone, near, 3, repeats)
    timed = rounds.get(DEFAULT, [default])
    found = {
        name: (rounds.get(name, [course]), timed if name in (DEFAULT, *near) else [default])
        for name, course in alone.items()
    }
    found |= in_values(bench, timed, default, limits, repeats)
    rows = [line(point, name, courses, beside) for name, (courses, beside) in found.items()]
    return rows, [trace for name, (courses, _) in found.items() for trace in traced(point, name, courses[0])]


def in_values(
    bench: Bench, timed: list[Course], default: Course, limits: Limits, repeats: int
) -> dict[str, tuple[list[Course], list[Course]]]:
    """Tuned descents in values, each with the courses of the default that it is compared with."""
    taken = float(np.quantile([course.spent for course in timed], 0.75))
    limits = replace(limits, default=max(taken, default.spent))
    solvers = grid(bench.task, errors=False)
    best = bench.tune(solvers, limits.values, impatient=not limits.demanded)
    rounds = bench.turns({DEFAULT: default, VALUES: best}, [VALUES] * best.arrived, 1, repeats)
    found = {VALUES: (rounds.get(VALUES, [best]), rounds.get(DEFAULT, [default]) if best.arrived else timed)}
    if limits.demanded and taken < SLOW:
        plain = [solver for solver in solvers if solver.momentum == 0]
        found[PLAIN] = ([bench.tune(plain, limits.values)], timed)
    return found


def line(point: Point, name: str, found: list[Course], default: list[Course]) -> dict:
    """Medians over rounds, and quartiles of the ratio to the default in the same round."""
    seconds, beside = (np.array([course.spent for course in courses]) for courses in (found, default))
    ratios = seconds / (beside if len(beside) == len(seconds) else np.median(beside))
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return {
        **vars(point),
        "solver": name,
        "arrived": all(course.arrived for course in found),
        "milliseconds": 1e3 * float(np.median(seconds)),
        "iterations": len(found[0].distance) - 1,
        "distance": found[0].distance[-1],
        "elsewhere": found[0].elsewhere,
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
        "rounds": len(found),
        "settings": str(found[0].solver) if name in TUNED else "",
    }


def traced(point: Point, name: str, course: Course) -> Iterator[dict]:
    """Points of a course, thinned out."""
    for k in sorted({0, *np.unique(np.geomspace(1, len(course.distance), 60).astype(int) - 1)}):
        yield {
            **vars(point),
            "solver": name,
            "iteration": k,
            "milliseconds": 1e3 * course.seconds[k],
            "distance": course.distance[k],
        }
