"""Gauss-Newton on graphs: its curvature and metric against matrices written out, and where and how it arrives."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from pcnet import (
    AutogradLayer,
    Categorical,
    Dense,
    Gaussian,
    GaussianPrior,
    GaussNewton,
    HierarchicalPC,
    Huber,
    Inference,
    InputPrecision,
    KurtoticPrior,
    LaplacianPrior,
    Monotone,
    MuPC,
    Standard,
    hierarchy,
    solve,
    unroll,
)
from pcnet.inference.carry import merge
from pcnet.networks.graph import metric as graph_metric
from pcnet.networks.graph.outputs import OutputCurvature
from pcnet.networks.graph.problem import GraphProblem
from pcnet.typing import State

ROWS = 3


@pytest.fixture(autouse=True)
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def upwards() -> GraphProblem:
    net = HierarchicalPC([4, 5, 3, 2])
    return net.problem(net.clamp({"0": torch.randn(ROWS, 4), "3": torch.randn(ROWS, 2)}))


def classes() -> GraphProblem:
    priors = {1: KurtoticPrior(0.3), 2: GaussianPrior(0.5)}
    net = HierarchicalPC(
        [4, 5, 3, 3], energies={3: Categorical(), 2: Huber(0.4), 1: Gaussian(5, precision=2.5)}, priors=priors
    )
    return net.problem(net.clamp({"0": torch.randn(ROWS, 4), "3": torch.tensor([0, 2, 1])}))


def downwards() -> GraphProblem:
    net = HierarchicalPC([6, 5, 2], upward=0.0, downward=1.0)
    return net.problem(net.clamp({"0": torch.randn(ROWS, 6)}))


def both_ways() -> GraphProblem:
    net = HierarchicalPC([6, 5, 4], upward=0.7, downward=1.3)
    seen = torch.tensor([True] * 4 + [False] * 2)
    return net.problem(net.clamp({"0": torch.randn(ROWS, 6)}, {"0": seen}))


def residual_network() -> GraphProblem:
    net = HierarchicalPC([3, 4, 4, 4, 2], parameterisation=MuPC())
    return net.problem(net.clamp({"0": torch.randn(ROWS, 3), "4": torch.randn(ROWS, 2)}))


def own_noise() -> GraphProblem:
    layers = [AutogradLayer(nn.Sequential(nn.Linear(3, 4), nn.GELU())), Dense(4, 6), Dense(3, 2)]
    net = hierarchy([3, 4, 3, 2], up=layers, energies={2: InputPrecision()})
    return net.problem(net.clamp({"0": torch.randn(ROWS, 3), "3": torch.randn(ROWS, 2)}))


PROBLEMS = [upwards, classes, downwards, both_ways, residual_network, own_noise]
each = pytest.mark.parametrize("make", PROBLEMS, ids=lambda make: make.__name__)


def split(problem: GraphProblem, flat: Tensor) -> State:
    return flat.split(problem.widths, -1)


def somewhere(problem: GraphProblem) -> Tensor:
    """Errors of any size, row by row."""
    return torch.randn(ROWS, sum(problem.widths))


def movable(problem: GraphProblem, row: int) -> Tensor:
    """Which units are free."""
    masks = [
        problem.free_units[n].expand(ROWS, -1)[row] if n in problem.free_units else torch.ones(w, dtype=torch.bool)
        for n, w in zip(problem.names, problem.widths)
    ]
    return torch.cat(masks)


def written_out(problem: GraphProblem, errors: Tensor, row: int) -> tuple[Tensor, Tensor]:
    """Q = dx/deps and H = d2F/dx2 of one row, by autograd through the whole graph."""
    one = problem.rows(torch.tensor([row]))

    def values(eps: Tensor) -> Tensor:
        return torch.cat(one.at_errors(split(one, eps[None])).values, -1)[0]

    def energy(x: Tensor) -> Tensor:
        return one.at(split(one, x[None])).energy.sum()

    Q = torch.autograd.functional.jacobian(values, errors[row])
    return Q, torch.autograd.functional.hessian(energy, values(errors[row]).detach())


@each
def test_curvature_in_errors_is_the_matrix(make) -> None:
    problem = make()
    errors, direction = somewhere(problem), somewhere(problem)
    with torch.no_grad():
        point = problem.at_errors(split(problem, errors))
        product = problem.error_curvature(point)(direction)
        by_parts = problem.pull_back(
            point, problem.hessian_product(point, problem.push_forward(point, split(problem, direction)))
        )
    for row in range(ROWS):
        Q, H = written_out(problem, errors, row)
        free = movable(problem, row).to(Q.dtype)
        expected = free * (Q.T @ H @ (Q @ direction[row]))
        torch.testing.assert_close(product[row], expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(product, torch.cat(by_parts, -1), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("make", [upwards, downwards, both_ways, residual_network], ids=lambda make: make.__name__)
def test_the_metric_is_stiffness_and_outputs(make) -> None:
    """P = Q^T H Q with the curvature of every layer left out: the Hessian of the energy linearised at the point."""
    problem = make()
    errors, gradient = somewhere(problem), somewhere(problem)
    with torch.no_grad():
        point = problem.at_errors(split(problem, errors))
        solved = torch.cat(problem.gauss_newton(point).solve(split(problem, gradient)), -1)
    straight = dataclasses.replace(point, signals=tuple(torch.zeros_like(s) for s in point.signals))
    product = problem.error_curvature(straight)
    for row in range(ROWS):
        one = torch.zeros(sum(problem.widths), ROWS, sum(problem.widths))
        one[:, row] = torch.eye(sum(problem.widths))
        P = torch.stack([product(unit)[row] for unit in one])
        free = movable(problem, row)
        expected = torch.linalg.lstsq(P[free][:, free], gradient[row][free].unsqueeze(-1)).solution.squeeze(-1)
        torch.testing.assert_close(solved[row][free], expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("make", [upwards, classes, downwards, both_ways], ids=lambda make: make.__name__)
def test_three_ways_to_solve_the_same_system(make, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the rows of the outputs, by the matrix of the free units, and by conjugate gradients."""
    problem = make()
    point = problem.at_errors(split(problem, somewhere(problem)))
    gradient = problem.pull_back(point, point.residual)
    share = 1e-3
    curvature = OutputCurvature(problem.trunk(point))
    rows = curvature.rows()
    stiffness = graph_metric._stiffness(problem.trunk(point), share, lambda: rows.square().sum(-2))
    P = stiffness.diag_embed() + rows.mT @ rows
    expected = torch.linalg.solve(P, torch.cat(gradient, -1))
    woodbury = graph_metric.Woodbury.of(stiffness, rows)
    dense = graph_metric.Factorised(torch.linalg.cholesky(P))
    free = graph_metric.MatrixFree(curvature, stiffness)
    for metric in (woodbury, dense, free):
        torch.testing.assert_close(torch.cat(metric.solve(gradient), -1), expected, rtol=1e-7, atol=1e-8)
    length = (expected * (P @ expected.unsqueeze(-1)).squeeze(-1)).sum(-1).sqrt()
    for metric in (woodbury, dense):
        torch.testing.assert_close(metric.length(expected), length)
    whole = torch.randn(ROWS, 2, sum(problem.widths))
    product = curvature.product(whole.split(problem.widths, -1))
    moving = [point.movable.get(n, torch.ones(w)) for n, w in zip(problem.names, problem.widths)]
    mask = torch.cat([m.expand(ROWS, -1) for m in moving], -1).unsqueeze(-2)
    torch.testing.assert_close(torch.cat(product, -1), (whole * mask) @ rows.mT @ rows, rtol=1e-10, atol=1e-10)
    monkeypatch.setattr(graph_metric, "LARGE", 1)
    assert isinstance(problem.gauss_newton(point), graph_metric.MatrixFree)


def test_the_smaller_system_is_solved() -> None:
    """2 held outputs against 8 free units; 6 held pixels against 2 + 5; 30 against 3."""
    for problem, form in ((upwards(), graph_metric.Woodbury), (downwards(), graph_metric.Woodbury)):
        point = problem.at_errors(split(problem, somewhere(problem)))
        assert isinstance(problem.gauss_newton(point), form)
    net = HierarchicalPC([30, 3], upward=0.0, downward=1.0)
    problem = net.problem(net.clamp({"0": torch.randn(ROWS, 30)}))
    assert isinstance(problem.gauss_newton(problem.at(split(problem, somewhere(problem)))), graph_metric.Factorised)


def test_nothing_to_solve_for_a_free_output() -> None:
    net = HierarchicalPC([4, 5, 3])
    start = tuple(torch.randn(ROWS, w) for w in (5, 3))
    problem = net.problem(net.clamp({"0": torch.randn(ROWS, 4)}))
    solution = solve(problem, start, GaussNewton(), atol=1e-10, max_steps=20)
    assert solution.converged.all()
    torch.testing.assert_close(solution.values, net.sweep(problem), rtol=0, atol=1e-9)


# Where it arrives.


def deep(depth: int, gain: float, width: int = 12, rows: int = 6, seed: int = 0) -> tuple[HierarchicalPC, GraphProblem]:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    net = HierarchicalPC([8, *[width] * (depth - 1), 4], parameterisation=Standard(gain))
    held = {"0": torch.randn(rows, 8, generator=generator), str(depth): torch.randn(rows, 4, generator=generator)}
    return net, net.problem(net.clamp(held))


@pytest.mark.parametrize("depth, gain", [(5, 0.9), (5, 1.2), (5, 2.0), (10, 1.2), (20, 0.9), (20, 1.2)])
def test_it_arrives_at_a_minimum_and_never_climbs(depth: int, gain: float) -> None:
    net, problem = deep(depth, gain)
    solver = GaussNewton()
    view = solver.view(problem)
    with torch.no_grad():
        x = view.coordinates(net.sweep(problem))
        point = view.at(x)
        carry = solver.init(view, point)
        kept = [point.energy]
        for _ in range(150):
            increment, carry = solver.step(view, point, carry)
            assert (carry.trial.energy <= kept[-1] + 1e-9).all()
            kept.append(carry.trial.energy)
            x = view.retract(x, increment)
            point = view.at(x)
    assert max(group.abs().max() for group in point.residual) < 1e-9
    for row in range(2):
        _, H = written_out(problem, torch.cat(x, -1), row)
        assert torch.linalg.eigvalsh(H)[0] > 0


@pytest.mark.parametrize("depth, gain, most", [(5, 0.9, 7), (20, 0.9, 8), (20, 1.0, 10)])
def test_products_with_the_curvature_save_steps(depth: int, gain: float, most: int) -> None:
    net, problem = deep(depth, gain, width=32)
    refined = solve(problem, net.sweep(problem), GaussNewton(), atol=1e-10, max_steps=300)
    plain = solve(problem, net.sweep(problem), GaussNewton(max_products=0), atol=1e-10, max_steps=300)
    assert refined.converged.all()
    assert refined.steps.max() <= most
    assert plain.steps.max() >= 3 * refined.steps.max()
    assert not plain.work.products.any()
    both = plain.converged
    for a, b in zip(refined.values, plain.values):
        torch.testing.assert_close(a[both], b[both], rtol=0, atol=1e-7)


@pytest.mark.parametrize("pixels, causes", [(6, 3), (3, 6)])
def test_causes_without_stiffness(pixels: int, causes: int) -> None:
    """Nothing predicts them and they have no prior: any that explain the image will do, and are found at once."""
    net = HierarchicalPC([pixels, causes], upward=0.0, downward=1.0, parameterisation=Standard(bias=False))
    x = torch.randn(ROWS, pixels)
    problem = net.problem(net.clamp({"0": x}))
    solution = solve(problem, net.sweep(problem), GaussNewton(), atol=1e-9, max_steps=5)
    W = net.predictions[0].layers[0].weight.detach()
    assert solution.converged.all()
    torch.testing.assert_close(solution.values[0] @ W.T, x @ torch.linalg.pinv(W).T @ W.T, rtol=0, atol=1e-7)


def test_energies_without_curvature_are_solved_too() -> None:
    """Kinks, a law of classes, and a generative network with priors: the gradient written out vanishes."""
    net = HierarchicalPC([9, 6, 4], upward=0.0, downward=1.0, priors={2: LaplacianPrior(0.2), 1: KurtoticPrior(0.5)})
    seen = net.infer(net.clamp({"0": 2 * torch.randn(ROWS, 9)}), Inference(GaussNewton(), atol=1e-9, max_steps=300))
    assert seen.converged.all(), seen.report()
    problem = classes()
    zeros = tuple(torch.zeros(ROWS, w) for w in problem.widths)
    assert solve(problem, zeros, GaussNewton(), atol=1e-10, max_steps=60).converged.all()


# Rows.


def test_a_row_neither_sees_nor_waits_for_the_others() -> None:
    net, problem = deep(10, 1.2)
    start = net.sweep(problem)
    together = solve(problem, start, GaussNewton(), atol=1e-10, max_steps=200)
    alone = solve(
        problem.rows(torch.tensor([0])), tuple(x[:1] for x in start), GaussNewton(), atol=1e-10, max_steps=200
    )
    other = torch.tensor([0, 3, 3, 5, 1, 2])
    exchanged = solve(problem.rows(other), tuple(x[other] for x in start), GaussNewton(), atol=1e-10, max_steps=200)
    dropped = solve(problem, start, GaussNewton(), atol=1e-10, max_steps=200, compact=True)
    assert together.converged.all() and len(set(together.steps.tolist())) > 1
    assert together.steps[0] == alone.steps[0] == exchanged.steps[0]
    for whole, one, mixed, part in zip(together.values, alone.values, exchanged.values, dropped.values):
        assert torch.equal(whole[0], mixed[0])
        torch.testing.assert_close(whole[0], one[0], rtol=0, atol=1e-11)
        torch.testing.assert_close(whole, part, rtol=0, atol=1e-8)


def test_its_memory_keeps_its_form() -> None:
    """From the first step on, so that rows of two memories can be merged: a safeguard around it does so."""
    net, problem = deep(5, 1.2)
    solver = GaussNewton()
    view = solver.view(problem)
    with torch.no_grad():
        point = view.at(view.coordinates(net.sweep(problem)))
        carry = solver.init(view, point)
        _, later = solver.step(view, point, carry)
        _, latest = solver.step(view, point, later)
    mixed = merge(torch.tensor([True, False] * 3), latest, carry)
    assert torch.equal(mixed.metric.rows[0], latest.metric.rows[0])
    assert torch.equal(mixed.metric.factor[1], torch.eye(4))
    assert solve(problem, net.sweep(problem), Monotone(solver), atol=1e-9, max_steps=200).converged.all()


# Through it.


def test_unrolled_steps_differentiate_like_the_equilibrium() -> None:
    net, problem = deep(4, 0.9, width=6, rows=2)
    start = net.sweep(problem)
    weight = net.predictions[1].layers[0].weight

    def reached() -> Tensor:
        return torch.cat(unroll(problem, start, GaussNewton(), steps=9), -1).square().sum()

    (by_autograd,) = torch.autograd.grad(reached(), weight)
    solved = solve(problem, start, GaussNewton(), atol=0, max_steps=9)
    torch.testing.assert_close(reached().detach(), torch.cat(solved.values, -1).square().sum())
    for i, j in ((0, 0), (3, 5)):
        ends = []
        for shift in (1e-6, -1e-6):
            with torch.no_grad():
                weight[i, j] += shift
                end = solve(problem, start, GaussNewton(), atol=1e-12, max_steps=50)
                ends.append(torch.cat(end.values, -1).square().sum())
                weight[i, j] -= shift
        torch.testing.assert_close(by_autograd[i, j], (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    "setting", [{"forcing": 0.0}, {"forcing": 1.0}, {"patience": -1}, {"max_products": -1}, {"check_every": 0}], ids=str
)
def test_settings_out_of_range(setting: dict) -> None:
    (name,) = setting
    with pytest.raises(ValueError, match=name):
        GaussNewton(**setting)
