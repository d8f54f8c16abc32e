"""How fast: order against the exact flow, rates on a known spectrum, and the fewest steps that algebra allows."""

import numpy as np
import pytest
import torch
from linear_problems import Chain, Quadratic, normal, with_spectrum
from torch import Tensor

from pcnet.inference import (
    Anderson,
    Direct,
    Euler,
    GaussNewton,
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

WIDTHS = (3, 4)
FLAT, STEEP = 0.5, 50.0
CONDITION = STEEP / FLAT


def quadratic(*spectra: list[float]) -> Quadratic:
    return Quadratic(with_spectrum(*spectra), normal(len(spectra), 7, seed=1), WIDTHS)


def start(problem: Quadratic) -> tuple[Tensor, ...]:
    return problem.groups(normal(*problem.target.shape, seed=2))


def distance(problem: Quadratic, values: tuple[Tensor, ...]) -> Tensor:
    return (torch.cat(values, -1) - problem.target).norm(dim=-1)


def measured_rate(problem: Quadratic, solver: Solver, begin: int, end: int) -> np.ndarray:
    trace = solve(problem, start(problem), solver, atol=0, max_steps=end, record=(begin, end)).trace
    return ((distance(problem, trace[end]) / distance(problem, trace[begin])) ** (1 / (end - begin))).numpy()


# --- order of convergence ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "order"), [(Euler, 1), (Heun, 2)])
def test_order_against_the_exact_flow(method: type[Solver], order: int) -> None:
    """x(T) = target + exp(-H T) (x(0) - target); halving the step divides the error at time T by 2^order."""
    problem = quadratic(np.linspace(0.2, 3, 7).tolist(), np.linspace(1, 2, 7).tolist())
    begin = torch.cat(start(problem), -1)
    flow = torch.linalg.matrix_exp(-2.0 * problem.hessian)
    exact = problem.target + (flow @ (begin - problem.target).unsqueeze(-1)).squeeze(-1)

    def error(steps: int) -> Tensor:
        return (torch.cat(unroll(problem, start(problem), method(2.0 / steps), steps=steps), -1) - exact).norm(dim=-1)

    measured = torch.log2(error(200) / error(400)).numpy()
    np.testing.assert_allclose(measured, [order] * 2, atol=0.03)


def test_heun_is_the_second_order_taylor_polynomial_of_the_flow() -> None:
    problem = quadratic(np.linspace(0.2, 3, 7).tolist())
    one = torch.cat(unroll(problem, start(problem), Heun(0.3), steps=1), -1)
    shift = (torch.cat(start(problem), -1) - problem.target).unsqueeze(-1)
    step = 0.3 * problem.hessian
    expected = problem.target + (shift - step @ shift + 0.5 * step @ step @ shift).squeeze(-1)
    torch.testing.assert_close(one, expected, rtol=0, atol=1e-14)


# --- rates ------------------------------------------------------------------------------------------------------------

SPECTRUM = np.geomspace(FLAT, STEEP, 7).tolist()


def test_euler_at_its_best_step_shrinks_by_k_minus_1_over_k_plus_1() -> None:
    rate = measured_rate(quadratic(SPECTRUM), Euler(2 / (FLAT + STEEP)), 300, 400)
    np.testing.assert_allclose(rate, (CONDITION - 1) / (CONDITION + 1), rtol=1e-6)


def test_automatic_euler_shrinks_by_one_minus_flattest_over_steepest() -> None:
    """Seven Lanczos steps know a spectrum of seven exactly, so the step is 1 / steepest."""
    rate = measured_rate(quadratic(SPECTRUM), Euler(), 1400, 1500)
    np.testing.assert_allclose(rate, 1 - 1 / CONDITION, rtol=1e-8)


def test_momentum_at_its_best_shrinks_with_the_root_of_the_condition_number() -> None:
    """(sqrt k - 1) / (sqrt k + 1) = 9/11, with a factor linear in the step number: the extreme modes have double roots."""
    best = Momentum(4 / (STEEP**0.5 + FLAT**0.5) ** 2, (9 / 11) ** 2)
    rate = measured_rate(quadratic(SPECTRUM), best, 60, 120)
    np.testing.assert_allclose(rate, 9 / 11 * 2 ** (1 / 60), rtol=5e-3)


def test_automatic_momentum_shrinks_by_one_minus_the_root() -> None:
    """1 - 1 / sqrt k = .9, the flattest mode having a double root."""
    rate = measured_rate(quadratic(SPECTRUM), Momentum(), 100, 200)
    np.testing.assert_allclose(rate, 0.9 * 2 ** (1 / 100), rtol=5e-3)


@pytest.mark.parametrize(("factor", "grows"), [(3.5, False), (4.5, True)])
def test_automatic_momentum_bears_curvatures_four_times_as_large(factor: float, grows: bool) -> None:
    """Stable up to 2 (1 + momentum) L, here 3.62 L, a curvature that turns up after its pace was set."""
    problem = quadratic(SPECTRUM)
    pace = Momentum().init(problem, problem.at(start(problem))).pace
    steeper = Quadratic(factor * problem.hessian, problem.target, WIDTHS)
    trace = solve(
        steeper,
        start(problem),
        Momentum(pace.step_size.item(), pace.momentum.item()),
        atol=0,
        max_steps=400,
        record=(200, 400),
    ).trace
    assert (distance(problem, trace[400]) > distance(problem, trace[200])).item() is grows


def test_every_row_gets_its_own_pace() -> None:
    """Rows 1000 times as steep take exactly the same number of steps."""
    problem = quadratic(SPECTRUM, SPECTRUM)
    problem.hessian[1] = 1000 * problem.hessian[0]
    problem.target[1] = problem.target[0]
    begin = problem.groups(normal(1, 7, seed=2).expand(2, -1))
    for solver in (Euler(), Heun(), Momentum(), Momentum(momentum=0.5), Anderson(), Monotone(Euler())):
        solution = solve(problem, begin, solver, atol=0, rtol=0, max_steps=30)
        torch.testing.assert_close(*torch.cat(solution.values, -1), rtol=0, atol=1e-9)
        assert solution.point.energy[0] < 0.2 * problem.at(begin).energy[0]


def test_automatic_step_with_a_given_momentum() -> None:
    """With 1/L the steepest mode has roots of modulus sqrt(momentum)."""
    rate = measured_rate(quadratic([STEEP] * 7), Momentum(momentum=0.64), 40, 80)
    np.testing.assert_allclose(rate, 0.8, rtol=0.02)


# --- Anderson ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distinct", [1, 2, 3, 4])
def test_anderson_is_done_in_as_many_steps_as_there_are_curvatures_and_one(distinct: int) -> None:
    spectrum = (list(range(1, distinct + 1)) * 7)[:7]
    problem = quadratic(spectrum, [0.3 * curvature for curvature in spectrum])
    solution = solve(problem, start(problem), Anderson(0.1, history=5, ridge=0), atol=1e-5, max_steps=30)
    assert solution.converged.all()
    assert solution.steps.tolist() == [distinct + 1] * 2
    before = solve(problem, start(problem), Anderson(0.1, history=5, ridge=0), atol=1e-5, max_steps=distinct)
    assert (before.residual.max(-1).values > 1e-4).all()


def test_anderson_is_gmres_followed_by_a_plain_step() -> None:
    """While it remembers everything: x_(k+1) = x - step r(x) at the x of least residual in x_0 + span(r, Hr, .., H^(k-1) r)."""
    problem = quadratic(SPECTRUM)
    H, x0 = problem.hessian[0], torch.cat(start(problem), -1)[0]
    trace = solve(
        problem, start(problem), Anderson(0.02, history=6, ridge=0), atol=0, max_steps=6, record=range(7)
    ).trace
    residual = H @ (x0 - problem.target[0])
    basis = residual[:, None] / residual.norm()
    for k in range(1, 6):
        weights = torch.linalg.lstsq(H @ basis, residual[:, None]).solution
        best = x0 - (basis @ weights)[:, 0]
        expected = best - 0.02 * H @ (best - problem.target[0])
        torch.testing.assert_close(torch.cat(trace[k + 1], -1)[0], expected, rtol=0, atol=1e-6)
        basis = torch.linalg.qr(torch.cat([basis, H @ basis[:, -1:]], -1)).Q


def test_a_smaller_problem_takes_anderson_as_many_steps() -> None:
    """Relative accuracy is the same at any scale: an absolute ridge of 1e-4 would make the small rows plain iteration."""
    problem = quadratic(SPECTRUM, SPECTRUM)
    problem.hessian[1], problem.target[:] = problem.hessian[0], 0.0
    begin = normal(1, 7, seed=2) * torch.tensor([[1.0], [1e-7]], dtype=torch.float64)
    solution = solve(problem, problem.groups(begin), Anderson(0.02), atol=0, max_steps=12)
    large, small = torch.cat(solution.values, -1)
    torch.testing.assert_close(1e7 * small, large, rtol=0, atol=1e-6)
    assert large.norm() < 1e-4 * begin[0].norm()


def test_anderson_beats_descent_by_far_where_descent_is_slow() -> None:
    problem = quadratic(np.geomspace(0.05, 10, 7).tolist())
    steps = {
        solver: int(solve(problem, start(problem), solver, atol=1e-8, max_steps=5000).steps[0])
        for solver in (Euler(0.19), Momentum(), Anderson(0.1, history=5))
    }
    descent, momentum, anderson = steps.values()
    assert 2 * anderson < momentum < descent / 5


# --- the linear closed form -------------------------------------------------------------------------------------------


def test_the_hand_case() -> None:
    """x = 1, W = (2, 3), y = 1: hidden .5, energy 1.25, errors -1.5 and -.5."""
    one = torch.ones(1, 1, dtype=torch.float64)
    chain = Chain((2 * one, 3 * one), one, one)
    for solver in (Direct(), NewtonCG(), GaussNewton(), Euler()):
        solution = solve(chain, (0 * one,), solver, atol=1e-12, max_steps=1000)
        assert solution.values[0].item() == pytest.approx(0.5, abs=1e-12)
        assert solution.point.energy.item() == pytest.approx(1.25, abs=1e-12)
        assert chain.errors(solution.values)[0].item() == pytest.approx(-1.5, abs=1e-12)
        assert (chain.outcome - solution.values[0] * 3).item() == pytest.approx(-0.5, abs=1e-12)


FAST = {
    "Direct": (Direct(), 1),
    "GaussNewton": (GaussNewton(), 1),
    "NewtonCG": (NewtonCG(forcing=1e-2), 30),
    "NewtonCG preconditioned": (NewtonCG(preconditioned=True), 30),
    "InErrors(Euler)": (InErrors(Euler()), 4000),
    "InErrors(Momentum)": (InErrors(Momentum()), 400),
    "InErrors(Heun)": (InErrors(Heun()), 4000),
    "InErrors(Anderson)": (InErrors(Anderson()), 200),
    "InErrors(NewtonCG)": (InErrors(NewtonCG()), 30),
    "Monotone(InErrors(Momentum))": (Monotone(InErrors(Momentum())), 400),
    "InErrors(Monotone(Euler))": (InErrors(Monotone(Euler(0.5))), 4000),
}


@pytest.mark.parametrize("depth", [2, 5, 20])
@pytest.mark.parametrize(("solver", "steps"), FAST.values(), ids=FAST)
def test_chains_of_any_depth_reach_the_closed_form(depth: int, solver: Solver, steps: int) -> None:
    chain = Chain.random(depth)
    solution = solve(chain, tuple(normal(4, w, seed=w) for w in chain.widths), solver, atol=1e-9, max_steps=steps)
    assert solution.status.tolist() == [Status.CONVERGED] * 4
    values, energy = chain.solution()
    torch.testing.assert_close(solution.point.energy, energy, rtol=0, atol=1e-9)
    torch.testing.assert_close(solution.values, values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("depth", [2, 5])
@pytest.mark.parametrize("solver", [Euler(), Heun(), Momentum(), Anderson(), Monotone(Momentum())], ids=str)
def test_descent_in_values_reaches_the_closed_form_of_shallow_chains(depth: int, solver: Solver) -> None:
    chain = Chain.random(depth)
    solution = solve(chain, tuple(normal(4, w, seed=w) for w in chain.widths), solver, atol=1e-9, max_steps=5000)
    assert solution.converged.all()
    torch.testing.assert_close(solution.values, chain.solution()[0], rtol=0, atol=1e-6)


def test_direct_is_the_posterior_mean() -> None:
    """Of z given y, from the joint Gaussian of (z, y): E[z] + Cov(z, y) Cov(y)^-1 (y - E[y])."""
    chain = Chain.random(4)
    size = sum(chain.widths)
    path = torch.eye(size, dtype=torch.float64)
    for k, W in enumerate(chain.weights[1:-1]):
        a, b = sum(chain.widths[:k]), sum(chain.widths[: k + 1])
        path[b : b + W.shape[0], a:b] = -W
    covariance = torch.linalg.inv(path.T @ path)
    readout = torch.zeros(2, size, dtype=torch.float64)
    readout[:, -chain.widths[-1] :] = chain.weights[-1]
    mean = torch.cat(chain.at_errors(tuple(torch.zeros(4, w, dtype=torch.float64) for w in chain.widths)).values, -1)
    gain = covariance @ readout.T @ torch.linalg.inv(readout @ covariance @ readout.T + torch.eye(2))
    expected = mean + (chain.outcome - mean @ readout.T) @ gain.T
    solution = solve(chain, tuple(normal(4, w) for w in chain.widths), Direct(), atol=1e-10, max_steps=1)
    torch.testing.assert_close(torch.cat(solution.values, -1), expected, rtol=0, atol=1e-10)


# --- error coordinates ------------------------------------------------------------------------------------------------


def test_the_first_step_in_errors_is_minus_the_gradient_that_backpropagation_sends() -> None:
    """From zero errors: -step_size dL/dz_l of the squared error of the feedforward pass."""
    chain = Chain.random(4)
    zero = tuple(torch.zeros(4, w, dtype=torch.float64) for w in chain.widths)
    forward = chain.at_errors(zero).values
    moved = unroll(chain, forward, InErrors(Euler(0.05)), steps=1)
    layers, current = [], chain.source
    for W in chain.weights[:-1]:
        current = (current @ W.T).requires_grad_()
        current.retain_grad()
        layers.append(current)
    loss = 0.5 * (chain.outcome - current @ chain.weights[-1].T).square().sum()
    sent = torch.autograd.grad(loss, layers)
    torch.testing.assert_close(chain.errors(moved), tuple(-0.05 * g for g in sent), rtol=0, atol=1e-14)


def test_descent_in_errors_is_descent_on_the_energy_of_the_errors() -> None:
    """Three steps of Euler on eps -> F(x(eps)), its gradient from autograd."""
    chain = Chain.random(3)
    errors = chain.errors(tuple(normal(4, w, seed=5) for w in chain.widths))
    expected = errors
    for _ in range(3):
        leaves = tuple(group.detach().requires_grad_() for group in expected)
        slope = torch.autograd.grad(chain.at_errors(leaves).energy.sum(), leaves)
        expected = tuple(group - 0.05 * g for group, g in zip(leaves, slope))
    moved = unroll(chain, chain.at_errors(errors).values, InErrors(Euler(0.05)), steps=3)
    torch.testing.assert_close(chain.errors(moved), expected, rtol=0, atol=1e-12)


def test_the_rate_in_errors_is_that_of_one_plus_jacobian_squared() -> None:
    """H_eps = 1 + J^T J, so Euler with step s shrinks by max |1 - s lambda| over its spectrum, from 1 up."""
    chain = Chain.random(3)
    curvature = torch.linalg.eigvalsh(chain.gauss_newton(None).matrix)
    assert curvature[0].item() == pytest.approx(1.0)
    step = 1 / curvature[-1].item()
    begin = tuple(normal(4, w, seed=5) for w in chain.widths)
    trace = solve(chain, begin, InErrors(Euler(step)), atol=0, max_steps=90, record=(60, 80)).trace
    goal = chain.errors(chain.solution()[0])
    far, near = (torch.cat([a - b for a, b in zip(chain.errors(trace[k]), goal)], -1).norm(dim=-1) for k in (60, 80))
    np.testing.assert_allclose(((near / far) ** (1 / 20)).numpy(), 1 - step, rtol=1e-3)
