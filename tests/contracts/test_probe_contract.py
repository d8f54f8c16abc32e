"""What every control promises, and scikit-learn's contract for the probe."""

import inspect

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import pcnet.probing as probing
from pcnet.probing import (
    AdditiveHistory,
    ConstrainedBelief,
    Control,
    FeatureControl,
    LastToken,
    LastTokensTable,
    LinearProbe,
    MarkovApproximation,
    ModelSoftmax,
    NextTokenLaw,
    NonlinearProbe,
    PartitionControl,
    PrincipalComponentProbe,
    Protocol,
    RandomSubspace,
    Shuffled,
    ShuffledBeliefs,
    ShuffledEverywhere,
    ShuffledKeepingLastToken,
    Subject,
    control_population_r2,
    probe,
    score_control,
)
from pcnet.processes import rrxor, words

QUICK = Protocol(fold_seeds=(0, 1), alphas=(1e-6, 1e-3, 1.0))


CONTROLS = [
    NextTokenLaw(),
    LastToken(),
    AdditiveHistory(),
    ConstrainedBelief(),
    ModelSoftmax(),
    RandomSubspace(),
    LastTokensTable(2),
    MarkovApproximation(2),
    ShuffledBeliefs(num_permutations=5),
    ShuffledEverywhere(num_permutations=5),
    ShuffledKeepingLastToken(num_permutations=5),
]
ABSTRACT = {Control, FeatureControl, PartitionControl, Shuffled}


def expected_failures(_estimator):
    return {
        "check_sample_weight_equivalence_on_dense_data": (
            "a row repeated k times may land in several folds, a row of weight k in one; so the folds, and with them "
            "the penalty, differ. Rows of weight zero are the same as no rows: test_rows_of_weight_zero_do_not_exist"
        )
    }


@parametrize_with_checks(
    [
        LinearProbe(),
        LinearProbe(fit_intercept=False),
        PrincipalComponentProbe(),
        PrincipalComponentProbe(fit_intercept=False),
        NonlinearProbe(landmarks=20),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"cv": 1}, "cv=1"), ({"cv": 9}, "cv=9"), ({"alphas": (1.0, 0.5)}, "alphas")],
)
def test_probe_refuses_impossible_settings_when_fitted(arguments, message):
    x = np.random.default_rng(0).standard_normal((8, 2))
    with pytest.raises(ValueError, match=message):
        LinearProbe(**arguments).fit(x, x)


def test_probe_refuses_folds_that_do_not_match():
    x = np.random.default_rng(0).standard_normal((8, 2))
    for folds in (np.arange(7) % 2, np.arange(8) / 2):
        with pytest.raises(ValueError, match="folds has shape"):
            LinearProbe().fit(x, x, folds=folds)
    with pytest.raises(ValueError, match="at least 2"):
        LinearProbe().fit(x, x, folds=np.zeros(8, dtype=int))


@pytest.fixture(scope="module")
def subject():
    population = words(rrxor(), 6)
    random = np.random.default_rng(0)
    features = random.standard_normal((population.num_words, 7)).astype(np.float32)
    return Subject(rrxor(), population, population.filtered, features, features[:, :2])


def test_every_public_control_is_under_test():
    public = {value for value in vars(probing).values() if inspect.isclass(value) and issubclass(value, Control)}
    assert public - ABSTRACT == {type(control) for control in CONTROLS}
    assert len({control.name for control in CONTROLS}) == len(CONTROLS)


def test_classes_are_abstract_or_final():
    for kind in ABSTRACT:
        with pytest.raises(TypeError, match="abstract"):
            kind()
    for control in CONTROLS:
        assert not type(control).__subclasses__()


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_control_scores_in_the_rows_of_the_model(control, subject):
    population = subject.words
    model = probe(subject.features, subject.targets, population, QUICK)
    scores = score_control(control, subject, QUICK)
    assert list(scores.dtypes.items()) == list(model.dtypes.items())
    keys = ["offset", "position", "weights", "fold_seed", "rows", "n_eff"]
    if isinstance(control, LastTokensTable):
        assert scores.empty  # it can't predict an unseen ending
    else:
        assert scores[keys].equals(model[keys])
        assert scores[scores["position"] == "all"]["r2"].max() <= 1


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_control_moves_targets_only_between_words_of_one_cell(control, subject):
    order, cells = control.orders(subject.words), control.cells(subject)
    if order.shape[1] == 1:
        np.testing.assert_array_equal(order[:, 0], np.arange(subject.words.num_words))
    else:
        assert (cells[order] == cells[:, None]).all() and (
            np.sort(order, axis=0) == np.sort(order, axis=0)[:, :1]
        ).all()


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_control_depends_on_nothing_but_its_arguments(control, subject):
    assert score_control(control, subject, QUICK).equals(score_control(control, subject, QUICK))


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_population_value_bounds_any_fit_on_the_population(control, subject):
    value = control_population_r2(control, subject)
    if isinstance(control, Shuffled):
        assert np.isnan(value)  # in sample, it measures nothing but the number of features
        return
    assert 0 <= value <= 1 + 1e-12
    if control.held_out:
        features, weights = np.asarray(control.features(subject)), subject.words.probabilities.numpy()
        assert features.shape[0] == subject.words.num_words
        fitted = LinearProbe().fit(features, subject.targets.numpy(), weights)
        assert fitted.score(features, subject.targets.numpy(), weights) <= value + 1e-9


@pytest.mark.parametrize(
    ("control", "missing"),
    [
        (ModelSoftmax(), "logits"),
        (RandomSubspace(), "features"),
        (ShuffledBeliefs(), "features"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_controls_say_what_they_need_of_the_model(control, missing):
    population = words(rrxor(), 4)
    with pytest.raises(ValueError, match=f"{missing}=None"):
        score_control(control, Subject(rrxor(), population, population.filtered), QUICK)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LastTokensTable(0), "num_tokens=0"),
        (lambda: ShuffledBeliefs(num_permutations=0), "num_permutations=0"),
        (lambda: MarkovApproximation(0), "order=0"),
    ],
)
def test_impossible_controls_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
