"""The probe's fit against normal equations, scikit-learn and brute force."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score

from pcnet.probing import LinearProbe
from pcnet.probing.regression.moments import Design, measure, total
from pcnet.probing.regression.ridge import ridge_path, select_ridge

SUMS = ("weight", "x", "y", "xx", "xy", "yy")


@pytest.fixture
def rows():
    """Correlated features far from zero and of unequal size, three targets, uneven weights."""
    random = np.random.default_rng(0)
    x = random.standard_normal((120, 6)) @ random.standard_normal((6, 6)) * [1, 10, 0.1, 1, 3, 1] + [5, 0, 1, -3, 0, 20]
    y = x[:, :3] @ random.standard_normal((3, 3)) + random.standard_normal((120, 3)) + [1, 0, -2]
    return x, y, random.uniform(0.1, 3.0, 120)


def moments_of(x, y, weights, rows=None):
    design = Design.single(x, y)
    return measure(design, weights, np.arange(len(x)) if rows is None else rows, design.centre())


def normal_equations(x, y, w, alpha, offset):
    """Ridge on standardised features, straight from its definition."""
    mean = np.average(x, axis=0, weights=w) * offset
    scale = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w))
    z, mean_y = (x - mean) / scale, np.average(y, axis=0, weights=w) * offset
    gram = z.T @ (w[:, None] * z)
    penalty = alpha * np.linalg.eigvalsh(gram)[-1]
    slopes = np.linalg.solve(gram + penalty * np.eye(len(gram)), z.T @ (w[:, None] * (y - mean_y)))
    return slopes / scale[:, None], mean_y - mean / scale @ slopes


@pytest.mark.parametrize("offset", [True, False])
@pytest.mark.parametrize("alpha", [1e-12, 1e-3, 0.5])
def test_ridge_solves_the_weighted_normal_equations(rows, alpha, offset):
    x, y, w = rows
    path = ridge_path(moments_of(x, y, w), (alpha,), offset)
    slopes, intercept = normal_equations(x, y, w, alpha, offset)
    np.testing.assert_allclose(path.coef[0], slopes, rtol=1e-8)
    np.testing.assert_allclose(path.intercept[0], intercept, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("offset", [True, False])
def test_ridge_equals_scikit_learn(rows, offset):
    x, y, w = rows
    centre = np.average(x, axis=0, weights=w) * offset
    scale = np.sqrt(np.average((x - centre) ** 2, axis=0, weights=w))
    z = (x - centre) / scale
    penalty = 0.01 * np.linalg.eigvalsh(z.T @ (w[:, None] * z))[-1]
    theirs = Ridge(alpha=penalty, fit_intercept=offset, solver="svd").fit(z, y, sample_weight=w)
    ours = ridge_path(moments_of(x, y, w), (0.01,), offset)
    np.testing.assert_allclose(x @ ours.coef[0] + ours.intercept[0], theirs.predict(z), rtol=1e-9, atol=1e-9)


def test_without_penalty_it_is_least_squares_of_smallest_norm_even_for_collinear_features(rows):
    x, y, w = rows
    doubled = np.concatenate([x, x[:, :2], x @ np.ones((6, 1)), np.full((120, 1), 7.0)], axis=1)
    path = ridge_path(moments_of(doubled, y, w), (0.0,), True)
    expected = LinearRegression().fit(x, y, sample_weight=w).predict(x)
    np.testing.assert_allclose(doubled @ path.coef[0] + path.intercept[0], expected, atol=1e-8)
    assert np.all(path.coef[0][-1] == 0)
    np.testing.assert_allclose(path.coef[0][:2], path.coef[0][6:8], rtol=1e-6)


def test_squared_errors_from_moments_are_those_of_the_predictions(rows):
    x, y, w = rows
    train, held = np.arange(80), np.arange(80, 120)
    for offset in (True, False):
        path = ridge_path(moments_of(x, y, w, train), (1e-6, 0.1), offset)
        errors = path.squared_errors(moments_of(x, y, w, held))
        for coef, intercept, error in zip(path.coef, path.intercept, errors, strict=True):
            expected = w[held] @ (y[held] - x[held] @ coef - intercept) ** 2
            np.testing.assert_allclose(error, expected, rtol=1e-9)


def test_moments_add_up_and_move_to_the_origin(rows):
    x, y, w = rows
    whole = moments_of(x, y, w)
    parts = total([moments_of(x, y, w, np.arange(start, 120, 3)) for start in range(3)])
    moved, direct = (
        whole.about_origin(),
        (w.sum(), w @ x, w @ y, x.T @ (w[:, None] * x), x.T @ (w[:, None] * y), w @ y**2),
    )
    for name, value in zip(SUMS, direct, strict=True):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-10, atol=1e-9)
        np.testing.assert_allclose(getattr(moved, name), value, rtol=1e-10)
    with pytest.raises(ValueError, match="one centre"):
        whole + moved


def test_moments_of_more_rows_than_a_chunk(monkeypatch, rows):
    x, y, w = rows
    whole = moments_of(x, y, w)
    monkeypatch.setattr("pcnet.probing.regression.moments.CHUNK_ROWS", 17)
    pieces = moments_of(x, y, w)
    for field in dataclasses.fields(whole):
        np.testing.assert_allclose(getattr(pieces, field.name), getattr(whole, field.name), rtol=1e-12, atol=1e-10)


def test_features_far_from_zero_lose_no_digits(rows):
    x, y, w = rows
    near, far = (LinearProbe(alphas=(1e-8, 1e-6)).fit(x + shift, y, w) for shift in (0.0, 1e6))
    np.testing.assert_allclose(far.predict(x + 1e6), near.predict(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("offset", [True, False])
def test_probe_chooses_the_penalty_that_held_out_folds_prefer(rows, offset):
    x, y, w = rows
    y = y + 8 * np.random.default_rng(1).standard_normal(y.shape)
    folds = np.random.default_rng(2).integers(-1, 4, len(x))
    alphas = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    losses = []
    for alpha in alphas:
        loss = 0.0
        for fold in range(4):
            train, held = folds != fold, folds == fold
            slopes, intercept = normal_equations(x[train], y[train], w[train], alpha, offset)
            loss += (w[held] @ (y[held] - x[held] @ slopes - intercept) ** 2).sum()
        losses.append(loss)
    probe = LinearProbe(alphas, offset).fit(x, y, w, folds)
    assert probe.alpha_ == alphas[np.argmin(losses)]
    assert not probe.alpha_at_edge_
    slopes, intercept = normal_equations(x, y, w, probe.alpha_, offset)
    np.testing.assert_allclose(probe.coef_, slopes.T, rtol=1e-8)
    np.testing.assert_allclose(probe.intercept_, intercept, rtol=1e-8, atol=1e-10)


def test_probe_says_when_the_grid_is_too_short(rows):
    x, y, w = rows
    noise = np.random.default_rng(3).standard_normal((120, 1))
    assert LinearProbe(alphas=(1e-9, 1e-3, 10.0)).fit(x, y, w).alpha_at_edge_
    assert LinearProbe(alphas=(1e-9, 1e-3, 10.0)).fit(x, noise, w).alpha_at_edge_


def test_score_is_one_minus_error_over_variance_of_all_targets_together(rows):
    x, y, w = rows
    probe = LinearProbe().fit(x, y, w)
    error, spread = y - probe.predict(x), y - np.average(y, axis=0, weights=w)
    assert probe.score(x, y, w) == pytest.approx(1 - (w @ error**2).sum() / (w @ spread**2).sum(), rel=1e-12)
    assert probe.score(x, y, w) == pytest.approx(
        r2_score(y, probe.predict(x), sample_weight=w, multioutput="variance_weighted")
    )


def test_rows_of_weight_zero_do_not_exist(rows):
    x, y, w = rows
    y = y + 8 * np.random.default_rng(1).standard_normal(y.shape)
    kept = np.arange(len(x)) % 3 > 0
    fine = tuple(np.geomspace(1e-4, 1, 60))
    for seed in range(5):
        with_zeros = LinearProbe(fine, random_state=seed).fit(x, y, w * kept)
        without = LinearProbe(fine, random_state=seed).fit(x[kept], y[kept], w[kept])
        assert with_zeros.alpha_ == without.alpha_
        np.testing.assert_allclose(with_zeros.coef_, without.coef_, rtol=1e-9)


def test_constant_features_matter_only_without_offset(rows):
    _, y, w = rows
    ones = np.ones((120, 1))
    mean = np.average(y, axis=0, weights=w)
    for offset in (True, False):
        probe = LinearProbe(alphas=(1e-12, 1e-11), fit_intercept=offset).fit(ones, y, w)
        np.testing.assert_allclose(probe.predict(ones[:1])[0], mean, rtol=1e-9)
        assert np.any(probe.coef_ != 0) == (not offset)


def test_choosing_needs_two_folds(rows):
    x, y, w = rows
    moments = moments_of(x, y, w)
    with pytest.raises(ValueError, match="at least 2"):
        select_ridge(moments, [moments], (0.1,), True)
