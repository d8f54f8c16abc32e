"""The hand-written energy of one token against its formula in plain numpy, finite differences and autograd."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pcnet.energies import Gaussian
from pcnet.networks.fast.token_problem import NudgedProblem, TokenProblem

LEVELS = pytest.mark.parametrize("levels", [1, 2, 3])
NUDGE = torch.tensor([0.3, -0.2, 0.1, -0.7], dtype=torch.float64)


def rows(state: tuple[Tensor, ...]) -> list[list[np.ndarray]]:
    """One list of level vectors per row."""
    return [[group[row].numpy() for group in state] for row in range(len(state[0]))]


def flat(state: tuple[Tensor, ...]) -> Tensor:
    return torch.cat(state, dim=-1)


def split(vector: Tensor, like: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return vector.split([group.shape[-1] for group in like], dim=-1)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum())


def energy_by_formula(weights, values: list[np.ndarray], past: list[np.ndarray], token: int) -> float:
    """sum_l 1/2 eps^T Pi eps - 1/2 log|Pi|, minus the log-probability of the token: unit by unit."""
    energy = 0.0
    for level, (value, before) in enumerate(zip(values, past, strict=True)):
        expected = weights.recurrent[level].numpy() @ np.tanh(before) + weights.biases[level].numpy()
        if level + 1 < len(values):
            expected = expected + weights.above[level].numpy() @ np.tanh(values[level + 1])
        for error, precision in zip(value - expected, weights.precisions[level].tolist(), strict=True):
            energy += 0.5 * precision * error**2 - 0.5 * np.log(precision)
    logits = weights.readout.numpy() @ np.tanh(values[0]) + weights.readout_bias.numpy()
    return energy - log_softmax(logits)[token]


def forecast_by_formula(weights, values: list[np.ndarray]) -> np.ndarray:
    """Log-law of the next token at zero error, the top level first."""
    above = None
    for level in reversed(range(len(values))):
        expected = weights.recurrent[level].numpy() @ np.tanh(values[level]) + weights.biases[level].numpy()
        if above is not None:
            expected = expected + weights.above[level].numpy() @ np.tanh(above)
        above = expected
    return log_softmax(weights.readout.numpy() @ np.tanh(above) + weights.readout_bias.numpy())


def central_differences(function: Callable[[list[np.ndarray]], float], values: list[np.ndarray]) -> np.ndarray:
    gradient = []
    for level, group in enumerate(values):
        for unit in range(len(group)):
            ends = []
            for shift in (1e-5, -1e-5):
                moved = [other.copy() for other in values]
                moved[level][unit] += shift
                ends.append(function(moved))
            gradient.append((ends[0] - ends[1]) / 2e-5)
    return np.array(gradient)


def single_row(case, row: int) -> tuple[TokenProblem, tuple[Tensor, ...]]:
    """The problem of one row, for dense Jacobians and Hessians by autograd."""
    bases = tuple(group[row : row + 1] for group in case.problem.bases)
    return TokenProblem(case.weights, bases, case.tokens[row : row + 1]), tuple(
        group[row : row + 1] for group in case.values
    )


@LEVELS
def test_energy_is_the_formula(token_case, levels: int) -> None:
    case = token_case(levels)
    arguments = zip(rows(case.values), rows(case.past), case.tokens.tolist(), strict=True)
    expected = [energy_by_formula(case.weights, *row) for row in arguments]
    np.testing.assert_allclose(case.problem.at(case.values).energy.numpy(), expected, rtol=1e-13)


@LEVELS
def test_energy_holds_the_log_determinant(token_case, levels: int) -> None:
    """At zero error only -1/2 log|Pi| and the token's surprise are left."""
    case = token_case(levels)
    point = case.problem.at_errors(tuple(torch.zeros_like(group) for group in case.values))
    surprise = -point.law.log().gather(-1, case.tokens[:, None]).squeeze(-1)
    log_determinants = [torch.logdet(torch.diag(precision)).item() for precision in case.weights.precisions]
    np.testing.assert_allclose((point.energy - surprise).numpy(), np.full(4, -0.5 * sum(log_determinants)), rtol=1e-12)


@LEVELS
def test_residual_is_the_gradient_of_the_formula(token_case, levels: int) -> None:
    case = token_case(levels)
    residual = flat(case.problem.at(case.values).residual).numpy()
    for row, (values, past, token) in enumerate(
        zip(rows(case.values), rows(case.past), case.tokens.tolist(), strict=True)
    ):
        expected = central_differences(lambda x: energy_by_formula(case.weights, x, past, token), values)  # noqa: B023
        np.testing.assert_allclose(residual[row], expected, atol=1e-9)


@LEVELS
def test_residual_is_the_gradient_by_autograd(token_case, levels: int) -> None:
    case = token_case(levels)
    values = tuple(group.requires_grad_() for group in case.values)
    point = case.problem.at(values)
    expected = torch.autograd.grad(point.energy.sum(), values)
    torch.testing.assert_close(point.residual, expected, rtol=0, atol=1e-13)


@LEVELS
def test_hessian_product_is_the_hessian_by_autograd(token_case, levels: int) -> None:
    case = token_case(levels)
    product = flat(case.problem.hessian_product(case.problem.at(case.values), case.direction))
    for row in range(4):
        problem, values = single_row(case, row)

        def energy(x: Tensor) -> Tensor:
            return problem.at(split(x, values)).energy[0]  # noqa: B023

        hessian = torch.autograd.functional.hessian(energy, flat(values))
        expected = hessian[0, :, 0] @ flat(case.direction)[row]
        torch.testing.assert_close(product[row], expected, rtol=0, atol=1e-12)


@LEVELS
def test_errors_and_values_determine_each_other(token_case, levels: int) -> None:
    case = token_case(levels)
    errors = case.problem.errors(case.values)
    for level, (value, before) in enumerate(zip(case.values, case.past, strict=True)):
        expected = torch.tanh(before) @ case.weights.recurrent[level].T + case.weights.biases[level]
        if level + 1 < levels:
            expected = expected + torch.tanh(case.values[level + 1]) @ case.weights.above[level].T
        torch.testing.assert_close(errors[level], value - expected, rtol=0, atol=1e-14)
    from_errors, from_values = case.problem.at_errors(errors), case.problem.at(case.values)
    torch.testing.assert_close(from_errors.values, case.values, rtol=0, atol=1e-14)
    for name in ("residual", "energy", "errors", "law"):
        torch.testing.assert_close(getattr(from_errors, name), getattr(from_values, name), rtol=0, atol=1e-13)


@LEVELS
def test_pull_back_and_push_forward_are_the_jacobian_of_values_in_errors(token_case, levels: int) -> None:
    case = token_case(levels)
    point = case.problem.at(case.values)
    pushed = flat(case.problem.push_forward(point, case.direction))
    pulled = flat(case.problem.pull_back(point, case.direction))
    for row in range(4):
        problem, values = single_row(case, row)
        jacobian = torch.autograd.functional.jacobian(
            lambda e: flat(problem.at_errors(split(e, values)).values)[0],  # noqa: B023
            flat(problem.errors(values)),
        )[:, 0]
        direction = flat(case.direction)[row]
        torch.testing.assert_close(pushed[row], jacobian @ direction, rtol=0, atol=1e-13)
        torch.testing.assert_close(pulled[row], jacobian.T @ direction, rtol=0, atol=1e-13)
        assert torch.linalg.det(jacobian).item() == pytest.approx(1.0, abs=1e-12)


@LEVELS
def test_gauss_newton_metric_inverts_the_explicit_matrix(token_case, levels: int) -> None:
    """P = diag(Pi + max(tanh's curvature, -Pi/2)) + J^T Lam J, every part built densely."""
    case = token_case(levels, gain=2.0)
    point = case.problem.at(case.values)
    solved = flat(case.problem.gauss_newton(point).solve(case.direction))
    floored = 0
    for row, (values, past, token) in enumerate(
        zip(rows(case.values), rows(case.past), case.tokens.tolist(), strict=True)
    ):
        problem, own = single_row(case, row)
        jacobian = torch.autograd.functional.jacobian(
            lambda e: case.weights.logits(problem.at_errors(split(e, own)).values)[0],  # noqa: B023
            flat(problem.errors(own)),
        )[:, 0].numpy()
        law = np.exp(log_softmax(case.weights.readout.numpy() @ np.tanh(values[0]) + case.weights.readout_bias.numpy()))
        signal = case.weights.readout.numpy().T @ (np.eye(3)[token] - law)
        diagonal = []
        for level, (value, before) in enumerate(zip(values, past, strict=True)):
            precision = case.weights.precisions[level].numpy()
            # F depends on x through tanh(x), with slope -signal there; tanh'' = -2 tanh (1 - tanh^2).
            curvature = 2 * np.tanh(value) * (1 - np.tanh(value) ** 2) * signal
            floored += (curvature < -0.5 * precision).sum()
            diagonal.append(precision + np.maximum(curvature, -0.5 * precision))
            if level + 1 < levels:
                expected = case.weights.recurrent[level].numpy() @ np.tanh(before) + case.weights.biases[level].numpy()
                above = case.weights.above[level].numpy()
                signal = above.T @ (precision * (value - expected - above @ np.tanh(values[level + 1])))
        dense = np.diag(np.concatenate(diagonal)) + jacobian.T @ (np.diag(law) - np.outer(law, law)) @ jacobian
        expected = np.linalg.solve(dense, flat(case.direction)[row].numpy())
        np.testing.assert_allclose(solved[row].numpy(), expected, rtol=1e-10, atol=1e-11)
    assert floored > 0, "no unit's curvature reached the floor: the case tests too little"


@LEVELS
def test_past_product_is_the_mixed_second_derivative(token_case, levels: int) -> None:
    """-adjoint^T d2F/(dx dm) by autograd, and through the bases back to values of the token before by the chain rule."""
    case = token_case(levels)
    bases = tuple(group.clone().requires_grad_() for group in case.problem.bases)
    residual = TokenProblem(case.weights, bases, case.tokens).at(case.values).residual
    inner = sum((a * r).sum() for a, r in zip(case.direction, residual, strict=True))
    expected = tuple(-g for g in torch.autograd.grad(inner, bases))
    product = case.problem.past_product(case.problem.at(case.values), case.direction)
    torch.testing.assert_close(product, expected, rtol=0, atol=1e-13)


@LEVELS
def test_nudged_energy_is_the_formula_and_its_residual_the_gradient(token_case, levels: int) -> None:
    case = token_case(levels)
    point = NudgedProblem(case.problem, case.next_tokens, NUDGE).at(case.values)
    arguments = (rows(case.values), rows(case.past), case.tokens.tolist(), case.next_tokens.tolist(), NUDGE.tolist())
    for row, (values, past, token, outcome, beta) in enumerate(zip(*arguments, strict=True)):

        def energy(x: list[np.ndarray]) -> float:
            free = energy_by_formula(case.weights, x, past, token)  # noqa: B023
            return free - beta * forecast_by_formula(case.weights, x)[outcome]  # noqa: B023

        assert point.energy[row].item() == pytest.approx(energy(values), rel=1e-13)
        np.testing.assert_allclose(flat(point.residual)[row].numpy(), central_differences(energy, values), atol=1e-9)


@LEVELS
def test_nudged_problem_is_the_same_in_errors(token_case, levels: int) -> None:
    case = token_case(levels)
    problem = NudgedProblem(case.problem, case.next_tokens, NUDGE)
    from_errors, from_values = problem.at_errors(problem.errors(case.values)), problem.at(case.values)
    for name in ("values", "residual", "energy"):
        torch.testing.assert_close(getattr(from_errors, name), getattr(from_values, name), rtol=0, atol=1e-13)
    errors = tuple(group.clone().requires_grad_() for group in problem.errors(case.values))
    by_autograd = torch.autograd.grad(problem.at_errors(errors).energy.sum(), errors)
    torch.testing.assert_close(problem.pull_back(from_values, from_values.residual), by_autograd, rtol=0, atol=1e-12)
    # and the way back: dx/deps times a direction, from the same map
    moved = torch.autograd.functional.jvp(
        lambda *e: problem.at_errors(e).values, problem.errors(case.values), case.direction
    )[1]
    torch.testing.assert_close(problem.push_forward(from_values, case.direction), moved, rtol=0, atol=1e-12)


@LEVELS
def test_nudged_metric_adds_the_curvature_of_positive_nudges(token_case, levels: int) -> None:
    """P + max(beta, 0) K^T Lam K, with K the Jacobian of the forecast's logits in errors, built densely."""
    case = token_case(levels)
    problem = NudgedProblem(case.problem, case.next_tokens, NUDGE)
    metric, free_metric = (p.gauss_newton(p.at(case.values)) for p in (problem, case.problem))
    solved = flat(metric.solve(case.direction))
    size = solved.shape[-1]
    columns = [free_metric.solve(split(unit.expand(4, size), case.values)) for unit in torch.eye(size).double()]
    free_inverse = torch.stack([flat(column) for column in columns], -1)
    for row in range(4):
        own, values = single_row(case, row)

        def forecast(errors: Tensor) -> Tensor:
            weights = case.weights
            return weights.logits(weights.sweep(weights.bases(own.at_errors(split(errors, values)).values)))[0]  # noqa: B023

        jacobian = torch.autograd.functional.jacobian(forecast, flat(own.errors(values)))[:, 0]
        law = torch.from_numpy(np.exp(forecast_by_formula(case.weights, rows(case.values)[row])))
        curvature = torch.diag(law) - torch.outer(law, law)
        dense = torch.linalg.inv(free_inverse[row]) + NUDGE[row].clamp(min=0) * jacobian.T @ curvature @ jacobian
        expected = torch.linalg.solve(dense, flat(case.direction)[row])
        torch.testing.assert_close(solved[row], expected, rtol=1e-9, atol=1e-10)


def test_a_row_of_a_token_energy_depends_on_no_other(token_case) -> None:
    case = token_case(3)
    together = case.problem.at(case.values)
    for row in range(4):
        problem, values = single_row(case, row)
        torch.testing.assert_close(problem.at(values).energy, together.energy[row : row + 1], rtol=1e-13, atol=0)


def test_gaussian_energy_is_the_negative_log_density_up_to_its_constant() -> None:
    """Against scipy's normal density: -log N(eps; 0, Pi^-1) = F + D/2 log 2 pi."""
    from scipy.stats import multivariate_normal

    energy = Gaussian(4, learned=True).double()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        energy.log_precision.copy_(torch.from_numpy(rng.standard_normal(4)))
    errors = rng.standard_normal((5, 4))
    covariance = np.diag(np.exp(-energy.log_precision.detach().numpy()))
    expected = -multivariate_normal(cov=covariance).logpdf(errors) - 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(energy.cost(torch.from_numpy(errors)).detach().numpy(), expected, rtol=1e-12)


def test_a_fixed_precision_is_one_and_not_learned() -> None:
    energy = Gaussian(3)
    assert energy.precision.tolist() == [1.0, 1.0, 1.0]
    assert [parameter for parameter in energy.parameters() if parameter.requires_grad] == []
