"""What every learning rule promises: a loss with the value that all models are judged by, rows apart, bad rows left out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from pcnet.baselines import GRU, LSTM, RNN, Transformer
from pcnet.inference import ErrorProblem, Euler, GaussNewton, Inference, Solver
from pcnet.learning import Backprop, Implicit, LearningRule, Local, Nudged, Unrolled
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
    network = small_network(2, inference=Inference(Euler(1e9), max_steps=100))
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
