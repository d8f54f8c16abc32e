"""Backpropagation of a graph network is torch's own, and so are the schedules of predictive coding that equal it."""

from collections.abc import Callable

import pytest
import torch
from learned_graphs import (
    EXACT,
    ROWS,
    TIGHT,
    Written,
    discriminative,
    gradients,
    labelled,
    made,
    one_hot,
    relative_difference,
)
from torch import nn
from torch.nn import functional

from pcnet.energies import (
    Bernoulli,
    Categorical,
    Energy,
    Gaussian,
)
from pcnet.inference import ErrorProblem
from pcnet.learning import (
    Backprop,
    FixedPrediction,
    Local,
    Unrolled,
    ZeroDivergence,
)
from pcnet.networks import (
    Dense,
    GraphNetwork,
    HierarchicalPC,
    Identity,
    Node,
    PCGraph,
    Prediction,
    ReLU,
    Softplus,
    Standard,
    Tanh,
)

OUTPUTS = pytest.mark.parametrize(
    "output", [lambda: Gaussian(3, learned=True), Categorical], ids=["Gaussian", "Categorical"]
)


# --- Backprop and the rules that equal it --------------------------------------------------------------------------------


def plain(network: GraphNetwork) -> nn.Sequential:
    """The same feedforward network by torch."""
    functions = {Tanh(): nn.Tanh, ReLU(): nn.ReLU, Softplus(): nn.Softplus, Identity(): nn.Identity}
    parts = []
    for p in network.predictions:
        layer = p.layers[0]
        linear = nn.Linear(layer.weight.shape[1], layer.weight.shape[0]).double()
        with torch.no_grad():
            linear.weight.copy_(layer.weight)
            linear.bias.copy_(layer.bias)
        parts += [linear, functions[layer.activation]()]
    return nn.Sequential(*parts)


MLPS = [
    pytest.param((4, 5, 3), Tanh(), Categorical, id="tanh 1 categorical"),
    pytest.param((4, 5, 6, 3), Tanh(), lambda: Gaussian(3), id="tanh 2 Gaussian"),
    pytest.param((3, 7, 5, 6, 4, 2), Tanh(), Categorical, id="tanh 4 categorical"),
    pytest.param((4, 6, 5, 3), ReLU(), lambda: Gaussian(3), id="ReLU 2 Gaussian"),
    pytest.param((4, 6, 5, 5, 3), Softplus(), Bernoulli, id="softplus 3 Bernoulli"),
]


@pytest.mark.parametrize(("widths", "activation", "output"), MLPS)
@pytest.mark.parametrize("seed", [0, 1])
def test_backprop_and_its_equivalents_are_torchs_own(widths, activation, output, seed: int) -> None:
    """Z-IL and fixed predictions give the gradient that torch gives for the same network, to rounding; so does the implicit
    gradient, where inference has nothing to do."""
    top = len(widths) - 1
    network = made(
        HierarchicalPC(
            widths, parameterisation=Standard(activation=activation), energies={top: output()}, inference=TIGHT
        ),
        seed,
    )
    example = labelled(network, seed + 5)
    (x,), (y,) = example.held.values(), example.targets.values()
    model = plain(network)
    say = model(x)
    if isinstance(network.predictions[-1].energy, Categorical):
        loss = functional.cross_entropy(say, y)
    elif isinstance(network.predictions[-1].energy, Bernoulli):
        loss = functional.binary_cross_entropy_with_logits(say, y, reduction="sum") / ROWS
    else:
        loss = 0.5 * (say - y).square().sum(-1).mean()
    loss.backward()
    expected = {}
    for k, linear in enumerate(part for part in model if isinstance(part, nn.Linear)):
        expected |= {
            f"predictions.{k}.layers.0.weight": linear.weight.grad,
            f"predictions.{k}.layers.0.bias": linear.bias.grad,
        }
    rules = (
        Backprop(),
        ZeroDivergence(),
        FixedPrediction(1.0, top - 1 or 1),
        FixedPrediction(0.5, 100),
        EXACT,
        Unrolled(0),
    )
    for rule in rules:
        assert relative_difference(gradients(rule, network, example), expected) < 1e-12, rule
        assert rule.loss(network, example).item() == pytest.approx(loss.item(), rel=1e-12)


def test_fixed_predictions_converge_at_their_rate() -> None:
    """An error that has arrived is left over as (1 - step_size)^steps: one hidden level, of which nothing remains to come."""
    network = made(HierarchicalPC([4, 5, 3], inference=TIGHT))
    example = labelled(network)
    exact = gradients(Backprop(), network, example)
    for step_size, steps in ((0.5, 1), (0.5, 4), (0.2, 7)):
        found = gradients(FixedPrediction(step_size, steps), network, example)
        remaining = (1 - step_size) ** steps
        for name in ("predictions.0.layers.0.weight", "predictions.0.layers.0.bias"):
            torch.testing.assert_close(found[name], (1 - remaining) * exact[name], rtol=0, atol=1e-13)
        torch.testing.assert_close(
            found["predictions.1.layers.0.weight"], exact["predictions.1.layers.0.weight"], rtol=0, atol=1e-13
        )


def test_fixed_predictions_on_a_graph_with_skip_connections() -> None:
    """Arbitrary acyclic graphs (Millidge et al. 2020), where Z-IL's schedule does not fit."""
    tied = Dense(4, 4, Tanh())
    nodes = [Node("x", 4), Node("a", 4), Node("b", 4), Node("y", 2)]
    predictions = [
        Prediction("a", [("x", tied)], Gaussian(4)),
        Prediction("b", [("a", tied), ("x", Dense(4, 4))], Gaussian(4)),
        Prediction("y", [("b", Dense(4, 2)), ("a", Dense(4, 2, Tanh()))], Categorical()),
    ]
    network = made(PCGraph(nodes, predictions, inputs="x", outputs="y"))
    example = labelled(network)
    exact = gradients(Backprop(), network, example)
    assert relative_difference(gradients(FixedPrediction(0.5, 100), network, example), exact) < 1e-12
    with pytest.raises(ValueError, match="ZeroDivergence needs a chain"):
        ZeroDivergence().loss(network, example)


def test_local_learning_is_none_of_them() -> None:
    """So that the tests above can fail: at the equilibrium the update is another one."""
    network = discriminative(energies={3: Categorical()})
    example = labelled(network)
    assert relative_difference(gradients(Local(), network, example), gradients(Backprop(), network, example)) > 0.1


@OUTPUTS
def test_the_first_step_in_errors_is_backprops_gradient_of_the_activations(output: Callable[[], Energy]) -> None:
    network = discriminative(output(), energies={3: output()})
    example, written = labelled(network), Written.of(network)
    problem = network.problem(example.whole(network))
    assert isinstance(problem, ErrorProblem)
    zero = tuple(torch.zeros(ROWS, width, dtype=torch.float64) for width in (5, 6))
    point = problem.at_errors(zero)
    found = problem.pull_back(point, point.residual)
    first = torch.tanh(example.held["0"] @ written.weights[0].T + written.biases[0]).requires_grad_()
    second = torch.tanh(first @ written.weights[1].T + written.biases[1])
    second.retain_grad()
    written.output_cost(second, one_hot(example)).sum().backward()
    torch.testing.assert_close(found[0], first.grad, rtol=0, atol=1e-13)
    torch.testing.assert_close(found[1], second.grad, rtol=0, atol=1e-13)
