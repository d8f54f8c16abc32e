"""Langevin draws against the exact law of the discretised chain."""

import pytest
import torch
from linear_problems import Quadratic, normal, with_spectrum
from torch import Tensor

from pcnet.inference import Equilibrium, Point, sample
from pcnet.typing import State

CHAINS = 20_000


def problem() -> Quadratic:
    """The same three-unit Gaussian in every row."""
    hessian = with_spectrum([0.5, 1.0, 3.0]).expand(CHAINS, -1, -1)
    return Quadratic(hessian, torch.tensor([1.0, -2.0, 0.5]).double().expand(CHAINS, -1), (2, 1))


def draws(start: float, steps: int, **settings: float) -> Tensor:
    """Where all the chains are after so many steps, which is CHAINS independent draws."""
    generator = torch.Generator().manual_seed(0)
    begin = tuple(torch.full((CHAINS, width), start).double() for width in (2, 1))
    return torch.cat(sample(problem(), begin, 0.3, steps, generator, thin=steps, **settings), -1)[:, 0]


def check(found: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Within five standard errors: Var(mean_i) = C_ii / n, Var(C_ij) = (C_ii C_jj + C_ij^2) / n."""
    variance = covariance.diagonal()
    assert ((found.mean(0) - mean).abs() < 5 * (variance / CHAINS).sqrt()).all()
    spread = ((variance[:, None] * variance + covariance**2) / CHAINS).sqrt()
    assert ((found.T.cov() - covariance).abs() < 5 * spread).all()


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_stationary_law_of_the_discretised_chain(temperature: float) -> None:
    """T H^-1 (1 - s H / 2)^-1: at s = .3 and H = 3 that is 1.8 times the variance of the continuous process."""
    hessian, target = problem().hessian[0], problem().target[0]
    exact = temperature * torch.linalg.inv(hessian - 0.15 * hessian @ hessian)
    check(draws(0.0, 80, temperature=temperature), target, exact)


def test_law_on_the_way_there() -> None:
    """After k steps mean target + A^k (x - target) and covariance 2 s sum_(j < k) A^2j, A = 1 - s H."""
    hessian, target = problem().hessian[0], problem().target[0]
    shrink = torch.eye(3).double() - 0.3 * hessian
    mean = target + torch.linalg.matrix_power(shrink, 3) @ (4.0 - target)
    check(draws(4.0, 3), mean, 0.6 * sum(torch.linalg.matrix_power(shrink, 2 * j) for j in range(3)))


def test_neighbours_are_correlated_by_the_step() -> None:
    """Lag-one covariance A C of a stationary chain."""
    generator = torch.Generator().manual_seed(1)
    begin = problem().groups(problem().target)
    last = torch.cat(sample(problem(), begin, 0.3, 61, generator), -1)[:, -2:]
    hessian = problem().hessian[0]
    exact = (torch.eye(3).double() - 0.3 * hessian) @ torch.linalg.inv(hessian - 0.15 * hessian @ hessian)
    centred = last - problem().target[0]
    found = centred[:, 1].T @ centred[:, 0] / CHAINS
    assert (found - exact).abs().max() < 0.1


def test_every_so_manieth_step_is_kept() -> None:
    few = Quadratic(with_spectrum([0.5, 1.0, 3.0]), torch.zeros(1, 3).double(), (2, 1))
    begin = few.groups(normal(1, 3))
    every = sample(few, begin, 0.1, 10, torch.Generator().manual_seed(3))
    third = sample(few, begin, 0.1, 10, torch.Generator().manual_seed(3), thin=3)
    for all_of_them, some in zip(every, third):
        assert torch.equal(some, all_of_them[:, [2, 5, 8]])


def test_a_chain_that_diverges_is_not_finite_and_leaves_the_others_alone() -> None:
    hessian = with_spectrum([0.5, 1.0, 3.0], [0.5, 1.0, 1e6])
    begin = normal(2, 3).split([2, 1], -1)

    def run(hessian: Tensor) -> tuple[Tensor, ...]:
        steep = Quadratic(hessian, torch.zeros(2, 3).double(), (2, 1))
        return sample(steep, begin, 0.3, 80, torch.Generator().manual_seed(0))

    struck, healthy = run(hessian), run(hessian[[0, 0]])
    assert not struck[0][1, -1].isfinite().all()
    assert all(torch.equal(a[0], b[0]) for a, b in zip(struck, healthy))


class NoEnergy(Equilibrium):
    def at(self, x: State) -> Point:
        return Point(x, x)

    def rows(self, index: Tensor) -> "NoEnergy":
        return self


def test_what_is_refused() -> None:
    small, begin, generator = Quadratic(with_spectrum([1.0]), torch.zeros(1, 1).double(), (1,)), normal(1, 1), None
    with pytest.raises(TypeError, match="sample needs an EnergyProblem, got a NoEnergy"):
        sample(NoEnergy(), (begin,), 0.1, 5, generator)
    for settings, message in (
        ({"step_size": 0.0}, "step_size must be .*, got 0.0"),
        ({"temperature": -1.0}, "temperature must be .*, got -1.0"),
        ({"thin": 6}, r"thin must be from 1 to the number of steps \(5\), got 6"),
        ({"thin": 0}, "thin must be .*, got 0"),
        ({"values": (normal(1, 2),)}, "values must have .*1.* units"),
    ):
        arguments = {"values": (begin,), "step_size": 0.1, "steps": 5, "generator": generator} | settings
        with pytest.raises(ValueError, match=message):
            sample(small, **arguments)
