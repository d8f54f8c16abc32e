"""What is computed once for many scores: shuffles fitted together, masses by pieces, targets in fewer columns."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import pdist

from pcnet.probing import (
    ShuffledBeliefs,
    ShuffledEverywhere,
    ShuffledKeepingLastToken,
    Subject,
    permutation_scores,
    probe,
    score_control,
)
from pcnet.probing.controls.scoring import percentiles
from pcnet.probing.regression.moments import CHUNK_ROWS, WIDE, Design, measure
from pcnet.probing.regression.principal import PANEL, principal_coordinates
from pcnet.probing.regression.protocol import DEFAULT_PROTOCOL
from pcnet.probing.regression.ridge import ridge_path
from pcnet.probing.regression.scoring import Mass
from pcnet.processes import mess3, rrxor, words

KINDS = (ShuffledBeliefs, ShuffledEverywhere, ShuffledKeepingLastToken)


@pytest.fixture(scope="module")
def subject() -> Subject:
    rows = words(rrxor(), 6)
    features = np.random.default_rng(0).standard_normal((rows.num_words, 7))
    return Subject(rrxor(), rows, rows.filtered, features)


def test_shuffles_score_together_as_they_do_alone(subject: Subject) -> None:
    shuffles = [kind(number + 3, seed=number) for number, kind in enumerate(KINDS)]
    protocol = replace(DEFAULT_PROTOCOL, fold_seeds=(0, 1))
    together = permutation_scores(shuffles, subject, protocol, (True, False))
    assert list(together) == [each.name for each in shuffles]
    for each in shuffles:
        alone = score_control(each, subject, protocol, (True, False))
        pd.testing.assert_frame_equal(percentiles(together[each.name]), alone, rtol=1e-9)


def test_fewer_columns_keep_the_scores_of_all_of_them(subject: Subject) -> None:
    """Beliefs in 5 columns, and each permutation as a regression of its own, which sees all 5."""
    shuffle, protocol = ShuffledBeliefs(3), replace(DEFAULT_PROTOCOL, fold_seeds=(0,))
    found = permutation_scores([shuffle], subject, protocol, (True, False))["shuffled"]
    for number, order in enumerate(shuffle.orders(subject.words).T):
        alone = subject.words.filtered[torch.as_tensor(order)]
        expected = probe(subject.features, alone, subject.words, protocol, (True, False))
        mine = found[found["replicate"] == number].reset_index(drop=True)
        np.testing.assert_allclose(mine[["r2", "rmse"]], expected[["r2", "rmse"]], rtol=1e-9)
        np.testing.assert_array_equal(mine["alpha"], expected["alpha"])


@pytest.mark.parametrize("centred", [True, False])
def test_principal_coordinates_keep_distances(centred: bool) -> None:
    beliefs = words(mess3(), 4).filtered.numpy()
    found = principal_coordinates(beliefs, centred)
    assert found.shape[1] == (2 if centred else 3)  # beliefs sum to 1, so they vary in two directions
    np.testing.assert_allclose(pdist(found), pdist(beliefs), atol=1e-12)
    if not centred:
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.linalg.norm(beliefs, axis=1))
    assert not principal_coordinates(np.full((9, 2), 0.3)).any()


def test_masses_by_pieces_are_those_of_the_whole() -> None:
    """More rows than a chunk; the dense matrix with a column per weighting and place is the oracle."""
    random = np.random.default_rng(0)
    num_rows = 2 * CHUNK_ROWS + 5
    weights, place = random.random((num_rows, 2)), random.integers(-1, 3, num_rows)
    dense = np.zeros((num_rows, 8))
    for row in range(num_rows):
        for weighting in range(2):
            if place[row] >= 0:
                dense[row, 4 * weighting] = weights[row, weighting]
                dense[row, 4 * weighting + 1 + place[row]] = weights[row, weighting]
    mass = Mass(weights, place, 3)
    chosen = random.permutation(num_rows)[:50]
    np.testing.assert_array_equal(mass.of(chosen), dense[chosen])
    for power in (1, 2):
        np.testing.assert_allclose(mass.total(power), (dense**power).sum(axis=0))
    np.testing.assert_array_equal(Mass.single(weights[:, 0]).of(chosen)[:, 0], weights[chosen, 0])


def test_threads_change_no_score() -> None:
    """Wide features are worked on by threads; the same numbers as by one."""
    rows, random = words(rrxor(), 6), np.random.default_rng(0)
    wide = Subject(rrxor(), rows, rows.filtered, random.standard_normal((rows.num_words, WIDE)))
    before = torch.get_num_threads()
    tables = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            tables.append(permutation_scores([ShuffledBeliefs(3)], wide, DEFAULT_PROTOCOL, (True,))["shuffled"])
    finally:
        torch.set_num_threads(before)
    pd.testing.assert_frame_equal(*tables, rtol=1e-9)


def test_the_quadratic_form_by_panels() -> None:
    """Errors from moments, for features that fill several panels, against the residuals themselves."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((400, 2 * PANEL + 9)), random.standard_normal((400, 3))
    design, weights = Design.single(x, y), random.random(400)
    fitted, judged = (measure(design, weights, rows, design.centre()) for rows in np.split(np.arange(400), 2))
    path = ridge_path(fitted, (1e-6, 1e-2, 1.0), fit_intercept=True)
    for coef, intercept, errors in zip(path.coef, path.intercept, path.squared_errors(judged), strict=True):
        residual = y[200:] - x[200:] @ coef - intercept
        np.testing.assert_allclose(errors, weights[200:] @ residual**2, rtol=1e-10)
