"""Energies whose minimum, curvature and flow are known in closed form, written densely: the oracles of the solvers."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pcnet.inference import CurvedProblem, EnergyPoint, ErrorProblem, LinearGaussian
from pcnet.typing import State


def rotation(size: int, seed: int = 0) -> Tensor:
    """A random orthogonal matrix."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.linalg.qr(rng.standard_normal((size, size)))[0])


def with_spectrum(*spectra: list[float]) -> Tensor:
    """One symmetric matrix per row with these eigenvalues, in a random basis of its own."""
    bases = [rotation(len(spectrum), seed) for seed, spectrum in enumerate(spectra)]
    return torch.stack([q @ torch.tensor(s, dtype=torch.float64).diag() @ q.T for q, s in zip(bases, spectra)])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


class Quadratic(CurvedProblem):
    """F = 1/2 (x - target)^T H (x - target), one dense H per row, units in groups of these widths."""

    def __init__(self, hessian: Tensor, target: Tensor, widths: tuple[int, ...]) -> None:
        self.hessian, self.target, self.widths = hessian, target, widths

    def rows(self, index: Tensor) -> "Quadratic":
        return Quadratic(self.hessian[index], self.target[index], self.widths)

    def groups(self, flat: Tensor) -> State:
        return flat.split(self.widths, -1)

    def at(self, x: State) -> EnergyPoint:
        shift = torch.cat(x, -1) - self.target
        slope = (self.hessian @ shift.unsqueeze(-1)).squeeze(-1)
        return EnergyPoint(x, self.groups(slope), 0.5 * (shift * slope).sum(-1))

    def hessian_product(self, point: EnergyPoint, direction: State) -> State:
        return self.groups((self.hessian @ torch.cat(direction, -1).unsqueeze(-1)).squeeze(-1))


@dataclass
class DenseMetric:
    """One dense matrix per row, or one for all."""

    matrix: Tensor

    def solve(self, gradient: State) -> State:
        flat = torch.linalg.solve(self.matrix, torch.cat(gradient, -1).unsqueeze(-1)).squeeze(-1)
        return flat.split([group.shape[-1] for group in gradient], -1)


class Chain(LinearGaussian, CurvedProblem):
    """z_0 = x held, z_l = W_l z_(l-1) + eps_l, z_L = y held: F = sum_l 1/2 |eps_l|^2, z_1 .. z_(L-1) free."""

    def __init__(self, weights: tuple[Tensor, ...], source: Tensor, outcome: Tensor) -> None:
        self.weights, self.source, self.outcome = weights, source, outcome
        self.widths = tuple(W.shape[0] for W in weights[:-1])
        self.names = tuple(f"layers.{level}" for level in range(1, len(weights)))

    @classmethod
    def random(cls, depth: int, width: int = 3, rows: int = 4, seed: int = 0) -> "Chain":
        sizes = [2, *[width] * (depth - 1), 2]
        weights = [normal(b, a, seed=seed + a + k) / a**0.5 for k, (a, b) in enumerate(zip(sizes, sizes[1:]))]
        return cls(tuple(weights), normal(rows, 2, seed=seed + 98), normal(rows, 2, seed=seed + 99))

    def rows(self, index: Tensor) -> "Chain":
        return Chain(self.weights, self.source[index], self.outcome[index])

    def at(self, x: State) -> EnergyPoint:
        errors = (*self.errors(x), self.outcome - x[-1] @ self.weights[-1].T)
        residual = tuple(e - after @ W for e, after, W in zip(errors, errors[1:], self.weights[1:]))
        return EnergyPoint(x, residual, 0.5 * sum((e * e).sum(-1) for e in errors))

    def at_errors(self, errors: State) -> EnergyPoint:
        values = [self.source]
        for W, error in zip(self.weights, errors):
            values.append(values[-1] @ W.T + error)
        return self.at(tuple(values[1:]))

    def errors(self, values: State) -> State:
        return tuple(z - before @ W.T for z, before, W in zip(values, (self.source, *values), self.weights))

    def pull_back(self, point: EnergyPoint, gradient: State) -> State:
        pulled = [gradient[-1]]
        for group, W in zip(gradient[-2::-1], self.weights[-2:0:-1]):
            pulled.append(group + pulled[-1] @ W)
        return tuple(reversed(pulled))

    def push_forward(self, point: EnergyPoint, direction: State) -> State:
        pushed = [direction[0]]
        for group, W in zip(direction[1:], self.weights[1:-1]):
            pushed.append(group + pushed[-1] @ W.T)
        return tuple(pushed)

    def hessian_product(self, point: EnergyPoint, direction: State) -> State:
        still = torch.zeros_like(self.source)
        return Chain(self.weights, still, torch.zeros_like(self.outcome)).at(direction).residual

    def onward(self) -> list[Tensor]:
        """P_l = W_L ... W_(l+1): how the output follows from each free value."""
        products = [self.weights[-1]]
        for W in self.weights[-2:0:-1]:
            products.append(products[-1] @ W)
        return products[::-1]

    def gauss_newton(self, point: EnergyPoint) -> DenseMetric:
        jacobian = torch.cat(self.onward(), -1)
        return DenseMetric(torch.eye(jacobian.shape[-1], dtype=jacobian.dtype) + jacobian.T @ jacobian)

    def solution(self) -> tuple[State, Tensor]:
        """Values and energy at the minimum: eps_l = P_l^T S^-1 r, F = 1/2 r^T S^-1 r, S = 1 + sum_l P_l P_l^T."""
        onward = self.onward()
        mean = self.source
        for W in self.weights:
            mean = mean @ W.T
        left = self.outcome - mean
        total = torch.eye(left.shape[-1], dtype=left.dtype) + sum(P @ P.T for P in onward)
        shared = torch.linalg.solve(total, left.T).T
        values = [self.source]
        for P, W in zip(onward, self.weights):
            values.append(values[-1] @ W.T + shared @ P)
        return tuple(values[1:]), 0.5 * (left * shared).sum(-1)


class Lasso(CurvedProblem):
    """F = 1/2 |y - A x|^2 + strength |x|_1, orthant-wise: the residual is the pseudo-gradient, steps stop at zero."""

    kinked = True

    def __init__(self, design: Tensor, outcome: Tensor, strength: float) -> None:
        self.design, self.outcome, self.strength = design, outcome, strength

    def rows(self, index: Tensor) -> "Lasso":
        return Lasso(self.design, self.outcome[index], self.strength)

    def at(self, x: State) -> EnergyPoint:
        error = self.outcome - x[0] @ self.design.T
        energy = 0.5 * (error * error).sum(-1) + self.strength * x[0].abs().sum(-1)
        return EnergyPoint(x, (pseudo_gradient(x[0], -error @ self.design, self.strength),), energy)

    def retract(self, x: State, increment: State) -> State:
        return (orthant_step(x[0], increment[0]),)

    def hessian_product(self, point: EnergyPoint, direction: State) -> State:
        moving = (point.values[0] != 0) | (point.residual[0] != 0)
        return (moving * ((moving * direction[0]) @ self.design.T @ self.design),)


class SparseTop(ErrorProblem, CurvedProblem):
    """A sparse top z above values h: F = 1/2 |h - W z|^2 + 1/2 |y - C h|^2 + strength |z|_1, with free (h, z).

    h minimised away leaves a lasso in z with noise of covariance S = 1 + C C^T.
    """

    kinked = True

    def __init__(self, above: Tensor, readout: Tensor, outcome: Tensor, strength: float) -> None:
        self.above, self.readout, self.outcome, self.strength = above, readout, outcome, strength

    def rows(self, index: Tensor) -> "SparseTop":
        return SparseTop(self.above, self.readout, self.outcome[index], self.strength)

    def at(self, x: State) -> EnergyPoint:
        error, left = x[0] - x[1] @ self.above.T, self.outcome - x[0] @ self.readout.T
        energy = 0.5 * ((error * error).sum(-1) + (left * left).sum(-1)) + self.strength * x[1].abs().sum(-1)
        top = pseudo_gradient(x[1], -error @ self.above, self.strength)
        return EnergyPoint(x, (error - left @ self.readout, top), energy)

    def retract(self, x: State, increment: State) -> State:
        return x[0] + increment[0], orthant_step(x[1], increment[1])

    def moving(self, point: EnergyPoint) -> Tensor:
        return (point.values[1] != 0) | (point.residual[1] != 0)

    def at_errors(self, errors: State) -> EnergyPoint:
        return self.at((errors[1] @ self.above.T + errors[0], errors[1]))

    def errors(self, values: State) -> State:
        return values[0] - values[1] @ self.above.T, values[1]

    def error_gradient(self, point: EnergyPoint) -> State:
        """Through z the whole of h moves along, so z's own error and what it predicts cancel: -(y - C h)^T C W is left."""
        left = self.outcome - point.values[0] @ self.readout.T
        return point.residual[0], pseudo_gradient(point.values[1], -left @ self.readout @ self.above, self.strength)

    def pull_back(self, point: EnergyPoint, gradient: State) -> State:
        return gradient[0], self.moving(point) * (gradient[1] + gradient[0] @ self.above)

    def push_forward(self, point: EnergyPoint, direction: State) -> State:
        top = self.moving(point) * direction[1]
        return direction[0] + top @ self.above.T, top

    def hessian_product(self, point: EnergyPoint, direction: State) -> State:
        moving = self.moving(point)
        error = direction[0] - (moving * direction[1]) @ self.above.T
        return error + direction[0] @ self.readout.T @ self.readout, moving * (-error @ self.above)

    def gauss_newton(self, point: EnergyPoint) -> DenseMetric:
        raise NotImplementedError


def pseudo_gradient(x: Tensor, smooth: Tensor, strength: float) -> Tensor:
    """Of smooth + strength |x|: the direction in which the energy rises least."""
    at_zero = smooth.sign() * (smooth.abs() - strength).clamp(min=0)
    return torch.where(x == 0, at_zero, smooth + strength * x.sign())


def orthant_step(x: Tensor, step: Tensor) -> Tensor:
    moved = x + step
    return torch.where(x * moved < 0, 0.0, moved)
