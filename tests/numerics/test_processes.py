"""The model itself: validation, stationary laws against linear algebra and closed forms, samples against exact laws."""

import itertools
import math
import textwrap
import time

import numpy as np
import pytest
import torch

from pcnet import processes
from pcnet.processes import (
    HiddenMarkovModel,
    coin,
    even,
    filter_beliefs,
    golden_mean,
    leaky_rrxor,
    mess,
    mess3,
    rrxor,
    sample,
    simple_nonunifilar_source,
    z1r,
    zrr,
)

ZOO = [mess3(), rrxor(), z1r(), golden_mean(), even(), coin()]
ZOO_NAMES = ["mess3", "rrxor", "z1r", "golden_mean", "even", "coin"]


def dense_process(seed: int, vocab_size: int, num_states: int) -> HiddenMarkovModel:
    rng = np.random.default_rng(seed)
    matrices = rng.exponential(size=(vocab_size, num_states, num_states))
    return HiddenMarkovModel(matrices / matrices.sum((0, 2), keepdims=True))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Matrices


def test_mess3_is_noisy_observation_of_a_sticky_state():
    x, a = 0.05, 0.85
    stay_or_move = np.full((3, 3), x) + np.eye(3) * (1 - 3 * x)
    observe = np.full((3, 3), (1 - a) / 2) + np.eye(3) * (a - (1 - a) / 2)
    expected = np.einsum("ij,jx->xij", stay_or_move, observe)
    np.testing.assert_allclose(mess3(x, a).transition_matrices, expected, atol=1e-15)


def test_mess3_state_eigenvalues():
    eigenvalues = np.linalg.eigvalsh(mess3(0.05, 0.85).state_transition_matrix)
    np.testing.assert_allclose(eigenvalues, [0.85, 0.85, 1], atol=1e-12)


@pytest.mark.parametrize("bits", list(itertools.product((0, 1), repeat=2)))
def test_rrxor_third_token_is_the_exclusive_or(bits):
    first, second = bits
    matrices = rrxor(0.3, 0.6).transition_matrices
    start = torch.eye(5, dtype=torch.float64)[0]
    after_two = start @ matrices[first] @ matrices[second]
    expected = (0.3, 0.7)[first] * (0.6, 0.4)[second]
    right, wrong = matrices[first ^ second], matrices[1 - (first ^ second)]
    torch.testing.assert_close(after_two @ right, expected * start)
    assert (after_two @ wrong).sum() == 0


@pytest.mark.parametrize(
    "process, forbidden",
    [
        (golden_mean(0.3), [(1, 1)]),
        (even(0.3), [(0, 1, 0), (0, 1, 1, 1, 0)]),
        (z1r(0.3), [(0, 0, 0), (1, 1, 1, 1), (0, 0, 1, 0, 1)]),
        (coin(1.0), [(0,)]),
    ],
)
def test_forbidden_words_have_no_probability(process, forbidden):
    for word in forbidden:
        row = process.stationary_distribution
        for token in word:
            row = row @ process.transition_matrices[token]
        assert row.sum() == 0, word


@pytest.mark.parametrize("build", [np.asarray, torch.as_tensor, lambda nested: nested])
def test_matrices_are_kept_in_float64_whatever_they_came_as(build):
    nested = [[[0.25, 0.125], [0.0, 1.0]], [[0.625, 0.0], [0.0, 0.0]]]
    matrices = HiddenMarkovModel(build(nested)).transition_matrices
    assert matrices.dtype == torch.float64 and matrices.is_contiguous()
    np.testing.assert_array_equal(matrices, nested)


def test_matrices_are_a_copy():
    source = np.ones((1, 1, 1))
    process = HiddenMarkovModel(source)
    source[:] = 0
    assert process.transition_matrices.item() == 1


@pytest.mark.parametrize("num_states", [2, 3, 6])
def test_mess_n_is_noisy_observation_of_a_sticky_state(num_states):
    x, a = 0.06, 0.7
    b = (1 - a) / (num_states - 1)
    stay_or_move = np.full((num_states, num_states), x) + np.eye(num_states) * (1 - num_states * x)
    observe = np.full((num_states, num_states), b) + np.eye(num_states) * (a - b)
    process = mess(num_states, x, a)
    np.testing.assert_allclose(process.transition_matrices, np.einsum("ij,jx->xij", stay_or_move, observe), atol=1e-15)
    eigenvalues = np.linalg.eigvalsh(process.state_transition_matrix)
    np.testing.assert_allclose(eigenvalues, [*[1 - num_states * x] * (num_states - 1), 1], atol=1e-12)


def test_mess3_is_mess_of_three():
    # Entries as in the literature: rows are where from, matrices are tokens.
    x, a = 0.05, 0.85
    b, y = (1 - a) / 2, 1 - 2 * x
    expected = [
        [[a * y, b * x, b * x], [a * x, b * y, b * x], [a * x, b * x, b * y]],
        [[b * y, a * x, b * x], [b * x, a * y, b * x], [b * x, a * x, b * y]],
        [[b * y, b * x, a * x], [b * x, b * y, a * x], [b * x, b * x, a * y]],
    ]
    np.testing.assert_allclose(mess(3).transition_matrices, expected, rtol=1e-14)
    np.testing.assert_array_equal(mess(3, 0.15, 0.6).transition_matrices, mess3(0.15, 0.6).transition_matrices)


def test_a_leak_is_a_random_token_and_a_jump():
    clean, leaky = (p.transition_matrices.numpy() for p in (rrxor(0.3, 0.6), leaky_rrxor(0.3, 0.6, 0.2)))
    np.testing.assert_allclose(leaky.sum((0, 2)), 1, atol=1e-15)
    np.testing.assert_allclose(leaky[clean == 0], 0.02, rtol=1e-14)
    np.testing.assert_allclose(leaky - 0.02, 0.8 * clean, atol=1e-16)
    assert np.ptp(leaky_rrxor(e=1).transition_matrices.numpy()) == 0


def test_zrr_is_a_zero_and_two_bits():
    process = zrr(0.2, 0.7)
    for bits in itertools.product((0, 1), repeat=2):
        row = torch.eye(3, dtype=torch.float64)[0]
        for token in (0, *bits):
            row = row @ process.transition_matrices[token]
        np.testing.assert_allclose(row, [(0.8, 0.2)[bits[0]] * (0.3, 0.7)[bits[1]], 0, 0], rtol=1e-14)
    assert process.transition_matrices[1, 0].sum() == 0


@pytest.mark.parametrize("p, q", [(0.5, 0.5), (0.3, 0.1)])
def test_the_simple_nonunifilar_source_is_a_renewal_process(p, q):
    # Two waits in a row, one of them of no length: n zeros have the probability p q sum_k (1 - p)^k (1 - q)^(n - 1 - k).
    process = simple_nonunifilar_source(p, q)
    row = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for zeros in range(12):
        expected = p * q * sum((1 - p) ** k * (1 - q) ** (zeros - 1 - k) for k in range(zeros))
        assert (row @ process.transition_matrices[1])[0].item() == pytest.approx(expected, abs=1e-16)
        row = row @ process.transition_matrices[0]


# Refusals


@pytest.mark.parametrize(
    "matrices, error, message",
    [
        (None, TypeError, "^transition_matrices "),
        ("mess3", TypeError, "got str"),
        ([[[1j]]], TypeError, "complex128"),
        (torch.ones(1, 1, 1, dtype=torch.complex64), TypeError, "complex"),
        ([[[0.5, 0.5], [1.0]]], TypeError, "rectangular"),
        (np.eye(2), ValueError, r"shape \(V, S, S\).*got \(2, 2\)"),
        (np.ones((2, 2, 3)), ValueError, r"got \(2, 2, 3\)"),
        (np.ones((0, 2, 2)), ValueError, r"got \(0, 2, 2\)"),
        ([[[0.5, 0.5], [math.nan, 1.0]]], ValueError, r"transition_matrices\[0, 1, 0\] = nan"),
        ([[[0.5, 0.5], [math.inf, 1.0]]], ValueError, r"transition_matrices\[0, 1, 0\] = inf"),
        ([[[1.0]], [[0.25]], [[-0.25]]], ValueError, r"transition_matrices\[2, 0, 0\] = -0.25"),
        ([[[0.5, 0.5], [0.5, 0.4]]], ValueError, r"transition_matrices\[:, 1, :\] sums to 0.9.*state 1 must sum to 1"),
        ([[[1.0 + 2e-9]]], ValueError, "must sum to 1"),
    ],
)
def test_what_is_no_process_is_refused(matrices, error, message):
    with pytest.raises(error, match=message):
        HiddenMarkovModel(matrices)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: mess3(a=85), r"a must lie in \[0, 1\] .*not a percentage.*got 85"),
        (lambda: mess3(x=0.6), r"x must lie in \[0, 0.5\].*got 0.6"),
        (lambda: mess3(x=math.nan), "x must lie in"),
        (lambda: rrxor(p1=-0.1), r"p1 must lie in \[0, 1\].*got -0.1"),
        (lambda: rrxor(p2=50), "p2 must lie in"),
        (lambda: z1r(50), "p must lie in"),
        (lambda: golden_mean(1.01), "p must lie in"),
        (lambda: even(-1), "p must lie in"),
        (lambda: coin(2), "p must lie in"),
        (lambda: mess(5, x=0.3), r"x must lie in \[0, 0.25\].*got 0.3"),
        (lambda: mess(1), "num_states must be at least 2, got 1"),
        (lambda: leaky_rrxor(e=10), r"e must lie in \[0, 1\].*not a percentage"),
        (lambda: zrr(p2=-0.5), "p2 must lie in"),
        (lambda: simple_nonunifilar_source(q=1.5), "q must lie in"),
    ],
)
def test_parameters_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_parameter_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match=r"^p "):
        coin("0.5")


# Stationary laws


@pytest.mark.parametrize(
    "process, expected",
    [
        (mess3(0.05, 0.85), np.ones(3) / 3),
        (mess3(0.4, 0.1), np.ones(3) / 3),
        (rrxor(), np.array([2, 1, 1, 1, 1]) / 6),
        (rrxor(0.2, 0.9), np.array([1, 0.2, 0.8, 0.2 * 0.1 + 0.8 * 0.9, 0.2 * 0.9 + 0.8 * 0.1]) / 3),
        (z1r(0.3), np.ones(3) / 3),  # periodic
        (golden_mean(0.3), np.array([1, 0.3]) / 1.3),
        (even(0.3), np.array([1, 0.3]) / 1.3),
        (golden_mean(1.0), np.ones(2) / 2),  # periodic
        (coin(0.3), np.ones(1)),
        (mess(6, 0.1, 0.7), np.ones(6) / 6),
        (zrr(0.2, 0.7), np.ones(3) / 3),  # periodic
        (simple_nonunifilar_source(0.3, 0.1), np.array([0.1, 0.3]) / 0.4),
    ],
)
def test_stationary_law_in_closed_form(process, expected):
    np.testing.assert_allclose(process.stationary_distribution, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("num_states", [1, 2, 5, 20])
def test_stationary_law_is_the_left_eigenvector(num_states):
    process = dense_process(num_states, vocab_size=3, num_states=num_states)
    eigenvalues, vectors = np.linalg.eig(process.transition_matrices.sum(0).T.numpy())
    vector = vectors[:, np.argmax(eigenvalues.real)].real
    np.testing.assert_allclose(process.stationary_distribution, vector / vector.sum(), atol=1e-12)


def test_stationary_law_of_a_nearly_frozen_chain_keeps_its_accuracy():
    # Detailed balance gives (q, p)/(p + q); solving (I - T) directly would cancel to nothing.
    p, q = 3e-15, 1e-15
    process = HiddenMarkovModel([[[1 - p, p], [q, 1 - q]]])
    np.testing.assert_allclose(process.stationary_distribution, [0.25, 0.75], rtol=1e-12)


def test_transient_states_have_exactly_no_mass():
    chain = torch.tensor([[0.2, 0.3, 0.5, 0], [0, 0.4, 0.6, 0], [0, 1, 0, 0], [0.1, 0, 0, 0.9]], dtype=torch.float64)
    law = HiddenMarkovModel(chain.unsqueeze(0)).stationary_distribution
    np.testing.assert_allclose(law, [0, 1 / 1.6, 0.6 / 1.6, 0], rtol=1e-14)


def test_two_recurrent_classes_are_refused_by_name():
    chain = [[0.5, 0.5, 0, 0], [1, 0, 0, 0], [0, 0, 0.3, 0.7], [0, 0, 0.5, 0.5]]
    with pytest.raises(ValueError, match=r"isn't unique.*2 recurrent classes of states, \[0, 1\], \[2, 3\]"):
        _ = HiddenMarkovModel([chain]).stationary_distribution


def test_frozen_mess3_has_no_unique_stationary_law():
    with pytest.raises(ValueError, match="3 recurrent classes"):
        _ = mess3(x=0).stationary_distribution


# Samples


def word_laws(process: HiddenMarkovModel, length: int) -> np.ndarray:
    """Probability of every word of one length, possible or not, as products of matrices."""
    matrices = process.transition_matrices.numpy()
    rows = process.stationary_distribution.numpy()[None]
    for _ in range(length):
        rows = np.einsum("ni,xij->nxj", rows, matrices).reshape(-1, rows.shape[-1])
    return rows.sum(1)


@pytest.mark.parametrize(
    "process", [*ZOO, rrxor(0.2, 0.9), dense_process(0, 4, 3)], ids=[*ZOO_NAMES, "rrxor'", "dense"]
)
@pytest.mark.parametrize("start", [0, 5])
def test_samples_have_the_exact_word_law_at_every_position(process, start):
    length, num_sequences = 4, 20_000
    tokens = sample(process, num_sequences, start + length, generator(1)).numpy()
    words = tokens[:, start:] @ process.vocab_size ** np.arange(length)[::-1]
    counts = np.bincount(words, minlength=process.vocab_size**length)
    expected = num_sequences * word_laws(process, length)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    chi_square = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    freedom = possible.sum() - 1
    assert chi_square <= freedom + 5 * math.sqrt(2 * freedom)


def test_successive_tokens_are_drawn_independently_of_other_sequences():
    tokens = sample(coin(), 200, 100, generator(2)).double() - 0.5
    correlations = 4 * (tokens @ tokens.T) / 100
    off_diagonal = correlations[~torch.eye(200, dtype=torch.bool)]
    assert abs(off_diagonal.std() - 0.1) < 0.005  # independent flips: 1 / sqrt(100)


def test_samples_depend_on_the_generator_only():
    first = sample(mess3(), 8, 20, generator(3))
    torch.manual_seed(4)
    source = generator(3)
    again, onward = sample(mess3(), 8, 20, source), sample(mess3(), 8, 20, source)
    assert first.dtype == torch.int64 and first.is_contiguous()
    assert torch.equal(first, again)
    assert not torch.equal(first, onward)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2.0**-53])
def test_extreme_uniforms_never_give_an_impossible_transition(monkeypatch, uniform):
    # Ten tenths sum to less than one in floating point, and state 0 has impossible outcomes before and behind them.
    matrices = torch.zeros(12, 2, 2, dtype=torch.float64)
    matrices[1:11, 0, 1] = 0.1
    matrices[:, 1, 0] = 1 / 12
    assert matrices[1:11, 0, 1].cumsum(0)[-1] < 1
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.zeros(*size, dtype=torch.float64) + uniform)
    tokens = sample(HiddenMarkovModel(matrices), 1, 6, generator()).squeeze(0).tolist()
    in_first, in_second = (1, 0) if uniform == 0 else (10, 11)
    assert tokens in ([in_first, in_second] * 3, [in_second, in_first] * 3)


def test_sampling_and_filtering_keep_up_with_training():
    process, source = mess3(), generator()
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        filter_beliefs(process, sample(process, 1024, 64, source))
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05


@pytest.mark.parametrize(
    "sizes, error, message",
    [
        ((0, 3), ValueError, "^num_sequences "),
        ((3, -1), ValueError, "^length "),
        ((2.0, 3), TypeError, "^num_sequences "),
        ((2, True), TypeError, "^length "),
    ],
)
def test_impossible_sizes_are_refused(sizes, error, message):
    with pytest.raises(error, match=message):
        sample(coin(), *sizes, generator())


def test_a_seed_is_no_generator():
    with pytest.raises(TypeError, match=r"^generator "):
        sample(coin(), 1, 1, 0)


def test_the_example_of_the_package_runs(capsys: pytest.CaptureFixture) -> None:
    example = processes.__doc__.split("::\n\n")[1].split("\n\n")[0]
    exec(textwrap.dedent(example), {"torch": torch} | vars(processes))
    shapes, number, _ = capsys.readouterr().out.splitlines()
    assert "([64, 10]) torch.Size([64, 10, 3])" in shapes and int(number) == sum(3**n for n in range(1, 11))
