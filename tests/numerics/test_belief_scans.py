"""Filters in one scan, in parallel and backwards, against a loop token by token and sums over all hidden paths."""

import itertools
import math

import numpy as np
import pytest
import torch

from pcnet.processes import (
    GeneralizedHiddenMarkovModel,
    HiddenMarkovModel,
    coin,
    filter_beliefs,
    filter_beliefs_parallel,
    golden_mean,
    mess3,
    sample,
    smooth_beliefs,
    token_log_probabilities,
    words,
    z1r,
)
from pcnet.processes.beliefs.scan import EmittedAfter, EmittedBefore, Fetched, Sorted, kernel_of

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def small_machine(seed: int) -> HiddenMarkovModel:
    """A sparse or dense random machine, every third one with tokens that hang on one state alone."""
    rng = np.random.default_rng(seed)
    vocab_size, num_states = rng.integers(1, 6), rng.integers(1, 13)
    matrices = rng.exponential(size=(vocab_size, num_states, num_states)) ** 2
    if seed % 3:
        emission = rng.exponential(size=(vocab_size, num_states)) ** 2
        shape = (vocab_size, num_states, 1) if seed % 3 == 1 else (vocab_size, 1, num_states)
        matrices = matrices[:1] * (emission / emission.sum(0)).reshape(shape)
    else:
        matrices *= rng.random(matrices.shape) < rng.choice([0.2, 1.0])
        states = np.arange(num_states)
        matrices[rng.integers(vocab_size, size=num_states), states, (states + 1) % num_states] += 0.2
    return HiddenMarkovModel(matrices / matrices.sum((0, 2), keepdims=True))


def token_by_token(process: HiddenMarkovModel, tokens: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Filtered beliefs and probabilities of tokens, one product with a matrix at a time."""
    matrices, right = process.transition_matrices.numpy(), process.right_vector.numpy()
    beliefs, probabilities = np.empty((*tokens.shape, process.num_states)), np.empty(tokens.shape)
    for row, sequence in enumerate(tokens.tolist()):
        belief = process.initial_distribution.numpy()
        for t, token in enumerate(sequence):
            belief = belief @ matrices[token]
            probabilities[row, t] = belief @ right
            beliefs[row, t] = belief = belief / probabilities[row, t]
    return beliefs, probabilities


def conjugated(process: HiddenMarkovModel, seed: int) -> GeneralizedHiddenMarkovModel:
    """The same process in another basis, where entries are of either sign."""
    basis = torch.from_numpy(np.random.default_rng(seed).normal(size=(process.num_states,) * 2)).double()
    basis += 3 * torch.eye(process.num_states, dtype=torch.float64)
    inverse = torch.linalg.inv(basis)
    return GeneralizedHiddenMarkovModel(
        inverse @ process.transition_matrices @ basis,
        inverse @ process.right_vector,
        process.initial_distribution @ basis,
    )


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_sequential_is_parallel_is_token_by_token_for_200_machines(dtype):
    for seed in range(200):
        process = small_machine(seed)
        tokens = sample(process, 3, 1 + seed % 37, torch.Generator().manual_seed(seed))
        expected, probabilities = token_by_token(process, tokens)
        surprise = np.log(probabilities).sum(1)
        for run in (filter_beliefs, filter_beliefs_parallel):
            found = run(process, tokens, dtype=dtype)
            assert found.filtered.dtype == found.predicted.dtype == dtype
            np.testing.assert_allclose(found.filtered, expected, atol=TOLERANCE[dtype], rtol=0)
            np.testing.assert_allclose(found.predicted[:, 1:], expected[:, :-1], atol=TOLERANCE[dtype], rtol=0)
            np.testing.assert_allclose(found.log_likelihood, surprise, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
        logs = token_log_probabilities(process, tokens, dtype=dtype)
        np.testing.assert_allclose(logs, np.log(probabilities), atol=10 * TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_the_200_machines_reach_every_kernel():
    kinds = {type(kernel_of(small_machine(seed), torch.float64)) for seed in range(200)}
    assert kinds == {EmittedAfter, EmittedBefore, Fetched, Sorted}


@pytest.mark.parametrize("seed", [seed for seed in range(40) if small_machine(seed).num_states <= 4])
def test_another_basis_changes_beliefs_with_it_and_no_probability(seed):
    process = small_machine(seed)
    tokens = sample(process, 3, 20, torch.Generator().manual_seed(seed))
    general = conjugated(process, seed)
    expected, probabilities = token_by_token(general, tokens)
    for run in (filter_beliefs, filter_beliefs_parallel):
        found = run(general, tokens)
        np.testing.assert_allclose(found.filtered, expected, atol=1e-9)
        np.testing.assert_allclose(found.log_likelihood, np.log(probabilities).sum(1), atol=1e-9)
    assert found.log_likelihood.numpy() == pytest.approx(
        filter_beliefs(process, tokens).log_likelihood.numpy(), abs=1e-9
    )


def test_a_token_that_cancels_to_rounding_is_impossible_in_any_basis():
    general = conjugated(golden_mean(0.5), 1)
    for run in (filter_beliefs, filter_beliefs_parallel):
        with pytest.raises(ValueError, match=r"tokens\[1\].*tokens\[1, 2\] = 1"):
            run(general, torch.tensor([[0, 1, 0], [0, 1, 1]]))


@pytest.mark.parametrize("run", [filter_beliefs, filter_beliefs_parallel, smooth_beliefs, token_log_probabilities])
def test_every_scan_names_the_first_impossible_token(run):
    tokens = torch.tensor([[0, 1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0]])
    with pytest.raises(ValueError, match=r"tokens\[1\].*first 3 tokens.*tokens\[1, 3\] = 1"):
        run(golden_mean(), tokens)
    with pytest.raises(ValueError, match=r"^dtype "):
        run(mess3(), torch.zeros(1, 1, dtype=torch.int64), dtype=torch.float16)


def test_a_million_tokens_do_not_underflow_and_agree_in_both_scans():
    # Synchronised, z1r asks one fair question every three tokens; before that, the first tokens are counted exactly.
    bits = torch.randint(2, (333_333,), generator=torch.Generator().manual_seed(0))
    tokens = torch.stack([torch.zeros_like(bits), torch.ones_like(bits), bits], 1).view(1, -1)
    found = filter_beliefs_parallel(z1r(), tokens)
    short = filter_beliefs(z1r(), tokens[:, :1000])
    settled = ((found.predicted[:, 1000:] - 1).abs().amin(-1) < 1e-12).all()  # one state is certain
    random = (found.predicted[0, 1000:, 2] > 0.5).sum().item()
    assert settled
    assert found.log_likelihood.item() == pytest.approx(short.log_likelihood.item() - random * math.log(2), rel=1e-12)
    torch.testing.assert_close(found.filtered[:, :1000], short.filtered, atol=1e-12, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_a_million_tokens_of_mess3_agree_in_both_scans(dtype):
    tokens = sample(mess3(), 1, 10**6, torch.Generator().manual_seed(0))
    one, other = (run(mess3(), tokens, dtype=dtype) for run in (filter_beliefs, filter_beliefs_parallel))
    torch.testing.assert_close(one.filtered, other.filtered, atol=TOLERANCE[dtype], rtol=0)
    torch.testing.assert_close(one.log_likelihood, other.log_likelihood, atol=0, rtol=TOLERANCE[dtype])
    assert -one.log_likelihood.item() / 10**6 == pytest.approx(0.793459, abs=0.002)  # the entropy rate


def test_states_that_can_hardly_emit_a_long_word_keep_their_digits():
    # Two coins that never change: after n zeros the odds of the first are (.9 / .1)^n, and 2 n tokens balance them again.
    half = 300
    coins = np.array([[[0.9, 0], [0, 0.1]], [[0.1, 0], [0, 0.9]]])
    process = HiddenMarkovModel(coins, initial=[0.5, 0.5])
    tokens = torch.tensor([[0] * half + [1] * half])
    for run in (filter_beliefs, filter_beliefs_parallel):
        np.testing.assert_allclose(run(process, tokens).filtered[0, -1], [0.5, 0.5], atol=1e-10)


def test_improbable_tokens_one_after_the_other_are_followed():
    rare = 1e-25
    process = coin(rare)
    tokens = torch.ones(1, 500, dtype=torch.int64)
    for run, dtype in itertools.product((filter_beliefs, filter_beliefs_parallel), TOLERANCE):
        assert run(process, tokens, dtype=dtype).log_likelihood.item() == pytest.approx(500 * math.log(rare), rel=1e-6)


def test_empty_batches_and_sequences():
    for run, shape in itertools.product((filter_beliefs, filter_beliefs_parallel), ((2, 0), (0, 3))):
        found = run(mess3(), torch.zeros(shape, dtype=torch.int64))
        assert found.filtered.shape == (*shape, 3)
        assert found.log_likelihood.tolist() == [0.0] * shape[0]


# Smoothing


@pytest.mark.parametrize("seed", [seed for seed in range(16) if small_machine(seed).num_states <= 6])
def test_smoothing_is_the_sum_over_all_hidden_paths(seed):
    process = small_machine(seed)
    length = 4
    tokens = sample(process, 3, length, torch.Generator().manual_seed(seed))
    matrices, start = process.transition_matrices.numpy(), process.initial_distribution.numpy()
    expected = np.zeros((3, length + 1, process.num_states))
    for path in itertools.product(range(process.num_states), repeat=length + 1):
        for row, word in enumerate(tokens.tolist()):
            weight = start[path[0]] * math.prod(
                matrices[token, i, j] for token, i, j in zip(word, path[:-1], path[1:], strict=True)
            )
            expected[row, range(length + 1), path] += weight
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(smooth_beliefs(process, tokens), expected, atol=1e-12)
    np.testing.assert_allclose(smooth_beliefs(process, tokens, dtype=torch.float32), expected, atol=1e-5)


def test_a_long_sequence_is_smoothed():
    # Seen from the end, z1r is synchronised from its first token on: no belief is left open in the past.
    tokens = sample(z1r(), 2, 3000, torch.Generator().manual_seed(0))
    smoothed = smooth_beliefs(z1r(), tokens)
    np.testing.assert_allclose(smoothed.amax(-1), 1, atol=1e-12)
    torch.testing.assert_close(smoothed[:, -1], filter_beliefs(z1r(), tokens).filtered[:, -1], atol=1e-12, rtol=0)


def test_smoothing_needs_states():
    with pytest.raises(TypeError, match=r"smoothing needs a HiddenMarkovModel.*change of basis"):
        smooth_beliefs(conjugated(mess3(), 0), torch.tensor([[0]]))


def test_words_of_a_scan_are_words_of_the_tree():
    level = words(mess3(), 6).levels[-1]
    found = filter_beliefs(mess3(), level.tokens)
    torch.testing.assert_close(found.filtered[:, -1], level.filtered, atol=1e-13, rtol=0)
    torch.testing.assert_close(found.log_likelihood, level.probabilities.log(), atol=1e-12, rtol=0)
