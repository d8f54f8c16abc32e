"""Beliefs planted where no linear map finds them, and where nothing is."""

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import Ridge

from pcnet.probing import (
    AdditiveHistory,
    LinearProbe,
    NonlinearProbe,
    Presence,
    Protocol,
    Subject,
    check_presence,
    probe,
    probe_with,
)
from pcnet.processes import rrxor, words

QUICK = Protocol(fold_seeds=(0,))
BENT = NonlinearProbe(landmarks=60, widths=(0.3, 0.6))
POPULATION = words(rrxor(), 8)
BELIEFS = POPULATION.filtered.numpy()


def with_features(features):
    return Subject(rrxor(), POPULATION, BELIEFS, features)


def random_signs():
    """The belief times a sign that each row draws: linear maps see nothing, since belief and minus belief cancel."""
    random = np.random.default_rng(0)
    embedding = np.linalg.qr(random.standard_normal((8, 5)))[0].T
    signs = random.choice([-1.0, 1.0], (len(BELIEFS), 1))
    return signs * BELIEFS @ embedding + 0.005 * random.standard_normal((len(BELIEFS), 8))


def test_planted_trap_is_present_and_not_linear():
    check = check_presence(with_features(random_signs()), QUICK, BENT, num_permutations=3)
    assert check.linear.features < 0.05
    assert check.answer is Presence.NOT_LINEAR
    assert check.nonlinear.features > check.nonlinear.history + 0.1
    assert str(check).startswith("present, not linear\nlinear: R2 ")


@pytest.mark.slow
def test_planted_trap_at_full_strength():
    check = check_presence(with_features(random_signs()))
    assert check.answer is Presence.NOT_LINEAR and check.num_permutations == 19
    assert check.nonlinear.features > 0.8


def test_embedded_belief_is_linear():
    features = BELIEFS @ np.random.default_rng(0).standard_normal((5, 8))
    check = check_presence(with_features(features), QUICK, BENT, num_permutations=1)
    assert check.answer is Presence.LINEAR and check.linear.features > 0.999


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_holds_nothing(seed):
    noise = np.random.default_rng(seed).standard_normal((len(BELIEFS), 8))
    assert check_presence(with_features(noise), QUICK, BENT, num_permutations=1).answer is Presence.ABSENT


def test_the_tokens_themselves_hold_nothing_beyond_themselves():
    # one-hot history names the word, so what bends enough could compute the belief from it: that is no evidence
    history = AdditiveHistory().features(with_features(None))
    check = check_presence(with_features(history), QUICK, BENT, num_permutations=1)
    assert check.answer is Presence.ABSENT


def test_linear_estimator_scores_as_the_protocol_does():
    features = np.random.default_rng(0).standard_normal((len(BELIEFS), 6)) + BELIEFS[:, :1]
    whole = with_features(features)
    ours = probe_with(LinearProbe(QUICK.alphas), features, whole, QUICK).set_index("weights")
    theirs = probe(features, BELIEFS, POPULATION.lengths, POPULATION.probabilities, QUICK, offsets=(True,))
    theirs = theirs[theirs["position"] == "all"].set_index("weights")
    for name in ("r2", "rmse", "rows", "n_eff", "features"):
        np.testing.assert_allclose(ours[name], theirs[name].loc[ours.index], atol=1e-9)


def test_probe_is_ridge_on_features_and_gaussian_bumps():
    random = np.random.default_rng(0)
    x, w = random.standard_normal((80, 3)) * [1, 5, 0.2] + [0, 3, 1], random.uniform(0.1, 2, 80)
    y = np.sin(x[:, :2]) + 0.1 * random.standard_normal((80, 2))
    probe = NonlinearProbe(landmarks=12, widths=(0.6,), alphas=(1e-3,)).fit(x, y, w)
    centre = np.average(x, axis=0, weights=w)
    z = (x - centre) / np.sqrt(np.average((x - centre) ** 2, axis=0, weights=w))
    marks = z[np.random.default_rng(0).permutation(80)[:12]]
    apart = [((a - b) ** 2).sum() for i, a in enumerate(marks) for b in marks[i + 1 :]]
    inputs = np.concatenate([z, RBF(0.6 * np.sqrt(np.median(apart)))(z, marks)], axis=1)
    mean = np.average(inputs, axis=0, weights=w)
    inputs = (inputs - mean) / np.sqrt(np.average((inputs - mean) ** 2, axis=0, weights=w))
    top = np.linalg.eigvalsh(inputs.T @ (w[:, None] * inputs))[-1]
    expected = Ridge(1e-3 * top, solver="svd").fit(inputs, y, sample_weight=w).predict(inputs)
    np.testing.assert_allclose(probe.predict(x), expected, atol=1e-8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"landmarks": 0}, "landmarks=0"), ({"widths": ()}, "widths="), ({"widths": (1.0, 0.0)}, "widths=")],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NonlinearProbe(**arguments).fit(torch.randn(20, 2).numpy(), np.arange(20.0))
