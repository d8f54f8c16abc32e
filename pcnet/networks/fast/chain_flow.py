"""Euler descent on the values of a dense chain, written for the machine rather than for any graph.

A chain x_0 (clamped) -> x_1 .. x_(L-1) (free) -> x_L (clamped), predictions mu_l = act_l(a_l), a_l = W_l x_(l-1) + b_l,
the last one linear, all precisions 1:

    F = sum_l 1/2 |x_l - mu_l|^2,   e_l = x_l - mu_l,   d_l = e_l act_l'(a_l),
    x_l <- x_l - h (e_l - W_(l+1)^T d_(l+1))  for all l at once,   dF/dW_l = -d_l x_(l-1)^T,  dF/db_l = -d_l.

The iterates are exactly those; what is saved is work.

* **Everything is in place,** with constants in alpha and beta of the matrix products, an error times act' as one pass, no
  memory allocated in the loop and nothing recorded for autograd.
* **The first level is linear in time.** Its prediction never changes, so after k steps e_1 = (1-h)^k e_1(0) + W_2^T D with
  D <- (1-h) D + h d_2, and level 2 is driven by a_2 = (W_2 mu_1 + b_2) + (1-h)^k W_2 e_1(0) + (W_2 W_2^T) D: one product a
  step where there were two. W_2 W_2^T costs a product of its own, so `run` counts first.
* **A signal climbs down one level a step.** From the feed-forward start all errors but the last are zero: level l moves for
  the first time in step L - l, and what has not moved is not computed again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.networks.activations import Activation
from pcnet.networks.fast.chain_levels import (
    IN_PLACE,
    Buffers,
    FirstValues,
    FoldedValues,
    FreeValues,
    InPlaceIdentity,
    Level,
    Link,
    PlainValues,
)
from pcnet.typing import State


@dataclass(frozen=True)
class FlowResult:
    """Where a run ended; a later run overwrites nothing here.

    Attributes:
        levels: x_0 .. x_L, the clamped ones as they were given.
        errors: e_1 .. e_L.
        input_gradients: dF/da_1 .. dF/da_L, which is -d_l.
    """

    levels: State
    errors: State
    input_gradients: State

    @property
    def values(self) -> State:
        """The free ones, x_1 .. x_(L-1)."""
        return self.levels[1:-1]

    @property
    def predictions(self) -> State:
        """mu_1 .. mu_L."""
        return tuple(x - e for x, e in zip(self.levels[1:], self.errors, strict=True))

    @property
    def energy(self) -> Float[Tensor, " B"]:
        """F per row, in nats."""
        return sum(0.5 * torch.linalg.vecdot(e, e) for e in self.errors)


class ChainFlow:
    """Runs Euler descent on the values of a dense chain, and tells the errors where it ends.

    The number of steps is fixed: no stopping test is made, and a run that diverges ends in numbers that are not finite. Weights
    are read in every run as they then are. Working memory is kept between runs of one shape, so an object serves one thread.

    Args:
        weights: W_1 .. W_L, at least two, each (D_l, D_(l-1)).
        biases: b_1 .. b_L, each (D_l,) or None.
        activations: of mu_1 .. mu_(L-1), each of a type in `IN_PLACE`; mu_L is linear.

    Raises:
        ValueError: where numbers of levels or shapes do not fit.
        TypeError: for an activation that is not in `IN_PLACE`.
    """

    def __init__(
        self, weights: Sequence[Tensor], biases: Sequence[Tensor | None], activations: Sequence[Activation]
    ) -> None:
        if len(weights) < 2 or len(biases) != len(weights) or len(activations) != len(weights) - 1:
            counts = f"{len(weights)}, {len(biases)} and {len(activations)}"
            raise ValueError(f"weights, biases and activations must be L >= 2, L and L - 1 of them, got {counts}")
        unknown = [activation for activation in activations if type(activation) not in IN_PLACE]
        if unknown:
            raise TypeError(f"activations must be of {[known.__name__ for known in IN_PLACE]}, got {unknown[0]}")
        for W, above in zip(weights, weights[1:]):
            if above.shape[1] != W.shape[0]:
                raise ValueError(
                    f"weights must follow from each other, got {tuple(W.shape)}, then {tuple(above.shape)}"
                )
        in_place = [*(IN_PLACE[type(activation)](activation) for activation in activations), InPlaceIdentity()]
        self._links = [Link(*parts) for parts in zip(weights, biases, in_place, strict=True)]
        self._buffers = Buffers()

    @torch.no_grad()
    def run(
        self,
        inputs: Float[Tensor, "B N"],
        target: Float[Tensor, "B M"],
        values: State | None = None,
        *,
        step_size: float,
        steps: int,
        expected: Float[Tensor, "B D"] | None = None,
    ) -> FlowResult:
        """Take `steps` Euler steps.

        Args:
            inputs: x_0.
            target: x_L.
            values: x_1 .. x_(L-1) at the start; None is the feed-forward start, from where fewer operations are needed.
            step_size: h > 0.
            steps: at least 1.
            expected: mu_1 where it is known already; None predicts it.
        """
        self._check(inputs, target, values, step_size, steps)
        mu = self._predict_first(inputs) if expected is None else expected
        first = self._first_values(mu, values, steps)
        levels = self._levels_above(first, target)
        if values is None:
            _sweep(levels, first)
        else:
            for level, x in zip(levels, values[1:]):
                level.value.copy_(x)
        still = len(levels) - 1 if values is None else -1
        for lowest in range(still, still - steps, -1):
            _look(levels, lowest)
            for level in reversed(levels[max(lowest, 0) :]):
                level.below.move(level.answer(), step_size)
        _look(levels, still - steps)
        values, errors, gradients = self._ends(mu, first.error(), levels)
        return FlowResult((inputs, *values, target), errors, gradients)

    def _check(self, inputs: Tensor, target: Tensor, values: State | None, step_size: float, steps: int) -> None:
        widths = [self._links[0].weight.shape[1], *(len(link.weight) for link in self._links)]
        if values is None:
            given, widths = [inputs, target], [widths[0], widths[-1]]
        else:
            given = [inputs, *values, target]
        shapes = [tuple(x.shape) for x in given]
        if shapes != [(len(inputs), width) for width in widths]:
            raise ValueError(f"inputs, values and target must be rows of widths {widths}, equally many, got {shapes}")
        if not 0 < step_size < math.inf:
            raise ValueError(f"step_size must be a finite number > 0, got {step_size}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")

    def _predict_first(self, inputs: Tensor) -> Tensor:
        """mu_1, once a run."""
        link = self._links[0]
        mu = link.drive(inputs, self._buffers.take("prediction 1", len(link.weight), inputs))
        link.activation.apply(mu)
        return mu

    def _first_values(self, mu: Tensor, values: State | None, steps: int) -> FirstValues:
        """The values of level 1, by the route that takes fewer operations."""
        link, buffers, rows = self._links[1], self._buffers, len(mu)
        M, N = link.weight.shape
        start = None if values is None else torch.sub(values[0], mu, out=buffers.take("error 1", N, mu))
        constant = link.drive(mu, buffers.take("constant 1", M, mu))
        folded = steps * rows * M + N * M + rows * N < 2 * steps * rows * N  # multiplications, over M
        return (FoldedValues if folded else PlainValues)(start, constant, link, buffers)

    def _levels_above(self, first: FirstValues, target: Tensor) -> list[Level]:
        """Levels 2 .. L."""
        levels = [Level(2, self._links[1], first, self._buffers, target)]
        for number, link in enumerate(self._links[2:], 3):
            levels.append(Level(number, link, FreeValues(levels[-1], link), self._buffers, target))
        levels[-1].value.copy_(target)
        return levels

    def _ends(self, mu: Tensor, error: Tensor, levels: Sequence[Level]) -> tuple[State, State, State]:
        """Values, errors and gradients in a, copied; gradients last, because d takes the place of e."""
        values = [mu + error, *(level.value.clone() for level in levels[:-1])]
        errors = [error, *(level.error.clone() for level in levels)]
        gradients = [self._links[0].activation.times_derivative(-error, mu), *(-level.answer() for level in levels)]
        return tuple(tuple(tensor.contiguous() for tensor in group) for group in (values, errors, gradients))


def _sweep(levels: Sequence[Level], first: FirstValues) -> None:
    """The feed-forward start: every free level at its prediction."""
    levels[0].prediction.copy_(first.constant)
    levels[0].activation.apply(levels[0].prediction)
    for level, above in zip(levels, levels[1:]):
        level.start()
        above.predict()


def _look(levels: Sequence[Level], lowest: int) -> None:
    """Compare values with predictions from position `lowest` up; the lowest has moved, but not what predicts it."""
    for position, level in enumerate(levels):
        if position > lowest:
            level.predict()
        if position >= lowest:
            level.compare()
