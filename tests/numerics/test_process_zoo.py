"""Modular sums, word-like tokens and generalised processes against what their definitions say, without their matrices."""

import itertools
import math

import numpy as np
import pytest
import torch

import pcnet
from pcnet import processes
from pcnet.processes import (
    GeneralizedHiddenMarkovModel,
    Process,
    bloch_walk,
    days_of_week,
    entropy_rate,
    excess_entropy,
    filter_beliefs,
    frdn,
    leaky_rrxor,
    matching_parentheses,
    mess,
    mixed_state_presentation,
    modular_addition,
    modular_walk,
    moon,
    mr_name,
    next_token_law,
    next_token_sufficient,
    rrxor,
    same_process,
    sample,
    simple_nonunifilar_source,
    statistical_complexity,
    z1r,
    zrr,
)


def vector_after(process: Process, word: tuple[int, ...], start: np.ndarray | None = None) -> np.ndarray:
    row = process.initial_distribution.numpy() if start is None else start
    for token in word:
        row = row @ process.transition_matrices.numpy()[token]
    return row


def probability(process: Process, word: tuple[int, ...]) -> float:
    return float(vector_after(process, word) @ process.right_vector.numpy())


def entropy(*law: float) -> float:
    return -sum(p * math.log(p) for p in law if p > 0)


@pytest.mark.parametrize(
    "process, determined",
    [
        (mess(3), True),
        (rrxor(), False),
        (leaky_rrxor(), False),
        (z1r(), False),
        (zrr(), False),
        (frdn(), False),
        (bloch_walk(), True),
        (moon(), True),
        (simple_nonunifilar_source(), True),
        (modular_addition(), False),
        (modular_walk(), True),
    ],
)
def test_whether_the_next_token_law_determines_the_belief(process, determined):
    assert next_token_sufficient(process) is determined


# Modular sums


@pytest.mark.parametrize("modulus, num_addends", [(2, 1), (2, 2), (3, 2), (2, 3), (5, 2)])
def test_every_group_ends_with_its_sum(modulus, num_addends):
    weights = np.arange(1, modulus + 1) / sum(range(1, modulus + 1))
    process = modular_addition(modulus, num_addends, weights.tolist())
    assert process.num_states == 1 + num_addends * modulus
    start = np.eye(process.num_states)[0]
    for word in itertools.product(range(modulus), repeat=num_addends + 1):
        right = word[-1] == sum(word[:-1]) % modulus
        expected = math.prod(weights[list(word[:-1])]) if right else 0.0
        np.testing.assert_allclose(vector_after(process, word, start), expected * start, atol=1e-15)


@pytest.mark.parametrize("modulus, num_addends", [(2, 2), (3, 2), (2, 3), (4, 1)])
def test_entropies_of_even_sums_in_closed_form(modulus, num_addends):
    process, k = modular_addition(modulus, num_addends), num_addends
    assert entropy_rate(process) == pytest.approx(k * math.log(modulus) / (k + 1), abs=1e-9)
    memory = math.log(k + 1) + k * math.log(modulus) / (k + 1)
    assert statistical_complexity(process) == pytest.approx(memory, abs=1e-9)
    assert excess_entropy(process) == pytest.approx(memory, abs=1e-9)
    law = [1 / (k + 1), *[1 / (modulus * (k + 1))] * (k * modulus)]
    np.testing.assert_allclose(process.stationary_distribution, law, rtol=1e-12)


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_two_bits_modulo_two_are_random_random_xor(p):
    assert same_process(modular_addition(2, 2, [p, 1 - p]), rrxor(p, p))


def test_a_walk_tells_its_steps_and_places():
    modulus, reveal, weights = 4, 0.2, [0.1, 0.6, 0.3, 0.0]
    process = modular_walk(modulus, reveal, weights)
    for word in itertools.product(range(2 * modulus), repeat=3):
        expected = 0.0
        for place in range(modulus):  # evenly, at the start
            chance = 1 / modulus
            for token in word:
                if token < modulus:
                    chance *= (1 - reveal) * weights[token]
                    place = (place + token) % modulus
                else:
                    chance *= reveal * (place == token - modulus)
            expected += chance
        assert probability(process, word) == pytest.approx(expected, abs=1e-16)


def test_entropies_of_a_walk_in_closed_form():
    process = modular_walk(5, 0.25, [0.5, 0.2, 0.3, 0, 0])
    assert entropy_rate(process) == pytest.approx(entropy(0.25, 0.75) + 0.75 * entropy(0.5, 0.2, 0.3), abs=1e-9)
    assert statistical_complexity(process) == pytest.approx(math.log(5), abs=1e-9)
    assert excess_entropy(process) == pytest.approx(math.log(5), abs=1e-9)
    machine = mixed_state_presentation(process)
    assert machine.closed and len(machine.states) == 6


def test_entropies_of_zrr_in_closed_form():
    process = zrr(0.3, 0.1)
    assert entropy_rate(process) == pytest.approx((entropy(0.3, 0.7) + entropy(0.1, 0.9)) / 3, abs=1e-9)
    assert statistical_complexity(zrr()) == pytest.approx(math.log(3), abs=1e-9)
    assert excess_entropy(zrr()) == pytest.approx(math.log(3), abs=1e-9)


# Word-like tokens


def test_mr_name_says_what_comes_next():
    p, q = 0.3, 0.2
    process = mr_name(p, q)
    followers = {0: {3: 1}, 1: {0: q, 1: 0.5, 2: p}, 2: {0: q, 1: p, 2: 0.5}, 3: {1: 0.5, 2: 0.5}}
    beliefs = filter_beliefs(process, torch.arange(4).unsqueeze(1)).filtered[:, 0]
    np.testing.assert_array_equal(beliefs, np.eye(4))  # the token is the state
    expected = [[followers[s].get(token, 0) for token in range(4)] for s in range(4)]
    np.testing.assert_allclose(next_token_law(process, beliefs), expected, atol=1e-15)
    np.testing.assert_allclose(process.stationary_distribution, np.array([q, 0.5, 0.5, q]) / (1 + 2 * q), rtol=1e-13)


def test_days_of_the_week_out_of_fifteen():
    matrices = days_of_week().transition_matrices.numpy() * 15
    for i, j, token in itertools.product(range(7), range(7), range(11)):
        expected = [
            *[(5 if (i + 1) % 7 == day else 1) * (j == day) for day in range(7)],
            (i + 1) % 7 == j,
            (i - 1) % 7 == j,
            (j >= 5) / 2,
            (j < 5) / 5,
        ][token]
        assert matrices[token, i, j] == pytest.approx(float(expected), abs=1e-14)


def test_stationary_law_of_the_days_by_fourier_series():
    # pi (I - (4 forward + forward + backward)/15) = (1 + kinds)/15 is a circular convolution.
    forward = (5 * np.exp(-2j * np.pi * np.arange(7) / 7) + np.exp(2j * np.pi * np.arange(7) / 7)) / 15
    source = (1 + np.array([0.2] * 5 + [0.5] * 2)) / 15
    law = np.fft.ifft(np.fft.fft(source) / (1 - forward)).real
    np.testing.assert_allclose(days_of_week().stationary_distribution, law, rtol=1e-13)


def test_parentheses_match():
    opens = (1, 0.7, 0.2, 0)
    process = matching_parentheses(opens, starts_empty=True)
    for word in itertools.product((0, 1), repeat=7):
        depth, expected = 0, 1.0
        for token in word:
            expected *= opens[depth] if token == 0 else 1 - opens[depth]
            depth += 1 - 2 * token
            if expected == 0:
                break
        assert probability(process, word) == pytest.approx(expected, abs=1e-15)


def test_parentheses_start_in_the_middle_of_a_text_by_default():
    opens = (1, 0.7, 0.2, 0)
    law = np.cumprod([1, 1 / 0.3, 0.7 / 0.8, 0.2 / 1])  # what goes up comes down
    process = matching_parentheses(opens)
    np.testing.assert_allclose(process.initial_distribution, law / law.sum(), rtol=1e-13)
    np.testing.assert_allclose(
        matching_parentheses(opens, starts_empty=True).stationary_distribution, law / law.sum(), rtol=1e-13
    )
    assert sorted(np.linalg.eigvals(process.state_transition_matrix).real)[0] == pytest.approx(-1)  # period 2
    assert probability(process, (1, 1, 1, 1)) == 0 < probability(process, (1, 1, 1))


# Generalised processes


def test_moon_has_its_scale_from_renewals():
    # Between two tokens a, n + m tokens b and c in any order: nu^(n + m + 1) (e^t - 1 - t), summed over all orders to 1.
    alpha, beta = math.e, 0.5
    process = moon(alpha, beta)
    nu = process.transition_matrices[0, 0, 0].item()
    after = vector_after(process, (0,))
    after /= after @ process.right_vector.numpy()
    for word in [w for n in range(6) for w in itertools.product((1, 2), repeat=n)]:
        t = sum(math.log((alpha, beta)[token - 1]) for token in word)
        found = vector_after(process, (*word, 0), after) @ process.right_vector.numpy()
        assert found == pytest.approx(nu ** (len(word) + 1) * (math.exp(t) - 1 - t), abs=1e-14)
    total = sum(
        nu ** (n + 1) * ((alpha + beta) ** n - 2**n - n * 2 ** (n - 1) * math.log(alpha * beta)) for n in range(400)
    )
    assert total == pytest.approx(1, abs=1e-9)


def test_frdn_renews_after_times_without_a_pattern():
    alpha, lam = 2000, 0.49
    process = frdn()
    after = vector_after(process, (0,))
    after /= after.sum()
    returns = [lam**n * math.sin(n * alpha / 2) ** 2 for n in range(1, 30)]
    returns.insert(0, 1 - sum(lam**n * math.sin(n * alpha / 2) ** 2 for n in range(1, 200)))
    for n, expected in enumerate(returns):
        assert vector_after(process, (1,) * n + (0,), after).sum() == pytest.approx(expected, abs=1e-14)
    rate = 1 / sum((n + 1) * chance for n, chance in enumerate(returns))
    assert probability(process, (0,)) == pytest.approx(rate, abs=1e-6)


def test_bloch_walk_is_a_measured_quantum_bit():
    # Kraus operators of four measurements of a qubit, as maps of the Bloch vector's x and z: built from Pauli matrices.
    alpha, beta = 1, math.sqrt(51)
    size = math.sqrt(4 * (alpha**2 + beta**2))
    identity, x, z = np.eye(2), np.array([[0, 1], [1, 0]]), np.diag([1.0, -1.0])
    kraus = [(alpha * identity + sign * beta * pauli) / size for pauli in (z, x) for sign in (1, -1)]
    np.testing.assert_allclose(sum(k.T @ k for k in kraus), identity, atol=1e-14)
    process = bloch_walk(alpha, beta)
    for word in itertools.product(range(4), repeat=5):
        state = identity / 2
        for token in word:
            state = kraus[token] @ state @ kraus[token].T
        assert probability(process, word) == pytest.approx(np.trace(state), abs=1e-15)
    np.testing.assert_allclose(
        np.sort(np.linalg.eigvals(process.state_transition_matrix)), np.sort([1, *[0.5 - 25 / 52] * 2]), atol=1e-12
    )


@pytest.mark.parametrize("process", [bloch_walk(), moon(), frdn(), moon(1.5, 0.7), bloch_walk(1, 0), frdn(1.0, 0.5)])
def test_generalised_words_have_probabilities(process):
    assert isinstance(process, GeneralizedHiddenMarkovModel)
    for length in (1, 5):
        chances = [probability(process, w) for w in itertools.product(range(process.vocab_size), repeat=length)]
        assert sum(chances) == pytest.approx(1, abs=1e-12)
        assert min(chances) > -1e-15
    tokens = sample(process, 4, 50, torch.Generator().manual_seed(0))
    beliefs = filter_beliefs(process, tokens).filtered
    laws = next_token_law(process, beliefs)
    assert laws.min() > -1e-9
    np.testing.assert_allclose(laws.sum(-1), 1, atol=1e-9)


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: bloch_walk(0, 0), ValueError, "alpha and beta must not both be 0"),
        (lambda: bloch_walk("1"), TypeError, "^alpha "),
        (lambda: bloch_walk(beta=math.inf), ValueError, "^beta "),
        (lambda: moon(0.9, 0.5), ValueError, "alpha > 1 > beta > 0, got 0.9 and 0.5"),
        (lambda: moon(1.5, 0.5), ValueError, r"alpha \+ beta must not be 2"),
        (lambda: frdn(lam=0.6), ValueError, "^lam "),
        (lambda: frdn(math.nan), ValueError, "^alpha "),
        (lambda: mr_name(0.7, 0.6), ValueError, r"p \+ q must be at most 1, got 0.7 \+ 0.6"),
        (lambda: mr_name(40), ValueError, "^p "),
        (lambda: modular_addition(1), ValueError, "^modulus "),
        (lambda: modular_addition(3, 0), ValueError, "^num_addends "),
        (lambda: modular_addition(3, 2, [0.5, 0.5]), ValueError, "^weights "),
        (lambda: modular_addition(3, 2, [50, 25, 25]), ValueError, r"weights\[0\]"),
        (lambda: modular_addition(2, 2, [0.5, 0.4]), ValueError, "^weights "),
        (lambda: modular_walk(3, 25), ValueError, "^reveal "),
        (lambda: modular_walk(4, 0.5, [0.5, 0, 0.5, 0]).stationary_distribution, ValueError, "2 recurrent classes"),
        (lambda: matching_parentheses((1,)), ValueError, "at least 2 entries, got 1"),
        (lambda: matching_parentheses((1, 0.5, 0.5)), ValueError, "end with 0 .*got 1 and 0.5"),
        (lambda: matching_parentheses((0.5, 0)), ValueError, "begin with 1"),
        (lambda: matching_parentheses((1, 50, 0)), ValueError, r"open_probabilities\[1\]"),
        (lambda: matching_parentheses((1, "a", 0)), TypeError, r"open_probabilities\[1\]"),
        (lambda: matching_parentheses(starts_empty=1), TypeError, "^starts_empty "),
    ],
)
def test_what_no_such_process_can_be_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_every_named_process_is_found_where_mess3_is() -> None:
    named = {
        name
        for name in processes.__all__
        if getattr(processes, name).__module__.startswith(pcnet.mess3.__module__.rpartition(".")[0])
    }
    assert len(named) > 15
    assert {name for name in named if getattr(pcnet, name) is not getattr(processes, name)} == set()
