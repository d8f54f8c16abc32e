"""Local and incremental learning of graph networks against formulas written out here, closed forms and finite differences."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from learned_graphs import (
    EXACT,
    ROWS,
    TIGHT,
    Written,
    bidirectional,
    discriminative,
    gradients,
    labelled,
    made,
    named,
    one_hot,
    relative_difference,
    skipping,
    slopes,
)
from linear_problems import normal
from torch import Tensor, nn
from torch.nn import functional

from pcnet.energies import (
    Categorical,
    Energy,
    Gaussian,
    GaussianWeights,
)
from pcnet.inference import Euler, FixedSteps, GaussNewton
from pcnet.learning import (
    Backprop,
    Example,
    FixedPrediction,
    Incremental,
    LearningRule,
    Local,
    Nudged,
    Unrolled,
    ZeroDivergence,
)
from pcnet.networks import (
    Dense,
    GraphNetwork,
    HierarchicalPC,
    Identity,
    MuPC,
    Softplus,
    Standard,
    convolution,
    hierarchy,
)

OUTPUTS = pytest.mark.parametrize(
    "output", [lambda: Gaussian(3, learned=True), Categorical], ids=["Gaussian", "Categorical"]
)


# --- Local ----------------------------------------------------------------------------------------------------


def outer_products(written: Written, x: Tensor, hidden: list[Tensor], y: Tensor) -> list[list[np.ndarray]]:
    """Mean over rows of weighted error times presynaptic activity, one row and one level at a time, in numpy."""
    levels = len(written.weights)
    sums = [
        [np.zeros(tuple(t.shape)) for t in group] for group in (written.weights, written.biases, written.log_precisions)
    ]
    for row in range(len(x)):
        values = [x[row].numpy(), *(h[row].numpy() for h in hidden), y[row].numpy()]
        for level in range(levels):
            W, b, s = (group[level].numpy() for group in (written.weights, written.biases, written.log_precisions))
            drive = W @ values[level] + b
            if level < levels - 1:
                error = values[level + 1] - np.tanh(drive)
                sent = np.exp(s) * error * (1 - np.tanh(drive) ** 2)
            elif written.categorical:
                law = np.exp(drive - drive.max())
                sent = error = values[level + 1] - law / law.sum()
            else:
                error = values[level + 1] - drive
                sent = np.exp(s) * error
            sums[0][level] -= np.outer(sent, values[level]) / len(x)
            sums[1][level] -= sent / len(x)
            sums[2][level] += 0.5 * (np.exp(s) * error**2 - 1) / len(x)
    return sums


@OUTPUTS
def test_local_is_the_explicit_outer_products(output: Callable[[], Energy]) -> None:
    network = discriminative(output())
    example, written = labelled(network), Written.of(network)
    hidden = written.relaxed(example.held["0"], one_hot(example), 1.0)
    expected = named(network, outer_products(written, example.held["0"], hidden, one_hot(example)))
    found = gradients(Local(), network, example)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-11, msg=name)
    value = written.hidden_energy(example.held["0"], hidden) + written.output_cost(hidden[-1], one_hot(example))
    assert Local().loss(network, example).item() == pytest.approx(value.mean().item(), rel=1e-12)


def test_local_after_so_many_steps_is_the_outer_products_there() -> None:
    """Not at the equilibrium: two steps of .1, by hand."""
    network = discriminative(energies={})
    example, written = labelled(network), Written.of(network)
    x, y = example.held["0"], example.targets["3"]
    W, b = ([t.numpy() for t in group] for group in (written.weights, written.biases))
    h1 = np.tanh(x.numpy() @ W[0].T + b[0])
    h2 = np.tanh(h1 @ W[1].T + b[1])
    for _ in range(2):
        mu1, mu2 = np.tanh(x.numpy() @ W[0].T + b[0]), np.tanh(h1 @ W[1].T + b[1])
        e1, e2, e3 = h1 - mu1, h2 - mu2, y.numpy() - (h2 @ W[2].T + b[2])
        h1, h2 = h1 - 0.1 * (e1 - (e2 * (1 - mu2**2)) @ W[1]), h2 - 0.1 * (e2 - e3 @ W[2])
    expected = named(network, outer_products(written, x, [torch.from_numpy(h1), torch.from_numpy(h2)], y))
    found = gradients(Local(inference=FixedSteps(0.1, 2)), network, example)
    assert relative_difference(found, expected) < 1e-12


def test_local_in_the_case_done_by_hand() -> None:
    """x = 1, W = (2, 3), y = 1: hidden .5, errors -1.5 and -.5, F* 1.25, and dF/dW = -error times what was sent."""
    network = HierarchicalPC(
        [1, 1, 1], parameterisation=Standard(activation=Identity(), bias=False), inference=TIGHT
    ).double()
    first, second = (p.layers[0].weight for p in network.predictions)
    with torch.no_grad():
        first.fill_(2.0), second.fill_(3.0)
    one = torch.ones(1, 1, dtype=torch.float64)
    loss = Local().loss(network, Example({"0": one}, {"2": one}))
    loss.backward()
    assert loss.item() == pytest.approx(1.25, rel=1e-12)
    assert (first.grad.item(), second.grad.item()) == (pytest.approx(1.5, rel=1e-12), pytest.approx(0.25, rel=1e-12))


def test_local_in_the_published_linear_case() -> None:
    """Two samples with a known equilibrium: mean F* 5/6, outer products of its errors."""
    weights = [[[1, 2], [0, -1], [0.5, 0.5]], [[1, 0, -1], [2, 1, 0]], [[1, -1]]]
    network = HierarchicalPC(
        [2, 3, 2, 1], parameterisation=Standard(activation=Identity(), bias=False), inference=TIGHT
    ).double()
    W = [torch.tensor(w, dtype=torch.float64) for w in weights]
    with torch.no_grad():
        for p, w in zip(network.predictions, W):
            p.layers[0].weight.copy_(w)
    x, y = torch.tensor([[1.0, 1], [0, 2]]).double(), torch.tensor([[1.0], [-1]]).double()
    z1 = torch.tensor([[7, -5, 1], [11, -7, 2]]).double() / 3
    z2 = torch.tensor([[8, 7], [10, 14]]).double() / 3
    loss = Local().loss(network, Example({"0": x}, {"3": y}))
    loss.backward()
    assert loss.item() == pytest.approx(5 / 6, rel=1e-12)
    levels = zip(network.predictions, W, [x, z1, z2], [z1, z2, y])
    for p, w, below, here in levels:
        torch.testing.assert_close(p.layers[0].weight.grad, -(here - below @ w.T).T @ below / 2, rtol=0, atol=1e-12)


def test_local_with_nothing_free_is_the_delta_rule() -> None:
    """One layer from what is held to what is held: the gradient of least squares, and no inference."""
    network = made(HierarchicalPC([4, 3]))
    x, y = normal(ROWS, 4), normal(ROWS, 3, seed=1)
    found = gradients(Local(), network, Example({"0": x}, {"1": y}))
    layer = network.predictions[0].layers[0]
    error = (y - functional.linear(x, layer.weight, layer.bias)).detach()
    torch.testing.assert_close(found["predictions.0.layers.0.weight"], -error.T @ x / ROWS, rtol=0, atol=1e-12)
    torch.testing.assert_close(found["predictions.0.layers.0.bias"], -error.mean(0), rtol=0, atol=1e-12)


def test_local_of_a_bidirectional_network_written_out() -> None:
    """An image held, everything else free: errors of both directions, weighted, and priors; at the network's equilibrium,
    which is one of the energy written here."""
    network = bidirectional()
    x = normal(ROWS, 4)
    x1, x2 = (group.detach() for group in network.infer(network.clamp({"0": x})).values)
    leaves = {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters() if p.requires_grad}

    def drive(k: int, source: Tensor) -> Tensor:
        return source @ leaves[f"predictions.{k}.layers.0.weight"].T + leaves[f"predictions.{k}.layers.0.bias"]

    s0 = next(s for name, s in leaves.items() if s.shape == (4,) and "log_precision" in name)
    s1 = next(s for name, s in leaves.items() if s.shape == (5,) and "log_precision" in name)
    s2 = leaves["layers.2.prior.log_precision"]

    def cost(error: Tensor, s: Tensor | float) -> Tensor:
        s = torch.as_tensor(s, dtype=torch.float64).expand(error.shape[-1])
        return 0.5 * (s.exp() * error**2 - s).sum(-1)

    def energy(x1: Tensor, x2: Tensor) -> Tensor:
        upward = cost(x1 - torch.tanh(drive(0, x)), s1) + cost(x2 - drive(1, x1), 0.0)
        downward = cost(x1 - torch.tanh(drive(2, x2)), s1) + cost(x - drive(3, x1), s0)
        return upward + 0.6 * downward + 0.3 * torch.log1p(x1**2).sum(-1) + cost(x2, s2)

    x1, x2 = x1.requires_grad_(), x2.requires_grad_()
    slopes = torch.autograd.grad(energy(x1, x2).sum(), (x1, x2))
    assert max(slope.abs().max() for slope in slopes) < 1e-11
    mean = energy(x1.detach(), x2.detach()).mean()
    expected = dict(zip(leaves, torch.autograd.grad(mean, list(leaves.values()))))
    found = gradients(Local(), network, Example({"0": x}))
    assert relative_difference(found, expected) < 1e-11
    assert Local().loss(network, Example({"0": x})).item() == pytest.approx(mean.item(), rel=1e-12)


def test_local_of_a_convolution_is_the_correlation_of_errors_with_what_was_sent() -> None:
    """No inference to speak of: inputs and feature maps held; the kernel's gradient by the loops of its definition."""
    shape = (2, 5, 5)
    layer = convolution(shape, 3, 3, activation=nn.Tanh(), pool=1)
    network = made(hierarchy([50, 27], up=[layer]))
    x, y = normal(ROWS, 50), normal(ROWS, 27, seed=1)
    found = gradients(Local(), network, Example({"0": x}, {"1": y}))
    kernel, bias = (p.detach().numpy() for p in layer.parameters())
    images, maps = x.view(ROWS, *shape).numpy(), y.view(ROWS, 3, 3, 3).numpy()
    by_kernel, by_bias = np.zeros_like(kernel), np.zeros_like(bias)
    for row in range(ROWS):
        for channel, i, j in np.ndindex(3, 3, 3):
            window = images[row, :, i : i + 3, j : j + 3]
            mu = np.tanh((kernel[channel] * window).sum() + bias[channel])
            sent = (maps[row, channel, i, j] - mu) * (1 - mu**2)
            by_kernel[channel] -= sent * window / ROWS
            by_bias[channel] -= sent / ROWS
    (weight_name, bias_name) = (name for name in found if name.endswith(("weight", "bias")))
    np.testing.assert_allclose(found[weight_name].numpy(), by_kernel, atol=1e-12)
    np.testing.assert_allclose(found[bias_name].numpy(), by_bias, atol=1e-12)


def convolutional() -> GraphNetwork:
    layers = [convolution((1, 6, 6), 2, 3, activation=nn.Tanh(), pool=2), Dense(8, 5, Softplus()), Dense(5, 3)]
    return made(hierarchy([36, 8, 5, 3], up=layers, energies={3: Categorical()}, inference=TIGHT))


@pytest.mark.parametrize(
    "make",
    [skipping, convolutional, lambda: discriminative(parameterisation=MuPC())],
    ids=["skip", "convolution", "muPC"],
)
def test_local_is_the_derivative_of_the_energy_at_fixed_values(make: Callable[[], GraphNetwork]) -> None:
    """By central differences along random directions: tied weights, skips, fused pooling and predicted precisions."""
    network = make()
    example = labelled(network)
    clamped = example.whole(network)
    values = network.infer(clamped).values

    def energy() -> float:
        return network.problem(clamped).at(values).energy.mean().item()

    for by_rule, by_differences in slopes(network, gradients(Local(), network, example), energy):
        assert by_rule == pytest.approx(by_differences, rel=1e-7)


def test_parameters_that_are_frozen_stay_out_of_it() -> None:
    network = discriminative()
    example = labelled(network)
    whole = gradients(Local(), network, example)
    frozen = network.predictions[1].layers[0].weight.requires_grad_(False)
    found = gradients(Local(), network, example)
    assert set(whole) - set(found) == {"predictions.1.layers.0.weight"}
    assert frozen.grad is None
    for name in found:
        assert torch.equal(found[name], whole[name])


def test_learned_precisions_recover_planted_noise() -> None:
    """Targets with noise of three variances: at the end of training precisions are 1 / mean squared residual (closed form),
    within 4 standard errors, sqrt(2 / 4000), of what was planted."""
    planted = torch.tensor([0.25, 1.0, 8.0], dtype=torch.float64)
    network = HierarchicalPC([2, 3], energies={1: Gaussian(3, learned=True)}).double()
    x, noise = normal(4000, 2), normal(4000, 3, seed=1)
    y = x @ normal(3, 2, seed=2).T + noise / planted.sqrt()
    optimizer = torch.optim.LBFGS(
        network.parameters(), line_search_fn="strong_wolfe", max_iter=80, tolerance_grad=1e-12, tolerance_change=0
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = Local().loss(network, Example({"0": x}, {"1": y}))
        loss.backward()
        return loss

    optimizer.step(closure)
    design = np.column_stack([x.numpy(), np.ones(4000)])
    residual = y.numpy() - design @ np.linalg.lstsq(design, y.numpy(), rcond=None)[0]
    found = network.predictions[0].energy.precision.detach()
    np.testing.assert_allclose(found.numpy(), 1 / (residual**2).mean(0), rtol=1e-5)
    torch.testing.assert_close(found, planted, rtol=4 * (2 / 4000) ** 0.5, atol=0)


# --- Incremental ---------------------------------------------------------------------------------------------------------


@OUTPUTS
def test_incremental_is_both_steps_written_out(output: Callable[[], Energy]) -> None:
    """Values and weights step together five times, both by derivatives at the values and weights from before."""
    network = discriminative(output())
    example, written = labelled(network), Written.of(network)
    x, y = example.held["0"], one_hot(example)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.07)
    losses = []
    for loss in Incremental(Euler(0.2), steps=5).updates(network, example):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    hidden, expected = written.feedforward(x)[:-1], []
    for _ in range(5):
        energy = written.hidden_energy(x, hidden) + written.output_cost(hidden[-1], y)
        expected.append(energy.mean().item())
        by_weights = outer_products(written, x, hidden, y)
        with torch.enable_grad():
            leaves = [h.detach().requires_grad_() for h in hidden]
            whole = written.hidden_energy(x, leaves) + written.output_cost(leaves[-1], y)
            by_values = torch.autograd.grad(whole.sum(), leaves)
        hidden = [h - 0.2 * g for h, g in zip(hidden, by_values)]
        learned = [
            k
            for k, p in enumerate(network.predictions)
            if isinstance(p.energy, Gaussian) and p.energy.log_precision.requires_grad
        ]
        for group, steps in zip((written.weights, written.biases, written.log_precisions), by_weights):
            for k, step in enumerate(steps):
                if group is not written.log_precisions or k in learned:
                    group[k] = group[k] - 0.07 * torch.from_numpy(step)
    assert losses == pytest.approx(expected, rel=1e-12)
    after = named(network, [written.weights, written.biases, written.log_precisions])
    parameters = dict(network.named_parameters())
    for name, value in after.items():
        torch.testing.assert_close(parameters[name].detach(), value, rtol=0, atol=1e-12, msg=name)


def test_incremental_with_still_weights_is_inference() -> None:
    """No optimiser step at all: the loss falls to the equilibrium's energy, and the last update is that of Local."""
    network = discriminative()
    example = labelled(network)
    *_, last = Incremental(GaussNewton(), steps=40).updates(network, example)
    network.zero_grad()
    last.backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.requires_grad}
    assert last.item() == pytest.approx(Local().loss(network, example).item(), rel=1e-12)
    assert relative_difference(found, gradients(Local(), network, example)) < 1e-9


# --- weight priors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [Backprop(), Local(), Nudged(nudged=TIGHT), EXACT, Unrolled(3, Euler(0.1)), ZeroDivergence(), FixedPrediction()],
    ids=lambda rule: type(rule).__name__,
)
def test_a_weight_prior_is_added_once(rule: LearningRule) -> None:
    """Strength times every weight, on top of the mean over the batch, whatever its size; biases and the value are left alone."""
    network = discriminative(Categorical(), energies={3: Categorical()})
    whole = labelled(network)
    half = Example({"0": whole.held["0"][:2]}, {"3": whole.targets["3"][:2]})
    for example in (whole, half):
        network.weight_prior = None
        without, value = gradients(rule, network, example), rule.loss(network, example).item()
        network.weight_prior = GaussianWeights(0.3)
        found = gradients(rule, network, example)
        assert rule.loss(network, example).item() == pytest.approx(value, rel=1e-12)
        for name, p in network.named_parameters():
            if p.requires_grad:
                extra = 0.3 * p.detach() if p.ndim > 1 else torch.zeros_like(p)
                torch.testing.assert_close(found[name] - without[name], extra, rtol=0, atol=1e-12, msg=name)


def test_a_weight_prior_is_added_once_in_every_incremental_update() -> None:
    network = discriminative(Categorical(), energies={3: Categorical()})
    example, updates = labelled(network), []
    for prior in (None, GaussianWeights(0.3)):
        network.weight_prior = prior
        for loss in Incremental(steps=3).updates(network, example):
            network.zero_grad()
            loss.backward()
            updates.append(network.predictions[1].layers[0].weight.grad.clone())
    for without, found in zip(updates[:3], updates[3:]):
        extra = 0.3 * network.predictions[1].layers[0].weight.detach()
        torch.testing.assert_close(found - without, extra, rtol=0, atol=1e-12)
