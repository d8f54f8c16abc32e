"""Nudged, implicit and unrolled gradients of graph networks, against formulas written out, finite differences, each other."""

from collections.abc import Callable

import pytest
import torch
from learned_graphs import (
    EXACT,
    TIGHT,
    Written,
    bidirectional,
    discriminative,
    generative,
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
from torch.nn import functional

from pcnet.energies import (
    Categorical,
    Energy,
    Gaussian,
    GaussianPrior,
    InputPrecision,
    LaplacianPrior,
)
from pcnet.inference import Euler, Inference, Momentum
from pcnet.learning import (
    Example,
    Nudged,
    Side,
    Unrolled,
)
from pcnet.networks import GraphNetwork, HierarchicalPC, Identity, Standard

OUTPUTS = pytest.mark.parametrize(
    "output", [lambda: Gaussian(3, learned=True), Categorical], ids=["Gaussian", "Categorical"]
)


# --- Nudged --------------------------------------------------------------------------------------------------------------


@OUTPUTS
@pytest.mark.parametrize("side", list(Side))
def test_nudging_is_the_difference_written_out(output: Callable[[], Energy], side: Side) -> None:
    """Energies of two nudged equilibria, both found by Newton's method here, differentiated at fixed values."""
    beta = 0.1
    network = discriminative(output())
    example, written = labelled(network), Written.of(network)
    x, y = example.held["0"], one_hot(example)
    leaves = [t.requires_grad_() for t in written.parameters()]
    ends = []
    for sign in side.value:
        hidden = [h.detach() for h in written.relaxed(x, y, sign * beta)]
        energy = written.hidden_energy(x, hidden) + sign * beta * written.output_cost(hidden[-1], y)
        ends.append(torch.autograd.grad(energy.mean(), leaves, materialize_grads=True, allow_unused=True))
    distance = beta * (side.value[0] - side.value[1])
    parts = [(upper - lower) / distance for upper, lower in zip(*ends)]
    expected = named(network, [parts[0:3], parts[3:6], parts[6:9]])
    found = gradients(Nudged(beta, nudged=TIGHT, side=side), network, example)
    assert relative_difference(found, expected) < 1e-10
    free = written.output_cost(written.feedforward(x)[-2], y).mean()
    assert Nudged(beta, side=side).loss(network, example).item() == pytest.approx(free.item(), rel=1e-9)


@pytest.mark.parametrize(
    "make",
    [lambda: discriminative(Categorical()), bidirectional, lambda: skipping(Gaussian(2))],
    ids=["up", "both", "skip"],
)
def test_nudging_tends_to_the_gradient_at_the_equilibrium(make: Callable[[], GraphNetwork]) -> None:
    """As beta from one side and as beta squared centred, the errors of the two sides opposite; of a discriminative network
    that gradient is backpropagation's."""
    network = make()
    example = labelled(network)
    exact = gradients(EXACT, network, example)

    def errors(side: Side) -> list[float]:
        rules = (Nudged(beta, nudged=network.inference, side=side) for beta in (0.04, 0.02, 0.01))
        return [relative_difference(gradients(rule, network, example), exact) for rule in rules]

    centred = errors(Side.CENTRED)
    assert centred[-1] < 2e-3
    for side, order in ((Side.CENTRED, 4.0), (Side.POSITIVE, 2.0), (Side.NEGATIVE, 2.0)):
        found = errors(side)
        for coarse, fine in zip(found, found[1:]):
            assert coarse / fine == pytest.approx(order, rel=0.15), side


def test_a_strong_negative_nudge_has_no_equilibrium() -> None:
    """Squared error counted -3 times outweighs the hidden level's own: every row diverges, and the error says so."""
    network = made(HierarchicalPC([2, 2, 2], parameterisation=Standard(activation=Identity()), inference=TIGHT))
    rule = Nudged(30.0, nudged=Inference(Momentum(0.3, 0.5), max_steps=5000), side=Side.NEGATIVE)
    with pytest.raises(
        FloatingPointError, match=r"diverged in every row of the batch; lower the step size(.|\n)*row 0 diverged"
    ):
        rule.loss(network, Example({"0": normal(3, 2)}, {"2": normal(3, 2, seed=1)}))


# --- Implicit and Unrolled -----------------------------------------------------------------------------------------------


def labels_both_ways() -> GraphNetwork:
    """Bidirectional with a class on top."""
    energies = {2: Categorical()}
    return made(HierarchicalPC([4, 5, 3], 1.0, 0.5, energies=energies, priors={2: GaussianPrior(0.5)}, inference=TIGHT))


EQUILIBRIA = pytest.mark.parametrize(
    "make",
    [generative, bidirectional, skipping, labels_both_ways],
    ids=["generative", "both", "prior", "class both ways"],
)


def task_loss(network: GraphNetwork, example: Example) -> float:
    """At the free equilibrium, written out for the networks of this section."""
    clamped = network.clamp(dict(example.held))
    problem = network.problem(clamped)
    nodes = problem.nodes(network.infer(clamped).values)
    ((name, target),) = example.targets.items()
    said = [p for p in network.predictions if p.target == name]
    if not said:
        return 0.5 * (target - nodes[name]).square().sum(-1).mean().item()
    mu = sum(layer(nodes[source]) for source, layer in zip(said[0].sources, said[0].layers))
    if isinstance(said[0].energy, Categorical):
        return functional.cross_entropy(mu, target).item()
    if isinstance(said[0].energy, InputPrecision):
        mean, s = mu.chunk(2, -1)
        return 0.5 * (s.exp() * (target - mean) ** 2 - s).sum(-1).mean().item()
    return 0.5 * (target - mu).square().sum(-1).mean().item()


@EQUILIBRIA
def test_implicit_is_the_derivative_by_finite_differences(make: Callable[[], GraphNetwork]) -> None:
    network = make()
    example = labelled(network)
    assert EXACT.loss(network, example).item() == pytest.approx(task_loss(network, example), rel=1e-10)
    for by_rule, by_differences in slopes(
        network, gradients(EXACT, network, example), lambda: task_loss(network, example)
    ):
        assert by_rule == pytest.approx(by_differences, rel=1e-6, abs=1e-7)


@EQUILIBRIA
def test_implicit_is_long_unrolling(make: Callable[[], GraphNetwork]) -> None:
    network = make()
    example = labelled(network)
    exact = gradients(EXACT, network, example)
    unrolled = gradients(Unrolled(steps=400, solver=Momentum(0.05, 0.8)), network, example)
    assert relative_difference(exact, {name: unrolled[name] for name in exact}) < 1e-7
    few = gradients(Unrolled(steps=2, solver=Euler(0.1)), network, example)
    assert relative_difference(exact, {name: few[name] for name in exact}) > 0.02, "a few steps are not enough"


def test_implicit_with_values_that_a_kink_holds_at_zero() -> None:
    """Sparse causes: units at zero stay there under a small change of the weights, and the gradient knows."""
    network = generative(LaplacianPrior(0.4), inference=Inference(Momentum(0.15, 0.7), atol=1e-11, max_steps=2000))
    example = Example({"0": normal(2, 4, seed=1)}, {"2": normal(2, 3, seed=2)})
    values = network.infer(network.clamp(dict(example.held))).values[1]
    zero = (values == 0).double().mean()
    assert 0.1 < zero < 0.9
    found = gradients(EXACT, network, example)
    for by_rule, by_differences in slopes(network, found, lambda: task_loss(network, example), step=1e-6, directions=1):
        assert by_rule == pytest.approx(by_differences, rel=1e-5)
