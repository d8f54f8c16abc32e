"""How many tokens a process remembers: its Markov and its cryptic order."""

import math

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pcnet.processes.machines.causal_process import causal_machine
from pcnet.processes.machines.causal_states import EpsilonMachine
from pcnet.processes.machines.unifilar import NOWHERE, components
from pcnet.processes.models.hmm import Process, as_process


def markov_order(process: Process | ArrayLike, *, max_states: int = 4096) -> float:
    """Find how many of the last tokens determine everything that the past says about the future.

    ``R = min {L : H[S_L | X_0 ... X_(L-1)] = 0}``, with S_L the causal state

    Two causal states are followed along every word that both can emit, until they become one: the order is the length of
    the longest such word that leaves them apart, plus 1. Exact; costs V times the number of pairs of causal states.

    Args:
        process: a process, or the matrices of a hidden Markov model.
        max_states: causal states that are looked for, where hidden states aren't them already.

    Returns:
        An integer number of tokens, or `math.inf` where no number suffices. Also infinite where there are infinitely many
        causal states, as finitely many tokens tell only finitely many apart, or more than ``max_states``.

    Raises:
        ValueError: if the stationary law isn't unique.

    Reference: James, Mahoney, Ellison & Crutchfield (2014), Many roads to synchrony, arXiv 1010.5545.
    """
    machine = causal_machine(as_process(process), max_states)
    if machine is None:
        return math.inf
    pairs = _Pairs.of(machine)
    return pairs.longest_path(np.ones(len(pairs.apart), dtype=bool))


def cryptic_order(process: Process | ArrayLike, *, max_states: int = 4096) -> float:
    """Find how many of the last tokens, together with the whole future, determine the causal state.

    ``k = min {L : H[S_L | X_0 X_1 ...] = 0}``, with S_L the causal state

    As `markov_order`, but only pairs of causal states count that some word makes one: the others are told apart by an
    infinite future. Never greater than the Markov order.

    Args:
        process: a process, or the matrices of a hidden Markov model.
        max_states: causal states that are looked for, where hidden states aren't them already.

    Returns:
        An integer number of tokens, or `math.inf`; also infinite where no finite machine is found.

    Raises:
        ValueError: if the stationary law isn't unique.

    Reference: Mahoney, Ellison & Crutchfield (2009), arXiv 0905.4787; James et al. (2014), arXiv 1010.5545.
    """
    machine = causal_machine(as_process(process), max_states)
    if machine is None:
        return math.inf
    pairs = _Pairs.of(machine)
    return pairs.longest_path(pairs.meeting())


class _Pairs:
    """Unordered pairs of different causal states, and how tokens that both can emit lead from pair to pair.

    Attributes:
        apart: for each token, the pair that each pair becomes; -1 where only one of them emits it or they become one.
        joins: which pairs some token makes one state.
    """

    def __init__(self, apart: Int[NDArray, "P V"], joins: Bool[NDArray, " P"]) -> None:
        self.apart, self.joins = apart, joins

    @classmethod
    def of(cls, machine: EpsilonMachine) -> "_Pairs":
        successors = machine.successors.numpy()
        first, second = np.triu_indices(len(successors), 1)
        after = successors[first], successors[second]
        both = (after[0] != NOWHERE) & (after[1] != NOWHERE)
        low, high = np.minimum(*after), np.maximum(*after)
        number = low * len(successors) - low * (low + 1) // 2 + high - low - 1
        return cls(np.where(both & (low != high), number, NOWHERE), (both & (low == high)).any(1))

    def meeting(self) -> Bool[NDArray, " P"]:
        """Pairs that some word makes one state."""
        found = self.joins
        while True:
            leads = np.append(found, False)[self.apart].any(1)
            if not (leads & ~found).any():
                return found
            found = found | leads

    def longest_path(self, kept: Bool[NDArray, " P"]) -> float:
        """Pairs on the longest path through these pairs; infinite if there is a cycle."""
        if not kept.any():
            return 0
        apart = np.where(np.append(kept, False)[self.apart] & kept[:, None], self.apart, NOWHERE)
        rows, tokens = (apart != NOWHERE).nonzero()
        labels = components(apart)
        if (labels[rows] == labels[apart[rows, tokens]]).any():
            return math.inf
        graph = sparse.coo_array(
            (np.ones(len(rows)), (rows, apart[rows, tokens])), shape=(len(kept), len(kept))
        ).tocsr()
        length, alive = 0, kept.astype(float)
        while alive.any():
            length, alive = length + 1, (alive @ graph > 0).astype(float)
        return length
