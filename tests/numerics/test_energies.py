"""Energies and priors against torch's losses and densities, closed forms, and parameters planted in samples."""

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, distributions, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from pcnet.energies import (
    Bernoulli,
    Categorical,
    Energy,
    Gaussian,
    GaussianPrior,
    GaussianWeights,
    Huber,
    InputPrecision,
    KurtoticPrior,
    Laplace,
    LaplacianPrior,
    LaplacianWeights,
)

B, N = 7, 5


def random(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


VALUE, PREDICTION = random(B, N, seed=0), random(B, N, seed=1, scale=2.0)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


# --- against torch


def test_categorical_is_cross_entropy() -> None:
    labels = torch.tensor([0, 3, 2, 4, 1, 1, 0])
    expected = functional.cross_entropy(PREDICTION, labels, reduction="none")
    close(Categorical()(functional.one_hot(labels, N).double(), PREDICTION), expected)
    law = VALUE.softmax(-1)
    close(Categorical()(law, PREDICTION), functional.cross_entropy(PREDICTION, law, reduction="none"))


def test_a_missing_label_costs_nothing() -> None:
    value = functional.one_hot(torch.zeros(B, dtype=torch.long), N).double()
    value[3] = 0
    energy = Categorical()
    results = (energy(value, PREDICTION), energy.gradient(value, PREDICTION)[1], energy.root(value, PREDICTION))
    for result in results:
        assert result[3].abs().max() == 0
        assert (result[:3].flatten(1).abs().amax(-1) > 0.1).all() if result.ndim > 1 else (result[:3] > 0.1).all()


def test_bernoulli_is_binary_cross_entropy() -> None:
    for target in (VALUE.sigmoid(), (VALUE > 0).double()):
        expected = functional.binary_cross_entropy_with_logits(PREDICTION, target, reduction="none").sum(-1)
        close(Bernoulli()(target, PREDICTION), expected)


@pytest.mark.parametrize("energy", [Categorical(), Bernoulli()], ids=lambda energy: type(energy).__name__)
def test_logits_may_be_extreme(energy: Energy) -> None:
    """Where exponentials overflow, the surprise grows as the logits do."""
    value = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    prediction = torch.tensor([[1e4, -1e4], [1e4, -1e4]])
    expected = torch.tensor([0.0, 2e4])
    assert torch.equal(energy(value, prediction), expected)
    assert torch.equal(energy.gradient(value, prediction)[1], torch.tensor([[0.0, 0.0], [1.0, -1.0]]))
    assert energy.root(value, prediction).abs().max() == 0


@pytest.mark.parametrize("threshold", [0.5, 1.0, 3.0])
def test_huber_is_huber_loss(threshold: float) -> None:
    expected = functional.huber_loss(PREDICTION, VALUE, reduction="none", delta=threshold).sum(-1)
    close(Huber(threshold)(VALUE, PREDICTION), expected)


@pytest.mark.parametrize("precision", [1.0, 0.3, torch.tensor([0.2, 1.0, 3.0, 0.7, 12.0])], ids=["1", ".3", "each"])
@pytest.mark.parametrize("learned", [False, True])
def test_gaussian_is_minus_the_log_density_but_for_a_constant(precision: float | Tensor, learned: bool) -> None:
    energy = Gaussian(N, learned, precision).double()
    assert energy.log_precision.requires_grad == learned
    close(energy.precision.detach(), torch.as_tensor(precision, dtype=torch.float64).expand(N), 1e-6)
    deviation = energy.precision.detach() ** -0.5
    expected = -distributions.Normal(PREDICTION, deviation).log_prob(VALUE).sum(-1) - N / 2 * math.log(2 * math.pi)
    close(energy(VALUE, PREDICTION).detach(), expected)
    close(energy.log_normaliser.detach(), deviation.log().sum(), 1e-6)


def test_a_fixed_precision_is_exact_in_every_dtype() -> None:
    """.3 in single precision is off by 1e-8: a fixed number is never stored in one."""
    slope = Gaussian(N, precision=0.3).double().derivative(VALUE)
    assert torch.equal(slope, 0.3 * VALUE)


def test_a_precision_of_one_costs_no_multiplication() -> None:
    class Operations(TorchDispatchMode):
        names: tuple[str, ...] = ()

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            self.names += (operation.overloadpacket.__name__,)
            return operation(*args, **(kwargs or {}))

    energy = Gaussian(N)
    with Operations() as operations:
        energy.gradient(VALUE, PREDICTION)
    assert operations.names == ("sub", "neg")


@pytest.mark.parametrize("scale", [0.4, 1.0, 5.0])
def test_laplace_is_minus_the_log_density_but_for_a_constant(scale: float) -> None:
    expected = -distributions.Laplace(PREDICTION, scale).log_prob(VALUE).sum(-1) - N * math.log(2 * scale)
    close(Laplace(scale)(VALUE, PREDICTION), expected)


def test_laplace_at_its_kink() -> None:
    error = torch.tensor([[-2.0, 0.0, 3.0]], dtype=torch.float64)
    energy = Laplace(0.5)
    assert energy.derivative(error).tolist() == [[-2.0, 0.0, 2.0]]
    assert energy.second_derivative(error).tolist() == [[0.0, 0.0, 0.0]]
    close(energy.majoriser(error), torch.tensor([[1.0, 4000.0, 2 / 3]], dtype=torch.float64))


def test_input_precision_is_minus_the_log_density_but_for_a_constant() -> None:
    log_precision = random(B, N, seed=2)
    found = InputPrecision()(VALUE, torch.cat((PREDICTION, log_precision), -1))
    normal = distributions.Normal(PREDICTION, (-0.5 * log_precision).exp())
    close(found, -normal.log_prob(VALUE).sum(-1) - N / 2 * math.log(2 * math.pi))
    by_torch = functional.gaussian_nll_loss(PREDICTION, VALUE, (-log_precision).exp(), reduction="none")
    close(found, by_torch.sum(-1))


def test_input_precision_predicted_as_zero_is_the_unit_gaussian() -> None:
    prediction = torch.cat((PREDICTION, torch.zeros_like(PREDICTION)), -1)
    close(InputPrecision()(VALUE, prediction), Gaussian(N)(VALUE, PREDICTION))
    close(InputPrecision().gradient(VALUE, prediction)[0], VALUE - PREDICTION)


def test_energies_of_an_empty_batch_are_empty() -> None:
    for energy in (Gaussian(N), Categorical(), Bernoulli(), Laplace(), Huber()):
        nothing = torch.zeros(0, N)
        assert energy(nothing, nothing).tolist() == []
        assert [group.shape for group in energy.gradient(nothing, nothing)] == [(0, N), (0, N)]


# --- priors


def test_the_kurtotic_prior_pulls_by_2r_over_1_plus_r2() -> None:
    """Rao & Ballard's form; strongest at |r| = 1."""
    value = torch.tensor([[-3.0, -1.0, 0.0, 0.5, 1.0]], dtype=torch.float64)
    pull = torch.tensor([[-0.6, -1.0, 0.0, 0.8, 1.0]], dtype=torch.float64)
    close(KurtoticPrior().gradient(value), pull)
    close(KurtoticPrior(0.1).gradient(value), 0.1 * pull)
    close(KurtoticPrior()(value), torch.tensor([math.log(10 * 2 * 1.25 * 2)], dtype=torch.float64))
    close(KurtoticPrior().curvature(value)[0, [1, 4]], torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("mean", [0.3, torch.linspace(-1, 1, N)], ids=["one", "each"])
def test_the_gaussian_prior_is_minus_the_log_density_but_for_constants(mean: float | Tensor) -> None:
    centre = torch.as_tensor(mean, dtype=torch.float64)
    normal = distributions.Normal(centre, 0.7**-0.5)
    close(GaussianPrior(0.7, mean).double()(VALUE), (normal.log_prob(centre) - normal.log_prob(VALUE)).sum(-1))


def test_the_laplacian_prior_is_minus_the_log_density_but_for_a_constant() -> None:
    law = distributions.Laplace(torch.zeros((), dtype=torch.float64), 1 / 0.6)
    close(LaplacianPrior(0.6)(VALUE), (law.log_prob(torch.zeros_like(VALUE)) - law.log_prob(VALUE)).sum(-1))
    assert [LaplacianPrior(0.6).sparsity, GaussianPrior().sparsity, KurtoticPrior().sparsity] == [0.6, 0.0, 0.0]


def test_a_mean_moves_with_its_module_and_is_not_saved() -> None:
    prior = GaussianPrior(1.0, torch.linspace(-1, 1, N))
    assert prior.to(torch.float64).mean.dtype == torch.float64
    assert list(prior.state_dict()) == []
    assert prior(torch.zeros(2, N, dtype=torch.float32)).dtype == torch.float32


def test_weight_priors_are_summed_over_all_weights() -> None:
    weights = [torch.tensor([[1.0, -2.0], [0.0, 3.0]]), torch.tensor([-4.0])]
    assert GaussianWeights(0.5)(weights).item() == 0.5 * 0.5 * (1 + 4 + 9 + 16)
    assert LaplacianWeights(0.5)(weights).item() == 0.5 * (1 + 2 + 3 + 4)


def test_a_gaussian_weight_prior_is_weight_decay() -> None:
    """One step on prior and loss equals a step of SGD with `weight_decay`, which adds strength * w to the gradient."""
    ours, theirs = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
    theirs.load_state_dict(ours.state_dict())
    inputs = random(4, 3, seed=3)
    (ours(inputs).square().sum() + GaussianWeights(0.2)(ours.parameters())).backward()
    theirs(inputs).square().sum().backward()
    torch.optim.SGD(ours.parameters(), lr=0.1).step()
    torch.optim.SGD(theirs.parameters(), lr=0.1, weight_decay=0.2).step()
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(found.detach(), expected.detach())


# --- learning


def descend(parameters: list[Tensor], loss: Callable[[], Tensor], steps: int) -> None:
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def test_a_learned_precision_recovers_the_planted_noise_covariance() -> None:
    """Maximum likelihood has standard error sqrt(2 / n) on a log variance; without -1/2 log|Pi| it would run to zero precision."""
    count, variance = 20_000, torch.tensor([0.1, 0.5, 1.0, 4.0, 9.0], dtype=torch.float64)
    prediction = random(count, N, seed=4)
    value = prediction + random(count, N, seed=5) * variance.sqrt()
    energy = Gaussian(N, learned=True).double()
    descend(list(energy.parameters()), lambda: energy(value, prediction).mean(), 80)
    close(1 / energy.precision.detach(), (value - prediction).square().mean(0), 1e-9)
    errors = (-energy.log_precision.detach() - variance.log()) / (2 / count) ** 0.5
    assert (errors.abs() < 3).all()
    assert errors.square().mean() < 2  # one standard error, not just any bound


def test_an_input_dependent_precision_recovers_the_planted_dependence() -> None:
    """s = a + b z with planted a, b: the information on them is 1/2 sum (1, z)(1, z)^T."""
    count, planted = (
        20_000,
        torch.tensor([[0.4, -0.9], [1.5, 0.6]], dtype=torch.float64),
    )  # rows a and b, one column a unit
    design = torch.stack((torch.ones(count, dtype=torch.float64), random(count, seed=6)), -1)
    mean = random(count, 2, seed=7)
    value = mean + random(count, 2, seed=8) * (-0.5 * design @ planted).exp()
    fitted = torch.zeros_like(planted, requires_grad=True)
    descend([fitted], lambda: InputPrecision()(value, torch.cat((mean, design @ fitted), -1)).mean(), 80)
    deviation = (0.5 * design.T @ design).inverse().diagonal().sqrt().unsqueeze(-1)
    errors = (fitted.detach() - planted) / deviation
    assert (errors.abs() < 3).all()
    assert errors.square().mean() < 2.5


# --- checkpoints


def test_a_checkpoint_holds_the_log_precision_and_nothing_else() -> None:
    """By the name it always had."""
    assert [list(energy.state_dict()) for energy in (Gaussian(3), Gaussian(3, True))] == [["log_precision"]] * 2
    assert [list(energy.state_dict()) for energy in (InputPrecision(), Categorical(), Huber(), KurtoticPrior())] == [
        []
    ] * 4


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda energy: pickle.loads(pickle.dumps(energy))])
def test_a_loaded_precision_counts_where_it_is_fixed(copied: Callable[[Energy], Energy]) -> None:
    """A network with learned precisions, loaded to go on with them held: 1 must not stay 1."""
    learned = Gaussian(N, learned=True, precision=torch.tensor([0.2, 1.0, 3.0, 0.7, 12.0])).double()
    fixed = copied(Gaussian(N).double())
    fixed.load_state_dict(learned.state_dict())
    close(fixed(VALUE, PREDICTION), learned(VALUE, PREDICTION).detach())
    close(fixed.gradient(VALUE, PREDICTION)[0], learned.gradient(VALUE, PREDICTION)[0].detach())
    same = Gaussian(N, precision=0.3).double()
    same.load_state_dict(Gaussian(N, precision=0.3).double().state_dict())
    assert torch.equal(same.derivative(VALUE), 0.3 * VALUE)


def test_a_precision_released_later_is_learned() -> None:
    energy = Gaussian(N, precision=0.5).double()
    energy.log_precision.requires_grad_()
    energy(VALUE, PREDICTION).sum().backward()
    close(energy.log_precision.grad, 0.5 * (0.5 * (VALUE - PREDICTION).square().sum(0) - B), 1e-6)


# --- bad input


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("precision", lambda x: Gaussian(3, precision=x)),
        ("precision", lambda x: Gaussian(3, precision=torch.tensor([1.0, x, 1.0]))),
        ("precision", lambda x: GaussianPrior(x)),
        ("scale", Laplace),
        ("threshold", Huber),
    ],
)
def test_what_must_be_positive(name: str, make: Callable[[float], object], value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be .*> 0, got .*{value}"):
        make(value)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("make", [LaplacianPrior, KurtoticPrior, GaussianWeights, LaplacianWeights])
def test_strengths_are_not_negative(make: Callable[[float], object], value: float) -> None:
    assert make(0.0).strength == 0
    with pytest.raises(ValueError, match=f"^strength must be a finite number >= 0, got {value}"):
        make(value)


def test_shapes_that_do_not_fit_a_module() -> None:
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        Gaussian(0)
    with pytest.raises(ValueError, match=r"precision must be a number or have shape \(3,\), got \(4,\)"):
        Gaussian(3, precision=torch.ones(4))
    with pytest.raises(ValueError, match=r"errors of shape \(7, 5\) do not fit the precision of shape \(4,\)"):
        Gaussian(4)(VALUE, PREDICTION)
    with pytest.raises(ValueError, match=r"errors of shape \(7, 5\) do not fit the precision of shape \(1,\)"):
        Gaussian(1).gradient(VALUE, PREDICTION)
    with pytest.raises(ValueError, match=r"values of shape \(7, 5\) do not fit the mean of shape \(1,\)"):
        GaussianPrior(1.0, torch.zeros(1))(VALUE)
    with pytest.raises(ValueError, match="mean must be finite, got nan"):
        GaussianPrior(1.0, float("nan"))
    with pytest.raises(ValueError, match="parameters is empty"):
        GaussianWeights(1.0)(iter(()))
