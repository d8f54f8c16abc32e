"""Rows and groups: effective sizes, what sampled rows know, and that no group is asked what it taught."""

import itertools

import numpy as np
import pytest
import torch

from pcnet.probing import Groups, Protocol, Rows, Subject, effective_sample_size, probability_weights, probe
from pcnet.probing.regression.protocol import probe_rows
from pcnet.processes import frdn, mess3, rrxor, sample, words

QUICK = Protocol(fold_seeds=(0,), alphas=(1e-8, 1e-4, 1e-1))


def n_eff_of(rows):
    return effective_sample_size(probability_weights(rows.lengths.numpy(), rows.probabilities.numpy()))


@pytest.mark.parametrize(
    ("process", "length", "rows", "n_eff", "digits"),
    [
        (mess3(), 7, 3279, 67.33, 0.005),
        (mess3(), 9, 29523, 109, 0.5),
        (mess3(), 10, 88572, 135, 0.5),
        (rrxor(), 10, 1046, 94.29, 0.005),
    ],
)
def test_effective_sizes_of_exhaustive_rows(process, length, rows, n_eff, digits):
    # reference/probing.md, fact 3
    all_words = Rows.of_words(words(process, length))
    assert all_words.num_words == rows
    assert n_eff_of(all_words) == pytest.approx(n_eff, abs=digits)


def test_equal_beliefs_of_rrxor():
    # reference/probing.md, fact 4: 36 beliefs for 1046 words, of which one is the belief before any token
    all_words = words(rrxor(), 10)
    rows = Rows.of_words(all_words)
    before_any = rrxor().initial_distribution
    assert ((all_words.filtered - before_any).abs().amax(1) > 1e-6).all()
    assert rows.by_belief().count + 1 == 36
    assert rows.by_word().count == 1046


def test_words_are_what_they_were():
    all_words = words(rrxor(), 5)
    rows = Rows.of_words(all_words)
    for name in ("tokens", "lengths", "last_tokens", "probabilities", "predicted", "filtered", "next_token_laws"):
        assert torch.equal(getattr(rows, name), getattr(all_words, name)), name


def test_sampled_rows_know_what_the_words_table_knows():
    process, longest = rrxor(), 6
    rows = Rows.of_sequences(sample(process, 40, longest, torch.Generator().manual_seed(0)), process)
    table, exact = words(process, longest), {}
    for number, (tokens, length) in enumerate(zip(table.tokens.tolist(), table.lengths.tolist(), strict=True)):
        exact[tuple(tokens[:length])] = number
    for row in range(rows.num_words):
        sequence, position = divmod(row, longest)
        seen = tuple(rows.sequences[sequence, : position + 1].tolist())
        assert tuple(rows.tokens[row].tolist()) == seen + (-1,) * (longest - len(seen))
        assert rows.last_tokens[row] == seen[-1] and rows.lengths[row] == len(seen)
        for name in ("predicted", "filtered", "next_token_laws"):
            found, expected = getattr(rows, name)[row], getattr(table, name)[exact[seen]]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_sampled_rows_have_empirical_weights():
    rows = Rows.of_sequences(torch.zeros(30, 7, dtype=torch.int64))
    sums = np.bincount(rows.lengths.numpy(), weights=rows.probabilities.numpy())[1:]
    np.testing.assert_allclose(sums, 1.0)
    assert n_eff_of(rows) == pytest.approx(210)  # equally weighted rows are worth themselves


def test_generalised_processes_have_rows_too():
    process = frdn()
    rows = Rows.of_sequences(sample(process, 5, 4, torch.Generator().manual_seed(1)), process)
    laws = rows.filtered @ process.emission_matrix
    torch.testing.assert_close(rows.next_token_laws, laws, rtol=0, atol=1e-12)
    np.testing.assert_allclose(rows.next_token_laws.sum(-1), 1.0, atol=1e-12)


def grouped_by_hand(rows, key):
    """Labels from a dictionary, the plain way."""
    numbers = {}
    return [
        numbers.setdefault(key(tokens[:length]), len(numbers))
        for tokens, length in zip(rows.tokens.tolist(), rows.lengths.tolist(), strict=True)
    ]


def same_partition(first, second):
    pairs = set(zip(first, second, strict=True))
    return len(pairs) == len(set(first)) == len(set(second))


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_groups_by_word_and_suffix(k):
    sampled = Rows.of_sequences(sample(mess3(), 25, 5, torch.Generator().manual_seed(0)), mess3())
    for rows in (sampled, Rows.of_words(words(mess3(), 4))):
        assert same_partition(rows.by_word().labels.tolist(), grouped_by_hand(rows, tuple))
        by_hand = grouped_by_hand(rows, lambda seen: tuple(([-1] * k + seen)[-k:]))
        assert same_partition(rows.by_suffix(k).labels.tolist(), by_hand)


def test_groups_by_sequence():
    rows = Rows.of_sequences(torch.zeros(3, 2, dtype=torch.int64))
    assert rows.by_sequence().labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("make", [Rows.by_word, Rows.by_belief, Rows.by_sequence, lambda rows: rows.by_suffix(5)])
def test_no_group_is_in_training_and_held_out_at_once(make):
    rows = Rows.of_sequences(sample(rrxor(), 60, 8, torch.Generator().manual_seed(0)), rrxor())
    groups, lengths = make(rows), rows.lengths.numpy()
    for seed in range(3):
        folds = Protocol().folds(lengths, seed, groups)
        assert set(folds[lengths > 3]) == {0, 1, 2, 3, 4}
        for label in np.unique(groups.labels):
            assert len(set(folds[groups.labels == label])) == 1, groups.name


def test_a_group_for_each_word_is_the_default_deal_bit_for_bit():
    all_words = words(rrxor(), 7)
    features = torch.randn(all_words.num_words, 6, generator=torch.Generator().manual_seed(0))
    arguments = (features, all_words.filtered, all_words, QUICK)
    alone = Groups("row", np.arange(all_words.num_words))
    grouped = probe(*arguments, groups=alone)
    assert set(grouped["departures"].str.split(", ").str[-1]) == {"groups=row"}
    assert grouped.drop(columns="departures").equals(probe(*arguments).drop(columns="departures"))


def test_features_that_name_the_group_are_worth_nothing_once_groups_stay_together():
    # sampled rows repeat words: a one-hot of the word is all that a leak needs
    process = mess3()
    rows = Rows.of_sequences(sample(process, 300, 6, torch.Generator().manual_seed(0)), process)
    name = np.eye(rows.by_word().count)[rows.by_word().labels]
    scores = {
        groups.name: probe(name, rows.filtered, rows, QUICK, (True,), groups).set_index(["position", "weights"])["r2"]
        for groups in (rows.by_word(), rows.by_sequence())
    }
    assert scores["word"]["all", "equal"] < 0.02
    assert scores["sequence"]["all", "equal"] > 0.2  # sequences keep apart, words don't


def test_departures_carry_their_names():
    process = mess3()
    rows = Rows.of_sequences(sample(process, 60, 5, torch.Generator().manual_seed(0)), process)
    protocol = Protocol(fold_seeds=(3,), fit_by_probability=True)
    scores = probe(rows.filtered, rows.filtered, rows, protocol, (True,), rows.by_suffix(3))
    (text,) = set(scores["departures"])
    assert text == "sampled, fold_seeds=3, fit_by_probability=True, groups=suffix 3"
    (text,) = set(probe(rows.filtered, rows.filtered, rows, offsets=(True,))["departures"])
    assert text == "sampled, groups=word"
    all_words = Rows.of_words(words(process, 5))
    assert set(probe(all_words.filtered, all_words.filtered, all_words, offsets=(True,))["departures"]) == {""}


def test_a_probability_weighted_fit_is_a_lottery():
    # reference/probing.md, fact 3: with short words held out too, from -3.1 to +.54 over fold seeds
    all_words = words(rrxor(), 10)
    random = np.random.default_rng(0)
    inward, recurrent = random.standard_normal((2, 64)) * 0.5, random.standard_normal((64, 64)) * 0.05
    states, hidden = [], np.zeros((all_words.num_words, 64))
    for column in all_words.tokens.numpy().T:
        hidden = np.tanh(inward[column] + hidden @ recurrent)
        states.append(hidden)
    features = np.stack(states, axis=1)[np.arange(len(hidden)), all_words.lengths.numpy() - 1]
    spread = {}
    for by_probability in (False, True):
        short = 0 if by_probability else 3
        protocol = Protocol(short, fold_seeds=tuple(range(8)), fit_by_probability=by_probability)
        scores = probe(features, all_words.filtered, Rows.of_words(all_words), protocol, (True,))
        chosen = scores[(scores["position"] == "all") & (scores["weights"] == "probability")]["r2"]
        spread[by_probability] = chosen.max() - chosen.min()
    assert spread[True] > 0.5
    assert spread[False] < 0.05


def test_subjects_are_probed_in_their_groups():
    process = mess3()
    rows = Rows.of_sequences(sample(process, 80, 5, torch.Generator().manual_seed(0)), process)
    subject = Subject(process, rows, rows.filtered, groups=rows.by_suffix(2))
    scores = probe_rows(subject.data(rows.filtered), QUICK, (True,))
    expected = probe(rows.filtered, rows.filtered, rows, QUICK, (True,), rows.by_suffix(2))
    assert scores.equals(expected)


def test_rows_report_their_effective_size():
    rows = Rows.of_words(words(rrxor(), 7))
    scores = probe(rows.filtered, rows.filtered, rows, QUICK, (True,), rows.by_suffix(4))
    for position, weights in itertools.product(("all", "7"), ("equal", "probability")):
        (row,) = scores[(scores["position"] == position) & (scores["weights"] == weights)].itertuples()
        inside = (rows.lengths > 3 if position == "all" else rows.lengths == 7).numpy()
        mass = rows.probabilities.numpy() if weights == "probability" else 1 / np.bincount(rows.lengths)[rows.lengths]
        assert row.n_eff == pytest.approx(effective_sample_size(mass[inside]))


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (np.zeros((2, 3)), TypeError, "tokens have dtype float64"),
        (np.zeros(3, dtype=int), ValueError, r"tokens have shape \(3,\)"),
        (np.zeros((0, 3), dtype=int), ValueError, r"tokens have shape \(0, 3\)"),
        (np.array([[0, 1], [0, -2]]), ValueError, "tokens hold -2 at row 1, position 1"),
        (np.array([[0, 1], [2, 1]]), ValueError, r"tokens\[1, 0\] = 2 .* legal are 0..1"),
    ],
)
def test_bad_tokens_are_refused_by_name(tokens, error, message):
    with pytest.raises(error, match=message):
        Rows.of_sequences(tokens, rrxor())


def test_impossible_words_are_refused_by_name():
    with pytest.raises(ValueError, match=r"tokens\[1\] is impossible: .* tokens\[1, 4\] = "):
        Rows.of_sequences(impossible_in_row_one(), rrxor())


def impossible_in_row_one():
    """A possible word of five tokens, and below it one that is possible up to its last token."""
    possible = {tuple(row) for row in words(rrxor(), 5).levels[4].tokens.tolist()}
    before = {tuple(row) for row in words(rrxor(), 4).levels[3].tokens.tolist()}
    last = sorted(w for w in itertools.product((0, 1), repeat=5) if w not in possible and w[:4] in before)
    if not last:
        pytest.fail("every word of five tokens is possible")
    return torch.tensor([sorted(possible)[0], last[0]])


def test_rows_that_do_not_match_are_refused_by_name():
    rows = Rows.of_sequences(torch.zeros(6, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"activations have shape \(6, 4, 3\); tokens have shape \(6, 5\)"):
        rows.flatten(np.zeros((6, 4, 3)))
    with pytest.raises(ValueError, match="process=None"):
        _ = rows.filtered
    with pytest.raises(ValueError, match="num_tokens=0"):
        rows.by_suffix(0)
    with pytest.raises(ValueError, match=r"in 1 groups .suffix 4.; num_folds=5"):
        probe(np.eye(30), np.eye(30), rows, groups=rows.by_suffix(4))
    with pytest.raises(ValueError, match="3 labels for 30 rows"):
        probe(np.eye(30), np.eye(30), rows, groups=Groups("mine", np.arange(3)))
    with pytest.raises(ValueError, match="dtype float64"):
        Groups("mine", np.zeros(3))


def test_more_features_than_memory_are_refused_before_anything_is_allocated():
    rows = words(rrxor(), 3)
    wide = np.broadcast_to(np.zeros((1, 1), dtype=np.float32), (len(rows.lengths), 1_000_000))  # four bytes
    with pytest.raises(ValueError, match=r"features: 1,000,000 of them need about .* GiB of second moments"):
        probe(wide, rows.filtered, rows)
