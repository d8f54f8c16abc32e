"""Extreme curvatures against dense eigenvalues, and what automatic step sizes make of them."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from linear_problems import Lasso, Quadratic, normal, with_spectrum
from torch import Tensor

from pcnet.inference import (
    Anderson,
    CurvedProblem,
    EnergyPoint,
    Euler,
    Heun,
    InErrors,
    Momentum,
    extremes,
    solve,
)
from pcnet.typing import State


def quadratic(*spectra: list[float]) -> tuple[Quadratic, EnergyPoint]:
    size = len(spectra[0])
    problem = Quadratic(with_spectrum(*spectra), torch.zeros(len(spectra), size).double(), (size - 2, 2))
    return problem, problem.at(problem.groups(normal(len(spectra), size)))


def dense(problem: CurvedProblem, values: State) -> Tensor:
    """Hessians, row by row, from autograd of the energy alone."""
    sizes = [group.shape[-1] for group in values]
    hessians = []
    for row in range(len(values[0])):
        one = problem.rows(torch.tensor([row]))

        def energy(flat: Tensor, one: CurvedProblem = one) -> Tensor:
            return one.at(flat.unsqueeze(0).split(sizes, -1)).energy.sum()

        hessians.append(torch.autograd.functional.hessian(energy, torch.cat(values, -1)[row]))
    return torch.stack(hessians)


SPECTRA = [np.geomspace(0.1, 8, 9).tolist(), np.linspace(1, 2, 9).tolist(), [-3.0, *np.geomspace(0.5, 2, 8)]]


def test_lanczos_finds_both_ends() -> None:
    found = extremes(*quadratic(*SPECTRA), steps=9)
    np.testing.assert_allclose(found.largest.numpy(), [8, 2, 2], rtol=1e-12)
    np.testing.assert_allclose(found.smallest.numpy(), [0.1, 1, -3], rtol=1e-9)
    np.testing.assert_allclose(found.condition_number.numpy(), [80, 2, np.inf], rtol=1e-9)
    np.testing.assert_allclose(found.ceiling.numpy(), [8, 2, 3], rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 3, 6, 12])
def test_lanczos_says_how_far_off_it_may_be(steps: int) -> None:
    """Estimates lie inside the spectrum, and an eigenvalue lies within each stated error."""
    spectra = [np.geomspace(0.01, 100, 40).tolist(), np.linspace(1, 3, 40).tolist()]
    found = extremes(*quadratic(*spectra), steps=steps)
    for row, spectrum in enumerate(spectra):
        assert spectrum[0] <= found.smallest[row] <= found.largest[row] <= spectrum[-1] + 1e-12
        for value, error in ((found.smallest, found.smallest_error), (found.largest, found.largest_error)):
            assert min(abs(value[row].item() - true) for true in spectrum) <= error[row].item() + 1e-12


def test_lanczos_in_a_space_that_is_exhausted() -> None:
    """One, two or three distinct eigenvalues of nine: no step beyond them invents another, zero least of all."""
    found = extremes(*quadratic([2.0] * 9, [1.0] * 4 + [5.0] * 5, [3.0, 4.0, 7.0] * 3), steps=9)
    np.testing.assert_allclose(found.smallest.numpy(), [2, 1, 3], rtol=1e-12)
    np.testing.assert_allclose(found.largest.numpy(), [2, 5, 7], rtol=1e-12)


def test_lanczos_stays_orthogonal_over_many_steps() -> None:
    """60 steps on a spectrum whose end is found after ten, where plain Lanczos finds it over and over again."""
    spectrum = [*np.linspace(0.5, 1, 58), 10.0, 100.0]
    found = extremes(*quadratic(spectrum), steps=60)
    assert found.largest.item() == pytest.approx(100, rel=1e-12)
    assert found.smallest.item() == pytest.approx(0.5, rel=1e-9)


def test_units_that_cannot_move_have_no_curvature() -> None:
    """A lasso's units in their kinks: extremes of the Hessian of the others."""
    design = normal(8, 6)
    problem = Lasso(design, normal(2, 8, seed=1), strength=0.3)
    values = torch.tensor([[1.0, 0, 2, 0, -1, 1], [0, 0, 0, 0, 1, 1]], dtype=torch.float64)
    point = problem.at((values,))
    point.residual[0][:] = torch.where(values == 0, 0.0, point.residual[0])
    found = extremes(problem, point)
    for row in range(2):
        moving = values[row] != 0
        curvature = torch.linalg.eigvalsh((design.T @ design)[moving][:, moving])
        assert found.largest[row].item() == pytest.approx(curvature[-1].item(), rel=1e-9)
        assert found.smallest[row].item() == pytest.approx(curvature[0].item(), rel=1e-9)


def test_on_the_token_energy(token_case) -> None:
    case = token_case(2)
    curvature = torch.linalg.eigvalsh(dense(case.problem, case.values))
    found = extremes(case.problem, case.problem.at(case.values))
    torch.testing.assert_close(found.smallest, curvature[:, 0], rtol=0, atol=1e-9)
    torch.testing.assert_close(found.largest, curvature[:, -1], rtol=0, atol=1e-9)


def test_curvature_in_errors_is_the_hessian_of_the_errors_at_equilibrium(token_case) -> None:
    """The term that Gauss and Newton leave out is in proportion to the residual."""
    case = token_case(2, gain=0.6)
    values = solve(case.problem, case.values, InErrors(Momentum()), atol=1e-13, max_steps=2000).values
    errors = case.problem.errors(values)
    sizes = [group.shape[-1] for group in errors]
    for row in range(4):
        one = case.problem.rows(torch.tensor([row]))
        hessian = torch.autograd.functional.hessian(
            lambda flat, one=one: one.at_errors(flat.unsqueeze(0).split(sizes, -1)).energy.sum(),
            torch.cat(errors, -1)[row],
        )
        state = tuple(group[[row]] for group in errors)
        landscape = InErrors(Euler()).view(one).landscape
        point, direction = landscape.at(state), tuple(group[[row]] for group in case.direction)
        product = torch.cat(landscape.hessian_product(point, direction), -1)[0]
        torch.testing.assert_close(product, hessian @ torch.cat(direction, -1)[0], rtol=0, atol=1e-10)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_never_mix() -> None:
    """Another row's NaN, or other rows altogether, change no bit."""
    problem, point = quadratic(*SPECTRA)
    healthy = extremes(problem, point)
    problem.hessian[1] = torch.nan
    struck = extremes(problem, point)
    problem.hessian[1] = 1000.0
    other = extremes(problem, point)
    assert struck.largest.isnan().tolist() == [False, True, False]
    for found in (struck, other):
        for name in ("smallest", "largest", "smallest_error", "largest_error"):
            assert torch.equal(getattr(found, name)[[0, 2]], getattr(healthy, name)[[0, 2]])


def test_the_start_is_the_same_for_the_same_seed() -> None:
    problem, point = quadratic(np.geomspace(0.01, 100, 40).tolist())
    same, other = (extremes(problem, point, steps=4, seed=seed).largest for seed in (0, 1))
    assert torch.equal(same, extremes(problem, point, steps=4).largest)
    assert not torch.equal(same, other)


def test_no_steps_measure_nothing() -> None:
    with pytest.raises(ValueError, match="steps"):
        extremes(*quadratic(SPECTRA[0]), steps=0)


# --- automatic steps --------------------------------------------------------------------------------------------------


def test_paces_are_those_of_the_extremes() -> None:
    """1/L, with momentum (1 - sqrt(m/L))^2; where F is not convex, as if m were a hundredth of L."""
    problem, point = quadratic(*SPECTRA)
    high = np.array([8.0, 2, 3])
    for solver in (Euler(), Heun()):
        pace = solver.init(problem, point)
        np.testing.assert_allclose(pace.step_size[:, 0].numpy(), 1 / high, rtol=1e-6)
        assert pace.products.tolist() == [10] * 3
    pace = Momentum().init(problem, point).pace
    np.testing.assert_allclose(pace.step_size[:, 0].numpy(), 1 / high, rtol=1e-6)
    np.testing.assert_allclose(
        pace.momentum[:, 0].numpy(), (1 - np.array([1 / 80, 1 / 2, 1 / 100]) ** 0.5) ** 2, rtol=1e-6
    )
    pace = Momentum(momentum=0.5).init(problem, point).pace
    np.testing.assert_allclose(pace.step_size[:, 0].numpy(), 1 / high, rtol=1e-6)
    assert pace.momentum[:, 0].tolist() == [0.5] * 3


@dataclass
class Flat(CurvedProblem):
    """F = 0."""

    def rows(self, index: Tensor) -> "Flat":
        return self

    def at(self, x: State) -> EnergyPoint:
        return EnergyPoint(x, (0 * x[0],), 0 * x[0].sum(-1))

    def hessian_product(self, point: EnergyPoint, direction: State) -> State:
        return (0 * direction[0],)


@pytest.mark.parametrize("solver", [Euler(), Heun(), Momentum(), Anderson()], ids=str)
def test_where_there_is_no_curvature_nothing_moves(solver) -> None:
    start = (normal(2, 3),)
    solution = solve(Flat(), start, solver, atol=0, max_steps=3)
    assert solution.converged.all()
    moved, _ = solver.step(Flat(), Flat().at(start), solver.init(Flat(), Flat().at(start)))
    assert moved[0].abs().max() == 0
