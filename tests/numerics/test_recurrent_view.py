"""The recurrent view: gradient descent where error units follow at once, the same rest points wherever they don't."""

import itertools

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from pcnet.energies import (
    AutogradEnergy,
    Bernoulli,
    Categorical,
    Gaussian,
    GaussianPrior,
    Huber,
    InputPrecision,
    KurtoticPrior,
    LaplacianPrior,
)
from pcnet.inference import Euler, GaussNewton, Heun, Momentum, NewtonCG, solve
from pcnet.networks import (
    Dense,
    GraphNetwork,
    GraphProblem,
    HierarchicalPC,
    Identity,
    Node,
    PCGraph,
    Prediction,
    Skip,
    Standard,
    Tanh,
)
from pcnet.networks.graph.recurrent_view import RecurrentView
from pcnet.typing import State

WIDTHS = (4, 5, 3)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def filled(network: GraphNetwork, gain: float = 0.8) -> GraphNetwork:
    """In float64, with random weights, biases and learned precisions."""
    network = network.double()
    with torch.no_grad():
        for seed, p in enumerate(q for q in network.parameters() if q.requires_grad):
            p.copy_(normal(*p.shape, seed=seed, scale=gain / p.shape[1] ** 0.5 if p.dim() == 2 else 0.4))
    return network


def precise() -> dict[int, Gaussian]:
    """Learned precisions, random after `filled`, for every level."""
    return {level: Gaussian(width, learned=True) for level, width in enumerate(WIDTHS)}


def discriminative() -> GraphProblem:
    network = filled(HierarchicalPC(WIDTHS, energies=precise()))
    return network.problem(network.clamp({"0": normal(3, 4), "2": normal(3, 3, seed=1)}))


def classifying() -> GraphProblem:
    network = filled(HierarchicalPC(WIDTHS, energies={1: Huber(0.3), 2: Categorical()}))
    return network.problem(network.clamp({"0": normal(3, 4), "2": torch.tensor([2, 0, 1])}))


def both_ways() -> GraphProblem:
    network = filled(HierarchicalPC(WIDTHS, upward=0.7, downward=0.4, energies=precise()))
    return network.problem(network.clamp({"0": normal(3, 4), "2": normal(3, 3, seed=1)}))


def half_occluded() -> GraphProblem:
    priors = {1: KurtoticPrior(0.4), 2: GaussianPrior(0.5, 0.2)}
    network = filled(HierarchicalPC(WIDTHS, upward=0.0, downward=1.0, energies=precise(), priors=priors))
    observed = torch.tensor([True, False, True, False])
    return network.problem(network.clamp({"0": normal(3, 4)}, {"0": observed}))


def binary() -> GraphProblem:
    network = filled(
        HierarchicalPC(WIDTHS, upward=0.0, downward=1.0, energies={0: Bernoulli()}, priors={2: GaussianPrior()})
    )
    return network.problem(network.clamp({"0": (normal(3, 4) > 0).double()}))


def sparse() -> GraphProblem:
    network = filled(HierarchicalPC(WIDTHS, upward=0.0, downward=1.0, priors={2: LaplacianPrior(0.3)}))
    return network.problem(network.clamp({"0": normal(3, 4)}))


def skipping() -> GraphProblem:
    """Two sources and an identity path into the output, and one prediction round the corner."""
    nodes = [Node("in", 4), Node("a", 3), Node("b", 3), Node("out", 3)]
    predictions = [
        Prediction("a", [("in", Dense(4, 3, Tanh()))], Gaussian(3)),
        Prediction("b", [("a", Dense(3, 3, Tanh())), ("in", Dense(4, 3, Tanh()))], Gaussian(3, precision=2.0), 0.5),
        Prediction("out", [("b", Skip()), ("a", Dense(3, 3, Tanh()))], Gaussian(3)),
        Prediction("a", [("b", Dense(3, 3, Tanh()))], Gaussian(3), 0.3),
    ]
    network = filled(PCGraph(nodes, predictions, inputs="in", outputs="out"))
    return network.problem(network.clamp({"in": normal(3, 4), "out": normal(3, 3, seed=1)}))


def linear(widths: tuple[int, ...] = WIDTHS, seed: int = 0) -> GraphProblem:
    energies = {level: Gaussian(width, learned=True) for level, width in enumerate(widths)}
    network = filled(HierarchicalPC(widths, parameterisation=Standard(activation=Identity()), energies=energies))
    ends = {"0": normal(2, widths[0], seed=seed + 5), str(len(widths) - 1): normal(2, widths[-1], seed=seed + 6)}
    return network.problem(network.clamp(ends))


ZOO = (discriminative, classifying, both_ways, half_occluded, binary, sparse, skipping, linear)
each_problem = pytest.mark.parametrize("make", ZOO, ids=lambda make: make.__name__)
each_time_constant = pytest.mark.parametrize("tau", [0.0, 0.3])


def values_of(problem: GraphProblem, seed: int = 9) -> State:
    rows = problem.clamped.batch_size
    values = tuple(normal(rows, width, seed=seed + k) for k, width in enumerate(problem.widths))
    return tuple(problem.nodes(values)[name] for name in problem.names)


def apart(one: State, other: State) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(one, other, strict=True))


# --- error units that follow at once --------------------------------------------------------------------------------


@each_problem
@pytest.mark.parametrize("solver", [Euler(0.03), Heun(0.03), Momentum(0.03, 0.5)], ids=lambda s: type(s).__name__)
def test_the_time_course_is_gradient_descent_on_the_energy(make, solver) -> None:
    problem = make()
    view, start, moments = RecurrentView(problem), values_of(problem), tuple(range(0, 60, 7))
    descent = solve(problem, start, solver, atol=0, max_steps=60, record=moments)
    course = solve(view, view.start(start), solver, atol=0, max_steps=60, record=moments)
    assert apart(start, descent.values) > 0.1
    for k in moments:
        assert apart(view.split(course.trace[k])[0], descent.trace[k]) < 1e-13


def test_the_time_course_against_the_equations_written_out() -> None:
    """x -> tanh(W1 x + b1) -> W2 z + b2 with precisions, ten steps of both populations in numpy."""
    problem = discriminative()
    first, second = (p.layers[0] for p in problem.structure.predictions)
    W1, b1, W2, b2 = (p.detach().numpy() for p in (first.weight, first.bias, second.weight, second.bias))
    pi1, pi2 = (p.energy.precision.detach().numpy() for p in problem.structure.predictions)
    x, y = (problem.clamped.values[name].numpy() for name in "02")
    z, tau, h = values_of(problem)[0].numpy(), 0.3, 0.05
    mu = np.tanh(x @ W1.T + b1)
    for instant, view in ((True, RecurrentView(problem)), (False, RecurrentView(problem, tau))):
        value, xi1, xi2 = z.copy(), pi1 * (z - mu), pi2 * (y - z @ W2.T - b2)
        for _ in range(10):
            velocity = -xi1 + xi2 @ W2
            late1, late2 = (value - mu - xi1 / pi1) / tau, (y - value @ W2.T - b2 - xi2 / pi2) / tau
            value = value + h * velocity
            xi1, xi2 = xi1 + h * late1, xi2 + h * late2
            if instant:
                xi1, xi2 = pi1 * (value - mu), pi2 * (y - value @ W2.T - b2)
        found = solve(view, view.start(values_of(problem)), Euler(h), atol=0, max_steps=10)
        for group, expected in zip(found.values, (value, xi1, xi2), strict=True):
            np.testing.assert_allclose(group.numpy(), expected, rtol=0, atol=1e-13)


def test_errors_in_a_state_are_ignored_where_they_follow_at_once() -> None:
    problem = both_ways()
    view, start = RecurrentView(problem), values_of(problem)
    nonsense = (*start, *(torch.full_like(xi, 7.0) for xi in view.split(view.start(start))[1]))
    assert apart(view.at(nonsense).residual, view.at(view.start(start)).residual) == 0


# --- rest points --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "tau"),
    [
        *itertools.product((discriminative, both_ways, half_occluded), (0.1, 1.0, 5.0)),
        *((classifying, tau) for tau in (0.3, 1.0, 5.0)),
        *((skipping, tau) for tau in (0.1, 0.3, 1.0)),
    ],
    ids=lambda case: case if isinstance(case, float) else case.__name__,
)
def test_rest_points_are_the_same_at_every_time_constant(make, tau: float) -> None:
    """They are stable, and from elsewhere with errors at zero both populations reach them: x at the minimum, xi = -w dE/dmu."""
    problem = make()
    view = RecurrentView(problem, tau)
    minimum = solve(problem, values_of(problem), NewtonCG(), atol=1e-12, max_steps=100)
    spectrum = torch.linalg.eigvals(view.connectivity(view.start(minimum.values)))
    spectrum = spectrum[spectrum.abs() > 1e-12]  # held units of an occluded image
    assert spectrum.real.max() < -0.05
    away = tuple(group + 0.1 * normal(*group.shape, seed=3) for group in minimum.values)
    begin = (*away, *(torch.zeros_like(xi) for xi in view.split(view.start(away))[1]))
    step_size = float((-spectrum.real / spectrum.abs().square()).min())  # half of what is stable
    rest = solve(view, begin, Euler(step_size), atol=1e-10, max_steps=3000, check_every=20)
    assert rest.converged.all()
    values, errors = view.split(rest.values)
    assert apart(values, minimum.values) < 1e-8
    expected = [-signal for p, signal in zip(problem.structure.predictions, minimum.point.signals)]
    assert apart(errors, tuple(expected)) < 1e-8


@each_problem
def test_a_minimum_is_at_rest(make) -> None:
    problem = make()
    minimum = solve(problem, values_of(problem), NewtonCG(), atol=1e-12, max_steps=200)
    assert minimum.converged.all()
    view = RecurrentView(problem, 0.7)
    assert apart(view.at(view.start(minimum.values)).residual, tuple(torch.zeros(()) for _ in view.names)) < 1e-11


@pytest.mark.parametrize("tau", [1e-3, 0.1, 1.0, 100.0])
def test_a_linear_network_comes_to_rest_at_every_time_constant(tau: float) -> None:
    problem = linear((3, 5, 4, 5, 2))
    view = RecurrentView(problem, tau)
    A = view.connectivity(view.start(values_of(problem)))
    assert (torch.linalg.eigvals(A).real < 0).all()
    # 1/2 |x|^2 + tau/2 |xi|^2 falls at the rate xi^T Pi^-1 xi: the symmetric part of diag(1, tau) A is -diag(0, Pi^-1).
    units = sum(problem.widths)
    weighted = torch.tensor([1.0] * units + [tau] * (A.shape[-1] - units), dtype=torch.float64).unsqueeze(-1) * A
    leaks = torch.cat([1 / p.energy.precision.detach() for p in problem.structure.predictions])
    expected = -torch.cat([torch.zeros(units).double(), leaks]).diag()
    torch.testing.assert_close((weighted + weighted.mT) / 2, expected.expand_as(A), rtol=0, atol=1e-13)


def test_slow_error_units_make_a_minimum_oscillate_exactly_where_the_theory_says() -> None:
    """A unit x with prior curvature c = .9 sends tanh(x) to y = -1 and rests at .7: k = 2 a (1 - a^2) xi, xi = y - a.

    F is least there, c + k + (1 - a^2)^2 > 0, but c + k < 0: stable below tau = 1 / |c + k| = 3.02 and not beyond.
    """
    a, c = np.tanh(0.7), 0.9
    slope, xi = 1 - a**2, -1 - a
    k = 2 * a * slope * xi
    assert c + k < 0 < c + k + slope**2
    prior = GaussianPrior(c, 0.7 - slope * xi / c)
    layer = Dense(1, 1, Tanh(), bias=False)
    predictions = [Prediction("y", [("x", layer)], Gaussian(1))]
    network = PCGraph([Node("y", 1), Node("x", 1, prior)], predictions, inputs="y", outputs="x").double()
    torch.nn.init.ones_(layer.weight)
    problem = network.problem(network.clamp({"y": torch.tensor([[-1.0]])}))
    rest = (torch.tensor([[0.7]], dtype=torch.float64),)
    assert apart(problem.at(rest).residual, (torch.zeros(()),)) < 1e-15
    critical = -1 / (c + k)
    for tau, stable in ((0.95 * critical, True), (1.05 * critical, False)):
        view = RecurrentView(problem, tau)
        state = view.start(rest)
        growth = torch.linalg.eigvals(view.connectivity(state)).real.max()
        assert float(growth) == pytest.approx(-(c + k + 1 / tau) / 2, abs=1e-12)  # half the trace of an oscillation
        assert (growth < 0) == stable
        trace = solve(view, (rest[0] + 0.01, state[1]), Heun(0.2), atol=0, max_steps=600, record=(0, 600)).trace
        distances = [torch.cat(trace[n], -1).sub(torch.cat(state, -1)).norm().item() for n in (0, 600)]
        assert (distances[1] < distances[0]) == stable


# --- time courses -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_time_course_of_a_linear_network_is_the_exponential_of_its_connectivity() -> None:
    problem = linear()
    view = RecurrentView(problem, 0.4)
    start = view.start(values_of(problem))
    rest = view.start(solve(problem, values_of(problem), GaussNewton(), atol=1e-13).values)
    A, away, still = view.connectivity(start), torch.cat(start, -1) - torch.cat(rest, -1), torch.cat(rest, -1)
    torch.testing.assert_close(A, view.connectivity(rest), rtol=0, atol=1e-14)  # the same everywhere

    def exact(time: float) -> Tensor:
        return still + (torch.matrix_exp(A * time) @ away.unsqueeze(-1)).squeeze(-1)

    def reached(steps: int) -> Tensor:
        return torch.cat(solve(view, start, Heun(2.0 / steps), atol=0, max_steps=steps).values, -1)

    errors = [float((reached(steps) - exact(2.0)).abs().max()) for steps in (200, 400, 800)]
    assert errors[-1] < 1e-5
    for coarse, fine in itertools.pairwise(errors):
        assert np.log2(coarse / fine) == pytest.approx(2, abs=0.05)
    euler = torch.linalg.matrix_power(torch.eye(A.shape[-1]).double() + 0.05 * A, 40) @ away.unsqueeze(-1)
    found = torch.cat(solve(view, start, Euler(0.05), atol=0, max_steps=40).values, -1)
    torch.testing.assert_close(found, still + euler.squeeze(-1), rtol=0, atol=1e-12)


def test_connectivity_has_the_blocks_of_the_equations() -> None:
    """Values hear -1 from their own error units and W^T from those of what they predict; error units the transposes over tau."""
    problem = linear()
    tau = 0.4
    view = RecurrentView(problem, tau)
    W = problem.structure.predictions[1].layers[0].weight.detach()
    pi1, pi2 = (p.energy.precision.detach() for p in problem.structure.predictions)
    zero, one = torch.zeros(5, 5).double(), torch.eye(5).double()
    expected = torch.cat(
        [
            torch.cat([zero, -one, W.T], 1),
            torch.cat([one, -torch.diag(1 / pi1), torch.zeros(5, 3).double()], 1) / tau,
            torch.cat([-W, torch.zeros(3, 5).double(), -torch.diag(1 / pi2)], 1) / tau,
        ]
    )
    assert view.names == ("1", "1 from 0", "2 from 1")
    assert view.widths == (5, 5, 3)
    found = view.connectivity(view.start(values_of(problem)))
    torch.testing.assert_close(found, expected.expand(2, -1, -1), rtol=0, atol=1e-14)


def test_error_units_leak_by_the_inverse_of_their_weighted_precision() -> None:
    """-(w Pi)^-1 / tau on the diagonal; -1 / tau where an energy has no precision."""
    for make, tau in ((both_ways, 0.7), (classifying, 0.3)):
        problem = make()
        view = RecurrentView(problem, tau)
        diagonal = view.connectivity(view.start(values_of(problem)))[0].diagonal()[sum(problem.widths) :]
        leaks = [
            1 / (p.weight * p.energy.precision.detach()) if make is both_ways else torch.ones(width).double()
            for p, width in zip(view.predictions, view.widths[len(problem.names) :], strict=True)
        ]
        torch.testing.assert_close(diagonal, -torch.cat(leaks) / tau, rtol=1e-14, atol=0)


@pytest.mark.parametrize("make", [both_ways, classifying])
@torch.no_grad()
def test_the_time_course_nears_gradient_descent_in_proportion_to_the_time_constant(make) -> None:
    """Both flows by an implicit Runge-Kutta method; the distance at time 1 halves with tau."""
    problem = make().rows(torch.tensor([0]))
    start = values_of(problem)

    def flow(tau: float) -> np.ndarray:
        view = RecurrentView(problem, tau)
        begin = view.start(start) if tau else start
        widths = [group.shape[-1] for group in begin]

        def velocity(_: float, flat: np.ndarray) -> np.ndarray:
            state = torch.from_numpy(flat).unsqueeze(0).split(widths, -1)
            return -torch.cat((view if tau else problem).at(state).residual, -1).flatten().numpy()

        def jacobian(_: float, flat: np.ndarray) -> np.ndarray:
            return view.connectivity(torch.from_numpy(flat).unsqueeze(0).split(widths, -1))[0].numpy()

        flat = torch.cat(begin, -1).flatten().numpy()
        end = solve_ivp(velocity, (0, 1), flat, "Radau", jac=jacobian if tau else None, rtol=1e-9, atol=1e-10)
        return end.y[: sum(problem.widths), -1]

    descent = flow(0)
    distances = [np.abs(flow(tau) - descent).max() for tau in (4e-3, 2e-3, 1e-3)]
    for coarse, fine in itertools.pairwise(distances):
        assert np.log2(coarse / fine) == pytest.approx(1, abs=0.03)


# --- derivatives, rows, refusals ----------------------------------------------------------------------------------------


@each_problem
@each_time_constant
def test_jacobian_products_are_derivatives_of_the_residual(make, tau: float) -> None:
    problem = make()
    view = RecurrentView(problem, tau)
    state = view.start(values_of(problem))
    state = tuple(
        group + (0.1 * normal(*group.shape, seed=4) if k >= len(problem.names) else 0) for k, group in enumerate(state)
    )
    direction = tuple(normal(*group.shape, seed=20 + k) for k, group in enumerate(state))
    h = 1e-6
    ahead, behind = (view.at(tuple(g + s * h * d for g, d in zip(state, direction))).residual for s in (1, -1))
    expected = tuple((a - b) / (2 * h) for a, b in zip(ahead, behind))
    assert apart(view.jacobian_product(view.at(state), direction), expected) < 1e-8


def test_with_instant_errors_the_jacobian_is_the_hessian_of_the_energy() -> None:
    problem = both_ways()
    view, values = RecurrentView(problem), values_of(problem)
    direction = tuple(normal(*group.shape, seed=20 + k) for k, group in enumerate(view.start(values)))
    product = view.jacobian_product(view.at(view.start(values)), direction)
    expected = problem.hessian_product(problem.at(values), view.split(direction)[0])
    assert apart(view.split(product)[0], expected) < 1e-13


@each_problem
@each_time_constant
def test_rows_are_independent(make, tau: float) -> None:
    problem = make()
    view, index = RecurrentView(problem, tau), torch.tensor([1, 0])
    state = view.start(values_of(problem))
    some = view.rows(index).at(tuple(group[index] for group in state))
    assert apart(some.residual, tuple(group[index] for group in view.at(state).residual)) < 1e-14


def test_a_prediction_without_weight_has_no_error_units() -> None:
    nodes = [Node("0", 2), Node("1", 2), Node("2", 2)]
    predictions = [
        Prediction("1", [("0", Dense(2, 2))], Gaussian(2)),
        Prediction("2", [("1", Dense(2, 2))], Gaussian(2)),
        Prediction("0", [("1", Dense(2, 2))], Gaussian(2), 0.0),
    ]
    network = filled(PCGraph(nodes, predictions, inputs="0", outputs="2"))
    problem = network.problem(network.clamp({"0": normal(1, 2), "2": normal(1, 2)}))
    view = RecurrentView(problem, 1.0)
    assert view.names == ("1", "1 from 0", "2 from 1")
    assert apart(view.at(view.start(values_of(problem))).residual[:1], problem.at(values_of(problem)).residual) < 1e-14


@pytest.mark.parametrize("tau", [-0.1, float("nan"), float("inf")])
def test_a_time_constant_out_of_range_is_refused(tau: float) -> None:
    with pytest.raises(ValueError, match=f"error_time_constant must be a finite number >= 0, got {tau}"):
        RecurrentView(linear(), tau)


class Quartic(AutogradEnergy):
    """No function of the error that anybody promised."""

    def forward(self, value: Tensor, prediction: Tensor) -> Tensor:
        return (value - prediction).pow(4).sum(-1)


@pytest.mark.parametrize("energy", [Quartic(), InputPrecision()], ids=lambda e: type(e).__name__)
def test_an_energy_that_no_error_unit_stands_for_is_refused_where_its_node_is_free(energy) -> None:
    width = energy.prediction_width(2)
    nodes = [Node("0", 3), Node("1", 2), Node("2", 2)]
    predictions = [
        Prediction("1", [("0", Dense(3, width))], energy),
        Prediction("2", [("1", Dense(2, 2))], Gaussian(2)),
    ]
    network = filled(PCGraph(nodes, predictions, inputs="0", outputs="2"))
    with pytest.raises(TypeError, match=f"no error unit can stand for the {type(energy).__name__} energy .* '1'"):
        RecurrentView(network.problem(network.clamp({"0": normal(1, 3), "2": normal(1, 2)})))


def test_instant_error_units_have_no_connections() -> None:
    problem = linear()
    view = RecurrentView(problem)
    with pytest.raises(ValueError, match="error_time_constant must be > 0"):
        view.connectivity(view.start(values_of(problem)))


def test_a_solver_that_needs_an_energy_is_refused() -> None:
    problem = linear()
    view = RecurrentView(problem, 1.0)
    with pytest.raises(TypeError, match="NewtonCG needs a CurvedProblem, got a RecurrentView"):
        solve(view, view.start(values_of(problem)), NewtonCG())
