"""Modular addition: the hidden state is a running sum modulo m."""

from collections.abc import Sequence

import torch

from pcnet.processes.models.arguments import checked_weights, require_at_least, require_probability
from pcnet.processes.models.hmm import HiddenMarkovModel


def modular_addition(
    modulus: int = 3, num_addends: int = 2, weights: Sequence[float] | None = None
) -> HiddenMarkovModel:
    """Build sums modulo m: k random addends, then a token that is their sum modulo m, without end.

    ``X_(n(k+1)+k) = X_(n(k+1)) + ... + X_(n(k+1)+k-1) mod m``: `rrxor` for m = k = 2

    State 0 is the start; state ``1 + (j - 1) m + s`` stands for the sum s of j addends, j = 1..k; from j = k the token is
    s, and the start comes next. The tokens don't mark where a group begins: an observer has to infer it.

    With evenly distributed addends the stationary law is ``1/(k + 1)`` at the start and ``1/(m (k + 1))`` elsewhere, and in
    nats ``h = k ln(m)/(k + 1)``, ``C = E = ln(k + 1) + k ln(m)/(k + 1)``.

    Args:
        modulus: m, the number of tokens, at least 2.
        num_addends: k, at least 1.
        weights: probability of each addend 0..m-1. None: 1/m.

    Raises:
        TypeError, ValueError: if a size isn't an integer or too small, or the weights aren't m probabilities that sum to 1.
    """
    require_at_least("modulus", modulus, 2)
    require_at_least("num_addends", num_addends, 1)
    law = checked_weights(weights, modulus)
    matrices = torch.zeros(modulus, 1 + num_addends * modulus, 1 + num_addends * modulus, dtype=torch.float64)
    for token in range(modulus):
        matrices[token, 0, 1 + token] = law[token]
        for total in range(modulus):
            before = 1 + total + modulus * torch.arange(num_addends - 1)
            matrices[token, before, before - total + modulus + (total + token) % modulus] = law[token]
        matrices[token, 1 + (num_addends - 1) * modulus + token, 0] = 1
    return HiddenMarkovModel(matrices)


def modular_walk(modulus: int = 5, reveal: float = 0.25, weights: Sequence[float] | None = None) -> HiddenMarkovModel:
    """Build a walk around a circle of m places, which emits its steps and, from time to time, its place.

    The state s is in 0..m-1. With probability ``reveal`` the token is ``m + s``, which names the state, and the state stays; otherwise a random
    addend d is the token, and the state becomes ``s + d mod m``. So there are 2 m tokens: addends, then places.

    The stationary law is uniform. The belief is uniform until the first token that names a place, and certain from then
    on: 1 + m mixed states. In nats, with the entropy H of a law, ``h = H[reveal] + (1 - reveal) H[weights]`` and
    ``C = E = ln m``. The next-token law determines the belief affinely.

    Args:
        modulus: m, at least 2.
        reveal: in [0, 1]. At 0 no token names a place; at 1 the place never changes, and the stationary law isn't unique.
        weights: probability of each addend 0..m-1. None: 1/m. If all that can occur share a factor with m, not all places
            can be reached, and the stationary law isn't unique.

    Raises:
        TypeError, ValueError: if ``modulus`` isn't an integer of at least 2, ``reveal`` isn't a number in [0, 1], or the
            weights aren't m probabilities that sum to 1.
    """
    require_at_least("modulus", modulus, 2)
    require_probability("reveal", reveal)
    law, places = checked_weights(weights, modulus), torch.arange(modulus)
    matrices = torch.zeros(2 * modulus, modulus, modulus, dtype=torch.float64)
    for addend in range(modulus):
        matrices[addend, places, (places + addend) % modulus] = (1 - reveal) * law[addend]
    matrices[modulus + places, places, places] = reveal
    return HiddenMarkovModel(matrices)
