"""What holds for every process: beliefs are probabilities, and names of tokens and states carry no meaning."""

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcnet.processes import (
    HiddenMarkovModel,
    filter_beliefs,
    filter_beliefs_parallel,
    myopic_entropies,
    next_token_law,
    sample,
    smooth_beliefs,
    words,
)

examples = settings(max_examples=25, deadline=None, derandomize=True)


@st.composite
def processes(draw) -> HiddenMarkovModel:
    """Random sparse processes; a cycle through all states keeps the stationary law unique."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vocab_size, num_states = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    matrices = rng.exponential(size=(vocab_size, num_states, num_states)) ** 2
    matrices *= rng.random(matrices.shape) < draw(st.sampled_from([0.1, 0.4, 1.0]))
    states = np.arange(num_states)
    matrices[rng.integers(vocab_size, size=num_states), states, (states + 1) % num_states] += 0.2
    return HiddenMarkovModel(matrices / matrices.sum((0, 2), keepdims=True))


def sampled(process: HiddenMarkovModel) -> torch.Tensor:
    return sample(process, 6, 12, torch.Generator().manual_seed(0))


@examples
@given(processes())
def test_beliefs_stay_on_the_simplex(process):
    predicted, filtered, log_likelihood = filter_beliefs(process, sampled(process))
    for beliefs in (predicted, filtered):
        assert beliefs.min() >= 0
        torch.testing.assert_close(beliefs.sum(-1), torch.ones(6, 12, dtype=torch.float64), atol=1e-12, rtol=0)
    assert log_likelihood.max() <= 1e-12


@examples
@given(processes())
def test_belief_after_a_token_is_the_belief_before_the_next(process):
    predicted, filtered, _ = filter_beliefs(process, sampled(process))
    assert torch.equal(predicted[:, 1:], filtered[:, :-1])
    drift = predicted[:, 0] @ process.transition_matrices.sum(0) - predicted[:, 0]
    torch.testing.assert_close(drift, torch.zeros_like(drift), atol=1e-12, rtol=0)


@examples
@given(processes())
def test_predicted_belief_gives_the_law_of_its_own_token(process):
    tokens = sampled(process)
    beliefs = filter_beliefs(process, tokens)
    laws = next_token_law(process, beliefs.predicted)
    picked = laws.gather(2, tokens.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(picked.log().sum(1), beliefs.log_likelihood, atol=1e-9, rtol=1e-9)


@examples
@given(processes())
def test_all_times_at_once_are_one_after_the_other(process):
    tokens = sampled(process)
    for found, expected in zip(filter_beliefs_parallel(process, tokens), filter_beliefs(process, tokens), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


@examples
@given(processes())
def test_looking_back_ends_where_looking_ahead_ends(process):
    tokens = sampled(process)
    smoothed = smooth_beliefs(process, tokens)
    torch.testing.assert_close(smoothed.sum(-1), torch.ones(6, 13, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(smoothed[:, -1], filter_beliefs(process, tokens).filtered[:, -1], atol=1e-12, rtol=0)
    # A state that the sequence rules out in the past can't come back by looking at the future.
    assert (smoothed[:, 1:][filter_beliefs(process, tokens).filtered == 0] == 0).all()


@examples
@given(processes(), st.randoms(use_true_random=False))
def test_renaming_tokens_and_states_only_renames_the_answers(process, random):
    token_order = random.sample(range(process.vocab_size), process.vocab_size)
    state_order = random.sample(range(process.num_states), process.num_states)
    renamed = HiddenMarkovModel(process.transition_matrices[token_order][:, state_order][:, :, state_order])
    tokens = sampled(process)
    old = filter_beliefs(process, tokens)
    new = filter_beliefs(renamed, torch.argsort(torch.tensor(token_order))[tokens])
    torch.testing.assert_close(new.filtered, old.filtered[..., state_order], atol=1e-10, rtol=0)
    torch.testing.assert_close(new.log_likelihood, old.log_likelihood, atol=1e-9, rtol=0)
    torch.testing.assert_close(myopic_entropies(renamed, 3), myopic_entropies(process, 3), atol=1e-12, rtol=0)


@examples
@given(processes())
def test_children_share_out_their_parent(process):
    # Neither probability nor, on average, belief is made or lost by seeing one more token.
    levels = words(process, 4).levels
    for parent, child in itertools.pairwise(levels):
        mass = torch.zeros_like(parent.probabilities).index_add(0, child.parents, child.probabilities)
        torch.testing.assert_close(mass, parent.probabilities, atol=1e-12, rtol=0)
        share = (child.probabilities / parent.probabilities[child.parents]).unsqueeze(1)
        mean = torch.zeros_like(parent.filtered).index_add(0, child.parents, share * child.filtered)
        moved = parent.filtered @ process.transition_matrices.sum(0)
        torch.testing.assert_close(mean, moved, atol=1e-10, rtol=0)


@examples
@given(processes())
def test_floors_never_rise_and_stay_between_zero_and_ignorance(process):
    floors = myopic_entropies(process, 4)
    assert floors.diff().max() <= 1e-12
    assert floors.min() >= -1e-12
    assert floors.max() <= np.log(process.vocab_size) + 1e-12
