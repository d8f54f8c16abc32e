"""Geometry against brute force, scipy and published values."""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.spatial
import torch

from pcnet.probing.geometry.distances import distance_r2, prefix_counts
from pcnet.probing.geometry.merging import separation
from pcnet.probing.geometry.shapes import correlation_dimension, procrustes_residual, simplex_projection
from pcnet.probing.geometry.subspaces import (
    dimensions_for,
    encoding_directions,
    factor_overlaps,
    participation_ratio,
    principal_angles,
    spanned,
)
from pcnet.processes import filter_beliefs, mess3, product, rrxor, words


@pytest.fixture(scope="module")
def rows():
    return words(rrxor(0.5, 0.5), 10)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_projection_on_the_simplex_is_the_quadratic_programme(size: int) -> None:
    points = 2 * rng(size).normal(size=(12, size))
    projected = simplex_projection(points)
    assert np.allclose(projected.sum(axis=1), 1) and (projected >= 0).all()
    for point, found in zip(points, projected, strict=True):
        # every support that could be the right one, by Lagrange; the nearest feasible candidate is the solution
        best = np.inf
        for mask in range(1, 2**size):
            support = np.array([bool(mask >> k & 1) for k in range(size)])
            candidate = np.where(support, point + (1 - point[support].sum()) / support.sum(), 0.0)
            if (candidate >= 0).all():
                best = min(best, np.sum((candidate - point) ** 2))
        assert np.sum((found - point) ** 2) == pytest.approx(best, abs=1e-12)


def test_points_of_the_simplex_stay_where_they_are() -> None:
    beliefs = rng().dirichlet(np.ones(4), size=30)
    assert np.allclose(simplex_projection(beliefs), beliefs, atol=1e-15)


def test_distance_r2_of_a_perfect_representation_of_rrxor(rows) -> None:
    counts = prefix_counts(rows)
    assert counts.sum() == 4360 and counts.sum() * (counts.sum() - 1) // 2 == 9_502_620
    assert distance_r2(rows.filtered, rows.next_token_laws, counts) == pytest.approx(0.2846, abs=1e-4)
    assert distance_r2(rows.filtered, rows.filtered, counts) == pytest.approx(1, abs=1e-12)


def test_distance_r2_is_the_correlation_over_all_positions_of_the_longest_words() -> None:
    process = rrxor(0.5, 0.5)
    rows = words(process, 7)
    beliefs = filter_beliefs(process, rows.levels[-1].tokens).filtered.reshape(-1, 5)
    laws = (beliefs @ process.emission_matrix).numpy()
    distances = [scipy.spatial.distance.pdist(part) for part in (beliefs.numpy(), laws)]
    expected = np.corrcoef(*distances)[0, 1] ** 2
    assert distance_r2(rows.filtered, rows.next_token_laws, prefix_counts(rows)) == pytest.approx(expected, abs=1e-12)


def test_sampled_pairs_estimate_the_same(rows) -> None:
    exact = distance_r2(rows.filtered, rows.next_token_laws, prefix_counts(rows))
    drawn = distance_r2(rows.filtered, rows.next_token_laws, prefix_counts(rows), pairs=200_000, seed=1)
    assert drawn == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda x: distance_r2(x, x[:3]), "truth has 3 rows"),
        (lambda x: distance_r2(np.zeros((4, 2)), x), "points: all distances are equal"),
        (lambda x: distance_r2(x, x, np.array([1, -1, 0, 2])), "none negative"),
        (lambda x: distance_r2(np.full((4, 2), np.nan), x), "row 0, column 0"),
        (lambda x: procrustes_residual(x, np.ones((4, 2))), "truth: all rows are equal"),
        (lambda x: principal_angles(x, np.zeros((1, 2))), "other: all vectors are zero"),
        (lambda x: principal_angles(x, np.ones((1, 3))), "other lives in 3 dimensions"),
        (lambda x: dimensions_for(x, 1.5), "share=1.5"),
        (lambda x: correlation_dimension(x, (0.3, 0.1)), "ascending"),
        (lambda x: factor_overlaps(x, {"a": x}), "at least two"),
    ],
)
def test_bad_input_is_one_clear_error(call, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call(rng().normal(size=(4, 2)))


def test_procrustes_residual_is_scipys() -> None:
    x, y = rng(1).normal(size=(2, 40, 3))
    assert procrustes_residual(x, y) == pytest.approx(scipy.spatial.procrustes(y, x)[2], abs=1e-12)


def test_procrustes_forgives_turn_scale_and_shift_but_no_squeeze() -> None:
    x = rng(2).normal(size=(50, 3))
    turn = scipy.linalg.qr(rng(3).normal(size=(5, 5)))[0][:3]
    assert procrustes_residual(7 * x @ turn + 2, x) == pytest.approx(0, abs=1e-12)
    squeezed = x * [1, 1, 0]
    assert procrustes_residual(squeezed, x) > 0.1
    repeated = np.repeat(x, 2, axis=0), np.repeat(squeezed, 2, axis=0)
    weights = np.where(np.arange(100) % 2, 0.25, 0.75)
    assert procrustes_residual(*repeated, weights) == pytest.approx(procrustes_residual(x, squeezed), abs=1e-12)


def test_principal_angles_are_scipys_also_for_dependent_rows() -> None:
    one, other = rng(4).normal(size=(2, 9)), rng(5).normal(size=(3, 9))
    expected = np.sort(scipy.linalg.subspace_angles(one.T, other.T))
    assert principal_angles(np.vstack([one, one.sum(axis=0)]), other) == pytest.approx(expected, abs=1e-9)


def test_effective_dimensions_of_known_spectra() -> None:
    points = np.concatenate([np.eye(6), -np.eye(6)]) * np.sqrt([1, 1, 1, 1, 0, 0])
    assert participation_ratio(points) == pytest.approx(4)
    assert dimensions_for(points) == 4 and dimensions_for(points, 0.75) == 3
    spectrum = np.array([8.0, 1.0, 1.0])
    points = np.concatenate([np.eye(3), -np.eye(3)]) * np.sqrt(spectrum)
    assert participation_ratio(points) == pytest.approx(100 / 66)
    assert dimensions_for(points, 0.8) == 1 and dimensions_for(points, 0.81) == 2


def two_factors() -> dict[str, np.ndarray]:
    joint = product([mess3(0.15, 0.6), mess3(0.05, 0.85)])
    rows = words(joint, 3)
    beliefs = rows.filtered.numpy().reshape(-1, 3, 3)
    return {"first": beliefs.sum(axis=2), "second": beliefs.sum(axis=1)}


def test_planted_factors_are_found_orthogonal_or_not() -> None:
    factors = two_factors()
    axes = scipy.linalg.qr(rng(6).normal(size=(12, 12)))[0]
    apart = factors["first"] @ axes[:3] + factors["second"] @ axes[3:6]
    found = factor_overlaps(apart, factors).iloc[0]
    assert found.overlap == pytest.approx(0, abs=1e-12) and found.smallest_angle == pytest.approx(90)
    assert (found.dimension_one, found.dimension_other) == (2, 2) and found.chance == pytest.approx(2 / 12)
    # the same axes for both; factors' coordinates live in the plane that sums to zero, and the planes agree
    shared = factors["first"] @ axes[:3] + factors["second"] @ axes[:3]
    assert factor_overlaps(shared, factors).iloc[0].overlap == pytest.approx(1)


def test_encoding_directions_are_least_squares() -> None:
    beliefs, features = rng(8).dirichlet(np.ones(3), size=60), rng(9).normal(size=(60, 4))
    fitted = (beliefs - beliefs.mean(axis=0)) @ encoding_directions(features, beliefs) + features.mean(axis=0)
    expected = np.c_[beliefs, np.ones(60)] @ np.linalg.lstsq(np.c_[beliefs, np.ones(60)], features, rcond=None)[0]
    assert np.allclose(fitted, expected, atol=1e-10)
    assert len(spanned(encoding_directions(features, beliefs))) == 2


def sierpinski(count: int, seed: int) -> np.ndarray:
    corners, digits = np.eye(3), rng(seed).integers(3, size=(count, 24))
    return sum(corners[digits[:, k]] * 0.5 ** (k + 1) for k in range(24))


@pytest.mark.parametrize(
    ("points", "dimension"),
    [
        (np.linspace(0, 1, 4000)[:, None] * [1, 2], 1.0),
        (np.random.default_rng(0).random((8000, 2)), 2.0),
        (sierpinski(8000, 1), np.log(3) / np.log(2)),
    ],
    ids=["line", "square", "Sierpinski"],
)
def test_correlation_dimension_of_known_sets(points: np.ndarray, dimension: float) -> None:
    found = correlation_dimension(points, (0.01, 0.1))
    assert found.dimension == pytest.approx(dimension, abs=0.08)


def test_beliefs_are_separated_and_their_laws_are_not(rows) -> None:
    beliefs, laws = rows.filtered.numpy(), rows.next_token_laws.numpy()
    exact = separation(beliefs, rows)
    # brute force over pairs of words: half the mean squared distance is a variance; equal beliefs need no halves
    _, names, counts = np.unique(beliefs.round(9), axis=0, return_inverse=True, return_counts=True)
    mass = 1 / np.bincount(rows.lengths)[rows.lengths] * (counts[names.ravel()] >= 2)
    pairs = np.outer(mass, mass) / mass.sum() ** 2 * scipy.spatial.distance.cdist(beliefs, beliefs, "sqeuclidean") / 2
    same = (scipy.spatial.distance.cdist(laws, laws) < 1e-9) * 1.0
    within = (pairs * same / (same @ mass / mass.sum())[:, None]).sum()
    assert exact.spread < 1e-9 and exact.explained == pytest.approx(1)
    assert exact.share == pytest.approx(within / pairs.sum(), abs=1e-9)
    assert separation(laws, rows).share == pytest.approx(0, abs=1e-9)
    assert separation(7 * beliefs + 3, rows).share == pytest.approx(exact.share)


def test_separation_is_not_fooled_by_noise_or_shuffles(rows) -> None:
    laws = rows.next_token_laws.numpy()
    noisy = np.concatenate([laws, 0.3 * rng(1).normal(size=(len(laws), 20))], axis=1)
    found = [separation(noisy, rows, seed=seed).share for seed in range(5)]
    assert abs(np.mean(found)) < 0.1
    assert abs(separation(rows.filtered, rows, shuffled=True).share) < 0.05
    chance = [separation(noisy[:, 2:], rows, splits=100, seed=seed, shuffled=True).explained for seed in range(5)]
    assert abs(np.mean(chance)) < 3 * np.std(chance) / 5**0.5 + 1e-3  # draws without replacement would be below 0
    planted = np.concatenate([rows.filtered.numpy(), 0.3 * rng(2).normal(size=(len(laws), 20))], axis=1)
    assert separation(planted, rows).share == pytest.approx(separation(rows.filtered, rows).share, abs=0.1)


def test_where_the_law_is_the_belief_there_is_nothing_to_separate() -> None:
    rows = words(mess3(0.05, 0.85), 4)
    with pytest.raises(ValueError, match="nothing to separate"):
        separation(rows.filtered, rows)
    with pytest.raises(ValueError, match="there are 1046 words"):
        separation(torch.zeros(3, 2), words(rrxor(0.5, 0.5), 10))
