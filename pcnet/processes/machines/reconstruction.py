"""An epsilon-machine estimated from sequences, by splitting causal states until the next token depends on no more past."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, xlogy
from torch import Tensor

from pcnet.processes.machines.causal_states import EpsilonMachine, canonical_order, named
from pcnet.processes.machines.unifilar import (
    NOWHERE,
    Unifilar,
    closed_parts,
    components,
    machine_matrices,
    refine,
)
from pcnet.processes.models.arguments import require_at_least
from pcnet.processes.models.stationary import eliminate

RARE = 10
"""A history seen less often is not tested, and stays with the shorter one that it ends in."""


@dataclass(frozen=True, eq=False)
class ReconstructedMachine:
    """An estimated epsilon-machine and what it was estimated from.

    Attributes:
        machine: states, transitions and estimated probabilities.
        counts: how often each token followed the histories of each state.
        histories: of each state, those of length ``max_length - 1`` (or ``max_length``, if it was only found there),
            the oldest token first.
        coverage: share of the positions, of those with ``max_length`` tokens before them, that are in one of these
            states; elsewhere the history doesn't determine the state.
    """

    machine: EpsilonMachine
    counts: Int[Tensor, "S V"]
    histories: tuple[tuple[tuple[int, ...], ...], ...]
    coverage: float

    @property
    def standard_errors(self) -> Float[Tensor, "S V"]:
        """Of the machine's probabilities: ``sqrt(p (1 - p) / n)``, n visits to the state; 0 where p is 0 or 1."""
        probabilities = self.machine.probabilities
        return (probabilities * (1 - probabilities) / self.counts.sum(1, keepdim=True)).sqrt()

    def __repr__(self) -> str:
        return f"ReconstructedMachine({self.machine!r}, coverage={self.coverage:.3f})"


def reconstruct(
    sequences: Int[Tensor, "B L"] | ArrayLike,
    *,
    max_length: int,
    significance: float = 1e-3,
    future_length: int = 1,
    vocab_size: int | None = None,
) -> ReconstructedMachine:
    """Estimate the epsilon-machine of a stationary process from samples, by causal-state splitting (CSSR).

    1. Start with one state, which holds the empty history. 2. Lengthen histories by one token into the past. A history
    whose next token doesn't follow the law of its suffix's state moves to the state that it agrees with best, or to a new
    one. 3. Split states until each token leads from a state to one other, and keep the recurrent ones.

    Laws are compared by a likelihood-ratio test of two samples, ``G = 2 sum O log(O / E)`` against chi-squared with one
    degree of freedom less than tokens seen. The number of states is right with a probability that grows to 1 with the
    data if ``max_length - 1`` tokens of the past determine the state. Where they
    often can't, too many states may be found: RRXOR needs a ``future_length`` of 3. Try another ``max_length`` to see
    whether the answer stays. Costs one pass over the data and at most S tests for each of up to ``V^max_length`` histories.

    Args:
        sequences: tokens of an integer type, one sequence or a batch of equal lengths; independent, or far apart.
        max_length: longest history, at least 1 and shorter than the sequences. If it is too short, states are missed; if
            too long, histories are too rare to be compared. At most ``log(B L) / h``, with h the entropy rate in nats.
        significance: probability that one test splits what belongs together. There are as many tests as histories, so
            it should be below one over their number.
        future_length: how many of the next tokens are compared together, at least 1, which is the published algorithm.
        vocab_size: V; by default the greatest token and one more.

    Raises:
        TypeError, ValueError: if an argument isn't of its type or out of range; the message names the position of a token.

    Reference: Shalizi & Klinkner (2004), Blind construction of optimal nonlinear recursive predictors for discrete
        sequences, UAI, arXiv cs/0406011.
    """
    tokens = _checked_sequences(sequences)
    require_at_least("max_length", max_length, 1)
    require_at_least("future_length", future_length, 1)
    if tokens.shape[1] < max_length + future_length:
        raise ValueError(
            f"max_length + future_length, {max_length} + {future_length}, must be at most the length of the sequences, "
            f"{tokens.shape[1]}"
        )
    if not 0 < significance < 1:
        raise ValueError(f"significance must be in (0, 1), got {significance}")
    vocab_size = _checked_vocabulary(tokens, vocab_size, max_length + future_length)
    kinds = np.unique(_words(tokens, future_length, vocab_size))
    levels = [_counted(tokens, length, kinds, future_length, vocab_size) for length in range(max_length + 1)]
    return _machine(levels, _split(levels, significance))


@dataclass(frozen=True)
class _Level:
    """The histories of one length that a future follows, in lexicographic order.

    A history is a number to the base V whose last digit is its newest token, so that the suffix of length n is the
    remainder by ``V^n``.
    """

    length: int
    codes: Int[NDArray, " N"]
    counts: Int[NDArray, "N V"]
    futures: Int[NDArray, "N F"]

    @property
    def totals(self) -> Int[NDArray, " N"]:
        return self.counts.sum(1)

    def find(self, codes: Int[NDArray, " n"]) -> Int[NDArray, " n"]:
        """Rows of histories; -1 where one wasn't seen."""
        rows = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[rows] == codes, rows, NOWHERE)


def _counted(
    tokens: Int[NDArray, "B L"], length: int, kinds: Int[NDArray, " F"], future_length: int, vocab_size: int
) -> _Level:
    """Count what follows the histories of a length: the next token, and the kinds of words that come next."""
    words, numbers = np.unique(_words(tokens, length + future_length, vocab_size), return_counts=True)
    codes, rows = np.unique(words // vocab_size**future_length, return_inverse=True)
    futures = np.zeros((len(codes), len(kinds)), dtype=np.int64)
    np.add.at(futures, (rows, np.searchsorted(kinds, words % vocab_size**future_length)), numbers)
    counts = np.zeros((len(codes), vocab_size), dtype=np.int64)
    np.add.at(counts.T, kinds // vocab_size ** (future_length - 1), futures.T)
    return _Level(length, codes, counts, futures)


def _words(tokens: Int[NDArray, "B L"], length: int, vocab_size: int) -> Int[NDArray, " N"]:
    """Every word of a length in the sequences, as a number to the base V."""
    windows = np.lib.stride_tricks.sliding_window_view(tokens, length, axis=1).reshape(-1, length)
    return windows @ vocab_size ** np.arange(length - 1, -1, -1)


def _split(levels: Sequence[_Level], significance: float) -> list[Int[NDArray, " N"]]:
    """State of every history of every length."""
    labels = [np.zeros(1, dtype=np.int64)]
    for shorter, level in zip(levels, levels[1:], strict=False):
        parents = labels[-1][shorter.find(level.codes % level.counts.shape[1] ** shorter.length)]
        known = np.zeros((max(int(label.max()) for label in labels) + 1, level.futures.shape[1]), dtype=np.int64)
        np.add.at(known, labels[-1], shorter.futures)
        labels.append(_assigned(level, parents, known, significance))
    return labels


def _assigned(
    level: _Level, parents: Int[NDArray, " N"], known: Int[NDArray, "K F"], significance: float
) -> Int[NDArray, " N"]:
    """State of every history of a length, the most frequent first.

    A history is compared with the others of its suffix's state, as it is itself among what was counted there.
    """
    labels, before = parents.copy(), len(known)
    for row in np.argsort(-level.totals, kind="stable"):
        own, parent = level.futures[row], parents[row]
        if own.sum() < RARE or _agreement(own, known[parent] - own) > significance:
            continue
        chances = np.array([_agreement(own, counts) if counts.any() else 0.0 for counts in known])
        chances[parent] = 0
        labels[row] = best = int(chances.argmax()) if chances.max() > significance else len(known)
        if best == len(known):
            known = np.concatenate([known, own[None]])
        elif best >= before:
            known[best] += own
    return labels


def _agreement(first: Int[NDArray, " F"], second: Int[NDArray, " F"]) -> float:
    """Probability that two samples of one law differ by more than these: the likelihood-ratio test."""
    table = np.stack([first, second])
    table = table[:, table.any(0)]
    terms = xlogy(table, table).sum() + xlogy(table.sum(), table.sum())
    margins = xlogy(table.sum(0), table.sum(0)).sum() + xlogy(table.sum(1), table.sum(1)).sum()
    freedom = table.shape[1] - 1
    return float(chdtrc(freedom, max(2 * (terms - margins), 0.0))) if freedom and table.any(1).all() else 1.0


@dataclass(frozen=True)
class _Nodes:
    """Histories long enough to determine the state, and short enough that the next one was counted too.

    Those of length ``max_length - 1``, and those of full length in states that hold no shorter one.
    """

    levels: Sequence[_Level]
    labels: Sequence[Int[NDArray, " N"]]
    late: Int[NDArray, " n"]

    @classmethod
    def of(cls, levels: Sequence[_Level], labels: Sequence[Int[NDArray, " N"]]) -> "_Nodes":
        return cls(levels, labels, np.flatnonzero(~np.isin(labels[-1], labels[-2])))

    @property
    def states(self) -> Int[NDArray, " M"]:
        return np.concatenate([self.labels[-2], self.labels[-1][self.late]])

    @property
    def counts(self) -> Int[NDArray, "M V"]:
        return np.concatenate([self.levels[-2].counts, self.levels[-1].counts[self.late]])

    def histories(self) -> list[tuple[int, ...]]:
        """Tokens of each node, the oldest first."""
        base = self.levels[0].counts.shape[1]
        pairs = [(code, self.levels[-2].length) for code in self.levels[-2].codes.tolist()]
        pairs += [(code, self.levels[-1].length) for code in self.levels[-1].codes[self.late].tolist()]
        return [tuple(code // base**place % base for place in reversed(range(length))) for code, length in pairs]

    def successors(self) -> Int[NDArray, "M V"]:
        """Node that each token leads to, -1 where the token never follows the histories of the state."""
        base, longest = self.counts.shape[1], self.levels[-1].length
        codes = np.concatenate([self.levels[-2].codes, self.levels[-1].codes[self.late]])
        reached = (codes[:, None] * base + np.arange(base)) % base**longest
        seen = np.zeros((int(self.states.max()) + 1, base), dtype=bool)
        np.logical_or.at(seen, self.states, self.counts > 0)
        table = np.full(reached.shape, NOWHERE)
        for node, token in zip(*seen[self.states].nonzero(), strict=True):
            table[node, token] = self.node(int(reached[node, token]))
        return table

    def node(self, code: int) -> int:
        """Where a history of full length is: itself, its suffix, or the most frequent node that is most like it."""
        full, shorter = self.levels[-1], self.levels[-2]
        row = int(full.find(np.array([code]))[0])
        suffix = int(shorter.find(np.array([code % full.counts.shape[1] ** shorter.length]))[0])
        if row == NOWHERE:
            return suffix if suffix != NOWHERE else self._alike(code)
        state = self.labels[-1][row]
        if self.labels[-2][suffix] == state:
            return suffix
        place = np.flatnonzero(self.late == row)
        if len(place):
            return len(shorter.codes) + int(place[0])
        return int(np.where(self.labels[-2] == state, shorter.totals, -1).argmax())

    def _alike(self, code: int) -> int:
        """Most frequent node among those that share the longest suffix with a history that wasn't seen."""
        shorter, base = self.levels[-2], self.counts.shape[1]
        for length in range(shorter.length, -1, -1):
            same = shorter.codes % base**length == code % base**length
            if same.any():
                return int(np.where(same, shorter.totals, -1).argmax())
        raise AssertionError("every history ends in the empty one")


def _machine(levels: Sequence[_Level], labels: Sequence[Int[NDArray, " N"]]) -> ReconstructedMachine:
    """Split the states until tokens lead from one to one, and keep the recurrent ones."""
    nodes = _Nodes.of(levels, labels)
    successors = nodes.successors()
    parts = refine(np.unique(nodes.states, return_inverse=True)[1], successors)
    counts = np.zeros((parts.max() + 1, nodes.counts.shape[1]), dtype=np.int64)
    np.add.at(counts, parts, nodes.counts)
    follow = np.full(counts.shape, NOWHERE)
    places, tokens = (successors != NOWHERE).nonzero()
    follow[parts[places], tokens] = parts[successors[places, tokens]]
    follow[counts == 0] = NOWHERE
    kept = closed_parts(follow)
    machine = _recurrent(follow, counts, kept)
    order = canonical_order(machine)
    chosen = np.flatnonzero(kept)[order]
    histories = nodes.histories()
    held = np.array([kept[parts[nodes.node(code)]] for code in levels[-1].codes.tolist()])
    return ReconstructedMachine(
        machine=named(machine, order),
        counts=torch.from_numpy(counts[chosen]),
        histories=tuple(tuple(histories[node] for node in np.flatnonzero(parts == part)) for part in chosen),
        coverage=float(held @ levels[-1].totals / levels[-1].totals.sum()),
    )


def _recurrent(follow: Int[NDArray, "P V"], counts: Int[NDArray, "P V"], kept: Bool[NDArray, " P"]) -> Unifilar:
    """The states that are kept, with their probabilities; a class is as probable as it was frequent."""
    names = np.append(np.cumsum(kept) - 1, NOWHERE)
    successors, counts = names[follow[kept]], counts[kept]
    probabilities = counts / counts.sum(1, keepdims=True)
    labels, weights = components(successors), np.empty(len(counts))
    chain = machine_matrices(torch.from_numpy(successors), torch.from_numpy(probabilities)).sum(0)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        law = eliminate(chain[members][:, members]).numpy()
        weights[members] = law * counts[members].sum() / counts.sum()
    return Unifilar(successors, probabilities, weights)


def _checked_sequences(sequences: ArrayLike) -> Int[NDArray, "B L"]:
    tokens = sequences.detach().cpu().numpy() if isinstance(sequences, Tensor) else np.asarray(sequences)
    if tokens.dtype.kind not in "iu":
        raise TypeError(f"sequences must be integers, got {type(sequences).__name__} of type {tokens.dtype}")
    if tokens.ndim not in (1, 2) or tokens.size == 0:
        raise ValueError(f"sequences must have a shape (L,) or (B, L) with B, L >= 1, got {tokens.shape}")
    return np.atleast_2d(tokens).astype(np.int64)


def _checked_vocabulary(tokens: Int[NDArray, "B L"], vocab_size: int | None, longest: int) -> int:
    vocab_size = int(tokens.max()) + 1 if vocab_size is None else vocab_size
    require_at_least("vocab_size", vocab_size, 1)
    wrong = np.argwhere((tokens < 0) | (tokens >= vocab_size))
    if len(wrong):
        row, position = wrong[0].tolist()
        raise ValueError(
            f"sequences[{row}, {position}] = {tokens[row, position]} is no token; legal are 0..{vocab_size - 1}"
        )
    if vocab_size**longest >= 2**62:
        raise ValueError(
            f"max_length + future_length, {longest}, is too long for {vocab_size} tokens: there must be fewer than 2^62 "
            "words of that length"
        )
    return vocab_size
