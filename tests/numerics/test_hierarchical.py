"""Hierarchies against closed forms of linear chains, published scalings, and formulas written out, float64."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pcnet.energies import Bernoulli, Categorical, Gaussian, GaussianPrior, InputPrecision, KurtoticPrior
from pcnet.inference import (
    Direct,
    Euler,
    GaussNewton,
    Inference,
    LinearGaussian,
    Momentum,
    NewtonCG,
    Solver,
    extremes,
)
from pcnet.networks import (
    ActiveDense,
    AutogradLayer,
    Dense,
    GraphNetwork,
    HierarchicalPC,
    Identity,
    MuPC,
    PCGraph,
    Skip,
    Standard,
    convolution,
    hierarchy,
    transposed_convolution,
)
from pcnet.networks.graph.problem import GraphProblem

EXACT = Inference(NewtonCG(), atol=1e-10, max_steps=200)
SOLVERS = [Direct(), GaussNewton(), NewtonCG(), Momentum()]
each_solver = pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomised(network: GraphNetwork, gain: float = 1.0, seed: int = 0) -> GraphNetwork:
    network.double()
    with torch.no_grad():
        for k, (name, p) in enumerate(network.predictions.named_parameters()):
            if not name.endswith("log_precision"):
                p.copy_(draw(*p.shape, seed=100 * seed + k, scale=gain / p[0].numel() ** 0.5 if p.dim() > 1 else 0.3))
    return network


def linear_chain(matrices: Sequence[Tensor]) -> HierarchicalPC:
    """Upwards, x_l = W_l x_(l-1)."""
    network = HierarchicalPC(
        [matrices[0].shape[1], *(len(W) for W in matrices)],
        parameterisation=Standard(activation=Identity(), bias=False),
    ).double()
    with torch.no_grad():
        for p, W in zip(network.predictions, matrices, strict=True):
            p.layers[0].weight.copy_(W)
    return network


class ClosedForm:
    """What is known of a linear chain with both ends held."""

    def __init__(self, matrices: Sequence[Tensor], x: Tensor, y: Tensor) -> None:
        outputs = len(matrices[-1])
        eye = torch.eye(outputs, dtype=torch.float64)
        paths = [eye]  # P_L, P_(L-1), ..., P_1: from the error of a level to the output
        for W in reversed(matrices[1:]):
            paths.append(paths[-1] @ W)
        self.paths = paths[::-1]
        self.S = sum(P @ P.T for P in self.paths)
        swept = [x]
        for W in matrices:
            swept.append(swept[-1] @ W.T)
        self.r = y - swept[-1]
        self.u = self.r @ torch.linalg.inv(self.S)
        self.errors = [self.u @ P for P in self.paths]
        self.energy = 0.5 * (self.r * self.u).sum(-1)
        self.values = []
        value = x
        for W, error in zip(matrices, self.errors):
            value = value @ W.T + error
            self.values.append(value)


def dense_hessian(problem: GraphProblem, values: tuple[Tensor, ...]) -> Tensor:
    """d2F/dx2 of the first row, column by column."""
    sizes = [x.shape[1] for x in values]
    eye = torch.eye(sum(sizes), dtype=torch.float64)
    rows = tuple(x[:1].expand(len(eye), -1) for x in values)
    wide = problem.rows(torch.zeros(len(eye), dtype=torch.long))
    return torch.cat(wide.hessian_product(wide.at(rows), eye.split(sizes, -1)), -1)


# Linear chains.


@each_solver
def test_the_hand_case(solver: Solver) -> None:
    """x = 1, W = (2, 3), y = 1: hidden .5, F 1.25, errors -1.5 and -.5."""
    one = torch.ones(1, 1, dtype=torch.float64)
    network = linear_chain([2 * one, 3 * one])
    clamped = network.clamp({"0": one, "2": one})
    seen = network.infer(clamped, Inference(solver, atol=1e-12, max_steps=2000))
    assert seen.values[0].item() == pytest.approx(0.5, abs=1e-12)
    assert seen.point.energy.item() == pytest.approx(1.25, abs=1e-12)
    reading = network.reading(network.problem(clamped), seen.values)
    assert [reading[n]["error"].item() for n in "12"] == pytest.approx([-1.5, -0.5], abs=1e-11)


@each_solver
def test_three_linear_layers(solver: Solver) -> None:
    matrices = [
        torch.tensor(W, dtype=torch.float64)
        for W in ([[1, 2], [0, -1], [0.5, 0.5]], [[1, 0, -1], [2, 1, 0]], [[1, -1]])
    ]
    network = linear_chain(matrices)
    clamped = network.clamp({"0": torch.tensor([[1.0, 1], [0, 2]]), "3": torch.tensor([[1.0], [-1]])})
    seen = network.infer(clamped, Inference(solver, atol=1e-11, max_steps=5000))
    assert seen.converged.all()
    z1 = torch.tensor([[7 / 3, -5 / 3, 1 / 3], [11 / 3, -7 / 3, 2 / 3]], dtype=torch.float64)
    z2 = torch.tensor([[8 / 3, 7 / 3], [10 / 3, 14 / 3]], dtype=torch.float64)
    for found, expected in zip(seen.values, (z1, z2)):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert seen.point.energy.mean().item() == pytest.approx(5 / 6, abs=1e-12)
    hessian = dense_hessian(network.problem(clamped), seen.values)
    expected = torch.tensor([0.15278074, 1, 1.40405794, 3.53842825, 7.90473307], dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.eigvalsh(hessian), expected, rtol=0, atol=1e-8)


def random_chain(depth: int, seed: int) -> tuple[list[Tensor], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    widths = [4, *torch.randint(2, 7, (depth - 1,), generator=generator).tolist(), 3]
    matrices = [draw(b, a, seed=1000 * seed + k, scale=a**-0.5) for k, (a, b) in enumerate(zip(widths, widths[1:]))]
    return matrices, draw(5, 4, seed=seed + 1), draw(5, 3, seed=seed + 2)


@pytest.mark.parametrize("depth", range(2, 21))
def test_chains_end_at_the_closed_form(depth: int) -> None:
    matrices, x, y = random_chain(depth, seed=depth)
    network, exact = linear_chain(matrices), ClosedForm(matrices, x, y)
    clamped = network.clamp({"0": x, str(depth): y})
    assert isinstance(network.problem(clamped), LinearGaussian)
    for solver in (Direct(), GaussNewton()):
        seen = network.infer(clamped, Inference(solver, atol=1e-9))
        assert seen.steps.tolist() == [1] * 5
        for found, expected in zip(seen.values, exact.values):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(seen.point.energy, exact.energy, rtol=1e-10, atol=1e-12)
        reading = network.reading(network.problem(clamped), seen.values)
        for level, expected in enumerate(exact.errors, 1):
            torch.testing.assert_close(reading[str(level)]["error"], expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("solver", [Euler(), Momentum(), NewtonCG()], ids=lambda s: type(s).__name__)
def test_descent_ends_there_too(depth: int, solver: Solver) -> None:
    matrices, x, y = random_chain(depth, seed=depth)
    network, exact = linear_chain(matrices), ClosedForm(matrices, x, y)
    seen = network.infer(network.clamp({"0": x, str(depth): y}), Inference(solver, atol=1e-9, max_steps=10000))
    assert seen.converged.all(), seen.report()
    for found, expected in zip(seen.values, exact.values):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


# Coordinates and conditioning.


@pytest.mark.parametrize("depth", [2, 3, 6, 10])
def test_curvature_in_errors_is_one_plus_the_paths_to_the_output(depth: int) -> None:
    """H_eps = I + J^T J with J the paths from hidden errors; its condition number is the largest eigenvalue of S."""
    matrices, x, y = random_chain(depth, seed=depth)
    network, exact = linear_chain(matrices), ClosedForm(matrices, x, y)
    problem = network.problem(network.clamp({"0": x, str(depth): y}))
    values = network.initial_values(network.clamp({"0": x, str(depth): y}))
    in_values = dense_hessian(problem, values)
    sizes = [v.shape[1] for v in values]
    eye = torch.eye(sum(sizes), dtype=torch.float64)
    wide = problem.rows(torch.zeros(len(eye), dtype=torch.long))
    point = wide.at(tuple(v[:1].expand(len(eye), -1) for v in values))
    change = torch.cat(wide.push_forward(point, eye.split(sizes, -1)), -1).T
    assert torch.linalg.det(change).item() == pytest.approx(1, abs=1e-10)
    paths = torch.cat(exact.paths[:-1], -1)
    in_errors = change.T @ in_values @ change
    torch.testing.assert_close(in_errors, eye + paths.T @ paths, rtol=1e-9, atol=1e-9)
    eigenvalues = torch.linalg.eigvalsh(in_errors)
    largest = torch.linalg.eigvalsh(exact.S)[-1]
    torch.testing.assert_close(eigenvalues[-1], largest, rtol=1e-9, atol=0)
    if len(eye) > len(exact.S):
        assert eigenvalues[0].item() == pytest.approx(1, abs=1e-9)
    level = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    assert in_values[(level[:, None] - level).abs() > 1].abs().max() == 0 if depth > 3 else True


@pytest.mark.parametrize("depth", [2, 4, 8, 16, 32])
def test_the_condition_number_of_a_scalar_chain(depth: int) -> None:
    """Unit weights: 1 / tan^2(pi / 2L) in values, that is 4 / pi^2 of the depth squared; L in errors."""
    one = torch.ones(1, 1, dtype=torch.float64)
    network = linear_chain([one] * depth)
    problem = network.problem(network.clamp({"0": one, str(depth): 2 * one}))
    hessian = dense_hessian(problem, problem.at(tuple(one for _ in range(depth - 1))).values)
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert (eigenvalues[-1] / eigenvalues[0]).item() == pytest.approx(1 / math.tan(math.pi / 2 / depth) ** 2, rel=1e-9)
    assert torch.linalg.eigvalsh(ClosedForm([one] * depth, one, one).S).item() == depth


def conditions(matrices: list[Tensor]) -> tuple[float, float]:
    """Condition numbers in values and in errors, of a chain of ten outputs."""
    network = linear_chain(matrices)
    x, y = draw(1, matrices[0].shape[1], seed=1), draw(1, 10, seed=2)
    clamped = network.clamp({"0": x, str(len(matrices)): y})
    eigenvalues = torch.linalg.eigvalsh(dense_hessian(network.problem(clamped), network.initial_values(clamped)))
    largest = torch.linalg.eigvalsh(ClosedForm(matrices, x, y).S)[-1]
    return (eigenvalues[-1] / eigenvalues[0]).item(), largest.item()


def test_depth_is_hard_in_values_and_easy_in_errors() -> None:
    """Random chains: about the depth squared in values, about the depth in errors."""
    by_depth = {
        depth: conditions([draw(16 if k < depth - 1 else 10, 16, seed=k, scale=0.25) for k in range(depth)])
        for depth in (4, 8, 16, 32)
    }
    in_values, in_errors = zip(*by_depth.values())
    assert all(2.5 < b / a < 12 for a, b in zip(in_values, in_values[1:]))
    assert all(b / a < 4 for a, b in zip(in_errors, in_errors[1:]))
    assert in_values[-1] > 20 * in_errors[-1]


def test_a_condition_number_that_is_measured_is_the_one_that_is_known() -> None:
    matrices, x, y = random_chain(6, seed=3)
    network = linear_chain(matrices)
    clamped = network.clamp({"0": x, "6": y})
    problem, values = network.problem(clamped), network.initial_values(clamped)
    eigenvalues = torch.linalg.eigvalsh(dense_hessian(problem, values))
    measured = extremes(problem, problem.at(values), steps=60).condition_number
    torch.testing.assert_close(measured, (eigenvalues[-1] / eigenvalues[0]).expand(5), rtol=0.02, atol=0)


# Energies and directions.


def test_upward_and_downward_energies_add_up() -> None:
    network = randomised(HierarchicalPC([5, 4, 3], upward=0.7, downward=1.3, priors={2: GaussianPrior(0.4)}))
    W1, W2, V1, V0 = (p.layers[0] for p in network.predictions)
    x0, x1, x2 = draw(6, 5, seed=1), draw(6, 4, seed=2), draw(6, 3, seed=3)
    errors_up = x1 - torch.tanh(x0 @ W1.weight.T + W1.bias), x2 - (x1 @ W2.weight.T + W2.bias)
    errors_down = x1 - torch.tanh(x2 @ V1.weight.T + V1.bias), x0 - (x1 @ V0.weight.T + V0.bias)
    expected = (
        0.35 * sum(e.square().sum(-1) for e in errors_up)
        + 0.65 * sum(e.square().sum(-1) for e in errors_down)
        + 0.2 * x2.square().sum(-1)
    )
    point = network.problem(network.clamp({"0": x0})).at((x1, x2))
    torch.testing.assert_close(point.energy, expected.detach(), rtol=1e-12, atol=1e-12)


def test_a_weight_of_zero_leaves_a_direction_out() -> None:
    assert [p.target for p in HierarchicalPC([4, 3, 2]).predictions] == ["1", "2"]
    assert [p.target for p in HierarchicalPC([4, 3, 2], upward=0, downward=2.0).predictions] == ["1", "0"]
    both = HierarchicalPC([4, 3, 2], downward=0.5)
    assert [(p.target, p.sources, p.weight) for p in both.predictions] == [
        ("1", ("0",), 1.0), ("2", ("1",), 1.0), ("1", ("2",), 0.5), ("0", ("1",), 0.5)]  # fmt: skip
    assert both.depth == 2


def test_the_last_prediction_is_linear_and_the_others_are_not() -> None:
    up = HierarchicalPC([4, 3, 3, 2])
    assert [p.layers[0].linear for p in up.predictions] == [False, False, True]
    down = HierarchicalPC([4, 3, 3, 2], upward=0, downward=1)
    assert [(p.target, p.layers[0].linear) for p in down.predictions] == [("2", False), ("1", False), ("0", True)]


def test_an_energy_that_asks_for_more_numbers_gets_them() -> None:
    network = randomised(HierarchicalPC([5, 4, 3], energies={1: InputPrecision(), 2: InputPrecision()}))
    assert [tuple(p.layers[0].weight.shape) for p in network.predictions] == [(8, 5), (6, 4)]
    first, last = (p.layers[0] for p in network.predictions)
    x, h, y = draw(6, 5, seed=1), draw(6, 4, seed=2), draw(6, 3, seed=3)
    expected = 0.0
    for value, mu in ((h, torch.tanh(x @ first.weight.T + first.bias)), (y, h @ last.weight.T + last.bias)):
        m, s = mu.chunk(2, -1)
        expected = expected + 0.5 * (s.exp() * (value - m) ** 2 - s).sum(-1)
    energy = network.problem(network.clamp({"0": x, "2": y})).at((h,)).energy
    torch.testing.assert_close(energy, expected.detach(), rtol=1e-12, atol=1e-12)
    down = HierarchicalPC([5, 4, 3], 0.0, 1.0, energies={0: InputPrecision()})
    assert [tuple(p.layers[0].weight.shape) for p in down.predictions] == [(4, 3), (10, 4)]


# Parameterisations.


def test_standard_weights() -> None:
    torch.manual_seed(0)
    network = HierarchicalPC([200, 300, 100], parameterisation=Standard(scale=0.8))
    for p, fan_in in zip(network.predictions, (200, 300)):
        assert p.layers[0].weight.std().item() * fan_in**0.5 == pytest.approx(0.8, abs=0.02)
        assert p.layers[0].bias.abs().max() == 0 and p.layers[0].scale == 1
    silent = HierarchicalPC([3, 2, 2], parameterisation=Standard(scale=0.0))
    assert silent(torch.ones(1, 3)).abs().max() == 0


def test_mupc_is_its_table() -> None:
    """a_1 = D^-1/2, a_l = (N L)^-1/2 beside an identity path, a_L = 1 / N; W ~ N(0, 1)."""
    D, N, L, outputs = 7, 50, 5, 3
    torch.manual_seed(0)
    network = HierarchicalPC([D] + [N] * (L - 1) + [outputs], parameterisation=MuPC(bias=False)).double()
    weights = [p.layers[-1].weight for p in network.predictions]
    assert torch.cat([W.flatten() for W in weights]).std().item() == pytest.approx(1, abs=0.02)
    assert [len(p.layers) for p in network.predictions] == [1, 2, 2, 2, 1]
    values = [draw(4, D, seed=9), *(draw(4, N, seed=k) for k in range(L - 1)), draw(4, outputs, seed=99)]
    predictions = [values[0] @ weights[0].T / D**0.5]
    for l in range(1, L - 1):
        predictions.append(values[l] + torch.tanh(values[l]) @ weights[l].T / (N * L) ** 0.5)
    predictions.append(torch.tanh(values[L - 1]) @ weights[L - 1].T / N)
    expected = 0.5 * sum((x - mu).square().sum(-1) for x, mu in zip(values[1:], predictions, strict=True))
    clamped = network.clamp({"0": values[0], str(L): values[-1]})
    torch.testing.assert_close(network.problem(clamped).at(tuple(values[1:-1])).energy, expected.detach())


def test_mupc_without_equal_neighbours_has_no_identity_path() -> None:
    network = HierarchicalPC([6, 5, 4, 4, 2], parameterisation=MuPC())
    assert [len(p.layers) for p in network.predictions] == [1, 1, 2, 1]
    assert [p.layers[-1].scale for p in network.predictions] == pytest.approx(
        [6**-0.5, 5**-0.5, (4 * 4) ** -0.5, 1 / 4]
    )
    assert isinstance(network.predictions[2].layers[0], Skip)
    assert all(isinstance(p.layers[-1], ActiveDense) for p in network.predictions)


@pytest.mark.parametrize("depth", [4, 16, 64])
def test_mupc_keeps_the_size_of_what_it_carries(depth: int) -> None:
    """Unit input, unit hidden values at any depth: each block adds a variance of at most 1 / L."""
    torch.manual_seed(depth)
    network = HierarchicalPC([64] + [128] * (depth - 1) + [10], parameterisation=MuPC()).double()
    swept = network.initial_values(network.clamp({"0": draw(20, 64)}))
    sizes = [x.square().mean().item() for x in swept[:-1]]
    assert sizes[0] == pytest.approx(1, abs=0.15)
    assert sizes[-1] < 2.5


# What can be held.


def test_with_a_free_output_the_sweep_is_the_answer() -> None:
    """Energy exactly zero, no step taken, and the equilibrium is a feedforward network."""
    network = randomised(HierarchicalPC([6, 5, 4, 3]))
    x = draw(7, 6)
    clamped = network.clamp({"0": x})
    for solver in (GaussNewton(), Momentum(), Euler(0.1)):
        seen = network.infer(clamped, Inference(solver, atol=1e-12))
        assert seen.point.energy.abs().max() < 1e-28 and seen.steps.max() == 0
    feedforward = x
    for k, p in enumerate(network.predictions):
        feedforward = feedforward @ p.layers[0].weight.T + p.layers[0].bias
        feedforward = torch.tanh(feedforward) if k < 2 else feedforward
    torch.testing.assert_close(network(x), feedforward.detach(), rtol=1e-12, atol=1e-12)


def test_a_held_label_cannot_leak_into_forward() -> None:
    """`forward` takes inputs alone, and what it answered before leaves no trace."""
    network = randomised(HierarchicalPC([6, 5, 3], energies={2: Categorical()}))
    x = draw(7, 6)
    before = network(x)
    network.infer(network.clamp({"0": x, "2": torch.arange(7) % 3}))
    assert torch.equal(network(x), before)
    torch.testing.assert_close(before.sum(-1), torch.ones(7, dtype=torch.float64))


@pytest.mark.parametrize("upward, downward", [(1.0, 0.0), (0.0, 1.0), (0.6, 1.3)])
@pytest.mark.parametrize("held", [("0",), ("3",), ("0", "3"), ("1",), ("0", "2"), ("1", "3"), ("0", "1", "2")])
def test_any_nodes_can_be_held(upward: float, downward: float, held: tuple[str, ...]) -> None:
    """Wherever inference stops, autograd finds the formula flat, and every free node has an answer."""
    widths = [6, 5, 4, 3]
    priors = {level: GaussianPrior(0.5) for level in range(4)}
    network = randomised(HierarchicalPC(widths, upward, downward, priors=priors))
    given = {name: draw(5, widths[int(name)], seed=int(name)) for name in held}
    clamped = network.clamp(given)
    seen = network.infer(clamped, EXACT)
    assert seen.converged.all(), seen.report()
    free = [str(level) for level in range(4) if str(level) not in held]
    nodes = given | {name: network.answer(clamped, seen, name).clone().requires_grad_() for name in free}
    energy = sum(0.25 * nodes[name].square().sum() for name in free)
    for p in network.predictions:
        (source,), layer = p.sources, p.layers[0]
        mu = nodes[source] @ layer.weight.T + layer.bias
        mu = mu if layer.linear else torch.tanh(mu)
        energy = energy + 0.5 * p.weight * (nodes[p.target] - mu).square().sum()
    slopes = torch.autograd.grad(energy, [nodes[name] for name in free])
    assert max(slope.abs().max().item() for slope in slopes) < 1e-9
    torch.testing.assert_close(seen.point.energy.sum(), energy.detach(), rtol=1e-10, atol=1e-10)


def test_generation_is_the_sweep_down() -> None:
    """A held top of a generative network: every error zero, the image what the weights make of it."""
    network = randomised(HierarchicalPC([6, 5, 3], 0.0, 1.0, energies={0: Bernoulli()}))
    label = torch.tensor([0, 2, 1])
    clamped = network.clamp({"2": label})
    seen = network.infer(clamped, EXACT)
    top, bottom = (p.layers[0] for p in network.predictions)
    hidden = torch.tanh(torch.eye(3, dtype=torch.float64)[label] @ top.weight.T + top.bias)
    image = torch.sigmoid(hidden @ bottom.weight.T + bottom.bias)
    torch.testing.assert_close(network.answer(clamped, seen, "0"), image.detach(), rtol=1e-12, atol=1e-12)


def test_completion_is_the_conditional_mean() -> None:
    """One linear layer down, half of the image held: the other half given the visible one, as for any Gaussian."""
    network = randomised(HierarchicalPC([8, 3], 0.0, 1.0, priors={1: GaussianPrior(1.0)}))
    layer = network.predictions[0].layers[0]
    W, b = layer.weight.detach(), layer.bias.detach()
    x, seen_pixels = draw(5, 8, seed=4), torch.arange(8) < 4
    clamped = network.clamp({"0": x}, {"0": seen_pixels})
    answer = network.answer(clamped, network.infer(clamped, EXACT), "0")
    covariance = W @ W.T + torch.eye(8, dtype=torch.float64)
    gain = covariance[4:, :4] @ torch.linalg.inv(covariance[:4, :4])
    assert torch.equal(answer[:, :4], x[:, :4])
    torch.testing.assert_close(answer[:, 4:], b[4:] + (x[:, :4] - b[:4]) @ gain.T, rtol=1e-9, atol=1e-9)


def test_an_image_without_any_pixel_held_is_the_prior_mean() -> None:
    network = randomised(HierarchicalPC([8, 3], 0.0, 1.0, priors={1: GaussianPrior(1.0, 0.7)}))
    layer = network.predictions[0].layers[0]
    clamped = network.clamp({"0": draw(2, 8)}, {"0": torch.zeros(8, dtype=torch.bool)})
    seen = network.infer(clamped, EXACT)
    torch.testing.assert_close(seen.values[1], torch.full((2, 3), 0.7, dtype=torch.float64))
    mean = (0.7 * layer.weight.sum(1) + layer.bias).detach()
    torch.testing.assert_close(seen.values[0], mean.expand(2, 8))


# Convolutions, in every direction.


def convolutional(upward: float, downward: float, energies: dict | None = None) -> PCGraph:
    """7 x 7 pixels, two 3 x 3 maps, 4 units; no pooling, whose ties are kinks that free pixels may settle in."""
    up = [convolution((1, 7, 7), 2, 3, activation=nn.Tanh(), stride=2), Dense(18, 4)]
    to_maps = AutogradLayer(nn.Sequential(nn.Linear(4, 18), nn.Tanh()))
    down = [to_maps, transposed_convolution((2, 3, 3), 1, 3, activation=nn.Identity(), stride=2)]
    priors = {level: GaussianPrior(0.5) for level in range(3)}
    network = hierarchy(
        [49, 18, 4],
        up if upward else None,
        down if downward else None,
        weights=(upward or 1.0, downward or 1.0),
        energies=energies,
        priors=priors,
    )
    return randomised(network, gain=0.8)


@pytest.mark.parametrize("upward, downward", [(1.0, 0.0), (0.0, 1.0), (0.6, 1.3)])
@pytest.mark.parametrize("held", ["0", "2", "0 2", "0/", "0/ 2"])
def test_convolutional_hierarchies_settle_in_every_direction(upward: float, downward: float, held: str) -> None:
    network = convolutional(upward, downward)
    image, top = draw(3, 1, 7, 7, seed=5), draw(3, 4, seed=6)
    mask = (torch.arange(49) < 21).expand(3, 49)
    given = {name: {"0": image, "2": top}[name] for name in held.replace("/", "").split()}
    observed = {"0": mask} if "/" in held else {}
    clamped = network.clamp(given, observed)
    seen = network.infer(clamped, EXACT)
    assert seen.converged.all(), seen.report()
    free = dict(zip(network.problem(clamped).names, (x.clone().requires_grad_() for x in seen.values)))
    fixed = image.flatten(1)
    if observed:
        assert torch.equal(free["0"][mask], fixed[mask])
    nodes = {"0": fixed, "2": top} | free
    weights = [dict(p.layers[0].named_parameters()) for p in network.predictions]
    energy = sum(0.25 * x.square().sum() for x in free.values())
    if upward:
        first, last = weights[:2]
        pixels = nodes["0"].reshape(-1, 1, 7, 7)
        maps = torch.tanh(functional.conv2d(pixels, first["module.1.weight"], first["module.1.bias"], stride=2))
        energy = energy + upward / 2 * (nodes["1"] - maps.flatten(1)).square().sum()
        energy = energy + upward / 2 * (nodes["2"] - nodes["1"] @ last["weight"].T - last["bias"]).square().sum()
    if downward:
        middle, pixels = weights[-2:]
        hidden = torch.tanh(nodes["2"] @ middle["module.0.weight"].T + middle["module.0.bias"])
        drawn = functional.conv_transpose2d(
            nodes["1"].reshape(-1, 2, 3, 3), pixels["module.1.weight"], pixels["module.1.bias"], stride=2
        ).flatten(1)
        energy = energy + downward / 2 * (nodes["1"] - hidden).square().sum()
        energy = energy + downward / 2 * (nodes["0"] - drawn).square().sum()
    torch.testing.assert_close(seen.point.energy.sum(), energy.detach(), rtol=1e-10, atol=1e-10)
    slopes = dict(zip(free, torch.autograd.grad(energy, list(free.values()))))
    if observed:
        slopes["0"] = slopes["0"] * ~mask
    assert max(slope.abs().max().item() for slope in slopes.values()) < 1e-7


def test_a_linear_convolution_solves_in_one_step() -> None:
    """Transposed convolutions without nonlinearities are linear-Gaussian: one step, the posterior mean."""
    down = [transposed_convolution((2, 3, 3), 1, 3, activation=nn.Identity(), stride=2)]
    network = randomised(hierarchy([49, 18], down=down, priors={1: GaussianPrior(0.5)}))
    image = draw(3, 1, 7, 7)
    clamped = network.clamp({"0": image})
    assert isinstance(network.problem(clamped), LinearGaussian)
    seen = network.infer(clamped, Inference(Direct(), atol=1e-9))
    weight, bias = down[0].parameters()
    eye = torch.eye(18, dtype=torch.float64).reshape(18, 2, 3, 3)
    W = functional.conv_transpose2d(eye, weight, stride=2).flatten(1).T.detach()
    r = image.flatten(1) - bias.detach()
    expected = torch.linalg.solve(W.T @ W + 0.5 * torch.eye(18, dtype=torch.float64), (r @ W).T).T
    assert seen.steps.max() == 1
    torch.testing.assert_close(seen.values[0], expected, rtol=1e-8, atol=1e-8)


def test_a_law_answers_even_where_there_is_a_prior() -> None:
    network = randomised(HierarchicalPC([6, 5, 3], energies={2: Categorical()}, priors={2: GaussianPrior(2.0)}))
    with_prior = network(draw(4, 6))
    network.layers["2"].prior = None
    assert torch.equal(network(draw(4, 6)), with_prior)


def test_a_convolutional_classifier_is_its_torch_module() -> None:
    first, last = convolution((1, 7, 7), 2, 2, activation=nn.ReLU(), pool=2), Dense(18, 4)
    network = randomised(hierarchy([49, 18, 4], [first, last], energies={2: Categorical()}))
    image = draw(3, 1, 7, 7)
    plain = nn.Sequential(first.module, nn.Linear(18, 4).double(), nn.Softmax(-1))
    plain[1].load_state_dict(last.state_dict())
    torch.testing.assert_close(network(image), plain(image.flatten(1)).detach(), rtol=1e-12, atol=1e-12)


# Bad input.


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"widths": [3, 2], "upward": 0.0, "downward": 0.0}, "upward and downward are both 0"),
        ({"widths": [3, 2], "upward": -1.0}, "upward must be a finite number >= 0, got -1.0"),
        ({"widths": [3, 2], "downward": float("nan")}, "downward must be a finite number >= 0, got nan"),
        ({"widths": [3, 2], "upward": float("inf")}, "upward must be a finite number"),
        ({"widths": [3]}, r"at least two levels, got \[3\]"),
        ({"widths": []}, "at least two levels"),
        ({"widths": [3, 0, 2]}, "must be at least 1, got 0"),
        ({"widths": [3, 2], "energies": {2: Gaussian(2)}}, "no level 2; levels are 0 to 1"),
        ({"widths": [3, 2], "energies": {-1: Gaussian(2)}}, "no level -1"),
        ({"widths": [3, 2], "priors": {5: KurtoticPrior()}}, "no level 5; levels are 0 to 1"),
        ({"widths": [3, 2], "energies": {1: Gaussian(3)}}, "energy of '1' does not fit 2 units"),
    ],
)
def test_hierarchies_that_cannot_be(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HierarchicalPC(**arguments)


@pytest.mark.parametrize(
    "steps, message",
    [
        ({}, "nothing predicts anything"),
        ({"up": [Dense(4, 3)]}, "up must have 2 steps between 3 levels, got 1"),
        ({"down": [Dense(2, 3), Dense(3, 4), Dense(4, 4)]}, "down must have 2 steps between 3 levels, got 3"),
        ({"up": [Dense(4, 3), Dense(4, 2)]}, "from '1' to '2' cannot take 3 units"),
        ({"up": [Dense(4, 3), []]}, "prediction of '2' needs at least one source"),
        ({"down": [Dense(2, 3), Dense(3, 5)]}, "from '1' to '0' gives 5 numbers, 4 are needed"),
        ({"up": [convolution((1, 3, 3), 1, 2, activation=nn.Tanh()), Dense(3, 2)]}, "cannot take 4 units"),
    ],
)
def test_own_layers_that_do_not_fit(steps: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hierarchy([4, 3, 2], **steps)


@pytest.mark.parametrize("scale", [-1.0, float("inf"), float("nan")])
def test_a_scale_that_cannot_be(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        Standard(scale)
