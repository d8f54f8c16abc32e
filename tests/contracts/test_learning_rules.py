"""What every learning rule promises: a loss with the value that all models are judged by, rows apart, bad rows left out."""

from collections.abc import Callable
from dataclasses import dataclass

import learned_graphs
import numpy as np
import pytest
import torch
from torch import Tensor

from pcnet.baselines import GRU, LSTM, RNN, Transformer
from pcnet.energies import Categorical, GaussianPrior
from pcnet.inference import ErrorProblem, Euler, FixedSteps, GaussNewton, Inference, Solver
from pcnet.learning import (
    Backprop,
    Example,
    FixedPrediction,
    Implicit,
    Incremental,
    LearningRule,
    Local,
    Nudged,
    Side,
    Unrolled,
    ZeroDivergence,
)
from pcnet.networks import GraphNetwork
from pcnet.predictor import Predictor

TOKENS = torch.tensor([[0, 2, 1, 1], [2, 2, 0, 1], [1, 0, 0, 2]])
TIGHT = Inference(GaussNewton(), atol=1e-12, max_steps=300)
AT_EQUILIBRIUM = [Implicit(rtol=1e-10), Local(), Nudged(nudged=TIGHT)]
RULES = [*AT_EQUILIBRIUM, Unrolled(steps=200, solver=Euler(0.3))]
BASELINES = [lambda: Transformer(3, width=4, layers=1), lambda: RNN(3, 4), lambda: GRU(3, 4), lambda: LSTM(3, 4)]

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
each_rule_at_equilibrium = pytest.mark.parametrize("rule", AT_EQUILIBRIUM, ids=lambda rule: type(rule).__name__)
each_baseline = pytest.mark.parametrize("make", BASELINES, ids=lambda make: type(make()).__name__)

Gradients = dict[str, Tensor]


def gradients(rule: LearningRule, predictor: Predictor, tokens: Tensor) -> Gradients:
    predictor.zero_grad()
    rule.loss(predictor, tokens).backward()
    return {name: p.grad.clone() for name, p in predictor.named_parameters() if p.requires_grad}


def assert_same(one: Gradients, other: Gradients, tolerance: float = 1e-9) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


@torch.no_grad()
def next_token_loss(predictor: Predictor, tokens: Tensor) -> float:
    """By plain numpy, from the logits of `forward`."""
    logits = predictor(tokens[:, :-1]).numpy()
    surprises = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, tokens[:, 1:, None].numpy(), -1)[..., 0]
    return float(surprises.mean())


@each_rule
def test_the_value_is_the_next_token_loss(small_network, rule: LearningRule) -> None:
    network = small_network(2)
    assert rule.loss(network, TOKENS).item() == pytest.approx(next_token_loss(network, TOKENS), rel=1e-12)


@each_baseline
def test_the_value_of_backprop_is_the_next_token_loss(make: Callable[[], Predictor]) -> None:
    torch.manual_seed(0)
    model = make().double()
    assert Backprop().loss(model, TOKENS).item() == pytest.approx(next_token_loss(model, TOKENS), rel=1e-12)


@each_baseline
def test_backprop_is_the_derivative_by_finite_differences(make: Callable[[], Predictor]) -> None:
    """Along one random direction of all weights."""
    torch.manual_seed(0)
    model = make().double()
    found = gradients(Backprop(), model, TOKENS)
    direction = {name: torch.randn(p.shape, dtype=torch.float64) for name, p in model.named_parameters()}
    ends = []
    for step in (1e-5, -2e-5):  # from 0 to +1e-5, and from there to -1e-5
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.add_(step * direction[name])
        ends.append(next_token_loss(model, TOKENS))
    slope = sum((found[name] * direction[name]).sum() for name in found).item()
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


@each_rule
def test_a_batch_is_the_mean_of_its_sequences(small_network, rule: LearningRule) -> None:
    network = small_network(2)
    one_by_one = [gradients(rule, network, TOKENS[[row]]) for row in range(3)]
    mean = {name: sum(gradient[name] for gradient in one_by_one) / 3 for name in one_by_one[0]}
    assert_same(gradients(rule, network, TOKENS), mean)


@each_rule
def test_every_learned_parameter_has_a_gradient(small_network, rule: LearningRule) -> None:
    found = gradients(rule, small_network(3), TOKENS)
    assert all(gradient.abs().max() > 1e-6 for gradient in found.values()), {
        n: g.abs().max().item() for n, g in found.items()
    }


@each_rule_at_equilibrium
def test_how_values_relax_in_training_can_be_told_to_the_rule(small_network, rule: LearningRule) -> None:
    """A rule's own inference replaces the network's: the network's would not move at all here."""
    still = small_network(2, inference=Inference(Euler(0.1), max_steps=0))
    told = type(rule)(**{**vars(rule), "inference": TIGHT})
    assert_same(gradients(told, still, TOKENS), gradients(rule, small_network(2), TOKENS))


@each_rule_at_equilibrium
def test_what_is_kept_for_the_backward_does_not_grow_with_inference(small_network, rule: LearningRule) -> None:
    def kept(max_steps: int) -> int:
        sizes = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        network = small_network(2, inference=Inference(Euler(0.05), atol=0, max_steps=max_steps))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            rule.loss(network, TOKENS)
        return sum(sizes)

    assert kept(5) == kept(50) > 0


# --- inference that diverges ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Poisoned(Solver):
    """Gauss-Newton that a NaN strikes in one row."""

    row: int = 0
    nudge: float | None = None
    """Only under a nudge of this sign."""
    requires = ErrorProblem

    def view(self, problem):
        return GaussNewton().view(problem)

    def init(self, problem, point):
        return GaussNewton().init(problem, point)

    def step(self, problem, point, carry):
        increment, carry = GaussNewton().step(problem, point, carry)
        if self.nudge is None or self.nudge * problem.problem.nudge[0] > 0:
            increment[0][self.row] = torch.nan
        return increment, carry


@pytest.mark.parametrize("kind", [Implicit, Local, Nudged])
def test_a_sequence_whose_inference_diverges_is_left_out(small_network, kind: type[LearningRule]) -> None:
    network = small_network(2)
    struck = kind(inference=Inference(Poisoned(1), atol=1e-12, max_steps=300))
    assert_same(gradients(struck, network, TOKENS), gradients(kind(), network, TOKENS[[0, 2]]))


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["pulled", "pushed"])
def test_a_token_that_diverges_under_the_nudge_is_left_out(small_network, sign: float) -> None:
    """Either way: one half of a pair alone would be no difference, but a whole energy gradient divided by 2 beta."""
    network, pairs = small_network(2), TOKENS[:, :2]
    struck = Nudged(nudged=Inference(Poisoned(1, sign), atol=1e-12, max_steps=300))
    others = gradients(Nudged(nudged=TIGHT), network, pairs[[0, 2]])
    assert_same(gradients(struck, network, pairs), {name: gradient * 2 / 3 for name, gradient in others.items()})


@pytest.mark.parametrize("rule", [Implicit(), Local(), Nudged()], ids=lambda rule: type(rule).__name__)
def test_a_batch_in_which_nothing_converges_to_a_finite_value_is_an_error(small_network, rule: LearningRule) -> None:
    """Values of 1e160 are finite numbers, but their residual is not: those rows have diverged as well."""
    network = small_network(2, inference=Inference(Euler(1e6), max_steps=100))
    with pytest.raises(FloatingPointError, match="diverged in every sequence"):
        rule.loss(network, TOKENS)


# --- what is refused --------------------------------------------------------------------------------------------------


@each_rule
@each_baseline
def test_rules_of_equilibria_refuse_models_without_one(rule: LearningRule, make: Callable[[], Predictor]) -> None:
    model = make()
    with pytest.raises(TypeError, match=f"{type(rule).__name__} is not for a {type(model).__name__}"):
        rule.loss(model, TOKENS)


def test_backprop_refuses_a_model_that_infers(small_network) -> None:
    with pytest.raises(TypeError, match="Backprop is not for a TemporalPC"):
        Backprop().loss(small_network(1), TOKENS)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *((Nudged, "beta", value) for value in (0.0, -0.1, float("nan"), float("inf"))),
        *((Implicit, "rtol", value) for value in (-1e-3, float("nan"))),
        (Implicit, "max_steps", 0),
        (Unrolled, "steps", -1),
    ],
)
def test_a_setting_out_of_range_is_refused_by_its_name(kind: type[LearningRule], name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be .*{value}"):
        kind(**{name: value})


# --- graph networks ---------------------------------------------------------------------------------------------------

GRAPH_RULES = [
    Backprop(),
    Local(),
    *(Nudged(nudged=TIGHT, side=side) for side in Side),
    Implicit(rtol=1e-12),
    Unrolled(3, Euler(0.1)),
    ZeroDivergence(),
    FixedPrediction(),
]
RELAXING = [Local(), Nudged(nudged=TIGHT), Implicit(rtol=1e-12)]
each_graph_rule = pytest.mark.parametrize("rule", GRAPH_RULES, ids=str)
each_relaxing_rule = pytest.mark.parametrize("rule", RELAXING, ids=lambda rule: type(rule).__name__)


def classifier(**settings) -> GraphNetwork:
    """tanh 4-5-6-3 with classes on top, float64."""
    return learned_graphs.discriminative(energies={3: Categorical()}, **settings)


def rows(example: Example, index: list[int]) -> Example:
    held, targets = ({name: t[index] for name, t in part.items()} for part in (example.held, example.targets))
    return Example(held, targets)


@each_graph_rule
def test_of_examples_a_batch_is_the_mean_of_its_rows(rule: LearningRule) -> None:
    network = classifier()
    example = learned_graphs.labelled(network)
    one_by_one = [learned_graphs.gradients(rule, network, rows(example, [row])) for row in range(4)]
    mean = {name: sum(gradient[name] for gradient in one_by_one) / 4 for name in one_by_one[0]}
    assert_same(learned_graphs.gradients(rule, network, example), mean)
    losses = [rule.loss(network, rows(example, [row])).item() for row in range(4)]
    assert rule.loss(network, example).item() == pytest.approx(sum(losses) / 4, rel=1e-9)


@each_graph_rule
def test_the_value_is_the_task_loss_or_the_energy(rule: LearningRule) -> None:
    """Cross-entropy of the feedforward network, which inference without a label leaves as it is; for `Local` what is left of
    the energy when hidden values have moved to lower it."""
    network = classifier()
    example = learned_graphs.labelled(network)
    cross_entropy = -network(example.held["0"]).log().gather(1, example.targets["3"][:, None]).mean().item()
    if isinstance(rule, Local):
        energy = network.infer(example.whole(network)).point.energy.mean().item()
        assert rule.loss(network, example).item() == pytest.approx(energy, rel=1e-12)
        assert 0 < energy < cross_entropy
    elif not isinstance(rule, Unrolled):
        assert rule.loss(network, example).item() == pytest.approx(cross_entropy, rel=1e-9)


@each_graph_rule
def test_every_learned_parameter_of_a_graph_has_a_gradient(rule: LearningRule) -> None:
    network = classifier()
    found = learned_graphs.gradients(rule, network, learned_graphs.labelled(network))
    assert found.keys() == {name for name, p in network.named_parameters() if p.requires_grad}
    assert all(gradient.abs().max() > 1e-6 for gradient in found.values())


OPTIMIZERS = [
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5),
    lambda p: torch.optim.Adam(p, lr=0.02),
    lambda p: torch.optim.AdamW(p, lr=0.02),
    lambda p: torch.optim.RMSprop(p, lr=0.01),
    lambda p: torch.optim.Adagrad(p, lr=0.05),
    lambda p: torch.optim.Rprop(p, lr=0.01),
    lambda p: torch.optim.LBFGS(p, max_iter=3, line_search_fn="strong_wolfe"),
]


@pytest.mark.parametrize("make", OPTIMIZERS, ids=["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Rprop", "LBFGS"])
@pytest.mark.parametrize(
    "rule",
    [Local(inference=FixedSteps(0.1, 10)), Nudged(), Implicit(), ZeroDivergence()],
    ids=lambda rule: type(rule).__name__,
)
def test_any_optimiser_learns_four_examples(rule: LearningRule, make: Callable) -> None:
    network = classifier()
    example = learned_graphs.labelled(network)
    optimizer = make([p for p in network.parameters() if p.requires_grad])
    before = Backprop().loss(network, example).item()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = rule.loss(network, example)
        loss.backward()
        return loss

    for _ in range(15):
        optimizer.step(closure)
    assert Backprop().loss(network, example).item() < 0.9 * before


@pytest.mark.parametrize("make", OPTIMIZERS[:-1], ids=["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Rprop"])
def test_any_optimiser_learns_four_examples_incrementally(make: Callable) -> None:
    network = classifier()
    example = learned_graphs.labelled(network)
    optimizer = make([p for p in network.parameters() if p.requires_grad])
    before = Backprop().loss(network, example).item()
    for _ in range(5):
        for loss in Incremental(steps=10).updates(network, example):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert Backprop().loss(network, example).item() < 0.9 * before


def kept_bytes(compute: Callable[[], Tensor]) -> int:
    """What autograd keeps for the backward."""
    sizes = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute()
    return sum(sizes)


@pytest.mark.parametrize("kind", [Local, Nudged, Implicit])
def test_what_is_kept_of_a_graph_does_not_grow_with_inference(kind: type[LearningRule]) -> None:
    """10 iterations or 1000 of them; unrolling keeps more with every one."""
    network = learned_graphs.generative()
    example = learned_graphs.labelled(network)

    def kept(steps: int) -> int:
        rule = kind(inference=Inference(Euler(0.01), atol=0, max_steps=steps))
        return kept_bytes(lambda: rule.loss(network, example))

    assert kept(10) == kept(1000) > 0
    unrolled = [kept_bytes(lambda n=n: Unrolled(n, Euler(0.01)).loss(network, example)) for n in (10, 20)]
    assert unrolled[1] > 1.5 * unrolled[0]


def test_local_learning_allocates_no_more_at_once_for_more_iterations() -> None:
    """The peak of what is alive, by torch's own profiler of allocations: 10 iterations or 1000."""
    network = learned_graphs.discriminative()
    example = learned_graphs.labelled(network)

    def peak(steps: int) -> int:
        rule = Local(inference=FixedSteps(0.01, steps))
        rule.loss(network, example).backward()  # what is allocated once
        alive = most = 0
        with torch.profiler.profile(profile_memory=True) as profile:
            rule.loss(network, example).backward()
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                alive += event.nbytes()
                most = max(most, alive)
        return most

    assert peak(1000) <= 1.05 * peak(10)


@each_relaxing_rule
def test_how_a_graph_relaxes_in_training_can_be_told_to_the_rule(rule: LearningRule) -> None:
    still = learned_graphs.bidirectional()
    still.inference = FixedSteps(1e-6, 1)
    network = learned_graphs.bidirectional()
    example = learned_graphs.labelled(network)
    told = type(rule)(**{**vars(rule), "inference": network.inference})
    expected = learned_graphs.gradients(rule, network, example)
    assert_same(learned_graphs.gradients(told, still, example), expected)
    assert rule.loss(still, example).item() != pytest.approx(rule.loss(network, example).item(), rel=1e-3)


@each_relaxing_rule
def test_a_row_of_a_graph_whose_inference_diverges_is_left_out(rule: LearningRule) -> None:
    network = learned_graphs.generative()
    example = learned_graphs.labelled(network)
    struck = type(rule)(**{**vars(rule), "inference": Inference(Poisoned(1), atol=1e-12, max_steps=300)})
    others = learned_graphs.gradients(rule, network, rows(example, [0, 2, 3]))
    assert_same(learned_graphs.gradients(struck, network, example), others)
    assert struck.loss(network, example).item() == pytest.approx(rule.loss(network, rows(example, [0, 2, 3])).item())


@pytest.mark.parametrize("side", list(Side))
def test_a_row_of_a_graph_that_diverges_under_the_nudge_is_left_out(side: Side) -> None:
    network = learned_graphs.generative()
    example = learned_graphs.labelled(network)
    struck = Nudged(nudged=Inference(Poisoned(1), atol=1e-12, max_steps=300), side=side)
    others = learned_graphs.gradients(Nudged(nudged=TIGHT, side=side), network, rows(example, [0, 2, 3]))
    assert_same(learned_graphs.gradients(struck, network, example), others)


def test_a_row_that_diverges_incrementally_is_left_out_from_then_on() -> None:
    network = classifier()
    example = learned_graphs.labelled(network)
    healthy = Incremental(GaussNewton(), steps=3).updates(network, rows(example, [0, 2, 3]))
    struck = Incremental(Poisoned(1), steps=3).updates(network, example)
    for step, (one, other) in enumerate(zip(struck, healthy, strict=True)):
        found = []
        for loss in (one, other):
            network.zero_grad()
            loss.backward()
            found.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})
        if step:  # the first update is made before anything has moved
            assert_same(*found)


@pytest.mark.parametrize("rule", [Local(), Nudged(), Implicit()], ids=lambda rule: type(rule).__name__)
def test_a_batch_of_a_graph_in_which_every_row_diverges_is_an_error(rule: LearningRule) -> None:
    network = learned_graphs.generative(inference=Inference(Euler(1e5), max_steps=200))
    example = learned_graphs.labelled(network)
    with pytest.raises(FloatingPointError, match=r"(?s)diverged in every row of the batch; lower the step size.*row 0"):
        rule.loss(network, example)


@pytest.mark.parametrize("rule", [*GRAPH_RULES, Incremental()], ids=str)
def test_weights_that_are_not_finite_are_named(rule: LearningRule | Incremental) -> None:
    network = classifier()
    with torch.no_grad():
        network.predictions[1].layers[0].weight[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"the parameter predictions\.1\.layers\.0\.weight is not finite"):
        compute(rule, network, learned_graphs.labelled(network))


# --- what is refused of graphs ----------------------------------------------------------------------------------------


def compute(rule: LearningRule | Incremental, network: torch.nn.Module, batch: object) -> None:
    """A loss, or the first one of a series."""
    if isinstance(rule, Incremental):
        next(rule.updates(network, batch))
    else:
        rule.loss(network, batch)


each_of_all = pytest.mark.parametrize("rule", [*GRAPH_RULES, Incremental()], ids=str)
JUDGING = [rule for rule in GRAPH_RULES if not isinstance(rule, Local)]


@each_of_all
def test_a_graph_is_not_taught_by_tokens(rule: LearningRule | Incremental) -> None:
    with pytest.raises(TypeError, match=f"{type(rule).__name__} teaches a HierarchicalPC by an Example, got a Tensor"):
        compute(rule, classifier(), TOKENS)


@pytest.mark.parametrize("rule", [*RELAXING, Unrolled()], ids=lambda rule: type(rule).__name__)
def test_a_temporal_network_is_not_taught_by_examples(small_network, rule: LearningRule) -> None:
    with pytest.raises(
        TypeError, match=f"{type(rule).__name__} teaches a TemporalPC by a tensor of sequences, got a Example"
    ):
        rule.loss(small_network(1), Example({"0": TOKENS}))


@pytest.mark.parametrize(
    "rule", [ZeroDivergence(), FixedPrediction(), Incremental()], ids=lambda rule: type(rule).__name__
)
def test_rules_of_graphs_refuse_other_models(small_network, rule: LearningRule | Incremental) -> None:
    for model in (small_network(1), RNN(3, 4)):
        with pytest.raises(TypeError, match=f"the rule {type(rule).__name__} is not for a {type(model).__name__}"):
            compute(rule, model, Example({"0": TOKENS}))


X, Y = torch.zeros(2, 4, dtype=torch.float64), torch.tensor([0, 2])
BAD_EXAMPLES = {
    "label out of range": (
        lambda: Example({"0": X}, {"3": torch.tensor([0, 3])}),
        r"labels of node '3' must be in \[0, 3\), got 3",
    ),
    "negative label": (
        lambda: Example({"0": X}, {"3": torch.tensor([-1, 0])}),
        r"labels of node '3' must be in \[0, 3\), got -1",
    ),
    "wrong width": (lambda: Example({"0": X[:, :3]}, {"3": Y}), r"node '0' must be \(batch, 4\), got \(2, 3\)"),
    "not finite": (lambda: Example({"0": X / 0}, {"3": Y}), r"node '0' must be finite; they are not in rows \[0, 1\]"),
    "no such node": (lambda: Example({"input": X}, {"3": Y}), "there is no node 'input'"),
    "rows that differ": (lambda: Example({"0": X}, {"3": Y[:1]}), "same number of rows"),
    "no rows": (lambda: Example({"0": X[:0]}, {"3": Y[:0]}), "the batch has no rows"),
    "both": (lambda: Example({"0": X, "3": Y}, {"3": Y}), "node '3' is both held and a target"),
}


@each_of_all
@pytest.mark.parametrize("case", BAD_EXAMPLES)
def test_bad_examples_are_refused_in_one_clear_error(rule: LearningRule | Incremental, case: str) -> None:
    make, message = BAD_EXAMPLES[case]
    with pytest.raises(ValueError, match=message):
        compute(rule, classifier(), make())


@pytest.mark.parametrize("rule", JUDGING, ids=str)
def test_a_task_loss_needs_inputs_and_targets(rule: LearningRule) -> None:
    with pytest.raises(ValueError, match="targets is empty"):
        rule.loss(classifier(), Example({"0": X}))
    with pytest.raises(ValueError, match="held is empty"):
        rule.loss(classifier(), Example({}, {"3": Y}))


def test_learning_without_targets_where_inference_can_do_nothing_is_warned_of() -> None:
    for rule in (Local(), Incremental()):
        with pytest.warns(UserWarning, match="inference has nothing to do"):
            compute(rule, learned_graphs.discriminative(), Example({"0": X}))


def test_equivalences_refuse_networks_for_which_they_do_not_hold() -> None:
    cases = [
        (learned_graphs.bidirectional(), "needs every free node predicted once"),
        (learned_graphs.discriminative(), "Gaussian energies of fixed precision 1"),
        (classifier(priors={1: GaussianPrior()}), "needs free nodes without priors, '1' has one"),
    ]
    for network, message in cases:
        for rule in (ZeroDivergence(), FixedPrediction()):
            with pytest.raises(ValueError, match=f"{type(rule).__name__} .*{message}"):
                rule.loss(network, learned_graphs.labelled(network))


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Incremental, "steps", 0),
        (FixedPrediction, "steps", 0),
        *((FixedPrediction, "step_size", value) for value in (0.0, 1.5, float("nan"))),
    ],
)
def test_a_setting_of_a_graph_rule_out_of_range_is_refused(kind: type, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be .*{value}"):
        kind(**{name: value})
