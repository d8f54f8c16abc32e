"""Processes from the literature, with what is known exactly about each.

``h`` is the entropy rate, ``C`` the statistical complexity and ``E`` the excess entropy, here in bits as the literature
gives them. *Mixed states* are the distinct beliefs an observer can pass through, the empty word's included.
"""

import torch

from pcnet.processes.models.arguments import require_at_least, require_probability
from pcnet.processes.models.hmm import HiddenMarkovModel


def mess3(x: float = 0.05, a: float = 0.85) -> HiddenMarkovModel:
    """Build Mess3: three states, three tokens, and beliefs that fill a fractal.

    The state stays with probability ``y = 1 - 2x`` or moves to either other one with x, and the token names the new
    state with probability a, either other one with ``b = (1 - a)/2``.

    The stationary law is uniform and the state's eigenvalues are 1 and ``1 - 3x`` twice. At the default, h = 1.144717,
    E = .57087, C is infinite, and the next-token law determines the belief affinely. The published experiment uses the
    default; another common choice, (.15, .6), leaves thirty times less to learn.

    Args:
        x: in [0, 1/2]. At 0 the state never changes and the stationary law isn't unique.
        a: in [0, 1]. At 1/3 the tokens say nothing.

    Raises:
        TypeError, ValueError: if an argument isn't a number in its range.

    Reference: Marzen & Crutchfield (2017), arXiv 1702.08565; Shai et al. (2024), arXiv 2405.15943.
    """
    return mess(3, x, a)


def mess(num_states: int, x: float = 0.05, a: float = 0.85) -> HiddenMarkovModel:
    """Build Mess-N: as many tokens as states; the token names the new state, but is wrong with some probability.

    The state stays with probability ``y = 1 - (N - 1) x`` or moves to each other one with x; the token names the new
    state with probability a, each other one with ``b = (1 - a)/(N - 1)``. With three states it is `mess3`.

    The stationary law is uniform, and the state's eigenvalues are 1 and, N - 1 times, ``1 - N x``.

    Args:
        num_states: N, at least 2.
        x: in [0, 1/(N - 1)]. At 0 the state never changes and the stationary law isn't unique.
        a: in [0, 1]. At 1/N the tokens say nothing.

    Raises:
        TypeError, ValueError: if an argument isn't a number in its range.

    Reference: the construction of Marzen & Crutchfield (2017), arXiv 1702.08565, for any number of states.
    """
    require_at_least("num_states", num_states, 2)
    others = num_states - 1
    require_probability("x", x, 1 / others)
    require_probability("a", a)
    b, y = (1 - a) / others, max(0.0, 1 - others * x)
    off = torch.ones(num_states, num_states, dtype=torch.float64)
    chain, named = (x * off).fill_diagonal_(y), (b * off).fill_diagonal_(a)
    return HiddenMarkovModel(named.unsqueeze(1) * chain)


def rrxor(p1: float = 0.5, p2: float = 0.5) -> HiddenMarkovModel:
    """Build random-random-XOR: two random bits, then their exclusive or, without end.

    States S (start), 0 and 1 (the first bit), T and F (the XOR is true or false). At the default the stationary law is
    (2, 1, 1, 1, 1)/6, there are 36 mixed states of which 5 recur, h = 2/3, C = E = 2.251629. The next-token law does
    *not* determine the belief. Away from one half the mixed states don't close.

    Args:
        p1: probability that the first bit is 0.
        p2: probability that the second bit is 0.

    Raises:
        TypeError, ValueError: if an argument isn't a number in [0, 1].

    Reference: Riechers & Crutchfield (2018), arXiv 1706.00883; Shai et al. (2024), arXiv 2405.15943.
    """
    require_probability("p1", p1)
    require_probability("p2", p2)
    q1, q2 = 1 - p1, 1 - p2
    return HiddenMarkovModel(
        [
            [[0, p1, 0, 0, 0], [0, 0, 0, 0, p2], [0, 0, 0, p2, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]],
            [[0, 0, q1, 0, 0], [0, 0, 0, q2, 0], [0, 0, 0, 0, q2], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
        ]
    )


def leaky_rrxor(p1: float = 0.5, p2: float = 0.5, e: float = 0.1) -> HiddenMarkovModel:
    """Build leaky random-random-XOR: with probability e, a random token is emitted and a random state comes next.

    ``T[x] = (1 - e) T_rrxor[x] + e/10``, in every entry of both matrices. The next-token law does *not* determine the
    belief. At e = 1 the tokens are fair coin flips.

    Args:
        p1: probability that the first bit is 0.
        p2: probability that the second bit is 0.
        e: probability of a leak. At 0 it is `rrxor`.

    Raises:
        TypeError, ValueError: if an argument isn't a number in [0, 1].
    """
    require_probability("e", e)
    return HiddenMarkovModel((1 - e) * rrxor(p1, p2).transition_matrices + e / 10)


def z1r(p: float = 0.5) -> HiddenMarkovModel:
    """Build zero-one-random: 0, then 1, then a random bit, without end.

    The chain of states is periodic, its stationary law uniform. At the default there are 7 mixed states of which 3
    recur, h = 1/3, C = E = 1.584963. The next-token law does *not* determine the belief.

    Args:
        p: probability that the random bit is 1.

    Raises:
        TypeError, ValueError: if ``p`` isn't a number in [0, 1].

    Reference: Shai et al. (2024), arXiv 2405.15943.
    """
    require_probability("p", p)
    return HiddenMarkovModel(
        [
            [[0, 1, 0], [0, 0, 0], [1 - p, 0, 0]],
            [[0, 0, 0], [0, 0, 1], [p, 0, 0]],
        ]
    )


def zrr(p1: float = 0.5, p2: float = 0.5) -> HiddenMarkovModel:
    """Build zero-random-random: 0, then two random bits, without end.

    The chain of states is periodic, its stationary law uniform. With the entropy H of a bit, ``h = (H[p1] + H[p2])/3``;
    at the default h = 2/3, C = E = 1.584963. The next-token law does *not* determine the belief.

    Args:
        p1: probability that the first random bit is 1.
        p2: probability that the second one is 1.

    Raises:
        TypeError, ValueError: if an argument isn't a number in [0, 1].
    """
    require_probability("p1", p1)
    require_probability("p2", p2)
    return HiddenMarkovModel(
        [
            [[0, 1, 0], [0, 0, 1 - p1], [1 - p2, 0, 0]],
            [[0, 0, 0], [0, 0, p1], [p2, 0, 0]],
        ]
    )


def golden_mean(p: float = 0.5) -> HiddenMarkovModel:
    """Build the golden mean process: random bits, but never two 1s in a row.

    A Markov chain of order 1. The stationary law is (1, p)/(1 + p). At the default there are 3 mixed states of which 2
    recur, h = 2/3, C = .918296, E = .251629, and the next-token law determines the belief affinely.

    Args:
        p: probability of a 1 where it is allowed.

    Raises:
        TypeError, ValueError: if ``p`` isn't a number in [0, 1].

    Reference: Crutchfield & Feldman (2003), Chaos 13, 25, arXiv cond-mat/0102181.
    """
    require_probability("p", p)
    return HiddenMarkovModel([[[1 - p, 0], [1, 0]], [[0, p], [0, 0]]])


def even(p: float = 0.5) -> HiddenMarkovModel:
    """Build the even process: 1s come in blocks of even length, between any number of 0s.

    No finite context suffices, as a run of 1s hides its parity. The stationary law is (1, p)/(1 + p). At the default
    there are 4 mixed states of which 2 recur, h = 2/3, C = E = .918296, and the next-token law determines the belief
    affinely.

    Args:
        p: probability that a block of 1s begins, or goes on after a pair.

    Raises:
        TypeError, ValueError: if ``p`` isn't a number in [0, 1].

    Reference: Crutchfield & Feldman (2003), Chaos 13, 25, arXiv cond-mat/0102181.
    """
    require_probability("p", p)
    return HiddenMarkovModel([[[1 - p, 0], [0, 0]], [[0, p], [1, 0]]])


def simple_nonunifilar_source(p: float = 0.5, q: float = 0.5) -> HiddenMarkovModel:
    """Build the simple non-unifilar source: two hidden states, but infinitely many causal ones.

    In state A, 0 is emitted and the state changes to B with probability p; in B, 1 with probability q and back to A,
    or else 0. Seeing 0 doesn't tell whether A was left, so the belief depends on the number of 0s since the last 1: a
    renewal process. The stationary law is ``(q, p)/(p + q)``. At the default n zeros follow a 1 with probability
    ``n 2^-(n + 1)``, whence h = .677867 and C = 2.711469 bits. The next-token law determines the belief affinely.

    Args:
        p: probability to leave A.
        q: probability to leave B.

    Raises:
        TypeError, ValueError: if an argument isn't a number in [0, 1].

    Reference: Marzen & Crutchfield (2015), Entropy 17, 4891, arXiv 1408.6876.
    """
    require_probability("p", p)
    require_probability("q", q)
    return HiddenMarkovModel([[[1 - p, p], [0, 1 - q]], [[0, 0], [q, 0]]])


def coin(p: float = 0.5) -> HiddenMarkovModel:
    """Build independent coin flips: one state, nothing to remember. At the default h = 1, C = E = 0.

    Args:
        p: probability of a 1.

    Raises:
        TypeError, ValueError: if ``p`` isn't a number in [0, 1].
    """
    require_probability("p", p)
    return HiddenMarkovModel([[[1 - p]], [[p]]])
