"""Spectrum, correlations, exponents and dimension against closed forms, numpy's eigenvalues and the decay of the floors."""

import math

import numpy as np
import pytest
import torch

from pcnet.processes import (
    GeneralizedHiddenMarkovModel,
    HiddenMarkovModel,
    autocorrelation,
    coin,
    even,
    golden_mean,
    lyapunov_exponents,
    mess3,
    mixed_state_dimension,
    mixed_state_presentation,
    myopic_entropies,
    rrxor,
    sample,
    spectrum,
    z1r,
)
from pcnet.processes.information.group_inverse import apply_group_inverse


def source(p: float, q: float) -> HiddenMarkovModel:
    return HiddenMarkovModel([[[1 - p, p], [0, 1 - q]], [[0, 0], [q, 0]]])


@pytest.mark.parametrize(
    "process, slowest, index, depth",
    [
        (coin(), None, 0, 0),
        (golden_mean(), 0, 1, 1),
        (z1r(), 0, 3, 3),
        # two 1s leave the share p of the histories in which the parity of a block is open
        (even(), 0.5**0.5, 0, 2 / math.log(2)),
        (even(0.2), 0.2**0.5, 0, -2 / math.log(0.2)),
    ],
)
def test_depth_of_the_search(process, slowest, index, depth):
    found = spectrum(process)
    assert (found.slowest if slowest is None else abs(found.slowest)) == pytest.approx(slowest)
    assert (found.index, found.depth) == (index, pytest.approx(depth))


@pytest.mark.parametrize("process", [coin(), golden_mean(), golden_mean(0.2), even(0.3), z1r(), rrxor()])
def test_eigenvalues_are_those_of_the_transition_matrix(process):
    found = spectrum(process)
    matrix = mixed_state_presentation(process).transition.numpy()
    moments = [np.trace(np.linalg.matrix_power(matrix, k)) for k in range(1, 2 * len(matrix))]
    values = found.eigenvalues.numpy()
    assert [(values**k).sum() for k in range(1, 2 * len(matrix))] == pytest.approx(moments, abs=1e-12)
    assert (np.diff(np.abs(values)) <= 1e-12).all()
    assert np.abs(values[found.transient.numpy()]).max(initial=0) < 1


def test_zeros_are_zeros():
    # thirty-six states of which a Jordan block would smear the zeros over a disc
    values = spectrum(rrxor()).eigenvalues.abs()
    assert ((values == 0) | (values > 0.1)).all()
    # four tokens, each announcing the next by another mixture of two laws
    mixture, laws = (
        np.array([[1, 0], [0.7, 0.3], [0.2, 0.8], [0, 1]]),
        np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.1, 0.4, 0.1]]),
    )
    matrices = np.stack([np.outer((mixture @ laws)[:, token], np.eye(4)[token]) for token in range(4)])
    found = spectrum(matrices)
    assert (found.slowest, found.index, found.depth) == (0, 1, 1)
    assert int((found.eigenvalues[~found.transient] == 0).sum()) == 2


@pytest.mark.parametrize("process", [even(), even(0.3), rrxor()])
def test_floors_fall_at_the_slowest_rate(process):
    presentation = mixed_state_presentation(process)
    row, floors = torch.zeros(len(presentation), dtype=torch.float64), []
    row[0] = 1
    for _ in range(40):
        floors.append(float(row @ torch.special.entr(presentation.probabilities).sum(1)))
        row = row @ presentation.transition
    rate = float(presentation.stationary_distribution @ torch.special.entr(presentation.probabilities).sum(1))
    early, late = floors[24] - rate, floors[36] - rate
    assert (late / early) ** (1 / 12) == pytest.approx(abs(spectrum(process).slowest), rel=0.02)
    assert floors[:9] == pytest.approx(myopic_entropies(process, 8).tolist(), abs=1e-12)


def test_the_group_inverse_is_one():
    rng = np.random.default_rng(0)
    for process in (golden_mean(0.3), even(), z1r(), rrxor()):
        presentation = mixed_state_presentation(process)
        matrix, values = presentation.transition.numpy(), rng.normal(size=len(presentation))
        residual = np.eye(len(matrix)) - matrix
        long_run = sum(np.linalg.matrix_power(matrix, 3000 + k) for k in range(6)) / 6  # periods 1, 2, 3 and 6
        found = apply_group_inverse(presentation, values)
        assert residual @ found == pytest.approx(values - long_run @ values, abs=1e-12)
        assert long_run @ found == pytest.approx(np.zeros(len(matrix)), abs=1e-12)
        explicit = np.linalg.inv(residual + long_run) - long_run
        assert found == pytest.approx(explicit @ values, abs=1e-11)


def test_no_spectrum_of_what_is_not_closed():
    with pytest.raises(ValueError, match="the spectrum of the mixed states needs all mixed states"):
        spectrum(mess3(), max_states=500)
    assert not spectrum(source(0.3, 0.6)).closed


# Correlations


def test_a_two_state_chain_correlates_geometrically():
    stay = 0.8
    chain = [[[stay, 0], [1 - stay, 0]], [[0, 1 - stay], [0, stay]]]
    expected = [(2 * stay - 1) ** k for k in range(6)]
    for values in (None, [1, -1], [[0, 5], [3, 1]]):
        assert autocorrelation(chain, 5, values).tolist() == pytest.approx(expected, abs=1e-14)
    assert autocorrelation(coin(0.3), 4).tolist() == pytest.approx([1, 0, 0, 0, 0], abs=1e-14)


def test_correlations_of_a_long_sample():
    for process in (even(), mess3(), z1r()):
        numbers = np.arange(process.vocab_size) ** 2 + 1.0
        series = numbers[sample(process, 4000, 100, torch.Generator().manual_seed(0)).numpy()]
        series = series - series.mean()
        lags = [np.mean(series[:, : 100 - k] * series[:, k:]) / np.mean(series**2) for k in range(8)]
        assert autocorrelation(process, 7, numbers).tolist() == pytest.approx(lags, abs=0.01)


def test_correlations_need_no_states():
    basis = torch.tensor([[2.0, 1, 0], [0, -1, 1], [1, 0, 3]], dtype=torch.float64)
    moved = torch.linalg.inv(basis) @ mess3().transition_matrices @ basis
    process = GeneralizedHiddenMarkovModel(moved, torch.linalg.inv(basis).sum(1))
    torch.testing.assert_close(autocorrelation(process, 9), autocorrelation(mess3(), 9))


@pytest.mark.parametrize(
    "values, message",
    [
        ([1, 1], "all tokens that this process emits have the same value"),
        ([1, 2, 3], r"a number or vector for each of 2 tokens, got \(3,\)"),
        ([1, math.inf], r"values\[1, 0\] must be finite|values\[1\] must be finite"),
    ],
)
def test_values_that_say_nothing_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        autocorrelation(even(), 3, values)


# Exponents and dimension


def test_exponents_of_mess3_add_up():
    """``lambda_1 + lambda_2 = E log |det|`` of the maps, which is ``log(det T[x]) + 3 h``, the same for all tokens."""
    exponents = lyapunov_exponents(mess3())
    determinant = float(torch.linalg.det(mess3().transition_matrices[0]))
    total = math.log(determinant) + 3 * float(myopic_entropies(mess3(), 9)[9])
    error = math.hypot(*(exponent.standard_error for exponent in exponents)) * 2
    assert abs(sum(exponents) - total) < 4 * error
    assert exponents[0] > exponents[1]


def test_dimension_of_mess3_as_published():
    found = mixed_state_dimension(mess3())
    assert round(found, 2) == 0.52
    assert 0 < found.standard_error < 0.005
    assert found.low < 0.5203 < found.high


def test_one_dimensional_maps():
    # two tokens, two states: the only exponent is E log |derivative| = sum_x p_x log(det T[x] / p_x^2), det constant
    p, a = 0.1, 0.8
    chain = np.array([[1 - p, p], [p, 1 - p]])
    matrices = np.stack([chain * [a, 1 - a], chain * [1 - a, a]])
    (exponent,) = lyapunov_exponents(matrices)
    rate = float(myopic_entropies(matrices, 14)[14])
    expected = math.log(abs(np.linalg.det(matrices[0]))) + 2 * rate
    assert abs(exponent - expected) < 4 * exponent.standard_error
    assert mixed_state_dimension(matrices) == pytest.approx(min(rate / -expected, 1), abs=0.02)


def test_countably_many_beliefs_have_no_dimension():
    assert lyapunov_exponents(source(0.3, 0.6)) == (-math.inf,)
    assert mixed_state_dimension(source(0.3, 0.6)) == 0
    for process in (coin(), golden_mean(), rrxor(), rrxor(0.3, 0.6)):
        found = mixed_state_dimension(process)
        assert (found, found.exact) == (0, True)


def test_exponents_are_the_same_in_every_basis():
    basis = torch.tensor([[2.0, 1, 0], [0, -1, 1], [1, 0, 3]], dtype=torch.float64)
    moved = torch.linalg.inv(basis) @ mess3().transition_matrices @ basis
    process = GeneralizedHiddenMarkovModel(moved, torch.linalg.inv(basis).sum(1))
    for found, expected in zip(lyapunov_exponents(process), lyapunov_exponents(mess3())):
        assert abs(found - expected) < 4 * math.hypot(found.standard_error, expected.standard_error)


def test_two_processes_have_no_common_exponents():
    first, second = mess3().transition_matrices, mess3(0.1, 0.7).transition_matrices
    matrices = torch.stack([torch.block_diag(a, b) for a, b in zip(first, second)])
    both = HiddenMarkovModel(matrices, initial=[1 / 6] * 6)
    with pytest.raises(ValueError, match="the process has 2 ergodic parts"):
        lyapunov_exponents(both)
    assert mixed_state_dimension(both, max_states=1000) == max(
        mixed_state_dimension(part, max_states=1000) for part in (mess3(), mess3(0.1, 0.7))
    )
