"""What every solver promises on the energies of temporal networks: one equilibrium from everywhere, and rows that never mix."""

import dataclasses
import functools

import pytest
import torch
from torch import Tensor

from pcnet.inference import (
    Anderson,
    CarriedOver,
    Euler,
    Expected,
    GaussNewton,
    Heun,
    InErrors,
    Inference,
    InitialValues,
    Momentum,
    Monotone,
    NewtonCG,
    RandomValues,
    Solver,
    Status,
    solve,
    unroll,
)
from pcnet.networks.fast.token_problem import TokenProblem
from pcnet.typing import State

SOLVERS = {
    "Euler": Euler(0.2),
    "Euler-automatic": Euler(),
    "Momentum": Momentum(0.15, 0.6),
    "Momentum-automatic": Momentum(),
    "Heun": Heun(0.2),
    "Anderson": Anderson(0.2),
    "NewtonCG": NewtonCG(),
    "NewtonCG-preconditioned": NewtonCG(preconditioned=True),
    "GaussNewton": GaussNewton(),
    "InErrors-Momentum": InErrors(Momentum(0.15, 0.6)),
    "InErrors-Anderson-automatic": InErrors(Anderson()),
    "InErrors-NewtonCG": InErrors(NewtonCG()),
    "Monotone-Euler-too-long": Monotone(Euler(3.0)),
    "Monotone-InErrors-Momentum": Monotone(InErrors(Momentum())),
}
PLAIN = {name: SOLVERS[name] for name in ("Euler", "Anderson", "NewtonCG", "GaussNewton", "InErrors-Momentum")}
INITIAL = [Expected(), CarriedOver(), RandomValues(seed=1), RandomValues(scale=3.0, seed=2)]
every_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
some_solvers = pytest.mark.parametrize("solver", PLAIN.values(), ids=PLAIN)
LEVELS = pytest.mark.parametrize("levels", [1, 2, 3])


def newton(problem: TokenProblem, start: State) -> Tensor:
    """The minimum by plain Newton on one row, gradient and dense Hessian from autograd alone."""
    sizes = [group.shape[-1] for group in start]
    x = torch.cat(start, -1)

    def energy(flat: Tensor) -> Tensor:
        return problem.at(flat.split(sizes, -1)).energy.sum()

    for _ in range(50):
        gradient = torch.autograd.functional.jacobian(energy, x)[0]
        if gradient.norm() < 1e-13:
            break
        x = x - torch.linalg.solve(torch.autograd.functional.hessian(energy, x)[0, :, 0], gradient)
    assert gradient.norm() < 1e-13
    return x[0]


def row_of(problem: TokenProblem, row: int) -> TokenProblem:
    bases = tuple(group[row : row + 1] for group in problem.bases)
    return TokenProblem(problem.weights, bases, problem.tokens[row : row + 1])


@functools.cache
def minima(make: type, levels: int) -> Tensor:
    case = make(levels, gain=0.6)
    settled = case.weights.sweep(case.problem.bases)
    return torch.stack(
        [newton(row_of(case.problem, row), tuple(group[[row]] for group in settled)) for row in range(4)]
    )


@pytest.fixture
def case(token_case):
    """Gains at which the minimum is unique."""
    return token_case(2, gain=0.6)


@LEVELS
@every_solver
def test_all_reach_the_one_minimum(token_case, levels: int, solver: Solver) -> None:
    case = token_case(levels, gain=0.6)
    start = RandomValues(scale=3.0, seed=levels)(case.values, case.past)
    solution = solve(case.problem, start, solver, atol=1e-10, max_steps=1000)
    assert solution.status.tolist() == [Status.CONVERGED] * 4
    torch.testing.assert_close(torch.cat(solution.values, -1), minima(token_case, levels), rtol=0, atol=1e-8)


@pytest.mark.parametrize("initial", INITIAL, ids=str)
@LEVELS
@some_solvers
def test_the_one_minimum_is_reached_from_everywhere(
    token_case, levels: int, solver: Solver, initial: InitialValues
) -> None:
    case = token_case(levels, gain=0.6)
    start = initial(case.weights.sweep(case.problem.bases), case.past)
    solution = solve(case.problem, start, solver, atol=1e-10, max_steps=1000)
    assert solution.status.tolist() == [Status.CONVERGED] * 4
    torch.testing.assert_close(torch.cat(solution.values, -1), minima(token_case, levels), rtol=0, atol=1e-8)


def test_where_values_start(case) -> None:
    """At zero error; where the token before ended; at standard normal noise."""
    expected = case.weights.sweep(case.problem.bases)
    errors = case.problem.errors(Expected()(expected, case.past))
    assert all(group.abs().max() < 1e-14 for group in errors)
    assert all(torch.equal(a, b) for a, b in zip(CarriedOver()(expected, case.past), case.past, strict=True))
    like = (torch.zeros(500, 40, dtype=torch.float64),)
    noise = RandomValues(scale=2.0, seed=3)(like, like)[0]
    assert noise.mean().item() == pytest.approx(0.0, abs=0.06)  # 4 standard errors of 20,000 draws
    assert noise.std().item() == pytest.approx(2.0, abs=0.04)
    assert torch.equal(noise, RandomValues(scale=2.0, seed=3)(like, like)[0])
    assert not torch.equal(noise, RandomValues(scale=2.0, seed=4)(like, like)[0])


@some_solvers
def test_inference_hands_every_setting_to_solve(case, solver: Solver) -> None:
    start = case.weights.sweep(case.problem.bases)
    settings = {"atol": 1e-3, "rtol": 1e-3, "max_steps": 7, "check_every": 3}
    one = Inference(solver, **settings).run(case.problem, start, record=(2,))
    other = solve(case.problem, start, solver, **settings, record=(2,))
    assert one.steps.tolist() == other.steps.tolist()
    assert one.status.tolist() == other.status.tolist()
    assert all(torch.equal(a, b) for a, b in zip(one.trace[2] + one.values, other.trace[2] + other.values, strict=True))


@every_solver
def test_unroll_equals_solve(case, solver: Solver) -> None:
    solved = solve(case.problem, case.values, solver, atol=0, max_steps=6)
    unrolled = unroll(case.problem, case.values, solver, steps=6)
    torch.testing.assert_close(unrolled, solved.values, rtol=0, atol=1e-13)


@every_solver
def test_a_row_neither_sees_nor_waits_for_the_others(case, solver: Solver) -> None:
    """Exchanging the other rows changes no bit of a row; solving it alone changes rounding only."""
    together = solve(case.problem, case.values, solver, atol=1e-9, max_steps=3000)
    bases = tuple(group.clone() for group in case.problem.bases)
    start = tuple(group.clone() for group in case.values)
    for group in bases + start:
        group[1:] = 2 * group[1:].flip(0) + 1
    exchanged = solve(TokenProblem(case.weights, bases, case.tokens), start, solver, atol=1e-9, max_steps=3000)
    alone = solve(row_of(case.problem, 0), tuple(group[:1] for group in case.values), solver, atol=1e-9, max_steps=3000)
    assert exchanged.steps[0] == together.steps[0] == alone.steps[0]
    for group in range(2):
        assert torch.equal(exchanged.values[group][0], together.values[group][0])
        torch.testing.assert_close(alone.values[group][0], together.values[group][0], rtol=0, atol=1e-12)
    assert exchanged.steps[1:].tolist() != together.steps[1:].tolist()


@every_solver
def test_a_finished_row_is_frozen_while_others_go_on(case, solver: Solver) -> None:
    trace_of = solve(case.problem, case.values, solver, atol=1e-8, max_steps=3000, record=range(1000))
    order = trace_of.steps.argsort()
    first, stopped = order[0], int(trace_of.steps[order[0]])
    assert stopped < int(trace_of.steps.max())
    for group in range(2):
        reached = trace_of.trace[stopped][group][first]
        assert torch.equal(trace_of.values[group][first], reached)
        assert not torch.equal(trace_of.trace[stopped - 1][group][first], reached)


@every_solver
def test_dropping_finished_rows_changes_rounding_only(case, solver: Solver) -> None:
    """One row is done before it starts, one diverges, two go on: all as with masks, in their places, for less work."""
    bases = tuple(group.clone() for group in case.problem.bases)
    bases[1][2, 1] = torch.nan
    problem, start = TokenProblem(case.weights, bases, case.tokens), tuple(group.clone() for group in case.values)
    for group, done in zip(start, minima(type(case), 2)[0].split([5, 4], -1), strict=True):
        group[0] = done
    settings = {"atol": 1e-9, "max_steps": 3000, "record": (0, 1, 2, 5, 5000)}
    masked, compact = (solve(problem, start, solver, **settings, compact=compact) for compact in (False, True))
    assert compact.steps.tolist() == masked.steps.tolist()
    assert compact.status.tolist() == masked.status.tolist()
    assert compact.status.tolist() == [Status.CONVERGED, Status.CONVERGED, Status.DIVERGED, Status.CONVERGED]
    healthy = [0, 1, 3]
    for k, values in masked.trace.items():
        for group, expected in zip(compact.trace[k], values, strict=True):
            torch.testing.assert_close(group[healthy], expected[healthy], rtol=0, atol=1e-12)
    torch.testing.assert_close(compact.residual[healthy], masked.residual[healthy], rtol=0, atol=1e-12)
    torch.testing.assert_close(compact.point.energy[healthy], masked.point.energy[healthy], rtol=0, atol=1e-12)
    assert compact.steps[0] == 0
    assert (compact.work.evaluations[[0, 2]] < masked.work.evaluations[[0, 2]]).all()
    assert (compact.work.products <= masked.work.products).all()


@every_solver
def test_work_counts_every_row_that_was_computed(case, solver: Solver, monkeypatch) -> None:
    seen = {"evaluations": 0, "products": 0}
    counted = {"at": "evaluations", "at_errors": "evaluations", "hessian_product": "products"}
    for method, name in counted.items():
        original = getattr(TokenProblem, method)

        def counting(self, *arguments, original=original, name=name):
            seen[name] += len(self.tokens)
            return original(self, *arguments)

        monkeypatch.setattr(TokenProblem, method, counting)
    for compact in (False, True):
        seen |= {"evaluations": 0, "products": 0}
        work = solve(case.problem, case.values, solver, atol=1e-6, max_steps=40, compact=compact).work
        assert {name: int(getattr(work, name).sum()) for name in seen} == seen


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@every_solver
def test_a_diverged_row_is_named_and_leaves_the_others_alone(case, solver: Solver, poison: float) -> None:
    healthy = solve(case.problem, case.values, solver, atol=1e-9, max_steps=3000)
    bases = tuple(group.clone() for group in case.problem.bases)
    bases[1][2, 1] = poison
    bad = solve(TokenProblem(case.weights, bases, case.tokens), case.values, solver, atol=1e-9, max_steps=3000)
    assert bad.status.tolist() == [Status.CONVERGED, Status.CONVERGED, Status.DIVERGED, Status.CONVERGED]
    assert not bad.converged[2]
    others = [0, 1, 3]
    assert bad.steps[others].tolist() == healthy.steps[others].tolist()
    for group in range(2):
        assert torch.equal(bad.values[group][others], healthy.values[group][others])


@every_solver
def test_running_out_of_steps_is_not_converging(case, solver: Solver) -> None:
    solution = solve(case.problem, case.values, solver, atol=1e-12, max_steps=1)
    assert solution.status.tolist() == [Status.UNCONVERGED] * 4
    assert solution.steps.tolist() == [1] * 4


@every_solver
def test_residual_and_energy_belong_to_the_values(case, solver: Solver) -> None:
    """What a solution says of itself is true where it ended, not one step before."""
    solution = solve(case.problem, case.values, solver, atol=1e-12, max_steps=3)
    point = case.problem.at(solution.values)
    expected = torch.stack([group.square().mean(-1).sqrt() for group in point.residual], -1)
    torch.testing.assert_close(solution.residual, expected, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(solution.point.energy, point.energy, rtol=1e-12, atol=0)


@every_solver
def test_steps_lower_the_energy(case, solver: Solver) -> None:
    start = case.problem.at(case.values).energy
    energy = solve(case.problem, case.values, solver, atol=0, max_steps=12).point.energy
    assert (energy < start).all()


@every_solver
def test_a_solver_is_a_value(solver: Solver) -> None:
    """Printable, comparable, hashable, unchangeable: settings in a YAML file, not a thing with a life."""
    copy = dataclasses.replace(solver)
    assert copy == solver
    assert hash(copy) == hash(solver)
    assert eval(repr(solver)) == solver
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(solver, dataclasses.fields(solver)[0].name, 0.5)
