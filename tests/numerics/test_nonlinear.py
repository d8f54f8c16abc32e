"""Beliefs planted where no linear map finds them, and where nothing is."""

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import Ridge

from pcnet.probing import (
    AdditiveHistory,
    ControlBank,
    LinearProbe,
    NonlinearProbe,
    PresenceCheck,
    Protocol,
    Subject,
    probe,
    reservoir,
)
from pcnet.probing.regression.nonlinear import held_out_r2
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


def ask(features, num_others=1, banks=(), estimator=BENT):
    return PresenceCheck(with_features(None), num_others, estimator=estimator).ask(features, banks)


def test_planted_trap_is_present_and_not_linear():
    present, comparisons = ask(random_signs(), num_others=3)
    gains = {each.control: each.gain for each in comparisons}
    assert present and list(gains) == ["linear probe", "additive_history", "shuffled"]
    assert gains["linear probe"] > 0.5 and min(gains.values()) > 0
    assert comparisons[-1].p_value == 1 / 4  # ahead of three permutations


@pytest.mark.slow
def test_planted_trap_at_full_strength():
    networks = [reservoir(POPULATION, 8, 0.9, np.random.default_rng(seed)) for seed in range(19)]
    banks = [ControlBank("networks", networks)]
    present, comparisons = ask(random_signs(), 19, banks, NonlinearProbe())
    assert present and [each.p_value for each in comparisons[2:]] == [0.05, 0.05]


def test_embedded_belief_is_no_gain_of_a_nonlinear_probe():
    features = BELIEFS @ np.random.default_rng(0).standard_normal((5, 8))
    present, comparisons = ask(features)
    assert not present and len(comparisons) == 1 and comparisons[0].gain < 0.001


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_holds_nothing(seed):
    noise = np.random.default_rng(seed).standard_normal((len(BELIEFS), 8))
    assert not ask(noise)[0]


def test_the_tokens_themselves_hold_nothing_beyond_themselves():
    # one-hot history names the word, so a flexible probe could compute the belief from it: that is no evidence
    assert not ask(AdditiveHistory().features(with_features(None)))[0]


def test_untrained_networks_hold_nothing_beyond_other_untrained_networks():
    # a nonlinear probe reads more from remembered words than from the tokens: only other networks show that
    states = [reservoir(POPULATION, 12, 0.9, np.random.default_rng(seed)) for seed in range(4)]
    present, comparisons = ask(states[2], 3, [ControlBank("networks", [*states[:2], states[3]])])
    assert not present
    assert [each.control for each in comparisons] == ["linear probe", "additive_history", "networks"]
    assert comparisons[1].gain > 0.1 and comparisons[2].gain <= 0


def test_linear_estimator_scores_as_the_protocol_does():
    features = np.random.default_rng(0).standard_normal((len(BELIEFS), 6)) + BELIEFS[:, :1]
    whole = with_features(features)
    theirs = probe(features, BELIEFS, POPULATION, QUICK, offsets=(True,))
    (expected,) = theirs[(theirs["position"] == "all") & (theirs["weights"] == "equal")]["r2"]
    assert held_out_r2(LinearProbe(QUICK.alphas), whole.data(features), QUICK) == pytest.approx(expected, abs=1e-9)


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
