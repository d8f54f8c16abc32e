"""Entropies against published values, brute force and each other; the rank test against what is known of each process."""

import itertools
import math
import pickle

import numpy as np
import pytest
import scipy.special
import torch

from pcnet.processes import (
    GeneralizedHiddenMarkovModel,
    HiddenMarkovModel,
    Quantity,
    coin,
    cryptic_order,
    crypticity,
    entropy_rate,
    epsilon_machine,
    even,
    excess_entropy,
    filter_beliefs,
    golden_mean,
    markov_order,
    mess3,
    mixed_state_presentation,
    myopic_entropies,
    next_token_sufficient,
    rrxor,
    sample,
    statistical_complexity,
    synchronization_information,
    token_log_probabilities,
    transient_information,
    words,
    z1r,
)
from pcnet.processes.information.excess import excess_entropy_by_sum

BIT = math.log(2)


def block_entropies(process: HiddenMarkovModel, max_length: int) -> np.ndarray:
    """H[X_0, ..., X_(L-1)] over every word of length L, its probability a product of matrices."""
    matrices = process.transition_matrices.numpy()
    entropies = []
    for length in range(max_length + 1):
        total = 0.0
        for word in itertools.product(range(process.vocab_size), repeat=length):
            row = process.stationary_distribution.numpy()
            for token in word:
                row = row @ matrices[token]
            probability = row.sum()
            total -= probability * math.log(probability) if probability > 0 else 0
        entropies.append(total)
    return np.array(entropies)


def source(p: float, q: float) -> HiddenMarkovModel:
    """The simple non-unifilar source."""
    return HiddenMarkovModel([[[1 - p, p], [0, 1 - q]], [[0, 0], [q, 0]]])


def side_by_side(first: HiddenMarkovModel, second: HiddenMarkovModel, weight: float) -> HiddenMarkovModel:
    """One of two processes, for ever."""
    pairs = zip(first.transition_matrices, second.transition_matrices, strict=True)
    initial = torch.cat([weight * first.stationary_distribution, (1 - weight) * second.stationary_distribution])
    return HiddenMarkovModel(torch.stack([torch.block_diag(*pair) for pair in pairs]), initial)


def bloch_walk(alpha: float = 1.0, beta: float = math.sqrt(51)) -> GeneralizedHiddenMarkovModel:
    g = 1 / (4 * (alpha**2 + beta**2))
    m, o = (alpha**2 - beta**2) * g, 2 * alpha * beta * g
    walks = [
        [[[0.25, 0, s * o], [0, m, 0], [s * o, 0, 0.25]] for s in (1, -1)],
        [[[0.25, s * o, 0], [s * o, 0.25, 0], [0, 0, m]] for s in (1, -1)],
    ]
    return GeneralizedHiddenMarkovModel([*walks[0], *walks[1]], right=[1, 0, 0], initial=[1, 0, 0])


def moon(alpha: float = math.e, beta: float = 0.5) -> GeneralizedHiddenMarkovModel:
    matrices = np.array(
        [
            np.outer([1, 1, 0], [1, -1, -1]),
            [[alpha, 0, 0], [0, 1, 0], [0, math.log(alpha), 1]],
            [[beta, 0, 0], [0, 1, 0], [0, math.log(beta), 1]],
        ]
    )
    values, vectors = np.linalg.eig(matrices.sum(0))
    k = int(np.argmax(np.abs(values)))
    return GeneralizedHiddenMarkovModel(matrices / values[k].real, right=vectors[:, k].real)


def frdn(alpha: float = 2000.0, lam: float = 0.49) -> GeneralizedHiddenMarkovModel:
    cos, sin = math.cos(alpha), math.sin(alpha)
    d = 1 - 2 * lam * cos + lam**2
    plus, minus = ((1 - lam * cos + s * lam * sin) / d for s in (1, -1))
    w = [1, 1 - lam, 1 + lam * (sin - cos), 1 - lam * (sin + cos)]
    start = [1 - (2 / (1 - lam) - plus - minus) / 4, 1 / (2 * (1 - lam)), -plus / 4, -minus / 4]
    rotation = np.zeros((4, 4))
    rotation[1, 1], rotation[2:, 2:] = lam, lam * np.array([[cos, -sin], [sin, cos]])
    return GeneralizedHiddenMarkovModel([np.outer(w, start), rotation], right=[1, 1, 1, 1])


MESS3_FLOORS = [1.098612, 0.857719, 0.813356, 0.798118, 0.794740, 0.793783, 0.793543, 0.793480, 0.793463, 0.793459]
RRXOR_FLOORS = [
    *(0.693147, 0.693147, 0.636514, 0.628487, 0.598679, 0.577623),
    *(0.561458, 0.539847, 0.526940, 0.515819, 0.503337),
]


@pytest.mark.parametrize(
    "process, expected",
    [
        (mess3(), MESS3_FLOORS),
        (rrxor(), RRXOR_FLOORS),
        (even(), [0.636514, 0.605939, 0.549306, 0.534019, 0.505702]),
        (golden_mean(), [0.636514, *[2 / 3 * math.log(2)] * 5]),
        (coin(), [math.log(2)] * 4),
    ],
)
def test_floors_as_published(process, expected):
    np.testing.assert_allclose(myopic_entropies(process, len(expected) - 1), expected, atol=1e-6)


def test_mean_floors_as_published():
    assert myopic_entropies(mess3(), 9)[1:].mean().item() == pytest.approx(0.80352, abs=1e-5)
    assert myopic_entropies(rrxor(), 10)[1:10].mean().item() == pytest.approx(0.58650, abs=1e-5)
    assert myopic_entropies(rrxor(), 10)[1:].mean().item() == pytest.approx(0.57819, abs=1e-5)


@pytest.mark.parametrize(
    "process, max_length", [(mess3(0.1, 0.7), 4), (rrxor(0.3, 0.6), 7), (even(0.3), 7), (z1r(0.2), 7), (coin(0.9), 3)]
)
def test_floors_are_differences_of_block_entropies(process, max_length):
    expected = np.diff(block_entropies(process, max_length + 1))
    np.testing.assert_allclose(myopic_entropies(process, max_length), expected, atol=1e-12)


@pytest.mark.parametrize(
    "process, max_length, entropy_rate, excess_entropy, tolerance",
    [
        (golden_mean(), 4, 2 / 3, 0.251629, 1e-6),
        (z1r(), 8, 1 / 3, 1.584963, 1e-6),
        (mess3(), 11, 1.144717, 0.57087, 1e-5),
    ],
)
def test_floors_sum_to_the_excess_entropy(process, max_length, entropy_rate, excess_entropy, tolerance):
    bits = myopic_entropies(process, max_length) / math.log(2)
    assert bits[-1].item() == pytest.approx(entropy_rate, abs=1e-6)
    assert (bits - entropy_rate).sum().item() == pytest.approx(excess_entropy, abs=tolerance)


def test_floor_of_a_sure_token_is_zero():
    assert myopic_entropies(coin(1.0), 3).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((-1,), ValueError, "^max_length "),
        ((2.0,), TypeError, "^max_length "),
        ((3, 0), ValueError, "^max_words "),
        ((6, 80), ValueError, "there are 81 words of length 4, more than max_words=80"),
    ],
)
def test_impossible_contexts_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        myopic_entropies(mess3(), *arguments)


# Sufficiency of the next-token law


def leaky_rrxor(leak: float) -> HiddenMarkovModel:
    return HiddenMarkovModel((1 - leak) * rrxor().transition_matrices + leak / 10)


def rare_reset(in_first: float, in_second: float) -> HiddenMarkovModel:
    """Two states alike but for the probability of a very rare token; it resets the state, so beliefs do move."""
    same = torch.tensor([[0.5, 0.5], [0.5, 0.5]], dtype=torch.float64)
    often = torch.stack([same * 0.3, same * 0.7])
    rare = torch.tensor([[[in_first, 0], [in_second, 0]]], dtype=torch.float64)
    return HiddenMarkovModel(torch.cat([often * (1 - rare.sum((0, 2))).unsqueeze(1), rare]))


@pytest.mark.parametrize(
    "process, expected",
    [
        (mess3(), True),
        (mess3(0.15, 0.6), True),
        (coin(), True),
        (golden_mean(), True),
        (even(), True),
        (z1r(), False),
        (rrxor(), False),
        (leaky_rrxor(0.1), False),
        # The state forgets at once, so every next-token law is uniform while the belief still follows the token.
        (mess3(1 / 3, 0.85), False),
        # The tokens say nothing, so the belief never leaves the stationary law.
        (mess3(0.05, 1 / 3), True),
        (rare_reset(1e-12, 2e-12), True),
        (rare_reset(1e-12, 1e-12), False),
        (
            HiddenMarkovModel([[[0, 1, 0], [0, 0, 0.5], [0.5, 0, 0]], [[0, 0, 0], [0, 0, 0.5], [0.5, 0, 0]]]),
            False,
        ),  # zrr
        (source(0.5, 0.5), True),
        (source(0.3, 0.6), True),
        (bloch_walk(), True),
        (moon(), True),
        (frdn(), False),
    ],
)
def test_whether_the_next_token_law_gives_the_belief_away(process, expected):
    assert next_token_sufficient(process) is expected


def test_hidden_copies_of_a_state_hide_from_the_law():
    # Two copies of Mess3 taking turns: only the phase is invisible, and a stationary start never resolves it.
    matrices = mess3().transition_matrices
    swap = torch.tensor([[0.0, 1], [1, 0]], dtype=torch.float64)
    doubled = HiddenMarkovModel(torch.stack([torch.kron(swap, matrix) for matrix in matrices]))
    assert next_token_sufficient(doubled)


def test_tokens_that_never_come_change_nothing():
    for process, expected in ((mess3(), True), (rrxor(), False)):
        matrices = process.transition_matrices
        padded = HiddenMarkovModel(torch.cat([torch.zeros_like(matrices[:1]), matrices]))
        assert next_token_sufficient(padded) is expected


@pytest.mark.parametrize("process, length, expected", [(z1r(), 10, 0.478), (rrxor(), 10, 0.246), (mess3(), 9, 1.000)])
def test_how_much_of_the_belief_the_next_token_law_tells(process, length, expected):
    enumerated = words(process, length)
    weights = enumerated.probabilities.numpy()
    laws = np.column_stack([np.ones(len(weights)), enumerated.next_token_laws.numpy()]) * np.sqrt(weights)[:, None]
    mean = weights @ enumerated.filtered.numpy() / weights.sum()
    beliefs = (enumerated.filtered.numpy() - mean) * np.sqrt(weights)[:, None]
    residual = beliefs - laws @ np.linalg.lstsq(laws, beliefs)[0]
    assert 1 - (residual**2).sum() / (beliefs**2).sum() == pytest.approx(expected, abs=5e-4)


# Published values, by two routes

EXACT = [  # process, entropy rate, complexity, excess entropy, all in bits; Markov order, cryptic order
    (coin(), 1, 0, 0, 0, 0),
    (golden_mean(), 2 / 3, 0.918296, 0.251629, 1, 1),
    (even(), 2 / 3, 0.918296, 0.918296, math.inf, 0),
    (z1r(), 1 / 3, 1.584963, 1.584963, 3, 0),
    (rrxor(), 2 / 3, 2.251629, 2.251629, math.inf, 0),
]


@pytest.mark.parametrize("process, rate, complexity, excess, markov, cryptic", EXACT)
def test_exact_values_as_published(process, rate, complexity, excess, markov, cryptic):
    found = entropy_rate(process), statistical_complexity(process), excess_entropy(process), crypticity(process)
    expected = rate, complexity, excess, complexity - excess
    assert [quantity / BIT for quantity in found] == pytest.approx(expected, abs=1.5e-6)
    assert all(quantity.exact for quantity in found)
    by_sum = excess_entropy_by_sum(process)
    assert by_sum.low - 1e-12 <= found[2] <= by_sum.high + 1e-12
    assert by_sum.high - by_sum.low < 1e-7
    assert (markov_order(process), cryptic_order(process)) == (markov, cryptic)


def test_mess3_as_published():
    rate, excess = entropy_rate(mess3()), excess_entropy(mess3())
    assert rate / BIT == pytest.approx(1.144717, abs=1e-6)
    assert excess / BIT == pytest.approx(0.57087, abs=1e-5)
    assert not rate.exact
    assert rate.low < rate < rate.high < rate.low + 1e-5
    assert excess.low < excess < excess.high < excess.low + 1e-4
    assert rate.high == pytest.approx(myopic_entropies(mess3(), 9)[9].item(), abs=1e-9)
    for quantity in (statistical_complexity(mess3()), crypticity(mess3()), synchronization_information(mess3())):
        assert math.isinf(quantity) and not quantity.exact
    assert statistical_complexity(mess3()).low == excess.low
    assert markov_order(mess3()) == cryptic_order(mess3()) == math.inf


def test_the_simple_non_unifilar_source_as_published():
    # Crutchfield (1994), Physica D 75, 11; Marzen & Crutchfield (2015), arXiv 1412.2859: 0.677867 and 2.71 bits.
    rate, memory = entropy_rate(source(0.5, 0.5)), statistical_complexity(source(0.5, 0.5))
    assert rate / BIT == pytest.approx(0.677867, abs=1e-6)
    assert memory / BIT == pytest.approx(2.71, abs=0.01)
    assert rate.high - rate.low < 1e-7
    assert not memory.exact


def renewal_source(p: float, q: float) -> tuple[float, float]:
    """Entropy rate and complexity of the source from the waiting times between two 1s alone, in nats."""
    n = np.arange(1, 3000)  # tokens between them, at least one 0
    waiting = p * q * (n * (1 - p) ** (n - 1) if p == q else ((1 - p) ** n - (1 - q) ** n) / (q - p))
    survival = np.concatenate([[1, 1], 1 - np.cumsum(waiting)])
    survival = survival[survival > 1e-14]
    law = survival / survival.sum()
    return float(-(waiting[waiting > 0] * np.log(waiting[waiting > 0])).sum() * law[0]), float(-law @ np.log(law))


@pytest.mark.parametrize("p, q", [(0.5, 0.5), (0.3, 0.6), (0.8, 0.35)])
def test_the_source_is_a_renewal_process(p, q):
    rate, complexity = renewal_source(p, q)
    assert entropy_rate(source(p, q)) == pytest.approx(rate, abs=1e-8)
    assert statistical_complexity(source(p, q)) == pytest.approx(complexity, abs=1e-6)


def test_which_of_two_processes_it_is_must_be_found_out_and_remembered():
    process = side_by_side(golden_mean(), even(), 0.5)
    assert entropy_rate(process) / BIT == pytest.approx(2 / 3, abs=1e-12)
    assert statistical_complexity(process) / BIT == pytest.approx(1 + 0.9182958, abs=1e-6)
    assert excess_entropy(process) / BIT == pytest.approx(1 + 0.5 * (0.2516292 + 0.9182958), abs=1e-6)
    unlike = side_by_side(coin(0.2), coin(0.7), 0.25)
    entropy = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in (0.2, 0.7, 0.25)]
    assert entropy_rate(unlike) == pytest.approx(0.25 * entropy[0] + 0.75 * entropy[1], abs=1e-12)
    assert statistical_complexity(unlike) == pytest.approx(entropy[2], abs=1e-12)
    excess = excess_entropy(unlike)
    assert excess.low <= entropy[2] <= excess.high and excess.high - excess.low < 1e-6


@pytest.mark.parametrize("process", [golden_mean(), golden_mean(0.2), even(), z1r(), rrxor()])
def test_sums_over_all_tokens(process):
    # term by term, from the floors alone and from the belief entropy of every word
    presentation = mixed_state_presentation(process)
    laws = torch.special.entr(presentation.probabilities).sum(1)
    states = torch.special.entr(presentation.states).sum(1)
    row, rate = torch.zeros(len(laws), dtype=torch.float64), float(entropy_rate(process))
    row[0] = 1
    transient, unknown = 0.0, 0.0
    for length in range(600):
        transient += (length + 1) * float(row @ laws - rate)
        unknown += float(row @ states)
        row = row @ presentation.transition
    assert transient_information(process) == pytest.approx(transient, abs=1e-9)
    assert synchronization_information(process) == pytest.approx(unknown, abs=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_markov_chains_of_any_order(order):
    """Crutchfield & Feldman (2003), equation 39: S = T + h R (R + 1) / 2 where blocks are the states; and E = H[R] - R h."""
    rng = np.random.default_rng(order)
    count = 2**order
    matrices = np.zeros((2, count, count))
    for state, law in enumerate(rng.dirichlet([2, 2], count)):
        for token in range(2):
            matrices[token, state, (2 * state + token) % count] = law[token]
    rate = entropy_rate(matrices)
    assert markov_order(matrices) == order
    block = block_entropies(HiddenMarkovModel(matrices), order)[order]
    assert excess_entropy(matrices) == pytest.approx(block - order * rate, abs=1e-12)
    expected = transient_information(matrices) + 0.5 * rate * order * (order + 1)
    assert synchronization_information(matrices) == pytest.approx(expected, abs=1e-12)


def test_orders_by_following_every_word():
    rng = np.random.default_rng(0)
    for _ in range(40):
        process = HiddenMarkovModel(unifilar(rng, 3, 2))
        markov, cryptic = markov_order(process), cryptic_order(process)
        complexity = statistical_complexity(process)
        presentation = mixed_state_presentation(process)
        if not presentation.closed or not math.isclose(
            complexity, float(torch.special.entr(process.stationary_distribution).sum()), abs_tol=1e-9
        ):
            continue  # its hidden states aren't the causal ones
        unknown = [
            -level.probabilities @ torch.special.entr(level.filtered).sum(1) for level in words(process, 8).levels
        ]
        first = next((length + 1 for length, value in enumerate(unknown) if abs(value) < 1e-12), math.inf)
        assert markov == (0 if process.num_states == 1 or complexity < 1e-12 else first)
        assert cryptic <= markov
        assert (cryptic == 0) == (crypticity(process) < 1e-9)


def unknown_looking_back(process: HiddenMarkovModel, order: int, length: int) -> float:
    """H[S_order | X_0 ... X_(length - 1)] in nats, by following every word and every pair of S_order and last state."""
    matrices, law = process.transition_matrices.numpy(), process.stationary_distribution.numpy()
    states = len(law)
    rows = law[None, :]
    for _ in range(order):
        rows = np.einsum("ws,vst->wvt", rows, matrices).reshape(-1, states)
    joint = rows[:, :, None] * np.eye(states)
    for _ in range(length - order):
        joint = np.einsum("wks,vst->wvkt", joint, matrices).reshape(-1, states, states)
        joint = joint[joint.sum((1, 2)) > 0]
    marginal = joint.sum(2)
    return float(scipy.special.entr(marginal).sum() - scipy.special.entr(marginal.sum(1)).sum())


def extrapolated(first: float, second: float, third: float) -> float:
    """Where a sequence that falls geometrically ends; Aitken (1926)."""
    before, after = second - first, third - second
    return third if abs(after) < 1e-12 else third - after**2 / (after - before)


def test_cryptic_order_by_looking_back_from_every_future():
    """It is the least k for which the entropy of S_k dies out as the future grows."""
    rng = np.random.default_rng(3)
    published = [(golden_mean(), 1), (even(), 0), (z1r(), 0), (rrxor(), 0)]
    drawn = [(HiddenMarkovModel(unifilar(rng, 3, 2)), None) for _ in range(60)]
    seen = set()
    for process, expected in published + drawn:
        machine = epsilon_machine(process).process
        found = cryptic_order(process)
        assert expected is None or found == expected
        limits = [
            extrapolated(*(unknown_looking_back(machine, order, length) for length in (9, 11, 13)))
            for order in range(4)
        ]
        # what is lost to the end of the word is the same at each order; beyond it, every order that tells more falls
        first = next((order for order in range(3) if max(limits[order:]) - min(limits[order:]) < 1e-6), math.inf)
        assert first == (found if found <= 2 else math.inf)
        assert first == math.inf or limits[3] < 0.02
        seen.add(first)
    assert {0, 1, 2} <= seen


def unifilar(rng: np.random.Generator, states: int, tokens: int) -> np.ndarray:
    """A random machine in which each token leads to at most one state; one recurrent class."""
    while True:
        matrices = np.zeros((tokens, states, states))
        for state in range(states):
            law = rng.dirichlet(np.ones(tokens)) * (rng.random(tokens) < 0.75)
            law = law / law.sum() if law.any() else np.eye(tokens)[rng.integers(tokens)]
            matrices[np.arange(tokens), state, rng.integers(states, size=tokens)] = law
        if np.linalg.matrix_rank(matrices.sum(0) - np.eye(states)) == states - 1:
            return matrices


def nonunifilar(rng: np.random.Generator, states: int, tokens: int) -> np.ndarray:
    """A random machine with some zeros; one recurrent class."""
    while True:
        matrices = rng.dirichlet(np.full(states * tokens, 0.7), size=states).reshape(states, tokens, states)
        matrices = np.where(rng.random(matrices.shape) < 0.6, matrices, 0)
        totals = matrices.sum((1, 2), keepdims=True)
        if (totals > 0).all() and np.linalg.matrix_rank((matrices / totals).sum(1) - np.eye(states)) == states - 1:
            return (matrices / totals).transpose(1, 0, 2)


def sweep(seed: int, count: int):
    rng = np.random.default_rng(seed)
    for number in range(count):
        draw = unifilar if number % 2 else nonunifilar
        yield number, HiddenMarkovModel(draw(rng, int(rng.integers(2, 6)), int(rng.integers(2, 4))))


def summed_excess(process: HiddenMarkovModel) -> float | None:
    """Excess entropy as a sum of 16,384 terms over the mixed states as they are; None if they don't close."""
    presentation = mixed_state_presentation(process, max_states=300)
    if not presentation.closed:
        return None
    laws, power = torch.special.entr(presentation.probabilities).sum(1), presentation.transition
    total = laws - float(presentation.stationary_distribution @ laws)
    for _ in range(14):  # twice as many terms each time
        total = total + power @ total
        power = power @ power
    return float(total[0])


def check_machine(number: int, process: HiddenMarkovModel, length: int, max_states: int) -> None:
    rate, excess = (ask(process, max_states=max_states) for ask in (entropy_rate, excess_entropy))
    memory, summed = statistical_complexity(process, max_states=max_states), summed_excess(process)
    law, emission = process.stationary_distribution, process.emission_matrix
    if number % 2:
        assert rate.exact and memory.exact
        assert rate == pytest.approx(float(law @ torch.special.entr(emission).sum(1)), abs=1e-10)
    if summed is not None:
        assert excess.low - 1e-9 <= summed <= excess.high + 1e-9
    assert excess.low <= memory.high + 1e-9
    assert excess.low <= float(torch.special.entr(law).sum()) + 1e-9
    drawn = sample(process, 32, length, torch.Generator().manual_seed(number))
    surprise = -token_log_probabilities(process, drawn)[:, length // 5 :].mean(1)
    error, mean = float(surprise.std()) / math.sqrt(32), float(surprise.mean())
    assert rate.low - 4.5 * error - 1e-6 <= mean <= rate.high + 4.5 * error + 1e-3


def test_a_sweep_of_random_machines():
    for number, process in sweep(0, 50):
        check_machine(number, process, 250, max_states=250)


@pytest.mark.slow
def test_a_longer_sweep_of_random_machines():
    for number, process in sweep(1, 200):
        check_machine(number, process, 10_000, max_states=2000)
        excess, by_sum = excess_entropy(process, max_states=2000), excess_entropy_by_sum(process, max_states=2000)
        assert by_sum.low - 1e-9 <= excess <= by_sum.high + 1e-9
        transient = transient_information(process, max_states=2000)
        assert transient.low <= transient.high and (number % 2 == 0 or math.isfinite(transient.high))


def test_slow_forgetting_is_helped_out_by_samples():
    # two sticky, hardly different components: bounds of ten tokens are far apart
    first, second = mess3(0.05, 0.6).transition_matrices, mess3(0.2, 0.5).transition_matrices
    switch = torch.tensor([[0.99, 0.01], [0.01, 0.99]], dtype=torch.float64)
    blocks = torch.stack([torch.stack([a, b]) for a, b in zip(first, second)])
    matrices = torch.einsum("xist,ij->xisjt", blocks, switch).reshape(3, 6, 6)
    rate = entropy_rate(matrices, max_states=2000)
    assert rate.high - rate.low > 1e-3
    assert 0 < rate.standard_error < 1e-3
    tokens = sample(matrices, 64, 10_000, torch.Generator().manual_seed(5))
    surprise = -token_log_probabilities(matrices, tokens)[:, 500:].mean(1)
    both = math.hypot(rate.standard_error, float(surprise.std()) / 8)
    assert abs(float(surprise.mean()) - rate) < 4 * both
    assert entropy_rate(matrices.numpy(), max_states=2000, generator=torch.Generator().manual_seed(9)) != rate


@pytest.mark.parametrize("process", [bloch_walk(), moon(), frdn()])
def test_generalised_processes(process):
    rate, excess = entropy_rate(process, max_states=5000), excess_entropy(process, max_states=5000)
    tokens = sample(process, 64, 3000, torch.Generator().manual_seed(3))
    surprise = -token_log_probabilities(process, tokens)[:, 100:].mean(1)
    assert abs(float(surprise.mean()) - rate) < 4.5 * math.hypot(rate.standard_error, float(surprise.std()) / 8) + 1e-6
    assert rate <= float(myopic_entropies(process, 6)[6]) + 1e-12
    assert excess >= float((myopic_entropies(process, 6) - rate).sum()) - 1e-2
    beliefs = filter_beliefs(process, tokens[:, :5])
    assert torch.isfinite(beliefs.filtered).all()


def test_a_hidden_markov_model_in_another_basis_keeps_its_entropies():
    basis = torch.tensor([[2.0, 1, 0], [0, -1, 1], [1, 0, 3]], dtype=torch.float64)
    for process in (z1r(), mess3()):
        matrices = torch.linalg.inv(basis) @ process.transition_matrices @ basis
        moved = GeneralizedHiddenMarkovModel(matrices, torch.linalg.inv(basis).sum(1))
        assert myopic_entropies(moved, 5).tolist() == pytest.approx(myopic_entropies(process, 5).tolist(), abs=1e-12)
        assert entropy_rate(moved) == pytest.approx(float(entropy_rate(process)), abs=2e-6)
        assert excess_entropy(moved) == pytest.approx(float(excess_entropy(process)), abs=1e-5)
        assert next_token_sufficient(moved) == next_token_sufficient(process)


def test_a_quantity_is_a_number_with_its_error():
    quantity = Quantity(1.0, 0.5, 2.0, standard_error=0.1)
    assert (quantity + 1, quantity.low, quantity.high, quantity.exact) == (2.0, 0.5, 2.0, False)
    assert repr(quantity) == "Quantity(1.0, low=0.5, high=2.0, standard_error=0.1)"
    copy = pickle.loads(pickle.dumps(quantity))
    assert (copy, copy.low, copy.high, copy.standard_error, copy.exact) == (1.0, 0.5, 2.0, 0.1, False)
    assert Quantity(3.0).exact and repr(Quantity(3.0)) == "Quantity(3.0)"
    for arguments in ((1.0, 2.0, 3.0), (math.nan,)):
        with pytest.raises(ValueError, match="low <= value <= high"):
            Quantity(*arguments)


@pytest.mark.parametrize("function", [entropy_rate, excess_entropy, statistical_complexity, transient_information])
def test_bad_questions_are_refused(function):
    with pytest.raises(ValueError, match=r"^max_states "):
        function(mess3(), max_states=0)
    with pytest.raises(ValueError, match="stationary distribution isn't unique"):
        function(torch.eye(2, dtype=torch.float64)[None])
