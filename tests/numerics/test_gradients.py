"""Gradients of the learning rules against long unrolling, finite differences, dense linear algebra and explicit sums."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pcnet.energies import Gaussian
from pcnet.inference import Euler, GaussNewton, Inference, Momentum
from pcnet.learning import Implicit, Local, Nudged, Side, Unrolled
from pcnet.networks import TemporalPC
from pcnet.networks.time.steps import StepClamp

LEVELS = pytest.mark.parametrize("levels", [1, 2, 3])
TIGHT = Inference(GaussNewton(), atol=1e-13, max_steps=200)
TOKENS = torch.tensor([[0, 2, 1, 1], [2, 2, 0, 1]])
EXACT = Implicit(rtol=1e-10, max_steps=100)

Gradients = dict[str, Tensor]


def gradients(rule, network: TemporalPC, tokens: Tensor = TOKENS) -> Gradients:
    network.zero_grad()
    rule.loss(network, tokens).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.requires_grad}


def norm(gradient: Gradients) -> float:
    return torch.cat([part.flatten() for part in gradient.values()]).norm().item()


def relative_difference(one: Gradients, other: Gradients) -> float:
    return norm({name: one[name] - other[name] for name in other}) / norm(other)


@torch.no_grad()
def central_differences(network: TemporalPC, tokens: Tensor, step: float = 1e-5) -> Gradients:
    """Of the loss at the equilibrium, one parameter entry at a time."""

    def loss() -> float:
        logits = network.forecast(network.infer(tokens[:, :-1]).values)
        return -logits.log_softmax(-1).gather(-1, tokens[:, 1:, None]).mean().item()

    result = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            result[name] = torch.zeros_like(parameter)
            for entry in range(parameter.numel()):
                ends = []
                for shift in (step, -step):
                    parameter.view(-1)[entry] += shift
                    ends.append(loss())
                    parameter.view(-1)[entry] -= shift
                result[name].view(-1)[entry] = (ends[0] - ends[1]) / (2 * step)
    return result


# --- Implicit and Unrolled --------------------------------------------------------------------------------------------


@LEVELS
def test_implicit_is_the_derivative_by_finite_differences(small_network, levels: int) -> None:
    network, tokens = (
        small_network(levels, width=2, inference=Inference(GaussNewton(), 1e-11, max_steps=100)),
        TOKENS[:, :3],
    )
    exact, measured = gradients(EXACT, network, tokens), central_differences(network, tokens)
    assert relative_difference(exact, measured) < 1e-7
    for name in measured:
        torch.testing.assert_close(exact[name], measured[name], rtol=1e-5, atol=1e-9, msg=name)


@LEVELS
def test_implicit_is_long_unrolling(small_network, levels: int) -> None:
    network = small_network(levels)
    unrolled = gradients(Unrolled(steps=200, solver=Momentum(0.3, 0.4)), network)
    exact = gradients(EXACT, network)
    for name in unrolled:
        torch.testing.assert_close(exact[name], unrolled[name], rtol=1e-7, atol=1e-10, msg=name)


def test_truncated_unrolling_is_another_gradient(small_network) -> None:
    """So that the two tests above can fail: after 8 steps of .1 the values, and the gradient, are far from their limits."""
    network = small_network(2, scale=1.2)
    exact, other = gradients(EXACT, network), gradients(Unrolled(steps=8, solver=Euler(0.1)), network)
    assert relative_difference(other, exact) > 0.3


def test_unrolling_any_solver_converges_to_one_gradient(small_network) -> None:
    network = small_network(2)
    by_euler = gradients(Unrolled(steps=120, solver=Euler(0.4)), network)
    by_gauss_newton = gradients(Unrolled(steps=40, solver=GaussNewton()), network)
    assert relative_difference(by_gauss_newton, by_euler) < 1e-7


@pytest.mark.parametrize("solver", [Euler(0.3), Momentum(0.2, 0.5)], ids=str)
def test_implicit_does_not_depend_on_how_values_relaxed(small_network, solver) -> None:
    network = small_network(2)
    with_gauss_newton = gradients(EXACT, network)
    relaxed = Implicit(rtol=1e-10, max_steps=100, inference=Inference(solver, atol=1e-12, max_steps=2000))
    assert relative_difference(gradients(relaxed, network), with_gauss_newton) < 1e-9


def test_the_tolerance_of_the_linear_systems_is_what_it_says(small_network) -> None:
    """The default, 1e-3 in the norm of the preconditioner, gives the gradient to about that."""
    network = small_network(3)
    assert relative_difference(gradients(Implicit(), network), gradients(EXACT, network)) < 5e-3


# --- Nudged -----------------------------------------------------------------------------------------------------------


def gradient_with_past_held(network: TemporalPC) -> Gradients:
    """Of the mean surprise at each next token, through that token's equilibrium by dense Hessians, and no further back."""
    trajectory = network.infer(TOKENS[:, :-1], TIGHT)
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for row in range(len(TOKENS)):
        for t in range(TOKENS.shape[1] - 1):
            values, past = (tuple(g[row : row + 1, t] for g in state) for state in (trajectory.values, trajectory.past))
            sizes = [group.shape[-1] for group in values]
            flat = torch.cat(values, -1)[0].requires_grad_()
            problem = network.problem(StepClamp(TOKENS[row : row + 1, t], past))

            def split(x: Tensor) -> tuple[Tensor, ...]:
                return x.unsqueeze(0).split(sizes, -1)  # noqa: B023

            def energy(x: Tensor) -> Tensor:
                return problem.at(split(x)).energy[0]  # noqa: B023

            loss = -network.forecast(split(flat))[0].log_softmax(-1)[TOKENS[row, t + 1]]
            sent, *direct = torch.autograd.grad(loss, [flat, *parameters.values()], allow_unused=True)
            adjoint = torch.linalg.solve(torch.autograd.functional.hessian(energy, flat.detach()), sent)
            (residual,) = torch.autograd.grad(energy(flat), flat, create_graph=True)
            through = torch.autograd.grad(adjoint @ residual, list(parameters.values()), allow_unused=True)
            for name, explicit, implicit in zip(total, direct, through, strict=True):
                total[name] += (0 if explicit is None else explicit) - (0 if implicit is None else implicit)
    return {name: gradient / (len(TOKENS) * (TOKENS.shape[1] - 1)) for name, gradient in total.items()}


def nudged(beta: float) -> Nudged:
    return Nudged(beta, nudged=Inference(GaussNewton(), atol=1e-12, max_steps=300))


@LEVELS
def test_nudging_gives_the_gradient_within_the_token_as_beta_squared(small_network, levels: int) -> None:
    network = small_network(levels)
    expected = gradient_with_past_held(network)
    errors = [relative_difference(gradients(nudged(beta), network), expected) for beta in (0.2, 0.1, 0.05)]
    assert errors[2] < 0.01
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert coarse / fine == pytest.approx(4.0, rel=0.1)


@LEVELS
def test_nudging_from_one_side_errs_in_proportion_to_beta(small_network, levels: int) -> None:
    """And the errors of the two sides cancel: their mean is the centred difference."""
    network = small_network(levels)
    expected = gradient_with_past_held(network)
    found = {
        side: [gradients(replace(nudged(beta), side=side), network) for beta in (0.1, 0.05, 0.025)] for side in Side
    }
    for side in (Side.POSITIVE, Side.NEGATIVE):
        errors = [relative_difference(gradient, expected) for gradient in found[side]]
        for coarse, fine in zip(errors, errors[1:], strict=False):
            assert coarse / fine == pytest.approx(2.0, rel=0.15)
    for positive, negative, centred in zip(*(found[side] for side in Side), strict=True):
        mean = {name: (positive[name] + negative[name]) / 2 for name in positive}
        assert relative_difference(mean, centred) < 1e-8


def test_nudging_is_not_the_gradient_through_time(small_network) -> None:
    """So that the test above can fail: what the past contributes is missing, and that is much."""
    network = small_network(2)
    assert relative_difference(gradients(nudged(0.05), network), gradients(EXACT, network)) > 0.05


def test_for_one_transition_nudging_and_implicit_agree(small_network) -> None:
    """With two tokens there is no past to go back to."""
    network = small_network(2)
    exact = gradients(EXACT, network, TOKENS[:, :2])
    assert relative_difference(gradients(nudged(0.02), network, TOKENS[:, :2]), exact) < 1e-3


# --- Local ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_expectation", [True, False], ids=["readout on expectation", "readout at equilibrium"])
@LEVELS
def test_local_is_the_explicit_outer_products(small_network, levels: int, on_expectation: bool) -> None:
    """Weighted error times presynaptic activity, averaged over tokens, in plain numpy; a gradient has the opposite sign."""
    network = small_network(levels)
    trajectory = network.infer(TOKENS[:, :-1], TIGHT)
    weight = {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}
    found = gradients(Local(readout_on_expectation=on_expectation), network)
    expected = {name: np.zeros(parameter.shape) for name, parameter in found.items()}
    count = len(TOKENS) * (TOKENS.shape[1] - 1)

    def predictions(past: list[np.ndarray], values: list[np.ndarray] | None) -> list[np.ndarray]:
        """Of every level, from given values above, or from the prediction above where none are given."""
        result: list[np.ndarray] = []
        for level in reversed(range(levels)):
            site = f"predictions.{level + 1}"
            own = weight[f"{site}.layers.0.weight"] @ np.tanh(past[level]) + weight[f"{site}.layers.0.bias"]
            if level + 1 < levels:
                above = result[0] if values is None else values[level + 1]
                own = own + weight[f"{site}.layers.1.weight"] @ np.tanh(above)
            result.insert(0, own)
        return result

    for row, t in itertools.product(range(len(TOKENS)), range(TOKENS.shape[1] - 1)):
        values, past = ([group[row, t].numpy() for group in state] for state in (trajectory.values, trajectory.past))
        seen_by_readout = predictions(values, None)[0] if on_expectation else values[0]
        outcome = TOKENS[row, t + 1] if on_expectation else TOKENS[row, t]
        logits = (
            weight["predictions.0.layers.0.weight"] @ np.tanh(seen_by_readout) + weight["predictions.0.layers.0.bias"]
        )
        surprise = np.eye(3)[outcome] - np.exp(logits) / np.exp(logits).sum()
        expected["predictions.0.layers.0.weight"] -= np.outer(surprise, np.tanh(seen_by_readout)) / count
        expected["predictions.0.layers.0.bias"] -= surprise / count
        for level, prediction in enumerate(predictions(past, values)):
            site = f"predictions.{level + 1}"
            error = values[level] - prediction
            precision = np.exp(weight[f"{site}.energy.log_precision"])
            weighted = precision * error
            expected[f"{site}.layers.0.weight"] -= np.outer(weighted, np.tanh(past[level])) / count
            expected[f"{site}.layers.0.bias"] -= weighted / count
            if level + 1 < levels:
                expected[f"{site}.layers.1.weight"] -= np.outer(weighted, np.tanh(values[level + 1])) / count
            expected[f"{site}.energy.log_precision"] += (0.5 * precision * error**2 - 0.5) / count
    assert set(found) == set(expected)
    for name in expected:
        np.testing.assert_allclose(found[name].numpy(), expected[name], atol=1e-10, err_msg=name)


def test_local_is_not_the_gradient_of_the_next_token_loss(small_network) -> None:
    network = small_network(2)
    assert relative_difference(gradients(Local(), network), gradients(EXACT, network)) > 0.5


def test_local_sees_nothing_of_what_comes_later(small_network) -> None:
    """The update of a sequence is the sum over its tokens of updates that know only the tokens before."""
    network, rule = small_network(2), Local(readout_on_expectation=False)
    whole = gradients(rule, network)
    changed = TOKENS.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 3  # is predicted but not inferred: no energy holds it
    assert relative_difference(gradients(rule, network, changed), whole) < 1e-13
    prefix = gradients(rule, network, TOKENS[:, :3])
    changed = TOKENS.clone()
    changed[:, 2] = (changed[:, 2] + 1) % 3
    last = [
        {name: 3 * full[name] - 2 * prefix[name] for name in full}
        for full in (whole, gradients(rule, network, changed))
    ]
    assert relative_difference(*last) > 0.1, "the third token's own update must differ"
    problem = network.problem(
        StepClamp(TOKENS[:, 2], tuple(g[:, 1] for g in network.infer(TOKENS[:, :2], TIGHT).values))
    )
    network.zero_grad()
    problem.at(tuple(group[:, 2] for group in network.infer(TOKENS[:, :3], TIGHT).values)).energy.mean().backward()
    alone = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    assert relative_difference(last[0], alone) < 1e-9


def test_gaussian_precision_is_learned_to_the_planted_one() -> None:
    """Errors of variance 1/Pi: the mean energy is least at Pi = 1 / mean(eps^2), closed form, close to the planted value."""
    planted = torch.tensor([0.25, 1.0, 8.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    errors = torch.randn(5_000, 3, generator=generator, dtype=torch.float64) / planted.sqrt()
    energy = Gaussian(3, learned=True).double()
    optimizer = torch.optim.SGD(energy.parameters(), lr=1.0)
    for _ in range(60):
        optimizer.zero_grad()
        energy.cost(errors).mean().backward()
        optimizer.step()
    closed_form = 1 / errors.square().mean(0)
    torch.testing.assert_close(energy.precision.detach(), closed_form, rtol=1e-9, atol=0)
    torch.testing.assert_close(closed_form, planted, rtol=0.08, atol=0)  # 4 standard errors of sqrt(2 / 5,000) = 2 %


@torch.no_grad()
def test_precisions_of_a_network_are_at_rest_where_they_match_its_errors(small_network) -> None:
    """The energy that `Local` descends, at planted errors: its gradient vanishes at Pi = 1 / mean(eps^2) and nowhere else."""
    network = small_network(2)
    generator = torch.Generator().manual_seed(1)
    past = tuple(torch.randn(50, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    problem = network.problem(StepClamp(torch.randint(3, (50,), generator=generator), past))
    spreads = (0.5, 3.0)
    errors = tuple(spread * torch.randn(50, 3, generator=generator, dtype=torch.float64) for spread in spreads)
    values = problem.at_errors(errors).values
    log_precisions = [level.energy.log_precision for level in network.levels]
    for shift, expected in ((0.0, 0.0), (0.5, 0.5 * (np.exp(0.5) - 1)), (-0.5, 0.5 * (np.exp(-0.5) - 1))):
        for log_precision, planted in zip(log_precisions, errors, strict=True):
            log_precision.copy_(shift - planted.square().mean(0).log())
        with torch.enable_grad():
            energy = network.problem(StepClamp(problem.tokens, past)).at(values).energy.mean()
            found = torch.autograd.grad(energy, log_precisions)
        for gradient in found:
            torch.testing.assert_close(gradient, torch.full_like(gradient, expected), rtol=0, atol=1e-12)
