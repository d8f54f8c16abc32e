"""Settings, reports and refusals: what a person who uses solvers meets."""

import re
from collections.abc import Collection
from functools import partial

import pytest
import torch
from linear_problems import Chain, Quadratic, normal, with_spectrum
from torch import Tensor

from pcnet.inference import (
    Anderson,
    Direct,
    EnergyPoint,
    EnergyProblem,
    Equilibrium,
    ErrorProblem,
    Euler,
    FixedSteps,
    GaussNewton,
    Heun,
    InErrors,
    Inference,
    Momentum,
    Monotone,
    NewtonCG,
    Point,
    Relaxation,
    Solution,
    Solver,
    Status,
    solve,
    unroll,
)
from pcnet.inference.equilibrium import Program
from pcnet.typing import State


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def quadratic() -> tuple[Quadratic, State]:
    problem = Quadratic(with_spectrum([1.0, 2, 3], [0.5, 4, 5]), normal(2, 3), (2, 1))
    return problem, problem.groups(normal(2, 3, seed=1))


def same(left: State, right: State) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


# --- FixedSteps -------------------------------------------------------------------------------------------------------


def test_fixed_steps_are_steps_of_euler() -> None:
    problem, start = quadratic()
    solution = FixedSteps(0.2, 7).run(problem, start, record=(0, 3, 7, 9))
    torch.testing.assert_close(solution.values, unroll(problem, start, Euler(0.2), steps=7), rtol=0, atol=1e-15)
    for k in (0, 3, 7):
        torch.testing.assert_close(solution.trace[k], unroll(problem, start, Euler(0.2), steps=k), rtol=0, atol=1e-15)
    assert same(solution.trace[9], solution.values)
    assert same(solution.point.residual, problem.at(solution.values).residual)
    assert solution.steps.tolist() == [7, 7]
    assert solution.work.evaluations.tolist() == [8, 8]


def test_fixed_steps_call_nothing_converged_and_name_what_diverged() -> None:
    problem, _ = quadratic()
    problem.hessian[1] *= 1e40
    solution = FixedSteps(0.2, 20).run(problem, problem.groups(problem.target + matrix([0.0], [1.0])))
    assert solution.status.tolist() == [Status.UNCONVERGED, Status.DIVERGED]
    assert solution.residual[0].tolist() == [0, 0]


class Halving(Equilibrium):
    """x' = -x with a program for plain descent, which halves x however long it is asked to go on."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, int]] = []

    def rows(self, index: Tensor) -> "Halving":
        return self

    def at(self, x: State) -> Point:
        return Point(x, x)

    def faster(self, relaxation: Relaxation) -> Program | None:
        def halve(problem: Equilibrium, values: State, step_size: float, steps: int) -> Point:
            self.calls.append((step_size, steps))
            return self.at(tuple(0.5 * group for group in values))

        return partial(relaxation.follow, halve, self) if isinstance(relaxation, FixedSteps) else None


def test_fixed_steps_leave_the_way_to_a_problem_that_has_a_program_for_it() -> None:
    problem = Halving()
    solution = FixedSteps(0.1, 12).run(problem, (matrix([8.0]),), record=(12, 0, 5))
    assert problem.calls == [(0.1, 5), (0.1, 7)]
    assert [solution.trace[k][0].item() for k in (0, 5, 12)] == [8, 4, 2]
    assert solution.residual.item() == 2


class Known(Halving):
    """x' = -x, whose equilibrium needs no search."""

    def faster(self, relaxation: Relaxation) -> Program | None:
        def answer(values: State, record: Collection[int]) -> Solution:
            return Inference(Euler(1.0), max_steps=0).relax(self, (torch.zeros_like(values[0]),), record)

        return answer if isinstance(relaxation, Inference) else None


def test_every_way_of_relaxing_asks_the_problem_first() -> None:
    start = (matrix([8.0]),)
    assert Inference(Euler(0.1), max_steps=2).run(Known(), start).values[0].item() == 0
    assert FixedSteps(0.1, 1).run(Known(), start).values[0].item() == pytest.approx(7.2)


def test_both_ways_of_relaxing_are_relaxations() -> None:
    problem, start = quadratic()
    for relaxation in (FixedSteps(0.1, 300), Inference(Euler(), atol=1e-10, max_steps=300), Inference(compact=True)):
        assert isinstance(relaxation, Relaxation)
        assert relaxation == eval(repr(relaxation), globals() | vars(__import__("pcnet.inference").inference))
    for relaxation in (FixedSteps(0.1, 300), Inference(Euler(), atol=1e-10, max_steps=300)):
        torch.testing.assert_close(
            torch.cat(relaxation.run(problem, start).values, -1), problem.target, rtol=0, atol=1e-6
        )


# --- reports ----------------------------------------------------------------------------------------------------------


def test_a_report_names_rows_groups_and_sizes() -> None:
    """Rows: at the minimum; half way; in a curvature of 1e6; with a NaN. Groups by their names where there are any."""
    hessian = torch.diag_embed(matrix([1, 1], [1, 0.1], [1, 1e6], [1, 1]))
    problem = Quadratic(hessian, torch.zeros(4, 2).double(), (1, 1))
    start = (matrix([0.0], [0.0], [0.0], [torch.nan]), matrix([0.0], [1.0], [1.0], [0.0]))
    solution = solve(problem, start, Euler(0.5), atol=1e-3, max_steps=70)
    text = solution.report().split("\n")
    assert text[0] == "1 of 4 rows converged, after 0 to 0 steps"
    assert re.fullmatch(r"row 2 diverged after \d\d steps: the residual of group 1 is not a finite number", text[1])
    assert text[2] == "row 3 diverged after 0 steps: the residual of group 0, group 1 is not a finite number"
    rms = f"{0.1 * 0.95**70:.2e}"
    assert text[3] == f"row 1 unconverged after 70 steps: worst is group 1, rms of residual {rms}, tolerance 1.00e-03"
    problem.names = ("senses", "top")
    named = solve(problem, start, Euler(0.5), atol=1e-3, max_steps=70).report()
    assert named == solution.report().replace("group 0", "senses").replace("group 1", "top")


def test_the_worst_group_is_worst_against_its_own_tolerance() -> None:
    """Residuals .5 and .2 against .1 + .1 |x|: with |x| = 9 and .1 the tolerances are 1 and .11."""
    problem = Quadratic(torch.eye(2).double().unsqueeze(0), matrix([8.5, -0.1]), (1, 1))
    solution = solve(problem, (matrix([9.0]), matrix([0.1])), Euler(0.5), atol=0.1, rtol=0.1, max_steps=0)
    torch.testing.assert_close(solution.tolerance, matrix([1.0, 0.11]))
    assert "worst is group 1, rms of residual 2.00e-01, tolerance 1.10e-01" in solution.report()


def test_a_report_counts_what_it_does_not_name() -> None:
    problem = Quadratic(torch.eye(1).double().expand(9, 1, 1), torch.zeros(9, 1).double(), (1,))
    lines = solve(problem, (torch.ones(9, 1).double(),), Euler(0.5), max_steps=0).report().split("\n")
    assert lines[0] == "0 of 9 rows converged"
    assert [line.split(" unconverged")[0] for line in lines[1:6]] == [f"row {row}" for row in range(5)]
    assert lines[6:] == ["4 more rows unconverged"]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -0.1, 1.1e6, 1e30, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "kind", [Euler, Heun, Anderson, FixedSteps, lambda s: Momentum(s, 0.5), lambda s: InErrors(Euler(s))]
)
def test_a_step_size_that_is_no_step_size(kind, value: float) -> None:
    with pytest.raises(ValueError, match=rf"step_size must be .* at most 1e\+06, got {re.escape(str(value))}"):
        kind(value)


def test_fixed_steps_take_at_least_one() -> None:
    for steps in (0, -3):
        with pytest.raises(ValueError, match=f"steps must be at least 1, got {steps}"):
            FixedSteps(0.1, steps)


def test_a_step_size_of_ones_own_asks_for_a_momentum() -> None:
    with pytest.raises(ValueError, match="momentum must be given together with a step_size, got None"):
        Momentum(0.1)


def test_unroll_takes_no_negative_number_of_steps() -> None:
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        unroll(*quadratic(), Euler(0.1), steps=-1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((), "one .rows, units. tensor per node group, got shapes"),
        ((torch.zeros(2).double(), torch.zeros(2, 1).double()), "one .rows, units. tensor per node group"),
        ((torch.zeros(2, 2).double(), torch.zeros(3, 1).double()), "same number of rows in every node group"),
        ((torch.zeros(2, 3).double(), torch.zeros(2, 1).double()), r"must have \(2, 1\) units in the node groups"),
        ((torch.zeros(2, 3).double(),), r"must have \(2, 1\) units in the node groups"),
        ((torch.zeros(2, 2).long(), torch.zeros(2, 1).long()), "must be floating-point numbers, got .*int64"),
        (
            (torch.zeros(1, 2).double(), torch.zeros(1, 1).double()),
            r"values have shapes \[\(1, 2\), \(1, 1\)\], the problem",
        ),
    ],
)
def test_values_that_do_not_fit_the_problem(values: State, message: str) -> None:
    problem, _ = quadratic()
    for run in (lambda: solve(problem, values, Euler(0.1)), lambda: FixedSteps(0.1, 2).run(problem, values)):
        with pytest.raises(ValueError, match=message):
            run()


def test_a_row_that_starts_nowhere_has_diverged_and_is_alone_with_it() -> None:
    problem, start = quadratic()
    healthy = solve(problem, start, Euler(), atol=1e-9, max_steps=500)
    for poison in (torch.nan, torch.inf):
        struck = tuple(group.clone() for group in start)
        struck[1][0] = poison
        for solver in (Euler(), Anderson(), NewtonCG(), Momentum(), Monotone(Heun())):
            solution = solve(problem, struck, solver, atol=1e-9, max_steps=500)
            assert solution.status.tolist() == [Status.DIVERGED, Status.CONVERGED]
            assert solution.steps[0] == 0
        bits = solve(problem, struck, Euler(), atol=1e-9, max_steps=500)
        assert all(torch.equal(a[1], b[1]) for a, b in zip(bits.values, healthy.values, strict=True))


class Bare(Equilibrium):
    def at(self, x: State) -> Point:
        return Point(x, x)

    def rows(self, index: Tensor) -> "Bare":
        return self


class Energetic(EnergyProblem):
    def at(self, x: State) -> EnergyPoint:
        return EnergyPoint(x, x, 0.5 * sum((g * g).sum(-1) for g in x))

    def rows(self, index: Tensor) -> "Energetic":
        return self


@pytest.mark.parametrize(
    ("solver", "needed"),
    [
        (Euler(), "CurvedProblem"),
        (Heun(), "CurvedProblem"),
        (Momentum(), "CurvedProblem"),
        (Momentum(momentum=0.3), "CurvedProblem"),
        (Anderson(), "CurvedProblem"),
        (NewtonCG(), "CurvedProblem"),
        (NewtonCG(preconditioned=True), "CurvedProblem"),
        (GaussNewton(), "ErrorProblem"),
        (InErrors(Euler(0.1)), "ErrorProblem"),
        (InErrors(Euler()), "ErrorProblem"),
        (Direct(), "LinearGaussian"),
        (Monotone(Euler(0.1)), "EnergyProblem"),
        (Monotone(NewtonCG()), "EnergyProblem"),
    ],
    ids=str,
)
def test_a_solver_that_needs_more_structure_says_which(solver: Solver, needed: str) -> None:
    start = (torch.ones(1, 2).double(),)
    for run in (lambda: solve(Bare(), start, solver), lambda: unroll(Bare(), start, solver, steps=1)):
        with pytest.raises(TypeError, match=f"{type(solver).__name__} needs a {needed}, got a Bare"):
            run()


def test_a_wrapper_needs_what_its_solver_needs_as_well() -> None:
    start = (torch.ones(1, 2).double(),)
    with pytest.raises(TypeError, match="Monotone needs a CurvedProblem, got a Energetic"):
        solve(Energetic(), start, Monotone(Euler()))
    with pytest.raises(TypeError, match="NewtonCG needs a ErrorProblem, got a Quadratic"):
        problem, values = quadratic()
        solve(problem, values, NewtonCG(preconditioned=True))
    assert solve(Energetic(), start, Monotone(Euler(0.5))).converged.all()
    assert solve(Bare(), start, Anderson(0.5)).converged.all()
    assert issubclass(Chain, ErrorProblem)
