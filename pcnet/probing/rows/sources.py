"""Rows that a probe sees: a process's words once each, or every position of sampled sequences."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.probing.rows.dataset import (
    Array,
    ProbeData,
    Weighted,
    as_numpy,
)
from pcnet.probing.rows.groups import Groups
from pcnet.probing.rows.repeats import Repeats
from pcnet.probing.rows.targets import equal_rows
from pcnet.processes import Process, Words, filter_beliefs, next_token_law

BEFORE = -1
"""Stands after the end of a word, and for what came before its start."""


class Known(NamedTuple):
    """What an ideal observer knows at each row."""

    predicted: Float[Tensor, "N S"]
    filtered: Float[Tensor, "N S"]
    next_token_laws: Float[Tensor, "N V"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows in the attributes of ``pcnet.processes.Words``, from whatever source, and the groups that they fall into.

    Args:
        sequences: tokens of each sequence; words of different lengths are padded on the right with -1.
        origin: sequence of each row.
        lengths: how many of its tokens a row has seen, at least 1.
        probabilities: weight of each row among those of its length.
        known: beliefs and laws; None if the process isn't known.
        departures: how these rows depart from the default protocol, for the column of that name.
    """

    sequences: Int[Tensor, "B L"]
    origin: Int[Tensor, " N"]
    lengths: Int[Tensor, " N"]
    probabilities: Float[Tensor, " N"]
    known: Known | None
    departures: tuple[str, ...] = ()

    @classmethod
    def of_words(cls, words: Words) -> Self:
        """Unique words with exact probabilities: the rows of the default protocol."""
        known = Known(words.predicted, words.filtered, words.next_token_laws)
        return cls(words.tokens, torch.arange(words.num_words), words.lengths, words.probabilities, known)

    @classmethod
    def of_sequences(cls, tokens: Int[Array, "B L"], process: Process | None = None) -> Self:
        """Every position of sampled sequences, row b L + t for position t of sequence b.

        A word that was drawn several times stands there several times: split by ``by_word`` at the least. Weights are
        empirical, every row the same among those of its length.

        Args:
            tokens: sequences from the initial law on, of one length, at least one.
            process: what emitted them, if beliefs and laws are wanted.

        Raises:
            TypeError: if tokens aren't whole numbers.
            ValueError: if they aren't a matrix or are negative, if one lies outside the vocabulary, or if the process
                can't emit a sequence; the message names row and position.
        """
        tokens = _sequences(tokens)
        batch, length = tokens.shape
        known = None if process is None else _known(process, tokens)
        return cls(
            sequences=tokens,
            origin=torch.arange(batch).repeat_interleave(length),
            lengths=torch.arange(1, length + 1).repeat(batch),
            probabilities=torch.full((batch * length,), 1 / batch, dtype=torch.float64),
            known=known,
            departures=("sampled",),
        )

    @property
    def num_words(self) -> int:
        """Number of rows N."""
        return len(self.lengths)

    @cached_property
    def tokens(self) -> Int[Tensor, "N L"]:
        """What each row has seen, padded on the right with -1."""
        inside = torch.arange(self.sequences.shape[1]) < self.lengths[:, None]
        return torch.where(inside, self.sequences[self.origin], BEFORE)

    @property
    def last_tokens(self) -> Int[Tensor, " N"]:
        """The newest token of each row."""
        return self.sequences[self.origin, self.lengths - 1]

    @property
    def predicted(self) -> Float[Tensor, "N S"]:
        """Belief before the newest token."""
        return self._observer().predicted

    @property
    def filtered(self) -> Float[Tensor, "N S"]:
        """Belief after the newest token."""
        return self._observer().filtered

    @property
    def next_token_laws(self) -> Float[Tensor, "N V"]:
        """Law of the token that follows."""
        return self._observer().next_token_laws

    def flatten(self, activations: Float[Array, "B L D"]) -> Float[Array, "N D"]:
        """One row per position, no copy made.

        Raises:
            ValueError: if the activations don't stand at the positions of these sequences.
        """
        batch, length = self.sequences.shape
        if self.num_words != batch * length or activations.shape[:2] != (batch, length) or activations.ndim != 3:
            raise ValueError(
                f"activations have shape {tuple(activations.shape)}; tokens have shape {(batch, length)}, so they must "
                f"be ({batch}, {length}, D)"
            )
        return activations.reshape(batch * length, activations.shape[2])

    def by_word(self) -> Groups:
        """Rows that have seen the same tokens stay together: the least against leaks."""
        return Groups.of("word", [self.lengths.numpy(), *self.tokens.numpy().T])

    def by_suffix(self, num_tokens: int) -> Groups:
        """Rows that end in the same tokens stay together, so a table of endings predicts nothing.

        Args:
            num_tokens: how many; "before the start" counts as a token. At least 1.
        """
        if num_tokens < 1:
            raise ValueError(f"num_tokens={num_tokens}: it must be at least 1")
        sequences, origin, lengths = (part.numpy() for part in (self.sequences, self.origin, self.lengths))
        places = [lengths - 1 - lag for lag in range(min(num_tokens, sequences.shape[1]))]
        columns = [np.where(place >= 0, sequences[origin, np.maximum(place, 0)], BEFORE) for place in places]
        return Groups.of(f"suffix {num_tokens}", columns)

    def by_belief(self) -> Groups:
        """Rows of equal filtered belief stay together: only beliefs that no fit has seen are asked for."""
        return Groups("equal belief", equal_rows(self.filtered.numpy()))

    def by_sequence(self) -> Groups:
        """Rows of one sequence stay together; each row by itself for unique words."""
        return Groups("sequence", self.origin.numpy())

    @cached_property
    def repeats(self) -> Repeats:
        """Which rows are the same word."""
        return Repeats.of(self)

    def _observer(self) -> Known:
        if self.known is None:
            raise ValueError("process=None: beliefs and laws of these rows need the process that emitted the tokens")
        return self.known


def probe_data(
    features: Float[Array, "N D"], targets: Float[Array, "N T"], rows: Weighted, groups: Groups | None = None
) -> ProbeData:
    """Checked rows for a probe; sampled ones are dealt to folds by word unless groups are given, and say so.

    Args:
        features, targets: one row per word.
        rows: words, ``Rows`` or ``WeightedRows``.
        groups: rows that must stay together.

    Raises:
        ValueError: naming the argument, what it holds and what it may hold.
    """
    if not isinstance(rows, Rows):
        return ProbeData.checked(features, targets, rows, groups)
    groups = rows.by_word() if groups is None and rows.departures else groups
    return ProbeData.checked(features, targets, rows, groups, rows.departures)


def _sequences(tokens: Int[Array, "B L"]) -> Int[Tensor, "B L"]:
    array = as_numpy(tokens)
    if array.dtype.kind not in "iu":
        raise TypeError(f"tokens have dtype {array.dtype}; they must be whole numbers")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"tokens have shape {array.shape}; they must be a matrix, one sequence in a row")
    if len(negative := np.argwhere(array < 0)):
        row, position = negative[0]
        raise ValueError(f"tokens hold {array[row, position]} at row {row}, position {position}; none may be negative")
    return torch.as_tensor(array.astype(np.int64))


def _known(process: Process, tokens: Int[Tensor, "B L"]) -> Known:
    beliefs = filter_beliefs(process, tokens)
    laws = next_token_law(process, beliefs.filtered)
    return Known(*(part.flatten(0, 1) for part in (beliefs.predicted, beliefs.filtered, laws)))
