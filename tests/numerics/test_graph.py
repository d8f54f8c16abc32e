"""Networks of nodes and predictions against energies written out by hand and differentiated by autograd, float64."""

import copy
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from sklearn.linear_model import Lasso
from torch import Tensor, nn
from torch.nn import functional

from pcnet.energies import (
    Bernoulli,
    Categorical,
    Gaussian,
    GaussianPrior,
    Huber,
    InputPrecision,
    KurtoticPrior,
    Laplace,
    LaplacianPrior,
)
from pcnet.inference import (
    CarriedOver,
    Direct,
    Euler,
    GaussNewton,
    Heun,
    Inference,
    LinearGaussian,
    Momentum,
    NewtonCG,
    RandomValues,
    Status,
    solve,
)
from pcnet.networks import (
    ActiveDense,
    Dense,
    GraphNetwork,
    Node,
    PCGraph,
    Prediction,
    Skip,
    Softplus,
    Tanh,
    convolution,
)
from pcnet.sites import capture
from pcnet.typing import State

ROWS = 4
Formula = Callable[[Tensor], Tensor]
Cost = Callable[[Tensor, Tensor], Tensor]


# What mismatches cost, written out.


def gaussian(precision: Tensor | float = 1.0) -> Cost:
    def cost(x: Tensor, mu: Tensor) -> Tensor:
        pi = torch.as_tensor(precision, dtype=x.dtype).expand(x.shape[-1])
        return (0.5 * pi * (x - mu) ** 2 - 0.5 * pi.log()).sum(-1)

    return cost


def input_precision(x: Tensor, mu: Tensor) -> Tensor:
    mean, log_precision = mu[:, : x.shape[1]], mu[:, x.shape[1] :]
    return (0.5 * log_precision.exp() * (x - mean) ** 2 - 0.5 * log_precision).sum(-1)


def categorical(x: Tensor, mu: Tensor) -> Tensor:
    return -(x * (mu - mu.exp().sum(-1, keepdim=True).log())).sum(-1)


def bernoulli(x: Tensor, mu: Tensor) -> Tensor:
    q = 1 / (1 + (-mu).exp())
    return -(x * q.log() + (1 - x) * (1 - q).log()).sum(-1)


def laplace(scale: float) -> Cost:
    return lambda x, mu: (x - mu).abs().sum(-1) / scale


def huber(threshold: float) -> Cost:
    return lambda x, mu: functional.huber_loss(x, mu, reduction="none", delta=threshold).sum(-1)


def mean(x: Tensor) -> Tensor:
    return x


def half(x: Tensor) -> Tensor:
    return x[:, : x.shape[1] // 2]


@dataclass
class Term:
    """One prediction as the test sees it: plain functions of the sources' values."""

    target: str
    parts: list[tuple[str, Formula]]
    cost: Cost
    weight: float = 1.0
    centre: Formula = mean
    needs_held: bool = False


@dataclass
class Case:
    """A network beside what it is meant to compute."""

    network: GraphNetwork
    terms: list[Term]
    priors: dict[str, Formula] = field(default_factory=dict)

    def energy(self, nodes: Mapping[str, Tensor], free: tuple[str, ...]) -> Tensor:
        """F, from values of all nodes; energies of labels that nobody holds are left out."""
        counted = [t for t in self.terms if t.target in nodes and not (t.needs_held and t.target in free)]
        total = sum(t.weight * t.cost(nodes[t.target], self.predict(t, nodes)) for t in counted)
        return total + sum(cost(nodes[name]) for name, cost in self.priors.items() if name in free)

    @staticmethod
    def predict(term: Term, nodes: Mapping[str, Tensor]) -> Tensor:
        return sum(formula(nodes[source]) for source, formula in term.parts)


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomised(network: GraphNetwork, gain: float = 0.8) -> GraphNetwork:
    """Weights of some gain and biases that are not zero, float64."""
    network.double()
    with torch.no_grad():
        for seed, (name, p) in enumerate(network.predictions.named_parameters()):
            if name.endswith("log_precision"):
                if p.requires_grad:
                    p.add_(0.1 * draw(*p.shape, seed=seed))
                continue
            p.copy_(draw(*p.shape, seed=seed, scale=gain / p[0].numel() ** 0.5 if p.dim() > 1 else 0.4))
    return network


def after(layer: Dense, f: Formula = mean, gain: float = 1.0) -> Formula:
    return lambda x: gain * f(x @ layer.weight.T + (0 if layer.bias is None else layer.bias))


def before(layer: ActiveDense, f: Formula = mean, gain: float = 1.0) -> Formula:
    return lambda x: gain * (f(x) @ layer.weight.T + (0 if layer.bias is None else layer.bias))


def graph(nodes: list[Node], predictions: list[Prediction]) -> PCGraph:
    return randomised(PCGraph(nodes, predictions, inputs=nodes[0].name, outputs=nodes[-1].name))


def upwards() -> Case:
    """a -> b -> c -> d, a skip a -> c, and a classifier at the end."""
    up = [Dense(5, 4, Tanh()), ActiveDense(4, 6, Softplus(), scale=0.7), Dense(6, 3)]
    skip = Dense(5, 6, bias=False)
    b_energy = Gaussian(4, learned=True, precision=torch.tensor([0.5, 1.0, 2.0, 3.0]))
    network = graph(
        [Node("a", 5), Node("b", 4), Node("c", 6, GaussianPrior(0.3, 0.5)), Node("d", 3)],
        [
            Prediction("b", [("a", up[0])], b_energy, 1.5),
            Prediction("c", [("b", up[1]), ("a", skip)], Huber(0.7)),
            Prediction("d", [("c", up[2])], Categorical()),
        ],
    )
    terms = [
        Term("b", [("a", after(up[0], torch.tanh))], gaussian(b_energy.log_precision.detach().exp()), 1.5),
        Term("c", [("b", before(up[1], functional.softplus, 0.7)), ("a", after(skip))], huber(0.7)),
        Term("d", [("c", after(up[2]))], categorical, centre=lambda mu: mu.softmax(-1), needs_held=True),
    ]
    return Case(network, terms, {"c": lambda x: 0.15 * ((x - 0.5) ** 2).sum(-1)})


def downwards() -> Case:
    """d -> c -> b -> a with an image of zeros and ones at a, and a heavy-tailed prior on top."""
    down = [Dense(3, 6, Tanh()), Dense(6, 4, Tanh(), scale=1.4), Dense(4, 5)]
    network = graph(
        [Node("a", 5), Node("b", 4), Node("c", 6), Node("d", 3, KurtoticPrior(0.6))],
        [
            Prediction("c", [("d", down[0])], Gaussian(6, precision=2.0)),
            Prediction("b", [("c", down[1])], Laplace(0.8), 0.7),
            Prediction("a", [("b", down[2])], Bernoulli()),
        ],
    )
    terms = [
        Term("c", [("d", after(down[0], torch.tanh))], gaussian(2.0)),
        Term("b", [("c", after(down[1], torch.tanh, 1.4))], laplace(0.8), 0.7),
        Term("a", [("b", after(down[2]))], bernoulli, centre=torch.sigmoid, needs_held=True),
    ]
    return Case(network, terms, {"d": lambda x: 0.6 * (1 + x**2).log().sum(-1)})


def both_ways() -> Case:
    up = [Dense(5, 4, Tanh()), Dense(4, 3)]
    down = [Dense(3, 4, Tanh()), Dense(4, 5)]
    network = graph(
        [Node("a", 5), Node("b", 4), Node("c", 3, GaussianPrior(0.2))],
        [
            Prediction("b", [("a", up[0])], Gaussian(4), 0.6),
            Prediction("c", [("b", up[1])], Gaussian(3), 0.6),
            Prediction("b", [("c", down[0])], Gaussian(4), 1.3),
            Prediction("a", [("b", down[1])], Gaussian(5), 1.3),
        ],
    )
    terms = [
        Term("b", [("a", after(up[0], torch.tanh))], gaussian(), 0.6),
        Term("c", [("b", after(up[1]))], gaussian(), 0.6),
        Term("b", [("c", after(down[0], torch.tanh))], gaussian(), 1.3),
        Term("a", [("b", after(down[1]))], gaussian(), 1.3),
    ]
    return Case(network, terms, {"c": lambda x: 0.1 * (x**2).sum(-1)})


def own_noise() -> Case:
    """The precision of b and c is predicted with their mean."""
    up = [Dense(5, 8, Tanh()), Dense(4, 6)]
    network = graph(
        [Node("a", 5), Node("b", 4), Node("c", 3)],
        [Prediction("b", [("a", up[0])], InputPrecision()), Prediction("c", [("b", up[1])], InputPrecision(), 0.4)],
    )
    terms = [
        Term("b", [("a", after(up[0], torch.tanh))], input_precision, centre=half),
        Term("c", [("b", after(up[1]))], input_precision, 0.4, centre=half),
    ]
    return Case(network, terms)


def sparse() -> Case:
    """Kinks both in a predicted node and in one that nothing predicts; a residual block between equals."""
    down = [Dense(4, 4, Tanh()), Dense(4, 5)]
    network = graph(
        [Node("a", 5), Node("b", 4, LaplacianPrior(0.3)), Node("c", 4, LaplacianPrior(0.2))],
        [
            Prediction("b", [("c", Skip()), ("c", down[0])], Gaussian(4, precision=1.7)),
            Prediction("a", [("b", down[1])], Gaussian(5)),
        ],
    )
    terms = [
        Term("b", [("c", mean), ("c", after(down[0], torch.tanh))], gaussian(1.7)),
        Term("a", [("b", after(down[1]))], gaussian()),
    ]
    return Case(network, terms, {"b": lambda x: 0.3 * x.abs().sum(-1), "c": lambda x: 0.2 * x.abs().sum(-1)})


def circle() -> Case:
    """a -> b -> c -> a, and b predicts itself."""
    round_about = [Dense(5, 4, Tanh()), Dense(4, 3, Tanh()), Dense(3, 5, Tanh()), Dense(4, 4, Tanh())]
    network = graph(
        [Node("a", 5, GaussianPrior(0.5)), Node("b", 4), Node("c", 3)],
        [
            Prediction("b", [("a", round_about[0]), ("b", round_about[3])], Gaussian(4)),
            Prediction("c", [("b", round_about[1])], Gaussian(3)),
            Prediction("a", [("c", round_about[2])], Gaussian(5)),
        ],
    )
    terms = [
        Term("b", [("a", after(round_about[0], torch.tanh)), ("b", after(round_about[3], torch.tanh))], gaussian()),
        Term("c", [("b", after(round_about[1], torch.tanh))], gaussian()),
        Term("a", [("c", after(round_about[2], torch.tanh))], gaussian()),
    ]
    return Case(network, terms, {"a": lambda x: 0.25 * (x**2).sum(-1)})


def images() -> Case:
    """A convolution with its pooling below a dense layer."""
    first = convolution((1, 5, 5), 2, 2, activation=nn.Tanh(), pool=2)
    last = Dense(8, 3)
    network = graph(
        [Node("a", 25), Node("b", 8), Node("c", 3)],
        [Prediction("b", [("a", first)], Gaussian(8)), Prediction("c", [("b", last)], Gaussian(3))],
    )
    weight, bias = first.parameters()

    def maps(x: Tensor) -> Tensor:
        features = torch.tanh(functional.conv2d(x.reshape(-1, 1, 5, 5), weight, bias))
        return functional.max_pool2d(features, 2).flatten(1)

    terms = [Term("b", [("a", maps)], gaussian()), Term("c", [("b", after(last))], gaussian())]
    return Case(network, terms)


CASES = {make.__name__: make for make in (upwards, downwards, both_ways, own_noise, sparse, circle, images)}
HELD = {
    "upwards": ["a d", "a", "c", "a/ d", "a b/ d"],
    "downwards": ["a", "d", "a d", "c/", "a b/ d/"],
    "both_ways": ["a", "c", "a c", "a/", "a/ c/", "b"],
    "own_noise": ["a", "a c", "c", "a/ c/", "b/"],
    "sparse": ["a", "a c", "a/", "c", "b/"],
    "circle": ["a", "b", "c", "a/", "b/ c"],
    "images": ["a c", "a/ c", "c"],
}
"""Nodes held in each; a slash for half of their units."""
each = pytest.mark.parametrize("name, held", [(name, held) for name in CASES for held in HELD[name]])


def labels_or_values(case: Case, name: str) -> Tensor:
    width = case.network.widths[name]
    if any(t.target == name and t.cost is categorical for t in case.terms):
        return torch.arange(ROWS) % width
    values = draw(ROWS, width, seed=50 + ord(name))
    return values.sigmoid() if any(t.target == name and t.cost is bernoulli for t in case.terms) else values


def halves(case: Case, name: str) -> Tensor:
    """Different units in every row; some held, some free."""
    width = case.network.widths[name]
    return (torch.arange(ROWS)[:, None] + torch.arange(width)) % 2 == 0


class Setup:
    """A case with nodes held, values somewhere, and a direction."""

    def __init__(self, name: str, held: str) -> None:
        self.case = CASES[name]()
        network = self.case.network
        given = {n.rstrip("/"): labels_or_values(self.case, n.rstrip("/")) for n in held.split()}
        self.masks = {n[:-1]: halves(self.case, n[:-1]) for n in held.split() if n.endswith("/")}
        self.clamped = network.clamp(given, self.masks)
        self.problem = network.problem(self.clamped)
        self.free = self.problem.names
        self.values = self.mixed({n: draw(ROWS, network.widths[n], seed=7 + ord(n)) for n in self.free})
        self.direction = tuple(draw(ROWS, network.widths[n], seed=70 + ord(n)) for n in self.free)

    def mixed(self, values: Mapping[str, Tensor]) -> State:
        """Held units at what they are held at."""
        return tuple(
            torch.where(self.masks[n], self.clamped.values[n], x) if n in self.masks else x for n, x in values.items()
        )

    def energy(self, values: State) -> Tensor:
        nodes = self.clamped.values | dict(zip(self.free, self.mixed(dict(zip(self.free, values)))))
        return self.case.energy(nodes, self.free)

    def tracked(self) -> State:
        return tuple(x.detach().clone().requires_grad_() for x in self.values)


def assert_states_close(found: State, expected: State, names: tuple[str, ...], atol: float = 1e-11) -> None:
    assert len(found) == len(expected) == len(names)
    for name, a, b in zip(names, found, expected):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


@each
@pytest.mark.parametrize("learning", [False, True], ids=["inference", "learning"])
def test_energy_residual_and_curvature_are_the_formula(name: str, held: str, learning: bool) -> None:
    setup = Setup(name, held)
    values = setup.tracked()
    energy = setup.energy(values)
    slopes = torch.autograd.grad(energy.sum(), values, create_graph=True)
    along = sum((slope * d).sum() for slope, d in zip(slopes, setup.direction))
    curved = torch.autograd.grad(along, values, materialize_grads=True)
    with torch.set_grad_enabled(learning):
        point = setup.problem.at(setup.values)
        product = setup.problem.hessian_product(point, setup.direction)
    torch.testing.assert_close(point.energy.detach(), energy.detach(), rtol=1e-12, atol=1e-12)
    assert_states_close(point.residual, slopes, setup.free)
    assert_states_close(product, curved, setup.free)
    assert_states_close(point.values, setup.values, setup.free, atol=0)


@each
def test_values_where_units_are_held_are_ignored(name: str, held: str) -> None:
    setup = Setup(name, held)
    noisy = tuple(
        torch.where(setup.masks[n], x + 5.0, x) if n in setup.masks else x for n, x in zip(setup.free, setup.values)
    )
    mine, theirs = setup.problem.at(noisy), setup.problem.at(setup.values)
    assert torch.equal(mine.energy, theirs.energy)
    assert all(torch.equal(a, b) for a, b in zip(mine.values, theirs.values))


def dense_map(setup: Setup) -> Tensor:
    """The Jacobian of errors -> values of the first row, all groups packed."""
    errors = setup.problem.errors(setup.values)
    widths = [e.shape[1] for e in errors]

    def values(packed: Tensor) -> Tensor:
        rows = tuple(torch.cat([e[None], rest[1:]]) for e, rest in zip(packed.split(widths), errors))
        return torch.cat([x[0] for x in setup.problem.at_errors(rows).values])

    return torch.autograd.functional.jacobian(values, torch.cat([e[0] for e in errors]))


@each
def test_errors_and_values_determine_each_other(name: str, held: str) -> None:
    setup = Setup(name, held)
    errors = setup.problem.errors(setup.values)
    assert_states_close(setup.problem.at_errors(errors).values, setup.values, setup.free)
    moved = tuple(e + d for e, d in zip(errors, setup.direction))
    there = setup.problem.at_errors(moved)
    back = setup.problem.errors(there.values)
    for n, a, b in zip(setup.free, back, moved):
        keep = ~setup.masks[n] if n in setup.masks else torch.ones_like(a, dtype=torch.bool)
        torch.testing.assert_close(a[keep], b[keep], rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(there.energy, setup.energy(there.values).detach(), rtol=1e-11, atol=1e-11)


@each
def test_every_error_is_measured_from_a_prediction_or_from_zero(name: str, held: str) -> None:
    setup = Setup(name, held)
    nodes = setup.clamped.values | dict(zip(setup.free, setup.values))
    for n, error in zip(setup.free, setup.problem.errors(setup.values)):
        origins = [t.centre(setup.case.predict(t, nodes)) for t in setup.case.terms if t.target == n]
        origins.append(torch.zeros_like(error))
        assert any(torch.allclose(nodes[n] - origin, error, rtol=1e-12, atol=1e-12) for origin in origins)


@each
def test_the_change_of_coordinates_keeps_volumes(name: str, held: str) -> None:
    setup = Setup(name, held)
    jacobian = dense_map(setup)
    loose = torch.cat([~setup.masks[n][0] if n in setup.masks else torch.ones(x.shape[1], dtype=torch.bool)
                       for n, x in zip(setup.free, setup.values)])  # fmt: skip
    torch.testing.assert_close(torch.linalg.det(jacobian[loose][:, loose]), torch.ones((), dtype=torch.float64))
    assert jacobian[~loose].abs().max() == 0 if (~loose).any() else True
    point = setup.problem.at(setup.values)
    gradient = tuple(d.roll(1, 0) for d in setup.direction)
    pulled = torch.cat([g[0] for g in setup.problem.pull_back(point, gradient)])
    pushed = torch.cat([d[0] for d in setup.problem.push_forward(point, setup.direction)])
    torch.testing.assert_close(pulled, jacobian.T @ torch.cat([g[0] for g in gradient]), rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(pushed, jacobian @ torch.cat([d[0] for d in setup.direction]), rtol=1e-10, atol=1e-11)


@each
def test_several_gradients_are_pulled_at_once(name: str, held: str) -> None:
    setup = Setup(name, held)
    point = setup.problem.at(setup.values)
    several = tuple(torch.stack([d, 2 * d.roll(1, 0), -d], 1) for d in setup.direction)
    together = setup.problem.pull_back(point, several)
    for k in range(3):
        one = setup.problem.pull_back(point, tuple(d[:, k] for d in several))
        assert_states_close(tuple(t[:, k] for t in together), one, setup.free)


@each
def test_some_rows_of_a_problem(name: str, held: str) -> None:
    setup = Setup(name, held)
    index = torch.tensor([2, 0])
    some = setup.problem.rows(index)
    assert type(some) is type(setup.problem)
    whole, part = setup.problem.at(setup.values), some.at(tuple(x[index] for x in setup.values))
    torch.testing.assert_close(part.energy, whole.energy[index], rtol=1e-13, atol=1e-13)
    assert_states_close(part.residual, tuple(r[index] for r in whole.residual), setup.free, atol=1e-13)


SOLVERS = [Euler(), Momentum(), Heun(), NewtonCG(), GaussNewton()]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(
    "name, held", [("both_ways", "a/ c/"), ("sparse", "a/"), ("circle", "b/ c"), ("own_noise", "b/")]
)
def test_held_units_never_move(name: str, held: str, solver: object) -> None:
    setup = Setup(name, held)
    seen = solve(setup.problem, setup.values, solver, atol=0.0, max_steps=6, record=(0, 1, 3, 6))
    for state in (seen.values, *seen.trace.values()):
        for n, x in zip(setup.free, state):
            if n in setup.masks:
                assert torch.equal(x[setup.masks[n]], setup.clamped.values[n][setup.masks[n]])
    assert seen.point.energy.sum() < setup.energy(setup.values).sum()


@pytest.mark.parametrize(
    "name, held", [("upwards", "a d"), ("both_ways", "a/"), ("both_ways", "c"), ("circle", "a"), ("images", "a c")]
)
def test_where_inference_stops_the_formula_is_flat(name: str, held: str) -> None:
    setup = Setup(name, held)
    for solver in (Momentum(), NewtonCG(), GaussNewton()):
        seen = setup.case.network.infer(setup.clamped, Inference(solver, atol=1e-9, max_steps=3000))
        assert seen.converged.all(), seen.report()
        values = tuple(x.clone().requires_grad_() for x in seen.values)
        slopes = torch.autograd.grad(setup.energy(values).sum(), values)
        assert max(slope.abs().max().item() for slope in slopes) < 1e-8


@pytest.mark.parametrize(
    "name, held", [("upwards", "a d"), ("downwards", "a b/ d/"), ("both_ways", "a/"), ("own_noise", "a c")]
)
def test_the_sweep_is_the_state_of_zero_errors(name: str, held: str) -> None:
    setup = Setup(name, held)
    swept = setup.case.network.initial_values(setup.clamped)
    for n, error in zip(setup.free, setup.problem.errors(swept)):
        loose = ~setup.masks[n] if n in setup.masks else torch.ones_like(error, dtype=torch.bool)
        if n != setup.problem.structure.order[0] or n in setup.problem.structure.trunk:
            assert error[loose].abs().max() < 1e-14
        if n in setup.masks:
            kept = swept[setup.free.index(n)][setup.masks[n]]
            assert torch.equal(kept, setup.clamped.values[n][setup.masks[n]])


# Exact answers.


class LinearGaussianModel:
    """z ~ N(m, 1/p); h = W z + b + noise; x = V h + U z + c + noise, as a network and as one joint Gaussian."""

    def __init__(self, pixels: int) -> None:
        self.down = [Dense(3, 4), Dense(4, pixels), Dense(3, pixels, bias=False)]
        self.m = torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64)
        self.pi = draw(4, seed=1).exp(), draw(pixels, seed=2).exp()
        nodes = [Node("x", pixels), Node("h", 4), Node("z", 3, GaussianPrior(0.7, self.m))]
        predictions = [
            Prediction("h", [("z", self.down[0])], Gaussian(4, precision=self.pi[0]), 1.0),
            Prediction("x", [("h", self.down[1]), ("z", self.down[2])], Gaussian(pixels, precision=self.pi[1])),
        ]
        self.network = randomised(PCGraph(nodes, predictions, inputs="x", outputs="z"))
        with torch.no_grad():
            for p, pi in zip(self.network.predictions, self.pi):
                p.energy.log_precision.copy_(pi.log())
        W, V, U = (layer.weight.detach() for layer in self.down)
        b, c = (layer.bias.detach() for layer in self.down[:2])
        noise = torch.cat([torch.full((3,), 1 / 0.7, dtype=torch.float64), 1 / self.pi[0], 1 / self.pi[1]])
        # (z, h, x) = A (z, h, x) + constants + noise
        A = torch.zeros(7 + pixels, 7 + pixels, dtype=torch.float64)
        A[3:7, :3], A[7:, 3:7], A[7:, :3] = W, V, U
        mix = torch.linalg.inv(torch.eye(7 + pixels, dtype=torch.float64) - A)
        self.mean = mix @ torch.cat([self.m, b, c])
        self.covariance = mix @ noise.diag() @ mix.T

    def posterior(self, x: Tensor, seen: Tensor) -> Tensor:
        """The mean of (z, h, x) given the seen units of x."""
        known = 7 + seen.nonzero().flatten()
        gain = self.covariance[:, known] @ torch.linalg.inv(self.covariance[known][:, known])
        return self.mean + (x[:, seen] - self.mean[known]) @ gain.T


@pytest.mark.parametrize("solver", [GaussNewton(), Direct(), NewtonCG(), Momentum()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("pixels, hidden", [(6, 0), (3, 0), (6, 2), (12, 5)])
def test_the_equilibrium_is_the_posterior_mean(solver: object, pixels: int, hidden: int) -> None:
    """Also with more causes than pixels, and with pixels that nobody saw."""
    model = LinearGaussianModel(pixels)
    x = draw(ROWS, pixels, seed=3)
    seen = torch.arange(pixels) >= hidden
    clamped = model.network.clamp({"x": x}, {"x": seen} if hidden else {})
    assert isinstance(model.network.problem(clamped), LinearGaussian)
    answer = model.network.infer(clamped, Inference(solver, atol=1e-9, max_steps=5000))
    assert answer.converged.all()
    expected = model.posterior(x, seen)
    torch.testing.assert_close(model.network.answer(clamped, answer, "z"), expected[:, :3], rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(model.network.answer(clamped, answer, "h"), expected[:, 3:7], rtol=1e-7, atol=1e-7)
    if hidden:
        torch.testing.assert_close(model.network.answer(clamped, answer, "x"), expected[:, 7:], rtol=1e-7, atol=1e-7)
    if isinstance(solver, GaussNewton | Direct):
        assert answer.steps.max() == 1


def test_the_energy_at_the_equilibrium_is_the_surprise() -> None:
    """1/2 r^T S^-1 r with S the marginal covariance of the image."""
    model = LinearGaussianModel(6)
    x = draw(ROWS, 6, seed=4)
    answer = model.network.infer(model.network.clamp({"x": x}), Inference(GaussNewton(), atol=1e-10))
    r = x - model.mean[7:]
    mismatch = 0.5 * (r @ torch.linalg.inv(model.covariance[7:, 7:]) * r).sum(-1)
    normaliser = -0.5 * sum(pi.log().sum() for pi in model.pi)
    torch.testing.assert_close(answer.point.energy, mismatch + normaliser)


@pytest.mark.parametrize("solver", [Euler(), Momentum(), NewtonCG(), GaussNewton()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("pixels, causes, strength", [(12, 6, 1.5), (8, 20, 0.8)])
def test_a_sparse_code_is_the_lasso(solver: object, pixels: int, causes: int, strength: float) -> None:
    """min 1/2 |x - D z|^2 + strength |z|, also overcomplete: the same coefficients, the same ones zero."""
    layer = Dense(causes, pixels, bias=False)
    network = graph(
        [Node("x", pixels), Node("z", causes, LaplacianPrior(strength))],
        [Prediction("x", [("z", layer)], Gaussian(pixels))],
    )
    with torch.no_grad():
        layer.weight.mul_(2.0)
    x = draw(5, pixels, seed=8, scale=2.0)
    clamped = network.clamp({"x": x})
    seen = network.infer(clamped, Inference(solver, atol=1e-9, max_steps=20000))
    assert seen.converged.all(), seen.report()
    codes = network.answer(clamped, seen, "z")
    assert (codes == 0).any() and (codes != 0).any(-1).all()
    lasso = Lasso(alpha=strength / pixels, fit_intercept=False, tol=1e-14, max_iter=200000)
    for row, code in zip(x, codes):
        expected = torch.from_numpy(lasso.fit(layer.weight.detach().numpy(), row.numpy()).coef_)
        torch.testing.assert_close(code, expected, rtol=1e-6, atol=1e-7)
        assert ((code == 0) == (expected.abs() < 1e-9)).all()


def test_kinks_in_the_middle_of_a_hierarchy() -> None:
    """Where a value is zero the rest pulls with less than the prior's strength; elsewhere exactly against it."""
    setup = Setup("sparse", "a")
    seen = setup.case.network.infer(setup.clamped, Inference(GaussNewton(), atol=1e-9, max_steps=2000))
    assert seen.converged.all(), seen.report()
    values = tuple(x.clone().requires_grad_() for x in seen.values)
    nodes = setup.clamped.values | dict(zip(setup.free, values))
    smooth = sum(t.weight * t.cost(nodes[t.target], setup.case.predict(t, nodes)) for t in setup.case.terms)
    zeros = 0
    for x, pull, strength in zip(values, torch.autograd.grad(smooth.sum(), values), (0.3, 0.2)):
        at_zero = x == 0
        zeros += int(at_zero.sum())
        assert (pull[at_zero].abs() <= strength + 1e-8).all()
        torch.testing.assert_close(pull[~at_zero], -strength * x[~at_zero].sign().detach(), rtol=0, atol=1e-7)
    assert zeros > 0


def test_at_a_kink_the_residual_is_the_least_slope() -> None:
    """At zero: what is left of the pull after the prior took its strength; the unit is still or goes the right way."""
    network = graph([Node("x", 3), Node("z", 3, LaplacianPrior(0.5))], [Prediction("x", [("z", Skip())], Gaussian(3))])
    problem = network.problem(network.clamp({"x": torch.tensor([[0.2, 2.0, -2.0]])}))
    point = problem.at((torch.zeros(1, 3, dtype=torch.float64),))
    torch.testing.assert_close(point.residual[0], torch.tensor([[0.0, -1.5, 1.5]], dtype=torch.float64))
    landed = problem.retract((torch.tensor([[1.0, -1.0, 0.0]]),), (torch.tensor([[-1.5, 0.5, 0.3]]),))
    torch.testing.assert_close(landed[0], torch.tensor([[0.0, -0.5, 0.3]]))


# Answers.


def test_a_free_class_is_answered_by_its_law() -> None:
    setup = Setup("upwards", "a")
    network, (x,) = setup.case.network, setup.clamped.values.values()
    assert "d" not in setup.free
    seen = network.infer(setup.clamped, Inference(GaussNewton(), atol=1e-10, max_steps=1000))
    nodes = setup.clamped.values | dict(zip(setup.free, seen.values))
    logits = setup.case.predict(setup.case.terms[2], nodes)
    expected = logits.exp() / logits.exp().sum(-1, keepdim=True)
    torch.testing.assert_close(network.answer(setup.clamped, seen, "d"), expected.detach(), rtol=1e-12, atol=1e-12)
    network.inference = Inference(GaussNewton(), atol=1e-10, max_steps=1000)
    torch.testing.assert_close(network(x), expected.detach(), rtol=1e-12, atol=1e-12)


def test_where_nothing_is_free_there_is_an_answer_all_the_same() -> None:
    """A linear classifier: its only free node has a law and no values."""
    layer = Dense(5, 3)
    network = graph([Node("x", 5), Node("y", 3)], [Prediction("y", [("x", layer)], Categorical())])
    x = draw(ROWS, 5)
    logits = x @ layer.weight.T + layer.bias
    torch.testing.assert_close(network(x), logits.softmax(-1).detach(), rtol=1e-12, atol=1e-12)
    labels = torch.tensor([0, 2, 1, 1])
    clamped = network.clamp({"x": x, "y": labels})
    seen = network.infer(clamped, record=(0, 3))
    torch.testing.assert_close(seen.point.energy, functional.cross_entropy(logits, labels, reduction="none").detach())
    assert seen.values == seen.trace[3] == () and seen.status.tolist() == [Status.CONVERGED] * ROWS
    assert torch.equal(capture(network, x, "layers.y.*", iterations=(0, 1))["layers.y.prediction"][:, 1], network(x))
    assert network.infer(network.clamp({"x": x})).point.energy.tolist() == [0.0] * ROWS


def test_an_answer_is_never_an_input() -> None:
    setup = Setup("both_ways", "a/ c")
    seen = setup.case.network.infer(setup.clamped)
    with pytest.raises(ValueError, match=r"'c' is held.*not an answer"):
        setup.case.network.answer(setup.clamped, seen, "c")
    filled = setup.case.network.answer(setup.clamped, seen, "a")
    assert torch.equal(filled[setup.masks["a"]], setup.clamped.values["a"][setup.masks["a"]])
    with pytest.raises(ValueError, match="no node 'e'; there are a, b, c"):
        setup.case.network.answer(setup.clamped, seen, "e")


def test_a_reading_has_value_prediction_and_error_of_every_node() -> None:
    setup = Setup("own_noise", "a c")
    nodes = setup.clamped.values | dict(zip(setup.free, setup.values))
    seen = setup.case.network.reading(setup.problem, setup.values)
    assert seen["a"].keys() == {"value"}
    for term in setup.case.terms:
        prediction = half(setup.case.predict(term, nodes))
        torch.testing.assert_close(seen[term.target]["prediction"], prediction)
        torch.testing.assert_close(seen[term.target]["error"], nodes[term.target] - prediction)


# Where values start.


def test_values_start_at_the_sweep_at_noise_or_where_they_were() -> None:
    setup = Setup("both_ways", "a/")
    network, still = setup.case.network, {"max_steps": 0}
    swept = network.infer(setup.clamped, Inference(**still)).values
    assert_states_close(swept, network.initial_values(setup.clamped), setup.free, atol=0)
    carried = network.infer(setup.clamped, Inference(initial=CarriedOver(), **still), carried=setup.values).values
    assert_states_close(carried, setup.values, setup.free, atol=1e-14)
    noise = [network.infer(setup.clamped, Inference(initial=RandomValues(2.0, seed), **still)) for seed in (3, 3, 4)]
    assert all(torch.equal(a, b) for a, b in zip(noise[0].values, noise[1].values))
    assert not torch.equal(noise[0].values[1], noise[2].values[1])
    for solution in noise:
        assert torch.equal(solution.values[0][setup.masks["a"]], setup.clamped.values["a"][setup.masks["a"]])


def test_carrying_on_where_inference_ended_takes_no_step() -> None:
    setup = Setup("both_ways", "a")
    network = setup.case.network
    first = network.infer(setup.clamped, Inference(atol=1e-8))
    again = network.infer(setup.clamped, Inference(atol=1e-7, initial=CarriedOver()), carried=first.values)
    assert again.steps.max() == 0 < first.steps.min()
    with pytest.raises(ValueError, match="needs an inference with initial=CarriedOver"):
        network.infer(setup.clamped, carried=first.values)
    rows = tuple(group[:1] for group in first.values)
    with pytest.raises(ValueError, match="carried must have the shapes of the free values"):
        network.infer(setup.clamped, Inference(initial=CarriedOver()), carried=rows)


# Seen from outside.


def test_sites_show_the_equilibrium_and_the_way_there() -> None:
    setup = Setup("both_ways", "a")
    network, x = setup.case.network, setup.clamped.values["a"]
    network.inference = Inference(Momentum(), atol=1e-8, max_steps=2000)
    seen = network.infer(setup.clamped, record=(0, 2, 5, 3000))
    end = capture(network, x, "layers.*")
    assert [name for name in end if name.startswith("layers.a")] == [
        "layers.a.value", "layers.a.prediction", "layers.a.error"]  # fmt: skip
    assert torch.equal(end["layers.a.value"], x)
    for name, values in zip(setup.free, seen.values):
        assert torch.equal(end[f"layers.{name}.value"], values)
    assert torch.equal(end.output, seen.values[-1])
    way = capture(network, x, ["layers.b.value", "layers.b.error", "layers.a.error"], iterations=(0, 2, 5, 3000))
    for k, step in enumerate((0, 2, 5, 3000)):
        assert torch.equal(way["layers.b.value"][:, k], seen.trace[step][0])
        nodes = setup.clamped.values | dict(zip(setup.free, seen.trace[step]))
        for target, term in (("b", setup.case.terms[0]), ("a", setup.case.terms[3])):
            error = nodes[target] - setup.case.predict(term, nodes).detach()
            torch.testing.assert_close(way[f"layers.{target}.error"][:, k], error, rtol=1e-12, atol=1e-12)
    assert way["layers.b.value"].shape == (ROWS, 4, 4)
    assert torch.equal(way["layers.b.value"][:, -1], end["layers.b.value"])
    after_recording = capture(network, x, "layers.b.value")
    assert torch.equal(after_recording["layers.b.value"], end["layers.b.value"])


def test_the_same_weights_give_the_same_answer_wherever_they_are() -> None:
    setup = Setup("both_ways", "a")
    network, x = setup.case.network, setup.clamped.values["a"]
    answer = network(x)
    assert torch.equal(network(x), answer)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(x), answer)
    other = both_ways().network
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1.0)
    assert not torch.allclose(other(x), answer)
    assert other.load_state_dict(network.state_dict()).missing_keys == []
    assert torch.equal(other(x), answer)


@pytest.mark.parametrize(
    "name, held", [("upwards", "a d"), ("both_ways", "a/"), ("own_noise", "a c"), ("images", "a c")]
)
def test_single_precision_agrees_with_double(name: str, held: str) -> None:
    setup = Setup(name, held)
    wide = setup.case.network.infer(setup.clamped, Inference(GaussNewton(), atol=1e-9, max_steps=1000))
    narrow_network = copy.deepcopy(setup.case.network).float()
    clamped = narrow_network.clamp(setup.clamped.values, setup.clamped.observed)
    narrow = narrow_network.infer(clamped, Inference(GaussNewton(), atol=1e-5, max_steps=1000))
    assert narrow.converged.all(), narrow.report()
    for a, b in zip(narrow.values, wide.values):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=0, atol=3e-4)
    torch.testing.assert_close(narrow.point.energy.double(), wide.point.energy, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name, held", [(name, held) for name in CASES for held in HELD[name][:1]])
@pytest.mark.parametrize("rows", [0, 1])
def test_rows_stand_alone(name: str, held: str, rows: int) -> None:
    """A batch of one row gives that row; a batch of none gives none, and nothing breaks."""
    setup = Setup(name, held)
    network = setup.case.network
    inference = Inference(Momentum(0.05, 0.5), atol=0.0, max_steps=5)
    some = network.clamp(
        {n: x[:rows] for n, x in setup.clamped.values.items()}, {n: m[:rows] for n, m in setup.masks.items()}
    )
    alone, together = (network.infer(clamped, inference) for clamped in (some, setup.clamped))
    if rows == 0:
        assert [tuple(x.shape) for x in alone.values] == [(0, network.widths[n]) for n in setup.free]
        assert alone.point.energy.shape == (0,)
        return
    assert_states_close(alone.values, tuple(x[:1] for x in together.values), setup.free, atol=1e-12)


# What can be held.


def network_of_three() -> PCGraph:
    return both_ways().network


def test_what_may_be_held_comes_in_many_shapes() -> None:
    network = upwards().network
    x = draw(6, 5)
    by_label = network.clamp({"a": x, "d": torch.tensor([2, 0, 1, 1, 0, 2])})
    one_hot = torch.eye(3, dtype=torch.float64)[[2, 0, 1, 1, 0, 2]]
    assert torch.equal(by_label.values["d"], one_hot)
    assert torch.equal(network.clamp({"d": one_hot.int()}).values["d"], one_hot)
    assert torch.equal(network.clamp({"a": x.reshape(6, 1, 5)}).values["a"], x)
    assert torch.equal(network.clamp({"a": x.float()}).values["a"], x.float().double())
    mask = torch.tensor([True, False, True, False, False])
    for shape in ((5,), (1, 5), (5, 1)):
        held = network.clamp({"a": x}, {"a": mask.reshape(shape)}).observed["a"]
        assert torch.equal(held, mask.expand(6, 5))
    rows = x > 0
    assert torch.equal(network.clamp({"a": x}, {"a": rows.reshape(6, 1, 5, 1)}).observed["a"], rows)
    assert network.clamp({"a": x}, {"a": torch.ones(5, dtype=torch.bool)}).observed == {}
    square = x[:5]  # as many rows as units: one row of the mask each, never scrambled
    assert torch.equal(network.clamp({"a": square}, {"a": rows[:5]}).observed["a"], rows[:5])


NAN = torch.tensor([[0.0, 0.0], [0.0, float("nan")], [float("inf"), 0.0]]).repeat(1, 3)[:, :5]


@pytest.mark.parametrize(
    "values, observed, error, message",
    [
        ({}, {}, ValueError, "hold at least one node of a, b, c"),
        ({"e": torch.zeros(2, 5)}, {}, ValueError, "no node 'e'; there are a, b, c"),
        ({"a": torch.zeros(2, 4)}, {}, ValueError, r"'a' must be \(batch, 5\), got \(2, 4\)"),
        ({"a": torch.zeros(5)}, {}, ValueError, r"'a' must be \(batch, 5\), got \(5,\)"),
        ({"a": torch.zeros(())}, {}, ValueError, r"got \(\)"),
        ({"a": NAN}, {}, ValueError, r"'a' must be finite; they are not in rows \[1, 2\]"),
        ({"c": torch.tensor([0, 3])}, {}, ValueError, r"'c' must be in \[0, 3\), got 3"),
        ({"c": torch.tensor([0, -1])}, {}, ValueError, r"'c' must be in \[0, 3\), got -1"),
        ({"a": [[0.0] * 5]}, {}, TypeError, "'a' must be a real tensor, got list"),
        ({"a": torch.zeros(2, 5, dtype=torch.complex64)}, {}, TypeError, "got torch.complex64"),
        ({"a": torch.zeros(2, 5), "c": torch.zeros(3, 3)}, {}, ValueError, "same number of rows, got .*2.*3"),
        ({"a": torch.zeros(2, 5)}, {"b": torch.ones(4) > 0}, ValueError, "names 'b', which values does not hold"),
        ({"a": torch.zeros(2, 5)}, {"a": torch.ones(5)}, TypeError, "'a' must be a boolean tensor, got torch.float32"),
        ({"a": torch.zeros(2, 5)}, {"a": [True] * 5}, TypeError, "'a' must be a boolean tensor, got list"),
        ({"a": torch.zeros(2, 5)}, {"a": torch.ones(4) > 0}, ValueError, r"must fit \(2, 5\), got \(4,\)"),
        ({"a": torch.zeros(2, 5)}, {"a": torch.ones(3, 5) > 0}, ValueError, r"must fit \(2, 5\), got \(3, 5\)"),
        ({"a": torch.zeros(2, 5)}, {"a": torch.ones(5, 2) > 0}, ValueError, r"must fit \(2, 5\), got \(5, 2\)"),
    ],
)
def test_what_may_not_be_held(values: dict, observed: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        network_of_three().clamp(values, observed)


def test_half_a_class_cannot_be_held() -> None:
    with pytest.raises(ValueError, match="'d' has an energy that cannot leave units free"):
        upwards().network.clamp({"d": torch.tensor([0])}, {"d": torch.tensor([True, False, True])})


def chain(*predictions: Prediction) -> PCGraph:
    return PCGraph([Node("a", 2), Node("b", 3)], list(predictions), inputs="a", outputs="b")


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: chain(Prediction("b", [("a", Dense(3, 3))], Gaussian(3))), "from 'a' to 'b' cannot take 2 units"),
        (lambda: chain(Prediction("b", [("a", Dense(2, 4))], Gaussian(3))), "gives 4 numbers, 3 are needed"),
        (lambda: chain(Prediction("b", [("a", Dense(2, 3))], InputPrecision())), "gives 3 numbers, 6 are needed"),
        (lambda: chain(Prediction("b", [("a", Dense(2, 3))], Gaussian(2))), "energy of 'b' does not fit 3 units"),
        (lambda: chain(Prediction("c", [("a", Dense(2, 3))], Gaussian(3))), "no node 'c'; there are a, b"),
        (lambda: chain(Prediction("b", [("c", Dense(2, 3))], Gaussian(3))), "no node 'c'; there are a, b"),
        (lambda: Prediction("b", [], Gaussian(3)), "prediction of 'b' needs at least one source"),
        (lambda: Prediction("b", [("a", Dense(2, 3))], Gaussian(3), -1.0), "weight must be a finite number >= 0"),
        (lambda: Prediction("b", [("a", Dense(2, 3))], Gaussian(3), float("nan")), "weight must be a finite number"),
        (lambda: Node("a", 0), "width must be at least 1, got 0"),
        (lambda: Node("a.b", 1), "must not be empty nor hold a dot, got 'a.b'"),
        (lambda: Node("", 1), "must not be empty"),
        (lambda: PCGraph([Node("a", 1), Node("a", 2)], [], inputs="a", outputs="a"), "names must differ, got a, a"),
        (lambda: PCGraph([Node("a", 1)], [], inputs="x", outputs="a"), "no node 'x'"),
        (lambda: PCGraph([Node("a", 1)], [], inputs="a", outputs="x"), "no node 'x'"),
        (lambda: PCGraph([Node("keys", 1)], [], inputs="keys", outputs="keys"), "cannot be named 'keys'"),
    ],
)
def test_networks_that_cannot_be(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("solver", [Direct(), GaussNewton()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("held", ["a", "c", "a/", "b/ c"])
def test_one_step_solves_whatever_is_linear_and_gaussian(solver: object, held: str) -> None:
    """Priors on nodes that are predicted as well, predictions from both sides, half of a node held."""
    up, down = [Dense(5, 4), Dense(4, 3)], [Dense(3, 4), Dense(4, 5)]
    network = graph(
        [Node("a", 5, GaussianPrior(0.3)), Node("b", 4, GaussianPrior(1.5, -0.4)), Node("c", 3, GaussianPrior(0.7))],
        [
            Prediction("b", [("a", up[0])], Gaussian(4), 0.6),
            Prediction("c", [("b", up[1])], Gaussian(3, precision=3.0), 0.6),
            Prediction("b", [("c", down[0])], Gaussian(4), 1.3),
            Prediction("a", [("b", down[1])], Gaussian(5, precision=0.5), 1.3),
        ],
    )
    case = Case(network, [])
    given = {n.rstrip("/"): draw(ROWS, network.widths[n.rstrip("/")], seed=ord(n[0])) for n in held.split()}
    clamped = network.clamp(given, {n[0]: halves(case, n[0]) for n in held.split() if n.endswith("/")})
    problem = network.problem(clamped)
    assert isinstance(problem, LinearGaussian)
    seen = network.infer(clamped, Inference(solver, atol=1e-9))
    assert seen.steps.tolist() == [1] * ROWS, seen.report()
