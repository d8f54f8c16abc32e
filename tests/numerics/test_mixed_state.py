"""The mixed-state presentation against published counts, matrix products, and machines of which it is known whether they close."""

import itertools
import time

import numpy as np
import pytest
import torch

from pcnet.processes import (
    GeneralizedHiddenMarkovModel,
    HiddenMarkovModel,
    MixedStatePresentation,
    coin,
    even,
    filter_beliefs,
    golden_mean,
    mess3,
    mixed_state_presentation,
    rrxor,
    sample,
    z1r,
)


def source(p: float, q: float) -> HiddenMarkovModel:
    return HiddenMarkovModel([[[1 - p, p], [0, 1 - q]], [[0, 0], [q, 0]]])


def word_probability(found: MixedStatePresentation, word: tuple[int, ...]) -> float:
    """By following the word's tokens from state to state."""
    state, probability = 0, 1.0
    for token in word:
        assert state >= 0
        probability *= float(found.probabilities[state, token])
        if probability == 0:
            return 0.0
        state = int(found.successors[state, token])
    return probability


@pytest.mark.parametrize(
    "process, states, recurrent",
    [(coin(), 1, 1), (golden_mean(), 3, 2), (even(), 4, 2), (z1r(), 7, 3), (rrxor(), 36, 5)],
)
def test_counts_as_published(process, states, recurrent):
    found = mixed_state_presentation(process)
    assert (len(found), int(found.recurrent.sum()), found.closed) == (states, recurrent, True)
    assert int(found.transient.sum()) == states - recurrent
    assert found.beyond == found.outside(100) == 0
    assert len(mixed_state_presentation(process, max_states=states)) == states
    assert mixed_state_presentation(process, max_states=states).closed


@pytest.mark.parametrize("process", [even(0.3), z1r(0.2), rrxor(), mess3(), source(0.3, 0.6)])
def test_words_are_as_probable_as_their_matrix_products(process):
    found = mixed_state_presentation(process)
    for length in range(6):
        for word in itertools.product(range(process.vocab_size), repeat=length):
            row = process.stationary_distribution.numpy()
            for token in word:
                row = row @ process.transition_matrices[token].numpy()
            expected = pytest.approx(row.sum(), rel=1e-12, abs=1e-300)
            assert word_probability(found, word) == expected


@pytest.mark.parametrize("process", [even(0.3), rrxor(), mess3()])
def test_states_are_the_filtered_beliefs(process):
    found = mixed_state_presentation(process, max_states=3000)
    tokens = sample(process, 50, min(found.depth, 30), torch.Generator().manual_seed(0))
    beliefs = filter_beliefs(process, tokens)
    state = torch.zeros(len(tokens), dtype=torch.int64)
    for t in range(tokens.shape[1]):
        torch.testing.assert_close(found.states[state], beliefs.predicted[:, t], atol=1e-8, rtol=0)
        state = found.successors[state, tokens[:, t]]
    torch.testing.assert_close(found.transition.sum(1) + found.leak, torch.ones(len(found), dtype=torch.float64))


def test_how_often_beliefs_are_held():
    for process in (golden_mean(0.3), even(), z1r(0.2), rrxor()):
        found = mixed_state_presentation(process)
        law = found.stationary_distribution
        torch.testing.assert_close(law @ found.transition, law, atol=1e-14, rtol=0)
        torch.testing.assert_close(law @ found.states, process.stationary_distribution, atol=1e-13, rtol=0)
        assert law[found.transient].tolist() == [0] * int(found.transient.sum())


def test_two_processes_side_by_side_keep_their_weights():
    first, second = golden_mean(), even()
    matrices = [torch.block_diag(a, b) for a, b in zip(first.transition_matrices, second.transition_matrices)]
    initial = torch.cat([0.25 * first.stationary_distribution, 0.75 * second.stationary_distribution])
    found = mixed_state_presentation(HiddenMarkovModel(torch.stack(matrices), initial))
    assert found.closed
    law = found.stationary_distribution @ found.states
    torch.testing.assert_close(law, initial, atol=1e-13, rtol=0)
    recurrent = found.states[found.recurrent]
    assert ((recurrent[:, :2].sum(1) - 0.5).abs() > 0.5 - 1e-12).all()  # one of them is out of the question


# Closed or not


def test_what_lies_beyond_is_counted():
    found = mixed_state_presentation(mess3(), max_states=100)
    assert (len(found), found.depth, found.closed) == (100, 3, False)  # 1 + 3 + 9 + 27 = 40 and some of 81
    # by brute force: beliefs of all words of four tokens that aren't among the states
    missing = 0.0
    for word in itertools.product(range(3), repeat=4):
        row = mess3().stationary_distribution
        for token in word:
            row = row @ mess3().transition_matrices[token]
        probability = float(row.sum())
        missing += probability * bool(((found.states - row / probability).abs().amax(1) > 1e-8).all())
    assert found.beyond == found.outside(4) == pytest.approx(missing, abs=1e-12)
    assert found.outside(3) == 0
    assert found.outside(5) > found.outside(4)
    assert found.outside(200) == pytest.approx(1)
    assert not found.recurrent.any()
    with pytest.raises(ValueError, match="these 100 are not closed: with probability 0"):
        _ = found.stationary_distribution


def test_beliefs_that_converge_without_end_are_not_closed():
    rng = np.random.default_rng(0)
    for _ in range(15):
        p, q = rng.uniform(0.05, 0.95, 2)
        if abs(p - q) < 0.02:
            continue
        for process in (
            source(p, q),
            rrxor(p, q),
            mess3(rng.uniform(0.05, 0.3), rng.uniform(0.5, 0.95)),
            HiddenMarkovModel([[[p, 0], [0, q]], [[1 - p, 0], [0, 1 - q]]], initial=[0.5, 0.5]),
        ):
            assert not mixed_state_presentation(process, max_states=1500).closed
    fading = mixed_state_presentation(source(0.3, 0.6))
    assert 1e-13 < fading.merged <= 1e-9 and fading.beyond == 0
    harmonic = mixed_state_presentation(source(0.5, 0.5))  # beliefs go like 1/n: nothing is merged, nothing ends
    assert not harmonic.closed and 0 < harmonic.beyond < 1e-190


def blocks(rng: np.random.Generator, tokens: int, order: int) -> np.ndarray:
    """A random Markov chain of some order; no probability is so small that beliefs nearly agree."""
    count = tokens**order
    matrices = np.zeros((tokens, count, count))
    for state in range(count):
        law = 0.03 + rng.dirichlet(np.full(tokens, 0.5)) * (rng.random(tokens) < 0.8)
        law = law / law.sum()
        for token in range(tokens):
            matrices[token, state, (state * tokens + token) % count] = law[token]
    return matrices


def backwards(matrices: np.ndarray) -> np.ndarray:
    law = HiddenMarkovModel(matrices).stationary_distribution.numpy()
    return np.einsum("xji,j,i->xij", matrices, law, 1 / law)


def blurred(rng: np.random.Generator, matrices: np.ndarray) -> np.ndarray:
    """Each state becomes three, between which nothing but chance decides."""
    chance = rng.dirichlet(np.ones(3)).repeat(3).reshape(3, 3).T
    return np.stack([np.kron(matrix, chance) for matrix in matrices])


def both(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.stack([np.kron(a, b) for a in first for b in second])


def test_machines_that_close_are_called_closed_whatever_the_rounding():
    rng = np.random.default_rng(0)
    for tokens, order in [(2, 1), (2, 2), (2, 3), (3, 2), (2, 5)] * 8:
        matrices = blocks(rng, tokens, order)
        small = blocks(rng, 2, 1)
        for machine, most in (
            (matrices, 2),
            (backwards(matrices), 2),
            (blurred(rng, matrices), 2),
            (blurred(rng, backwards(matrices)), 2),
            (both(small, backwards(small)), 4),
        ):
            found = mixed_state_presentation(machine)
            # after `order` tokens nothing more is to be learned from those before
            assert found.closed and found.merged < 1e-14
            assert int(found.recurrent.sum()) <= tokens**order if most == 2 else 4
            assert len(found) <= sum(tokens**l for l in range(order + 1)) or most == 4


def test_rounding_adds_up_on_long_cycles():
    # a clock of which the first hour is known and which may stand still, each hour spread over three states
    rng = np.random.default_rng(1)
    hours = 200
    stay = rng.uniform(0.1, 0.9, hours)
    matrices = np.stack([np.diag(stay), np.roll(np.diag(1 - stay), 1, axis=1)])
    spread = blurred(rng, matrices)
    chance = spread[0, 0, :3] / spread[0, 0, :3].sum()
    found = mixed_state_presentation(
        HiddenMarkovModel(spread, initial=np.concatenate([chance, np.zeros(3 * hours - 3)]))
    )
    assert (len(found), found.closed, found.recurrent.all()) == (hours, True, True)


def test_beliefs_nearer_than_the_tolerance_are_one_and_it_is_said():
    # two states that differ by 1e-10 in what they emit
    near = HiddenMarkovModel([[[0.5, 0], [0.5 + 1e-10, 0]], [[0, 0.5], [0, 0.5 - 1e-10]]])
    assert mixed_state_presentation(near).closed  # the token names the state: beliefs are far apart
    hidden = HiddenMarkovModel([[[0.25, 0.25], [0.25 + 1e-10, 0.25]], [[0.25, 0.25], [0.25 - 1e-10, 0.25]]])
    coarse, fine = (mixed_state_presentation(hidden, tolerance=tolerance) for tolerance in (1e-9, 1e-14))
    assert len(coarse) == 1 and not coarse.closed and 1e-12 < coarse.merged < 1e-9
    assert len(fine) > 1


def test_generalised_processes_close_in_any_basis():
    rng = np.random.default_rng(2)
    for process, states, recurrent in ((even(), 4, 2), (z1r(), 7, 3), (rrxor(), 36, 5), (golden_mean(0.2), 3, 2)):
        basis = torch.from_numpy(rng.normal(size=(process.num_states, process.num_states)))
        matrices = torch.linalg.inv(basis) @ process.transition_matrices @ basis
        found = mixed_state_presentation(GeneralizedHiddenMarkovModel(matrices, torch.linalg.inv(basis).sum(1)))
        assert (len(found), int(found.recurrent.sum()), found.closed) == (states, recurrent, True)


def test_rare_tokens_are_no_impossible_ones():
    found = mixed_state_presentation(golden_mean(1e-14))
    assert (len(found), found.closed) == (3, True) or found.merged > 0
    assert word_probability(found, (1, 0)) == pytest.approx(1e-14, rel=1e-9)
    tiny = HiddenMarkovModel([[[1 - 1e-300, 1e-300], [1, 0]], [[0, 0], [0, 0]]])
    assert torch.isfinite(mixed_state_presentation(tiny).states).all()


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"max_states": 0}, ValueError, "^max_states "),
        ({"max_states": 2.5}, TypeError, "^max_states "),
        ({"tolerance": -1e-9}, ValueError, "^tolerance "),
        ({"tolerance": float("nan")}, ValueError, "^tolerance "),
    ],
)
def test_bad_limits_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        mixed_state_presentation(mess3(), **arguments)


def test_rrxor_is_quick():
    process, times = rrxor(), []
    for _ in range(5):
        start = time.perf_counter()
        mixed_state_presentation(process)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05


def test_a_stationary_law_of_many_states():
    # a long cycle with shortcuts, above the number that is solved without subtraction
    rng = np.random.default_rng(0)
    count = 400
    matrices = np.zeros((2, count, count))
    leap = rng.uniform(0.1, 0.9, count)
    matrices[0] = np.roll(np.diag(leap), 1, axis=1)
    matrices[1, :, 0] = 1 - leap
    found = mixed_state_presentation(matrices)
    assert found.closed
    law = found.stationary_distribution
    torch.testing.assert_close(
        law @ found.states, HiddenMarkovModel(matrices).stationary_distribution, atol=1e-10, rtol=0
    )
