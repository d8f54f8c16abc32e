"""Memory, in nats: how much of the past a predictor must store, how much of that never shows, how long it is uncertain."""

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from pcnet.processes.information.entropies import limit
from pcnet.processes.information.excess import excess_entropy
from pcnet.processes.information.forgetting import memory_left, reset_belief
from pcnet.processes.information.group_inverse import apply_group_inverse
from pcnet.processes.information.histories import histories
from pcnet.processes.information.quantity import Quantity, bounded, mixed
from pcnet.processes.machines.causal_process import MAX_STATES, causal_machine, ergodic_parts, smallest
from pcnet.processes.machines.mixed_state import MixedStatePresentation, mixed_state_presentation
from pcnet.processes.models.hmm import Process, UndefinedError, as_process, started_at

FINE, COARSE = 1e-13, 1e-10
"""Tolerances at which converging beliefs are counted as different; the difference of the two answers is the error."""
ROUNDED = 1e-15
"""Beliefs that differ by more than this differ by more than rounding."""
NEGLIGIBLE = 1e-9
"""Greatest probability beyond the mixed states at which a complexity is still computed from them."""


def statistical_complexity(process: Process | ArrayLike, *, max_states: int = MAX_STATES) -> Quantity:
    """Compute how much must be remembered of the past to predict as well as all of it does, in nats.

    ``C_mu = H[pi]``, with pi the stationary law of the causal states

    Exact if there are finitely many. If a word of the process resets the belief, there are countably many, and the answer
    comes with bounds. Otherwise beliefs are taken to fill a continuum and the answer is infinite. Finitely many beliefs
    can't prove that, so the lower bound is then the excess entropy.

    Args:
        process: a process, or the matrices of a hidden Markov model. Its stationary process counts; where that has
            several ergodic parts, the memory of which part it is counts as well.
        max_states: mixed states to look at.

    Raises:
        TypeError, ValueError: if ``max_states`` isn't a positive integer, or the stationary law isn't unique.

    Reference: Crutchfield & Young (1989), Phys. Rev. Lett. 63, 105; Marzen & Crutchfield (2017), arXiv 1702.08565.
    """
    process = as_process(process)
    machine = causal_machine(process, max_states)
    if machine is not None:
        return Quantity(machine.complexity)
    parts = ergodic_parts(process)
    weights = torch.tensor([weight for weight, _ in parts])
    which = Quantity(float(torch.special.entr(weights).sum()))
    memories = [_part_complexity(part, max_states) for _, part in parts]
    return mixed([1.0, *weights.tolist()], [which, *memories])


def crypticity(process: Process | ArrayLike, *, max_states: int = MAX_STATES) -> Quantity:
    """Compute how much of the causal state can't be inferred even from the whole future, in nats.

    ``chi = C_mu - E = H[S_0 | X_0 X_1 ...]``, with S_0 the causal state

    Args:
        process: a process, or the matrices of a hidden Markov model.
        max_states: mixed states to look at.

    Raises:
        TypeError, ValueError: if ``max_states`` isn't a positive integer, or the stationary law isn't unique.

    Reference: Crutchfield, Ellison & Mahoney (2009), Phys. Rev. Lett. 103, 094101.
    """
    memory = statistical_complexity(process, max_states=max_states)
    shown = excess_entropy(process, max_states=max_states)
    low, high = max(memory.low - shown.high, 0.0), max(memory.high - shown.low, 0.0)
    return bounded(float(memory) - float(shown), low, high, exact=memory.exact and shown.exact)


def synchronization_information(process: Process | ArrayLike, *, max_states: int = MAX_STATES) -> Quantity:
    """Compute an observer's uncertainty of the causal state, summed over all tokens; in nats times tokens.

    ``S = sum_L H[S_L | X_0 ... X_(L-1)] = <delta_pi| (I - W)^D |H[eta]>``, the belief entropies of the mixed states

    Exact where the mixed states close; between bounds where only the causal states do; infinite where these fill a
    continuum.

    Args:
        process: a process, or the matrices of a hidden Markov model.
        max_states: mixed states to look at.

    Raises:
        TypeError, ValueError: if ``max_states`` isn't a positive integer, the stationary law isn't unique, or there are
            countably many causal states, for which no bounds are known.

    Reference: Crutchfield & Feldman (2003), Chaos 13, 25, equation 38; Crutchfield, Riechers & Ellison (2016), Phys. Lett. A
        380, 998, arXiv 1309.3792.
    """
    process = as_process(process)
    machine = causal_machine(process, max_states)
    if machine is None:
        memory = statistical_complexity(process, max_states=max_states)
        if math.isinf(memory):
            return Quantity(math.inf, 0.0, exact=False)
        raise UndefinedError(
            "synchronization_information needs finitely many causal states; this process has countably many, or more than "
            f"max_states={max_states:,}"
        )
    presentation = mixed_state_presentation(machine.process, max_states=max_states)
    if presentation.closed:
        entropies = torch.special.entr(presentation.states).sum(1).numpy()
        return Quantity(max(float(apply_group_inverse(presentation, entropies)[0]), 0.0))
    lacking = np.minimum.accumulate(histories(machine.process, max_states).memory)
    _, rate = limit(lacking)
    after = memory_left(machine.process, lacking)[-1]
    return bounded(lacking.sum() + lacking[-1] * rate / (1 - rate), lacking.sum() * (1 - 1e-9), lacking.sum() + after)


def _part_complexity(process: Process, max_states: int) -> Quantity:
    """Of an ergodic process."""
    machine = causal_machine(process, max_states)
    if machine is not None:
        return Quantity(machine.complexity)
    small = smallest(process, max_states)
    least = excess_entropy(process, max_states=max_states).low
    belief = reset_belief(small)
    if belief is None:
        return Quantity(math.inf, least, exact=False)
    value, beyond = _countable(started_at(small, belief), FINE, max_states)
    if beyond > NEGLIGIBLE:
        return Quantity(max(value, least), least, math.inf)
    error = abs(value - _countable(started_at(small, belief), COARSE, max_states)[0]) + 1e-9
    return bounded(value, max(value - error, least), value + error)


def _countable(process: Process, tolerance: float, max_states: int) -> tuple[float, float]:
    """Entropy of how often each belief is held between two returns to the first, and how probably one lies beyond."""
    presentation = mixed_state_presentation(process, tolerance=tolerance, max_states=max_states)
    step = presentation.sparse_transition.tolil()
    step[:, 0] = 0
    start = np.zeros(len(presentation))
    start[0] = 1
    visits = np.maximum(sparse_linalg.spsolve((sparse.eye_array(len(start)) - step.tocsr()).T.tocsc(), start), 0)
    law = visits / visits.sum()
    entropy = float(torch.special.entr(torch.from_numpy(law)).sum()) + float(law @ _unrolled(presentation))
    return entropy, float(visits @ presentation.leak.numpy()) * float(visits.sum())


def _unrolled(presentation: MixedStatePresentation) -> Float[NDArray, " M"]:
    """Entropy to add for a mixed state that stands for an infinite series of beliefs, one token leading to the next.

    They are visited with probabilities ``(1 - r) r^k``, so that their entropy is ``H[r] / (1 - r)``.
    """
    rows, tokens = (presentation.successors == torch.arange(len(presentation)).unsqueeze(1)).nonzero(as_tuple=True)
    stays = presentation.probabilities[rows, tokens]
    after = torch.bmm(presentation.states[rows].unsqueeze(1), presentation.process.transition_matrices[tokens]).squeeze(
        1
    )
    moved = (after / stays.unsqueeze(1) - presentation.states[rows]).abs().amax(1) > ROUNDED
    hidden = torch.special.entr(stays) + torch.special.entr(1 - stays)
    found = np.zeros(len(presentation))
    found[rows[moved].numpy()] = (hidden / (1 - stays))[moved].numpy()
    return found
