"""Diagnostics: tables against energies, Hessians and gradients written out, verdicts on runs whose regime is known."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian

from pcnet.diagnostics import (
    InferenceIsTrivial,
    Regime,
    conditioning,
    course,
    diagnose,
    inference_is_trivial,
    standing,
    warn_if_trivial,
)
from pcnet.energies import Categorical, Gaussian, GaussianPrior, KurtoticPrior
from pcnet.inference import Euler, FixedSteps, GaussNewton, InErrors, Inference, Momentum, RandomValues, Solution
from pcnet.learning import Backprop, Example, Local
from pcnet.networks import (
    Clamped,
    Dense,
    GraphNetwork,
    HierarchicalPC,
    Identity,
    Node,
    PCGraph,
    Prediction,
    Standard,
    convolution,
    hierarchy,
)

WIDTHS = (4, 5, 6, 3)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def filled(network: GraphNetwork, gain: float = 0.9) -> GraphNetwork:
    """In float64, with random weights, biases and learned precisions."""
    network = network.double()
    with torch.no_grad():
        for seed, p in enumerate(q for q in network.parameters() if q.requires_grad):
            p.copy_(normal(*p.shape, seed=seed, scale=gain / p.shape[1] ** 0.5 if p.dim() > 1 else 0.4))
    return network


def chain(*widths: int, weights: list[Tensor]) -> GraphNetwork:
    """A linear discriminative chain of unit precision with these weights."""
    network = HierarchicalPC(widths, parameterisation=Standard(activation=Identity(), bias=False)).double()
    for p, weight in zip(network.predictions, weights, strict=True):
        p.layers[0].weight.data = weight
    return network


def scalar_chain(depth: int) -> GraphNetwork:
    return chain(*[1] * (depth + 1), weights=[torch.ones(1, 1, dtype=torch.float64)] * depth)


def by_hand() -> tuple[GraphNetwork, Clamped]:
    """x = 1, W = (2, 3), y = 1: the hidden value starts at 2 with F = 12.5 and ends at .5 with F = 1.25."""
    one = torch.ones(1, 1, dtype=torch.float64)
    network = chain(1, 1, 1, weights=[2 * one, 3 * one])
    return network, network.clamp({"0": one, "2": one})


def precise() -> tuple[GraphNetwork, Clamped]:
    """tanh, two hidden levels, learned precisions, four rows."""
    energies = {level: Gaussian(width, learned=True) for level, width in enumerate(WIDTHS)}
    network = filled(HierarchicalPC(WIDTHS, energies=energies))
    return network, network.clamp({"0": normal(4, 4, seed=50), "3": 2 * normal(4, 3, seed=51)})


def classifier(*widths: int) -> tuple[GraphNetwork, Clamped]:
    network = filled(HierarchicalPC(widths, energies={len(widths) - 1: Categorical()}))
    labels = torch.arange(8) % widths[-1]
    return network, network.clamp({"0": normal(8, widths[0], seed=50), str(len(widths) - 1): labels})


def weights_of(network: GraphNetwork) -> list[tuple[Tensor, Tensor, Tensor]]:
    """W, b and Pi of every prediction, detached."""
    return [
        (p.layers[0].weight.detach(), p.layers[0].bias.detach(), p.energy.precision.detach())
        for p in network.predictions
    ]


# --- the course of an inference --------------------------------------------------------------------------------------


def test_the_course_of_the_hand_case() -> None:
    """Euler(.05) from 2: dF/dz = (z - 2) - 3 (1 - 3z) = 15, so z = 1.25 with errors -.75 and -2.75 and F = 4.0625."""
    network, clamped = by_hand()
    solution = network.infer(clamped, Inference(Euler(0.05), atol=1e-12, max_steps=500), record=(0, 1))
    found = course(network.problem(clamped), solution.trace | {500: solution.values})
    expected = {
        (0, "1"): (0.0, 0.0, 15.0),
        (0, "2"): (12.5, 5.0, math.nan),
        (1, "1"): (0.5 * 0.75**2, 0.75, 7.5),
        (1, "2"): (0.5 * 2.75**2, 2.75, math.nan),
        (500, "1"): (0.5 * 1.5**2, 1.5, 0.0),
        (500, "2"): (0.5 * 0.5**2, 0.5, math.nan),
    }
    assert list(zip(found["iteration"], found["node"])) == list(expected)
    assert found["row"].tolist() == [0] * 6
    np.testing.assert_allclose(found[["energy", "error", "residual"]], list(expected.values()), atol=1e-11)


def test_energies_and_errors_per_node_against_the_formula_row_by_row() -> None:
    network, clamped = precise()
    values = (normal(4, 5, seed=60), normal(4, 6, seed=61))
    found = course(network.problem(clamped), {7: values}).set_index(["node", "row"])
    levels = [clamped.values["0"], *values, clamped.values["3"]]
    for level, (W, b, pi) in enumerate(weights_of(network), 1):
        drive = levels[level - 1] @ W.T + b
        eps = levels[level] - (drive if level == 3 else drive.tanh())
        energy = 0.5 * (pi * eps**2 - pi.log()).sum(-1)
        np.testing.assert_allclose(found.loc[str(level), "energy"], energy.numpy(), atol=1e-13)
        np.testing.assert_allclose(found.loc[str(level), "error"], eps.square().mean(-1).sqrt().numpy(), atol=1e-13)
    assert found["residual"].loc["3"].isna().all()
    assert "0" not in found.index.get_level_values("node")  # nothing predicts what is held there


def test_energies_of_all_nodes_add_up_to_f_and_residuals_are_its_gradient() -> None:
    """Two predictions of one node, priors and occlusion; the gradient by autograd of F at values that ask for one."""
    network = filled(HierarchicalPC(WIDTHS[:3], upward=0.6, downward=0.3, priors={2: KurtoticPrior(0.5)}))
    clamped = network.clamp({"0": normal(4, 4)}, {"0": torch.tensor([True, True, False, True])})
    problem = network.problem(clamped)
    free = tuple(normal(4, width, seed=70 + k).requires_grad_() for k, width in enumerate(problem.widths))
    energy = problem.at(free).energy
    gradients = torch.autograd.grad(energy.sum(), free)
    found = course(problem, {0: tuple(group.detach() for group in free)})
    np.testing.assert_allclose(found.groupby("row")["energy"].sum(), energy.detach().numpy(), rtol=1e-13)
    for name, gradient in zip(problem.names, gradients):
        rms = gradient.square().mean(-1).sqrt().numpy()
        np.testing.assert_allclose(found.loc[found["node"] == name, "residual"], rms, rtol=1e-12)


def test_a_level_that_no_signal_has_reached_shows_in_the_course() -> None:
    """In a chain of five, Euler moves the error of level 4 in step 1, of level 3 in step 2, and so on down."""
    network = filled(HierarchicalPC([3] * 6))
    clamped = network.clamp({"0": normal(2, 3), "5": normal(2, 3, seed=1)})
    solution = network.infer(clamped, FixedSteps(0.1, 4), record=(0, 1, 2, 3, 4))
    found = course(network.problem(clamped), solution.trace)
    found = found[found["row"] == 0].pivot(index="iteration", columns="node", values="error")
    for iteration in range(5):
        reached = [found.loc[iteration, str(level)] > 1e-12 for level in (4, 3, 2, 1)]
        assert reached == [iteration >= delay for delay in (1, 2, 3, 4)]


def test_a_course_needs_a_record() -> None:
    network, clamped = by_hand()
    with pytest.raises(ValueError, match="trace is empty; record iterations"):
        course(network.problem(clamped), network.infer(clamped).trace)


# --- conditioning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [4, 8, 16, 32])
def test_condition_numbers_of_a_chain_of_ones_in_closed_form(depth: int) -> None:
    """In values tridiag(-1, 2, -1): 2 - 2 cos(k pi / L), so cot^2(pi / 2L), which grows as depth squared; in errors
    1 + 11^T, so L.
    """
    network = scalar_chain(depth)
    clamped = network.clamp({"0": normal(1, 1), str(depth): normal(1, 1, seed=1)})
    found = conditioning(network.problem(clamped), network.initial_values(clamped)).set_index("coordinates")
    angle = math.pi / depth
    expected = {
        "values": (2 - 2 * math.cos(angle), 2 + 2 * math.cos(angle), math.tan(angle / 2) ** -2),
        "errors": (1, depth, depth),
    }
    for coordinates, numbers in expected.items():
        np.testing.assert_allclose(found.loc[coordinates, ["smallest", "largest", "condition"]].astype(float), numbers)


def test_in_errors_a_linear_network_has_the_spectrum_of_one_plus_j_transposed_j() -> None:
    """S = I + sum P P^T has the same eigenvalues but for ones."""
    widths = (3, 6, 5, 7, 4)
    weights = [normal(b, a, seed=a + b, scale=1.1 * a**-0.5) for a, b in zip(widths, widths[1:])]
    network = chain(*widths, weights=weights)
    clamped = network.clamp({"0": normal(1, 3), "4": normal(1, 4)})
    found = conditioning(network.problem(clamped), network.initial_values(clamped)).set_index("coordinates")
    W2, W3, W4 = (W.numpy() for W in weights[1:])
    J = np.concatenate([W4 @ W3 @ W2, W4 @ W3, W4], 1)
    in_errors = np.eye(18) + J.T @ J
    assert found.loc["errors", "largest"] == pytest.approx(np.linalg.eigvalsh(in_errors)[-1], rel=1e-12)
    assert found.loc["errors", "condition"] == pytest.approx(np.linalg.eigvalsh(np.eye(4) + J @ J.T)[-1], rel=1e-12)
    back = np.eye(18)  # from values to errors
    back[6:11, :6], back[11:, 6:11] = -W2, -W3
    in_values = np.linalg.eigvalsh(back.T @ in_errors @ back)
    assert found.loc["values", "smallest"] == pytest.approx(in_values[0], rel=1e-9)
    assert found.loc["values", "largest"] == pytest.approx(in_values[-1], rel=1e-12)


def test_curvatures_are_eigenvalues_of_dense_hessians_of_the_energy_written_out() -> None:
    """In values and in errors, at the equilibrium, every row on its own."""
    network, clamped = precise()
    values = network.infer(clamped, Inference(GaussNewton(), atol=1e-12, max_steps=200)).values
    parts = weights_of(network)

    def in_errors(errors: Tensor, x: Tensor, y: Tensor) -> Tensor:
        (W1, b1, pi1), (W2, b2, pi2), (W3, b3, pi3) = parts
        first, second = errors[:5], errors[5:]
        z1 = (W1 @ x + b1).tanh() + first
        z2 = (W2 @ z1 + b2).tanh() + second
        last = y - W3 @ z2 - b3
        return 0.5 * ((pi1 * first**2).sum() + (pi2 * second**2).sum() + (pi3 * last**2).sum())

    def in_values(z: Tensor, x: Tensor, y: Tensor) -> Tensor:
        (W1, b1, _), (W2, b2, _), _ = parts
        errors = z[:5] - (W1 @ x + b1).tanh(), z[5:] - (W2 @ z[:5] + b2).tanh()
        return in_errors(torch.cat(errors), x, y)

    found = conditioning(network.problem(clamped), values).set_index(["coordinates", "row"])
    errors = torch.cat(network.problem(clamped).errors(values), -1).detach()
    for row in range(4):
        x, y = clamped.values["0"][row], clamped.values["3"][row]
        for kind, energy, at in (("values", in_values, torch.cat(values, -1)), ("errors", in_errors, errors)):
            spectrum = np.linalg.eigvalsh(hessian(lambda v, energy=energy, x=x, y=y: energy(v, x, y), at[row]).numpy())
            line = found.loc[kind, row]
            assert line["smallest"] == pytest.approx(spectrum[0], rel=1e-9)
            assert line["largest"] == pytest.approx(spectrum[-1], rel=1e-9)
            assert line["condition"] == pytest.approx(spectrum[-1] / spectrum[0], rel=1e-9)
            assert max(line["smallest_error"], line["largest_error"]) < 1e-9


def test_held_units_of_an_occluded_image_have_no_curvature() -> None:
    """x_0 = W z + eps: the hidden half of the image adds precision 1 a unit; held units add nothing but what they say of z."""
    W = normal(4, 2, seed=3)
    layer = Dense(2, 4, bias=False)
    nodes = [Node("image", 4), Node("cause", 2, GaussianPrior(0.5))]
    network = PCGraph(nodes, [Prediction("image", [("cause", layer)], Gaussian(4))], inputs="image", outputs="cause")
    network = network.double()
    layer.weight.data = W
    observed = torch.tensor([True, False, True, False])
    clamped = network.clamp({"image": normal(1, 4)}, {"image": observed})
    found = conditioning(network.problem(clamped), network.initial_values(clamped)).set_index("coordinates")
    hidden = torch.cat([torch.eye(2).double(), -W[~observed]], 1)
    seen = torch.cat([torch.zeros(2, 2).double(), W[observed]], 1)
    H = hidden.T @ hidden + seen.T @ seen + torch.diag(torch.tensor([0, 0, 0.5, 0.5], dtype=torch.float64))
    spectrum = np.linalg.eigvalsh(H.numpy())
    assert found.loc["values", "smallest"] == pytest.approx(spectrum[0], rel=1e-10)
    assert found.loc["values", "largest"] == pytest.approx(spectrum[-1], rel=1e-10)


def test_where_the_energy_is_not_convex_the_condition_number_is_infinite() -> None:
    """log(1 + x^2) bends down beyond 1: at 3, curvature 2 (1 - 9) / 100 = -.16 of strength 10, beside W^T W = 1."""
    layer = Dense(1, 1, bias=False)
    nodes = [Node("image", 1), Node("cause", 1, KurtoticPrior(10.0))]
    network = PCGraph(nodes, [Prediction("image", [("cause", layer)], Gaussian(1))], inputs="image", outputs="cause")
    network = network.double()
    torch.nn.init.ones_(layer.weight)
    problem = network.problem(network.clamp({"image": normal(1, 1)}))
    found = conditioning(problem, (torch.tensor([[3.0]], dtype=torch.float64),))
    np.testing.assert_allclose(found["smallest"], [1 - 1.6] * 2, rtol=1e-12)
    assert (found["condition"] == np.inf).all()


def test_curvature_of_a_graph_that_goes_round_in_circles() -> None:
    """a = V b + ..., b = U a: errors are B (a, b) with B = [1, -V; -U, 1], so the curvature in values is B^T B."""
    nodes = [Node("in", 2), Node("a", 2), Node("b", 2)]
    predictions = [
        Prediction("a", [("in", Dense(2, 2)), ("b", Dense(2, 2))], Gaussian(2)),
        Prediction("b", [("a", Dense(2, 2))], Gaussian(2)),
    ]
    network = filled(PCGraph(nodes, predictions, inputs="in", outputs="b"))
    problem = network.problem(network.clamp({"in": normal(1, 2)}))
    found = conditioning(problem, (normal(1, 2), normal(1, 2))).set_index("coordinates")
    V, U = (p.layers[-1].weight.detach().numpy() for p in network.predictions)
    B = np.block([[np.eye(2), -V], [-U, np.eye(2)]])
    assert found.loc["values", "largest"] == pytest.approx(np.linalg.eigvalsh(B.T @ B)[-1], rel=1e-12)


# --- regime -----------------------------------------------------------------------------------------------------------


def stood(network: GraphNetwork, clamped: Clamped, inference: Inference | FixedSteps):
    solution = network.infer(clamped, inference, record=(0,))
    return standing(network, clamped, solution.trace[0], solution)


def gradients(network: GraphNetwork, loss: Tensor) -> dict[str, Tensor]:
    weights = {name: p for name, p in network.named_parameters() if ".layers." in name and p.requires_grad}
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)))


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()))


def small_images() -> tuple[GraphNetwork, Clamped]:
    up = [convolution((1, 6, 6), 2, 3, activation=torch.nn.Tanh(), pool=2), Dense(8, 3)]
    network = filled(hierarchy([36, 8, 3], up, energies={2: Categorical()}))
    return network, network.clamp({"0": normal(8, 36, seed=50), "2": torch.arange(8) % 3})


@pytest.mark.parametrize(
    "make", [precise, lambda: classifier(4, 6, 5, 3), small_images], ids=["precise", "classes", "images"]
)
def test_cosines_compare_the_gradients_of_the_learning_rules(make) -> None:
    """`Local` where inference stopped and at equilibrium, and `Backprop` with the clamped output as target."""
    network, clamped = make()
    stop = Inference(Euler(0.2), atol=0, max_steps=7)
    found = stood(network, clamped, stop)
    example = Example({"0": clamped.values["0"]}, {network.outputs: clamped.values[network.outputs]})
    rules = Local(inference=stop), Backprop(), Local(inference=Inference(GaussNewton(), atol=1e-12, max_steps=500))
    local, backprop, settled = (gradients(network, rule.loss(network, example)) for rule in rules)
    table = found.gradients.set_index("parameter")
    assert list(table.index) == list(local)
    rows = clamped.batch_size
    for name, line in table.iterrows():
        assert line["norm"] == pytest.approx(float(local[name].norm()) * rows, rel=1e-10)
        assert line["backprop_norm"] == pytest.approx(float(backprop[name].norm()) * rows, rel=1e-10)
        assert line["equilibrium_norm"] == pytest.approx(float(settled[name].norm()) * rows, rel=1e-7)
        assert line["cosine_backprop"] == pytest.approx(cosine(local[name], backprop[name]), abs=1e-10)
        assert line["cosine_equilibrium"] == pytest.approx(cosine(local[name], settled[name]), abs=1e-7)
    assert found.cosine_backprop == pytest.approx(table["cosine_backprop"].mean())
    assert found.cosine_equilibrium == pytest.approx(table["cosine_equilibrium"].mean())
    assert found.rows == rows


def test_the_share_of_the_gap_closed_in_the_hand_case() -> None:
    """One step of .05 goes from F = 12.5 to 4.0625 on the way to 1.25: 8.4375 of 11.25."""
    network, clamped = by_hand()
    found = stood(network, clamped, FixedSteps(0.05, 1))
    assert found.gap_closed == pytest.approx(0.75, abs=1e-12)
    assert found.residual == pytest.approx(7.5, abs=1e-12)


def test_a_first_short_step_in_errors_is_backprop_like() -> None:
    """From zero errors it is -h times backpropagation's gradient: every tensor's direction up to a term in h."""
    network, clamped = classifier(6, 8, 8, 8, 4)
    away = []
    for step_size in (1e-2, 1e-3):
        found = stood(network, clamped, Inference(InErrors(Euler(step_size)), atol=0, max_steps=1))
        assert found.regime == Regime.BACKPROP
        away.append(1 - found.cosine_backprop)
    assert away[1] < 1e-6
    assert away[0] / away[1] == pytest.approx(100, rel=0.05)  # an angle in h, a cosine in h squared
    assert found.cosine_equilibrium < 0.99


def test_a_converged_run_is_at_equilibrium() -> None:
    network, clamped = classifier(6, 8, 8, 8, 4)
    found = stood(network, clamped, Inference(GaussNewton(), atol=1e-9, max_steps=200))
    assert found.regime == Regime.EQUILIBRIUM
    assert found.cosine_equilibrium == pytest.approx(1, abs=1e-12)
    assert found.gap_closed == pytest.approx(1, abs=1e-12)
    assert found.cosine_backprop < 0.99


def test_a_truncated_run_is_neither() -> None:
    """Two steps cannot reach the lowest of four levels: its gradient is zero, its cosines count as zero."""
    network, clamped = classifier(6, 8, 8, 8, 8, 4)
    found = stood(network, clamped, FixedSteps(0.1, 2))
    assert found.regime == Regime.UNDERWAY
    lowest = found.gradients.set_index("parameter").loc["predictions.0.layers.0.weight"]
    assert lowest[["norm", "cosine_backprop", "cosine_equilibrium"]].tolist() == [0, 0, 0]
    assert lowest["backprop_norm"] > 0.1


def test_with_one_output_and_a_small_error_both_are_alike() -> None:
    """F* = r^2 / 2S with a scalar S: the two gradients are parallel but for the change of the values, in proportion to r."""
    widths = (3, 4, 4, 1)
    weights = [normal(b, a, seed=a + b, scale=a**-0.5) for a, b in zip(widths, widths[1:])]
    network = chain(*widths, weights=weights)
    x = normal(5, 3)
    answer = network(x)
    found = stood(network, network.clamp({"0": x, "3": answer + 1e-3}), Inference(GaussNewton(), atol=1e-12))
    assert found.regime == Regime.BOTH
    assert found.cosine_backprop > 1 - 1e-4


def test_diverged_rows_are_left_out_and_a_diverged_run_is_called_so() -> None:
    network, clamped = classifier(4, 6, 5, 3)
    solution = network.infer(clamped, Inference(Euler(0.2), atol=0, max_steps=7), record=(0,))
    whole = standing(network, clamped, solution.trace[0], solution)
    values, status = tuple(group.clone() for group in solution.values), solution.status.clone()
    values[0][3], status[3] = torch.nan, 2
    numbers = solution.residual, solution.tolerance, solution.steps, status, solution.work
    broken = standing(network, clamped, solution.trace[0], Solution(values, solution.point, *numbers))
    assert (whole.rows, broken.rows) == (8, 7)
    assert whole.regime == broken.regime == Regime.UNDERWAY
    index = torch.tensor([0, 1, 2, 4, 5, 6, 7])
    rest = network.clamp({name: value[index] for name, value in clamped.values.items()})
    again = stood(network, rest, Inference(Euler(0.2), atol=0, max_steps=7))
    np.testing.assert_allclose(broken.gradients["norm"], again.gradients["norm"], rtol=1e-10)
    one, target = by_hand()
    found = diagnose(one, target, Inference(Euler(10.0), atol=0, max_steps=400))  # curvature 10: grows 99-fold a step
    assert found.standing.regime == Regime.DIVERGED
    assert str(found.standing) == "regime: diverged"


def test_an_equilibrium_that_the_reference_does_not_reach_is_unknown() -> None:
    network, clamped = classifier(4, 6, 5, 3)
    start = network.infer(clamped, Inference(Euler(0.1), max_steps=3), record=(0,))
    found = standing(network, clamped, start.trace[0], start, Inference(Euler(0.01), atol=1e-9, max_steps=1))
    assert found.regime == Regime.UNKNOWN
    assert found.rows == 0


def test_a_graph_that_goes_round_in_circles_has_no_backprop() -> None:
    nodes = [Node("in", 2), Node("a", 3), Node("b", 2)]
    predictions = [
        Prediction("a", [("in", Dense(2, 3)), ("b", Dense(2, 3))], Gaussian(3)),
        Prediction("b", [("a", Dense(3, 2))], Gaussian(2)),
        Prediction("in", [("a", Dense(3, 2))], Gaussian(2)),
    ]
    network = filled(PCGraph(nodes, predictions, inputs="in", outputs="b"), gain=0.4)
    found = stood(network, network.clamp({"in": normal(3, 2)}), Inference(Momentum(), atol=1e-10, max_steps=2000))
    assert found.regime == Regime.EQUILIBRIUM
    assert math.isnan(found.cosine_backprop)


# --- trivial inference ------------------------------------------------------------------------------------------------


def discriminative(**settings) -> GraphNetwork:
    return filled(HierarchicalPC(WIDTHS, **settings))


IMAGE = {"0": normal(2, 4)}
TRIVIAL = {
    "output free": (discriminative, IMAGE),
    "class law free": (lambda: discriminative(energies={3: Categorical()}), IMAGE),
    "learned precision": (lambda: discriminative(energies={1: Gaussian(5, learned=True)}), IMAGE),
    "middle held": (discriminative, IMAGE | {"1": normal(2, 5)}),
    "top of a generator": (lambda: discriminative(upward=0.0, downward=1.0), {"3": normal(2, 3)}),
}
NOT_TRIVIAL = {
    "target held": (discriminative, IMAGE | {"3": normal(2, 3)}),
    "generative": (lambda: discriminative(upward=0.0, downward=1.0), IMAGE),
    "both ways": (lambda: discriminative(downward=1.0), IMAGE),
    "prior": (lambda: discriminative(priors={2: GaussianPrior(1.0)}), IMAGE),
    "everything held": (lambda: filled(HierarchicalPC((4, 3))), IMAGE | {"1": normal(2, 3)}),
}


@pytest.mark.parametrize("case", TRIVIAL)
def test_inference_is_trivial_where_every_error_can_be_zero(case: str) -> None:
    """Then relaxing from anywhere ends at the sweep, with every error zero: checked by relaxing from noise."""
    make, held = TRIVIAL[case]
    network = make()
    clamped = network.clamp(held)
    assert inference_is_trivial(network, clamped)
    with pytest.warns(
        InferenceIsTrivial, match=r"inference has nothing to do: only .* held.*hold a target too"
    ) as seen:
        warn_if_trivial(network, clamped)
    assert seen[0].filename == __file__
    inference = Inference(Momentum(), atol=1e-11, max_steps=2000, initial=RandomValues())
    solution = network.infer(clamped, inference)
    assert solution.converged.all()
    for group, swept in zip(solution.values, network.initial_values(clamped)):
        torch.testing.assert_close(group, swept, rtol=0, atol=1e-8)


@pytest.mark.parametrize("case", NOT_TRIVIAL)
def test_inference_is_not_trivial_where_something_has_to_give(case: str) -> None:
    make, held = NOT_TRIVIAL[case]
    network = make()
    assert not inference_is_trivial(network, network.clamp(held))
    warn_if_trivial(network, network.clamp(held))  # a warning would be an error here


def test_a_target_that_is_met_exactly_is_no_free_output() -> None:
    network = discriminative()
    assert not inference_is_trivial(network, network.clamp(IMAGE | {"3": network(IMAGE["0"])}))


def test_float32_rounding_is_no_inference() -> None:
    network = discriminative().float()
    assert inference_is_trivial(network, network.clamp(IMAGE))


def test_a_diagnosis_warns_and_says_so() -> None:
    network = discriminative()
    with pytest.warns(InferenceIsTrivial) as seen:
        found = diagnose(network, network.clamp(IMAGE))
    assert seen[0].filename == __file__
    assert found.standing.regime == Regime.TRIVIAL
    assert "regime: trivial" in str(found)


def test_the_warning_comes_once_from_one_place() -> None:
    network = discriminative()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(5):
            warn_if_trivial(network, network.clamp(IMAGE))
    assert len(seen) == 1


# --- the report -------------------------------------------------------------------------------------------------------


def test_a_printed_diagnosis_holds_the_numbers_of_the_hand_case() -> None:
    """Curvature 1 + 3^2 = 10 in both coordinates, so steps below .2 are stable."""
    network, clamped = by_hand()
    found = diagnose(network, clamped, FixedSteps(0.05, 1))
    assert str(found).splitlines() == [
        "0 of 1 rows converged",
        "row 0 unconverged after 1 steps: worst is 1, rms of residual 7.50e+00, tolerance 0.00e+00",
        "",
        "regime: backprop and equilibrium alike; cosine of the weights' gradient with backprop's 1.000, with that at the "
        "equilibrium 1.000; 75.0% of the energy gap closed, residual 7.5e+00 (1 rows)",
        "",
        "nodes, means over rows",
        "   energy at 0  energy at 1  error at 0  error at 1  residual at 0  residual at 1",
        "1            0        0.281           0        0.75             15            7.5",
        "2         12.5         3.78           5        2.75                              ",
        "",
        "curvature where inference stopped, medians over rows",
        "        smallest  largest  condition  largest stable step",
        "values        10       10          1                  0.2",
        "errors        10       10          1                  0.2",
    ]


def test_a_diagnosis_is_of_the_network_s_own_inference_unless_told() -> None:
    network, clamped = precise()
    network.inference = Inference(Euler(0.05), atol=1e-3, max_steps=400)
    found, own = diagnose(network, clamped), network.infer(clamped)
    assert found.solution.steps.tolist() == own.steps.tolist()
    last = int(own.steps.max())
    assert found.course["iteration"].unique().tolist() == [
        k for k in (0, 1, 2, 3, 5, 8, 13, 20, 30, 50, 80, 130, 200, 300) if k < last
    ] + [last]
    final = found.course[(found.course["iteration"] == last) & (found.course["node"] == "1")]
    np.testing.assert_allclose(final["residual"], own.residual[:, 0].numpy(), rtol=1e-12)
    expected = conditioning(network.problem(clamped), own.values)
    np.testing.assert_allclose(found.conditioning["condition"], expected["condition"], rtol=1e-12)


def test_a_diagnosis_of_nothing_is_refused() -> None:
    network = filled(HierarchicalPC((4, 3)))
    with pytest.raises(ValueError, match=r"clamped holds every node \(0, 1\)"):
        diagnose(network, network.clamp({"0": normal(1, 4), "1": normal(1, 3)}))


def test_curvatures_that_lanczos_has_not_resolved_are_marked() -> None:
    network = scalar_chain(64)
    clamped = network.clamp({"0": normal(1, 1), "64": normal(1, 1, seed=1)})
    inference = Inference(GaussNewton())
    assert "raise steps" in str(diagnose(network, clamped, inference, steps=5))
    assert "raise steps" not in str(diagnose(network, clamped, inference))
