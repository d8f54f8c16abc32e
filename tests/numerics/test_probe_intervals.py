"""Intervals and paired tests: closed forms of a linear-Gaussian case, scipy's t, a jackknife, measured coverage."""

import numpy as np
import pytest
import scipy.stats
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from pcnet.probing import (
    Interval,
    Protocol,
    bootstrap_interval,
    cluster_fits,
    paired_seeds,
    seed_interval,
)
from pcnet.probing.uncertainty.intervals import ClusterSums


def sample(seed, clusters=400, rows=1, noise=1.0):
    """Errors and targets of rows, each cluster of rows sharing what it draws."""
    generator = np.random.default_rng(seed)
    targets = np.repeat(generator.standard_normal((clusters, 1)), rows, axis=0)
    errors = np.repeat((noise * generator.standard_normal(clusters)) ** 2, rows)
    return errors, targets, np.repeat(np.arange(clusters), rows)


def test_half_width_is_the_delta_methods():
    # errors and targets independent and normal: var(R2) = (noise^2)^2 (2 / n + 2 / n)
    errors, targets, groups = sample(0, clusters=4000, noise=0.5)
    found = bootstrap_interval(errors, targets, groups)
    assert found.estimate == pytest.approx(1 - errors.sum() / ((targets - targets.mean()) ** 2).sum())
    half = 1.959964 * 0.25 * np.sqrt(4 / 4000)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.08)
    assert found.low < 0.75 < found.high


def test_score_is_that_of_scikit_learn_and_its_error_that_of_a_jackknife():
    generator = np.random.default_rng(1)
    targets, groups = generator.standard_normal((300, 3)) * [1, 2, 3] + 5, generator.integers(0, 40, 300)
    guess = targets + 0.8 * generator.standard_normal(targets.shape)
    sums = ClusterSums.of(((targets - guess) ** 2).sum(axis=1), targets, groups)
    (score,), (spread,) = sums.r2(np.ones((1, 40)))
    assert score == pytest.approx(r2_score(targets, guess, multioutput="variance_weighted"))
    left_out = [r2_score(targets[groups != g], guess[groups != g], multioutput="variance_weighted") for g in range(40)]
    assert spread == pytest.approx(np.sqrt(39 / 40 * ((left_out - np.mean(left_out)) ** 2).sum()), rel=0.05)


def test_copies_inside_a_cluster_tell_nothing_new():
    alone = bootstrap_interval(*sample(2, clusters=60))
    copied = bootstrap_interval(*sample(2, clusters=60, rows=7))
    assert (copied.estimate, copied.low, copied.high) == pytest.approx((alone.estimate, alone.low, alone.high))
    errors, targets, _ = sample(2, clusters=60, rows=7)
    naive = bootstrap_interval(errors, targets, np.arange(len(errors)))
    assert (copied.high - copied.low) > 2 * (naive.high - naive.low)  # sqrt(7) = 2.6


def linear_sample(generator, slopes, clusters=80, rows=4):
    """Features that share a part within a cluster, and targets with unit noise."""
    shared = np.repeat(generator.standard_normal((clusters, len(slopes))), rows, axis=0)
    features = (shared + generator.standard_normal(shared.shape)) / np.sqrt(2)
    noise = np.repeat(generator.standard_normal((clusters, 1)), rows, axis=0)
    targets = features @ slopes[:, None] + (noise + generator.standard_normal(noise.shape)) / np.sqrt(2)
    return features, targets, np.repeat(np.arange(clusters), rows)


def test_intervals_hold_the_exact_score_of_their_fits():
    """Linear and Gaussian, so that what each fit scores on fresh rows is known: 1 - (1 + |b - b'|^2 + c^2) / (1 + |b|^2)."""
    generator, slopes = np.random.default_rng(0), np.array([1.0, -0.5, 0.0, 0.25])
    protocol, held = Protocol(alphas=(1e-6, 1e-3, 1e-1)), 0
    for _ in range(200):
        features, targets, groups = linear_sample(generator, slopes)
        fits = cluster_fits(features, targets, groups, protocol)
        wrong = [((fit.coef[:, 0] - slopes) ** 2).sum() + fit.intercept[0] ** 2 for fit in fits.fits]
        exact = 1 - (1 + np.average(wrong, weights=np.bincount(fits.labels))) / (1 + (slopes**2).sum())
        interval = bootstrap_interval(fits.errors, targets, groups, num_resamples=200)
        held += interval.low <= exact <= interval.high
    # 95 % of 200, three binomial standard errors of 1.54 %
    assert 0.904 < held / 200 < 0.996


def test_sequences_stay_whole_and_errors_are_of_fits_that_never_saw_them():
    generator = np.random.default_rng(3)
    features, targets, groups = linear_sample(generator, np.array([1.0, 2.0]), clusters=12)
    fits = cluster_fits(features, targets, groups, Protocol(alphas=(1e-12,)))
    assert all(len(np.unique(fits.labels[groups == group])) == 1 for group in range(12))
    for fold in range(5):
        held = fits.labels == fold
        expected = LinearRegression().fit(features[~held], targets[~held]).predict(features[held])
        np.testing.assert_allclose(fits.errors[held], ((targets[held] - expected) ** 2)[:, 0], rtol=1e-6)
    fresh = fits.fresh_errors(features[:5], targets[:5])
    share = np.bincount(fits.labels) / len(groups)
    by_hand = sum(
        s * ((targets[:5] - fit.predict(features[:5])) ** 2)[:, 0] for s, fit in zip(share, fits.fits, strict=True)
    )
    np.testing.assert_allclose(fresh, by_hand)


def test_training_seeds_have_students_interval():
    scores = [0.91, 0.95, 0.88, 0.93, 0.9]
    found = seed_interval(scores)
    low, high = scipy.stats.t.interval(0.95, 4, loc=np.mean(scores), scale=scipy.stats.sem(scores))
    assert isinstance(found, Interval)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert str(found) == "0.914 (0.880 to 0.948, 95 % over 5 training seeds)"


def test_paired_seeds_is_students_test():
    first, second = [0.9, 0.92, 0.95, 0.91], [0.88, 0.93, 0.9, 0.9]
    found = paired_seeds(first, second)
    assert found.p_value == pytest.approx(scipy.stats.ttest_rel(first, second).pvalue)
    assert found.difference.estimate == pytest.approx(0.0175)
    assert paired_seeds([1.0, 2.0], [1.0, 2.0]).p_value == 1
    assert paired_seeds([2.0, 3.0], [1.0, 2.0]).p_value == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval(*sample(0, clusters=9)), "9 clusters"),
        (lambda: bootstrap_interval(*sample(0), level=1.0), "level=1.0"),
        (lambda: bootstrap_interval(*sample(0), num_resamples=10), "num_resamples=10"),
        (lambda: bootstrap_interval(np.zeros(3), np.zeros((4, 1)), np.arange(4)), r"errors \(3,\)"),
        (lambda: bootstrap_interval(np.full(20, np.nan), np.zeros((20, 1)), np.arange(20)), "row 0: error nan"),
        (lambda: bootstrap_interval(np.zeros(20), np.zeros((20, 1)), np.arange(20)), "all rows are equal"),
        (lambda: seed_interval([0.5]), "at least 2"),
        (lambda: seed_interval([0.1, np.inf]), r"scores\[1\]=inf"),
        (lambda: paired_seeds([0.1], [0.2]), "at least 2"),
        (lambda: paired_seeds([0.1, 0.2], [0.2, 0.3, 0.1]), "first has 2 scores and second 3"),
        (lambda: cluster_fits(np.zeros((8, 1)), np.zeros((8, 1)), np.repeat([0, 1], 4)), "2 sequences"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
