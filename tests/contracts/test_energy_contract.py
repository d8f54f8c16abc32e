"""What every energy and prior promises: exact derivatives, a positive part, adjoint centres, and rows that never mix."""

import copy
from collections.abc import Callable

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.energies import (
    AutogradEnergy,
    Bernoulli,
    Categorical,
    Energy,
    ErrorEnergy,
    Gaussian,
    GaussianPrior,
    Huber,
    InputPrecision,
    KurtoticPrior,
    Laplace,
    LaplacianPrior,
    Prior,
)

B, K, N = 6, 3, 4
PRECISIONS = torch.tensor([0.2, 1.0, 3.0, 0.7])


class Squared(AutogradEnergy):
    """A `Gaussian` with learned precision as a user writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.log_precision = torch.nn.Parameter(torch.zeros(width))

    def forward(self, value: Float[Tensor, "B N"], prediction: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        squares = (value - prediction) ** 2
        return 0.5 * (self.log_precision.exp() * squares - self.log_precision).sum(-1)


class LogCosh(AutogradEnergy):
    """Smooth, convex, and not a parabola."""

    def forward(self, value: Float[Tensor, "B N"], prediction: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        return (value - prediction).cosh().log().sum(-1)


class Welsch(AutogradEnergy):
    """1 - exp(-error^2 / 2): its second derivative changes sign."""

    def forward(self, value: Float[Tensor, "B N"], prediction: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        return (1 - (-0.5 * (value - prediction) ** 2).exp()).sum(-1)


def random(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learned(energy: Energy) -> Energy:
    """With parameters away from where they start."""
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.copy_(random(*parameter.shape, seed=9, scale=0.6))
    return energy


MAKERS: dict[str, Callable[[], Energy]] = {
    "unit": lambda: Gaussian(N),
    "uniform": lambda: Gaussian(N, precision=0.3),
    "diagonal": lambda: Gaussian(N, precision=PRECISIONS),
    "learned": lambda: learned(Gaussian(N, learned=True).double()),
    "input": InputPrecision,
    "categorical": Categorical,
    "bernoulli": Bernoulli,
    "laplace": lambda: Laplace(0.7),
    "huber": lambda: Huber(0.8),
    "squared": lambda: learned(Squared(N).double()),
    "logcosh": LogCosh,
    "welsch": Welsch,
}
QUADRATIC = ("unit", "uniform", "diagonal", "learned", "squared")
every_energy = pytest.mark.parametrize("name", MAKERS)


class Case:
    """An energy at random values and predictions, about half of the errors beyond the threshold of `Huber`."""

    def __init__(self, name: str) -> None:
        self.energy = MAKERS[name]().double()
        self.M = self.energy.prediction_width(N)
        self.value = random(B, N, seed=1)
        if self.energy.observed_only:
            self.value = self.value.softmax(-1)
            self.value[:2] = torch.eye(N, dtype=torch.float64)[:2]
        self.prediction = random(B, self.M, seed=2)
        self.dvalue, self.dprediction = random(B, N, seed=3), random(B, self.M, seed=4)
        self.directions, self.gradients = random(B, K, self.M, seed=5), random(B, K, N, seed=6)

    def hessian(self, row: int) -> Tensor:
        """d2E of one row by autograd, value first."""

        def of_row(both: Tensor) -> Tensor:
            return self.energy(both[None, :N], both[None, N:]).squeeze(0)

        return torch.autograd.functional.hessian(of_row, torch.cat((self.value[row], self.prediction[row])))

    def all_results(self, rows: slice | list[int] = slice(None)) -> dict[str, Tensor]:
        """Everything the energy says about some rows."""
        energy, v, p = self.energy, self.value[rows], self.prediction[rows]
        d, g = self.directions[rows], self.gradients[rows]
        by_value, by_prediction = energy.gradient(v, p)
        bent_value, bent_prediction = energy.curvature_product(v, p, self.dvalue[rows], self.dprediction[rows])
        return {
            "energy": energy(v, p),
            "dE/dvalue": by_value,
            "dE/dprediction": by_prediction,
            "d2E value": bent_value,
            "d2E prediction": bent_prediction,
            "stiffness": energy.stiffness(v, p).expand_as(v),
            "root": energy.root(v, p).expand(len(v), -1, -1),
            "positive": energy.positive_product(v, p, d),
            "centre": energy.centre(p),
            "pull": energy.pull_centre(p, g),
            "push": energy.push_centre(p, d),
        }


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@every_energy
def test_the_gradient_is_that_of_the_energy(name: str) -> None:
    case = Case(name)
    value, prediction = case.value.requires_grad_(), case.prediction.requires_grad_()
    expected = torch.autograd.grad(case.energy(value, prediction).sum(), (value, prediction))
    for found, by_autograd in zip(case.energy.gradient(value, prediction), expected, strict=True):
        close(found, by_autograd)
    with torch.no_grad():
        for found, by_autograd in zip(case.energy.gradient(value, prediction), expected, strict=True):
            assert not found.requires_grad
            close(found, by_autograd)


@every_energy
def test_the_curvature_product_is_the_second_derivative_times_a_direction(name: str) -> None:
    case = Case(name)
    with torch.no_grad():
        found = case.energy.curvature_product(case.value, case.prediction, case.dvalue, case.dprediction)
    for row in range(B):
        expected = case.hessian(row) @ torch.cat((case.dvalue[row], case.dprediction[row]))
        close(torch.cat((found[0][row], found[1][row])), expected)


@every_energy
def test_the_gradient_can_be_differentiated_again(name: str) -> None:
    """`unroll` does: by values, by predictions, and by what the energy learns."""
    case = Case(name)
    value, prediction = case.value.requires_grad_(), case.prediction.requires_grad_()
    inputs = (value, prediction, *(p for p in case.energy.parameters() if p.requires_grad))

    def along(gradient: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        change = (gradient[0] * case.dvalue).sum() + (gradient[1] * case.dprediction).sum()
        if not change.requires_grad:  # constant: Laplace
            return tuple(torch.zeros_like(x) for x in inputs)
        return torch.autograd.grad(change, inputs, materialize_grads=True)

    first = torch.autograd.grad(case.energy(value, prediction).sum(), (value, prediction), create_graph=True)
    for found, expected in zip(along(case.energy.gradient(value, prediction)), along(first), strict=True):
        close(found, expected)


@every_energy
def test_a_row_alone_gives_what_it_gives_in_a_batch(name: str) -> None:
    case = Case(name)
    together = case.all_results()
    for row in range(B):
        for key, alone in case.all_results([row]).items():
            close(alone[0], together[key][row], 1e-14)


@every_energy
def test_a_broken_row_changes_no_other_by_a_bit(name: str) -> None:
    case = Case(name)
    before = case.all_results()
    broken = copy.copy(case)
    broken.value, broken.prediction = case.value.clone(), case.prediction.clone()
    broken.value[2], broken.prediction[2] = torch.nan, torch.inf
    others = [row for row in range(B) if row != 2]
    for key, after in broken.all_results().items():
        assert torch.equal(after[others], before[key][others]), key


@every_energy
def test_results_are_new_tensors(name: str) -> None:
    """Solvers work in place on gradients: that must not reach values or predictions."""
    case = Case(name)
    value, prediction = case.value.clone(), case.prediction.clone()
    for result in case.energy.gradient(case.value, case.prediction):
        result.fill_(7.0)
    assert torch.equal(case.value, value)
    assert torch.equal(case.prediction, prediction)


@every_energy
def test_the_root_is_that_of_the_positive_product(name: str) -> None:
    case = Case(name)
    root = case.energy.root(case.value, case.prediction).expand(B, -1, -1)
    expected = case.directions @ (root.mT @ root)
    several = case.energy.positive_product(case.value, case.prediction, case.directions)
    close(several, expected)
    single = case.energy.positive_product(case.value, case.prediction, case.directions[:, 0])
    close(single, several[:, 0], 1e-15)


def positive_part(case: Case) -> Tensor:
    eye = torch.eye(case.M, dtype=torch.float64).expand(B, -1, -1)
    return case.energy.positive_product(case.value, case.prediction, eye)


@pytest.mark.parametrize("name", [*QUADRATIC, "categorical", "bernoulli", "logcosh"])
def test_the_positive_part_is_the_second_derivative_where_that_is_positive(name: str) -> None:
    case = Case(name)
    for row, found in enumerate(positive_part(case)):
        close(found, case.hessian(row)[N:, N:])


@pytest.mark.parametrize("name", ["huber", "laplace", "welsch"])
def test_the_positive_part_of_a_unit_is_its_second_derivative_where_that_is_positive(name: str) -> None:
    case = Case(name)
    exact = torch.stack([case.hessian(row)[N:, N:].diagonal() for row in range(B)])
    found = positive_part(case)
    close(found, found.diagonal(dim1=-2, dim2=-1).diag_embed(), 0)
    close(found.diagonal(dim1=-2, dim2=-1)[exact > 0], exact[exact > 0])
    assert name == "laplace" or 0 < (exact > 0).sum() < exact.numel()  # both kinds of units were looked at


def test_autograd_counts_negative_curvature_as_none() -> None:
    case = Case("welsch")
    curvature = torch.stack([case.hessian(row)[:N, :N].diagonal() for row in range(B)])
    close(positive_part(case).diagonal(dim1=-2, dim2=-1), curvature.clamp(min=0))
    close(case.energy.stiffness(case.value, case.prediction), curvature.clamp(min=0))
    assert (curvature < 0).any()


def test_the_positive_part_of_input_precision_is_its_mean_second_derivative() -> None:
    """Over values drawn from the prediction; the second derivative is quadratic in them, so three nodes of Gauss-Hermite do."""
    case = Case("input")
    mean, log_precision = case.prediction.tensor_split(2, -1)
    expected = torch.zeros(B, case.M, case.M, dtype=torch.float64)
    for node, weight in ((0.0, 2 / 3), (3**0.5, 1 / 6), (-(3**0.5), 1 / 6)):
        case.value = mean + node * (-0.5 * log_precision).exp()
        expected += weight * torch.stack([case.hessian(row)[N:, N:] for row in range(B)])
    close(positive_part(case), expected)


@every_energy
def test_stiffness_is_the_second_derivative_in_the_value_where_that_is_positive(name: str) -> None:
    case = Case(name)
    found = case.energy.stiffness(case.value, case.prediction).expand(B, N)
    blocks = torch.stack([case.hessian(row)[:N, :N] for row in range(B)])
    exact = blocks.diagonal(dim1=-2, dim2=-1)
    close(blocks, exact.diag_embed())
    close(found[exact > 0], exact[exact > 0])
    assert (found >= 0).all()
    if isinstance(case.energy, ErrorEnergy):  # what a metric of Gauss-Newton divides by
        assert (found > 0).all()


@pytest.mark.parametrize("name", ["unit", "uniform", "diagonal", "learned", "laplace", "huber"])
def test_the_majoriser_is_a_parabola_that_touches_the_cost_and_lies_above(name: str) -> None:
    energy = Case(name).energy
    for here in (-3.0, -0.81, -0.4, 0.01, 0.5, 2.0):
        error = torch.full((1, N), here, dtype=torch.float64)
        slope, curvature = energy.derivative(error), energy.majoriser(error)
        close(curvature * here, slope)
        for other in torch.linspace(-5, 5, 201, dtype=torch.float64):
            step = other - error
            parabola = energy.cost(error) + (slope * step + 0.5 * curvature * step**2).sum(-1)
            assert energy.cost(error + step) <= parabola + 1e-12


@every_energy
def test_pulling_and_pushing_through_the_centre_are_adjoint(name: str) -> None:
    case = Case(name)
    pushed = case.energy.push_centre(case.prediction, case.directions)
    pulled = case.energy.pull_centre(case.prediction, case.gradients)
    close((pushed * case.gradients).sum(-1), (case.directions * pulled).sum(-1))
    close(case.energy.push_centre(case.prediction, case.directions[:, 1]), pushed[:, 1], 1e-15)
    close(case.energy.pull_centre(case.prediction, case.gradients[:, 1]), pulled[:, 1], 1e-15)


@every_energy
def test_pushing_is_the_derivative_of_the_centre(name: str) -> None:
    case = Case(name)
    for k in range(K):
        direction = case.directions[:, k].contiguous()
        _, expected = torch.autograd.functional.jvp(case.energy.centre, case.prediction, direction)
        close(case.energy.push_centre(case.prediction, direction), expected)


@every_energy
def test_the_energy_is_at_rest_with_the_value_at_the_centre(name: str) -> None:
    """In the value; where the energy is linear in that, in the prediction: the centre is the mean of its law."""
    case = Case(name)
    at_rest = case.energy.gradient(case.energy.centre(case.prediction), case.prediction)
    group = at_rest[1] if case.energy.observed_only else at_rest[0]
    close(group, torch.zeros_like(group))


def test_ten_lines_of_a_user_are_the_gaussian_by_hand() -> None:
    by_hand, by_user = Case("learned"), Case("squared")
    for key, expected in by_hand.all_results().items():
        close(by_user.all_results()[key], expected)
    for case in (by_hand, by_user):
        case.energy(case.value, case.prediction).sum().backward()
    close(by_user.energy.log_precision.grad, by_hand.energy.log_precision.grad)


def test_an_energy_that_averages_over_rows_is_refused() -> None:
    class Averaged(AutogradEnergy):
        def forward(self, value: Tensor, prediction: Tensor) -> Tensor:
            return ((value - prediction) ** 2).mean()

    with pytest.raises(ValueError, match=r"Averaged.forward must give one number a row, of shape \(6,\), got \(\)"):
        Averaged().gradient(torch.zeros(B, N), torch.zeros(B, N))


METHODS: dict[str, Callable[[Energy, Tensor, Tensor], object]] = {
    "forward": lambda energy, v, p: energy(v, p),
    "gradient": lambda energy, v, p: energy.gradient(v, p),
    "curvature_product": lambda energy, v, p: energy.curvature_product(v, p, v, p),
    "stiffness": lambda energy, v, p: energy.stiffness(v, p),
    "root": lambda energy, v, p: energy.root(v, p),
    "positive_product": lambda energy, v, p: energy.positive_product(v, p, p),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("squared", "logcosh", "welsch")])
@pytest.mark.parametrize("wrong", [(B, 1), (1, 8), (B, 3), (B, 9), (B + 1, N)])
def test_widths_that_do_not_fit_are_refused_with_both_shapes(name: str, method: str, wrong: tuple[int, int]) -> None:
    """Also those that broadcasting would take."""
    energy = MAKERS[name]().double()
    value, prediction = torch.zeros(B, N, dtype=torch.float64), torch.zeros(wrong, dtype=torch.float64)
    with pytest.raises(ValueError, match=rf"\({B}, {N}\).*\({wrong[0]}, {wrong[1]}\)"):
        METHODS[method](energy, value, prediction)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "forward"])
def test_autograd_refuses_widths_that_broadcasting_would_take(method: str) -> None:
    with pytest.raises(ValueError, match=r"\(6, 4\).*\(6, 1\)"):
        METHODS[method](LogCosh(), torch.zeros(B, N), torch.zeros(B, 1))


PRIORS: dict[str, Callable[[], Prior]] = {
    "gaussian": lambda: GaussianPrior(0.4, -0.7),
    "gaussian of several means": lambda: GaussianPrior(2.0, torch.linspace(-1, 1, N)),
    "laplacian": lambda: LaplacianPrior(0.6),
    "kurtotic": lambda: KurtoticPrior(1.7),
}


@pytest.mark.parametrize("name", PRIORS)
def test_derivatives_of_a_prior_are_those_of_its_energy(name: str) -> None:
    prior, value = PRIORS[name](), random(B, N, seed=1, scale=1.5).requires_grad_()
    (first,) = torch.autograd.grad(prior(value).sum(), value, create_graph=True)
    close(prior.gradient(value), first)
    (second,) = torch.autograd.grad(first.sum() + 0 * value.sum(), value)
    close(prior.curvature(value), second)
    assert prior.curvature(value).shape == value.shape


@pytest.mark.parametrize("name", PRIORS)
def test_a_row_of_a_prior_depends_on_no_other(name: str) -> None:
    prior, value = PRIORS[name](), random(B, N, seed=1)
    broken = value.clone()
    broken[2] = torch.nan
    others = [row for row in range(B) if row != 2]
    for method in (prior, prior.gradient, prior.curvature):
        together, after = method(value), method(broken)
        assert torch.equal(after[others], together[others])
        for row in range(B):
            close(method(value[[row]])[0], together[row], 1e-14)


@pytest.mark.parametrize("name", PRIORS)
def test_sparsity_is_the_jump_of_the_slope_at_zero(name: str) -> None:
    prior = PRIORS[name]()
    zero = torch.zeros(1, N, dtype=torch.float64)
    jump = prior.gradient(zero + 1e-12) - prior.gradient(zero - 1e-12)
    close(jump, torch.full_like(zero, 2 * prior.sparsity), 1e-10)
    close(prior.gradient(zero), 0.5 * (prior.gradient(zero + 1e-12) + prior.gradient(zero - 1e-12)), 1e-10)
