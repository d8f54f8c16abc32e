"""Exact information-theoretic answers about a process. Entropies are in nats."""

import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.processes.beliefs import next_token_law
from pcnet.processes.hmm import HiddenMarkovModel, require_at_least
from pcnet.processes.words import branch, require_affordable

RANK_TOLERANCE = 1e-10
"""Singular values below this fraction of the greatest count as zero."""


def myopic_entropies(
    process: HiddenMarkovModel, max_length: int, max_words: int = 2_000_000
) -> Float[Tensor, " max_length+1"]:
    """Compute the uncertainty of the next token given the last L: the loss floor at each context length.

    ``h(L) = H[X_L | X_0, ..., X_(L-1)] = sum_(|w| = L) P(w) H[P(. | w)]``

    No predictor with L tokens of context has a lower expected cross-entropy. Falls with L towards the entropy rate.
    Exact up to rounding; costs as many beliefs as there are words of length ``max_length``, and keeps one level only.

    Args:
        process: what emits the tokens, from its stationary law.
        max_length: longest context, at least 0.
        max_words: refuse a level with more words than this.

    Returns:
        h(0), h(1), ..., h(max_length) in nats.

    Raises:
        TypeError: if ``max_length`` or ``max_words`` isn't an integer.
        ValueError: if ``max_length`` is negative, if there are more than ``max_words`` words of one length, or if the
            process has no unique stationary law.

    Reference: Crutchfield & Feldman (2003), Chaos 13, 25, arXiv cond-mat/0102181.
    """
    require_at_least("max_length", max_length, 0)
    require_at_least("max_words", max_words, 1)
    probabilities = torch.ones(1, dtype=torch.float64)
    beliefs = process.initial_distribution.unsqueeze(0)
    laws = next_token_law(process, beliefs)
    entropies = [probabilities @ _entropy(laws)]
    for length in range(1, max_length + 1):
        require_affordable(f"words of length {length}", int(torch.count_nonzero(laws)), max_words)
        children = branch(process, beliefs, laws)
        probabilities = probabilities[children.parents] * children.probabilities
        beliefs = children.filtered
        laws = next_token_law(process, beliefs)
        entropies.append(probabilities @ _entropy(laws))
    return torch.stack(entropies)


def next_token_sufficient(process: HiddenMarkovModel) -> bool:
    """Decide whether the next-token law determines the belief affinely, over all beliefs that can be reached.

    ``rank(R E) = rank(R)``, with the rows of R a basis of the span of all reachable beliefs and ``E[s, x]`` the
    probability of token x in state s

    If so, a linear probe that finds the belief may have found no more than the model's logits: "belief beyond the
    logits" can't be shown on this process. Beliefs sum to 1, so the dimension of their linear span is one more than
    that of their affine hull; the rows of E sum to 1, so what E hides of the span lies along the hull. Comparing linear
    ranks is therefore the exact affine question. Ranks are numerical: directions below a relative 1e-10 count as
    absent. Costs at most S rounds of S^3 V.

    Raises:
        ValueError: if the process has no unique stationary law.
    """
    span = _reachable_span(process)
    seen = span @ _balanced(process.transition_matrices).sum(2).T
    return int(torch.linalg.matrix_rank(seen, rtol=RANK_TOLERANCE)) == len(span)


def _reachable_span(process: HiddenMarkovModel) -> Float[Tensor, "rank S"]:
    """Close the span of the stationary law under every token's matrix; orthonormal rows."""
    matrices = _balanced(process.transition_matrices)
    span = _orthonormal_rows(process.initial_distribution.unsqueeze(0))
    while True:
        images = (span @ matrices).flatten(0, 1)
        larger = _orthonormal_rows(torch.cat([span, images]))
        if len(larger) == len(span):
            return span
        span = larger


def _balanced(matrices: Float[Tensor, "V S S"]) -> Float[Tensor, "V S S"]:
    """Scale each token's matrix to a greatest entry of 1: no span changes, and rare tokens count like common ones."""
    greatest = matrices.amax((1, 2), keepdim=True)
    return matrices / greatest.where(greatest > 0, 1.0)


def _orthonormal_rows(rows: Float[Tensor, "N S"]) -> Float[Tensor, "rank S"]:
    _, singular_values, directions = torch.linalg.svd(rows, full_matrices=False)
    return directions[singular_values > RANK_TOLERANCE * singular_values[0]]


def _entropy(laws: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    return torch.special.entr(laws).sum(1)
