"""Samples against the laws that they are drawn from, and what is observed of them against filters and matrices."""

import numpy as np
import pytest
import torch
from scipy import stats

from pcnet.processes import (
    GeneralizedHiddenMarkovModel,
    HiddenMarkovModel,
    Process,
    coin,
    even,
    filter_beliefs,
    golden_mean,
    mess3,
    next_token_law,
    observe,
    product,
    rrxor,
    sample,
    token_log_probabilities,
    words,
    z1r,
)
from pcnet.processes.beliefs.sampling import TableSampler, sample_batches

LEVEL = 1e-3
"""Level of every chi-square test; with fixed seeds, an outcome is the same in every run."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bloch(alpha: float = 1.0, beta: float = 51**0.5) -> GeneralizedHiddenMarkovModel:
    """The Bloch walk: a process without finitely many hidden states."""
    g = 1 / (4 * (alpha**2 + beta**2))
    m, o = (alpha**2 - beta**2) * g, 2 * alpha * beta * g
    matrices = [[[0.25, 0, s * o], [0, m, 0], [s * o, 0, 0.25]] for s in (1, -1)]
    matrices += [[[0.25, s * o, 0], [s * o, 0.25, 0], [0, 0, m]] for s in (1, -1)]
    return GeneralizedHiddenMarkovModel(matrices, [1, 0, 0], [1, 0, 0])


def inverted(process: HiddenMarkovModel, uniforms: np.ndarray) -> list[list[int]]:
    """Tokens by the rule itself: the first possible outcome whose cumulative law exceeds the number."""

    def chosen(law: np.ndarray, uniform: float) -> int:
        possible = np.flatnonzero(law)
        return int(
            possible[min(int(np.searchsorted(law[possible].cumsum(), uniform, side="right")), len(possible) - 1)]
        )

    laws = process.transition_matrices.transpose(0, 1).flatten(1).numpy()
    sequences = []
    for column in uniforms.T:
        state, tokens = chosen(process.initial_distribution.numpy(), column[0]), []
        for uniform in column[1:]:
            token, state = divmod(chosen(laws[state], uniform), process.num_states)
            tokens.append(token)
        sequences.append(tokens)
    return sequences


PROCESSES = {
    "mess3": mess3(),
    "rrxor": rrxor(0.3, 0.6),
    "z1r": z1r(),
    "even": even(0.37),
    "golden_mean": golden_mean(0.9),
    "coin": coin(0.1),
    "rare": HiddenMarkovModel([[[0.5, 1e-7], [0.2, 0.3]], [[0.5 - 2e-7, 1e-7], [0.25, 0.25]]]),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_one_number_decides_a_token_and_the_next_state(name):
    uniforms = torch.rand(21, 30, dtype=torch.float64, generator=seeded(3)).numpy()
    assert sample(PROCESSES[name], 30, 20, seeded(3)).tolist() == inverted(PROCESSES[name], uniforms)


def test_boundaries_belong_to_the_outcome_above_them():
    laws = torch.tensor([[0.25, 0.25, 0.5, 0, 0], [0, 0.1, 0.0, 0.2, 0.7], [0, 0, 1, 0, 0]], dtype=torch.float64)
    table = TableSampler.from_laws([laws])
    uniforms = torch.tensor([[0, 0.1, 0], [0.25, 0.1 + 0.2, 0.5], [0.5, 0.3, 0.999]], dtype=torch.float64)
    rows = torch.arange(3)
    same_row = rows.repeat_interleave(table.ranks)
    assert table.outcomes[table.follow(rows, uniforms, same_row)].tolist() == [[0, 3, 2], [1, 4, 2], [2, 3, 2]]


@pytest.mark.parametrize("seed", range(20))
def test_tables_of_many_outcomes_are_inverted_as_by_bisection(seed):
    # Thousands of outcomes, some of them far closer together than any guide is fine.
    rng = np.random.default_rng(seed)
    laws = rng.exponential(size=(3, 2000)) ** 8 * (rng.random((3, 2000)) < 0.7)
    laws = torch.from_numpy(laws / laws.sum(1, keepdims=True))
    table = TableSampler.from_laws([laws])
    uniforms, rows = torch.from_numpy(rng.random((50, 3))), torch.arange(3)
    drawn = table.outcomes[table.follow(rows, uniforms, rows.repeat_interleave(table.ranks))]
    possible = [np.flatnonzero(law) for law in laws.numpy()]
    for row in range(3):
        bounds = laws[row].numpy()[possible[row]].cumsum()[:-1]
        expected = possible[row][np.searchsorted(bounds, uniforms[:, row].numpy(), side="right")]
        np.testing.assert_array_equal(drawn[:, row], expected)


@pytest.mark.parametrize("process", [mess3(), rrxor(), z1r(), golden_mean(0.3), bloch()], ids=repr)
def test_words_come_as_often_as_they_should(process):
    tokens = sample(process, 20_000, 4, seeded(1))
    numbers = (tokens * process.vocab_size ** torch.arange(3, -1, -1)).sum(1)
    found = torch.bincount(numbers, minlength=process.vocab_size**4).numpy()
    matrices = process.transition_matrices.numpy()
    rows = process.initial_distribution.numpy()[None]
    for _ in range(4):
        rows = np.einsum("ni,xij->nxj", rows, matrices).reshape(-1, process.num_states)
    expected = 20_000 * rows @ process.right_vector.numpy()
    possible = expected > 1e-6
    assert found[~possible].sum() == 0
    assert stats.chisquare(found[possible], expected[possible]).pvalue > LEVEL


def test_a_generalised_process_never_emits_what_cancels():
    basis = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64)
    inverse = torch.linalg.inv(basis)
    process = golden_mean(0.7)
    general = GeneralizedHiddenMarkovModel(
        inverse @ process.transition_matrices @ basis, inverse.sum(1), process.initial_distribution @ basis
    )
    tokens = sample(general, 500, 40, seeded())
    assert not ((tokens[:, 1:] == 1) & (tokens[:, :-1] == 1)).any()
    assert tokens.double().mean().item() == pytest.approx(0.7 / 1.7, abs=0.01)


# Observing


@pytest.mark.parametrize("process", [*PROCESSES.values(), bloch()], ids=[*PROCESSES, "bloch"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_observing_is_sampling_and_filtering(process, dtype, tolerance):
    seen = observe(process, 40, 15, seeded(2), dtype=dtype)
    tokens = sample(process, 40, 15, seeded(2))
    beliefs = filter_beliefs(process, tokens)
    assert torch.equal(seen.tokens, tokens)
    assert seen.filtered.dtype == seen.predicted.dtype == seen.next_token_laws.dtype == dtype
    np.testing.assert_allclose(seen.predicted, beliefs.predicted, atol=tolerance)
    np.testing.assert_allclose(seen.filtered, beliefs.filtered, atol=tolerance)
    np.testing.assert_allclose(seen.next_token_laws, next_token_law(process, beliefs.filtered), atol=tolerance)
    for length in (1, 7, 15):
        expected = filter_beliefs(process, tokens[:, :length]).log_likelihood
        found = seen.log_word_probabilities[:, length - 1]
        np.testing.assert_allclose(found, expected, atol=20 * tolerance)


@pytest.mark.parametrize("name", PROCESSES)
def test_hidden_states_can_have_emitted_the_tokens(name):
    process = PROCESSES[name]
    seen = observe(process, 100, 30, seeded(4))
    assert seen.states.shape == (100, 31)
    assert (process.transition_matrices[seen.tokens, seen.states[:, :-1], seen.states[:, 1:]] > 0).all()


def test_hidden_states_follow_their_laws():
    process = mess3()
    seen = observe(process, 400, 50, seeded(5))
    steps = torch.stack([seen.states[:, :-1], seen.tokens, seen.states[:, 1:]]).flatten(1)
    found = torch.bincount(steps[0] * 9 + steps[1] * 3 + steps[2], minlength=27).view(3, 9).numpy()
    laws = process.transition_matrices.transpose(0, 1).flatten(1).numpy()
    for state in range(3):
        assert stats.chisquare(found[state], laws[state] * found[state].sum()).pvalue > LEVEL


def test_a_generalised_process_has_no_states():
    assert observe(bloch(), 3, 5, seeded()).states is None


def test_word_probabilities_are_those_of_the_tree():
    seen = observe(rrxor(), 200, 6, seeded(6))
    population = words(rrxor(), 6)
    known = {
        tuple(t for t in word if t >= 0): p for word, p in zip(population.tokens.tolist(), population.probabilities)
    }
    for word, logs in zip(seen.tokens.tolist(), seen.log_word_probabilities, strict=True):
        expected = [known[tuple(word[: n + 1])] for n in range(6)]
        np.testing.assert_allclose(logs.exp(), expected, rtol=1e-12)


def test_several_generators_at_once_draw_what_each_draws():
    for process in (mess3(), bloch()):
        together = sample_batches(process, 5, 9, [seeded(k) for k in range(4)])
        assert torch.equal(together, torch.cat([sample(process, 5, 9, seeded(k)) for k in range(4)]))


@pytest.mark.parametrize("draw", [sample, observe])
def test_bad_requests_are_refused(draw):
    with pytest.raises(ValueError, match=r"^num_sequences "):
        draw(mess3(), 0, 3, seeded())
    with pytest.raises(TypeError, match=r"^length "):
        draw(mess3(), 1, 3.0, seeded())
    with pytest.raises(TypeError, match=r"^generator "):
        draw(mess3(), 1, 3, 0)


# Products


def unfactored(process: Process) -> Process:
    """The same matrices, without a word about factors."""
    if isinstance(process, HiddenMarkovModel):
        return HiddenMarkovModel(process.transition_matrices, process.initial_distribution)
    return GeneralizedHiddenMarkovModel(process.transition_matrices, process.right_vector, process.initial_distribution)


PRODUCTS = {
    "states": product([mess3(), product([z1r(), golden_mean(0.3)])]),
    "generalised": product([even(0.4), bloch(), coin(0.3)]),
    "many states": product([rrxor(0.3, 0.6), product([z1r(), z1r()]), HiddenMarkovModel(np.full((2, 9, 9), 1 / 18))]),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_a_product_is_followed_factor_by_factor_to_the_same_beliefs(name, dtype, tolerance):
    process, whole = PRODUCTS[name], unfactored(PRODUCTS[name])
    seen = observe(process, 20, 12, seeded(7), dtype=dtype)
    expected = filter_beliefs(whole, seen.tokens)
    found = filter_beliefs(process, seen.tokens, dtype=dtype)
    for own in (seen, found):
        np.testing.assert_allclose(own.predicted, expected.predicted, atol=tolerance)
        np.testing.assert_allclose(own.filtered, expected.filtered, atol=tolerance)
    np.testing.assert_allclose(found.log_likelihood, expected.log_likelihood, rtol=tolerance)
    np.testing.assert_allclose(seen.log_word_probabilities[:, -1], expected.log_likelihood, rtol=tolerance)
    np.testing.assert_allclose(seen.next_token_laws, next_token_law(whole, expected.filtered), atol=tolerance)
    logs = token_log_probabilities(process, seen.tokens, dtype=dtype)
    np.testing.assert_allclose(logs.sum(1), expected.log_likelihood, rtol=tolerance)
    assert torch.equal(seen.tokens, sample(process, 20, 12, seeded(7)))


def test_a_product_emits_its_words_as_often_as_it_should():
    process = PRODUCTS["generalised"]
    tokens = sample(process, 20_000, 2, seeded(8))
    found = torch.bincount(tokens[:, 0] * process.vocab_size + tokens[:, 1], minlength=process.vocab_size**2).numpy()
    matrices = process.transition_matrices.numpy()
    rows = np.einsum("i,xij,yjk->xyk", process.initial_distribution.numpy(), matrices, matrices)
    expected = 20_000 * (rows @ process.right_vector.numpy()).ravel()
    possible = expected > 1e-6
    assert found[~possible].sum() == 0
    assert stats.chisquare(found[possible], expected[possible]).pvalue > LEVEL


def test_states_of_a_product_can_have_emitted_its_tokens():
    process = PRODUCTS["states"]
    seen = observe(process, 50, 20, seeded(9))
    assert (process.transition_matrices[seen.tokens, seen.states[:, :-1], seen.states[:, 1:]] > 0).all()


def test_an_impossible_token_of_one_factor_is_impossible():
    process = product([mess3(), golden_mean()])
    with pytest.raises(ValueError, match=r"tokens\[0\].*first 1 tokens.*tokens\[0, 1\] = 3"):
        filter_beliefs(process, torch.tensor([[1, 3, 0]]))
