"""The default protocol: against a plain implementation, on planted features, and for leaks."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error, r2_score

from pcnet.probing import (
    LinearProbe,
    Protocol,
    WeightedRows,
    decode,
    effective_sample_size,
    population_r2,
    probability_weights,
    probe,
)
from pcnet.processes import coin, golden_mean, mess3, rrxor, words

QUICK = Protocol(fold_seeds=(0,), alphas=tuple(10.0 ** np.arange(-9, 3)))


def rows_of(process, length):
    """Beliefs, lengths and probabilities of all words, as numpy."""
    population = words(process, length)
    return population.filtered.numpy(), population.lengths.numpy(), population.probabilities.numpy()


def overall(scores, offset=True):
    """R2 at all positions together, by weighting."""
    chosen = scores[(scores["position"] == "all") & (scores["offset"] == offset)]
    return chosen.groupby("weights")["r2"].median()


def plain_fit(x, y, w, folds, alphas, offset):
    """Standardise, choose the penalty on the folds, refit: each step by scikit-learn on explicit rows."""

    def fitted(inside, alpha):
        centre = np.average(x[inside], axis=0, weights=w[inside]) * offset
        scale = np.sqrt(np.average((x[inside] - centre) ** 2, axis=0, weights=w[inside]))
        z = (x - centre) / scale
        top = np.linalg.eigvalsh(z[inside].T @ (w[inside, None] * z[inside]))[-1]
        ridge = Ridge(alpha * top, fit_intercept=offset, solver="svd")
        return ridge.fit(z[inside], y[inside], sample_weight=w[inside]).predict(z)

    def loss(alpha, fold):
        held = folds == fold
        inside = (folds != fold) & (folds != -2)
        return w[held] @ ((y[held] - fitted(inside, alpha)[held]) ** 2).sum(axis=1)

    losses = [sum(loss(alpha, fold) for fold in np.unique(folds[folds >= 0])) for alpha in alphas]
    return fitted(folds != -2, alphas[int(np.argmin(losses))])


@pytest.mark.parametrize("offset", [True, False])
def test_protocol_equals_a_plain_implementation(offset):
    y, lengths, probabilities = rows_of(rrxor(), 6)
    x = np.random.default_rng(0).standard_normal((len(y), 5)) + y @ np.random.default_rng(1).standard_normal((5, 5))
    protocol = Protocol(fold_seeds=(3,), alphas=(1e-6, 1e-4, 1e-2, 1.0), min_position_words=10)
    folds = protocol.folds(lengths, 3)
    assert set(folds[lengths <= 3]) == {-1}
    assert sorted(set(folds[lengths > 3])) == [0, 1, 2, 3, 4]
    counts = np.bincount(lengths)
    w = np.array([1 / counts[n] for n in lengths])
    predicted = np.empty_like(y)
    for fold in range(5):
        fit = plain_fit(x, y, w, np.where(folds == fold, -2, folds), protocol.alphas, offset)
        predicted[folds == fold] = fit[folds == fold]
    scores = probe(x, y, WeightedRows(lengths, probabilities), protocol, offsets=(offset,))
    for weights, mass in {"equal": w, "probability": probabilities}.items():
        for position, inside in {"all": lengths >= 4, "5": lengths == 5, "6": lengths == 6}.items():
            (row,) = scores[(scores["weights"] == weights) & (scores["position"] == position)].itertuples()
            expected = r2_score(
                y[inside], predicted[inside], sample_weight=mass[inside], multioutput="variance_weighted"
            )
            error = mean_squared_error(y[inside], predicted[inside], sample_weight=mass[inside])
            assert row.r2 == pytest.approx(expected, abs=1e-9)
            assert row.rmse == pytest.approx(np.sqrt(error), abs=1e-9)
            assert row.rows == inside.sum()
            assert row.n_eff == pytest.approx(mass[inside].sum() ** 2 / (mass[inside] ** 2).sum())
            assert row.features == 5


@pytest.mark.parametrize("offset", [True, False])
def test_held_out_predictions_are_those_of_linear_probe(offset):
    y, lengths, probabilities = rows_of(rrxor(), 7)
    x = np.random.default_rng(0).standard_normal((len(y), 8)).astype(np.float32) + y[:, :1].astype(np.float32)
    decoded = decode(x, y, WeightedRows(lengths, probabilities), QUICK, fold_seed=4, fit_intercept=offset)
    folds = QUICK.folds(lengths, 4)
    w = 1.0 / np.bincount(lengths)[lengths]
    for fold in range(5):
        train = folds != fold
        fitted = LinearProbe(QUICK.alphas, offset).fit(x[train], y[train], w[train], folds[train])
        np.testing.assert_allclose(decoded[~train], fitted.predict(x[~train]), atol=1e-10)
        if fold == 0:
            short = lengths <= 3
            np.testing.assert_allclose(decoded[short], fitted.predict(x[short]), atol=1e-10)


def test_no_word_is_decoded_by_a_fit_that_saw_its_target():
    y, lengths, probabilities = rows_of(rrxor(), 6)
    x = np.random.default_rng(0).standard_normal((len(y), 20))
    before = decode(x, y, WeightedRows(lengths, probabilities), QUICK)
    for row in np.flatnonzero(lengths > 3)[::10]:
        changed = y.copy()
        changed[row] += 10.0
        after = decode(x, changed, WeightedRows(lengths, probabilities), QUICK)
        np.testing.assert_allclose(after[row], before[row], atol=1e-9)
        assert np.abs(after - before).max() > 1e-3


def test_features_that_name_the_row_are_worth_nothing():
    y, lengths, probabilities = rows_of(rrxor(), 6)
    scores = overall(probe(np.eye(len(y)), y, WeightedRows(lengths, probabilities), QUICK))
    assert scores.max() < 0.01
    assert population_r2(np.eye(len(y)), y, WeightedRows(lengths, probabilities)) == pytest.approx(1.0)


def test_short_words_are_never_scored():
    y, lengths, probabilities = rows_of(mess3(), 5)
    scores = probe(
        np.random.default_rng(0).standard_normal((len(y), 2)), y, WeightedRows(lengths, probabilities), QUICK
    )
    assert set(scores["position"]) == {"all", "4", "5"}
    assert set(scores[scores["position"] == "all"]["rows"]) == {3**4 + 3**5}


@pytest.mark.parametrize("make", [mess3, rrxor])
@pytest.mark.parametrize("offset", [True, False])
def test_linearly_embedded_beliefs_are_found(make, offset):
    y, lengths, probabilities = rows_of(make(), 7)
    embedding = np.random.default_rng(0).standard_normal((y.shape[1], 24))
    features = (y @ embedding).astype(np.float32)
    assert overall(probe(features, y, WeightedRows(lengths, probabilities), QUICK), offset).min() > 0.999


def test_noise_is_worth_nothing():
    y, lengths, probabilities = rows_of(mess3(), 8)
    for seed in range(3):
        noise = np.random.default_rng(seed).standard_normal((len(y), 32))
        scores = overall(probe(noise, y, WeightedRows(lengths, probabilities), QUICK))
        assert scores.between(-0.05, 0.01).all()


@pytest.mark.parametrize("signal", [0.3, 0.7])
def test_beliefs_in_noise_score_what_the_closed_form_says(signal):
    # y + s e with e of unit variance in the two directions of the simplex: by Mess3's symmetry the variance of y is
    # v in each, so the best linear map explains v / (v + s^2)
    y, lengths, probabilities = rows_of(mess3(), 9)
    weights = np.where(lengths >= 4, 1.0 / np.bincount(lengths)[lengths], 0.0)
    variance = np.average(((y - 1 / 3) ** 2).sum(axis=1), weights=weights) / 2
    noise = np.random.default_rng(0).standard_normal((len(y), 2)) * np.sqrt(variance * (1 - signal) / signal)
    plane = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
    scores = overall(probe(y + noise @ plane, y, WeightedRows(lengths, probabilities), QUICK))
    assert scores["equal"] == pytest.approx(signal, abs=0.03)


def test_one_denominator_with_and_without_offset():
    y, lengths, probabilities = rows_of(rrxor(), 7)
    x = np.random.default_rng(0).standard_normal((len(y), 6)) + y[:, :1]
    scores = probe(x, y, WeightedRows(lengths, probabilities), Protocol(fold_seeds=(0, 1)))
    scores = scores[scores["position"] == "all"]
    scored = lengths >= 4
    for weights, mass in {"probability": probabilities, "equal": 1.0 / np.bincount(lengths)[lengths]}.items():
        mean = np.average(y[scored], axis=0, weights=mass[scored])
        variance = np.average(((y - mean) ** 2).sum(axis=1)[scored], weights=mass[scored])
        rows = scores[scores["weights"] == weights]
        assert len(rows) == 4
        np.testing.assert_allclose(rows["rmse"] ** 2 * y.shape[1] / (1 - rows["r2"]), variance, rtol=1e-9)


def test_positions_with_too_few_words_are_listed_without_a_score():
    y, lengths, probabilities = rows_of(rrxor(), 7)
    scores = probe(y, y, WeightedRows(lengths, probabilities), QUICK, offsets=(True,))
    scores = scores[scores["weights"] == "equal"].set_index("position")
    for length in (4, 5, 6, 7):
        row, count = scores.loc[str(length)], (lengths == length).sum()
        assert row["rows"] == count
        assert np.isnan(row["r2"]) == np.isnan(row["rmse"]) == (count < 50)
    assert scores["r2"].isna().any() and scores["r2"].notna().any()


def test_targets_that_do_not_vary_have_no_score():
    _, lengths, probabilities = rows_of(coin(), 6)
    x, y = np.random.default_rng(0).standard_normal((len(lengths), 2)), np.full((len(lengths), 1), 1 / 3)
    assert probe(x, y, WeightedRows(lengths, probabilities), QUICK)["r2"].isna().all()
    assert np.isnan(population_r2(x, y, WeightedRows(lengths, probabilities)))


def test_edges_of_the_grid_are_flagged():
    y, lengths, probabilities = rows_of(mess3(), 6)
    short = Protocol(fold_seeds=(0,), alphas=(1e-3, 1e-2, 1e-1))
    scores = probe(y, y, WeightedRows(lengths, probabilities), short, offsets=(True,))
    assert scores["alpha_at_edge"].all()
    assert set(scores["alpha"]) == {1e-3}


def test_rows_of_the_table():
    y, lengths, probabilities = rows_of(mess3(), 6)
    scores = probe(y, y, WeightedRows(lengths, probabilities))
    # two offsets, two weightings, five seeds; all positions together and lengths 4, 5, 6
    assert len(scores) == 2 * 2 * 5 * 4
    assert not scores.duplicated(["offset", "position", "weights", "fold_seed"]).any()
    described = ["offset", "position", "weights", "fold_seed"]
    measured = ["r2", "rmse", "rows", "n_eff", "features", "alpha", "alpha_at_edge"]
    assert list(scores.columns) == [*described, *measured, "departures"]
    assert set(scores["departures"]) == {""}


def test_population_value_is_weighted_least_squares_on_all_words():
    y, lengths, probabilities = rows_of(rrxor(), 8)
    x = np.random.default_rng(0).standard_normal((len(y), 4))
    x = np.concatenate([x, x @ np.ones((4, 2)), np.ones((len(y), 1))], axis=1)
    root = np.sqrt(probabilities)[:, None]
    inputs = np.concatenate([x, np.ones((len(y), 1))], axis=1)
    fit = inputs @ np.linalg.lstsq(root * inputs, root * y, rcond=1e-10)[0]
    expected = r2_score(y, fit, sample_weight=probabilities, multioutput="variance_weighted")
    assert population_r2(x, y, WeightedRows(lengths, probabilities)) == pytest.approx(expected, abs=1e-9)


def test_only_ratios_of_probabilities_within_a_length_matter():
    y, lengths, probabilities = rows_of(rrxor(), 6)
    x = np.random.default_rng(0).standard_normal((len(y), 3)) + y[:, :1]
    scaled = probabilities * np.array([0, 1, 5, 2, 3, 0.1, 7])[lengths]
    ours, theirs = (probe(x, y, WeightedRows(lengths, p), QUICK) for p in (scaled, probabilities))
    np.testing.assert_allclose(ours["r2"], theirs["r2"], atol=1e-12)
    np.testing.assert_allclose(ours["n_eff"], theirs["n_eff"], rtol=1e-12)
    assert population_r2(x, y, WeightedRows(lengths, scaled)) == pytest.approx(
        population_r2(x, y, WeightedRows(lengths, probabilities)), abs=1e-12
    )


@pytest.mark.parametrize(
    ("process", "length", "expected"),
    [(rrxor(), 10, 94.29), (mess3(), 7, 67.33), (mess3(), 9, 109), (mess3(), 10, 135), (golden_mean(), 1, 1.8)],
)
def test_effective_sample_size(process, length, expected):
    # reference/probing.md, fact 3; golden mean emits its first token with probabilities 2/3 and 1/3
    _, lengths, probabilities = rows_of(process, length)
    digits = 0.5 if expected > 100 else 0.005
    assert effective_sample_size(probability_weights(lengths, probabilities)) == pytest.approx(expected, abs=digits)


def reservoir(tokens, vocabulary, width, seed):
    """Hidden states of an untrained tanh recurrent network after each prefix."""
    random = np.random.default_rng(seed)
    inward = random.standard_normal((vocabulary, width)) * 0.5
    recurrent = random.standard_normal((width, width)) * 0.4 / np.sqrt(width)
    bias, hidden, states = random.standard_normal(width) * 0.3, np.zeros((len(tokens), width)), []
    for column in tokens.T:
        hidden = np.tanh(inward[column] + hidden @ recurrent + bias)
        states.append(hidden)
    return np.stack(states, axis=1)


def test_untrained_recurrent_network_on_rrxor():
    # reference/probing.md, fact 3: an untrained 64-unit network scores .641-.654
    population = words(rrxor(), 10)
    states = reservoir(population.tokens.numpy(), 2, 64, seed=0)
    features = states[np.arange(len(states)), population.lengths.numpy() - 1]
    scores = probe(features, population.filtered, population, offsets=(True,))
    scores = scores[scores["position"] == "all"]["r2"]
    assert scores.between(0.5, 0.75).all()
    # no lottery: the deal of words to folds hardly matters
    assert scores.max() - scores.min() < 0.06


ARGUMENTS = ("features", "targets", "lengths", "probabilities")


def bad(name, change):
    """The arguments of ``probe`` for Mess3 with one of them spoilt."""
    y, lengths, probabilities = rows_of(mess3(), 5)
    arguments = dict(zip(ARGUMENTS, (y @ np.ones((3, 4)), y.copy(), lengths, probabilities), strict=True))
    arguments |= {name: change(arguments[name])}
    rows = WeightedRows(arguments.pop("lengths"), arguments.pop("probabilities"))
    return arguments | {"rows": rows}


def with_entry(index, value):
    def change(array):
        array = array.copy()
        array[index] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("features", with_entry((7, 2), np.nan), "features holds nan at row 7, column 2"),
        ("features", with_entry((300, 0), -np.inf), "features holds -inf at row 300, column 0"),
        ("features", lambda x: x[:-1], "targets has shape .* features have 362 rows"),
        ("features", lambda x: x[:, 0], "features has shape .* must be a matrix"),
        ("targets", lambda y: y[:-2], "targets has shape .*361.* features have 363 rows"),
        ("targets", with_entry((1, 1), np.nan), "targets holds nan at row 1, column 1"),
        ("lengths", lambda n: n[1:], "lengths has shape"),
        ("lengths", with_entry(5, 0), "lengths holds 0 at row 5; every entry must be at least 1"),
        ("lengths", lambda n: n.astype(float), "lengths has dtype float64"),
        ("lengths", lambda n: np.minimum(n, 3), "lengths: 0 words are longer than always_training_length=3"),
        ("probabilities", with_entry(9, -0.1), "probabilities holds -0.1 at row 9; .* not negative"),
        ("probabilities", with_entry(9, np.nan), "probabilities holds nan at row 9"),
        ("probabilities", with_entry(9, np.inf), "probabilities holds inf at row 9"),
        ("probabilities", lambda p: p[:5], "probabilities has shape"),
        ("probabilities", with_entry(slice(0, 3), 0.0), "those of length 1 add up to 0"),
    ],
)
def test_bad_rows_are_refused_by_name(name, change, message):
    for function in (probe, decode):
        with pytest.raises(ValueError, match=message):
            function(**bad(name, change), protocol=QUICK)


def test_fewer_words_than_folds_are_refused():
    with pytest.raises(ValueError, match="4 words are longer than always_training_length=3; num_folds=5"):
        Protocol().folds(np.array([1, 2, 3, 4, 4, 5, 5]), 0)
    with pytest.raises(ValueError, match="offsets"):
        probe(**bad("features", lambda x: x), offsets=())


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_folds": 2},
        {"always_training_length": -1},
        {"min_position_words": 0},
        {"fold_seeds": ()},
        {"alphas": ()},
        {"alphas": (1.0, 0.1)},
        {"alphas": (0.0, 0.1)},
        {"alphas": (0.1, float("inf"))},
    ],
)
def test_impossible_protocols_are_refused_by_name(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Protocol(**arguments)
