"""Plain descent by the program for dense chains, as part of a graph: the same numbers as a loop over `at`, and only where it fits."""

import math

import pytest
import torch
from torch import Tensor

from pcnet.energies import Gaussian, GaussianPrior, Huber
from pcnet.inference import FixedSteps
from pcnet.inference.equilibrium import scale
from pcnet.learning import Example, Local
from pcnet.networks import ActiveDense, Dense, HierarchicalPC, LeakyReLU, MuPC, ReLU, Softplus, Standard, hierarchy
from pcnet.networks.graph.chain import dense_chain
from pcnet.networks.graph.point import GraphPoint
from pcnet.networks.graph.problem import GraphProblem


def network(widths: tuple[int, ...] = (7, 6, 5, 6, 3), **settings: object) -> HierarchicalPC:
    torch.manual_seed(0)
    return HierarchicalPC(widths, **settings).double()


def case(net: HierarchicalPC, rows: int = 5) -> GraphProblem:
    generator = torch.Generator().manual_seed(1)
    ends = {
        name: torch.randn(rows, net.widths[name], generator=generator).double() for name in (net.inputs, net.outputs)
    }
    return net.problem(net.clamp(ends))


def looped(problem: GraphProblem, x: tuple[Tensor, ...], step_size: float, steps: int) -> GraphPoint:
    for _ in range(steps):
        x = problem.retract(x, scale(problem.at(x).residual, -step_size))
    return problem.at(x)


def descended(problem: GraphProblem, x: tuple[Tensor, ...], step_size: float, steps: int) -> GraphPoint:
    return FixedSteps(step_size, steps).run(problem, x).point


def assert_same(left: GraphPoint, right: GraphPoint) -> None:
    for name in ("values", "residual", "energy", "signals"):
        torch.testing.assert_close(getattr(left, name), getattr(right, name), rtol=1e-12, atol=1e-13)
    assert left.nodes.keys() == right.nodes.keys()
    for one, other, signal in zip(left.sent, right.sent, right.signals, strict=True):
        torch.testing.assert_close(one.prediction, other.prediction, rtol=1e-12, atol=1e-13)
        mine, theirs = (sent.parts[0].weight_gradients(signal) for sent in (one, other))
        assert mine.keys() == theirs.keys()
        assert all(torch.allclose(mine[name], theirs[name], rtol=1e-11, atol=1e-13) for name in mine)


@pytest.mark.parametrize(
    "settings", [{}, {"bias": False}, {"activation": ReLU()}, {"activation": LeakyReLU(0.2)}], ids=str
)
@pytest.mark.parametrize("steps", [1, 2, 3, 20])
@torch.no_grad()
def test_the_program_is_the_loop(settings: dict, steps: int) -> None:
    problem = case(network(parameterisation=Standard(**settings)))
    assert dense_chain(problem.structure)
    swept = problem.swept
    anywhere = tuple(group + 0.3 * torch.sin(group + 1) for group in swept)
    for start in (swept, anywhere):
        kept = tuple(group.clone() for group in start)
        assert_same(descended(problem, start, 0.1, steps), looped(problem, start, 0.1, steps))
        assert all(torch.equal(a, b) for a, b in zip(start, kept))


@torch.no_grad()
def test_second_derivatives_at_a_point_of_the_program() -> None:
    problem = case(network())
    flowed = descended(problem, problem.swept, 0.1, 9)
    direction = tuple(torch.cos(group) for group in flowed.values)
    mine = problem.hessian_product(flowed, direction)
    torch.testing.assert_close(
        mine, problem.hessian_product(problem.at(flowed.values), direction), rtol=1e-11, atol=1e-13
    )


@pytest.mark.parametrize(
    "net",
    [
        network(energies={2: Huber(1.0)}),
        network(energies={2: Gaussian(5, learned=True)}),
        network(energies={2: Gaussian(5, precision=2.0)}),
        network(priors={1: GaussianPrior(0.1)}),
        network(parameterisation=Standard(activation=Softplus())),
        network(upward=2.0),
        network(upward=0.0, downward=1.0),
        network(upward=1.0, downward=1.0),
        network((7, 5, 5, 5, 3), parameterisation=MuPC()),
        hierarchy([7, 4, 3], [ActiveDense(7, 4), Dense(4, 3)]).double(),
        hierarchy([7, 4, 3], [Dense(7, 4), Dense(4, 3, ReLU())]).double(),
        hierarchy([7, 4, 3], [Dense(7, 4, scale=2.0), Dense(4, 3)]).double(),
        network((7, 3)),
    ],
    ids=lambda net: str(net).replace("\n", "")[-60:],
)
@torch.no_grad()
def test_everything_else_takes_the_loop(net: HierarchicalPC) -> None:
    problem = case(net)
    start = problem.swept
    assert_same(descended(problem, start, 0.1, 4), looped(problem, start, 0.1, 4)) if start else None


def test_what_is_free_decides() -> None:
    net = network()
    x = torch.zeros(2, 7).double()
    assert not dense_chain(net.problem(net.clamp({"0": x})).structure)
    half = net.clamp({"0": x, "4": x[:, :3]}, observed={"4": torch.tensor([True, True, False])})
    assert not dense_chain(net.problem(half).structure)
    middle = net.clamp({"0": x, "2": x[:, :5], "4": x[:, :3]})
    assert not dense_chain(net.problem(middle).structure)


def test_weights_that_moved_are_seen() -> None:
    net = network()
    rule, example = Local(inference=FixedSteps(0.1, 5)), Example({"0": torch.ones(4, 7)}, {"4": torch.ones(4, 3)})
    rule.loss(net, example).backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.7)
    moved = rule.loss(net, example).item()
    with torch.no_grad():
        net.predictions[1].layers[0].weight = torch.nn.Parameter(net.predictions[1].layers[0].weight * 0.5)
    replaced = rule.loss(net, example).item()
    problem = net.problem(example.whole(net))
    with torch.no_grad():
        assert replaced == pytest.approx(looped(problem, problem.swept, 0.1, 5).energy.mean().item(), rel=1e-12)
    assert replaced != moved


def test_what_changes_in_the_network_is_seen_by_the_next_problem() -> None:
    """A precision that begins to be learned, and a layer that is exchanged: against the energy written out."""
    net = network(energies={2: Gaussian(5)})
    problem = case(net)
    x, values = problem.clamped.values, tuple(torch.sin(group + 1).requires_grad_() for group in problem.swept)
    assert dense_chain(problem.structure)
    assert problem.at(values).energy.shape == (5,)
    net.predictions[1].energy.log_precision.requires_grad_()
    net.predictions[2].layers[0] = Dense(5, 6, ReLU()).double()
    with torch.no_grad():
        net.predictions[1].energy.log_precision.fill_(0.7)
    a, b, c, d = (p.layers[0] for p in net.predictions)
    first, second, third = values
    pairs = (first, a(x["0"]).detach()), (second, b(first)), (third, c(second)), (x["4"], d(third))
    costs = [0.5 * (value - mu).square().sum(-1) for value, mu in pairs]
    costs[1] = math.exp(0.7) * costs[1] - 0.5 * 5 * 0.7
    expected = torch.autograd.grad(sum(costs).sum(), values)
    with torch.no_grad():
        changed = case(net)
        torch.testing.assert_close(changed.at(values).residual, expected, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(changed.at(values).energy, sum(costs), rtol=1e-12, atol=1e-13)
        assert_same(descended(changed, values, 0.1, 4), looped(changed, values, 0.1, 4))


def test_local_learns_the_same_by_either_way() -> None:
    """Against automatic differentiation of the energy at the values of the loop."""
    net = network()
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.randn(6, width, generator=generator).double() for width in (7, 3))
    example = Example({"0": x}, {"4": y})
    Local(inference=FixedSteps(0.1, 12)).loss(net, example).backward()
    problem = net.problem(example.whole(net))
    with torch.no_grad():
        values = looped(problem, problem.swept, 0.1, 12).values
    learned = [p for p in net.parameters() if p.requires_grad]
    expected = torch.autograd.grad(problem.at(values).energy.mean(), learned)
    for parameter, gradient in zip(learned, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-13)
