"""The energy of one token in a temporal predictive-coding network, with its exact derivatives.

Given the past, the values x_1 (next to the senses) .. x_L (top) of one token have

    eps_l = x_l - m_l - W_l tanh(x_(l+1)),   m_l = R_l tanh(x_l of the token before) + b_l,   no W at the top,
    F = sum_l 1/2 eps_l^T Pi_l eps_l - 1/2 log|Pi_l| - log softmax(C tanh(x_1) + c)[token].

Written by hand and not by autograd: inference evaluates this hundreds of times per training step. Shorthand below:
a = tanh(x), D = 1 - a^2 (derivative), xi = Pi eps (weighted error), u = onehot(token) - softmax, and the signal s_l that level l
receives from what it predicts: s_1 = C^T u, s_(l+1) = W_l^T xi_l. Then dF/dx_l = xi_l - D_l s_l.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from pcnet.inference.equilibrium import CurvedProblem, EnergyPoint, ErrorProblem
from pcnet.networks.activations import tanh, tanh_derivative
from pcnet.typing import State


@dataclass(frozen=True)
class Weights:
    """The tensors of a temporal network, levels from the senses upwards.

    Attributes:
        recurrent: R_l (D_l, D_l) and biases b_l.
        above: W_l (D_l, D_(l+1)), one fewer than levels.
        precisions: Pi_l (D_l,).
        readout: C (V, D_1), and its bias c.
    """

    recurrent: State
    biases: State
    above: State
    precisions: State
    readout: Float[Tensor, "V D"]
    readout_bias: Float[Tensor, " V"]

    def bases(self, past: State) -> State:
        """m_l: what each level expects from its own past."""
        triples = zip(past, self.recurrent, self.biases, strict=True)
        return tuple(functional.linear(tanh(x), R, b) for x, R, b in triples)

    def sweep(self, bases: State) -> State:
        """The values at zero error: every level at its prediction, from the top down."""
        values = [bases[-1]]
        for base, W in zip(reversed(bases[:-1]), reversed(self.above), strict=True):
            values.append(base + functional.linear(tanh(values[-1]), W))
        return tuple(reversed(values))

    def logit_factors(self, law: Float[Tensor, "B V"], derivatives: State) -> tuple[Float[Tensor, "B V D"], ...]:
        """G with G^T G = J^T Lam J, J the Jacobian of the logits with respect to the errors.

        Lam = diag(q) - q q^T = M M^T with M^T C = sqrt(q) (C - q^T C), so nothing has to be factorised.
        """
        centred = self.readout - (law @ self.readout).unsqueeze(-2)
        factors = [law.sqrt().unsqueeze(-1) * centred * derivatives[0].unsqueeze(-2)]
        for D, W in zip(derivatives[1:], self.above, strict=True):
            factors.append((factors[-1] @ W) * D.unsqueeze(-2))
        return tuple(factors)

    def logits(self, values: State) -> Float[Tensor, "*B V"]:
        return functional.linear(tanh(values[0]), self.readout, self.readout_bias)


@dataclass(frozen=True)
class TokenPoint(EnergyPoint):
    """`TokenProblem` evaluated at one state; see the module's shorthand."""

    errors: State
    activities: State
    derivatives: State
    signals: State
    law: Float[Tensor, "B V"]


@dataclass(frozen=True)
class LowRankMetric:
    """P = diag(h) + G^T G with G (V x all values): the inverse costs one V x V system per sample."""

    diagonal: State
    factors: tuple[Float[Tensor, "B V D"], ...]
    capacitance: Float[Tensor, "B V V"]

    @classmethod
    def of(cls, diagonal: State, factors: tuple[Float[Tensor, "B V D"], ...]) -> "LowRankMetric":
        overlap = sum((G / h.unsqueeze(-2)) @ G.mT for G, h in zip(factors, diagonal, strict=True))
        return cls(
            diagonal, factors, overlap + torch.eye(overlap.shape[-1], dtype=overlap.dtype, device=overlap.device)
        )

    def solve(self, gradient: State) -> State:
        scaled = tuple(g / h for g, h in zip(gradient, self.diagonal, strict=True))
        projected = sum((G * g.unsqueeze(-2)).sum(-1) for G, g in zip(self.factors, scaled, strict=True))
        weights, _ = torch.linalg.solve_ex(self.capacitance, projected.unsqueeze(-1))
        triples = zip(scaled, self.factors, self.diagonal, strict=True)
        return tuple(g - (G * weights).sum(-2) / h for g, G, h in triples)


class TokenProblem(ErrorProblem, CurvedProblem):
    """F of one token for each row, given what its past makes it expect.

    Args:
        weights: of the network.
        bases: m_l, what each level expects from its own past.
        tokens: the clamped observation.
    """

    def __init__(self, weights: Weights, bases: State, tokens: Int[Tensor, " B"]) -> None:
        self.weights = weights
        self.bases = bases
        self.tokens = tokens
        self.names = tuple(f"layers.{level}" for level in range(1, len(bases) + 1))
        self.widths = tuple(base.shape[-1] for base in bases)
        self.observed = functional.one_hot(tokens, weights.readout.shape[0]).to(bases[0].dtype)
        self.log_normaliser = -0.5 * sum(precision.log().sum() for precision in weights.precisions)

    def rows(self, index: Int[Tensor, " R"]) -> "TokenProblem":
        return TokenProblem(self.weights, tuple(base[index] for base in self.bases), self.tokens[index])

    def at(self, x: State) -> TokenPoint:
        activities = tuple(tanh(group) for group in x)
        return self._evaluate(x, activities, self._errors(x, activities))

    def at_errors(self, errors: State) -> TokenPoint:
        values, activities = [self.bases[-1] + errors[-1]], []
        for base, W, error in zip(self.bases[-2::-1], reversed(self.weights.above), errors[-2::-1], strict=True):
            activities.append(tanh(values[-1]))
            values.append(base + functional.linear(activities[-1], W) + error)
        activities.append(tanh(values[-1]))
        return self._evaluate(tuple(reversed(values)), tuple(reversed(activities)), errors)

    def errors(self, values: State) -> State:
        return self._errors(values, tuple(tanh(group) for group in values))

    def _errors(self, values: State, activities: State) -> State:
        below = (
            x - base - functional.linear(a, W)
            for x, base, a, W in zip(values, self.bases[:-1], activities[1:], self.weights.above, strict=False)
        )
        return *below, values[-1] - self.bases[-1]

    def _evaluate(self, values: State, activities: State, errors: State) -> TokenPoint:
        log_law = functional.log_softmax(
            functional.linear(activities[0], self.weights.readout, self.weights.readout_bias), -1
        )
        law = log_law.exp()
        weighted = tuple(precision * error for precision, error in zip(self.weights.precisions, errors, strict=True))
        surprise = -(self.observed * log_law).sum(-1)
        mismatch = sum((error * xi).sum(-1) for error, xi in zip(errors, weighted, strict=True))
        signals = ((self.observed - law) @ self.weights.readout, *self._signals_above(weighted))
        derivatives = tuple(tanh_derivative(a) for a in activities)
        residual = tuple(
            torch.addcmul(xi, D, s, value=-1) for xi, D, s in zip(weighted, derivatives, signals, strict=True)
        )
        energy = 0.5 * mismatch + surprise + self.log_normaliser
        return TokenPoint(values, residual, energy, errors, activities, derivatives, signals, law)

    def _signals_above(self, weighted: State) -> State:
        """W_l^T xi_l for every level but the top."""
        return tuple(xi @ W for xi, W in zip(weighted, self.weights.above, strict=False))

    def pull_back(self, point: TokenPoint, gradient: State) -> State:
        pulled = [gradient[0]]
        for group, D, W in zip(gradient[1:], point.derivatives[1:], self.weights.above, strict=True):
            pulled.append(torch.addcmul(group, D, pulled[-1] @ W))
        return tuple(pulled)

    def push_forward(self, point: TokenPoint, direction: State) -> State:
        pushed = [direction[-1]]
        triples = zip(direction[-2::-1], point.derivatives[:0:-1], reversed(self.weights.above), strict=True)
        for group, D, W in triples:
            pushed.append(group + functional.linear(D * pushed[-1], W))
        return tuple(reversed(pushed))

    def gauss_newton(self, point: TokenPoint) -> LowRankMetric:
        """diag(Pi + curvature of the tanh, floored at half the precision) + J^T Lam J."""
        curvature = zip(self.weights.precisions, point.activities, point.derivatives, point.signals, strict=True)
        diagonal = tuple(precision + torch.maximum(2 * a * D * s, -0.5 * precision) for precision, a, D, s in curvature)
        return LowRankMetric.of(diagonal, self.weights.logit_factors(point.law, point.derivatives))

    def hessian_product(self, point: TokenPoint, direction: State) -> State:
        spread = self.error_directions(point, direction)
        weighted = tuple(precision * group for precision, group in zip(self.weights.precisions, spread, strict=True))
        first = functional.linear(point.derivatives[0] * direction[0], self.weights.readout)
        centred = point.law * (first - (point.law * first).sum(-1, keepdim=True))
        signals = (-centred @ self.weights.readout, *self._signals_above(weighted))
        groups = zip(weighted, point.activities, point.derivatives, point.signals, signals, direction, strict=True)
        return tuple(xi + D * (2 * a * s * x - ds) for xi, a, D, s, ds, x in groups)

    def error_directions(self, point: TokenPoint, direction: State) -> State:
        """How the errors change when the values move along `direction`: x_l - W_l D_(l+1) x_(l+1)."""
        triples = zip(direction, point.derivatives[1:], direction[1:], self.weights.above, strict=False)
        return *(x - functional.linear(D * above, W) for x, D, above, W in triples), direction[-1]

    def past_product(self, point: TokenPoint, adjoint: State) -> State:
        """-adjoint^T d2F/(dx dm): what an adjoint of this token's values sends back to what they were expected from."""
        return tuple(
            precision * c
            for precision, c in zip(self.weights.precisions, self.error_directions(point, adjoint), strict=True)
        )


class NudgedProblem(ErrorProblem):
    """F + nudge * surprise at the next token, as forecast from these values: a push on the outcome of the next prediction.

    Args:
        free: the problem without the nudge.
        next_tokens: what will be observed next.
        nudge: beta, one per row; positive pulls towards the outcome.
    """

    def __init__(self, free: TokenProblem, next_tokens: Int[Tensor, " B"], nudge: Float[Tensor, " B"]) -> None:
        self.free = free
        self.names, self.widths = free.names, free.widths
        self.next_tokens = next_tokens
        self.nudge = nudge
        self.outcome = functional.one_hot(next_tokens, free.observed.shape[-1]).to(nudge.dtype)

    def rows(self, index: Int[Tensor, " R"]) -> "NudgedProblem":
        return NudgedProblem(self.free.rows(index), self.next_tokens[index], self.nudge[index])

    def at(self, x: State) -> TokenPoint:
        return self._nudged(self.free.at(x))

    def at_errors(self, errors: State) -> TokenPoint:
        return self._nudged(self.free.at_errors(errors))

    def errors(self, values: State) -> State:
        return self.free.errors(values)

    def pull_back(self, point: TokenPoint, gradient: State) -> State:
        return self.free.pull_back(point, gradient)

    def push_forward(self, point: TokenPoint, direction: State) -> State:
        return self.free.push_forward(point, direction)

    def gauss_newton(self, point: TokenPoint) -> LowRankMetric:
        """The free problem's metric, with the curvature of a positive nudge; that of a negative one would not be positive."""
        free = self.free.gauss_newton(point)
        forecast, log_law = self._forecast(point)
        weights = self.free.weights
        sent = weights.logit_factors(log_law.exp(), tuple(tanh_derivative(tanh(x)) for x in forecast))
        strength = self.nudge.clamp(min=0).sqrt()[:, None, None]
        factors = tuple(
            strength * (G @ R) * D.unsqueeze(-2)
            for G, R, D in zip(sent, weights.recurrent, point.derivatives, strict=True)
        )
        pulled = [factors[0]]
        for group, D, W in zip(factors[1:], point.derivatives[1:], weights.above, strict=True):
            pulled.append(group + D.unsqueeze(-2) * (pulled[-1] @ W))
        return LowRankMetric.of(
            free.diagonal, tuple(torch.cat(pair, -2) for pair in zip(free.factors, pulled, strict=True))
        )

    def _forecast(self, point: TokenPoint) -> tuple[State, Float[Tensor, "B V"]]:
        """Values expected at the next token, and the logarithm of its law."""
        weights = self.free.weights
        triples = zip(point.activities, weights.recurrent, weights.biases, strict=True)
        forecast = weights.sweep(tuple(functional.linear(a, R, b) for a, R, b in triples))
        return forecast, functional.log_softmax(weights.logits(forecast), -1)

    def _nudged(self, point: TokenPoint) -> TokenPoint:
        weights = self.free.weights
        forecast, log_law = self._forecast(point)
        surprise = -(self.outcome * log_law).sum(-1)
        strength = self.nudge.unsqueeze(-1)
        derivatives = tuple(tanh_derivative(tanh(x)) for x in forecast)
        sent = [(strength * (log_law.exp() - self.outcome)) @ weights.readout * derivatives[0]]
        for D, W in zip(derivatives[1:], weights.above, strict=True):
            sent.append((sent[-1] @ W) * D)
        groups = zip(point.residual, point.derivatives, sent, weights.recurrent, strict=True)
        residual = tuple(torch.addcmul(r, D, back @ R) for r, D, back, R in groups)
        return replace(point, residual=residual, energy=point.energy + self.nudge * surprise)
