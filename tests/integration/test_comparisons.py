"""Every comparison, shortened: its files are there, its numbers are of the right kind, and nothing is done twice."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from comparisons.digits import interval
from comparisons.solvers import Solvers
from comparisons.solvers.course import Course
from comparisons.solvers.minima import GOAL, Minima
from comparisons.solvers.points import Point, make
from comparisons.solvers.race import DEFAULT, ERRORS, PLAIN, VALUES, Bench
from comparisons.solvers.tables import exceptions, standing
from pcnet import CurvedProblem, EnergyPoint, Euler, GaussNewton, Inference, Momentum, NewtonCG
from pcnet.experiments import command
from pcnet.files import whole
from pcnet.typing import State

EXPERIMENTS = {"comparisons.digits.Digits": "digits.png", "comparisons.solvers.Solvers": "solvers.png"}


@pytest.mark.slow
@pytest.mark.parametrize("class_path", EXPERIMENTS)
def test_a_comparison_runs_shortened_and_does_nothing_twice(
    class_path: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "run"
    arguments = ["--smoke", "--out", str(folder), "--workers", "0"]
    assert command(class_path, arguments) == 0
    printed = capsys.readouterr().out
    parts = {path: path.stat().st_mtime_ns for path in folder.glob("parts/*/*.csv")}
    assert (folder / EXPERIMENTS[class_path]).stat().st_size > 10_000
    for again in ([], ["--replot"]):
        assert command(class_path, [*arguments, *again]) == 0
        assert capsys.readouterr().out == printed
    assert {path: path.stat().st_mtime_ns for path in folder.glob("parts/*/*.csv")} == parts


def test_the_interval_of_paired_differences() -> None:
    """Nadeau & Bengio 2003, by hand: 4 differences in 2 folds have a variance of (1/4 + 1) times theirs."""
    differences = np.array([0.0, 1.0, 2.0, 3.0])
    mean, half = interval(differences, 2)
    assert mean == 1.5
    assert half == pytest.approx(3.182446305284263 * (1.25 * 5 / 3) ** 0.5)


def test_no_patience_is_refused() -> None:
    with pytest.raises(ValueError, match="patience"):
        Solvers(patience=1.0)


def test_a_file_that_breaks_off_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("old")
    with pytest.raises(KeyError), whole(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"rows.csv": "old"}


def line(solver: str, depth: int, ratio: tuple[float, float, float], arrived: bool = True, iterations: int = 3) -> dict:
    low, middle, high = ratio
    return {
        "weights": "gain 1.0",
        "depth": depth,
        "width": 8,
        "batch": 1,
        "solver": solver,
        "arrived": arrived,
        "iterations": iterations,
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
        "rounds": 9,
    }


def test_where_the_default_solver_stands() -> None:
    """Five points: first, tied, behind, not there, and first with another that is quick but does not arrive."""
    one = (1.0, 1.0, 1.0)
    rows = pd.DataFrame(
        [
            *(line(DEFAULT, depth, one, depth != 20) for depth in (5, 10, 20, 21, 40)),
            *(line(VALUES, depth, (7.0, 7.0, 7.0)) for depth in (5, 10, 21, 40)),
            line(VALUES, 20, (22.0, 22.0, 22.0), arrived=False),
            line(VALUES, 20, (13.0, 13.5, 14.0)) | {"batch": 64},
            line(PLAIN, 20, (22.5, 22.5, 22.5), arrived=False),
            line("Newton-CG", 5, (1.1, 1.2, 1.3)),
            line("Newton-CG", 10, (0.95, 0.99, 1.01)),
            line("Newton-CG", 20, (1.1, 1.2, 1.3)),
            line("Newton-CG", 21, (0.7, 0.8, 0.9)),
            line("Newton-CG", 40, (0.1, 0.1, 0.1), arrived=False),
            line(ERRORS, 5, (0.4, 0.5, 0.6), iterations=20),
            line(ERRORS, 10, (0.9, 1.1, 1.2), iterations=30),
            line(ERRORS, 20, (2.5, 2.5, 2.5), iterations=35),
            line(ERRORS, 21, (3.0, 3.0, 3.0), iterations=50),
            line(ERRORS, 40, (0.3, 0.3, 0.3), arrived=False, iterations=99),
        ]
    )
    found = standing(rows).set_index("compared with the default")
    alone, errors, plain, values = (found.loc[name] for name in found.index)
    counts = ["points", "default first", "tied", "behind", "stopped", "before the default's time"]
    assert alone[counts].tolist() == [5, 2, 1, 2, 1, 1]
    assert errors[counts].tolist() == [5, 2, 1, 2, 1, 1]  # the default does not arrive at one of the two
    assert errors["median time"] == 1.8 and errors["median iterations"] == 32.5
    assert plain[["points", "stopped", "least", "at least 20 times"]].tolist() == [1, 1, 22.5, 1]
    assert values[["points", "stopped", "least", "most", "at least 20 times"]].tolist() == [2, 1, 13.5, 22, 1]
    named = exceptions(rows)
    assert [f"{depth}x8" in named for depth in (5, 10, 20, 21, 40)] == [True, True, True, True, False]


class Valley(CurvedProblem):
    """F = a x^4 / 4 - b x^2 / 2 + c y^2 / 2: wells at x = +-sqrt(b / a), y = 0; with a = 0 and b < 0 there is one."""

    def __init__(self, a: float, b: float, c: float) -> None:
        self.a, self.b, self.c = a, b, c

    def at(self, x: State) -> EnergyPoint:
        left, right = x[0][:, :1], x[0][:, 1:]
        energy = self.a * left**4 / 4 - self.b * left**2 / 2 + self.c * right**2 / 2
        slope = torch.cat([self.a * left**3 - self.b * left, self.c * right], -1)
        return EnergyPoint(x, (slope,), energy.squeeze(-1))

    def hessian_product(self, point: EnergyPoint, direction: State) -> State:
        left = 3 * self.a * point.values[0][:, :1] ** 2 - self.b
        return (torch.cat([left, torch.full_like(left, self.c)], -1) * direction[0],)

    def rows(self, index: Tensor) -> "Valley":
        return self


class Stand:
    """A task whose network is only a place to start from."""

    def __init__(self, problem: Valley, start: Tensor) -> None:
        self.net, self.x, self.of, self.start = self, start, problem, start

    def problem(self) -> Valley:
        return self.of

    def sweep(self, problem: Valley) -> State:
        return (self.start,)


POLISH = Inference(NewtonCG(), atol=1e-11, max_steps=200)


def test_a_row_that_settles_in_another_minimum_is_measured_against_that() -> None:
    """Wells at -1 and 1; the reference is taken at 1 for both rows, and descent takes the second to -1."""
    wells, start = Valley(1.0, 1.0, 1.0), torch.tensor([[0.9, 0.5], [-0.9, 0.5]])
    minima = Minima(wells, (start.abs(),), POLISH)
    course = Course(Euler(0.3), Stand(wells, start), minima)
    assert course.distance[0] == pytest.approx((1.9**2 / 2 + 0.5**2 / 2) ** 0.5, rel=1e-5)
    course.follow(5.0)
    assert course.arrived and course.elsewhere == 1
    assert torch.allclose(course.point.values[0], torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), atol=2 * GOAL)
    assert len(minima.known) == 2
    assert torch.allclose(minima.known[0], torch.tensor([[1.0, 0.0], [1.0, 0.0]]), atol=1e-9)
    again = Course(Euler(0.3), Stand(wells, start), minima).follow(5.0)
    assert again.arrived and len(minima.known) == 2


def test_a_small_gradient_on_the_way_to_the_reference_is_no_arrival() -> None:
    """Curvature 1e-3 along y: a hundredth away, the gradient is 1e-5, which is smaller than what is taken for settled."""
    bowl, start = Valley(0.0, -1.0, 1e-3), torch.tensor([[0.0, 1e-2]])
    minima = Minima(bowl, (start,), POLISH)
    course = Course(Euler(1.0), Stand(bowl, start), minima).follow(0.05)
    assert not course.arrived and course.elsewhere == 0 and len(minima.known) == 1
    assert GOAL < course.distance[-1] <= 1e-2 / 2**0.5 * (1 + 1e-6)
    assert Course(Momentum(3.0, 0.98), Stand(bowl, start), minima).follow(20.0).arrived


def test_distance_is_that_of_the_worst_node_group() -> None:
    """One unit of a wide node 10 goals off is nothing, one unit of a narrow node is."""
    task = make(Point("gain 1.0", 3, 400, 2), 0)
    bench = Bench.of(task)
    values = list(bench.minima.known[0].split([400, 400], -1))
    assert bench.minima.distance(values).max() == 0
    values[1] = values[1].clone()
    values[1][1, 7] += 10 * GOAL
    assert bench.minima.distance(values).tolist() == pytest.approx([0, 10 * GOAL / 20], rel=1e-3)
    reference = Inference(NewtonCG(preconditioned=True), atol=1e-11, max_steps=200)
    exact = task.double()
    found = reference.run(exact.problem(), exact.net.sweep(exact.problem()))
    assert bench.minima.distance(tuple(group.float() for group in found.values)).max() < 1e-6


def test_tuning_finds_the_setting_that_arrives_first() -> None:
    """On x^2 / 2 + y^2 / 20, of three step sizes: one diverges, one is slow, one is fit."""
    bowl, start = Valley(0.0, -1.0, 0.1), torch.tensor([[1.0, 1.0]])
    bench = Bench(Stand(bowl, start), Minima(bowl, (start,), POLISH))
    best = bench.tune([Euler(2.5), Euler(0.02), Euler(1.8)], 10.0)
    assert best.arrived and best.solver == Euler(1.8)


def test_the_default_is_timed_beside_others_in_turns() -> None:
    bench = Bench.of(make(Point("gain 1.0", 3, 8, 2), 0))
    alone = {name: bench.follow(solver, 5.0) for name, solver in ((DEFAULT, GaussNewton()), ("other", NewtonCG()))}
    found = bench.turns(alone, ["other"], 3, 3)
    assert {name: len(courses) for name, courses in found.items()} == {DEFAULT: 3, "other": 3}
    assert all(course.arrived for courses in found.values() for course in courses)
