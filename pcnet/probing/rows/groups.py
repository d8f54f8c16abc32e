"""Rows that must stay together when they are dealt to folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True, eq=False)
class Groups:
    """Which group each row belongs to; a group is never in training and held out at once.

    Args:
        name: what the column ``departures`` of a score says, e.g. "suffix 3".
        labels: equal whole numbers stand for one group.

    Raises:
        ValueError: if the labels aren't a vector of whole numbers.
    """

    name: str
    labels: Int[np.ndarray, " N"]

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.labels.dtype.kind not in "iu":
            raise ValueError(
                f"groups: labels have dtype {self.labels.dtype} and shape {self.labels.shape}; "
                "they must be one whole number for each row"
            )

    @classmethod
    def of(cls, name: str, columns: Sequence[Int[np.ndarray, " N"]]) -> Self:
        """Rows that agree in every column."""
        labels = np.zeros(len(columns[0]), dtype=np.int64)
        for column in columns:
            low = column.min(initial=0)
            joined = labels * (column.max(initial=0) - low + 1) + column - low
            labels = np.unique(joined, return_inverse=True)[1].ravel()
        return cls(name, labels)

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(np.unique(self.labels))

    def folds(
        self, scored: Int[np.ndarray, " n"], num_folds: int, fold_seed: int, always_training: str
    ) -> Int[np.ndarray, " N"]:
        """Fold of each row, whole groups dealt at random.

        Rows that are never scored go with their group, so that they don't teach what is asked; -1, always in training,
        where no row of their group is scored.

        Args:
            scored: rows that are to be held out at some time.
            num_folds: how many folds.
            fold_seed: of the deal.
            always_training: how a message calls the rows that aren't scored.

        Raises:
            ValueError: if the scored rows belong to fewer groups than folds.
        """
        numbers, of_scored = np.unique(self.labels[scored], return_inverse=True)
        if len(numbers) < num_folds:
            raise ValueError(
                f"groups: the words longer than {always_training} are in {len(numbers)} groups ({self.name}); "
                f"num_folds={num_folds} needs at least as many"
            )
        deal = np.random.default_rng(fold_seed).permutation(len(numbers)) % num_folds
        place = np.minimum(np.searchsorted(numbers, self.labels), len(numbers) - 1)
        labels = np.where(numbers[place] == self.labels, deal[place], -1)
        labels[scored] = deal[of_scored.ravel()]
        return labels
