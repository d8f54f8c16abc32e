"""How much the past tells of the future, and how much of it short contexts miss: excess entropy, transient information."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from pcnet.processes.information.entropies import entropy_rate, limit
from pcnet.processes.information.forgetting import memory_left
from pcnet.processes.information.group_inverse import apply_group_inverse
from pcnet.processes.information.histories import Histories, histories
from pcnet.processes.information.quantity import Quantity, bounded
from pcnet.processes.machines.causal_process import MAX_STATES, smallest, smallest_presentation
from pcnet.processes.models.hmm import Process, as_process


def excess_entropy(process: Process | ArrayLike, *, max_states: int = MAX_STATES) -> Quantity:
    """Compute how much the past tells of the future, in nats.

    ``E = I[... X_(-2) X_(-1); X_0 X_1 ...] = sum_L (h(L) - h) = <delta_pi| (I - W)^D |H>``

    W is the transition matrix of the mixed states, H the entropy of the next token in each, D the group inverse. Exact
    where the mixed states close, in the time of a sparse elimination. Elsewhere by `excess_entropy_by_sum`.

    Args:
        process: a process, or the matrices of a hidden Markov model. Its stationary process counts; where that has
            several ergodic parts, the past also tells which of them it is.
        max_states: mixed states to look at.

    Raises:
        TypeError, ValueError: if ``max_states`` isn't a positive integer, or the stationary law isn't unique.

    Reference: Crutchfield & Feldman (2003), Chaos 13, 25, equation 22; Riechers & Crutchfield (2018), Chaos 28, 033116,
        arXiv 1706.00883.
    """
    process = as_process(process)
    presentation = smallest_presentation(process, max_states)
    if presentation.closed:
        return Quantity(max(float(apply_group_inverse(presentation, presentation.law_entropies.numpy())[0]), 0.0))
    return excess_entropy_by_sum(process, max_states=max_states)


def excess_entropy_by_sum(process: Process | ArrayLike, *, max_states: int = MAX_STATES) -> Quantity:
    """Compute the excess entropy by summing over context lengths, in nats.

    ``sum_(L < n) (h(L) - h) <= E <= sum_(L < n) (h(L) - h) + I[S_0; S_n | X_0 ... X_(n-1)]``

    for all n: given the hidden states, earlier tokens tell nothing more. The rest of the sum is extrapolated at the rate at
    which its terms shrink. Of a generalised process there is no upper bound.

    Args:
        process: a process, or the matrices of a hidden Markov model.
        max_states: mixed states to look at.

    Raises:
        TypeError, ValueError: if ``max_states`` isn't a positive integer, or the stationary law isn't unique.
    """
    curves = _curves(process, max_states)
    return bounded(*_sums(curves, np.ones(len(curves.rest)), curves.rest))


def transient_information(process: Process | ArrayLike, *, max_states: int = MAX_STATES) -> Quantity:
    """Compute how far block entropies are from their asymptote, summed over lengths; in nats times tokens.

    ``T = sum_L (E + h L - H[X_0 ... X_(L-1)]) = sum_L (L + 1) (h(L) - h) = <delta_pi| ((I - W)^D)^2 |H>``

    Exact where the mixed states close.

    Args:
        process: a process, or the matrices of a hidden Markov model.
        max_states: mixed states to look at.

    Returns:
        Bounds where the mixed states don't close; the upper one is infinite for a generalised process, and where no
        bound is known on how fast the first hidden state is forgotten.

    Raises:
        TypeError, ValueError: if ``max_states`` isn't a positive integer, or the stationary law isn't unique.

    Reference: Crutchfield & Feldman (2003), Chaos 13, 25, equation 27.
    """
    process = as_process(process)
    presentation = smallest_presentation(process, max_states)
    if presentation.closed:
        once = apply_group_inverse(presentation, presentation.law_entropies.numpy())
        return Quantity(max(float(apply_group_inverse(presentation, once)[0]), 0.0))
    curves = _curves(process, max_states)
    factors = np.arange(1.0, len(curves.rest) + 1)
    after = memory_left(smallest(process, max_states), curves.rest)
    return bounded(*_sums(curves, factors, factors * curves.rest + after))


class _Curves(NamedTuple):
    """Uncertainty after each length, the entropy rate, and bounds on what the lengths not looked at add.

    Attributes:
        bounds: of the uncertainty.
        rate: entropy rate.
        rest: for each n, an upper bound of ``sum_(l >= n) (h(l) - h)``.
    """

    bounds: Histories
    rate: Quantity
    rest: Float[NDArray, " n"]


def _curves(process: Process | ArrayLike, max_states: int) -> _Curves:
    process = as_process(process)
    bounds = histories(smallest(process, max_states), max_states)
    rate = entropy_rate(process, max_states=max_states)
    return _Curves(bounds, rate, np.minimum.accumulate(bounds.memory))


def _sums(curves: _Curves, factors: Float[NDArray, " n"], rest: Float[NDArray, " n"]) -> tuple[float, float, float]:
    """Estimate and bounds of ``sum_l factors[l] (h(l) - h)``; ``rest[n]`` bounds what l >= n add."""
    bounds, rate = curves.bounds, curves.rate
    least = np.cumsum(np.append(0, (bounds.floors_below - rate.high) * factors))
    most = np.cumsum(np.append(0, (bounds.floors - rate.low) * factors))[:-1] + rest
    low, high = max(float(least.max()), 0.0), float(most.min())
    used = int(np.argmin(bounds.floors)) + 1
    gaps = np.maximum(bounds.floors[:used] - rate, 0)
    value = float(gaps @ factors[:used]) + _tail(gaps, factors[:used])
    if math.isfinite(high) and not low <= value <= high:
        value = 0.5 * (low + high)
    return value, low, high


def _tail(gaps: Float[NDArray, " n"], factors: Float[NDArray, " n"]) -> float:
    """What the terms not looked at add if they shrink at the last rate."""
    _, rate = limit(gaps)
    step = float(factors[-1] - factors[-2]) if len(factors) > 1 else 0.0
    return float(gaps[-1]) * (float(factors[-1]) * rate / (1 - rate) + step * rate / (1 - rate) ** 2)
