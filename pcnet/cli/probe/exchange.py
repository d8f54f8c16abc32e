"""Targets that mean nothing, where a word may stand in many rows: whole words are exchanged, never single rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.cli.probe.question import Question
from pcnet.probing import Rows, Shuffled, ShuffledBeliefs, ShuffledEverywhere, ShuffledKeepingLastToken
from pcnet.probing.regression.protocol import DEFAULT_PROTOCOL, probe_replicates
from pcnet.probing.rows.dataset import ProbeData

KINDS = (ShuffledBeliefs, ShuffledKeepingLastToken, ShuffledEverywhere)
MOST_ORDERS = 2**24
"""Row numbers that are held at once."""


class EachOnce(NamedTuple):
    """Every word once, as far as shuffles look at it."""

    lengths: Int[Tensor, " n"]
    last_tokens: Int[Tensor, " n"]


@dataclass(frozen=True, eq=False)
class Repeats:
    """Which rows are the same word.

    Args:
        first: a row of each word.
        word: number of each row's word.
    """

    first: Int[np.ndarray, " n"]
    word: Int[np.ndarray, " N"]

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """Of sequences that somebody sampled."""
        _, first, word = np.unique(rows.by_word().labels, return_index=True, return_inverse=True)
        return cls(first, word.ravel())

    def orders(self, shuffle: Shuffled, rows: Rows) -> Int[np.ndarray, "N R"]:
        """Whose target each row gets: distinct words are exchanged, and all rows of a word move with it.

        Rows exchanged one by one would give equal features different targets, which no fit can follow, and so make the
        score to beat too low. The price: words stand in unequal numbers of rows, so a rare word's target may come to
        stand in many rows and the variance differs between orders. Each order is scored against its own variance, and
        where few words make up most rows the percentile is higher than that of distinct words would be.

        Args:
            shuffle: says between which words, how often and with what seed.
            rows: these.
        """
        once = EachOnce(rows.lengths[self.first], rows.last_tokens[self.first])
        return self.first[shuffle.permutations(once)][self.word]


def shuffled_scores(
    question: Question, features: Float[np.ndarray, "N D"], permutations: int, seed: int
) -> dict[str, pd.DataFrame]:
    """The 95th percentile over permutations of three kinds, by name; one deal to folds.

    Args:
        question: of whose rows.
        features: the site's own.
        permutations: of each kind.
        seed: of the permutations.
    """
    rows, repeats = question.rows, Repeats.of(question.rows)
    data = ProbeData.checked(features, question.targets, rows.lengths, rows.probabilities)
    once = replace(DEFAULT_PROTOCOL, fold_seeds=DEFAULT_PROTOCOL.fold_seeds[:1])
    found: dict[str, list[pd.DataFrame]] = {kind.name: [] for kind in KINDS}
    for part in _parts(permutations, seed, rows.num_words):
        order = np.concatenate([repeats.orders(shuffle, rows) for shuffle in part], axis=1)
        scores = probe_replicates(data, order, once, (True,), question.groups)
        kind = scores["replicate"] // part[0].num_permutations
        for number, shuffle in enumerate(part):
            found[shuffle.name].append(scores[kind == number])
    return {kind.name: kind().summary(pd.concat(found[kind.name])) for kind in KINDS}


def _parts(permutations: int, seed: int, num_rows: int) -> Iterator[Sequence[Shuffled]]:
    """As many permutations at once as memory allows, and as many more times as it takes."""
    most = max(1, MOST_ORDERS // (len(KINDS) * num_rows))
    for number, start in enumerate(range(0, permutations, most)):
        drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        yield [kind(min(most, permutations - start), drawn) for kind in KINDS]
