"""All words that a process can emit, with their exact probabilities, beliefs and next-token laws.

The words form a prefix tree. It is walked level by level, so every prefix is computed once, and only along branches of
positive probability: an impossible word has no belief.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from pcnet.processes.models.arguments import require_at_least
from pcnet.processes.models.hmm import HiddenMarkovModel

PADDING = -1
"""Stands after the end of a word where words of different lengths share a tensor; no token is negative."""


@dataclass(frozen=True, eq=False)
class WordLevel:
    """The possible words of one length l, in lexicographic order; row n of every tensor belongs to the same word.

    Attributes:
        tokens: the words themselves.
        parents: row of the word without its last token in the level before; 0, the empty word, in the first level.
        last_tokens: last token of each word.
        probabilities: probability that the process, started from its stationary law, emits the word; sums to 1.
        predicted: belief before the last token.
        filtered: belief after the last token.
        next_token_laws: law of the token that follows the word.
    """

    tokens: Int[Tensor, "N length"]
    parents: Int[Tensor, " N"]
    last_tokens: Int[Tensor, " N"]
    probabilities: Float[Tensor, " N"]
    predicted: Float[Tensor, "N S"]
    filtered: Float[Tensor, "N S"]
    next_token_laws: Float[Tensor, "N V"]


@dataclass(frozen=True, eq=False)
class Words:
    """The possible words of lengths 1, 2, ..., one level per length; properties join the levels in that order.

    Probabilities sum to 1 within each length, hence to the number of levels over all of them.
    """

    levels: tuple[WordLevel, ...]

    @property
    def num_words(self) -> int:
        """Number of words N of all lengths."""
        return len(self.lengths)

    @cached_property
    def lengths(self) -> Int[Tensor, " N"]:
        """Length of each word."""
        return torch.cat([torch.full_like(level.last_tokens, level.tokens.shape[1]) for level in self.levels])

    @cached_property
    def tokens(self) -> Int[Tensor, "N L"]:
        """The words, padded on the right with -1 to the greatest length."""
        longest = len(self.levels)
        missing = [longest - level.tokens.shape[1] for level in self.levels]
        padded = [pad(level.tokens, (0, n), value=PADDING) for level, n in zip(self.levels, missing, strict=True)]
        return torch.cat(padded)

    @cached_property
    def last_tokens(self) -> Int[Tensor, " N"]:
        """Last token of each word."""
        return torch.cat([level.last_tokens for level in self.levels])

    @cached_property
    def probabilities(self) -> Float[Tensor, " N"]:
        """Probability of each word among those of its length."""
        return torch.cat([level.probabilities for level in self.levels])

    @cached_property
    def predicted(self) -> Float[Tensor, "N S"]:
        """Belief before the last token of each word."""
        return torch.cat([level.predicted for level in self.levels])

    @cached_property
    def filtered(self) -> Float[Tensor, "N S"]:
        """Belief after each word."""
        return torch.cat([level.filtered for level in self.levels])

    @cached_property
    def next_token_laws(self) -> Float[Tensor, "N V"]:
        """Law of the token that follows each word."""
        return torch.cat([level.next_token_laws for level in self.levels])


def words(process: HiddenMarkovModel, length: int, max_words: int = 2_000_000) -> Words:
    """Enumerate every possible word of lengths 1..length.

    ``P(wx) = P(w) (eta_w T[x] 1)``, ``eta_wx = eta_w T[x] / (eta_w T[x] 1)``, from ``eta = pi`` for the empty word

    Exact up to rounding; time and memory grow with the number of words, at most ``V + V^2 + ... + V^length``
    (88,572 for length 10 over three tokens).

    Args:
        process: what emits the words.
        length: greatest length, at least 1.
        max_words: refuse to make more words than this.

    Raises:
        TypeError, ValueError: if ``length`` or ``max_words`` isn't a positive integer, there are more words than that, or
            the process has no unique stationary law.
    """
    require_at_least("length", length, 1)
    require_at_least("max_words", max_words, 1)
    level = _empty_word(process)
    levels: list[WordLevel] = []
    made = 0
    for depth in range(1, length + 1):
        made += int(torch.count_nonzero(level.next_token_laws))
        require_affordable(f"words of lengths 1..{depth}", made, max_words)
        level = _next_level(process, level)
        levels.append(level)
    return Words(tuple(levels))


class Branches(NamedTuple):
    """Every possible continuation of some words by one token, in lexicographic order if the words are."""

    parents: Int[Tensor, " N"]
    last_tokens: Int[Tensor, " N"]
    probabilities: Float[Tensor, " N"]
    predicted: Float[Tensor, "N S"]
    filtered: Float[Tensor, "N S"]


def branch(
    process: HiddenMarkovModel, beliefs: Float[Tensor, "parents S"], next_token_laws: Float[Tensor, "parents V"]
) -> Branches:
    """Continue words, given by their beliefs and next-token laws, by each token that can follow them."""
    parents, tokens = next_token_laws.nonzero(as_tuple=True)
    predicted = beliefs[parents]
    filtered, probabilities = process.advance(predicted, tokens)
    return Branches(parents, tokens, probabilities, predicted, filtered)


def require_affordable(what: str, count: int, max_words: int) -> None:
    """Refuse an enumeration of more than ``max_words`` words before it fills the memory."""
    if count > max_words:
        raise ValueError(f"there are {count:,} {what}, more than max_words={max_words:,}; ask for a smaller length")


def _empty_word(process: HiddenMarkovModel) -> WordLevel:
    belief = process.initial_distribution.unsqueeze(0)
    root = torch.zeros(1, dtype=torch.int64)
    certain = torch.ones(1, dtype=torch.float64)
    return WordLevel(root.new_empty(1, 0), root, root, certain, belief, belief, belief @ process.emission_matrix)


def _next_level(process: HiddenMarkovModel, level: WordLevel) -> WordLevel:
    parents, last_tokens, probabilities, predicted, filtered = branch(process, level.filtered, level.next_token_laws)
    return WordLevel(
        tokens=torch.cat([level.tokens[parents], last_tokens.unsqueeze(1)], dim=1),
        parents=parents,
        last_tokens=last_tokens,
        probabilities=level.probabilities[parents] * probabilities,
        predicted=predicted,
        filtered=filtered,
        next_token_laws=filtered @ process.emission_matrix,
    )
