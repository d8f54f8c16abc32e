"""Random processes: strong connection and minimality by brute force, entropies against the library's and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch

from pcnet.processes import (
    HiddenMarkovModel,
    entropy_rate,
    excess_entropy,
    random_epsilon_machine,
    random_hmm,
    statistical_complexity,
)

SIZES = [(1, 1), (1, 3), (2, 2), (3, 2), (4, 3), (6, 2), (3, 7)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def strongly_connected(process: HiddenMarkovModel) -> bool:
    """Follow edges from every state until nothing new is met."""
    edges = process.transition_matrices.numpy().sum(0) > 0
    for start in range(len(edges)):
        met, todo = {start}, [start]
        while todo:
            fresh = set(np.flatnonzero(edges[todo.pop()]).tolist()) - met
            met |= fresh
            todo += fresh
        if len(met) < len(edges):
            return False
    return True


def futures(process: HiddenMarkovModel, length: int) -> np.ndarray:
    """Probability of every word up to a length from every state, one row a state."""
    matrices = process.transition_matrices.numpy()
    columns = []
    for l in range(1, length + 1):
        for word in itertools.product(range(len(matrices)), repeat=l):
            vector = np.ones(process.num_states)
            for token in reversed(word):
                vector = matrices[token] @ vector
            columns.append(vector)
    return np.stack(columns, axis=1)


def entropy(law: np.ndarray) -> float:
    law = law[law > 0]
    return float(-(law * np.log(law)).sum())


def closed_forms(process: HiddenMarkovModel) -> tuple[float, float]:
    """Entropy rate and statistical complexity of a minimal unifilar machine, the stationary law from least squares."""
    matrices = process.transition_matrices.numpy()
    count = process.num_states
    equations = np.vstack([matrices.sum(0).T - np.eye(count), np.ones(count)])
    law = np.linalg.lstsq(equations, np.append(np.zeros(count), 1), rcond=None)[0]
    return sum(law[s] * entropy(matrices[:, s].sum(1)) for s in range(count)), entropy(law)


# Hidden Markov models


@pytest.mark.parametrize("num_states, vocab_size", SIZES)
@pytest.mark.parametrize("sparsity", [0.0, 0.3, "greatest"])
def test_a_random_model_is_connected_and_as_sparse_as_asked(num_states, vocab_size, sparsity):
    entries = vocab_size * num_states**2
    greatest = 1 - max(num_states, vocab_size) / entries
    asked = greatest if sparsity == "greatest" else min(sparsity, greatest)
    for seed in range(10):
        process = random_hmm(num_states, vocab_size, generator(seed), sparsity=asked)
        assert int((process.transition_matrices == 0).sum()) == round(asked * entries)
        assert strongly_connected(process)
        assert (process.transition_matrices.sum((1, 2)) > 0).all()


def test_rows_of_a_dense_random_model_follow_a_flat_dirichlet_law():
    # Of n entries each has the mean 1/n and the variance (n - 1)/(n^2 (n + 1)); 200 rows of n = 400 are averaged over.
    process = random_hmm(200, 2, generator())
    rows = process.transition_matrices.transpose(0, 1).flatten(1).numpy()
    assert (rows**2).mean() * 400**2 == pytest.approx(2 * 400 / 401, rel=0.02)
    assert np.sort(rows.ravel() * 400)[[8_000, 40_000, 72_000]] == pytest.approx(
        -np.log1p(-np.array([0.1, 0.5, 0.9])), rel=0.03
    )


@pytest.mark.parametrize(
    "arguments, sparsity, error, message",
    [
        ((0, 2), 0.0, ValueError, "^num_states "),
        ((2, 0), 0.0, ValueError, "^vocab_size "),
        ((2.0, 2), 0.0, TypeError, "^num_states "),
        ((3, 2), 50, ValueError, r"^sparsity .*0\.833333"),
        ((3, 2), 0.9, ValueError, "^sparsity "),
        ((3, 2), -0.1, ValueError, "^sparsity "),
        ((3, 2), math.nan, ValueError, "^sparsity "),
        ((3, 2), "0.5", TypeError, "^sparsity "),
    ],
)
def test_what_no_random_model_can_be_is_refused(arguments, sparsity, error, message):
    with pytest.raises(error, match=message):
        random_hmm(*arguments, generator(), sparsity=sparsity)


# Epsilon-machines


@pytest.mark.parametrize("num_states, vocab_size", [size for size in SIZES if size != (1, 1)])
def test_a_random_machine_is_unifilar_connected_and_minimal(num_states, vocab_size):
    for seed in range(8):
        process = random_epsilon_machine(num_states, vocab_size, generator(seed))
        matrices = process.transition_matrices.numpy()
        assert ((matrices > 0).sum(2) <= 1).all()
        assert (matrices.sum((1, 2)) > 0).all()
        assert strongly_connected(process)
        # States of one future up to words as long as there are states have the same future for ever.
        length = min(num_states, 12 // vocab_size + 1)
        rows = futures(process, length)
        for left, right in itertools.combinations(rows, 2):
            assert np.abs(left - right).max() > 1e-9


def test_machines_of_many_states_are_drawn_quickly():
    process = random_epsilon_machine(150, 2, generator())
    assert strongly_connected(process)
    assert len(np.unique(futures(process, 10).round(10), axis=0)) == 150


def test_all_small_topologies_can_be_drawn():
    # Two states, two tokens: what a state does is, for each token, a successor or nothing. Oracle: all 81 tables, filtered.
    def pattern(process):
        matrices = process.transition_matrices.numpy() > 0
        return tuple(map(tuple, np.where(matrices.any(2), matrices.argmax(2), -1).tolist()))

    def legal(table):
        used = all(any(row[token] >= 0 for row in table) for token in range(2))
        connected = 1 in table[0] and 0 in table[1]
        certain = [tuple(target >= 0 for target in row) for row in table]
        same = certain[0] == certain[1] and sum(certain[0]) == 1  # probabilities 1, the same token, for ever
        return used and connected and not same

    rows = list(itertools.product((-1, 0, 1), repeat=2))
    expected = {table for table in itertools.product(rows, repeat=2) if legal(table)}
    source = generator()
    seen = {tuple(zip(*pattern(random_epsilon_machine(2, 2, source)), strict=True)) for _ in range(300)}
    assert seen == expected


def test_equal_seeds_give_equal_machines():
    for build in (random_epsilon_machine, random_hmm):
        first, again = (build(4, 3, generator(5)).transition_matrices for _ in range(2))
        torch.manual_seed(1)
        other = build(4, 3, generator(6)).transition_matrices
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "num_states, ranges",
    [
        (3, {"entropy_rate": (0.30, 0.32)}),
        (4, {"complexity": (1.0, 1.05)}),
        (5, {"entropy_rate": (0.0, 0.1)}),
        (4, {"entropy_rate": (0.40, 0.45), "complexity": (1.1, 1.2)}),
    ],
)
def test_closed_forms_lie_in_their_ranges(num_states, ranges):
    for seed in range(2):
        process = random_epsilon_machine(num_states, 2, generator(seed), **ranges)
        rate, complexity = closed_forms(process)
        assert rate == pytest.approx(float(entropy_rate(process)), abs=1e-9)
        assert complexity == pytest.approx(float(statistical_complexity(process)), abs=1e-9)
        for name, value in (("entropy_rate", rate), ("complexity", complexity)):
            low, high = ranges.get(name, (-1, 9))
            assert low - 1e-12 <= value <= high + 1e-12


@pytest.mark.parametrize("seed", [0, 1])
def test_excess_entropy_lies_in_its_range(seed):
    process = random_epsilon_machine(3, 2, generator(seed), excess_entropy=(0.25, 0.45), entropy_rate=(0.2, 0.6))
    value = excess_entropy(process)
    assert 0.25 <= value <= 0.45
    assert value <= closed_forms(process)[1] + 1e-9
    assert 0.2 <= closed_forms(process)[0] <= 0.6


def test_the_closest_machine_is_named_where_none_fits():
    # h <= ln 2 for two tokens, and C = ln 3 only for an even law over states.
    with pytest.raises(
        ValueError,
        match=r"none of max_tries=30 .*entropy_rate in \[0.6931, 0.6932\]; the closest had entropy_rate = 0\.\d+",
    ):
        random_epsilon_machine(3, 2, generator(), entropy_rate=(0.6931, 0.6932), max_tries=30)


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        ((3, 1), {}, ValueError, "^vocab_size "),
        ((0, 2), {}, ValueError, "^num_states "),
        ((3, 2), {"entropy_rate": (0.7, 0.8)}, ValueError, r"^entropy_rate .*0\.693147"),
        ((3, 2), {"complexity": (1.2, 2)}, ValueError, r"^complexity .*1\.09861"),
        ((3, 2), {"excess_entropy": (-2, -1)}, ValueError, "^excess_entropy "),
        ((3, 2), {"entropy_rate": (0.5, 0.4)}, ValueError, "least <= greatest"),
        ((3, 2), {"entropy_rate": (math.nan, 0.4)}, ValueError, "least <= greatest"),
        ((3, 2), {"entropy_rate": 0.5}, TypeError, "^entropy_rate "),
        ((3, 2), {"max_tries": 0}, ValueError, "^max_tries "),
    ],
)
def test_what_no_machine_can_be_is_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        random_epsilon_machine(*arguments, generator(), **options)


@pytest.mark.parametrize("build", [random_epsilon_machine, random_hmm])
def test_a_seed_is_no_generator(build):
    with pytest.raises(TypeError, match=r"^generator "):
        build(2, 2, 0)
