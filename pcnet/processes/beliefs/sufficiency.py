"""Whether the law of the next token determines the belief."""

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from pcnet.processes.models.hmm import Process, as_process

RANK_TOLERANCE = 1e-10
"""Singular values below this fraction of the greatest count as zero."""


def next_token_sufficient(process: Process | ArrayLike) -> bool:
    """Decide whether the next-token law determines the belief affinely, over all beliefs that can be reached.

    ``rank(R E) = rank(R)``, with the rows of R a basis of the span of all reachable beliefs and ``E[s, x]`` the
    probability of token x in state s

    If so, a linear probe that finds the belief may have found no more than the model's logits: "belief beyond the
    logits" can't be shown on this process. Beliefs have ``eta r = 1`` and the rows of E sum to r, so comparing linear
    ranks answers the affine question exactly, with the same answer in every basis of a generalised process.
    Ranks are numerical: directions below a relative 1e-10 count as absent. Costs at most S rounds of S^3 V.

    Args:
        process: a process, or the matrices of a hidden Markov model.

    Raises:
        ValueError: if the process has no unique stationary law.
    """
    process = as_process(process)
    matrices = _balanced(process.transition_matrices)
    span = _reachable_span(process.initial_distribution, matrices)
    seen = span @ (matrices @ process.right_vector).T
    return int(torch.linalg.matrix_rank(seen, rtol=RANK_TOLERANCE)) == len(span)


def reachable_span(process: Process) -> Float[Tensor, "rank S"]:
    """Orthonormal rows that span all beliefs that can be reached from the initial one."""
    return _reachable_span(process.initial_distribution, _balanced(process.transition_matrices))


def _reachable_span(start: Float[Tensor, " S"], matrices: Float[Tensor, "V S S"]) -> Float[Tensor, "rank S"]:
    """Close the span of a belief under every token's matrix; orthonormal rows."""
    span = _orthonormal_rows(start.unsqueeze(0))
    while True:
        images = (span @ matrices).flatten(0, 1)
        larger = _orthonormal_rows(torch.cat([span, images]))
        if len(larger) == len(span):
            return span
        span = larger


def _balanced(matrices: Float[Tensor, "V S S"]) -> Float[Tensor, "V S S"]:
    """Scale each token's matrix to a greatest entry of 1: no span changes, and rare tokens count like common ones."""
    greatest = matrices.abs().amax((1, 2), keepdim=True)
    return matrices / greatest.where(greatest > 0, 1.0)


def _orthonormal_rows(rows: Float[Tensor, "N S"]) -> Float[Tensor, "rank S"]:
    _, singular_values, directions = torch.linalg.svd(rows, full_matrices=False)
    return directions[singular_values > RANK_TOLERANCE * singular_values[0]]
