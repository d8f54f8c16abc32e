"""Loss floors against published values and brute force; the rank test against what is known of each process."""

import itertools
import math

import numpy as np
import pytest
import torch

from pcnet.processes import (
    HiddenMarkovModel,
    coin,
    even,
    golden_mean,
    mess3,
    myopic_entropies,
    next_token_sufficient,
    rrxor,
    z1r,
)


def block_entropies(process: HiddenMarkovModel, max_length: int) -> np.ndarray:
    """H[X_0, ..., X_(L-1)] over every word of length L, its probability a product of matrices."""
    matrices = process.transition_matrices.numpy()
    entropies = []
    for length in range(max_length + 1):
        total = 0.0
        for word in itertools.product(range(process.vocab_size), repeat=length):
            row = process.stationary_distribution.numpy()
            for token in word:
                row = row @ matrices[token]
            probability = row.sum()
            total -= probability * math.log(probability) if probability > 0 else 0
        entropies.append(total)
    return np.array(entropies)


MESS3_FLOORS = [1.098612, 0.857719, 0.813356, 0.798118, 0.794740, 0.793783, 0.793543, 0.793480, 0.793463, 0.793459]
RRXOR_FLOORS = [
    *(0.693147, 0.693147, 0.636514, 0.628487, 0.598679, 0.577623),
    *(0.561458, 0.539847, 0.526940, 0.515819, 0.503337),
]


@pytest.mark.parametrize(
    "process, expected",
    [
        (mess3(), MESS3_FLOORS),
        (rrxor(), RRXOR_FLOORS),
        (even(), [0.636514, 0.605939, 0.549306, 0.534019, 0.505702]),
        (golden_mean(), [0.636514, *[2 / 3 * math.log(2)] * 5]),
        (coin(), [math.log(2)] * 4),
    ],
)
def test_floors_as_published(process, expected):
    np.testing.assert_allclose(myopic_entropies(process, len(expected) - 1), expected, atol=1e-6)


def test_mean_floors_as_published():
    assert myopic_entropies(mess3(), 9)[1:].mean().item() == pytest.approx(0.80352, abs=1e-5)
    assert myopic_entropies(rrxor(), 10)[1:10].mean().item() == pytest.approx(0.58650, abs=1e-5)
    assert myopic_entropies(rrxor(), 10)[1:].mean().item() == pytest.approx(0.57819, abs=1e-5)


@pytest.mark.parametrize(
    "process, max_length", [(mess3(0.1, 0.7), 4), (rrxor(0.3, 0.6), 7), (even(0.3), 7), (z1r(0.2), 7), (coin(0.9), 3)]
)
def test_floors_are_differences_of_block_entropies(process, max_length):
    expected = np.diff(block_entropies(process, max_length + 1))
    np.testing.assert_allclose(myopic_entropies(process, max_length), expected, atol=1e-12)


@pytest.mark.parametrize(
    "process, max_length, entropy_rate, excess_entropy, tolerance",
    [
        (golden_mean(), 4, 2 / 3, 0.251629, 1e-6),
        (z1r(), 8, 1 / 3, 1.584963, 1e-6),
        (mess3(), 11, 1.144717, 0.57087, 1e-5),
    ],
)
def test_floors_sum_to_the_excess_entropy(process, max_length, entropy_rate, excess_entropy, tolerance):
    bits = myopic_entropies(process, max_length) / math.log(2)
    assert bits[-1].item() == pytest.approx(entropy_rate, abs=1e-6)
    assert (bits - entropy_rate).sum().item() == pytest.approx(excess_entropy, abs=tolerance)


def test_floor_of_a_sure_token_is_zero():
    assert myopic_entropies(coin(1.0), 3).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((-1,), ValueError, "max_length must be at least 0, got -1"),
        ((2.0,), TypeError, "max_length must be an integer"),
        ((3, 0), ValueError, "max_words must be at least 1"),
        ((6, 80), ValueError, "there are 81 words of length 4, more than max_words=80"),
    ],
)
def test_impossible_contexts_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        myopic_entropies(mess3(), *arguments)


# Sufficiency of the next-token law


def leaky_rrxor(leak: float) -> HiddenMarkovModel:
    return HiddenMarkovModel((1 - leak) * rrxor().transition_matrices + leak / 10)


def rare_reset(in_first: float, in_second: float) -> HiddenMarkovModel:
    """Two states alike but for the probability of a very rare token; it resets the state, so beliefs do move."""
    same = torch.tensor([[0.5, 0.5], [0.5, 0.5]], dtype=torch.float64)
    often = torch.stack([same * 0.3, same * 0.7])
    rare = torch.tensor([[[in_first, 0], [in_second, 0]]], dtype=torch.float64)
    return HiddenMarkovModel(torch.cat([often * (1 - rare.sum((0, 2))).unsqueeze(1), rare]))


@pytest.mark.parametrize(
    "process, expected",
    [
        (mess3(), True),
        (mess3(0.15, 0.6), True),
        (coin(), True),
        (golden_mean(), True),
        (even(), True),
        (z1r(), False),
        (rrxor(), False),
        (leaky_rrxor(0.1), False),
        # The state forgets at once, so every next-token law is uniform while the belief still follows the token.
        (mess3(1 / 3, 0.85), False),
        # The tokens say nothing, so the belief never leaves the stationary law.
        (mess3(0.05, 1 / 3), True),
        (rare_reset(1e-12, 2e-12), True),
        (rare_reset(1e-12, 1e-12), False),
    ],
)
def test_whether_the_next_token_law_gives_the_belief_away(process, expected):
    assert next_token_sufficient(process) is expected


def test_hidden_copies_of_a_state_hide_from_the_law():
    # Two copies of Mess3 taking turns: only the phase is invisible, and a stationary start never resolves it.
    matrices = mess3().transition_matrices
    swap = torch.tensor([[0.0, 1], [1, 0]], dtype=torch.float64)
    doubled = HiddenMarkovModel(torch.stack([torch.kron(swap, matrix) for matrix in matrices]))
    assert next_token_sufficient(doubled)


def test_tokens_that_never_come_change_nothing():
    for process, expected in ((mess3(), True), (rrxor(), False)):
        matrices = process.transition_matrices
        padded = HiddenMarkovModel(torch.cat([torch.zeros_like(matrices[:1]), matrices]))
        assert next_token_sufficient(padded) is expected
