"""Words that reset the belief: what was before them has no influence any more."""

from collections import deque

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from pcnet.processes.models.hmm import Process

MOST_WORDS = 3000
"""Words that are tried."""
SINGULAR = 1e-11
"""Fraction of the greatest singular value up to which the others count as zero."""


def reset_belief(process: Process) -> Float[NDArray, " S"] | None:
    """The belief after a shortest word w whose matrix has rank 1: it is the same whatever the belief was before.

    Words are tried breadth first as long as they shrink the rank further, or end in a token that may. None if there is
    none among those tried.
    """
    matrices = process.transition_matrices.numpy()
    if all(_rank(matrix) == process.num_states for matrix in matrices):
        return None
    queue, tried = deque([np.eye(process.num_states)]), 0
    while queue and tried < MOST_WORDS:
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
