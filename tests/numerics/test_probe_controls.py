"""Controls against their exact values and against brute force."""

import numpy as np
import pytest
import torch

from pcnet.probing import (
    AdditiveHistory,
    ConstrainedBelief,
    LastToken,
    LastTokensTable,
    MarkovApproximation,
    ModelSoftmax,
    NextTokenLaw,
    Protocol,
    RandomSubspace,
    ShuffledBeliefs,
    ShuffledEverywhere,
    ShuffledKeepingLastToken,
    Subject,
    affinely_invisible_belief,
    belief_beyond_next_token_law,
    control_population_r2,
    decode,
    permutation_scores,
    population_r2,
    probe,
    reservoir,
    score_control,
)
from pcnet.probing.rows.targets import equal_rows
from pcnet.processes import golden_mean, mess3, rrxor, words, z1r

QUICK = Protocol(fold_seeds=(0,), alphas=tuple(10.0 ** np.arange(-9, 3)))


def subject(process, length, features=None, logits=None):
    population = words(process, length)
    return Subject(process, population, population.filtered, features, logits)


@pytest.fixture(scope="module")
def populations():
    """Processes and lengths for which reference/processes.md tabulates exact values."""
    return {"mess3": subject(mess3(), 9), "rrxor": subject(rrxor(), 10), "z1r": subject(z1r(), 10)}


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        (NextTokenLaw(), {"mess3": 1.000, "rrxor": 0.246, "z1r": 0.478}),
        (LastToken(), {"mess3": 0.831, "rrxor": 0.149, "z1r": 0.367}),
        (LastTokensTable(1), {"mess3": 0.831, "rrxor": 0.149, "z1r": 0.367}),
        (LastTokensTable(2), {"mess3": 0.947, "rrxor": 0.283, "z1r": 0.780}),
        (LastTokensTable(3), {"mess3": 0.991, "rrxor": 0.462, "z1r": 1.000}),
        (AdditiveHistory(), {"mess3": 0.966, "rrxor": 0.149, "z1r": 0.810}),
        (ConstrainedBelief(), {"mess3": 0.798}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_controls_reach_their_oracle_values(populations, control, expected):
    for process, value in expected.items():
        assert control_population_r2(control, populations[process]) == pytest.approx(value, abs=0.00051)


def test_constrained_belief_on_rrxor_up_to_length_nine():
    assert control_population_r2(ConstrainedBelief(), subject(rrxor(), 9)) == pytest.approx(0.162, abs=0.00051)


def variance(values, population):
    weights = population.probabilities.numpy() / population.lengths.max().item()
    return weights @ ((values - weights @ values) ** 2).sum(axis=1)


@pytest.mark.parametrize(("process", "explained"), [("rrxor", 0.446), ("z1r", 0.926), ("mess3", 1.0)])
def test_belief_beyond_the_law_has_the_variance_that_no_function_explains(populations, process, explained):
    population = populations[process].words
    rest = belief_beyond_next_token_law(population)
    beliefs = population.filtered.numpy()
    assert 1 - variance(rest, population) / variance(beliefs, population) == pytest.approx(explained, abs=0.00051)


def test_belief_beyond_the_law_is_unpredictable_from_any_function_of_the_law():
    population = words(rrxor(), 8)
    rest, laws = belief_beyond_next_token_law(population), population.next_token_laws.numpy()
    weights = population.probabilities.numpy()
    for row in range(len(laws)):
        group = np.all(np.abs(laws - laws[row]) < 1e-9, axis=1)
        np.testing.assert_allclose(weights[group] @ rest[group], 0, atol=1e-12)
        difference = population.filtered.numpy()[group] - rest[group]
        np.testing.assert_allclose(difference, difference[:1].repeat(len(difference), 0), atol=1e-9)


def test_equal_rows_are_found_across_rounding_edges():
    edge = 2.0**-10  # half-way between two multiples of 1e-9
    rows = np.array([[edge, 0.5], [edge + 1e-15, 0.5], [edge, 0.25], [edge - 1e-15, 0.5 + 1e-15], [0.9, 0.25]])
    groups = equal_rows(rows)
    assert groups[0] == groups[1] == groups[3]
    assert len({groups[0], groups[2], groups[4]}) == 3


@pytest.mark.parametrize(("process", "part"), [("rrxor", 1 - 0.2464), ("z1r", 1 - 0.4776), ("mess3", 0.0)])
def test_invisible_part_of_the_belief(populations, process, part):
    population = populations[process]
    beliefs = population.words.filtered.numpy()
    invisible = affinely_invisible_belief(population.process, population.words)
    emission = population.process.transition_matrices.sum(2).numpy().T
    # moving along it leaves the law alone; what remains is an affine function of the law
    np.testing.assert_allclose(invisible @ emission, 0, atol=1e-12)
    assert population_r2(population.words.next_token_laws, beliefs - invisible, population.words) == pytest.approx(
        1.0, abs=1e-9
    )
    share = variance(invisible, population.words) / variance(beliefs, population.words)
    assert share == pytest.approx(part, abs=0.1 if process == "z1r" else 0.0005)


def test_next_token_law_explains_nothing_of_the_invisible_part_of_rrxor(populations):
    invisible = affinely_invisible_belief(rrxor(), populations["rrxor"].words)
    population = populations["rrxor"].words
    assert population_r2(population.next_token_laws, invisible, population) == pytest.approx(0, abs=1e-9)


def test_history_stands_by_its_distance_from_the_newest_token():
    small = subject(golden_mean(), 3)
    features = AdditiveHistory().features(small).reshape(-1, 3, 3)
    for row, (tokens, length) in enumerate(zip(small.words.tokens.tolist(), small.words.lengths.tolist(), strict=True)):
        newest_first = tokens[:length][::-1] + [-1] * (3 - length)
        np.testing.assert_array_equal(features[row], [[t == -1, t == 0, t == 1] for t in newest_first])


def test_softmax_of_exact_logits_is_the_next_token_law():
    exact = subject(mess3(), 6, logits=words(mess3(), 6).next_token_laws.log() + 5.0)
    np.testing.assert_allclose(ModelSoftmax().features(exact), exact.words.next_token_laws, atol=1e-12)
    assert control_population_r2(ModelSoftmax(), exact) == pytest.approx(1.0, abs=1e-9)


def test_random_subspace_is_an_orthonormal_view_of_the_features():
    axes = subject(rrxor(), 5, features=np.eye(words(rrxor(), 5).num_words))
    directions = RandomSubspace(seed=1).features(axes)
    np.testing.assert_allclose(directions.T @ directions, np.eye(4), atol=1e-12)
    assert not np.allclose(directions, RandomSubspace(seed=2).features(axes))


def test_each_permutation_scores_as_if_it_were_alone():
    population = words(rrxor(), 7)
    features = np.random.default_rng(0).standard_normal((population.num_words, 6)) + population.filtered[:, :1].numpy()
    control, whole = ShuffledBeliefs(num_permutations=4), Subject(rrxor(), population, population.filtered, features)
    order = control.orders(population)
    scores = permutation_scores([control], whole, QUICK)["shuffled"]
    for replicate in range(4):
        assert sorted(order[:, replicate]) == list(range(population.num_words))
        assert (population.lengths[order[:, replicate]] == population.lengths).all()
        assert (order[:, replicate] != np.arange(population.num_words)).any()
        alone = probe(features, population.filtered[order[:, replicate]], population, QUICK)
        ours = scores[scores["replicate"] == replicate].drop(columns="replicate").reset_index(drop=True)
        np.testing.assert_allclose(ours["r2"], alone["r2"], atol=1e-9)
        assert ours.drop(columns=["r2", "rmse"]).equals(alone.drop(columns=["r2", "rmse"]))


def test_shuffled_beliefs_are_worth_nothing_even_with_good_features():
    population = words(rrxor(), 10)
    features = torch.cat(
        [population.filtered, torch.randn(1046, 40, generator=torch.Generator().manual_seed(0))], dim=1
    )
    whole = Subject(rrxor(), population, population.filtered, features)
    # reference/probing.md, fact 3: shuffled beliefs score -.006 to -.001
    scores = score_control(ShuffledBeliefs(num_permutations=100), whole, QUICK, offsets=(True,))
    assert scores[scores["position"] == "all"]["r2"].between(-0.01, 0.005).all()
    every = permutation_scores([ShuffledBeliefs(num_permutations=100)], whole, QUICK, offsets=(True,))["shuffled"]
    every = every[(every["position"] == "all") & (every["weights"] == "equal")]["r2"]
    (reported,) = scores[(scores["position"] == "all") & (scores["weights"] == "equal")]["r2"]
    assert reported == pytest.approx(np.sort(every)[94:96].mean(), abs=2e-4)
    assert -0.02 < every.median() < 0


def test_short_words_decode_by_the_fit_without_the_first_fold():
    population = words(mess3(), 5)
    decoded = decode(population.filtered, population.filtered, population, QUICK)
    np.testing.assert_allclose(decoded, population.filtered, atol=1e-4)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("process", ["mess3", "rrxor", "z1r"])
def test_markov_approximation_knows_what_the_table_of_endings_knows(populations, process, order):
    # the belief after the last k tokens alone is the expected belief of the words that end in them
    population = populations[process]
    exact = control_population_r2(LastTokensTable(order), population)
    assert control_population_r2(MarkovApproximation(order), population) == pytest.approx(exact, abs=1e-9)
    # and it remembers a whole word if that is no longer
    whole = population.words.lengths <= order
    features = MarkovApproximation(order).features(population)
    np.testing.assert_allclose(features[whole], population.words.filtered[whole], atol=1e-12)


@pytest.mark.parametrize(
    "control", [ShuffledEverywhere(num_permutations=20), ShuffledKeepingLastToken(num_permutations=20)]
)
def test_shuffles_exchange_what_they_say(control):
    population = words(rrxor(), 7)
    order = control.orders(population)
    lengths, last = population.lengths.numpy(), population.last_tokens.numpy()
    assert all(sorted(column) == list(range(population.num_words)) for column in order.T)
    if isinstance(control, ShuffledKeepingLastToken):
        assert (last[order] == last[:, None]).all() and (lengths[order] == lengths[:, None]).all()
    else:
        assert (last[order] != last[:, None]).mean() > 0.3 and (lengths[order] != lengths[:, None]).mean() > 0.5


def test_keeping_the_last_token_leaves_what_the_last_token_knows(populations):
    population = populations["mess3"]
    whole = Subject(mess3(), population.words, population.targets, LastToken().features(population))
    scores = score_control(ShuffledKeepingLastToken(num_permutations=3), whole, QUICK, offsets=(True,))
    alone = score_control(LastToken(), population, QUICK, offsets=(True,))
    pick = (scores["position"] == "all") & (scores["weights"] == "equal")
    assert scores[pick]["r2"].item() == pytest.approx(alone[pick]["r2"].item(), abs=0.01)
    none = score_control(ShuffledEverywhere(num_permutations=3), whole, QUICK, offsets=(True,))
    assert none[none["position"] == "all"]["r2"].max() < 0.01


def test_untrained_network_scores_as_its_published_kin(populations):
    # reference/probing.md, fact 3: an untrained 64-unit network scores .641-.654 on rrxor up to length 10
    population = populations["rrxor"]
    states = reservoir(population.words, 64, 0.5, np.random.default_rng(0))
    scores = probe(states, population.targets, population.words, QUICK, offsets=(True,))
    assert scores[(scores["position"] == "all")]["r2"].between(0.5, 0.75).all()
