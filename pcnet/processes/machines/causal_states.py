"""The epsilon-machine of a process: its causal states, exactly, and how tokens lead from one to another."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcnet.processes.machines.equivalence import Span
from pcnet.processes.machines.mixed_state import (
    ROUNDING,
    MixedStatePresentation,
    NotClosedError,
    mixed_state_presentation,
)
from pcnet.processes.machines.unifilar import (
    NOWHERE,
    Unifilar,
    components,
    distinct,
    machine_matrices,
    refine,
    tolerance_ranks,
)
from pcnet.processes.models.arguments import require_tolerance
from pcnet.processes.models.hmm import GeneralizedHiddenMarkovModel, HiddenMarkovModel, Process, as_process, started_at
from pcnet.processes.models.stationary import UNIT, eliminate, recurrent_classes


@dataclass(frozen=True, eq=False)
class EpsilonMachine:
    """The smallest machine that predicts a process as well as the whole past does.

    Two pasts are in one causal state if every future is equally probable after both. Each token leads from a causal
    state to exactly one other; no smaller machine with this property makes the process, and up to the names of its
    states there is only one. States are named breadth first, in the order of tokens, from the state of greatest
    probability on (of equal ones, that with the greatest probability of token 0, then of token 1, ..., then those whose
    successors come first by the same rule), so two equal processes have equal machines, entry for entry.

    A process with several recurrent classes, a mixture, has the causal states of all of them, those with the most
    probable state first; `stationary_distribution` then holds their probabilities as well.

    Attributes:
        successors: state that each token leads to; -1 where the token is impossible.
        probabilities: law of the next token in each state.
        stationary_distribution: how often each state is visited in the long run.
    """

    successors: Int[Tensor, "S V"]
    probabilities: Float[Tensor, "S V"]
    stationary_distribution: Float[Tensor, " S"]

    @property
    def num_states(self) -> int:
        """Number of causal states S."""
        return len(self.probabilities)

    def __len__(self) -> int:
        return self.num_states

    @property
    def vocab_size(self) -> int:
        """Number of tokens V."""
        return self.probabilities.shape[1]

    @cached_property
    def process(self) -> HiddenMarkovModel:
        """The machine as a hidden Markov model, stationary; in each row of each matrix there is at most one entry."""
        matrices = machine_matrices(self.successors, self.probabilities)
        return HiddenMarkovModel(matrices, initial=self.stationary_distribution)

    @cached_property
    def components(self) -> Int[Tensor, " S"]:
        """Recurrent class of each state, numbered from 0; all 0 for an ergodic process."""
        return torch.from_numpy(components(self.successors.numpy()).astype(np.int64))

    @cached_property
    def entropy_rate(self) -> float:
        """Uncertainty of the next token after an infinite past, in nats: ``sum_s pi(s) H[P(. | s)]``."""
        return float(self.stationary_distribution @ torch.special.entr(self.probabilities).sum(1))

    @cached_property
    def complexity(self) -> float:
        """Statistical complexity, in nats: ``H[pi]``, what must be remembered of the past to predict as well as it."""
        return float(torch.special.entr(self.stationary_distribution).sum())

    def __repr__(self) -> str:
        return f"EpsilonMachine(num_states={self.num_states}, vocab_size={self.vocab_size})"


def epsilon_machine(process: Process | ArrayLike, *, tolerance: float = 1e-9, max_states: int = 4096) -> EpsilonMachine:
    """Find the causal states of the stationary process, exactly.

    ``past ~ past'  <=>  P(future | past) = P(future | past')`` for all futures

    Hidden states with the same futures are merged first. If each token then leads to at most one state, the states are the
    causal ones. Otherwise these are the recurrent mixed states, those with equal futures merged; the transient ones need
    not close. Costs S^3 V for hidden
    states, and what `mixed_state_presentation` does otherwise.

    Args:
        process: a process, or the matrices of a hidden Markov model. Where it doesn't start from its stationary law, the
            machine is that of the long run.
        tolerance: beliefs and probabilities that differ by no more are equal.
        max_states: mixed states to look at before giving up.

    Raises:
        NotClosedError: if there is no finite machine of mixed states within ``max_states``; a ``ValueError``.
        TypeError, ValueError: if ``max_states`` isn't a positive integer, ``tolerance`` is negative or not finite, or the
            stationary law isn't unique and the process has no initial one.

    Reference: Shalizi & Crutchfield (2001), J. Stat. Phys. 104, 817; Travers & Crutchfield (2011), arXiv 1111.4500.
    """
    process = as_process(process)
    require_tolerance(tolerance)
    if isinstance(process, HiddenMarkovModel):
        machine = _ergodic_parts(lumped(process, tolerance), tolerance, max_states)
    else:
        machine = _belief_machine(process, tolerance, max_states)
    machine = _merged(machine, tolerance)
    return named(machine, canonical_order(machine, tolerance))


def lumped(process: HiddenMarkovModel, tolerance: float = 1e-9) -> HiddenMarkovModel:
    """Merge recurrent hidden states from which every future is equally probable, and drop the transient ones.

    The coarsest partition with ``sum_(k in B) T[x, i, k] = sum_(k in B) T[x, j, k]`` for i, j of one part, all tokens x
    and all parts B. It starts from its stationary law. Costs S^3 V per round, at most S rounds.

    Reference: Kemeny & Snell (1960), Finite Markov Chains, section 6.3.
    """
    law = process.stationary_distribution.numpy()
    kept = np.flatnonzero(law > 0)
    matrices = process.transition_matrices.numpy()[:, kept][:, :, kept]
    law, labels = law[kept], np.zeros(len(kept), dtype=np.int64)
    while True:
        member = np.eye(labels.max() + 1)[labels]
        flows = np.concatenate(list(matrices @ member), axis=1)
        finer = distinct(np.column_stack([labels, tolerance_ranks(flows, tolerance)]))
        if finer.max() == labels.max():
            break
        labels = finer
    weights = law @ member
    average = (member * law[:, None]).T / weights[:, None]
    return HiddenMarkovModel(average @ (matrices @ member), initial=weights / weights.sum())


def canonical_order(machine: Unifilar, tolerance: float = 1e-9) -> Int[NDArray, " M"]:
    """States of a minimal machine, breadth first from the most probable one on; their names don't matter to it."""
    columns = -np.column_stack([machine.weights, machine.probabilities])
    ranks = refine(distinct(tolerance_ranks(columns, tolerance)), machine.successors)
    order: list[int] = []
    for start in np.argsort(ranks, kind="stable"):
        _breadth_first(int(start), machine.successors, order)
    return np.array(order)


def named(machine: Unifilar, order: Int[NDArray, " M"]) -> EpsilonMachine:
    """The machine with its states named in this order."""
    names = np.empty(len(order) + 1, dtype=np.int64)
    names[order], names[NOWHERE] = np.arange(len(order)), NOWHERE
    return EpsilonMachine(
        successors=torch.from_numpy(names[machine.successors[order]]),
        probabilities=torch.from_numpy(machine.probabilities[order]),
        stationary_distribution=torch.from_numpy(machine.weights[order] / machine.weights.sum()),
    )


def _breadth_first(start: int, successors: Int[NDArray, "M V"], order: list[int]) -> None:
    """Append what can be reached and isn't there yet."""
    seen, queue = set(order), [start]
    for state in queue:
        if state not in seen and state != NOWHERE:
            seen.add(state)
            order.append(state)
            queue.extend(successors[state].tolist())


def _merged(machine: Unifilar, tolerance: float) -> Unifilar:
    """Minimal: states with equal futures are one, with their average probabilities."""
    start = distinct(tolerance_ranks(machine.probabilities, tolerance))
    labels = refine(start, machine.successors)
    _, first = np.unique(labels, return_index=True)
    weights = np.bincount(labels, machine.weights)
    flows = [np.bincount(labels, machine.weights * column) for column in machine.probabilities.T]
    probabilities = np.column_stack(flows) / weights[:, None]
    follow = machine.successors[first]
    successors = np.where(follow == NOWHERE, NOWHERE, labels[follow])
    return Unifilar(successors, probabilities / probabilities.sum(1, keepdims=True), weights)


def _ergodic_parts(process: HiddenMarkovModel, tolerance: float, max_states: int) -> Unifilar:
    """Machines of all recurrent classes, side by side."""
    machines, first = [], 0
    for states in recurrent_classes(process.state_transition_matrix):
        part = HiddenMarkovModel(process.transition_matrices[:, states][:, :, states])
        machine = _hidden_machine(part) or _belief_machine(part, tolerance, max_states)
        successors = np.where(machine.successors == NOWHERE, NOWHERE, machine.successors + first)
        weight = float(process.initial_distribution[states].sum())
        machines.append(Unifilar(successors, machine.probabilities, weight * machine.weights))
        first += len(successors)
    return Unifilar(*(np.concatenate(arrays) for arrays in zip(*machines, strict=True)))


def _hidden_machine(process: HiddenMarkovModel) -> Unifilar | None:
    """The hidden states themselves, if each token leads to at most one."""
    possible = process.transition_matrices > 0
    if bool((possible.sum(2) > 1).any()):
        return None
    follow = possible.int().argmax(2).masked_fill(~possible.any(2), NOWHERE)
    return Unifilar(follow.T.numpy(), process.emission_matrix.numpy(), process.initial_distribution.numpy())


def observable(process: Process) -> Process:
    """The process in the long run, without the directions of a belief that no future depends on.

    With Q an orthonormal basis of the span of ``T[w] r`` over all words w, ``T[x] Q = Q A[x]``: the belief ``eta Q`` has
    the future of ``eta``. If all directions are seen, a hidden Markov model stays as it is.
    """
    span, queue = Span(process.right_vector.numpy()), [process.right_vector.numpy()]
    matrices = process.transition_matrices.numpy()
    for future in queue:
        images = (matrix @ future for matrix in matrices)
        queue += [image / np.abs(image).max() for image in images if image.any() and span.grows_by(image)]
    if span.count == process.num_states and isinstance(process, HiddenMarkovModel):
        return started_at(process, process.stationary_distribution)
    basis = span.rows[: span.count].T
    right, start = basis.T @ process.right_vector.numpy(), process.stationary_distribution.numpy() @ basis
    return GeneralizedHiddenMarkovModel(basis.T @ matrices @ basis, right, start / (start @ right))


def _belief_machine(process: Process, tolerance: float, max_states: int) -> Unifilar:
    """The recurrent mixed states.

    A set of beliefs that is left by no token makes, in its stationary law, the words of its average belief; that belief
    is stationary, so where only one is, these are the words of the process, whatever else is not closed.
    """
    single = np.sum(np.abs(np.linalg.eigvals(process.state_transition_matrix.numpy()) - 1) < UNIT) == 1
    presentation = mixed_state_presentation(observable(process), tolerance=tolerance, max_states=max_states)
    chosen = presentation.recurrent.numpy()
    if presentation.closed:
        weights = presentation.stationary_distribution.numpy()
        chosen = weights > 0
        return _part(presentation, chosen, weights[chosen])
    if not single or not chosen.any():
        raise NotClosedError(_not_closed(presentation))
    labels = components(np.where(chosen[:, None], presentation.successors.numpy(), NOWHERE))
    chosen &= labels == labels[np.flatnonzero(chosen)[0]]
    if not _exact(presentation, torch.from_numpy(np.flatnonzero(chosen))):
        raise NotClosedError(_not_closed(presentation))
    inside = presentation.sparse_transition[chosen][:, chosen].toarray()
    return _part(presentation, chosen, eliminate(torch.from_numpy(inside)).numpy())


def _part(presentation: MixedStatePresentation, chosen: NDArray[np.bool_], weights: Float[NDArray, " M"]) -> Unifilar:
    """Some of the mixed states, which no token leads out of."""
    numbers = np.append(np.cumsum(chosen) - 1, NOWHERE)
    successors = numbers[presentation.successors.numpy()[chosen]]
    return Unifilar(successors, presentation.probabilities.numpy()[chosen], weights)


def _exact(presentation: MixedStatePresentation, rows: Int[Tensor, " M"]) -> bool:
    """Whether the successors of these mixed states are theirs up to rounding."""
    found, tokens = (presentation.successors[rows] != NOWHERE).nonzero(as_tuple=True)
    states = rows[found]
    matrices = presentation.process.transition_matrices[tokens]
    arrived = torch.bmm(presentation.states[states].unsqueeze(1), matrices).squeeze(1)
    targets = presentation.states[presentation.successors[states, tokens]]
    expected = targets * presentation.probabilities[states, tokens].unsqueeze(1)
    return bool((arrived - expected).abs().max() <= ROUNDING)


def _not_closed(presentation: MixedStatePresentation) -> str:
    start = f"no epsilon-machine was found: the mixed states are not closed after {len(presentation)} of them; "
    if presentation.beyond > 0:
        return start + (
            f"with probability {presentation.beyond:.3g} the first {presentation.depth + 1} tokens lead beyond them, "
            "and none of their recurrent parts is whole"
        )
    return start + f"they come closer to one another without end (here to {presentation.merged:.3g})"
