"""How fast what was at the start loses its influence: words that reset the belief, bounds on the memory of a state."""

import math
from collections import deque

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from pcnet.processes.models.hmm import HiddenMarkovModel, Process

MOST_WORDS = 2000
"""Words of one length whose contraction is looked at."""
MOST_RESETS = 3000
"""Words that are tried as resets."""
SINGULAR = 1e-11
"""Fraction of the greatest singular value up to which the others count as zero."""
MOST_PAIRS = 50_000
"""Pairs of states that are solved for."""


def memory_left(process: Process, memory: Float[NDArray, " n"]) -> Float[NDArray, " n"]:
    """Bound the sum over all greater lengths of ``I[S_0; S_l | X_0 ... X_(l-1)]``.

    Args:
        process: started from its stationary law.
        memory: bounds for lengths 0, 1, ..., falling.
    """
    if not isinstance(process, HiddenMarkovModel):
        return np.full(len(memory), math.inf)
    after_last = min(_by_contraction(process, float(memory[-1])), _by_pairs(process, len(memory)))
    return np.append(np.cumsum(memory[:0:-1])[::-1], 0) + after_last


def _by_contraction(process: HiddenMarkovModel, last: float) -> float:
    """Sum of a memory that every word of m tokens shrinks by a factor c at least: ``last m / (1 - c)``.

    c is the greatest total variation, over words and pairs of states, between the laws of the state after the word:
    Dobrushin's coefficient, which bounds how much information a step passes on.
    """
    matrices = process.transition_matrices
    words, best, length = matrices, math.inf, 1
    while 0 < len(words) <= MOST_WORDS:
        coefficient = _contraction(words)
        if coefficient < 1:
            best = min(best, last * length / (1 - coefficient))
        length += 1
        words = (words.unsqueeze(1) @ matrices).flatten(0, 1) if len(words) * len(matrices) <= MOST_WORDS else []
    return best


def _contraction(words: Float[torch.Tensor, "W S S"]) -> float:
    """Greatest total variation between two rows of one word, each made a law; rows that can't emit it don't count."""
    totals = words.sum(2, keepdim=True)
    laws = words / totals.where(totals > 0, 1.0)
    apart = 0.5 * torch.cdist(laws, laws, p=1)
    possible = (totals > 0) & (totals > 0).mT
    return float(torch.where(possible, apart, 0.0).max())


def _by_pairs(process: HiddenMarkovModel, length: int) -> float:
    """Sum over lengths >= ``length`` of ``H[S_l | X_0 ... X_(l-1)]``, if each token leads to at most one state.

    ``H[eta] <= 2 sum_(i < j) sqrt(eta_i eta_j)``, and the average of ``sqrt(eta_i eta_j)`` moves from pair to pair by no
    more than ``sqrt(P(x | i) P(x | j))`` for each token x that doesn't make the pair one state.
    """
    possible, pairs = process.transition_matrices > 0, process.num_states * (process.num_states - 1) // 2
    if bool((possible.sum(2) > 1).any()) or pairs > MOST_PAIRS:
        return math.inf
    if pairs == 0:
        return 0.0
    step, start = _pair_step(process)
    for _ in range(length):
        start = start @ step
    left = sparse_linalg.spsolve((sparse.eye_array(pairs) - step).tocsc(), np.ones(pairs))
    return 2 * float(start @ left) if left.min() >= 1 else math.inf


def _pair_step(process: HiddenMarkovModel) -> tuple[sparse.csr_array, Float[NDArray, " pairs"]]:
    """How pairs of states that stay two move on, and how much of each there is at the start."""
    states = process.num_states
    first, second = np.triu_indices(states, 1)
    number = np.zeros((states, states), dtype=np.int64)
    number[first, second] = number[second, first] = np.arange(len(first))
    law, weights = process.initial_distribution.numpy(), process.emission_matrix.numpy()
    step = sparse.csr_array((len(first), len(first)))
    for token, matrix in enumerate(process.transition_matrices.numpy()):
        after = matrix.argmax(1)
        both = (weights[first, token] > 0) & (weights[second, token] > 0) & (after[first] != after[second])
        size = np.sqrt(weights[first, token] * weights[second, token])[both]
        targets = number[after[first[both]], after[second[both]]]
        step = step + sparse.coo_array((size, (np.flatnonzero(both), targets)), shape=step.shape).tocsr()
    return step, np.sqrt(law[first] * law[second])


def reset_belief(process: Process) -> Float[NDArray, " S"] | None:
    """The belief after a shortest word w whose matrix has rank 1: it is the same whatever the belief was before.

    Words are tried breadth first as long as they shrink the rank further, or end in a token that may. None if there is
    none among those tried.
    """
    matrices = process.transition_matrices.numpy()
    if all(_rank(matrix) == process.num_states for matrix in matrices):
        return None
    queue, tried = deque([np.eye(process.num_states)]), 0
    while queue and tried < MOST_RESETS:
        word = queue.popleft()
        for image in word @ matrices:
            tried += 1
            rank = _rank(image)
            if rank == 1:
                row = image[np.abs(image).sum(1).argmax()]
                return row / (row @ process.right_vector.numpy())
            if rank:
                queue.append(image / np.abs(image).max())
    return None


def _rank(matrix: Float[NDArray, "S S"]) -> int:
    sizes = np.linalg.svd(matrix, compute_uv=False)
    return int((sizes > SINGULAR * sizes[0]).sum()) if sizes[0] > 1e-280 else 0
