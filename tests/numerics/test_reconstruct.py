"""Reconstruction from samples of known machines; its counts by hand, and its test against scipy's."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from pcnet.processes import (
    EpsilonMachine,
    HiddenMarkovModel,
    coin,
    epsilon_machine,
    even,
    golden_mean,
    reconstruct,
    rrxor,
    same_process,
    sample,
    z1r,
)
from pcnet.processes.machines.reconstruction import _agreement


def tokens_of(process: HiddenMarkovModel, seed: int, num_sequences: int = 20, length: int = 1000) -> torch.Tensor:
    return sample(process, num_sequences, length, torch.Generator().manual_seed(seed))


def names_in(exact: EpsilonMachine, found: EpsilonMachine) -> list[int]:
    """State of the found machine for each of the exact one, if both lead from state to state alike."""
    for names in itertools.permutations(range(exact.num_states)):
        renamed = torch.tensor([*names, -1])
        if torch.equal(found.successors[list(names)], renamed[exact.successors]):
            return list(names)
    raise AssertionError(f"{found.successors.tolist()} is another machine than {exact.successors.tolist()}")


KNOWN = [
    (golden_mean(), 4),
    (golden_mean(0.2), 4),
    (even(), 5),
    (even(0.3), 5),
    (z1r(), 5),
    (z1r(0.3), 5),
    (coin(0.1), 4),
]


@pytest.mark.parametrize("process, max_length", KNOWN)
@pytest.mark.parametrize("seed", range(5))
def test_known_machines_are_found(process, max_length, seed):
    exact = epsilon_machine(process)
    found = reconstruct(tokens_of(process, seed), max_length=max_length)
    assert found.machine.num_states == exact.num_states
    names = names_in(exact, found.machine)
    error = (exact.probabilities * (1 - exact.probabilities) / found.counts[names].sum(1, keepdim=True)).sqrt()
    difference = (found.machine.probabilities[names] - exact.probabilities).abs()
    assert (difference <= 4 * error).all()
    assert same_process(found.machine.process, exact.process, 0.1)
    # The complexity's slope in p is at most .7 here, and p is known to some .01.
    assert found.machine.complexity == pytest.approx(exact.complexity, abs=0.02)
    assert found.machine.entropy_rate == pytest.approx(exact.entropy_rate, abs=0.03)


def test_errors_are_as_large_as_they_are_said_to_be():
    """Deviations in units of the standard error over 100 samples: mean square 1, and its own error is sqrt(2 / 100)."""
    units = []
    for seed in range(100):
        found = reconstruct(tokens_of(golden_mean(0.3), seed, 2, 500), max_length=2)
        if found.machine.num_states == 2:
            units.append((found.machine.probabilities[0, 1] - 0.3) / found.standard_errors[0, 1])
    assert len(units) >= 98
    assert float(torch.stack(units).square().mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / 100))


@pytest.mark.parametrize("seed", range(3))
def test_rrxor_needs_longer_futures(seed):
    tokens = tokens_of(rrxor(), seed, 200)
    found = reconstruct(tokens, max_length=6, significance=1e-5, future_length=3)
    assert found.machine.num_states == 5
    names_in(epsilon_machine(rrxor()), found.machine)
    assert same_process(found.machine.process, rrxor(), 0.1)
    assert reconstruct(tokens, max_length=6, significance=1e-5).machine.num_states > 5


def test_histories_are_those_of_the_states():
    """Golden mean: what ends in 1, and the rest. Even: the parity of the ones since the last 0, and none without one."""
    found = reconstruct(tokens_of(golden_mean(), 0), max_length=4)
    possible = [word for word in itertools.product((0, 1), repeat=3) if (1, 1) not in itertools.pairwise(word)]
    assert [set(state) for state in found.histories] == [
        {word for word in possible if word[-1] == 0},
        {word for word in possible if word[-1] == 1},
    ]
    assert found.coverage == 1
    found = reconstruct(tokens_of(even(), 0), max_length=4)
    assert [set(state) for state in found.histories] == [
        {(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 1)},
        {(0, 0, 1), (1, 0, 1)},
    ]
    # 1111 alone doesn't tell: at one half its probability is 2/3 2^-2 + 1/3 2^-2.
    assert found.coverage == pytest.approx(1 - 0.25 + 2 / 3 * 0.25 * 0, abs=0.02)


def test_counts_are_those_of_the_sequences():
    tokens = tokens_of(golden_mean(0.4), 3, 7, 50)
    found = reconstruct(tokens, max_length=3)
    counted = Counter()
    for row in tokens.tolist():
        counted.update((tuple(row[t - 2 : t]), row[t]) for t in range(2, len(row)))
    for state, histories in enumerate(found.histories):
        for token in range(2):
            assert found.counts[state, token] == sum(counted[history, token] for history in histories)
    np.testing.assert_allclose(found.machine.probabilities, found.counts / found.counts.sum(1, keepdim=True))


@pytest.mark.parametrize(
    "first, second", [((30, 12), (50, 60)), ((5, 0, 9), (7, 3, 200)), ((4, 4, 4, 0), (1, 2, 3, 0))]
)
def test_laws_are_compared_as_by_scipy(first, second):
    table = np.array([first, second])
    table = table[:, table.any(0)]
    expected = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").pvalue
    assert _agreement(np.array(first), np.array(second)) == pytest.approx(expected, rel=1e-9)


def test_one_token_never_splits():
    found = reconstruct(np.zeros(100, dtype=int), max_length=5)
    assert found.machine.num_states == 1 and found.machine.entropy_rate == 0 and found.coverage == 1


def test_a_fair_coin_is_rarely_split():
    """One state in nearly all of 60 samples: 14 histories at a significance of 1e-3 are split in 1.4 % of them."""
    states = [reconstruct(tokens_of(coin(), seed, 4, 500), max_length=3).machine.num_states for seed in range(60)]
    assert sum(count > 1 for count in states) <= 5


def test_separate_sequences_are_not_joined():
    """Sequences 01 01 01... and 10 10 10...: no token ever follows itself, whatever stands side by side in memory."""
    rows = torch.tensor([[0, 1] * 20, [1, 0] * 20])
    found = reconstruct(rows, max_length=3)
    assert found.machine.probabilities.tolist() == [[1, 0], [0, 1]]
    assert found.machine.successors.tolist() == [[1, -1], [-1, 0]]


def test_a_mixture_is_found_with_its_weights():
    """3 in 10 sequences never have two ones in a row, and the others repeat 0 0 1 1."""
    cycle = torch.tensor([0, 0, 1, 1] * 250)
    rows = [cycle.roll(shift) for shift in range(14)]
    found = reconstruct(torch.cat([tokens_of(golden_mean(), 0, 6, 1000), torch.stack(rows)]), max_length=8)
    masses = sorted(found.machine.stationary_distribution[found.machine.components == n].sum().item() for n in range(2))
    assert found.machine.num_states == 6
    assert masses == pytest.approx([0.3, 0.7], abs=0.01)


def test_arrays_and_single_sequences_are_taken():
    row = tokens_of(even(), 0, 1, 5000)
    expected = reconstruct(row, max_length=4).machine
    for given in (row[0], row.numpy(), row[0].tolist(), row.to(torch.int32)):
        found = reconstruct(given, max_length=4).machine
        assert torch.equal(found.probabilities, expected.probabilities)
    wider = reconstruct(row, max_length=4, vocab_size=3).machine
    assert torch.equal(wider.probabilities[:, :2], expected.probabilities) and not wider.probabilities[:, 2].any()


@pytest.mark.parametrize(
    "sequences, arguments, error, message",
    [
        ([0.0, 1.0] * 5, {}, TypeError, "^sequences "),
        ([[[0, 1]]], {}, ValueError, r"must have a shape \(L,\) or \(B, L\)"),
        ([], {}, TypeError, "integers"),
        ([0, 1, -1, 0], {}, ValueError, r"sequences\[0, 2\] = -1"),
        ([[0, 1, 0], [0, 0, 4]], {"vocab_size": 3}, ValueError, r"sequences\[1, 2\] = 4"),
        ([0, 1, 0], {"max_length": 3}, ValueError, r"3 \+ 1, must be at most the length of the sequences, 3"),
        ([0, 1, 0], {"max_length": 0}, ValueError, "^max_length "),
        ([0, 1, 0], {"max_length": 1.5}, TypeError, "^max_length "),
        ([0, 1, 0], {"future_length": 0}, ValueError, "^future_length "),
        ([0, 1, 0], {"significance": 1.0}, ValueError, "^significance "),
        ([0] * 100, {"max_length": 61, "vocab_size": 2}, ValueError, "too long for 2 tokens"),
    ],
)
def test_what_cannot_be_reconstructed_is_refused(sequences, arguments, error, message):
    with pytest.raises(error, match=message):
        reconstruct(sequences, **({"max_length": 1} | arguments))
