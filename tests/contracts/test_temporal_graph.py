"""Temporal networks of any graph: the hand-written steps are the graph's, continuous ones are Kalman's, transitions are free."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pcnet.energies import Categorical, Energy, Gaussian, GaussianPrior, Laplace
from pcnet.inference import CarriedOver, FixedSteps, GaussNewton, Inference, Momentum, NewtonCG
from pcnet.learning import Implicit, LearningRule, Local, Nudged, Unrolled
from pcnet.networks import (
    ActiveDense,
    AutogradLayer,
    Dense,
    Node,
    PCGraph,
    Prediction,
    ReLU,
    Tanh,
    TemporalGraph,
    TemporalNetwork,
    TemporalPC,
    convolution,
    transposed_convolution,
)
from pcnet.networks.time.graph_steps import GraphSteps
from pcnet.networks.time.steps import StepClamp
from pcnet.networks.time.token_steps import TokenSteps
from pcnet.sites import capture

TOKENS = torch.tensor([[0, 2, 1, 1, 0], [2, 2, 0, 1, 2], [1, 0, 0, 2, 1]])
TIGHT = Inference(GaussNewton(), atol=1e-13, max_steps=200)
LEVELS = pytest.mark.parametrize("levels", [1, 2, 3])

Gradients = dict[str, Tensor]


def randomised(network: TemporalNetwork, seed: int = 0, spread: float = 0.5) -> TemporalNetwork:
    """In float64, every learned number drawn: matrices by their fan-in, others at once."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double()
    with torch.no_grad():
        for p in network.parameters():
            if p.requires_grad:
                fan_in = p[0].numel() if p.ndim > 1 else 4
                p.copy_(spread * fan_in**-0.5 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return network


def drawn(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(rule: LearningRule, network: TemporalNetwork, senses: Tensor) -> Gradients:
    network.zero_grad()
    rule.loss(network, senses).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.requires_grad}


def generic(network: TemporalPC) -> GraphSteps:
    """The same network by its graph, whatever is faster."""
    return GraphSteps(network.graph, network.carried, network.sense)


# --- the hand-written steps are those of the graph --------------------------------------------------------------------


@pytest.fixture(params=[1, 2, 3])
def network(small_network, request) -> TemporalPC:
    return small_network(request.param, width=4, inference=TIGHT)


def test_a_dense_token_graph_has_a_program_of_its_own_and_others_have_not() -> None:
    """By structure alone: another activation, energy, weight or prior, or a level that is not carried on, and it is gone."""
    assert isinstance(TemporalPC(3, 4, levels=2).steps(), TokenSteps)

    def own(activation=None, energy=None, weight=1.0, prior=None) -> TemporalGraph:
        nodes = [Node("0", 3), Node("1", 4, prior), Node("past", 4)]
        layers = ActiveDense(4, 4, activation or Tanh()), ActiveDense(4, 3, Tanh())
        predictions = [
            Prediction("0", [("1", layers[1])], Categorical(), weight),
            Prediction("1", [("past", layers[0])], energy or Gaussian(4)),
        ]
        return TemporalGraph(PCGraph(nodes, predictions, inputs="0", outputs="1"), {"1": "past"}, "0")

    assert isinstance(own().steps(), TokenSteps)
    for other in (own(ReLU()), own(energy=Laplace(4)), own(weight=0.5), own(prior=GaussianPrior())):
        assert isinstance(other.steps(), GraphSteps)


@torch.no_grad()
def test_the_problem_of_a_token_is_that_of_its_graph(network: TemporalPC) -> None:
    """Energy, residual, Hessian products, error coordinates and what is sent back, at values that are no equilibrium."""
    size = len(network.carried)
    past, values, direction, earlier = (tuple(drawn(3, 4, seed=9 * k + n) for n in range(size)) for k in range(4))
    clamped = StepClamp(TOKENS[:, 0], past)
    points, products, errors, sent, swept = [], [], [], [], []
    for steps in (network.steps(), generic(network)):
        problem = steps.problem(clamped)
        point = problem.at(values)
        points.append((point.energy, *point.residual))
        products.append(problem.hessian_product(point, direction))
        errors.append(problem.errors(values))
        before = steps.problem(StepClamp(TOKENS[:, 1], earlier)).at(past)
        sent.append(steps.sent_back(problem, point, direction, before))
        swept.append((*steps.sweep(problem), *steps.expected(past), steps.forecast(past)))
    for one, other in (points, products, errors, sent, swept):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("strength", [0.3, -0.2])
@torch.no_grad()
def test_a_nudged_token_is_its_graph_nudged(network: TemporalPC, strength: float) -> None:
    values = tuple(drawn(3, 4, seed=n) for n in range(len(network.carried)))
    clamped, points = StepClamp(TOKENS[:, 0], network.start(3)), []
    for steps in (network.steps(), generic(network)):
        problem = steps.nudged(steps.problem(clamped), TOKENS[:, 1], strength)
        for point in (problem.at(values), problem.at_errors(problem.errors(values))):
            points.append((point.energy, *point.residual))
    for point in points[1:]:
        torch.testing.assert_close(point, points[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "rule",
    [
        Implicit(rtol=1e-13, max_steps=200),
        Local(),
        Local(readout_on_expectation=False),
        Nudged(nudged=TIGHT),
        Unrolled(30, Momentum(0.2, 0.3)),
    ],
    ids=["Implicit", "Local", "Local at equilibrium", "Nudged", "Unrolled"],
)
def test_values_sites_and_learning_are_those_of_the_graph(
    network: TemporalPC, rule: LearningRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = network.infer(TOKENS), capture(network, TOKENS), rule.loss(network, TOKENS), gradients(rule, network, TOKENS)
    monkeypatch.setattr(TemporalNetwork, "steps", generic)
    slow = network.infer(TOKENS), capture(network, TOKENS), rule.loss(network, TOKENS), gradients(rule, network, TOKENS)
    torch.testing.assert_close(slow[0].values, fast[0].values, rtol=0, atol=1e-12)
    torch.testing.assert_close(slow[0].past, fast[0].past, rtol=0, atol=1e-12)
    torch.testing.assert_close(slow[1].output, fast[1].output, rtol=0, atol=1e-12)
    assert list(slow[1]) == list(fast[1])
    for site in fast[1]:
        if not site.startswith("diagnostics"):
            torch.testing.assert_close(slow[1][site], fast[1][site], rtol=0, atol=1e-12, msg=site)
    assert slow[2].item() == pytest.approx(fast[2].item(), abs=1e-12)
    for name, gradient in fast[3].items():
        torch.testing.assert_close(slow[3][name], gradient, rtol=0, atol=1e-11, msg=name)


# --- numbers are sensed -----------------------------------------------------------------------------------------------


class FullGaussian(Energy):
    """E = 1/2 error^T Pi error with a Pi of any shape, to be set anew at every step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("precision", torch.eye(width))

    def prediction_width(self, width: int) -> int:
        return width

    def forward(self, value, prediction):
        return 0.5 * ((value - prediction) @ self.precision * (value - prediction)).sum(-1)

    def gradient(self, value, prediction):
        weighted = (value - prediction) @ self.precision
        return weighted, -weighted

    def curvature_product(self, value, prediction, dvalue, dprediction):
        return self.gradient(dvalue, dprediction)

    def stiffness(self, value, prediction):
        return self.precision.diagonal().expand(len(value), -1)

    def root(self, value, prediction):
        return torch.linalg.cholesky(self.precision).T.unsqueeze(0)

    def positive_product(self, value, prediction, direction):
        return direction @ self.precision

    def centre(self, prediction):
        return prediction

    def pull_centre(self, prediction, gradient):
        return gradient

    def push_centre(self, prediction, direction):
        return direction


def kalman(A, C, Q, R, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Filtered means, predicted observations and predictive covariances, by the textbook."""
    mean, covariance = np.zeros(len(A)), np.zeros_like(A)
    filtered, predicted, spreads = [], [], []
    for y in observed:
        mean, covariance = A @ mean, A @ covariance @ A.T + Q
        spreads.append(covariance)
        predicted.append(C @ mean)
        K = covariance @ C.T @ np.linalg.inv(C @ covariance @ C.T + R)
        mean, covariance = mean + K @ (y - C @ mean), (np.eye(len(A)) - K @ C) @ covariance
        filtered.append(mean)
    return np.array(filtered), np.array(predicted), spreads


def linear(states: int, seen: int, energy: Energy, noise: np.ndarray | None = None) -> TemporalGraph:
    precision = torch.ones(seen) if noise is None else torch.from_numpy(1 / noise)
    graph = PCGraph(
        [Node("past", states), Node("state", states), Node("seen", seen)],
        [
            Prediction("state", [("past", Dense(states, states, bias=False))], energy),
            Prediction("seen", [("state", Dense(states, seen, bias=False))], Gaussian(seen, precision=precision)),
        ],
        inputs="seen",
        outputs="state",
    )
    return TemporalGraph(graph, {"state": "past"}, "seen", Inference(atol=1e-12)).double()


@torch.no_grad()
def test_a_linear_gaussian_network_is_the_kalman_filter_when_given_its_predictive_covariance() -> None:
    """Step by step, as a stream; the precision of the state's own prediction is the filter's inverse covariance."""
    rng = np.random.default_rng(0)
    A, C = np.linalg.qr(rng.normal(size=(3, 3)))[0] * 0.95, rng.normal(size=(2, 3))
    noise = np.array([0.5, 2.0])
    observed = rng.normal(size=(40, 2))
    filtered, predicted, spreads = kalman(A, C, np.diag([0.3, 1.0, 0.1]), np.diag(noise), observed)
    network = linear(3, 2, FullGaussian(3), noise)
    for p, matrix in zip(network.predictions, (A, C), strict=True):
        p.layers[0].weight.copy_(torch.from_numpy(matrix))
    network.predictions[1].energy.log_precision.copy_(torch.from_numpy(-np.log(noise)))
    memory, forecast = network.start(1), network.forecast(network.start(1))
    for t, (y, spread) in enumerate(zip(observed, spreads, strict=True)):
        np.testing.assert_allclose(forecast[0].numpy(), predicted[t], atol=1e-10)
        network.predictions[0].energy.precision.copy_(torch.from_numpy(np.linalg.inv(spread)))
        forecast, memory = network.step(memory, torch.from_numpy(y)[None])
        np.testing.assert_allclose(memory[0][0].numpy(), filtered[t], atol=1e-10)


@torch.no_grad()
def test_in_one_dimension_with_the_stationary_covariance_it_becomes_the_kalman_filter() -> None:
    """A fixed precision: after the filter has settled, the two agree whatever came before."""
    a, q, r = 0.9, 0.4, 1.5
    observed = np.random.default_rng(1).normal(size=(200, 1))
    filtered, _, spreads = kalman(*(np.array([[v]]) for v in (a, 1.0, q, r)), observed)
    network = linear(1, 1, Gaussian(1))
    for p, number, variance in zip(network.predictions, (a, 1.0), (spreads[-1][0, 0], r), strict=True):
        p.layers[0].weight.fill_(number)
        p.energy.log_precision.fill_(-np.log(variance))
        p.energy._uniform = None
    values = network.infer(torch.from_numpy(observed)[None]).values[0][0]
    np.testing.assert_allclose(values[100:].numpy(), filtered[100:], atol=1e-10)


# --- any layer carries on ---------------------------------------------------------------------------------------------


def convolutional() -> TemporalGraph:
    """Feature maps that move by a convolution, seen through a transposed one."""
    move = convolution((2, 3, 3), 2, 3, activation=nn.Tanh(), padding=1)
    show = transposed_convolution((2, 3, 3), 1, 2, activation=nn.Identity())
    graph = PCGraph(
        [Node("past", 18), Node("maps", 18), Node("image", 16)],
        [Prediction("image", [("maps", show)], Gaussian(16)), Prediction("maps", [("past", move)], Gaussian(18))],
        inputs="image",
        outputs="maps",
    )
    return TemporalGraph(graph, {"maps": "past"}, "image", TIGHT)


class Modulated(nn.Module):
    """(x, m) -> (sum_k softmax(m)_k V_k tanh(x), m): units m choose among the ways that x may go on."""

    def __init__(self, units: int, ways: int) -> None:
        super().__init__()
        self.units, self.ways = units, nn.Parameter(torch.randn(ways, units, units))

    def forward(self, state: Tensor) -> Tensor:
        x, m = state[:, : self.units], state[:, self.units :]
        return torch.cat((torch.einsum("bk,kij,bj->bi", m.softmax(-1), self.ways, x.tanh()), m), -1)


def modulated() -> TemporalGraph:
    graph = PCGraph(
        [Node("past", 5), Node("state", 5), Node("seen", 2)],
        [
            Prediction("seen", [("state", Dense(5, 2))], Gaussian(2)),
            Prediction("state", [("past", AutogradLayer(Modulated(3, 2)))], Gaussian(5)),
        ],
        inputs="seen",
        outputs="state",
    )
    return TemporalGraph(graph, {"state": "past"}, "seen", TIGHT)


def two_rooms() -> TemporalGraph:
    """A level that is not carried on, a skip from the past to the sense, learned precisions, a prior, and tokens."""
    graph = PCGraph(
        [Node("0", 3), Node("1", 4), Node("2", 2, GaussianPrior()), Node("past", 4)],
        [
            Prediction("0", [("1", Dense(4, 3)), ("past", Dense(4, 3, bias=False))], Categorical()),
            Prediction("1", [("past", Dense(4, 4, Tanh())), ("2", ActiveDense(2, 4, Tanh()))], Gaussian(4, True), 0.7),
        ],
        inputs="0",
        outputs="1",
    )
    return TemporalGraph(graph, {"1": "past"}, "0", TIGHT)


ANY = {
    "convolutional": (convolutional, lambda: drawn(2, 4, 1, 4, 4)),
    "modulated": (modulated, lambda: drawn(2, 4, 2)),
    "tokens over two levels": (two_rooms, lambda: TOKENS[:2, :4]),
}
each_network = pytest.mark.parametrize(("make", "senses"), ANY.values(), ids=ANY)
Make = Callable[[], TemporalGraph]


@each_network
def test_any_transition_runs_and_is_causal(make: Make, senses: Callable[[], Tensor]) -> None:
    """What is sensed later changes no earlier forecast; streaming is the same as running, and sites show the values."""
    network, senses = randomised(make()), senses()
    whole = network(senses)
    assert whole.shape[:2] == senses.shape[:2] and (network.infer(senses).status == 0).all()
    changed = senses.clone()
    changed[:, 2] = changed[[1, 0], 2]
    assert torch.equal(network(changed)[:, :2], whole[:, :2])
    assert not torch.equal(network(changed)[:, 2], whole[:, 2])
    memory = network.start(2)
    for t in range(4):
        forecast, memory = network.step(memory, senses[:, t])
        torch.testing.assert_close(forecast, whole[:, t], rtol=0, atol=1e-12)
    seen = capture(network, senses)
    (name,) = network.carried
    torch.testing.assert_close(seen[f"layers.{name}.value"][:, -1], memory[0], rtol=0, atol=1e-12)
    readout = next(p for p in network.predictions if p.target == network.sense)
    expected = readout.energy.centre(whole[:, :-1].flatten(0, 1)).unflatten(0, (2, 3))
    torch.testing.assert_close(seen[f"layers.{network.sense}.prediction"][:, 1:], expected, rtol=0, atol=1e-12)


@torch.no_grad()
def cost_at_equilibrium(network: TemporalGraph, senses: Tensor) -> float:
    """Mean energy of each sense given the forecast before it, by `forward` alone."""
    forecasts = network(senses)[:, :-1].flatten(0, 1)
    readout = next(p for p in network.predictions if p.target == network.sense)
    outcome = network.graph.clamp({network.sense: senses[:, 1:].flatten(0, 1)}).values[network.sense]
    return readout.energy(outcome, forecasts).mean().item()


@each_network
def test_the_implicit_gradient_of_any_transition_is_that_by_finite_differences(make: Make, senses) -> None:
    """Along three directions of all weights."""
    network, senses = randomised(make()), senses()
    found = gradients(Implicit(rtol=1e-12, max_steps=300), network, senses)
    loss = Implicit().loss(network, senses).item()
    assert loss == pytest.approx(cost_at_equilibrium(network, senses), rel=1e-10)
    for seed in range(3):
        direction = {name: drawn(*gradient.shape, seed=seed) for name, gradient in found.items()}
        ends = []
        for step in (1e-5, -2e-5, 1e-5):
            with torch.no_grad():
                for name, p in network.named_parameters():
                    if p.requires_grad:
                        p.add_(step * direction[name])
            ends.append(cost_at_equilibrium(network, senses))
        expected = (ends[0] - ends[1]) / 2e-5
        slope = sum((found[name] * direction[name]).sum() for name in found).item()
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-8)


@each_network
def test_nudging_and_unrolling_of_any_transition_find_the_same_gradient(make: Make, senses) -> None:
    """Of one transition, where nothing goes back through time: the nudged difference, long unrolling, and the implicit one."""
    network, senses = randomised(make()), senses()[:, :2]
    exact = gradients(Implicit(rtol=1e-12, max_steps=300), network, senses)
    norm = torch.cat([g.flatten() for g in exact.values()]).norm()
    for rule, error in (
        (Nudged(0.02, Inference(atol=1e-12, max_steps=500)), 1e-3),
        (Unrolled(300, Momentum(0.2, 0.5)), 1e-7),
    ):
        found = gradients(rule, network, senses)
        assert torch.cat([(found[n] - exact[n]).flatten() for n in exact]).norm() < error * norm


@each_network
def test_local_learning_of_any_transition_is_the_gradient_at_held_values(make: Make, senses) -> None:
    network, senses = randomised(make()), senses()
    found = gradients(Local(readout_on_expectation=False), network, senses)
    trajectory = network.infer(senses[:, :-1])
    rows = [tuple(group.flatten(0, 1) for group in state) for state in (trajectory.values, trajectory.past)]
    network.zero_grad()
    network.problem(StepClamp(senses[:, :-1].flatten(0, 1), rows[1])).at(rows[0]).energy.mean().backward()
    for name, p in network.named_parameters():
        if p.requires_grad:
            torch.testing.assert_close(found[name], p.grad, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize(
    "inference",
    [
        replace(TIGHT, initial=CarriedOver()),
        Inference(NewtonCG(), atol=1e-12, max_steps=300),
        FixedSteps(0.3, 400, CarriedOver()),
    ],
    ids=["carried over", "another solver", "fixed steps"],
)
def test_any_relaxation_comes_to_the_same_values(inference) -> None:
    network = randomised(two_rooms())
    expected = network(TOKENS)
    with network.examining(inference):
        torch.testing.assert_close(network(TOKENS), expected, rtol=0, atol=1e-9)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("carried", "sense", "argument"),
    [
        ({"state": "nobody"}, "seen", "carried"),
        ({"nobody": "past"}, "seen", "carried"),
        ({"state": "past"}, "nobody", "sense"),
        ({}, "seen", "carried"),
        ({"state": "state"}, "seen", "carried"),
        ({"state": "seen"}, "seen", "carried"),
        ({"seen": "past"}, "seen", "carried"),
        ({"state": "past"}, "past", "carried"),
    ],
)
def test_a_graph_that_cannot_be_carried_on_is_refused(carried: dict, sense: str, argument: str) -> None:
    graph = linear(2, 3, Gaussian(2)).graph
    with pytest.raises(ValueError, match=f"^{argument}"):
        TemporalGraph(graph, carried, sense)


def test_senses_that_do_not_fit_are_refused() -> None:
    network = linear(2, 3, Gaussian(2))
    for senses in (torch.zeros(2, 4, 2), torch.full((2, 4, 3), torch.nan)):
        with pytest.raises(ValueError, match="'seen'"):
            network(senses)
