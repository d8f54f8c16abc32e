"""Rows that are the same word, and rows of such words joined into one."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.probing.rows.dataset import Array, as_numpy
from pcnet.probing.rows.groups import Groups
from pcnet.processes import Words


class UniqueWords(NamedTuple):
    """Words that stand once each, in the attributes of ``pcnet.processes.Words``."""

    tokens: Int[Tensor, "N L"]
    lengths: Int[Tensor, " N"]
    last_tokens: Int[Tensor, " N"]
    probabilities: Float[Tensor, " N"]
    predicted: Float[Tensor, "N S"]
    filtered: Float[Tensor, "N S"]
    next_token_laws: Float[Tensor, "N V"]


@dataclass(frozen=True, eq=False)
class Repeats:
    """Which rows are the same word; words are counted by length, then in lexicographic order, as ``Words`` are.

    Args:
        first: a row of each word.
        word: number of each row's word.
    """

    first: Int[np.ndarray, " n"]
    word: Int[np.ndarray, " N"]

    @classmethod
    def of(cls, words: Words) -> Self:
        """Looks at ``tokens`` and ``lengths``."""
        labels = Groups.of("word", [words.lengths.numpy(), *words.tokens.numpy().T]).labels
        _, first, word = np.unique(labels, return_index=True, return_inverse=True)
        return cls(first, word.ravel())

    @property
    def none(self) -> bool:
        """Whether every word stands once."""
        return len(self.first) == len(self.word)

    def join(self, values: Float[Array, "N *D"]) -> Float[np.ndarray, "n *D"]:
        """The mean over the rows of each word; the same rows where every word stands once.

        Raises:
            ValueError: if there aren't as many rows.
        """
        array = as_numpy(values)
        if len(array) != len(self.word):
            raise ValueError(f"features have {len(array)} rows; the words are {len(self.word)}, so give one for each")
        if self.none:
            return array
        sums = np.zeros((len(self.first), *array.shape[1:]))
        np.add.at(sums, self.word, array)
        return sums / np.bincount(self.word).reshape(-1, *[1] * (array.ndim - 1))

    def words(self, words: Words) -> Words | UniqueWords:
        """Every word once: its probability is the sum of its rows', its beliefs and laws are their mean."""
        if self.none:
            return words
        first = torch.as_tensor(self.first)
        mass = np.bincount(self.word, weights=as_numpy(words.probabilities))
        means = (words.predicted, words.filtered, words.next_token_laws)
        return UniqueWords(
            *(part[first] for part in (words.tokens, words.lengths, words.last_tokens)),
            torch.as_tensor(mass),
            *(torch.as_tensor(self.join(part)) for part in means),
        )
