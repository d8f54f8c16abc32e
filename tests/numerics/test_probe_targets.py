"""What may be decoded, against sums over hidden paths, sampled states and the processes' own answers."""

from itertools import product as every

import numpy as np
import pytest
import torch

from pcnet.probing import (
    belief_beyond_next_token_law,
    belief_part,
    constrained_belief,
    filtered_belief,
    future_beyond_next_token,
    future_law,
    hidden_state,
    log_belief,
    next_token_law,
    predicted_belief,
)
from pcnet.processes import constrained_beliefs, frdn, mess3, mixture, observe, product, rrxor, words, z1r, zrr


def by_paths(process, tokens):
    """Unnormalised weight of each (last state) after these tokens: a sum over every hidden path, term by term."""
    start, matrices = process.initial_distribution.numpy(), process.transition_matrices.numpy()
    found = np.zeros(process.num_states)
    for path in every(range(process.num_states), repeat=len(tokens) + 1):
        weight = start[path[0]]
        for token, here, there in zip(tokens, path[:-1], path[1:], strict=True):
            weight *= matrices[token, here, there]
        found[path[-1]] += weight
    return found


def each_word(population):
    for row, (tokens, length) in enumerate(zip(population.tokens.tolist(), population.lengths.tolist(), strict=True)):
        yield row, tokens[:length]


@pytest.mark.parametrize("make", [mess3, z1r])
def test_beliefs_and_laws_are_sums_over_hidden_paths(make):
    process, population = make(), words(make(), 3)
    targets = {
        "filtered": filtered_belief(process, population),
        "predicted": predicted_belief(process, population),
        "next": next_token_law(process, population),
        "future": future_law(process, population, 2),
    }
    tokens_of = list(range(process.vocab_size))
    for row, word in each_word(population):
        after, before = by_paths(process, word), by_paths(process, word[:-1])
        np.testing.assert_allclose(targets["filtered"][row], after / after.sum(), atol=1e-12)
        np.testing.assert_allclose(targets["predicted"][row], before / before.sum(), atol=1e-12)
        for name, horizon in (("next", 1), ("future", 2)):
            law = [by_paths(process, [*word, *more]).sum() / after.sum() for more in every(tokens_of, repeat=horizon)]
            np.testing.assert_allclose(targets[name][row], law, atol=1e-12)


@pytest.mark.parametrize("make", [mess3, rrxor, z1r])
def test_constrained_belief_is_that_of_the_prefix_tree(make):
    process, population = make(), words(make(), 6)
    expected = constrained_beliefs(process, population).numpy()
    np.testing.assert_allclose(constrained_belief(process, population), expected, atol=1e-12)


def test_constrained_belief_of_one_token_is_the_belief_also_without_hidden_states():
    population = words(mess3(), 1)
    np.testing.assert_allclose(constrained_belief(mess3(), population), population.filtered, atol=1e-12)
    seen = observe(frdn(), 3, 1, torch.Generator().manual_seed(0))
    rows = type("OneToken", (), {"tokens": seen.tokens, "lengths": torch.ones(3, dtype=torch.int64)})
    np.testing.assert_allclose(constrained_belief(frdn(), rows), seen.filtered[:, 0], atol=1e-12)


def test_future_beyond_the_next_token_is_what_no_function_of_the_law_says():
    process, population = rrxor(), words(rrxor(), 7)
    whole, rest = future_law(process, population, 3), future_beyond_next_token(process, population, 3)
    weights, laws = population.probabilities.numpy(), population.next_token_laws.numpy()
    assert np.abs(rest).max() > 0.1
    for row in range(0, len(laws), 5):
        group = np.all(np.abs(laws - laws[row]) < 1e-9, axis=1)
        mean = np.average(whole[group], axis=0, weights=weights[group])
        np.testing.assert_allclose(whole[group] - rest[group], np.tile(mean, (group.sum(), 1)), atol=1e-10)


def test_future_beyond_the_next_token_is_the_future_of_the_belief_beyond_it():
    # laws are linear in the belief, so the rest of the future is the future of the rest
    process, population = zrr(), words(zrr(), 6)
    matrices, rest = process.transition_matrices.numpy(), belief_beyond_next_token_law(population)
    expected = [rest @ matrices[a] @ matrices[b].sum(axis=1) for a, b in every(range(process.vocab_size), repeat=2)]
    found = future_beyond_next_token(process, population, 2)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-9)


def test_nothing_is_left_where_the_law_determines_the_future():
    assert not future_beyond_next_token(mess3(), words(mess3(), 5), 3).any()
    assert not future_beyond_next_token(rrxor(), words(rrxor(), 6), 1).any()


def test_component_of_a_mixture_follows_bayes():
    one, other = mess3(), mess3(0.2, 0.7)
    both = mixture([one, other], [0.3, 0.7])
    population = words(both, 4)
    found = belief_part(both, population, "component")
    inside = belief_part(both, population, "component.1")
    for row, word in each_word(population):
        mass = np.array([0.3 * by_paths(one, word).sum(), 0.7 * by_paths(other, word).sum()])
        np.testing.assert_allclose(found[row], mass / mass.sum(), atol=1e-12)
        belief = by_paths(other, word)
        np.testing.assert_allclose(inside[row], belief / belief.sum(), atol=1e-12)


def test_factor_of_a_product_is_the_belief_of_its_own_tokens():
    left, right = mess3(), z1r()
    both = product([left, right])
    population = words(both, 3)
    found = belief_part(both, population, "factor.1")
    for row, word in each_word(population):
        belief = by_paths(right, [token % right.vocab_size for token in word])
        np.testing.assert_allclose(found[row], belief / belief.sum(), atol=1e-12)


def test_mean_hidden_state_of_a_word_is_its_belief():
    seen = observe(z1r(), 20000, 3, torch.Generator().manual_seed(1))
    target = hidden_state(z1r(), seen.states[:, 3])
    assert np.all(target.sum(axis=1) == 1)
    for word in torch.unique(seen.tokens, dim=0):
        rows = (seen.tokens == word).all(dim=1).numpy()
        belief = seen.filtered[torch.as_tensor(rows)][0, -1].numpy()
        error = np.sqrt(belief * (1 - belief) / rows.sum())
        assert np.all(np.abs(target[rows].mean(axis=0) - belief) <= 4 * error + 1e-12)


def test_log_beliefs_are_logarithms_down_to_the_floor():
    population = words(rrxor(), 6)
    beliefs = population.filtered.numpy()
    found = log_belief(rrxor(), population, floor=1e-4)
    assert np.isfinite(found).all() and (beliefs == 0).any()
    np.testing.assert_allclose(np.exp(found), np.maximum(beliefs, 1e-4), rtol=1e-12)


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda rows: log_belief(frdn(), rows), TypeError, "log_belief needs a HiddenMarkovModel.*negative"),
        (lambda rows: hidden_state(frdn(), np.zeros(3, int)), TypeError, "hidden_state needs a HiddenMarkovModel"),
        (lambda rows: log_belief(mess3(), rows, 0.0), ValueError, "floor=0.0"),
        (
            lambda rows: hidden_state(mess3(), np.array([0, 3])),
            ValueError,
            r"states holds 3 at row 1; legal are 0\.\.2",
        ),
        (lambda rows: hidden_state(mess3(), np.array([0.0])), ValueError, "states has shape"),
        (lambda rows: belief_part(mess3(), rows, "factor.0"), ValueError, "isn't composed"),
        (
            lambda rows: belief_part(product([mess3(), mess3()]), rows, "factor.2"),
            ValueError,
            r"factor\.2.*factor\.0, factor\.1",
        ),
        (lambda rows: filtered_belief(rrxor(), rows), ValueError, "rows.filtered has shape .* 5 states"),
        (lambda rows: next_token_law(rrxor(), rows), ValueError, "rows.next_token_laws has shape .* 2 tokens"),
        (lambda rows: future_law(mess3(), rows, 0), ValueError, "horizon=0"),
        (lambda rows: future_law(mess3(), rows, 11), ValueError, "horizon=11"),
    ],
)
def test_targets_that_do_not_exist_are_refused(ask, kind, message):
    with pytest.raises(kind, match=message):
        ask(words(mess3(), 3))
