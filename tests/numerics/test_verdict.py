"""The verdict and its tests: exact p values against every permutation, corrections by hand, planted answers."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from pcnet.probing import (
    Answer,
    ControlBank,
    DefaultBanks,
    Examination,
    Judge,
    Protocol,
    Subject,
    UntrainedCopies,
    examine,
    holm,
    judge,
    other_belief,
    population_r2,
    rank_p_value,
    reservoir,
)
from pcnet.probing.controls.tested import default_control_tests
from pcnet.probing.regression.principal import principal_coordinates
from pcnet.probing.verdict.answers import COLUMNS
from pcnet.probing.verdict.examination import VERDICT_PROTOCOL
from pcnet.probing.verdict.significance import Ruler, rejected, strata_orders
from pcnet.processes import filter_beliefs, mess3, random_hmm, rrxor, words

WIDTH = 12


def subject(process, length, **model):
    population = words(process, length)
    return Subject(process, population, population.filtered, **model)


@pytest.fixture(scope="module")
def bench():
    """Rrxor with all its controls, two of its banks left out of the default ones for speed."""
    whole = subject(rrxor(), 8)
    banks = DefaultBanks(19).banks(whole, "", WIDTH)
    return Examination.of(whole, [banks[1], banks[3]])


def planted(belief, strength, seed=0, width=WIDTH):
    generator = np.random.default_rng(seed)
    belief = principal_coordinates(belief)
    signal = belief / belief.std() @ np.linalg.qr(generator.standard_normal((width, width)))[0][: belief.shape[1]]
    return signal + generator.standard_normal(signal.shape) / np.sqrt(strength)


def test_orders_exchange_rows_of_a_stratum_and_are_equally_likely():
    strata = np.array([0, 1, 0, 0, 1])
    orders = strata_orders(strata, 12000, np.random.default_rng(0))
    found, counts = np.unique(orders, axis=1, return_counts=True)
    legal = {
        order for order in itertools.permutations(range(5)) if all(strata[a] == strata[b] for a, b in enumerate(order))
    }
    assert {tuple(order) for order in found.T} == legal and len(legal) == 12
    # 12 cells of 1000 expected: chi squared with 11 degrees of freedom, 99.9th percentile 31.3
    assert ((counts - 1000) ** 2 / 1000).sum() < 31.3


def test_rank_p_value_counts_ties_against_the_observed():
    assert rank_p_value(3.0, np.array([1.0, 2.0, 4.0])) == 0.5
    assert rank_p_value(3.0, np.array([1.0, 3.0 + 1e-15, 2.0])) == 0.5
    assert rank_p_value(0.0, np.zeros(9)) == 1.0
    assert rank_p_value(9.0, np.arange(9.0)) == 0.1


def test_rank_p_values_are_uniform_over_all_permutations():
    # whatever the statistic, each of the 24 arrangements takes each rank once if it is compared with all of them
    targets = np.array([0.3, 1.0, 4.0, 9.0])
    features = np.array([1.0, 2.0, 3.0, 5.0])
    statistics = np.array([features @ targets[list(order)] for order in itertools.permutations(range(4))])
    p_values = [rank_p_value(value, np.delete(statistics, place)) for place, value in enumerate(statistics)]
    assert len(np.unique(statistics)) == 24
    np.testing.assert_allclose(np.sort(p_values), np.arange(1, 25) / 24)


def test_permutation_p_value_agrees_with_every_permutation_of_a_tiny_problem():
    """Least squares by scikit-learn, all 4! orders of the four held-out words of each cell."""
    lengths = np.repeat([1, 2], [2, 6])
    generator = np.random.default_rng(3)
    features, targets = generator.standard_normal((8, 1)), generator.standard_normal((8, 1))
    protocol = Protocol(always_training_length=1, num_folds=3, fold_seeds=(0,), alphas=(1e-12,))
    ruler = Ruler(lengths, protocol)
    strata = np.array([0, 0, 1, 1, 1, 1, 2, 2])
    movable = [np.flatnonzero(strata == number) for number in range(3)]
    every = []
    for parts in itertools.product(*(itertools.permutations(rows) for rows in movable)):
        every.append(np.concatenate(parts))
    order = np.stack(every, axis=1)
    errors = ruler.errors(features, targets, order)
    labels = protocol.folds(lengths, 0)
    weights = np.where(lengths == 1, 1 / 2, 1 / 6)
    for column in (0, 1, 7, 50):
        moved, expected = targets[order[:, column]], 0.0
        for fold in range(3):
            train, held = labels != fold, labels == fold
            fit = LinearRegression().fit(features[train], moved[train], weights[train])
            expected += (weights[held, None] * (moved[held] - fit.predict(features[held])) ** 2).sum()
        assert errors[column] == pytest.approx(expected, rel=1e-6)
    exact = np.count_nonzero(errors <= errors[0] * (1 + 1e-12)) / len(every)
    drawn = ruler.errors(features, targets, strata_orders(strata, 4000, np.random.default_rng(0)))
    sampled = rank_p_value(-errors[0], -drawn)
    # binomial standard error of 4000 draws
    assert sampled == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 4000) + 1e-3)


def test_holm_by_hand():
    # Holm (1979): .01 x 4 = .04; .03 x 3 = .09; .03 -> .09; .005 x ... of the sorted .005 .01 .03 .04
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    assert rejected([0.01, 0.04, 0.03, 0.005], 0.05).tolist() == [True, False, False, True]
    with pytest.raises(ValueError, match=r"p_values\[1\]=1.5"):
        holm([0.1, 1.5])


def test_holm_is_the_closure_of_bonferroni():
    """Rejected where every intersection that contains the question is rejected by its least p value."""
    generator = np.random.default_rng(0)
    for _ in range(200):
        p_values = generator.random(4) ** 3
        for number, corrected in enumerate(holm(p_values)):
            subsets = (
                chosen for size in range(1, 5) for chosen in itertools.combinations(range(4), size) if number in chosen
            )
            closed = max(min(1.0, len(chosen) * min(p_values[list(chosen)])) for chosen in subsets)
            assert corrected == pytest.approx(closed)


def test_controls_leave_what_their_name_says():
    whole = subject(rrxor(), 8)
    controls = {control.name: control for control in default_control_tests(whole)}
    lengths = whole.words.lengths.numpy()
    weights = 1 / np.bincount(lengths)[lengths]
    laws = whole.words.next_token_laws.numpy()[:, 0].round(9)
    for law in np.unique(laws):
        rows = laws == law
        np.testing.assert_allclose(weights[rows] @ controls["next_token"].residual[rows], 0, atol=1e-12)
        assert len(np.unique(controls["next_token"].strata[rows & (lengths == 8)])) <= 1
    history = controls["additive_history"]
    fit = LinearRegression().fit(history.explained, whole.targets.numpy(), weights)
    np.testing.assert_allclose(history.residual, whole.targets.numpy() - fit.predict(history.explained), atol=1e-9)


def test_other_beliefs_are_those_of_the_filter():
    population = words(rrxor(), 5)
    found = other_belief(population, 3, 2, np.random.default_rng(4))
    process = random_hmm(3, 2, torch.Generator().manual_seed(int(np.random.default_rng(4).integers(2**62))))
    longest = population.levels[-1].tokens
    expected = filter_beliefs(process, longest).filtered
    np.testing.assert_allclose(found[-len(longest) :], expected[:, -1], atol=1e-12)


def test_reservoir_is_a_recurrent_network():
    population = words(rrxor(), 4)
    states = reservoir(population, 6, 0.9, np.random.default_rng(1))
    generator = np.random.default_rng(1)
    recurrent = torch.nn.RNN(2, 6, batch_first=True, dtype=torch.float64)
    matrix, inputs, bias = (
        generator.standard_normal((6, 6)) * 0.9 / np.sqrt(6),
        generator.standard_normal((2, 6)),
        generator.standard_normal(6) / 2,
    )
    with torch.no_grad():
        recurrent.weight_hh_l0.copy_(torch.tensor(matrix.T))
        recurrent.weight_ih_l0.copy_(torch.tensor(inputs.T))
        recurrent.bias_ih_l0.copy_(torch.tensor(bias))
        recurrent.bias_hh_l0.zero_()
        expected = recurrent(torch.nn.functional.one_hot(population.levels[-1].tokens, 2).double())[0][:, -1]
    np.testing.assert_allclose(states[-len(expected) :], expected, atol=1e-12)


def test_a_planted_belief_is_found_and_noise_is_not(bench):
    belief = bench.subject.words.filtered.numpy()
    noise = np.random.default_rng(5).standard_normal((len(belief), WIDTH))
    answers = examine(bench, {"belief": planted(belief, 50.0), "noise": noise}, num_permutations=99)
    assert answers["noise"].answer is Answer.NO
    assert answers["belief"].answer is Answer.NO, "19 members can't say yes to one of two sites"
    alone = examine(bench, {"belief": planted(belief, 50.0)}, num_permutations=99)["belief"]
    assert alone.answer is Answer.YES and alone.p_value == 0.05
    assert all(each.p_value <= 0.05 and each.gain > 0 for each in alone.comparisons)


def test_gains_are_what_the_control_leaves(bench):
    """The belief itself explains everything, so over each control it gains the control's unexplained share."""
    whole = bench.subject
    belief = whole.words.filtered.numpy()
    lengths = whole.words.lengths.numpy()
    weights = np.where(lengths > 3, 1 / np.bincount(lengths)[lengths], 0)
    centred = belief - np.average(belief, axis=0, weights=weights)
    total = weights @ (centred**2).sum(axis=1)
    answer = examine(bench, {"belief": belief}, num_permutations=19)["belief"]
    for control, found in zip(bench.controls, answer.comparisons, strict=False):
        assert found.gain == pytest.approx(weights @ (control.residual**2).sum(axis=1) / total, abs=2e-3)
        assert found.population_r2 == control.population_r2


@pytest.mark.parametrize("seed", range(2))
def test_functions_of_a_control_are_not_called_yes(bench, seed):
    whole, generator = bench.subject, np.random.default_rng(seed)
    laws = np.unique(whole.words.next_token_laws.numpy().round(9), axis=0, return_inverse=True)[1].ravel()
    tokens = whole.words.tokens.numpy()
    lengths = whole.words.lengths.numpy()
    last = [tuple(word[max(0, n - 4) : n]) for word, n in zip(tokens, lengths, strict=True)]
    endings = np.array([sorted(set(last)).index(each) for each in last])
    for cells in (laws, endings):
        features = generator.standard_normal((cells.max() + 1, WIDTH))[cells]
        answer = examine(bench, {"cells": features}, num_permutations=39, seed=seed)["cells"]
        assert answer.answer is Answer.NO


@pytest.mark.slow
def test_the_p_value_of_a_function_of_the_law_is_uniform(bench):
    """The one control that describes the class: its test must reject at its level, neither more nor much less."""
    whole = bench.subject
    laws = np.unique(whole.words.next_token_laws.numpy().round(9), axis=0, return_inverse=True)[1].ravel()
    control, p_values = bench.controls[0], []
    for seed in range(120):
        features = np.random.default_rng(seed).standard_normal((laws.max() + 1, 4))[laws]
        p_values.append(bench.against_control(control, features, 19, seed).p_value)
    shares = np.mean(np.array(p_values)[:, None] <= np.array([0.05, 0.25, 0.5, 0.75]), axis=0)
    expected = np.array([0.05, 0.25, 0.5, 0.75])
    # three binomial standard errors
    np.testing.assert_array_less(np.abs(shares - expected), 3 * np.sqrt(expected * (1 - expected) / 120) + 1e-9)


def test_the_largest_p_value_counts(bench):
    """States of an untrained network carry more than law and last tokens, and are stopped by their bank alone."""
    features = reservoir(bench.subject.words, WIDTH, 0.9, np.random.default_rng(77))
    answer = examine(bench, {"states": features}, num_permutations=99)["states"]
    by_name = {each.control: each.p_value for each in answer.comparisons}
    assert by_name["next_token"] == by_name["last_2_table"] == 0.01
    assert by_name["reservoir_0.9"] > 0.05
    assert answer.answer is Answer.NO and answer.p_value == max(by_name.values())
    assert answer.strongest.p_value == answer.p_value


def test_a_belief_under_a_random_sign_is_not_linear(bench):
    belief = principal_coordinates(bench.subject.words.filtered.numpy())
    sign = np.random.default_rng(0).choice([-1.0, 1.0], (len(belief), 1))
    answer = examine(bench, {"signed": np.concatenate([sign, sign * belief], axis=1)}, num_permutations=39)["signed"]
    assert answer.answer is Answer.NO
    assert np.abs(sign * (sign * belief) - belief).max() == 0  # it is there: a product gives it back


@pytest.mark.parametrize("parameters", [(0.05, 0.85), (0.1, 0.7), (0.02, 0.9)])
def test_mess3_is_not_decidable(parameters):
    whole = subject(mess3(*parameters), 5)
    answer = judge({"belief": whole.words.filtered, "noise": torch.randn(whole.words.num_words, 4)}, whole)
    for site in answer.sites:
        assert site.answer is Answer.UNDECIDABLE and np.isnan(site.p_value)
    assert answer["belief"].strongest.control == "next_token"
    assert answer["belief"].strongest.population_r2 == pytest.approx(1.0)
    assert answer.table()["answer"].eq("not decidable here").all()
    assert answer.table()["departures"].eq(", ".join(VERDICT_PROTOCOL.departures)).all()
    assert any(text.startswith("fold_seeds=0") for text in answer.departures)  # one deal instead of five is named


def test_where_nothing_can_be_decided_no_copy_is_made():
    whole = subject(mess3(), 5)

    def never(seed):
        raise AssertionError("an untrained copy was asked for")

    ask = Judge(whole, [DefaultBanks(), UntrainedCopies(never)])
    assert not ask.decidable
    assert ask({"belief": whole.words.filtered}).answer is Answer.UNDECIDABLE


def test_default_banks_are_drawn_in_one_order():
    """Published verdicts hang on these draws: other processes first, then the reservoirs by their radius."""
    whole, generator = subject(rrxor(), 4), np.random.default_rng(7)
    banks = {bank.name: bank.members for bank in DefaultBanks(2, seed=7).banks(whole, "", 3)}
    expected = {"other_process": [other_belief(whole.words, 5, 2, generator) for _ in range(2)]}
    for radius in (0.5, 0.9, 1.2):
        expected[f"reservoir_{radius}"] = [reservoir(whole.words, 3, radius, generator) for _ in range(2)]
    assert banks.keys() == expected.keys()
    for name, members in expected.items():
        np.testing.assert_array_equal(banks[name], members)


def test_one_entry_gives_what_its_parts_give():
    """Banks by width and by site, asked for once, against banks that were made and scored by hand."""
    whole, asked = subject(rrxor(), 6), []
    belief = whole.words.filtered.numpy()
    random = {seed: np.random.default_rng(seed).standard_normal((len(belief), WIDTH)) for seed in range(19)}

    def copy(seed):
        asked.append(seed)
        return {"belief": random[seed]}

    ask = Judge(whole, [DefaultBanks(19, seed=3), UntrainedCopies(copy, range(19))], num_permutations=39, seed=5)
    first = ask({"belief": planted(belief, 50.0)})
    again = ask({"belief": planted(belief, 50.0)})
    assert asked == list(range(19)) and first.table().equals(again.table()) and first.answer is Answer.YES
    banks = [*DefaultBanks(19, seed=3).banks(whole, "", WIDTH), ControlBank("untrained copies", [*random.values()])]
    expected = examine(Examination.of(whole, banks), {"belief": planted(belief, 50.0)}, num_permutations=39, seed=5)
    assert first.table().equals(expected.table())


def test_the_table_has_its_columns_whatever_the_answer():
    whole = subject(rrxor(), 6)
    belief = principal_coordinates(whole.words.filtered.numpy())
    sign = np.random.default_rng(0).choice([-1.0, 1.0], (len(belief), 1))
    bent = np.concatenate([sign * belief, 0.01 * np.random.default_rng(1).standard_normal(belief.shape)], axis=1)
    verdict = judge({"bent": bent}, whole, num_permutations=19)
    assert verdict.answer is Answer.NOT_LINEAR and "bent: present, not linear" in verdict.sentence
    table = verdict.table()
    assert list(table.columns) == list(COLUMNS) and not table.duplicated(["site", "probe", "control"]).any()
    nonlinear = table[table["probe"] == "nonlinear"].set_index("control")
    assert nonlinear["gain"].gt(0).all() and nonlinear["p_value"]["shuffled"] == 0.05
    flat = judge({"noise": np.random.default_rng(2).standard_normal(belief.shape)}, whole, num_permutations=19)
    assert flat.answer is Answer.NO and list(flat.table().columns) == list(COLUMNS)


def test_a_softmax_that_gives_the_belief_away_leaves_nothing_to_decide():
    whole = subject(rrxor(), 7)
    telling = torch.cat([whole.words.filtered, 1 + whole.words.filtered], dim=1).log().clamp(-30)
    answer = judge({"x": whole.words.filtered}, subject(rrxor(), 7, logits=telling), num_permutations=19)
    share = torch.softmax(telling, 1)
    known = population_r2(share, whole.targets, whole.words)
    assert known > 0.95 and answer["x"].answer is Answer.UNDECIDABLE
    assert answer["x"].strongest.control == "softmax"


def test_repeated_words_are_joined():
    """Every word three times, in any order, and with its probability split: the same verdict to rounding."""
    whole = subject(rrxor(), 6)
    features = planted(whole.words.filtered.numpy(), 4.0)
    once = judge({"x": features}, whole, num_permutations=19)
    copies = np.random.default_rng(0).permutation(np.tile(np.arange(len(features)), 3))
    rows = torch.as_tensor(copies)

    class Sampled:
        tokens, lengths, last_tokens = (
            whole.words.tokens[rows],
            whole.words.lengths[rows],
            whole.words.last_tokens[rows],
        )
        probabilities = whole.words.probabilities[rows] / 3
        predicted, filtered = whole.words.predicted[rows], whole.words.filtered[rows]
        next_token_laws = whole.words.next_token_laws[rows]

    sampled = Subject(rrxor(), Sampled(), Sampled.filtered)
    again = judge({"x": features[copies]}, sampled, num_permutations=19)
    assert again.rows == once.rows and again.n_eff == pytest.approx(once.n_eff)
    for one, other in zip(once["x"].comparisons, again["x"].comparisons, strict=True):
        assert other.population_r2 == pytest.approx(one.population_r2)
        assert other.gain == pytest.approx(one.gain, abs=1e-6) and other.p_value == one.p_value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sites": {}}, "at least one site"),
        ({"level": 0.0}, "level=0.0"),
        ({"num_permutations": 18}, "num_permutations=18: 1 sites at level 0.05 need at least 19"),
        ({"banks": [ControlBank("few", [np.zeros((62, 2))] * 5)]}, r"banks\[0\] has 5 members"),
        ({"sites": {"x": np.full((62, 2), np.nan)}}, "features holds nan at row 0, column 0"),
        ({"sites": {"x": np.zeros((3, 2))}}, "3 rows"),
    ],
)
def test_what_a_verdict_refuses(arguments, message):
    whole = subject(rrxor(), 4)
    rows = whole.words.num_words
    given = {"sites": {"x": np.zeros((rows, 2))}, "subject": whole} | arguments
    with pytest.raises(ValueError, match=message):
        judge(**given)


def test_rounding_is_no_feature():
    """What is known of the targets doesn't hang on their last digits: columns of rounding would be standardised to features."""
    whole = subject(rrxor(), 7)
    errors = []
    for seed in range(3):
        last_digits = 1e-15 * np.random.default_rng(seed).standard_normal(whole.words.filtered.shape)
        exam = Examination.of(replace(whole, targets=whole.words.filtered.numpy() + last_digits))
        for said in (exam.known, *(control.explained for control in exam.controls)):
            assert np.ptp(said, axis=0).min() > 1e-9 or not said.any()
        errors.append(exam.known_error)
    np.testing.assert_allclose(errors, errors[0], rtol=1e-6)
