"""Features that know less than a model might, for the rows of given sequences: made a few rows at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.cli.probe.arrays import Scratch
from pcnet.cli.probe.question import Question
from pcnet.probing import ConstrainedBelief, NextTokenLaw, Rows, reservoir
from pcnet.probing.controls.banks import SPECTRAL_RADII
from pcnet.probing.rows.history import one_hot, tokens_by_lag

LONGEST_ENDING = 4
MOST_COLUMNS = 1024
"""Of a control: endings beyond are one-hot token by token, and a history is cut."""
NETWORKS = len(SPECTRAL_RADII)
"""Untrained networks of which the best counts, each with its own radius and seed."""

Named = Iterator[tuple[str, Float[np.ndarray, "N D"]]]


class Piece(NamedTuple):
    """Some rows, as far as reservoirs look at them."""

    tokens: Int[Tensor, "n L"]
    lengths: Int[Tensor, " n"]


def of_tokens(question: Question, scratch: Scratch) -> Named:
    """What the tokens alone give away, by name; each is gone when the next one comes.

    The exact next-token law; the last 1 to 4 tokens, a column for each ending that occurs ("before the start" counts as a
    token); every token of the history, one-hot by its distance from the newest; the constrained belief.

    Args:
        question: of whose rows.
        scratch: where they are kept.
    """
    rows, history = question.rows, tokens_by_lag(question.rows)
    if question.target != "next_token":
        yield NextTokenLaw.name, rows.next_token_laws.numpy()
    for k in range(1, min(LONGEST_ENDING, history.shape[1]) + 1):
        endings = rows.by_suffix(k).labels
        if endings.max() < MOST_COLUMNS:
            with _indicators(endings[:, None], endings.max() + 1, scratch) as features:
                yield f"last_{k}_table", features
    symbols = question.process.vocab_size + 1
    lags = min(history.shape[1], max(1, MOST_COLUMNS // symbols))
    with _indicators(history[:, :lags] + 1, symbols, scratch) as features:
        yield "additive_history" if lags == history.shape[1] else f"additive_history_{lags}", features
    yield ConstrainedBelief.name, ConstrainedBelief().features(question.subject())


@contextmanager
def _indicators(symbols: Int[np.ndarray, "N L"], num_symbols: int, scratch: Scratch) -> Iterator[np.ndarray]:
    shape = (len(symbols), symbols.shape[1] * int(num_symbols))
    with scratch.matrix(shape, lambda rows: one_hot(symbols[rows], num_symbols)) as features:
        yield features


def untrained_networks(question: Question, width: int, seed: int, scratch: Scratch) -> Iterator[np.ndarray]:
    """States of untrained recurrent networks over the same tokens, one for each radius.

    Args:
        question: of whose rows.
        width: number of units: the site's.
        seed: of the weights, which are the same for all pieces of the rows.
        scratch: where the states are kept.
    """
    rows, last = question.rows, question.process.vocab_size - 1
    for number, radius in enumerate(SPECTRAL_RADII):

        def states(part: slice, number: int = number, radius: float = radius) -> np.ndarray:
            # a last row with the greatest token: the weights drawn depend on it
            return reservoir(_piece(rows, part, last), width, radius, np.random.default_rng([seed, number]))[:-1]

        with scratch.matrix((rows.num_words, width), states) as features:
            yield features


def _piece(rows: Rows, part: slice, last: int) -> Piece:
    tokens, lengths = rows.tokens[part], rows.lengths[part]
    guard = torch.full_like(tokens[:1], -1)
    guard[0, 0] = last
    return Piece(torch.cat([tokens, guard]), torch.cat([lengths, torch.ones_like(lengths[:1])]))


@contextmanager
def beside(
    law: Float[np.ndarray, "N V"], features: Float[np.ndarray, "N D"], scratch: Scratch
) -> Iterator[Float[np.ndarray, "N columns"]]:
    """Two sets of features as one, for as long as the context lasts.

    Args:
        law: the one.
        features: the other.
        scratch: where they are kept together.
    """
    shape = (len(law), law.shape[1] + features.shape[1])
    dtype = np.result_type(features.dtype, np.float32)
    with scratch.matrix(shape, lambda rows: np.concatenate([law[rows], features[rows]], axis=1), dtype) as both:
        yield both
