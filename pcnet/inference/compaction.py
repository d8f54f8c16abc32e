"""Rows that have stopped and are no longer computed: what is kept of them, and how they come back."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from pcnet.inference.carry import overwrite
from pcnet.typing import State


class Entry(NamedTuple):
    """What is known of every row.

    Attributes:
        state: in the solver's coordinates.
        values: of the free nodes.
        steps: taken so far.
        status: a `Status`.
        evaluations: of the problem so far.
        products: Hessian products so far.
    """

    state: State
    values: State
    steps: Int[Tensor, " B"]
    status: Int[Tensor, " B"]
    evaluations: Int[Tensor, " B"]
    products: Int[Tensor, " B"]


class Ledger:
    """An `Entry` of all rows, brought up to date whenever rows are dropped.

    Args:
        entry: of all rows, before the first is dropped.
    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.index = torch.arange(len(entry.steps), device=entry.steps.device)

    def write(self, entry: Entry) -> Entry:
        """Note what has become of the rows still computed; returns what is known of all."""
        self.entry = overwrite(self.entry, self.index, entry)
        return self.entry

    def keep(self, rows: Int[Tensor, " R"]) -> None:
        """Only these of the rows still computed go on."""
        self.index = self.index[rows]

    def values(self, values: State) -> State:
        """The values of all rows, those still computed having moved on to these."""
        return overwrite(self.entry.values, self.index, values)
