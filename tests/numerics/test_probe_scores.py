"""Scores of decoded targets against scikit-learn, plain algebra and planted miscalibration; the cut probe's algebra."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression

from pcnet.probing import (
    PrincipalComponentProbe,
    Protocol,
    reliability,
)
from pcnet.processes import mess3, observe

QUICK = Protocol(fold_seeds=(0, 1), alphas=tuple(10.0 ** np.arange(-9, 3)))


def test_reading_a_belief_that_is_right_is_calibrated_and_one_too_sure_is_not():
    seen = observe(mess3(), 4000, 8, torch.Generator().manual_seed(2))
    states = np.eye(3)[seen.states[:, 8]]
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
        ({"decoded": np.ones((2, 2))}, "decoded"),
        ({"weights": np.array([-1.0])}, "weights"),
        ({"weights": np.array([0.0])}, "weights"),
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
