"""Beliefs and words against sums over all hidden paths, matrix products and published counts and scores."""

import itertools
import math

import numpy as np
import pytest
import torch

from pcnet.processes import (
    HiddenMarkovModel,
    Words,
    coin,
    constrained_beliefs,
    even,
    filter_beliefs,
    golden_mean,
    mess3,
    next_token_law,
    rrxor,
    words,
    z1r,
)


def dense_process(seed: int, vocab_size: int, num_states: int) -> HiddenMarkovModel:
    rng = np.random.default_rng(seed)
    matrices = rng.exponential(size=(vocab_size, num_states, num_states))
    return HiddenMarkovModel(matrices / matrices.sum((0, 2), keepdims=True))


def left_eigenvector(chain: np.ndarray) -> np.ndarray:
    eigenvalues, vectors = np.linalg.eig(chain.T)
    vector = vectors[:, np.argmax(eigenvalues.real)].real
    return vector / vector.sum()


def joint_by_paths(process: HiddenMarkovModel, word: tuple[int, ...]) -> np.ndarray:
    """P(word, last state), as the explicit sum over every path of hidden states."""
    matrices = process.transition_matrices.numpy()
    start = left_eigenvector(matrices.sum(0))
    joint = np.zeros(process.num_states)
    for path in itertools.product(range(process.num_states), repeat=len(word) + 1):
        weight = start[path[0]]
        for token, i, j in zip(word, path[:-1], path[1:], strict=True):
            weight *= matrices[token, i, j]
        joint[path[-1]] += weight
    return joint


# Filtering


@pytest.mark.parametrize("seed, vocab_size, num_states", [(0, 2, 3), (1, 3, 2), (2, 4, 3)])
def test_filter_is_the_sum_over_all_hidden_paths(seed, vocab_size, num_states):
    process = dense_process(seed, vocab_size, num_states)
    rng = np.random.default_rng(seed)
    tokens = rng.integers(vocab_size, size=(4, 4))
    beliefs = filter_beliefs(process, torch.from_numpy(tokens))
    for row, sequence in enumerate(tokens.tolist()):
        for t in range(4):
            before, after = joint_by_paths(process, sequence[:t]), joint_by_paths(process, sequence[: t + 1])
            np.testing.assert_allclose(beliefs.predicted[row, t], before / before.sum(), atol=1e-12)
            np.testing.assert_allclose(beliefs.filtered[row, t], after / after.sum(), atol=1e-12)
        assert beliefs.log_likelihood[row].item() == pytest.approx(math.log(after.sum()), abs=1e-12)


def test_mess3_belief_after_one_token():
    # Uniform before the token, and the token names the new state with probability a.
    belief = filter_beliefs(mess3(0.05, 0.85), torch.tensor([[2]])).filtered
    np.testing.assert_allclose(belief, [[[0.075, 0.075, 0.85]]], atol=1e-15)


def test_z1r_synchronises_on_two_zeros():
    # Two zeros in a row are the random bit and the 0 that follows it, so a 1 is next.
    process = z1r()
    beliefs = filter_beliefs(process, torch.tensor([[0, 0, 1]]))
    np.testing.assert_array_equal(beliefs.filtered[0, 1:], [[0, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(next_token_law(process, beliefs.filtered[0, 1:]), [[0, 1], [0.5, 0.5]])


def test_log_likelihood_of_a_long_sequence_does_not_underflow():
    tokens = torch.arange(4000).remainder(2).unsqueeze(0)
    assert filter_beliefs(coin(0.25), tokens).log_likelihood.item() == pytest.approx(
        2000 * math.log(0.25) + 2000 * math.log(0.75), rel=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_every_integer_type_is_read_alike(dtype):
    tokens = torch.tensor([[0, 2, 1, 1]], dtype=dtype)
    joint = joint_by_paths(mess3(), (0, 2, 1, 1))
    np.testing.assert_allclose(filter_beliefs(mess3(), tokens).filtered[0, -1], joint / joint.sum(), atol=1e-12)


def test_an_empty_sequence_is_certain():
    assert filter_beliefs(mess3(), torch.zeros(2, 0, dtype=torch.int64)).log_likelihood.tolist() == [0, 0]


def test_answers_do_not_share_memory():
    beliefs = filter_beliefs(mess3(), torch.tensor([[0, 1]]))
    before = beliefs.predicted.clone()
    beliefs.filtered.zero_()
    assert torch.equal(beliefs.predicted, before)


@pytest.mark.parametrize(
    "tokens, error, message",
    [
        ([[0, 1]], TypeError, "^tokens "),
        (torch.zeros(1, 2), TypeError, "integer dtype, got torch.float32"),
        (torch.zeros(1, 2, dtype=torch.bool), TypeError, "integer dtype, got torch.bool"),
        (torch.tensor([0, 1]), ValueError, r"two dimensions.*\(2,\)"),
        (torch.tensor([[0, 1], [0, 2]]), ValueError, r"tokens\[1, 1\] = 2"),
        (torch.tensor([[0, 1], [-1, 0]]), ValueError, r"tokens\[1, 0\] = -1"),
        (torch.tensor([[200]], dtype=torch.uint8), ValueError, r"tokens\[0, 0\] = 200"),
        (
            torch.tensor([[0, 1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0]]),
            ValueError,
            r"tokens\[1\] is impossible: after its first 3 tokens.*tokens\[1, 3\] = 1",
        ),
    ],
)
def test_bad_tokens_are_refused(tokens, error, message):
    with pytest.raises(error, match=message):
        filter_beliefs(golden_mean(), tokens)


def test_next_token_law_takes_beliefs_of_any_shape_and_refuses_other_states():
    beliefs = torch.tensor([[[1.0, 0, 0], [0.2, 0.3, 0.5]]])
    np.testing.assert_allclose(next_token_law(z1r(0.5), beliefs), [[[1, 0], [0.45, 0.55]]], atol=1e-7)
    with pytest.raises(ValueError, match=r"^beliefs "):
        next_token_law(z1r(), torch.ones(1, 2))


# Words


@pytest.mark.parametrize("process", [mess3(), rrxor(0.3, 0.6), even(), dense_process(3, 3, 2)])
def test_words_are_all_possible_words_with_their_exact_laws(process):
    matrices = process.transition_matrices.numpy()
    start = left_eigenvector(matrices.sum(0))
    for length, level in enumerate(words(process, 4).levels, start=1):
        row = 0
        for word in itertools.product(range(process.vocab_size), repeat=length):
            joint = np.linalg.multi_dot([start, *matrices[list(word)]]) if length > 1 else start @ matrices[word[0]]
            if joint.sum() == 0:
                continue
            assert tuple(level.tokens[row].tolist()) == word
            np.testing.assert_allclose(level.probabilities[row], joint.sum(), rtol=1e-12)
            np.testing.assert_allclose(level.filtered[row], joint / joint.sum(), atol=1e-12)
            follow = np.array([(joint @ matrix).sum() for matrix in matrices]) / joint.sum()
            np.testing.assert_allclose(level.next_token_laws[row], follow, atol=1e-12)
            row += 1
        assert row == len(level.tokens)


def test_words_know_their_parents():
    levels = words(rrxor(0.3, 0.6), 5).levels
    assert levels[0].parents.tolist() == [0, 0]
    for parent, level in itertools.pairwise(levels):
        assert torch.equal(parent.tokens[level.parents], level.tokens[:, :-1])
        assert torch.equal(parent.filtered[level.parents], level.predicted)
        assert torch.equal(level.tokens[:, -1], level.last_tokens)


def test_joined_views_follow_the_levels():
    population = words(golden_mean(0.25), 3)
    assert population.tokens.tolist() == [
        *([0, -1, -1], [1, -1, -1]),
        *([0, 0, -1], [0, 1, -1], [1, 0, -1]),
        *([0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 0, 1]),
    ]
    assert population.lengths.tolist() == [1] * 2 + [2] * 3 + [3] * 5
    assert population.last_tokens.tolist() == [0, 1, 0, 1, 0, 0, 1, 0, 0, 1]
    expected = np.array([4, 1, 3, 1, 1, 2.25, 0.75, 1, 0.75, 0.25]) / 5  # from pi = (.8, .2), a 1 with p = .25
    np.testing.assert_allclose(population.probabilities, expected, atol=1e-15)
    np.testing.assert_allclose(population.predicted[:2], [[0.8, 0.2]] * 2, atol=1e-15)
    np.testing.assert_allclose(population.filtered[:2], [[1, 0], [0, 1]], atol=1e-15)
    np.testing.assert_allclose(population.next_token_laws[:2], [[0.75, 0.25], [1, 0]], atol=1e-15)


@pytest.mark.parametrize(
    "process, length, expected",
    [(mess3(), 7, 3279), (mess3(), 10, 88_572), (rrxor(), 10, 1046), (coin(), 9, 2**10 - 2), (golden_mean(), 6, 52)],
)
def test_number_of_words(process, length, expected):
    # Mess3 and the coin allow every word; golden mean words are counted by Fibonacci numbers 2, 3, 5, 8, 13, 21.
    population = words(process, length)
    assert population.num_words == expected
    masses = [level.probabilities.sum().item() for level in population.levels]
    np.testing.assert_allclose(masses, 1, atol=1e-12)


@pytest.mark.parametrize(
    "process, length, mixed_states",
    [(rrxor(), 12, 36), (z1r(), 8, 7), (even(), 10, 4), (golden_mean(), 6, 3), (coin(), 3, 1)],
)
def test_number_of_distinct_beliefs_with_the_empty_word(process, length, mixed_states):
    beliefs = torch.cat([process.stationary_distribution.unsqueeze(0), words(process, length).filtered])
    assert len(torch.unique(beliefs.mul(1e9).round(), dim=0)) == mixed_states


@pytest.mark.parametrize(
    "process, length, expected, tolerance",
    [(mess3(), 7, 67.33, 0.005), (mess3(), 9, 109, 0.5), (mess3(), 10, 135, 0.5), (rrxor(), 10, 94.29, 0.005)],
)
def test_effective_sample_size_of_probability_weights(process, length, expected, tolerance):
    weights = words(process, length).probabilities
    assert weights.sum().item() ** 2 / weights.square().sum().item() == pytest.approx(expected, abs=tolerance)


def test_too_many_words_are_refused_with_their_number():
    with pytest.raises(ValueError, match=r"there are 120 words of lengths 1\.\.4, more than max_words=119"):
        words(mess3(), 6, max_words=119)
    assert words(mess3(), 4, max_words=120).num_words == 120


@pytest.mark.parametrize(
    "length, error, message",
    [(0, ValueError, "^length "), (2.5, TypeError, "^length ")],
)
def test_impossible_lengths_are_refused(length, error, message):
    with pytest.raises(error, match=message):
        words(mess3(), length)


# Population scores


def affine_r2(features: torch.Tensor, population: Words) -> float:
    """Variance-weighted R2 of the best affine map to the filtered belief, words weighted by probability."""
    weights = population.probabilities.numpy()
    design = np.column_stack([features.numpy(), np.ones(len(weights))])
    targets = population.filtered.numpy()
    root = np.sqrt(weights)[:, None]
    solution = np.linalg.lstsq(design * root, targets * root, rcond=1e-10)[0]
    mean = np.average(targets, axis=0, weights=weights)
    return 1 - (weights @ (targets - design @ solution) ** 2).sum() / (weights @ (targets - mean) ** 2).sum()


@pytest.mark.parametrize("process, length, expected", [(mess3(), 9, 1.000), (rrxor(), 10, 0.246), (z1r(), 10, 0.478)])
def test_population_score_of_the_next_token_law(process, length, expected):
    population = words(process, length)
    assert affine_r2(population.next_token_laws, population) == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize("process, expected", [(mess3(), 0.798), (rrxor(), 0.162)])
def test_population_score_of_the_constrained_belief(process, expected):
    population = words(process, 9)
    assert affine_r2(constrained_beliefs(process, population), population) == pytest.approx(expected, abs=0.001)


def test_constrained_belief_is_its_defining_sum():
    process = rrxor(0.3, 0.6)
    matrices = process.transition_matrices.numpy()
    chain = matrices.sum(0)
    stationary = left_eigenvector(chain)
    population = words(process, 4)
    rows = constrained_beliefs(process, population)
    for row, word in zip(rows, population.tokens.tolist(), strict=True):
        word = [token for token in word if token >= 0]
        expected = stationary.copy()
        for s, token in enumerate(word):
            alone = stationary @ matrices[token]
            expected += alone / alone.sum() @ np.linalg.matrix_power(chain, len(word) - 1 - s) - stationary
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_constrained_belief_knows_no_token_that_never_comes():
    process = HiddenMarkovModel(torch.cat([mess3().transition_matrices, torch.zeros(1, 3, 3)]))
    population = words(process, 3)
    expected = constrained_beliefs(mess3(), words(mess3(), 3))
    assert torch.equal(constrained_beliefs(process, population), expected)
