"""Processes made of others: word probabilities and beliefs against those of the parts, computed apart with numpy."""

import itertools
import math

import numpy as np
import pytest
import torch

from pcnet.processes import (
    Channel,
    GeneralizedHiddenMarkovModel,
    HiddenMarkovModel,
    Mixture,
    Process,
    Product,
    bloch_walk,
    block,
    coin,
    even,
    filter_beliefs,
    frdn,
    golden_mean,
    mess3,
    mixture,
    moon,
    noisy_channel,
    observe,
    product,
    random_hmm,
    relabel,
    rrxor,
    same_process,
    sample,
    time_reversal,
    z1r,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def probability(process: Process, word: tuple[int, ...]) -> float:
    row = process.initial_distribution.numpy()
    for token in word:
        row = row @ process.transition_matrices.numpy()[token]
    return float(row @ process.right_vector.numpy())


def all_words(vocab_size: int, length: int) -> list[tuple[int, ...]]:
    return [w for n in range(1, length + 1) for w in itertools.product(range(vocab_size), repeat=n)]


def possible_tokens(process: Process, length: int = 8) -> torch.Tensor:
    return sample(process, 6, length, generator(3))


PAIRS = [(golden_mean(0.3), even(0.4)), (z1r(), rrxor()), (golden_mean(), frdn()), (frdn(1.0, 0.4), frdn())]
pairs = pytest.mark.parametrize("left, right", PAIRS, ids=["ergodic", "periodic", "half generalised", "generalised"])


# Mixtures


@pairs
def test_a_mixture_weighs_the_words_of_its_components(left, right):
    mixed = mixture([left, right], [0.3, 0.7])
    for word in all_words(2, 5):
        expected = 0.3 * probability(left, word) + 0.7 * probability(right, word)
        assert probability(mixed, word) == pytest.approx(expected, abs=1e-13)


@pairs
def test_beliefs_of_a_mixture_split_by_the_law_of_bayes(left, right):
    weights = 0.3, 0.7
    mixed = mixture([left, right], weights)
    tokens = torch.cat([possible_tokens(left), possible_tokens(right)])
    parts = mixed.composition.split(filter_beliefs(mixed, tokens).filtered)
    assert {name: belief.shape[-1] for name, belief in parts.items()} == mixed.composition.sizes
    for row, word in enumerate(tokens.tolist()):
        for t in range(len(word)):
            heard = [w * probability(p, word[: t + 1]) for w, p in zip(weights, (left, right), strict=True)]
            expected = np.clip(heard, 0, None) / sum(heard)
            np.testing.assert_allclose(parts["component"][row, t], expected, atol=1e-9)
    for k, part in enumerate((left, right)):
        own = tokens[6 * k : 6 * k + 6]
        alone = filter_beliefs(part, own).filtered
        np.testing.assert_allclose(parts[f"component.{k}"][6 * k : 6 * k + 6], alone, atol=1e-7)


def test_a_component_that_is_ruled_out_keeps_its_stationary_belief():
    mixed = mixture([golden_mean(0.4), even(0.4)])
    for word, ruled_out, law in (([0, 1, 1], 0, [1 / 1.4, 0.4 / 1.4]), ([0, 1, 0], 1, [1 / 1.4, 0.4 / 1.4])):
        parts = mixed.composition.split(filter_beliefs(mixed, torch.tensor([word])).filtered[0, -1])
        assert parts["component"][ruled_out] == 0
        np.testing.assert_allclose(parts[f"component.{ruled_out}"], law, rtol=1e-14)
        assert not any(belief.isnan().any() for belief in parts.values())


def test_a_mixture_of_generalised_processes_rules_out_despite_rounding():
    mixed = mixture([frdn(), coin(0.0)])
    parts = mixed.composition.split(filter_beliefs(mixed, torch.tensor([[0, 1, 1, 0, 1, 0]])).filtered[0, -1])
    np.testing.assert_allclose(parts["component"], [1, 0], atol=1e-12)
    assert parts["component.1"].tolist() == [1]


def test_weights_are_even_by_default_and_choose_the_stationary_law():
    mixed = mixture([golden_mean(0.3), even(0.3)])
    expected = np.array([1, 0.3, 1, 0.3]) / 2.6
    np.testing.assert_allclose(mixed.initial_distribution, expected, rtol=1e-14)
    np.testing.assert_allclose(mixed.stationary_distribution, expected, rtol=1e-14)


# Products


def digits(token: int, sizes: list[int]) -> tuple[int, ...]:
    """Of a number in mixed radix, the last one running fastest."""
    found = []
    for size in reversed(sizes):
        token, digit = divmod(token, size)
        found.append(digit)
    return tuple(reversed(found))


@pytest.mark.parametrize(
    "factors",
    [[golden_mean(0.3), mess3()], [mess3(), coin(0.2), z1r(0.7)], [frdn(), golden_mean()], [moon(), bloch_walk()]],
    ids=["two", "three", "half generalised", "generalised"],
)
def test_a_product_multiplies_the_words_of_its_factors(factors):
    whole = product(factors)
    sizes = [factor.vocab_size for factor in factors]
    assert whole.vocab_size == math.prod(sizes)
    rng = np.random.default_rng(0)
    for length in (1, 2, 3):
        for word in rng.integers(whole.vocab_size, size=(40, length)).tolist():
            parts = zip(*(digits(token, sizes) for token in word), strict=True)
            expected = math.prod(probability(f, part) for f, part in zip(factors, parts, strict=True))
            assert probability(whole, tuple(word)) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(
    "factors",
    [[golden_mean(0.3), mess3()], [mess3(), coin(0.2), z1r(0.7)], [frdn(), golden_mean()]],
    ids=["two", "three", "half generalised"],
)
def test_beliefs_of_a_product_split_into_those_of_its_factors_alone(factors):
    whole = product(factors)
    alone = [possible_tokens(factor) for factor in factors]
    tokens = alone[0]
    for factor, own in zip(factors[1:], alone[1:], strict=True):
        tokens = tokens * factor.vocab_size + own
    beliefs = filter_beliefs(whole, tokens)
    parts = whole.composition.split(beliefs.filtered)
    assert {name: belief.shape[-1] for name, belief in parts.items()} == whole.composition.sizes
    for k, (factor, own) in enumerate(zip(factors, alone, strict=True)):
        np.testing.assert_allclose(parts[f"factor.{k}"], filter_beliefs(factor, own).filtered, atol=1e-11)
    np.testing.assert_allclose(whole.composition.join(parts), beliefs.filtered, atol=1e-11)


def test_a_product_of_periodic_factors_keeps_its_phase_law():
    # Together they are reducible: only the initial law says that the phases are independent.
    whole = product([z1r(), z1r()])
    np.testing.assert_allclose(whole.stationary_distribution, np.ones(9) / 9, rtol=1e-12)


def test_the_product_that_training_uses_is_built_and_followed():
    factors = [random_hmm(3, vocab_size, generator(vocab_size)) for vocab_size in (3, 3, 3, 4, 4)]
    whole = product(factors)
    assert (whole.vocab_size, whole.num_states) == (432, 243)
    seen = observe(whole, 8, 16, generator())
    rest, likelihood = seen.tokens, 0
    for k in reversed(range(5)):
        own = rest % factors[k].vocab_size
        rest = rest // factors[k].vocab_size
        alone = filter_beliefs(factors[k], own)
        likelihood = likelihood + alone.log_likelihood
        np.testing.assert_allclose(whole.composition.split(seen.filtered)[f"factor.{k}"], alone.filtered, atol=1e-12)
    np.testing.assert_allclose(seen.log_word_probabilities[:, -1], likelihood, rtol=1e-12)


def test_a_product_too_large_says_how_large():
    # 3^12 tokens and states: 8 * 3^36 / 2^30 GiB.
    with pytest.raises(ValueError, match=r"531,441 tokens and 531,441 states: .*1.12e\+09 GiB, more than max_gib=4"):
        product([mess3()] * 12)
    with pytest.raises(ValueError, match=r"27 tokens and 27 states.*max_gib=0.0001"):
        product([mess3()] * 3, max_gib=1e-4)


# Tokens seen otherwise


@pytest.mark.parametrize("process", [golden_mean(0.3), frdn(1.0, 0.4), mixture([even(), coin(0.2)])])
def test_a_noisy_word_sums_over_all_clean_ones(process):
    e, length = 0.2, 4
    noisy = noisy_channel(process, e)
    for received in itertools.product(range(2), repeat=length):
        expected = 0.0
        for sent in itertools.product(range(2), repeat=length):
            kept = sum(r == s for r, s in zip(received, sent, strict=True))
            expected += probability(process, sent) * (1 - e / 2) ** kept * (e / 2) ** (length - kept)
        assert probability(noisy, received) == pytest.approx(expected, abs=1e-14)


def test_a_channel_may_have_another_vocabulary():
    # An erasure channel: a third token stands for both.
    matrix = np.array([[0.75, 0, 0.25], [0, 0.5, 0.5]])
    erased = noisy_channel(even(0.4), matrix)
    for received in itertools.product(range(3), repeat=3):
        expected = sum(
            probability(even(0.4), sent) * math.prod(matrix[s, r] for s, r in zip(sent, received, strict=True))
            for sent in itertools.product(range(2), repeat=3)
        )
        assert probability(erased, received) == pytest.approx(expected, abs=1e-15)


def test_full_noise_leaves_fair_dice():
    noise = noisy_channel(mess3(), 1)
    assert same_process(noise, HiddenMarkovModel(np.full((3, 1, 1), 1 / 3)))
    assert same_process(noisy_channel(mess3(), 0.0), mess3())


def test_relabelling_permutes_and_merges_words():
    process = mess3(0.1, 0.7)
    turned, merged = relabel(process, [2, 0, 1]), relabel(process, [1, 0, 1])
    for word in all_words(3, 4):
        assert probability(turned, tuple((2, 0, 1)[x] for x in word)) == pytest.approx(probability(process, word))
    for word in all_words(2, 4):
        sent = itertools.product(range(3), repeat=len(word))
        expected = sum(probability(process, s) for s in sent if tuple((1, 0, 1)[x] for x in s) == word)
        assert probability(merged, word) == pytest.approx(expected)


def test_relabelling_into_a_larger_vocabulary_makes_a_mixture_possible():
    mixed = mixture([relabel(golden_mean(), [0, 1], 3), mess3()])
    assert probability(mixed, (0, 2)) == pytest.approx(0.5 * probability(mess3(), (0, 2)))


@pytest.mark.parametrize("process", [golden_mean(0.3), mess3(), frdn()])
def test_blocks_are_words(process):
    length, vocab_size = 3, process.vocab_size
    blocks = block(process, length)
    assert blocks.vocab_size == vocab_size**length
    for first, second in itertools.product(range(0, blocks.vocab_size, 2), repeat=2):
        word = digits(first, [vocab_size] * length) + digits(second, [vocab_size] * length)
        assert probability(blocks, (first, second)) == pytest.approx(probability(process, word), abs=1e-14)


# Time reversal


@pytest.mark.parametrize(
    "process",
    [
        golden_mean(0.3),
        rrxor(0.2, 0.9),
        random_hmm(4, 2, generator()),
        frdn(),
        moon(),
        mixture([golden_mean(), even()], [0.2, 0.8]),
        mixture([frdn(), even()], [0.2, 0.8]),
        product([golden_mean(0.3), rrxor()]),
        noisy_channel(rrxor(0.2, 0.9), 0.3),
        block(rrxor(0.2, 0.9), 2),
    ],
    ids=["golden", "rrxor", "random", "frdn", "moon", "mixture", "mixed kinds", "product", "noisy", "block"],
)
def test_reversed_words_have_the_probability_of_the_mirrored_ones(process):
    backwards = time_reversal(process)
    assert type(backwards) is type(process)
    for word in all_words(process.vocab_size, 4):
        assert probability(backwards, word) == pytest.approx(probability(process, word[::-1]), abs=1e-13)
    assert same_process(time_reversal(backwards), process)


def test_a_reversed_process_drops_transient_states():
    process = HiddenMarkovModel([[[0, 0.5, 0], [0, 0.3, 0], [0, 1, 0]], [[0, 0, 0.5], [0, 0, 0.7], [0, 0, 0]]])
    backwards = time_reversal(process)
    assert backwards.num_states == 2
    for word in all_words(2, 5):
        assert probability(backwards, word) == pytest.approx(probability(process, word[::-1]), abs=1e-15)


def test_what_is_not_stationary_has_no_reversal():
    process = HiddenMarkovModel(golden_mean().transition_matrices, initial=[1, 0])
    with pytest.raises(ValueError, match=r"stationary law, but one step changes entry 0 .* from 1 to 0\.5"):
        time_reversal(process)


# Nesting


def nested() -> tuple[Process, Process]:
    inner = mixture([golden_mean(0.3), even(0.4)], [0.25, 0.75])
    return product([mess3(), inner]), inner


NAMES = {
    "factor.0": 3,
    "factor.1": 4,
    "factor.1.component": 2,
    "factor.1.component.0": 2,
    "factor.1.component.1": 2,
}


def test_parts_of_parts_have_dotted_names():
    whole, inner = nested()
    assert list(whole.composition.sizes.items()) == list(NAMES.items())
    tokens = possible_tokens(whole)
    parts = whole.composition.split(filter_beliefs(whole, tokens).filtered)
    assert list(parts) == list(NAMES)
    own = filter_beliefs(inner, tokens % 2).filtered
    for name, belief in inner.composition.split(own).items():
        np.testing.assert_allclose(parts[f"factor.1.{name}"], belief, atol=1e-12)
    np.testing.assert_allclose(
        parts["factor.1.component.0"] * parts["factor.1.component"][..., :1], own[..., :2], atol=1e-12
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda process: noisy_channel(process, 0.1),
        lambda process: relabel(process, [5, 3, 1, 0, 2, 4]),
        lambda process: block(process, 2),
        lambda process: block(relabel(noisy_channel(process, 0.2), [1, 0, 3, 2, 5, 4]), 2),
    ],
    ids=["channel", "relabel", "block", "all"],
)
def test_what_changes_tokens_keeps_the_names_of_its_source(change):
    whole, _ = nested()
    seen = change(whole)
    assert seen.composition.sizes == NAMES
    tokens = possible_tokens(seen)
    for belief in (filter_beliefs(seen, tokens).filtered, filter_beliefs(seen, tokens).predicted):
        parts, table = seen.composition.split(belief), belief.numpy().reshape(*belief.shape[:-1], 3, 4)
        np.testing.assert_allclose(parts["factor.0"], table.sum(-1), atol=1e-12)
        np.testing.assert_allclose(parts["factor.1"], table.sum(-2), atol=1e-12)
        first = table[..., :2].sum((-1, -2))
        np.testing.assert_allclose(parts["factor.1.component"][..., 0], first, atol=1e-12)


def test_a_noisy_product_is_not_the_product_of_its_joined_parts():
    # One noise for both tokens ties them together: `join` then says what the parts alone don't know.
    noisy = noisy_channel(product([even(), even()]), 0.3)
    belief = filter_beliefs(noisy, possible_tokens(noisy)).filtered
    parts = noisy.composition.split(belief)
    assert (noisy.composition.join(parts) - belief).abs().max() > 1e-3
    # and it isn't sampled as if it were a product: word probabilities are those of the sequences drawn.
    tokens = sample(noisy, 40_000, 2, generator()) @ torch.tensor([4, 1])
    counts = np.bincount(tokens.numpy(), minlength=16)
    expected = np.array([probability(noisy, word) for word in itertools.product(range(4), repeat=2)]) * 40_000
    assert ((counts - expected) ** 2 / expected).sum() < 15 + 5 * math.sqrt(30)


def test_a_mixture_of_products_of_mixtures():
    whole, _ = nested()
    mixed = mixture([whole, relabel(whole, [5, 4, 3, 2, 1, 0])], [0.5, 0.5])
    for word in itertools.product(range(6), repeat=2):
        expected = 0.5 * (probability(whole, word) + probability(whole, tuple(5 - x for x in word)))
        assert probability(mixed, word) == pytest.approx(expected, abs=1e-15)
    belief = filter_beliefs(mixed, possible_tokens(mixed)).filtered
    parts = mixed.composition.split(belief)
    assert parts.keys() == {"component", *(f"component.{k}" for k in (0, 1))} | {
        f"component.{k}.{name}" for k in (0, 1) for name in NAMES
    }
    np.testing.assert_allclose(mixed.composition.join(parts), belief, atol=1e-14)


def test_provenance_is_kept():
    parts = golden_mean(), even()
    assert golden_mean().composition is None
    assert isinstance(mixture(parts).composition, Mixture) and mixture(parts, [0.2, 0.8]).composition.weights == (
        0.2,
        0.8,
    )
    assert isinstance(product(parts).composition, Product) and product(parts).composition.factors == parts
    channel = noisy_channel(parts[0], 0.1).composition
    assert isinstance(channel, Channel) and channel.source is parts[0] and channel.split(torch.ones(2)) == {}
    assert isinstance(product([frdn(), parts[0]]), GeneralizedHiddenMarkovModel)
    assert isinstance(time_reversal(product(parts)).composition, Product)


# Refusals


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: mixture([]), ValueError, "^processes "),
        (lambda: product([]), ValueError, "^processes "),
        (lambda: mixture(coin()), TypeError, "sequence of processes, got a single HiddenMarkovModel"),
        (
            lambda: mixture([coin(), mess3()]),
            ValueError,
            r"processes\[0\] has 2 tokens and processes\[1\] has 3.*relabel",
        ),
        (lambda: mixture([coin(), even()], [0.5]), ValueError, "^weights "),
        (lambda: mixture([coin(), even()], [70, 30]), ValueError, r"weights\[0\]"),
        (lambda: mixture([coin(), even()], [-0.5, 1.5]), ValueError, r"weights\[0\]"),
        (lambda: mixture([coin(), even()], [0.5, math.nan]), ValueError, r"weights\[1\]"),
        (lambda: mixture([coin(), even()], [0.5, 0.4]), ValueError, "^weights "),
        (lambda: mixture([mess3(x=0)]), ValueError, "isn't unique.*give an initial law"),
        (lambda: product([coin()], max_gib=0), ValueError, "^max_gib "),
        (lambda: noisy_channel(coin(), 20), ValueError, "^noise "),
        (lambda: noisy_channel(coin(), "0.1"), TypeError, "^noise "),
        (lambda: noisy_channel(coin(), np.eye(3)), ValueError, r"shape \(2, received\), got \(3, 3\)"),
        (lambda: noisy_channel(coin(), [[1, 0], [0.5, 0.4]]), ValueError, r"noise\[1\]"),
        (lambda: noisy_channel(coin(), [[1, 0], [1.5, -0.5]]), ValueError, r"noise\[1\]"),
        (lambda: relabel(coin(), [0]), ValueError, "^tokens "),
        (lambda: relabel(coin(), [0, -1]), ValueError, r"tokens\[1\]"),
        (lambda: relabel(coin(), [0, 1.0]), TypeError, r"tokens\[1\]"),
        (lambda: relabel(coin(), [0, 3], 3), ValueError, r"tokens\[1\] = 3"),
        (lambda: block(coin(), 0), ValueError, "^length "),
        (lambda: block(mess3(), 30), ValueError, r"205,891,132,094,649 tokens and 3 states.*GiB"),
    ],
)
def test_what_cannot_be_composed_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_beliefs_and_parts_of_the_wrong_size_are_refused():
    composition = nested()[0].composition
    with pytest.raises(ValueError, match=r"^beliefs "):
        composition.split(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"about factor.0, factor.1; factor.1 is missing"):
        composition.join({"factor.0": torch.ones(3) / 3})
    with pytest.raises(ValueError, match=r"parts\['factor.1'\]"):
        composition.join({"factor.0": torch.ones(3) / 3, "factor.1": torch.ones(3) / 3})


def test_weights_may_be_a_tensor_or_an_array():
    for weights in (torch.tensor([0.25, 0.75]), np.array([0.25, 0.75], dtype=np.float32)):
        assert mixture([coin(), even()], weights).composition.weights == (0.25, 0.75)
