"""The loop, the stopping rule and the solvers on problems whose answer is known in closed form."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from pcnet.inference import (
    EnergyPoint,
    EnergyProblem,
    Equilibrium,
    ErrorProblem,
    Euler,
    GaussNewton,
    Momentum,
    Point,
    Solver,
    Status,
    conjugate_gradients,
    solve,
    unroll,
)
from pcnet.typing import State

CHAIN_SPECTRUM = (0.15278074, 1.0, 1.40405794, 3.53842825, 7.90473307)
"""Eigenvalues of the chain's Hessian in values, from ../shared/reference/predictive_coding.md."""


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


class Quadratic(EnergyProblem):
    """F = 1/2 sum curvature (x - target)^2: a diagonal curvature for every row and group."""

    def __init__(self, curvature: State, target: State) -> None:
        self.curvature = curvature
        self.target = target

    def rows(self, index: Tensor) -> "Quadratic":
        return Quadratic(*(tuple(group[index] for group in state) for state in (self.curvature, self.target)))

    def at(self, x: State) -> EnergyPoint:
        shift = [group - target for group, target in zip(x, self.target, strict=True)]
        residual = tuple(c * s for c, s in zip(self.curvature, shift, strict=True))
        return EnergyPoint(x, residual, 0.5 * sum((r * s).sum(-1) for r, s in zip(residual, shift, strict=True)))


class LinearChain(ErrorProblem):
    """The three-layer linear chain of the reference, x and y clamped: z1 = W1 x + eps1, z2 = W2 z1 + eps2, y = W3 z2 + eps3."""

    first = matrix([1, 2], [0, -1], [0.5, 0.5])
    second = matrix([1, 0, -1], [2, 1, 0])
    third = matrix([1, -1])

    def __init__(self) -> None:
        self.base = matrix([1, 1], [0, 2]) @ self.first.T
        self.output = matrix([1], [-1])

    def rows(self, index: Tensor) -> "LinearChain":
        chosen = LinearChain()
        chosen.base, chosen.output = self.base[index], self.output[index]
        return chosen

    def at(self, x: State) -> EnergyPoint:
        eps1, eps2 = self.errors(x)
        eps3 = self.output - x[1] @ self.third.T
        energy = 0.5 * sum((eps * eps).sum(-1) for eps in (eps1, eps2, eps3))
        return EnergyPoint(x, (eps1 - eps2 @ self.second, eps2 - eps3 @ self.third), energy)

    def at_errors(self, errors: State) -> EnergyPoint:
        first = self.base + errors[0]
        return self.at((first, first @ self.second.T + errors[1]))

    def errors(self, values: State) -> State:
        return values[0] - self.base, values[1] - values[0] @ self.second.T

    def pull_back(self, point: EnergyPoint, gradient: State) -> State:
        return gradient[0] + gradient[1] @ self.second, gradient[1]

    def push_forward(self, point: EnergyPoint, direction: State) -> State:
        return direction[0], direction[1] + direction[0] @ self.second.T

    def gauss_newton(self, point: EnergyPoint) -> "DenseMetric":
        jacobian = torch.cat([self.third @ self.second, self.third], dim=1)
        return DenseMetric(torch.eye(5, dtype=torch.float64) + jacobian.T @ jacobian)


@dataclass
class DenseMetric:
    matrix: Tensor

    def solve(self, gradient: State) -> State:
        return torch.linalg.solve(self.matrix, torch.cat(gradient, -1).T).T.split(
            [group.shape[-1] for group in gradient], -1
        )


CHAIN_EQUILIBRIUM = (
    matrix([7 / 3, -5 / 3, 1 / 3], [11 / 3, -7 / 3, 2 / 3]),
    matrix([8 / 3, 7 / 3], [10 / 3, 14 / 3]),
)


def chain_start() -> State:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, width, generator=generator, dtype=torch.float64) for width in (3, 2))


def distance(values: State, goal: State) -> Tensor:
    return torch.cat([a - b for a, b in zip(values, goal, strict=True)], -1).norm(dim=-1)


def two_groups(curvature: Tensor, start: Tensor) -> tuple[Quadratic, State]:
    """One unit per group, so that the rms of a group's residual is curvature times distance."""
    problem = Quadratic(
        tuple(curvature[:, [g]] for g in range(2)), tuple(torch.zeros(len(start), 1).double() for _ in range(2))
    )
    return problem, tuple(start[:, [g]] for g in range(2))


# --- the solvers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "max_steps"), [(Euler(0.2), 2000), (Momentum(0.2, 0.8), 1000), (GaussNewton(), 5)], ids=lambda x: str(x)
)
def test_linear_chain_reaches_the_published_equilibrium(solver: Solver, max_steps: int) -> None:
    solution = solve(LinearChain(), chain_start(), solver, atol=1e-12, max_steps=max_steps)
    assert solution.status.tolist() == [Status.CONVERGED] * 2
    torch.testing.assert_close(solution.values, CHAIN_EQUILIBRIUM, rtol=0, atol=1e-10)
    assert solution.point.energy.mean().item() == pytest.approx(5 / 6, abs=1e-12)


def test_gauss_newton_solves_a_linear_network_in_one_step() -> None:
    solution = solve(LinearChain(), chain_start(), GaussNewton(), atol=1e-12, max_steps=1)
    assert solution.steps.tolist() == [1, 1]
    torch.testing.assert_close(solution.values, CHAIN_EQUILIBRIUM, rtol=0, atol=1e-12)


def test_euler_converges_at_the_rate_of_the_spectrum() -> None:
    """Late in a run the distance shrinks each step by max |1 - step_size lambda|, here through the flattest direction."""
    rate = max(abs(1 - 0.2 * curvature) for curvature in CHAIN_SPECTRUM)
    trace = solve(LinearChain(), chain_start(), Euler(0.2), atol=0, max_steps=310, record=(300, 310)).trace
    measured = (distance(trace[310], CHAIN_EQUILIBRIUM) / distance(trace[300], CHAIN_EQUILIBRIUM)) ** 0.1
    np.testing.assert_allclose(measured.numpy(), [rate, rate], rtol=1e-6)


def test_momentum_converges_at_the_rate_of_the_spectrum() -> None:
    """Roots of z^2 - (1 + momentum - step_size lambda) z + momentum, the greatest over the spectrum (Polyak 1964)."""
    roots = [abs(np.roots([1, -(1.5 - 0.1 * curvature), 0.5])).max() for curvature in CHAIN_SPECTRUM]
    trace = solve(LinearChain(), chain_start(), Momentum(0.1, 0.5), atol=0, max_steps=310, record=(300, 310)).trace
    measured = (distance(trace[310], CHAIN_EQUILIBRIUM) / distance(trace[300], CHAIN_EQUILIBRIUM)) ** 0.1
    np.testing.assert_allclose(measured.numpy(), [max(roots)] * 2, rtol=1e-6)


def test_momentum_when_every_direction_oscillates_shrinks_as_its_square_root() -> None:
    trace = solve(LinearChain(), chain_start(), Momentum(0.2, 0.81), atol=0, max_steps=300, record=(50, 250)).trace
    measured = (distance(trace[250], CHAIN_EQUILIBRIUM) / distance(trace[50], CHAIN_EQUILIBRIUM)) ** (1 / 200)
    np.testing.assert_allclose(measured.numpy(), [0.9, 0.9], rtol=0.01)


def test_momentum_zero_is_euler() -> None:
    one = solve(LinearChain(), chain_start(), Momentum(0.1, 0.0), atol=0, max_steps=20)
    other = solve(LinearChain(), chain_start(), Euler(0.1), atol=0, max_steps=20)
    torch.testing.assert_close(one.values, other.values, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("solver", "limit"), [(Euler, 2.0), (lambda s: Momentum(s, 0.5), 3.0)], ids=["Euler", "Momentum"]
)
def test_stability_limit_of_the_step_size(solver, limit: float) -> None:
    """Euler is stable up to 2 / lambda_max, momentum up to 2 (1 + momentum) / lambda_max."""
    longest = limit / CHAIN_SPECTRUM[-1]
    for factor, shrinks in ((0.99, True), (1.01, False)):
        trace = solve(
            LinearChain(), chain_start(), solver(factor * longest), atol=0, max_steps=800, record=(400, 800)
        ).trace
        assert (distance(trace[800], CHAIN_EQUILIBRIUM) < distance(trace[400], CHAIN_EQUILIBRIUM)).tolist() == [
            shrinks
        ] * 2


class Bowl(ErrorProblem):
    """F = sqrt(1 + x^2) with its exact curvature as metric: Newton overshoots and diverges from |x| > 1."""

    def at(self, x: State) -> EnergyPoint:
        root = (1 + x[0] ** 2).sqrt()
        return EnergyPoint(x, (x[0] / root,), root.sum(-1))

    at_errors = at

    def rows(self, index: Tensor) -> "Bowl":
        return self

    def errors(self, values: State) -> State:
        return values

    def pull_back(self, point: EnergyPoint, gradient: State) -> State:
        return gradient

    push_forward = pull_back

    def gauss_newton(self, point: EnergyPoint) -> "Curvature":
        return Curvature((1 + point.values[0] ** 2) ** -1.5)


@dataclass
class Curvature:
    diagonal: Tensor

    def solve(self, gradient: State) -> State:
        return (gradient[0] / self.diagonal,)


def test_gauss_newton_goes_back_along_a_step_that_raised_the_energy() -> None:
    """From x = 2 Newton's step is -x (1 + x^2) = -10, to -8: uphill, so a quarter of it is kept, to 2 - 10/4."""
    start = (matrix([2.0], [0.5]),)
    trace = solve(Bowl(), start, GaussNewton(), atol=0, max_steps=2, record=(1, 2)).trace
    assert trace[1][0].tolist() == [[-8.0], [pytest.approx(-0.125)]]
    assert trace[2][0].tolist() == [[-0.5], [pytest.approx(0.125**3)]]
    solution = solve(Bowl(), (matrix([2.0], [30.0], [-5.0]),), GaussNewton(), atol=1e-10, max_steps=60)
    assert solution.converged.all()
    np.testing.assert_allclose(solution.values[0].numpy(), np.zeros((3, 1)), atol=1e-9)


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_every_group_of_every_row_must_have_stopped() -> None:
    """Residuals against atol = .1: an average over a row's groups would accept rows 1 and 2."""
    problem, start = two_groups(torch.ones(4, 2).double(), matrix([0.05, 0.09], [0.0, 0.13], [0.13, 0.0], [0.2, 0.2]))
    solution = solve(problem, start, Euler(0.1), atol=0.1, max_steps=0)
    assert solution.status.tolist() == [Status.CONVERGED, Status.UNCONVERGED, Status.UNCONVERGED, Status.UNCONVERGED]
    np.testing.assert_allclose(solution.residual.numpy(), [[0.05, 0.09], [0, 0.13], [0.13, 0], [0.2, 0.2]], rtol=1e-14)


def test_a_deep_group_that_has_not_moved_yet_is_not_overlooked() -> None:
    """1000 units at rest beside one that is 5e-4 away: the rms over all would be 1.6e-5, below the tolerance of 1e-4."""
    curvature = (torch.ones(1, 1000).double(), torch.ones(1, 1).double())
    problem = Quadratic(curvature, (torch.zeros(1, 1000).double(), torch.zeros(1, 1).double()))
    start = (torch.zeros(1, 1000).double(), matrix([5e-4]))
    assert solve(problem, start, Euler(0.5), atol=1e-4, max_steps=0).status.tolist() == [Status.UNCONVERGED]
    assert solve(problem, start, Euler(0.5), atol=1e-4, max_steps=10).steps.tolist() == [3]  # 5, 2.5, 1.25, .625 e-4


def test_a_group_is_measured_by_its_rms_not_its_norm() -> None:
    problem = Quadratic((torch.ones(1, 100).double(),), (torch.zeros(1, 100).double(),))
    start = (torch.full((1, 100), 0.09).double(),)
    assert solve(problem, start, Euler(0.1), atol=0.1, max_steps=0).converged.all()  # its norm is .9


def test_relative_tolerance_is_relative_to_the_rms_of_the_values_of_the_same_group() -> None:
    """F = 1/2 (x - target)^2 at x = 10 or 1 in the groups, both .5 away: .5 <= .06 * 10, .5 > .06 * 1."""
    target = (matrix([9.5], [9.5]), matrix([9.5], [0.5]))
    problem = Quadratic((torch.ones(2, 1).double(),) * 2, target)
    start = (matrix([10.0], [10.0]), matrix([10.0], [1.0]))
    solution = solve(problem, start, Euler(0.1), atol=0, rtol=0.06, max_steps=0)
    assert solution.status.tolist() == [Status.CONVERGED, Status.UNCONVERGED]
    assert solve(problem, start, Euler(0.1), atol=0.45, rtol=0.06, max_steps=0).converged.all()  # the two bounds add up


def test_steps_are_counted_per_row() -> None:
    """Euler(.5) on curvature 1 halves the distance: 2^-k <= .01 first at k = 7, from .25 at 5, from .001 at 0."""
    problem, start = two_groups(torch.ones(3, 2).double(), matrix([1.0, 0], [0, 0.25], [0.001, 0]))
    solution = solve(problem, start, Euler(0.5), atol=0.01, max_steps=50)
    assert solution.steps.tolist() == [7, 5, 0]
    np.testing.assert_allclose(torch.cat(solution.values, -1).numpy(), [[2**-7, 0], [0, 2**-7], [0.001, 0]], rtol=1e-14)


def test_zero_steps_only_evaluate() -> None:
    problem, start = two_groups(torch.ones(2, 2).double(), matrix([1.0, 2.0], [0, 0]))
    solution = solve(problem, start, Euler(0.5), max_steps=0)
    assert solution.steps.tolist() == [0, 0]
    assert solution.status.tolist() == [Status.UNCONVERGED, Status.CONVERGED]
    assert [group.tolist() for group in solution.values] == [[[1.0], [0.0]], [[2.0], [0.0]]]
    assert solution.point.energy.tolist() == [2.5, 0.0]


@pytest.mark.parametrize("check_every", [1, 2, 7])
def test_how_often_one_looks_changes_no_bit(check_every: int) -> None:
    problem, start = two_groups(matrix([1, 0.5], [1, 1], [0.1, 2]), matrix([1.0, 1], [0.25, 0], [3, 1]))
    one = solve(problem, start, Euler(0.3), atol=1e-3, max_steps=200)
    other = solve(problem, start, Euler(0.3), atol=1e-3, max_steps=200, check_every=check_every)
    assert other.steps.tolist() == one.steps.tolist()
    assert all(torch.equal(a, b) for a, b in zip(one.values, other.values, strict=True))


def test_a_finished_row_stays_where_it_is_bit_for_bit() -> None:
    problem, start = two_groups(torch.ones(2, 2).double(), matrix([0.3, 0.1], [7.0, 5.0]))
    for solver in (Euler(0.1), Momentum(0.1, 0.7)):
        solution = solve(problem, start, solver, atol=0.05, max_steps=500, record=range(500))
        stopped = int(solution.steps[0])
        assert 0 < stopped < int(solution.steps[1])
        for group in range(2):
            reached = solution.trace[stopped][group][0]
            assert all(torch.equal(values[group][0], reached) for k, values in solution.trace.items() if k >= stopped)
            assert torch.equal(solution.values[group][0], reached)


def test_a_diverging_row_is_named_and_changes_no_other_bit() -> None:
    """A curvature of 1e6 makes Euler(.5) grow by 5e5 a step, past float64 within 60 steps; a NaN is one from the start."""
    for solver in (Euler(0.5), Momentum(0.5, 0.5)):
        curvature, start = matrix([1, 0.5], [1, 1e6], [0.3, 1]), matrix([1.0, 1], [1, 1], [2, 3])
        bad = solve(*two_groups(curvature, start), solver, atol=1e-9, max_steps=200)
        assert bad.status.tolist() == [Status.CONVERGED, Status.DIVERGED, Status.CONVERGED]
        curvature[1, 1] = 1.0
        healthy = solve(*two_groups(curvature, start), solver, atol=1e-9, max_steps=200)
        start[1, 0] = torch.nan
        poisoned = solve(*two_groups(curvature, start), solver, atol=1e-9, max_steps=200)
        assert poisoned.status.tolist() == bad.status.tolist()
        assert poisoned.steps.tolist()[1] == 0
        for solution in (bad, poisoned):
            for group in range(2):
                assert torch.equal(solution.values[group][[0, 2]], healthy.values[group][[0, 2]])
            assert solution.steps[[0, 2]].tolist() == healthy.steps[[0, 2]].tolist()


def test_trace_holds_the_values_after_so_many_steps() -> None:
    """Euler(.5) on curvature 1 halves the distance at every step until the row stops."""
    problem, start = two_groups(torch.ones(2, 2).double(), matrix([1.0, 1.0], [16.0, 16.0]))
    trace = solve(problem, start, Euler(0.5), atol=0.3, max_steps=100, record=(0, 1, 4, 50)).trace
    assert {k: [group.flatten().tolist() for group in values] for k, values in trace.items()} == {
        0: [[1.0, 16.0]] * 2,
        1: [[0.5, 8.0]] * 2,
        4: [[0.25, 1.0]] * 2,  # the first row stopped at .25, after two steps
        50: [[0.25, 0.25]] * 2,
    }


def test_solving_leaves_the_start_as_it_was() -> None:
    for solver in (Euler(0.1), Momentum(0.1, 0.7), GaussNewton()):
        start = chain_start()
        solve(LinearChain(), start, solver)
        assert all(torch.equal(a, b) for a, b in zip(start, chain_start(), strict=True))


@pytest.mark.parametrize("solver", [Euler(0.1), Momentum(0.1, 0.7), GaussNewton()], ids=str)
def test_unroll_is_the_same_recursion_and_differentiable(solver: Solver) -> None:
    problem, start = LinearChain(), tuple(group.requires_grad_() for group in chain_start())
    unrolled = unroll(problem, start, solver, steps=3)
    torch.testing.assert_close(unrolled, solve(problem, start, solver, atol=0, max_steps=3).values, rtol=0, atol=1e-13)
    (jacobian,) = torch.autograd.grad(unrolled[0][0, 0], start[1], retain_graph=True)
    moved = (start[0], start[1] + matrix([1e-4, 0], [0, 0]))
    difference = (unroll(problem, moved, solver, steps=3)[0][0, 0] - unrolled[0][0, 0]) / 1e-4  # exact: all is affine
    assert jacobian[0, 0].item() == pytest.approx(difference.item(), abs=1e-9)


# --- what is refused --------------------------------------------------------------------------------------------------


class NoEnergy(Equilibrium):
    """x = 0, without saying of what energy that is the minimum."""

    def at(self, x: State) -> Point:
        return Point(x, x)

    def rows(self, index: Tensor) -> "NoEnergy":
        return self


def test_a_solver_that_needs_more_structure_says_so() -> None:
    start = (torch.ones(1, 2).double(),)
    with pytest.raises(TypeError, match="GaussNewton needs a ErrorProblem, got a NoEnergy"):
        solve(NoEnergy(), start, GaussNewton())
    assert solve(NoEnergy(), start, Euler(0.5)).converged.all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("atol", value) for value in (-1e-4, float("nan"), float("inf"))),
        *(("rtol", value) for value in (-1e-4, float("nan"), float("inf"))),
        ("max_steps", -1),
        ("check_every", 0),
    ],
)
def test_solve_refuses_a_setting_out_of_range_by_its_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be .*, got {value}"):
        solve(LinearChain(), chain_start(), Euler(), **{name: value})


@pytest.mark.parametrize(
    ("solver", "name", "value"),
    [
        *(
            (solver, "step_size", value)
            for solver in (Euler, Momentum)
            for value in (0, -0.1, float("nan"), float("inf"))
        ),
        *((Momentum, "momentum", value) for value in (-0.1, 1.0, float("nan"))),
        *((GaussNewton, "forcing", value) for value in (0, 1.0, float("nan"))),
        *((GaussNewton, name, -1) for name in ("patience", "max_products", "check_every")),
    ],
)
def test_a_solver_refuses_a_setting_out_of_range_by_its_name(solver: type[Solver], name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be .*, got {value}"):
        solver(**{name: value})


# --- linear systems ---------------------------------------------------------------------------------------------------


class Systems:
    """Three symmetric positive-definite systems of five unknowns in groups of three and two, conditions 3, 40 and 500."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        bases = [np.linalg.qr(rng.standard_normal((5, 5)))[0] for _ in range(3)]
        spectra = [np.geomspace(1, condition, 5) for condition in (3, 40, 500)]
        self.matrices = torch.from_numpy(np.stack([q * s @ q.T for q, s in zip(bases, spectra, strict=True)]))
        self.right = torch.from_numpy(rng.standard_normal((3, 5)))

    def product(self, x: State) -> State:
        return tuple((self.matrices @ torch.cat(x, -1).unsqueeze(-1)).squeeze(-1).split([3, 2], -1))

    def jacobi(self, r: State) -> State:
        scale = self.matrices.diagonal(dim1=-2, dim2=-1).split([3, 2], -1)
        return tuple(group / s for group, s in zip(r, scale, strict=True))

    def solved(self, right: Tensor, *, plain: bool = False, rtol: float = 1e-13, max_steps: int = 100) -> Tensor:
        precondition = (lambda r: r) if plain else self.jacobi
        x = conjugate_gradients(
            self.product, tuple(right.split([3, 2], -1)), precondition, rtol=rtol, max_steps=max_steps
        )
        return torch.cat(x, -1)


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "preconditioned"])
def test_conjugate_gradients_solve_every_row(plain: bool) -> None:
    systems = Systems()
    expected = torch.linalg.solve(systems.matrices, systems.right.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(systems.solved(systems.right, plain=plain), expected, rtol=1e-9, atol=1e-11)


def test_conjugate_gradients_need_as_many_steps_as_unknowns() -> None:
    systems = Systems()
    expected = torch.linalg.solve(systems.matrices, systems.right.unsqueeze(-1)).squeeze(-1)
    error = [(systems.solved(systems.right, max_steps=k) - expected).norm(dim=-1) for k in (4, 5)]
    assert (error[0] > 1e-4 * expected.norm(dim=-1)).all()
    assert (error[1] < 1e-10 * expected.norm(dim=-1)).all()


def test_the_first_step_of_conjugate_gradients_is_steepest_descent() -> None:
    systems = Systems()
    right = systems.right
    curvature = torch.einsum("bi,bij,bj->b", right, systems.matrices, right)
    expected = right * ((right * right).sum(-1) / curvature).unsqueeze(-1)
    torch.testing.assert_close(systems.solved(right, plain=True, max_steps=1), expected, rtol=1e-12, atol=0)


def test_conjugate_gradients_keep_rows_apart() -> None:
    """A row of zeros stays zero without dividing by it, and every row stops on its own tolerance."""
    systems = Systems()
    right = systems.right * matrix([0.0], [1e-8], [1.0])
    together = systems.solved(right, rtol=1e-3)
    assert together[0].tolist() == [0.0] * 5
    residual = right - (systems.matrices @ together.unsqueeze(-1)).squeeze(-1)
    decrement = [
        (r * torch.cat(systems.jacobi(tuple(r.split([3, 2], -1))), -1)).sum(-1).sqrt() for r in (residual, right)
    ]
    assert (decrement[0][1:] <= 1e-3 * decrement[1][1:]).all()
    for row in (1, 2):
        alone = right * torch.eye(3)[row].unsqueeze(-1)
        assert torch.equal(systems.solved(alone, rtol=1e-3)[row], together[row])
