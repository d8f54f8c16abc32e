"""Trust regions, safeguards and their refusals, on problems small enough to follow by hand."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from linear_problems import Chain, Quadratic, normal, with_spectrum
from torch import Tensor

from pcnet.inference import (
    Anderson,
    CurvedProblem,
    EnergyPoint,
    Equilibrium,
    Euler,
    Heun,
    InErrors,
    Momentum,
    Monotone,
    NewtonCG,
    Point,
    Solver,
    Status,
    solve,
)
from pcnet.inference.trust_region import Found, System
from pcnet.typing import State


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


class Separable(CurvedProblem):
    """F = sum f(x) over units, f by its values, slopes and curvatures."""

    def __init__(self, *derivatives) -> None:
        self.derivatives = derivatives

    def rows(self, index: Tensor) -> "Separable":
        return self

    def at(self, x: State) -> EnergyPoint:
        energy, slope, _ = self.derivatives
        return EnergyPoint(x, (slope(x[0]),), energy(x[0]).sum(-1))

    def hessian_product(self, point: EnergyPoint, direction: State) -> State:
        return (self.derivatives[2](point.values[0]) * direction[0],)


BOWL = Separable(lambda x: (1 + x**2).sqrt(), lambda x: x / (1 + x**2).sqrt(), lambda x: (1 + x**2) ** -1.5)
"""Newton's step is -x (1 + x^2): it overshoots and diverges from |x| > 1."""
WELLS = Separable(lambda x: x**4 / 4 - x**2 / 2, lambda x: x**3 - x, lambda x: 3 * x**2 - 1)
"""A hill at 0 with curvature -1 between minima at -1 and 1."""


@dataclass(frozen=True)
class Stubborn(Solver):
    """Goes downhill on its first step and uphill ever after, until it starts afresh."""

    def init(self, problem: Equilibrium, point: Point) -> Tensor:
        return -torch.ones_like(point.residual[0][:, :1])

    def step(self, problem: Equilibrium, point: Point, carry: Tensor) -> tuple[State, Tensor]:
        return tuple(0.2 * carry * r for r in point.residual), torch.ones_like(carry)

    def restart(self, problem: Equilibrium, point: Point, carry: Tensor) -> Tensor:
        return -torch.ones_like(carry)


# --- the quadratic model in its ball ----------------------------------------------------------------------------------


def systems() -> tuple[Tensor, Tensor]:
    return with_spectrum(np.geomspace(0.1, 5, 6).tolist(), [-1.0, *np.linspace(1, 2, 5)]), normal(2, 6, seed=3)


@dataclass(frozen=True)
class Inverse:
    """A metric known by its inverse alone."""

    inverse: Tensor

    def solve(self, gradient: State) -> State:
        return (gradient[0] @ self.inverse,)


def in_ball(radius: float, preconditioner: Tensor | None = None, rtol: float = 1e-12) -> Found:
    """The step in a ball round in the norm of the preconditioner."""
    hessian, right = systems()
    inverse = torch.eye(6).double() if preconditioner is None else torch.linalg.inv(preconditioner)
    ball, tolerance = matrix([radius, radius])[0], matrix([rtol, rtol])[0]
    return System(lambda d: torch.einsum("bij,bj->bi", hessian, d), Inverse(inverse), ball, tolerance).solve(
        right, 50, 1
    )


def test_inside_the_ball_the_step_is_newton() -> None:
    hessian, right = systems()
    found = in_ball(1e6)
    step = found.step[0]
    torch.testing.assert_close(step, torch.linalg.solve(hessian[0], right[0]), rtol=0, atol=1e-9)
    assert found.length[0].item() == pytest.approx(step.norm().item(), rel=1e-9)
    assert found.directional_derivative[0].item() == pytest.approx(-(right[0] @ step).item(), rel=1e-9)
    assert found.curvature[0].item() == pytest.approx((step @ hessian[0] @ step).item(), rel=1e-9)


@pytest.mark.parametrize("radius", [0.01, 0.3, 1.0])
def test_at_the_edge_the_step_is_as_long_as_the_radius_and_no_worse_than_steepest_descent(radius: float) -> None:
    hessian, right = systems()
    step, slope, bent, length, *_ = in_ball(radius)
    np.testing.assert_allclose(step.norm(dim=-1).numpy(), radius, rtol=1e-9)
    np.testing.assert_allclose(length.numpy(), radius, rtol=1e-9)
    torch.testing.assert_close(bent, torch.einsum("bi,bij,bj->b", step, hessian, step), rtol=0, atol=1e-10)
    torch.testing.assert_close(slope, -(right * step).sum(-1), rtol=0, atol=1e-12)

    def model(d: Tensor) -> Tensor:
        return -(right * d).sum(-1) + 0.5 * torch.einsum("bi,bij,bj->b", d, hessian, d)

    curvature = torch.einsum("bi,bij,bj->b", right, hessian, right)
    longest = radius / right.norm(dim=-1)
    best = torch.where(curvature > 0, torch.minimum((right * right).sum(-1) / curvature, longest), longest)
    assert (model(step) <= model(best.unsqueeze(-1) * right) + 1e-12).all()


def test_the_ball_is_round_in_the_norm_of_the_preconditioner() -> None:
    preconditioner = with_spectrum([1.0, 2, 3, 4, 5, 9])[0]
    step, _, _, length, *_ = in_ball(0.7, preconditioner)
    np.testing.assert_allclose(torch.einsum("bi,ij,bj->b", step, preconditioner, step).sqrt().numpy(), 0.7, rtol=1e-9)
    np.testing.assert_allclose(length.numpy(), 0.7, rtol=1e-9)
    inside, _, _, length, *_ = in_ball(1e6, preconditioner)
    hessian, right = systems()
    torch.testing.assert_close(inside[0], torch.linalg.solve(hessian[0], right[0]), rtol=0, atol=1e-9)
    assert length[0].item() == pytest.approx((inside[0] @ preconditioner @ inside[0]).sqrt().item(), rel=1e-9)


def test_where_the_energy_curves_down_the_step_ends() -> None:
    """One product: as far as if the curvature had the other sign, or to the edge of the ball."""
    for radius, expected in ((100.0, 0.5), (0.2, 0.2)):
        system = System(lambda d: -2 * d, Inverse(torch.eye(1).double()), matrix([radius])[0], matrix([1e-9])[0])
        step, slope, bent, length, needed, products = system.solve(matrix([1.0]), 10, 1)
        assert needed.item() == products.item() == 1
        assert step.item() == length.item() == -slope.item() == pytest.approx(expected)
        assert bent.item() == pytest.approx(-2 * expected**2)


# --- NewtonCG ---------------------------------------------------------------------------------------------------------


def test_newton_goes_back_along_a_step_that_gained_nothing() -> None:
    """From x = 2 Newton's step is -10, to -8 and uphill: a quarter of it is kept, to -.5, and from there Newton converges."""
    start = (matrix([2.0], [0.5]),)
    trace = solve(BOWL, start, NewtonCG(), atol=0, max_steps=2, record=(1, 2)).trace
    assert trace[1][0].tolist() == [[pytest.approx(-8.0)], [pytest.approx(-0.125)]]
    assert trace[2][0].tolist() == [[pytest.approx(-0.5)], [pytest.approx(0.125**3)]]
    solution = solve(BOWL, (matrix([2.0], [30.0], [-5.0]),), NewtonCG(), atol=1e-10, max_steps=60)
    assert solution.converged.all()
    np.testing.assert_allclose(solution.values[0].numpy(), np.zeros((3, 1)), atol=1e-9)


def test_newton_converges_quadratically() -> None:
    """On x^4/4 - x^2/2 the error becomes 3/2 of its square."""
    trace = solve(WELLS, (matrix([1.1]),), NewtonCG(), atol=0, max_steps=4, record=range(5)).trace
    error = [abs(trace[k][0].item() - 1) for k in range(5)]
    assert error[2] == pytest.approx(1.5 * error[1] ** 2, rel=0.05)
    assert error[3] == pytest.approx(1.5 * error[2] ** 2, rel=0.01)


def test_newton_leaves_a_hill() -> None:
    """Plain Newton would go to the top of it: the curvature there is negative."""
    solution = solve(WELLS, (matrix([0.01, 0.3, -0.02], [-0.5, 0.5, 0.001]),), NewtonCG(), atol=1e-10, max_steps=50)
    assert solution.converged.all()
    np.testing.assert_allclose(solution.values[0].numpy(), [[1, 1, -1], [-1, 1, 1]], atol=1e-9)


def test_the_first_trust_region_bounds_the_first_step_and_grows_where_the_model_is_right() -> None:
    """A quadratic is its own model: steps of .5, 1, 2, 4 along a straight line, in one dimension."""
    problem = Quadratic(matrix([2.0]).unsqueeze(0), matrix([10.0]), (1,))
    trace = solve(problem, (matrix([0.0]),), NewtonCG(radius=0.5), max_steps=4, record=range(5)).trace
    assert [trace[k][0].item() for k in range(5)] == [0, 0.5, 1.5, 3.5, 7.5]


@pytest.mark.parametrize("depth", [3, 12])
def test_the_exact_metric_as_preconditioner_needs_one_product(depth: int) -> None:
    """On a linear chain Gauss-Newton's metric is the curvature: one product, one step; without it, as many as its size."""
    chain = Chain.random(depth)
    start = tuple(normal(4, w, seed=w) for w in chain.widths)
    solution = solve(chain, start, NewtonCG(preconditioned=True), atol=1e-8, max_steps=5)
    assert solution.steps.tolist() == [1] * 4
    assert solution.work.products.tolist() == [1] * 4
    plain = solve(chain, start, NewtonCG(), atol=1e-8, max_steps=50)
    assert plain.converged.all()
    assert (plain.work.products > 5).all()


# --- Monotone ---------------------------------------------------------------------------------------------------------


def test_monotone_goes_back_and_shortens_what_follows() -> None:
    """F = x^2 / 2 and a step of 3: 1 -> -2, uphill, back to 1/4 of the way at 1 - 3/4; then 3/4 * 1.2 of the gradient."""
    problem = Quadratic(matrix([1.0]).unsqueeze(0), matrix([0.0]), (1,))
    trace = solve(problem, (matrix([1.0]),), Monotone(Euler(3.0)), atol=0, max_steps=3, record=range(4)).trace
    assert [trace[k][0].item() for k in range(4)] == [1, -2, 0.25, pytest.approx(0.25 * (1 - 0.9))]


def test_monotone_converges_to_rounding_where_energies_say_nothing() -> None:
    """Energies around 1e3 differ by 1e-13 at residuals of 1e-5; a step beyond the stable one must not rest there."""
    problem = Quadratic(with_spectrum(np.linspace(1, 10, 6).tolist()), normal(1, 6), (4, 2))
    tall = Separable(lambda x: x**2 + 500, lambda x: 2 * x, lambda x: 2 + 0 * x)
    for case, start in ((problem, problem.groups(normal(1, 6, seed=1))), (tall, (matrix([3.0, -2.0]),))):
        for solver in (Euler(1.05), Momentum(1.05, 0.3), Monotone(Euler(1.05))):
            solution = solve(case, start, Monotone(solver), atol=1e-9, max_steps=2000)
            assert solution.converged.all()


def test_what_monotone_keeps_never_rises() -> None:
    solver = Monotone(Momentum(2.5, 0.9))
    trace = solve(WELLS, (matrix([0.3, -1.7, 2.0]),), solver, atol=1e-9, max_steps=400, record=range(400)).trace
    energies = [WELLS.at(trace[k]).energy.item() for k in sorted(trace)]
    kept = [energies[0]]
    for energy in energies[1:]:
        kept += [energy] if energy <= kept[-1] + 1e-12 * (1 + abs(kept[-1])) else []
    assert energies[-1] == pytest.approx(-0.75, abs=1e-12)
    assert len(kept) > len(energies) / 2
    assert (
        solve(WELLS, (matrix([0.3, -1.7, 2.0]),), Momentum(2.5, 0.9), max_steps=400).status.item() != Status.CONVERGED
    )


def test_monotone_leaves_a_solver_alone_that_behaves() -> None:
    problem = Quadratic(with_spectrum([1.0, 2, 3], [1.0, 1, 5]), normal(2, 3), (2, 1))
    start = problem.groups(normal(2, 3, seed=1))
    for solver in (Euler(0.1), Heun(0.1), NewtonCG(), Euler()):
        plain = solve(problem, start, solver, atol=1e-6, max_steps=500)
        guarded = solve(problem, start, Monotone(solver), atol=1e-6, max_steps=500)
        torch.testing.assert_close(guarded.values, plain.values, rtol=0, atol=1e-13)
        assert guarded.steps.tolist() == plain.steps.tolist()


@pytest.mark.parametrize("solver", [Momentum(0.1, 0.8), Anderson(0.1), Momentum(), Anderson(), Euler(0.1)], ids=str)
def test_a_solver_that_starts_afresh_takes_the_plain_step(solver: Solver) -> None:
    """Whatever it did before; an automatic step size stays what it was."""
    problem = Quadratic(with_spectrum([1.0, 2, 4], [1.0, 3, 8]), normal(2, 3), (2, 1))
    state = problem.groups(normal(2, 3, seed=1))
    carry = solver.init(problem, problem.at(state))
    for _ in range(4):
        step, carry = solver.step(problem, problem.at(state), carry)
        state = tuple(a + b for a, b in zip(state, step))
    point = problem.at(state)
    fresh, _ = solver.step(problem, point, solver.restart(problem, point, carry))
    rate = 0.1 if solver.requires is Equilibrium else matrix([1 / 4], [1 / 8])
    torch.testing.assert_close(fresh, tuple(-rate * r for r in point.residual), rtol=1e-9, atol=1e-12)


def test_monotone_forgets_after_a_second_refusal() -> None:
    """A solver that only ever points uphill from its memory is left with the plain step, so the energy still falls."""
    problem = Quadratic(with_spectrum([1.0, 2, 4]), torch.zeros(1, 3).double(), (2, 1))
    start = problem.groups(normal(1, 3, seed=1))
    solution = solve(problem, start, Monotone(Stubborn()), atol=1e-4, max_steps=400)
    assert solution.converged.all()


# --- Anderson's safeguard ---------------------------------------------------------------------------------------------


class Cubic(Equilibrium):
    """r(x) = x^3 - 2x + 2, zero at -1.76929 only; flat around sqrt(2/3), where a secant points far away."""

    def rows(self, index: Tensor) -> "Cubic":
        return self

    def at(self, x: State) -> Point:
        return Point(x, (x[0] ** 3 - 2 * x[0] + 2,))


def test_anderson_forgets_and_takes_the_plain_step_where_a_secant_led_astray() -> None:
    residual = [0.85**3 - 1.7 + 2]
    second = 0.85 - 0.1 * residual[0]
    residual.append(second**3 - 2 * second + 2)
    trace = solve(Cubic(), (matrix([0.85]),), Anderson(0.1), atol=0, max_steps=3, record=(1, 2, 3)).trace
    assert trace[1][0].item() == pytest.approx(second)
    secant = second - residual[1] * (second - 0.85) / (residual[1] - residual[0])
    assert trace[2][0].item() == pytest.approx(secant, rel=1e-6)
    assert abs(secant) > 10
    assert trace[3][0].item() == pytest.approx(second - 0.1 * residual[1])
    solution = solve(Cubic(), (matrix([0.85], [1.0], [3.0]),), Anderson(0.1), atol=1e-10, max_steps=200)
    np.testing.assert_allclose(solution.values[0].numpy(), -1.7692923542386314, rtol=1e-10)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "settings"),
    [
        (NewtonCG, {"radius": 0.0}),
        (NewtonCG, {"radius": float("nan")}),
        (NewtonCG, {"forcing": 0.0}),
        (NewtonCG, {"forcing": 1.0}),
        (NewtonCG, {"max_products": 0}),
        (NewtonCG, {"check_every": 0}),
        (Anderson, {"history": 0}),
        (Anderson, {"ridge": -1.0}),
        (Anderson, {"ridge": float("inf")}),
        (Anderson, {"patience": 1.0}),
        (Monotone, {"shrink": 0.0, "solver": Euler()}),
        (Monotone, {"shrink": 1.0, "solver": Euler()}),
        (Monotone, {"grow": 0.9, "solver": Euler()}),
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_refused_by_its_name(solver: type, settings: dict) -> None:
    name, value = next(iter(settings.items()))
    with pytest.raises(ValueError, match=rf"{name} must be .*, got {value}"):
        solver(**settings)


def test_only_solvers_of_values_move_in_errors() -> None:
    for solver in (NewtonCG(preconditioned=True), InErrors(Euler()), Monotone(InErrors(Euler()))):
        with pytest.raises(TypeError, match=f"InErrors: {type(solver).__name__} already moves in errors"):
            InErrors(solver)
