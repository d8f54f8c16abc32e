"""What `pcnet probe` is made of: words exchanged whole, controls made in pieces, the verdict, and the picture's plane."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from pcnet.cli.probe import arrays, judgement
from pcnet.cli.probe.controls import beside, of_tokens, untrained_networks
from pcnet.cli.probe.judgement import verdict_on
from pcnet.cli.probe.question import Question
from pcnet.cli.probe.readings import readings_of
from pcnet.probing import ShuffledBeliefs, ShuffledEverywhere, ShuffledKeepingLastToken, reservoir
from pcnet.probing.controls.banks import SPECTRAL_RADII
from pcnet.processes import constrained_beliefs, mess3, rrxor, sample
from pcnet.report.probe_picture import Paper


def asked(process, sequences, length, seed=0):
    return Question.of(process, sample(process, sequences, length, torch.Generator().manual_seed(seed)), "filtered", 1)


def silent(_):
    pass


@pytest.fixture(scope="module")
def question():
    return asked(rrxor(), 400, 6)


def test_the_law_of_two_tokens_adds_up_to_that_of_one(question):
    tokens = question.rows.sequences
    ahead = Question.of(question.process, tokens, "future", 2).targets.reshape(-1, 2, 2)
    law = Question.of(question.process, tokens, "next_token", 1).targets
    np.testing.assert_allclose(ahead.sum(axis=2), law, atol=1e-12)
    predicted = Question.of(question.process, tokens, "predicted", 1).targets
    np.testing.assert_allclose(predicted[::6], np.tile(question.process.initial_distribution, (len(tokens), 1)))
    by_belief = question.grouped("belief", 3).groups.labels
    same = np.abs(question.targets[:, None] - question.targets[:40]).max(axis=2) < 1e-9
    assert (same == (by_belief[:, None] == by_belief[:40])).all()


@pytest.mark.parametrize("kind", [ShuffledBeliefs, ShuffledKeepingLastToken, ShuffledEverywhere])
def test_equal_words_keep_equal_targets(question, kind):
    rows = question.rows
    order = kind(5, seed=1).orders(rows)
    lengths, last = rows.lengths.numpy(), rows.last_tokens.numpy()
    keys = [tuple(tokens) for tokens in rows.tokens.tolist()]
    for column in order.T:
        source = {}
        for key, other in zip(keys, column, strict=True):
            assert source.setdefault(key, keys[other]) == keys[other]
        assert sorted(source.values()) == sorted(source)  # words are exchanged, none is lost
        assert any(key != other for key, other in source.items())
    if kind is not ShuffledEverywhere:
        assert (lengths[order] == lengths[:, None]).all()
    if kind is ShuffledKeepingLastToken:
        assert (last[order] == last[:, None]).all()


def test_controls_made_in_pieces_are_those_made_at_once(question, tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "PIECE", 700)
    rows, law = question.rows, question.rows.next_token_laws.numpy()
    with arrays.scratch(tmp_path / "new") as scratch:
        networks = [states.copy() for states in untrained_networks(question, 7, 3, scratch)]
        with beside(law, networks[0], scratch) as both:
            np.testing.assert_allclose(both, np.hstack([law, networks[0]]), rtol=1e-6)
        controls = {name: features.copy() for name, features in of_tokens(question, scratch)}
        assert not list(scratch.folder.iterdir())
    assert not (tmp_path / "new").exists()
    for number, (gain, states) in enumerate(zip(SPECTRAL_RADII, networks, strict=True)):
        whole = reservoir(rows, 7, gain, np.random.default_rng([3, number]))
        np.testing.assert_allclose(states, whole, rtol=1e-5, atol=1e-6)
    words = rows.tokens.tolist()
    for k in (1, 2, 3, 4):
        seen = [tuple(([None] * k + [token for token in word if token >= 0])[-k:]) for word in words]
        columns = controls[f"last_{k}_table"].argmax(axis=1)
        assert len(set(zip(seen, columns.tolist(), strict=True))) == len(set(seen)) == len(set(columns.tolist()))
    assert (controls["additive_history"].sum(axis=1) == 6).all()
    np.testing.assert_array_equal(controls["constrained"], constrained_beliefs(question.process, rows))


def planted(question, seed=0):
    random = np.random.default_rng(seed)
    noise_of_word = random.standard_normal((question.groups.labels.max() + 1, 8))[question.groups.labels]
    return np.hstack([question.targets @ random.standard_normal((5, 8)), noise_of_word])


def test_the_verdict_says_yes_to_a_planted_yes_and_no_to_a_planted_no(question, monkeypatch):
    monkeypatch.setattr(judgement, "PERMUTATIONS", 39)
    symbols = question.rows.last_tokens.numpy()
    last = np.eye(2)[symbols] @ np.random.default_rng(1).standard_normal((2, 16))
    verdict, text = verdict_on(question, {"planted": planted(question), "last": last}, None, 0, silent)
    assert [site.answer.value for site in verdict.sites] == ["yes", "no"]
    assert verdict["planted"].p_value == 0.05 and "planted: yes" in text and "last: no" in text
    assert verdict.features == (16, 16)


def test_a_verdict_takes_all_words_and_says_how_many_are_missing(question):
    few = asked(rrxor(), 12, 6)
    words = {tuple(word[:length]) for word in few.rows.sequences.tolist() for length in range(1, 7)}
    process = rrxor()
    for length in range(1, 7):
        possible = [
            word
            for word in itertools.product(range(2), repeat=length)
            if float(
                torch.linalg.multi_dot(
                    [process.initial_distribution[None], *process.transition_matrices[list(word)]]
                ).sum()
            )
            > 0
        ]
        lost = len(set(possible) - words)
        if lost:
            break
    verdict, text = verdict_on(few, {"site": planted(few)}, None, 0, silent)
    assert verdict is None
    assert f"{lost} of the {len(possible)} of length {length} are missing" in text


def test_no_verdict_where_equal_words_differ(question):
    features = planted(question)
    features[17] += 1  # sequence 2, position 5
    verdict, text = verdict_on(question, {"site": features}, None, 0, silent)
    assert verdict is None and "site differs by 1 after equal tokens" in text
    assert "(sequences 2 and " in text and "position 5)" in text


def test_nothing_is_decided_on_mess3_by_the_verdict():
    question = asked(mess3(), 1500, 4)
    verdict, text = verdict_on(question, {"site": question.targets}, None, 0, silent)
    assert verdict.sites[0].answer.value == "not decidable here"
    assert "On all 120 words of up to 4 tokens:" in text  # 3 + 9 + 27 + 81


def test_readings_are_calibration_and_the_angles_of_a_products_factors():
    process = arrays.process_of("mess3,z1r", None, [], 0)
    question = asked(process, 60, 4)
    first, second = (process.composition.split(question.targets)[f"factor.{k}"].numpy() for k in (0, 1))
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
    apart = first @ axes[:3] + second @ axes[3:6]
    shared = first @ axes[:3] + second @ axes[:3]
    exact = {"apart": question.targets, "shared": question.targets}
    table = readings_of(question, {"apart": apart, "shared": shared}, exact).set_index(["site", "measure"])
    assert table.loc[("apart", "overlap factor.0, factor.1"), "value"] == pytest.approx(0, abs=1e-9)
    assert table.loc[("shared", "overlap factor.0, factor.1"), "value"] == pytest.approx(1)
    assert table.loc[("apart", "overlap factor.0, factor.1"), "chance"] == pytest.approx(2 / 8)
    assert table.loc[("apart", "calibration_error"), "value"] == pytest.approx(0, abs=1e-9)
    alone = asked(mess3(), 60, 4)
    assert (
        not readings_of(alone, {"site": alone.targets}, {"site": alone.targets})["measure"].str.contains("over").any()
    )
    assert readings_of(alone, {"site": alone.targets}, {"site": None}).empty


def test_the_plane_is_that_of_the_two_greatest_variances(question):
    lengths = question.rows.lengths.numpy()
    paper = Paper.of(question.targets, lengths)
    held = question.targets[lengths >= 4]
    expected = PCA(2).fit(held).transform(question.targets[paper.rows])
    np.testing.assert_allclose(np.abs(paper.place(question.targets)), np.abs(expected), atol=1e-8)
    wide = paper.widened([question.targets, 1.2 * question.targets])
    points = wide.place(1.2 * question.targets)
    left, right, bottom, top = wide.limits
    assert ((points > [left, bottom]) & (points < [right, top])).all()
