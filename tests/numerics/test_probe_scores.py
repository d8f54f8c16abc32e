"""Scores of decoded targets against scikit-learn, plain algebra and planted miscalibration; the cut probe's algebra."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error, r2_score

from pcnet.probing import (
    Decoded,
    PrincipalComponentProbe,
    Protocol,
    decoded_scores,
    hidden_state,
    probe,
    reliability,
)
from pcnet.processes import mess3, observe, rrxor, words

QUICK = Protocol(fold_seeds=(0, 1), alphas=tuple(10.0 ** np.arange(-9, 3)))


@pytest.fixture
def pair():
    """Targets, decoded ones and uneven weights, some of them zero."""
    random = np.random.default_rng(0)
    targets = random.standard_normal((200, 3)) @ random.standard_normal((3, 3)) + [1, -2, 5]
    weights = random.uniform(0, 2, 200) * (random.uniform(size=200) > 0.2)
    return targets, targets + 0.6 * random.standard_normal((200, 3)), weights


def test_scores_are_those_of_scikit_learn(pair):
    targets, decoded, weights = pair
    scored = Decoded.checked(*pair)
    for whole, mode in ((scored.r2(), "variance_weighted"), (scored.coordinate_r2(), "raw_values")):
        np.testing.assert_allclose(whole, r2_score(targets, decoded, sample_weight=weights, multioutput=mode))
    error = mean_squared_error(targets, decoded, sample_weight=weights)
    assert scored.rmse() == pytest.approx(np.sqrt(error))


def test_basis_free_score_is_its_formula_and_no_basis_moves_it(pair):
    targets, decoded, weights = pair
    mass = weights / weights.sum()
    covariance = np.cov(targets.T, aweights=mass, ddof=0)
    residual = (targets - decoded).T @ (mass[:, None] * (targets - decoded))
    expected = 1 - np.trace(np.linalg.pinv(covariance) @ residual) / 3
    assert Decoded.checked(*pair).basis_free_r2() == pytest.approx(expected, abs=1e-12)
    basis = np.random.default_rng(1).standard_normal((3, 3)) * [1e-3, 1, 50]
    moved = Decoded.checked(targets @ basis, decoded @ basis, weights)
    assert moved.basis_free_r2() == pytest.approx(expected, abs=1e-8)
    assert abs(moved.r2() - Decoded.checked(*pair).r2()) > 0.01
    # a coordinate that repeats the others adds no rank
    wide = [np.concatenate([part, part @ np.ones((3, 1))], axis=1) for part in (targets, decoded)]
    assert Decoded.checked(*wide, weights).basis_free_r2() == pytest.approx(expected, abs=1e-8)


def test_cosine_is_one_for_a_stretched_copy_and_zero_for_an_unrelated_one():
    targets = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    assert Decoded.checked(targets, 3 * targets).cosine() == pytest.approx(1)
    assert Decoded.checked(targets, -targets).cosine() == pytest.approx(-1)
    assert Decoded.checked(targets, targets @ [[0, 1], [-1, 0]]).cosine() == pytest.approx(0, abs=1e-12)
    assert np.isnan(Decoded.checked(targets, np.zeros((4, 2))).cosine())


def test_targets_that_stay_have_no_score():
    still = Decoded.checked(np.full((4, 2), 1 / 3), np.random.default_rng(0).standard_normal((4, 2)))
    assert np.isnan([still.r2(), still.basis_free_r2(), *still.coordinate_r2()]).all()


def test_table_has_the_scores_of_the_protocol():
    population = words(rrxor(), 7)
    random = np.random.default_rng(0)
    features = random.standard_normal((population.num_words, 6)) + population.filtered[:, :1].numpy()
    rows = population.filtered, population.lengths, population.probabilities
    table = decoded_scores(features, *rows, QUICK).set_index(["fold_seed", "weights"])
    known = probe(features, *rows, QUICK, offsets=(True,))
    known = known[known["position"] == "all"].set_index(["fold_seed", "weights"]).loc[table.index]
    for name in ("r2", "rmse", "rows", "n_eff", "features"):
        np.testing.assert_allclose(table[name], known[name], atol=1e-9)
    assert {f"r2_{state}" for state in range(5)} < set(table.columns)


def test_reading_a_belief_that_is_right_is_calibrated_and_one_too_sure_is_not():
    seen = observe(mess3(), 4000, 8, torch.Generator().manual_seed(2))
    states = hidden_state(mess3(), seen.states[:, 8])
    exact = seen.filtered[:, -1].numpy()
    right = reliability(states, exact)
    assert right.calibration_error < 0.02
    # exact beliefs explain the states up to their entropy given the word
    entropy = -np.sum(np.where(exact > 0, exact * np.log(np.where(exact > 0, exact, 1)), 0), axis=1).mean()
    assert right.divergence == pytest.approx(entropy, abs=0.03)
    assert right.off_simplex < 1e-12
    sure = reliability(states, np.eye(3)[exact.argmax(axis=1)])
    missed = 1 - exact.max(axis=1)
    # a decoded certainty is wrong as often as the belief says: once in the state named, once in the others
    assert sure.calibration_error == pytest.approx(2 * missed.mean() / 3, abs=0.02)
    assert sure.divergence > right.divergence + 0.1


def test_reliability_by_hand():
    # two bins: decoded .2 and .7 in state 0, outcome 0 and 1; decoded points are on the simplex already
    outcomes, decoded = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.2, 0.8], [0.7, 0.3]])
    found = reliability(outcomes, decoded, [1.0, 3.0], bins=(0, 0.5, 1), uniform_share=1e-9)
    assert found.calibration_error == pytest.approx(0.25 * 0.2 + 0.75 * 0.3)
    assert found.divergence == pytest.approx(-0.25 * np.log(0.8) - 0.75 * np.log(0.7), abs=1e-6)
    moved = reliability(outcomes, decoded + 0.1, bins=(0, 0.5, 1))
    assert moved.off_simplex == pytest.approx(0.1 * np.sqrt(2))
    assert moved.calibration_error == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcomes": np.array([[0.5, 0.6]])}, "outcomes must be points of the simplex"),
        ({"decoded": np.array([[np.nan, 1.0]])}, "decoded holds nan at row 0"),
        ({"decoded": np.ones((2, 2))}, "decoded .2, 2."),
        ({"weights": np.array([-1.0])}, "weights holds -1.0 at row 0"),
        ({"weights": np.array([0.0])}, "weights add up to 0"),
        ({"bins": (0.1, 1)}, "bins="),
        ({"uniform_share": 0.0}, "uniform_share=0.0"),
    ],
)
def test_impossible_pairs_are_refused(change, message):
    arguments = {"outcomes": np.array([[0.5, 0.5]]), "decoded": np.array([[0.4, 0.6]])} | change
    with pytest.raises(ValueError, match=message):
        reliability(**arguments)


@pytest.fixture
def rows():
    random = np.random.default_rng(0)
    x = random.standard_normal((150, 7)) @ random.standard_normal((7, 7)) * [1, 10, 0.1, 1, 3, 1, 2] + [
        5,
        0,
        1,
        -3,
        0,
        9,
        0,
    ]
    return x, x[:, :3] @ random.standard_normal((3, 2)) + random.standard_normal((150, 2)), random


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_cut_is_principal_component_regression(rows, rank):
    x, y, _ = rows
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    parts = PCA(rank, svd_solver="full").fit_transform(z)
    expected = LinearRegression().fit(parts, y).predict(parts)
    np.testing.assert_allclose(PrincipalComponentProbe(ranks=(rank,)).fit(x, y).predict(x), expected, atol=1e-8)


@pytest.mark.parametrize("offset", [True, False])
def test_whole_cut_is_weighted_least_squares_also_for_collinear_features(rows, offset):
    x, y, random = rows
    w = random.uniform(0.1, 2, len(x))
    wide = np.concatenate([x, x @ np.ones((7, 2))], axis=1)
    inputs = np.concatenate([wide, np.ones((len(x), int(offset)))], axis=1)
    root = np.sqrt(w)[:, None]
    expected = inputs @ (np.linalg.pinv(root * inputs, rcond=1e-11) @ (root * y))
    fitted = PrincipalComponentProbe(ranks=(9,), fit_intercept=offset).fit(wide, y, w)
    np.testing.assert_allclose(fitted.predict(wide), expected, atol=1e-7)


def test_the_rank_is_the_one_that_held_out_folds_prefer(rows):
    x, y, random = rows
    y, w = y + 6 * random.standard_normal(y.shape), random.uniform(0.1, 2, len(x))
    folds, losses = random.integers(-1, 4, len(x)), []
    for rank in range(1, 8):
        loss = 0.0
        for fold in range(4):
            train, held = folds != fold, folds == fold
            fitted = PrincipalComponentProbe(ranks=(rank,)).fit(x[train], y[train], w[train])
            loss += (w[held] @ (y[held] - fitted.predict(x[held])) ** 2).sum()
        losses.append(loss)
    assert PrincipalComponentProbe().fit(x, y, w, folds).rank_ == 1 + int(np.argmin(losses))
    assert len(set(losses)) == 7


@pytest.mark.parametrize("ranks", [(), (0, 1), (2, 1), (1.5,)])
def test_impossible_ranks_are_refused(rows, ranks):
    with pytest.raises(ValueError, match="ranks="):
        PrincipalComponentProbe(ranks=ranks).fit(rows[0], rows[1])
