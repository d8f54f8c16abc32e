"""The parts of a belief that next-token prediction doesn't ask for."""

import numpy as np
from jaxtyping import Float, Int

from pcnet.probing.dataset import probability_weights
from pcnet.processes import HiddenMarkovModel, Words

TOLERANCE = 1e-10
"""Laws closer than this are equal, and directions in which nothing moves further than this don't exist."""


def belief_beyond_next_token_law(words: Words) -> Float[np.ndarray, "N S"]:
    r"""What no function of the next-token law explains of the filtered belief.

    .. math:: \eta - E[\eta \mid P(x \mid \eta)]

    Words are grouped by equal law; the expectation weights them by probability, each length with the same mass. Zero
    throughout (then there is nothing to score) where the law determines the belief, as on Mess3. The law alone,
    through a function of any shape, explains .446 of the belief on rrxor and .926 on z1r (words up to length 10).

    Args:
        words: from ``pcnet.processes.words``.
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
        words: from ``pcnet.processes.words``.
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
