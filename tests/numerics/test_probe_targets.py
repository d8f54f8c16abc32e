"""What may be decoded, against sums over hidden paths, sampled states and the processes' own answers."""

from itertools import product as every

import numpy as np
import pytest
import torch

from pcnet.probing import (
    filtered_belief,
    future_law,
    next_token_law,
    predicted_belief,
)
from pcnet.processes import constrained_beliefs, frdn, mess3, mixture, observe, product, rrxor, words, z1r


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


def test_constrained_belief_of_one_token_is_the_belief_also_without_hidden_states():
    population = words(mess3(), 1)
    np.testing.assert_allclose(constrained_beliefs(mess3(), population), population.filtered, atol=1e-12)
    seen = observe(frdn(), 3, 1, torch.Generator().manual_seed(0))
    rows = type("OneToken", (), {"tokens": seen.tokens, "lengths": torch.ones(3, dtype=torch.int64)})
    np.testing.assert_allclose(constrained_beliefs(frdn(), rows), seen.filtered[:, 0], atol=1e-12)


def test_component_of_a_mixture_follows_bayes():
    one, other = mess3(), mess3(0.2, 0.7)
    both = mixture([one, other], [0.3, 0.7])
    population = words(both, 4)
    found = both.composition.split(filtered_belief(both, population))["component"]
    inside = both.composition.split(filtered_belief(both, population))["component.1"]
    for row, word in each_word(population):
        mass = np.array([0.3 * by_paths(one, word).sum(), 0.7 * by_paths(other, word).sum()])
        np.testing.assert_allclose(found[row], mass / mass.sum(), atol=1e-12)
        belief = by_paths(other, word)
        np.testing.assert_allclose(inside[row], belief / belief.sum(), atol=1e-12)


def test_factor_of_a_product_is_the_belief_of_its_own_tokens():
    left, right = mess3(), z1r()
    both = product([left, right])
    population = words(both, 3)
    found = both.composition.split(filtered_belief(both, population))["factor.1"]
    for row, word in each_word(population):
        belief = by_paths(right, [token % right.vocab_size for token in word])
        np.testing.assert_allclose(found[row], belief / belief.sum(), atol=1e-12)


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda rows: filtered_belief(rrxor(), rows), ValueError, "rows.filtered has shape .* 5 states"),
        (lambda rows: next_token_law(rrxor(), rows), ValueError, "rows.next_token_laws has shape .* 2 tokens"),
        (lambda rows: future_law(mess3(), rows, 0), ValueError, "horizon=0"),
        (lambda rows: future_law(mess3(), rows, 11), ValueError, "horizon=11"),
    ],
)
def test_targets_that_do_not_exist_are_refused(ask, kind, message):
    with pytest.raises(kind, match=message):
        ask(words(mess3(), 3))
