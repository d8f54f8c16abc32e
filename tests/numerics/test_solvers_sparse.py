"""L1 priors: every solver takes its proximal step without knowing, and lands on scikit-learn's lasso."""

import numpy as np
import pytest
import torch
from linear_problems import Lasso, SparseTop, normal
from sklearn.linear_model import Lasso as Reference
from torch import Tensor

from pcnet.inference import (
    Anderson,
    Euler,
    FixedSteps,
    Heun,
    InErrors,
    Momentum,
    Monotone,
    NewtonCG,
    Solver,
    Status,
    solve,
    unroll,
)

STRENGTH = 2.0
SOLVERS = [
    Euler(0.02),
    Euler(),
    Heun(),
    Momentum(0.02, 0.7),
    Momentum(),
    Anderson(),
    NewtonCG(),
    Monotone(Euler(0.3)),
    Monotone(Momentum()),
]


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def lasso(design: Tensor, outcome: Tensor, strength: float) -> Tensor:
    """The minimum of 1/2 |y - A x|^2 + strength |x|_1 for every row y."""
    model = Reference(alpha=strength / len(design), fit_intercept=False, tol=1e-14, max_iter=1_000_000)
    return torch.from_numpy(np.stack([model.fit(design.numpy(), y.numpy()).coef_ for y in outcome]))


@pytest.mark.parametrize("start", ["zero", "noise"])
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_every_solver_finds_the_lasso(solver: Solver, start: str) -> None:
    problem = Lasso(normal(12, 8), 2 * normal(5, 12, seed=1), STRENGTH)
    expected = lasso(problem.design, problem.outcome, STRENGTH)
    assert (expected == 0).any(-1).all()
    begin = torch.zeros_like(expected) if start == "zero" else normal(5, 8, seed=2)
    solution = solve(problem, (begin,), solver, atol=1e-9, max_steps=3000)
    assert solution.status.tolist() == [Status.CONVERGED] * 5
    torch.testing.assert_close(solution.values[0], expected, rtol=0, atol=1e-6)
    assert torch.equal(solution.values[0] == 0, expected == 0)  # exactly zero, not nearly


@pytest.mark.parametrize("solver", [Momentum(), Anderson(), NewtonCG(), Monotone(Momentum())], ids=str)
def test_a_lasso_with_more_units_than_data(solver: Solver) -> None:
    """The smooth part is flat in half of the directions, and nearly so where a solver would like to go."""
    problem = Lasso(normal(10, 20), 2 * normal(40, 10, seed=1), STRENGTH)
    expected = lasso(problem.design, problem.outcome, STRENGTH)
    solution = solve(problem, (torch.zeros_like(expected),), solver, atol=1e-9, max_steps=3000, compact=True)
    assert solution.converged.all()
    torch.testing.assert_close(solution.point.energy, problem.at((expected,)).energy, rtol=0, atol=1e-8)
    torch.testing.assert_close(solution.values[0], expected, rtol=0, atol=1e-5)


def test_orthonormal_design_is_soft_thresholding() -> None:
    """x = sign(A^T y) max(|A^T y| - strength, 0), and everything at zero once the strength exceeds |A^T y|."""
    design = torch.linalg.qr(normal(9, 6)).Q
    outcome = 3 * normal(4, 9, seed=1)
    projected = outcome @ design
    for strength in (0.5, 2.0, 100.0):
        expected = projected.sign() * (projected.abs() - strength).clamp(min=0)
        solution = solve(
            Lasso(design, outcome, strength), (normal(4, 6, seed=2),), Euler(0.5), atol=1e-12, max_steps=400
        )
        torch.testing.assert_close(solution.values[0], expected, rtol=0, atol=1e-11)
        assert torch.equal(solution.values[0] == 0, expected == 0)


@pytest.mark.parametrize(
    "solver",
    [
        InErrors(Euler()),
        InErrors(Momentum(0.02, 0.7)),
        InErrors(Anderson()),
        InErrors(NewtonCG()),
        Monotone(InErrors(Momentum())),
    ],
    ids=str,
)
def test_a_sparse_top_in_error_coordinates(solver: Solver) -> None:
    """With h minimised away, z is the lasso of S^-1/2 y on S^-1/2 C W, S = 1 + C C^T."""
    above, readout, outcome = normal(7, 4), 0.5 * normal(6, 7, seed=1), 5 * normal(4, 6, seed=2)
    noise = torch.linalg.inv(torch.linalg.cholesky(torch.eye(6, dtype=torch.float64) + readout @ readout.T))
    expected = lasso(noise @ readout @ above, outcome @ noise.T, 1.5)
    assert (expected == 0).any()
    problem = SparseTop(above, readout, outcome, 1.5)
    solution = solve(problem, (normal(4, 7), normal(4, 4)), solver, atol=1e-9, max_steps=3000)
    assert solution.converged.all()
    torch.testing.assert_close(solution.values[1], expected, rtol=0, atol=1e-6)
    assert torch.equal(solution.values[1] == 0, expected == 0)


def test_steps_stop_at_zero_in_every_loop() -> None:
    """x = (1, -1, 1) and a step of -.3 * (5, -5, 1): the first two would cross."""
    problem = Lasso(torch.eye(3).double(), matrix([-3.0, 3.0, 1.0]), 1.0)
    begin = (matrix([1.0, -1.0, 1.0]),)
    expected = [[0.0, 0.0, pytest.approx(0.7)]]
    assert solve(problem, begin, Euler(0.3), max_steps=1).values[0].tolist() == expected
    assert unroll(problem, begin, Euler(0.3), steps=1)[0].tolist() == expected
    assert FixedSteps(0.3, 1).run(problem, begin).values[0].tolist() == expected


def test_an_automatic_step_counts_units_that_are_still_held() -> None:
    """From zero all units but the first are held; the step has to be short enough for the others as well."""
    design = torch.diag(matrix([1.0, 3.0, 10.0])[0])
    problem = Lasso(design, matrix([5.0, 0.1, 0.05]), 1.0)
    point = problem.at((matrix([0.0, 0.0, 0.0]),))
    assert point.residual[0].tolist() == [[-4.0, 0.0, 0.0]]
    for carry in (Euler().init(problem, point), Momentum().init(problem, point).pace):
        assert carry.step_size.item() == pytest.approx(1 / 100)


def test_a_unit_that_was_stopped_loses_its_momentum() -> None:
    """From .1 with a gradient of 10 a step of -1 stops at zero; the next, from rest, is -.1 (8.9 - 1)."""
    problem = Lasso(matrix([1.0]), matrix([-8.9]), 1.0)
    trace = solve(problem, (matrix([0.1]),), Momentum(0.1, 0.5), max_steps=2, record=(1, 2)).trace
    assert trace[1][0].item() == 0
    assert trace[2][0].item() == pytest.approx(-0.79)
