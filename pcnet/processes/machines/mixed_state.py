"""The mixed-state presentation: every belief that an observer can pass through, and how tokens lead from one to another."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg
from torch import Tensor

from pcnet.processes.machines.unifilar import NOWHERE, closed_parts, components, machine_matrices
from pcnet.processes.models.arguments import require_at_least, require_tolerance
from pcnet.processes.models.hmm import HiddenMarkovModel, Process, UndefinedError, as_process
from pcnet.processes.models.stationary import eliminate

ROUNDING = 1e-13
"""Error of a belief, times the probability of the token that led to it, that counts as rounding where zeros cancel."""
ROUNDING_STEPS = 4
"""Units of the last place, for each state and token of a word, by which a sum of positive numbers may be off."""
IMPOSSIBLE = 1e-12
"""Greatest probability that counts as zero where matrices have negative entries, so that zeros cancel."""
VANISHING = 1e-290
"""Greatest probability that counts as zero otherwise: below, numbers lose digits."""
UNREACHABLE = 1e-200
"""Words less probable than this aren't continued."""
DENSE = 300
"""Greatest number of states whose stationary law is solved for without subtraction, at a cost of its third power."""
EPSILON = np.finfo(np.float64).eps


class NotClosedError(UndefinedError):
    """A question needs finitely many mixed states, and these aren't, or are more than were looked at."""


@dataclass(frozen=True, eq=False)
class MixedStatePresentation:
    """A process as a machine whose states are beliefs: each token leads from a belief to exactly one other.

    Where the search stopped early, a word may lead beyond the states: to a belief that isn't among them.

    Attributes:
        process: whose beliefs.
        states: the beliefs, in the order in which they were found; the first is that of the empty word.
        probabilities: law of the next token in each.
        successors: row of the belief that follows each token; -1 where the token is impossible or leads beyond.
        depth: length up to which every word ends in one of the states.
        merged: greatest distance, in any coordinate, between a belief and the state that it counts as.
        closed: whether these are all the mixed states: nothing lies beyond, and no belief counts as another one from
            which it differs by more than rounding. Beliefs that converge without end, as on a fractal, come closer
            than any tolerance and still don't close.
    """

    process: Process
    states: Float[Tensor, "M S"]
    probabilities: Float[Tensor, "M V"]
    successors: Int[Tensor, "M V"]
    depth: int
    merged: float
    closed: bool

    def __len__(self) -> int:
        return len(self.states)

    @cached_property
    def sparse_transition(self) -> sparse.csr_array:
        """`transition` as a sparse matrix."""
        rows, tokens = (self.successors != NOWHERE).nonzero(as_tuple=True)
        entries = self.probabilities[rows, tokens].numpy(), (rows.numpy(), self.successors[rows, tokens].numpy())
        return sparse.coo_array(entries, shape=(len(self), len(self))).tocsr()

    @cached_property
    def forward(self) -> sparse.csr_array:
        """Its transpose, which moves a law of mixed states by one token."""
        return self.sparse_transition.T.tocsr()

    @cached_property
    def transition(self) -> Float[Tensor, "M M"]:
        """``W[m, n]``: probability to go from belief m to n. Rows from which a token leads beyond sum to less than 1."""
        return torch.from_numpy(self.sparse_transition.toarray())

    @property
    def transition_matrices(self) -> Float[Tensor, "V M M"]:
        """The part of `transition` that each token has."""
        return machine_matrices(self.successors, self.probabilities)

    @cached_property
    def parts(self) -> Int[NDArray, " M"]:
        """Number of the part that each state belongs to; the states of a part reach each other."""
        return components(self.successors.numpy())

    @cached_property
    def recurrent(self) -> Bool[Tensor, " M"]:
        """States that an observer returns to again and again: those of parts that no token leads out of."""
        leaking = np.isin(self.parts, self.parts[self.leak.numpy() > 0])
        return torch.from_numpy(closed_parts(self.successors.numpy()) & ~leaking)

    @property
    def recurrent_classes(self) -> list[Int[NDArray, " m"]]:
        """The states of each recurrent part."""
        return [np.flatnonzero(self.parts == part) for part in np.unique(self.parts[self.recurrent.numpy()])]

    @property
    def transient(self) -> Bool[Tensor, " M"]:
        """The other states."""
        return ~self.recurrent

    @cached_property
    def leak(self) -> Float[Tensor, " M"]:
        """Probability that the next token leads beyond, in each state."""
        leads = (self.successors == NOWHERE) & (self.probabilities > 0)
        return torch.where(leads, self.probabilities, 0.0).sum(1)

    @property
    def beyond(self) -> float:
        """Probability that the first `depth` + 1 tokens end beyond these states; 0 if nothing lies there."""
        return self.outside(self.depth + 1)

    @cached_property
    def law_entropies(self) -> Float[Tensor, " M"]:
        """Uncertainty of the next token in each mixed state, in nats."""
        return torch.special.entr(self.probabilities).sum(1)

    def walk(self) -> Iterator[Float[NDArray, " M"]]:
        """How probable each mixed state is after 0, 1, 2, ... tokens; what lies beyond is missing. Never ends."""
        row = np.zeros(len(self))
        row[0] = 1
        while True:
            yield row
            row = self.forward @ row

    def outside(self, length: int) -> float:
        """Probability that an observer has left these states at some time within the first ``length`` tokens."""
        require_at_least("length", length, 0)
        left = 0.0
        for _, row in zip(range(length), self.walk()):
            left += float(row @ self.leak.numpy())
        return min(left, 1.0)

    @cached_property
    def stationary_distribution(self) -> Float[Tensor, " M"]:
        """How often an observer holds each belief in the long run, from the empty word on.

        Raises:
            ValueError: if something lies beyond.
        """
        self.require_nothing_beyond("the stationary law of the mixed states")
        law, held = np.zeros(len(self)), self._absorbed(self.recurrent.numpy())
        for members in self.recurrent_classes:
            law[members] = held[members].sum() * law_of_class(self.sparse_transition[members][:, members])
        return torch.from_numpy(law)

    def _absorbed(self, kept: NDArray[np.bool_]) -> Float[NDArray, " M"]:
        """Law of the first recurrent state that is met, from the empty word on."""
        start = np.zeros(len(self))
        start[0] = 1
        if kept[0]:
            return start
        passing, ends = np.flatnonzero(~kept), np.flatnonzero(kept)
        stay = sparse.eye_array(len(passing)) - self.sparse_transition[passing][:, passing]
        visits = sparse_linalg.spsolve(stay.T.tocsc(), start[passing])
        start[:] = 0
        start[ends] = visits @ self.sparse_transition[passing][:, ends]
        return start

    def require_nothing_beyond(self, what: str) -> None:
        """Refuse a question that needs all mixed states."""
        if bool((self.leak > 0).any()):
            raise NotClosedError(
                f"{what} needs all mixed states, but these {len(self)} are not closed: with probability "
                f"{self.beyond:.3g} the first {self.depth + 1} tokens lead beyond them"
            )


def law_of_class(step: sparse.csr_array) -> Float[NDArray, " m"]:
    """Stationary law of states that reach each other and nothing else; of many of them, by sparse elimination."""
    if step.shape[0] <= DENSE:
        return eliminate(torch.from_numpy(step.toarray())).numpy()
    system = (sparse.eye_array(step.shape[0]) - step).T.tocsr()
    rest = sparse_linalg.spsolve(system[1:][:, 1:].tocsc(), -system[1:][:, [0]].toarray().squeeze(1))
    law = np.append(1.0, np.maximum(rest, 0))
    return law / law.sum()


def mixed_state_presentation(
    process: Process | ArrayLike, *, tolerance: float = 1e-9, max_states: int = 4096
) -> MixedStatePresentation:
    """Find the beliefs that words lead to, from the initial one on; beliefs that nearly agree count as one.

    ``eta -> eta T[x] / (eta T[x] r)`` with probability ``eta T[x] r``, until nothing new appears

    The search is breadth first, so shorter words come first. Costs one filter step for each state and token.

    Args:
        process: a process, or the matrices of a hidden Markov model.
        tolerance: beliefs are one state if no coordinate differs by more.
        max_states: stop looking when there are so many; the answer then has ``closed=False``.

    Raises:
        TypeError, ValueError: if ``max_states`` isn't a positive integer, or ``tolerance`` is negative or not finite.

    Reference: Crutchfield, Riechers & Ellison (2016), arXiv 1309.3792; Jurgens & Crutchfield (2021), arXiv 2102.10487.
    """
    process = as_process(process)
    require_at_least("max_states", max_states, 1)
    require_tolerance(tolerance)
    search = _Search(process, tolerance, max_states)
    search.run()
    return MixedStatePresentation(
        process=process,
        states=torch.from_numpy(search.states.rows.copy()),
        probabilities=torch.from_numpy(np.concatenate(search.laws)),
        successors=torch.from_numpy(search.successors()),
        depth=search.depth,
        merged=search.merged,
        closed=search.whole and search.exact,
    )


class _Search:
    """Levels of a breadth-first search through beliefs; the first state is the empty word's."""

    def __init__(self, process: Process, tolerance: float, max_states: int) -> None:
        self.matrices = process.transition_matrices.numpy()
        self.emission = process.emission_matrix.numpy()
        self.positive = isinstance(process, HiddenMarkovModel)
        self.tolerance, self.max_states = tolerance, max_states
        self.reach = 1.01 * (tolerance + 1e-15)  # rounding of the keys included
        direction = np.random.default_rng(0).uniform(0.5, 1, process.num_states)
        self.direction = direction / direction.sum()  # beliefs that agree have keys that agree to the tolerance
        start = process.initial_distribution.numpy()[None]
        self.states, self.laws, self.links = _Rows(start), [self._laws(start)], []
        self.keys, self.order = start @ self.direction, np.zeros(1, dtype=np.int64)
        self.count, self.expanded, self.depth = 1, 0, 0
        self.merged, self.exact, self.whole = 0.0, True, False
        self.reached = np.ones(1)  # probability of the words that led to the states of the last level first

    def run(self) -> None:
        fresh = self.states.rows
        while len(fresh) and self.reached.max() > UNREACHABLE:
            fresh = self._expand(fresh, self.laws[-1])
            self.laws.append(self._laws(fresh))
        self.whole = len(fresh) == 0 and self.depth == len(self.links)

    def successors(self) -> Int[NDArray, "M V"]:
        """Rows after each token; the last states, if they weren't expanded, lead nowhere."""
        table = np.full((self.count, len(self.matrices)), NOWHERE)
        for rows, tokens, targets in self.links:
            table[rows, tokens] = targets
        return table

    def _laws(self, beliefs: Float[NDArray, "N S"]) -> Float[NDArray, "N V"]:
        laws = beliefs @ self.emission
        laws[laws <= (VANISHING if self.positive else IMPOSSIBLE)] = 0
        return laws

    def _expand(self, beliefs: Float[NDArray, "N S"], laws: Float[NDArray, "N V"]) -> Float[NDArray, "new S"]:
        """Find the successors of a level; what is new among them becomes the next one."""
        parents, tokens = laws.nonzero()
        likelihoods = laws[parents, tokens]
        children = np.empty((len(parents), beliefs.shape[1]))
        for token in range(len(self.matrices)):
            chosen = tokens == token
            children[chosen] = beliefs[parents[chosen]] @ self.matrices[token]
        children /= likelihoods[:, None]
        targets = np.full(len(children), NOWHERE)
        self._match(children, likelihoods, targets, self.states.rows, self.keys, self.order)
        first = self.count
        fresh = self._distinct(children, likelihoods, targets)
        new = targets >= first
        self.reached = np.bincount(targets[new] - first, (self.reached[parents] * likelihoods)[new])
        self.links.append((self.expanded + parents, tokens, targets))
        self.expanded += len(beliefs)
        if self.depth + 1 == len(self.links) and not (targets == NOWHERE).any():
            self.depth += 1
        return fresh

    def _match(
        self,
        children: Float[NDArray, "N S"],
        likelihoods: Float[NDArray, " N"],
        targets: Int[NDArray, " N"],
        states: Float[NDArray, "M S"],
        keys: Float[NDArray, " m"],
        order: Int[NDArray, " m"],
    ) -> None:
        """Write into targets which of these states a belief is, if any: only those with nearly its key are compared."""
        asked = np.flatnonzero(targets == NOWHERE)
        own = children[asked] @ self.direction
        low, high = np.searchsorted(keys, own - self.reach), np.searchsorted(keys, own + self.reach)
        for offset in range(int((high - low).max(initial=0))):
            chosen = np.flatnonzero((targets[asked] == NOWHERE) & (low + offset < high))
            rows = order[low[chosen] + offset]
            mine = asked[chosen]
            distances = np.abs(children[mine] - states[rows])
            same = distances.max(1) <= self.tolerance
            mine, rows, distances = mine[same], rows[same], distances[same]
            targets[mine] = rows
            self.merged = max(self.merged, float(distances.max(initial=0)))
            self.exact &= bool((distances <= self._rounding(children[mine], likelihoods[mine])).all())

    def _rounding(
        self, beliefs: Float[NDArray, "N S"], likelihoods: Float[NDArray, " N"]
    ) -> Float[NDArray, "N S"] | Float[NDArray, "N 1"]:
        """By how much beliefs of the present level may differ and still be equal.

        Sums of products of positive numbers lose relative accuracy by a unit in the last place per operation, whatever
        is small; where zeros cancel, the error of a vector is that of its greatest entry.
        """
        if self.positive:
            return ROUNDING_STEPS * EPSILON * len(self.emission) * (len(self.links) + 2) * beliefs
        return (ROUNDING * np.abs(beliefs).max(1, initial=1) / likelihoods)[:, None]

    def _distinct(
        self, children: Float[NDArray, "N S"], likelihoods: Float[NDArray, " N"], targets: Int[NDArray, " N"]
    ) -> Float[NDArray, "new S"]:
        """New states among the beliefs without a target, in order of their appearance, as many as are still allowed."""
        before = self.count
        while self.count < self.max_states and (targets == NOWHERE).any():
            found = children[self._firsts(children, np.flatnonzero(targets == NOWHERE))][: self.max_states - self.count]
            keys, numbers = found @ self.direction, self.count + np.arange(len(found))
            order = np.argsort(keys, kind="stable")
            self.states.append(found)
            self._match(children, likelihoods, targets, self.states.rows, keys[order], numbers[order])
            places = np.searchsorted(self.keys, keys[order])
            self.keys = np.insert(self.keys, places, keys[order])
            self.order = np.insert(self.order, places, numbers[order])
            self.count += len(found)
        return self.states.rows[before:]

    def _firsts(self, children: Float[NDArray, "N S"], asked: Int[NDArray, " n"]) -> Int[NDArray, " firsts"]:
        """The first belief of every run of keys that follow each other closely: no two of them are one state."""
        keys = children[asked] @ self.direction
        order = np.argsort(keys, kind="stable")
        runs = np.concatenate([[0], np.cumsum(np.diff(keys[order]) > self.reach)])
        first = np.full(runs[-1] + 1, len(children))
        np.minimum.at(first, runs, asked[order])
        return np.sort(first)


class _Rows:
    """A matrix that grows by rows, in place while there is room."""

    def __init__(self, first: Float[NDArray, "N S"]) -> None:
        self.memory, self.count = first.copy(), len(first)

    @property
    def rows(self) -> Float[NDArray, "M S"]:
        return self.memory[: self.count]

    def append(self, rows: Float[NDArray, "N S"]) -> None:
        needed = self.count + len(rows)
        if needed > len(self.memory):
            grown = np.empty((2 * needed, self.memory.shape[1]))
            grown[: self.count] = self.rows
            self.memory = grown
        self.memory[self.count : needed] = rows
        self.count = needed
