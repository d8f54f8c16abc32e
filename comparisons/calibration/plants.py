"""Features of which the right answer is known, because we made them."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from numpy.random import Generator

from pcnet.probing import other_belief, reservoir
from pcnet.processes import HiddenMarkovModel, Words

Features = Float[np.ndarray, "N D"]
"""A row for every word."""
LAGS = 4
"""The last tokens that a planted table may look at, and that stand beside a planted belief."""


def spread(values: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "N R"]:
    """About the mean, in the orthonormal coordinates that vary, the mean variance of a coordinate being 1."""
    centred = values - values.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    turned = centred @ directions[sizes > 1e-8 * sizes[0]].T
    return turned / np.sqrt((turned**2).mean())


def turned(parts: list[Float[np.ndarray, "N C"]], width: int, generator: Generator) -> Features:
    """The first part in directions of its own; the others share what is left of the width; all in one random rotation."""
    first, *others = parts
    room = width - first.shape[1]
    if room < 0:
        raise ValueError(f"width={width}: a belief of {first.shape[1]} dimensions doesn't fit")
    beside = np.zeros((len(first), room))
    for part in others:
        beside += part @ generator.standard_normal((part.shape[1], room)) / np.sqrt(max(room, 1))
    rotation = np.linalg.qr(generator.standard_normal((width, width)))[0]
    return np.concatenate([first, beside], axis=1) @ rotation


def history(words: Words) -> Float[np.ndarray, "N C"]:
    """The last four tokens, one-hot by lag, with a symbol for "before the start"."""
    tokens, lengths = words.tokens.numpy(), words.lengths.numpy()
    place = lengths[:, None] - 1 - np.arange(min(LAGS, tokens.shape[1]))
    recent = np.where(place >= 0, np.take_along_axis(tokens, np.maximum(place, 0), axis=1), -1)
    return (recent[:, :, None] == np.arange(-1, tokens.max() + 1)).reshape(len(recent), -1).astype(float)


def beside_controls(
    belief: Float[np.ndarray, "N S"], words: Words, width: int, strength: float, generator: Generator
) -> Features:
    """A belief in some directions, law and history in the others, and noise of variance 1 / strength in all of them."""
    parts = [spread(belief), spread(words.next_token_laws.numpy()), spread(history(words))]
    features = turned(parts, width, generator)
    return features + generator.standard_normal(features.shape) / np.sqrt(strength)


def random_features(process: HiddenMarkovModel, words: Words, width: int, generator: Generator) -> Features:
    """Normal numbers."""
    return generator.standard_normal((words.num_words, width))


def untrained(process: HiddenMarkovModel, words: Words, width: int, generator: Generator) -> Features:
    """A reservoir with any gain between those of the banks."""
    return reservoir(words, width, generator.uniform(0.5, 1.2), generator)


def of_law(process: HiddenMarkovModel, words: Words, width: int, generator: Generator) -> Features:
    """A function of the next-token law: smooth, or a number of its own for every law."""
    laws = words.next_token_laws.numpy()
    return of_cells(np.unique(laws.round(9), axis=0, return_inverse=True)[1].ravel(), laws, width, generator)


def of_last_tokens(process: HiddenMarkovModel, words: Words, width: int, generator: Generator) -> Features:
    """A function of the last k tokens, k from 1 to 4: smooth, or a number of its own for every ending."""
    symbols = words.tokens.max().item() + 2
    endings = history(words)[:, : symbols * int(generator.integers(1, LAGS + 1))]
    return of_cells(np.unique(endings, axis=0, return_inverse=True)[1].ravel(), endings, width, generator)


def of_cells(
    cells: Int[np.ndarray, " N"], known: Float[np.ndarray, "N C"], width: int, generator: Generator
) -> Features:
    """By a coin: a random two-layer network of what is known, or a random table over the cells."""
    if generator.random() < 0.5:
        hidden = np.tanh(3 * spread(known) @ generator.standard_normal((spread(known).shape[1], 4 * width)))
        return hidden @ generator.standard_normal((4 * width, width)) / np.sqrt(4 * width)
    return generator.standard_normal((cells.max() + 1, width))[cells]


def elsewhere(process: HiddenMarkovModel, words: Words, width: int, generator: Generator) -> Features:
    """Beliefs about another process of as many states, filtered on the same words."""
    return other_belief(words, process.num_states, process.vocab_size, generator)


def shuffled(process: HiddenMarkovModel, words: Words, width: int, generator: Generator) -> Features:
    """The belief exchanged at random: among all words, within a length, or among words of one length and last token."""
    lengths, last = words.lengths.numpy(), words.last_tokens.numpy()
    strata = (np.zeros_like(lengths), lengths, lengths * process.vocab_size + last)[generator.integers(3)]
    order = np.empty_like(lengths)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        order[rows] = generator.permutation(rows)
    features = turned([spread(words.filtered.numpy())[order]], width, generator)
    return features + 0.1 * generator.standard_normal(features.shape)


def controls_alone(process: HiddenMarkovModel, words: Words, width: int, generator: Generator) -> Features:
    """Law, history and an untrained network's states side by side: no one control, only all of them together."""
    parts = [spread(words.next_token_laws.numpy()), spread(history(words))]
    states = reservoir(words, width, 0.9, generator)
    return states + np.concatenate(parts, axis=1) @ generator.standard_normal(
        (sum(part.shape[1] for part in parts), width)
    ) / np.sqrt(width)


def under_a_sign(process: HiddenMarkovModel, words: Words, width: int, generator: Generator) -> Features:
    """The belief times a random sign, and the sign: a product gives the belief back, no linear map gives any of it."""
    sign = generator.choice([-1.0, 1.0], (words.num_words, 1))
    return turned([np.concatenate([sign, sign * spread(words.filtered.numpy())], axis=1)], width, generator)


Plant = Callable[[HiddenMarkovModel, Words, int, Generator], Features]

NEGATIVES: dict[str, Plant] = {
    "random features": random_features,
    "reservoir of matched width": untrained,
    "function of the next-token law": of_law,
    "function of the last k tokens": of_last_tokens,
    "belief of another process": elsewhere,
    "shuffled belief": shuffled,
}
"""The six stated classes."""
BEYOND: dict[str, Plant] = {"controls together": controls_alone, "present, not linear": under_a_sign}
"""Two harder ones, which no single control describes."""
