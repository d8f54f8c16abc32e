"""What a state may encode, row by row: beliefs of several kinds, laws of the future, the hidden state itself, and the parts
of a belief that next-token prediction doesn't ask for.

Targets of one row each, float64, for rows with the attributes of `pcnet.processes.Words`.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.probing.rows.dataset import Array, as_numpy, probability_weights
from pcnet.processes import HiddenMarkovModel, Process, Words

TOLERANCE = 1e-10
"""Laws closer than this are equal, and directions in which nothing moves further than this don't exist."""
MAX_FUTURES = 2**16
"""Continuations of one history beyond which an enumeration is refused."""


def filtered_belief(process: Process, rows: Words) -> Float[np.ndarray, "N S"]:
    """What is known of the hidden state after the word: the headline target.

    Args:
        process: of the rows.
        rows: words with their beliefs.
    """
    return _beliefs("filtered", rows.filtered, process)


def predicted_belief(process: Process, rows: Words) -> Float[np.ndarray, "N S"]:
    """What is known of the hidden state before the word's last token: what a prediction of the state should equal.

    Args:
        process: of the rows.
        rows: words with their beliefs.
    """
    return _beliefs("predicted", rows.predicted, process)


def next_token_law(process: Process, rows: Words) -> Float[np.ndarray, "N V"]:
    """Exact law of the token after the word.

    Args:
        process: of the rows.
        rows: words with their laws.
    """
    laws = as_numpy(rows.next_token_laws).astype(np.float64)
    if laws.ndim != 2 or laws.shape[1] != process.vocab_size:
        raise ValueError(f"rows.next_token_laws has shape {laws.shape}; the process has {process.vocab_size} tokens")
    return laws


def future_law(process: Process, rows: Words, horizon: int) -> Float[np.ndarray, "N futures"]:
    r"""Joint law of the next `horizon` tokens, over all V^horizon continuations in lexicographic order.

    .. math:: P(w_1 \dots w_k \mid \eta) = \eta\, T[w_1] \cdots T[w_k]\, r

    Args:
        process: of the rows.
        rows: words with their beliefs.
        horizon: k, at least 1; 1 gives the next-token law.

    Raises:
        ValueError: if the horizon is less than 1 or has too many continuations.
    """
    return exact_futures(process, torch.as_tensor(filtered_belief(process, rows)), horizon).numpy()


def exact_futures(
    process: HiddenMarkovModel, beliefs: Float[Tensor, "N S"], horizon: int
) -> Float[Tensor, "N futures"]:
    r"""Law of the next `horizon` tokens in each belief, over all V^horizon continuations in lexicographic order.

    .. math:: P(w_1 \dots w_k \mid \eta) = \eta\, T[w_1] \cdots T[w_k]\, r

    It is linear in the belief: what a mixture of two beliefs predicts is the mixture of what they predict.

    Args:
        process: whose futures.
        beliefs: filtered beliefs; points outside the simplex get what linearity gives them.
        horizon: tokens ahead, at least 1.

    Raises:
        ValueError: if ``horizon`` is not positive or has too many continuations, or the beliefs' width is not the
            number of states.
    """
    check_horizon(horizon, process.vocab_size)
    if beliefs.ndim != 2 or beliefs.shape[1] != process.num_states:
        raise ValueError(f"beliefs must have a shape (N, {process.num_states}), got {tuple(beliefs.shape)}")
    vectors = beliefs.double().unsqueeze(1)
    for _ in range(horizon):
        vectors = torch.einsum("nws,vsj->nwvj", vectors, process.transition_matrices).flatten(1, 2)
    return vectors @ process.right_vector


def belief_beyond_next_token_law(words: Words) -> Float[np.ndarray, "N S"]:
    r"""What no function of the next-token law explains of the filtered belief.

    .. math:: \eta - E[\eta \mid P(x \mid \eta)]

    Words are grouped by equal law; the expectation weights them by probability, each length with the same mass. Zero
    throughout (then there is nothing to score) where the law determines the belief, as on Mess3. The law alone,
    through a function of any shape, explains .446 of the belief on rrxor and .926 on z1r (words up to length 10).

    Args:
        words: from ``pcnet.processes.beliefs.word_tree``.
    """
    beliefs = words.filtered.numpy()
    groups = equal_rows(words.next_token_laws.numpy())
    weights = probability_weights(words.lengths.numpy(), words.probabilities.numpy())
    rest = beliefs - group_means(beliefs, groups, weights)
    return np.where(np.abs(rest) > TOLERANCE, rest, 0.0)


def affinely_invisible_belief(process: HiddenMarkovModel, words: Words) -> Float[np.ndarray, "N S"]:
    r"""The component of the filtered belief that can change without changing the next-token law.

    .. math:: \eta\, Q^T Q, \qquad \text{rows of } Q \text{ a basis of } \{v \in U : v E = 0\}, \quad
        E_{sx} = \sum_j T[x, s, j]

    with U spanned by the differences between beliefs: the beliefs live in an affine space, and only directions inside
    it count. The rest of the belief is an affine function of the law. A statistical trace may remain, since what is
    invisible can correlate with what is seen: the law's population R2 for this component is 0 on rrxor and .001 on
    z1r. Zero throughout where the law determines the belief affinely, as on Mess3.

    Args:
        process: the process of the words.
        words: from ``pcnet.processes.beliefs.word_tree``.
    """
    beliefs = words.filtered.numpy()
    basis = _directions(beliefs - beliefs.mean(axis=0))
    invisible = _left_null_space(basis @ process.emission_matrix.numpy()) @ basis
    return beliefs @ invisible.T @ invisible


def equal_rows(rows: Float[np.ndarray, "N D"]) -> Int[np.ndarray, " N"]:
    """Numbers the groups of equal rows; equal means that each column agrees to ``TOLERANCE``."""
    # steps between neighbours in sorted order, not rounding: equal values may lie on both sides of a rounding edge
    order = np.argsort(rows, axis=0)
    new = np.diff(np.take_along_axis(rows, order, axis=0), axis=0) > TOLERANCE
    numbers = np.zeros(rows.shape, dtype=np.int64)
    np.put_along_axis(numbers, order[1:], np.cumsum(new, axis=0), axis=0)
    return np.unique(numbers, axis=0, return_inverse=True)[1].ravel()


def group_means(
    values: Float[np.ndarray, "N D"], groups: Int[np.ndarray, " N"], weights: Float[np.ndarray, " N"]
) -> Float[np.ndarray, "N D"]:
    """The weighted mean of each row's group."""
    sums = np.zeros((groups.max() + 1, values.shape[1]))
    np.add.at(sums, groups, weights[:, None] * values)
    return (sums / np.bincount(groups, weights)[:, None])[groups]


def _directions(differences: Float[np.ndarray, "N S"]) -> Float[np.ndarray, "r S"]:
    """Orthonormal basis of the space that the rows span."""
    _, sizes, basis = np.linalg.svd(differences / np.sqrt(len(differences)), full_matrices=False)
    return basis[sizes > TOLERANCE]


def _left_null_space(matrix: Float[np.ndarray, "r V"]) -> Float[np.ndarray, "k r"]:
    """Orthonormal basis of the vectors v with v matrix = 0."""
    basis, sizes, _ = np.linalg.svd(matrix)
    return basis[:, np.count_nonzero(sizes > TOLERANCE) :].T


def _beliefs(name: str, values: Array, process: Process) -> Float[np.ndarray, "N S"]:
    beliefs = as_numpy(values).astype(np.float64)
    if beliefs.ndim != 2 or beliefs.shape[1] != process.num_states:
        raise ValueError(f"rows.{name} has shape {beliefs.shape}; the process has {process.num_states} states")
    return beliefs


def check_horizon(horizon: int, vocab_size: int) -> None:
    """Refuse what cannot be enumerated."""
    if horizon < 1 or vocab_size**horizon > MAX_FUTURES:
        raise ValueError(
            f"horizon={horizon}: it must be at least 1 and leave at most {MAX_FUTURES} continuations of "
            f"{vocab_size} tokens"
        )
