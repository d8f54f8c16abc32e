"""Smoothing: the law of the hidden state at every time, given the whole sequence."""

import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from pcnet.processes.beliefs.filtering import checked_tokens, forward_from_start, require_dtype, require_possible
from pcnet.processes.beliefs.scan import empty_beliefs, make_kernel
from pcnet.processes.models.hmm import Process, as_process, require_states


def smooth_beliefs(
    process: Process | ArrayLike, tokens: Int[Tensor, "B L"], *, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "B L+1 S"]:
    """Compute the law of the hidden state at every time, given the whole sequence.

    ``gamma_t[i] = P(S_t = i | x_0 ... x_(L-1)) = eta_t[i] sum_j T[x_t, i, j] gamma_(t+1)[j] / P(x_t | eta_t) eta_(t+1)[j]``

    with the belief ``eta_t`` of an observer who has seen tokens 0..t-1. Costs twice as much as `filter_beliefs`.

    Args:
        process: what emitted the tokens; it needs hidden states.
        tokens: sequences of an integer type with entries in 0..V-1; L may be 0.
        dtype: torch.float64 or torch.float32.

    Returns:
        One state more than tokens: entry t is the state that token t was emitted from, entry t + 1 the one it led to. The
        last equals the last filtered belief.

    Raises:
        TypeError: if the process is a generalised one, or ``tokens`` isn't a tensor of integers.
        ValueError: as `filter_beliefs` does.

    Reference: Rabiner (1989), Proc. IEEE 77, 257, equation 27; the backward pass in beliefs: Askar & Derin (1981).
    """
    process = require_states(as_process(process), "smoothing")
    require_dtype(dtype)
    columns = checked_tokens(process, tokens).T.contiguous()
    found = forward_from_start(process, columns, dtype)
    require_possible(process, found.probabilities, columns)
    kernel = make_kernel(process.transition_matrices.transpose(1, 2), dtype)
    smoothed = found.beliefs.clone()
    ratio = empty_beliefs(found.beliefs[0], 2, columns.shape[1])
    for t in range(len(columns) - 1, -1, -1):
        after = found.beliefs[t + 1]
        torch.div(smoothed[t + 1], after.where(after > 0, 1.0), out=ratio[0])
        kernel.advance(ratio, columns[t : t + 1])
        torch.mul(found.beliefs[t], ratio[1], out=smoothed[t])
        smoothed[t].div_(smoothed[t].sum(0))
    return smoothed.permute(2, 0, 1).contiguous()
