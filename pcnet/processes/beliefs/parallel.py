"""Beliefs along few long sequences: all times at once, by an associative scan over products of matrices.

Words compose like their matrices, so neighbours can be multiplied pair by pair, then pairs of pairs, and beliefs handed
down again: about 2 log2 L rounds instead of L steps, for S times as many operations. Each row of a product carries a
scale of its own, so that neither a long word nor one that some states can hardly emit underflows.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from pcnet.processes.beliefs.filtering import Beliefs, checked_tokens, log_product, require_dtype, require_possible
from pcnet.processes.beliefs.scan import FEW_STATES, fetched_columns
from pcnet.processes.models.hmm import Process, as_process

HELD = 2**24
"""Entries of matrices that are held at once: longer sequences are scanned stretch by stretch."""


class Maps(NamedTuple):
    """Matrices of words, up to rounding ``exp(scales)[i] entries[i, j]``, for words at n places of B sequences."""

    entries: Float[Tensor, "S S n B"]
    scales: Float[Tensor, "S n B"]


def filter_beliefs_parallel(
    process: Process | ArrayLike, tokens: Int[Tensor, "B L"], *, dtype: torch.dtype = torch.float64
) -> Beliefs:
    """Compute what `filter_beliefs` computes, all times at once.

    ``eta_t = eta_0 T[x_0] ... T[x_t]``, normalised, by a scan over the associative product of matrices

    For few sequences of many tokens: costs B L S^3 instead of B L S^2, in 2 log2 L rounds of long vector operations
    instead of L short ones. Agrees with `filter_beliefs` up to rounding.

    Args:
        process: what emitted the tokens.
        tokens: sequences of an integer type with entries in 0..V-1; L may be 0.
        dtype: torch.float64 or torch.float32.

    Raises:
        TypeError, ValueError: as `filter_beliefs` does.

    Reference: Särkkä & García-Fernández (2021), IEEE Trans. Automatic Control 66, 299, arXiv 1905.13002; Blelloch (1990),
    Prefix sums and their applications.
    """
    process = as_process(process)
    require_dtype(dtype)
    columns = checked_tokens(process, tokens).T.contiguous()
    length, batch = columns.shape
    beliefs = torch.empty(length + 1, process.num_states, batch, dtype=dtype)
    beliefs[0] = process.initial_distribution.to(dtype).unsqueeze(1)
    stretch = max(2, HELD // (process.num_states**2 * max(1, batch)))
    measure = process.right_vector.to(dtype).view(-1, 1, 1)
    for first in range(0, length, stretch):
        maps = word_maps(process, columns[first : first + stretch], dtype)
        after = beliefs_after(maps, beliefs[first].unsqueeze(1), measure)
        beliefs[first + 1 : first + 1 + stretch] = after.transpose(0, 1)
    emission = fetched_columns(process.emission_matrix.to(dtype), columns)
    probabilities = (beliefs[:-1].transpose(0, 1) * emission).sum(0)
    require_possible(process, probabilities, columns)
    predicted, filtered = beliefs[:-1].permute(2, 0, 1), beliefs[1:].permute(2, 0, 1)
    predicted, filtered = (beliefs.clone(memory_format=torch.contiguous_format) for beliefs in (predicted, filtered))
    return Beliefs(predicted, filtered, log_product(probabilities))


def word_maps(process: Process, columns: Int[Tensor, "n B"], dtype: torch.dtype) -> Maps:
    """Maps of single tokens, each row scaled to a greatest entry of 1."""
    states = process.num_states
    matrices = process.transition_matrices
    sizes = matrices.abs().amax(2)
    scaled = matrices / sizes.where(sizes > 0, 1.0).unsqueeze(2)
    entries = fetched_columns(scaled.to(dtype).flatten(1).T.contiguous(), columns)
    scales = fetched_columns(sizes.log().to(dtype).T.contiguous(), columns)
    return Maps(entries.view(states, states, *columns.shape), scales)


def beliefs_after(maps: Maps, start: Float[Tensor, "S 1 B"], measure: Float[Tensor, "S 1 1"]) -> Float[Tensor, "S n B"]:
    """Belief after every one of consecutive words, from the one before the first."""
    count = maps.entries.shape[2]
    if count == 1:
        return applied(start, maps, measure)
    even, odd = every_other(maps, 0), every_other(maps, 1)
    pairs = count // 2
    after_pairs = beliefs_after(composed(shortened(even, pairs), odd), start, measure)
    before_even = torch.cat([start, after_pairs[:, : even.entries.shape[2] - 1]], dim=1)
    beliefs = start.new_empty(len(start), count, start.shape[2])
    beliefs[:, 0::2] = applied(before_even, even, measure)
    beliefs[:, 1::2] = after_pairs
    return beliefs


def every_other(maps: Maps, first: int) -> Maps:
    """Every second map."""
    return Maps(maps.entries[:, :, first::2].contiguous(), maps.scales[:, first::2].contiguous())


def shortened(maps: Maps, count: int) -> Maps:
    """The first maps."""
    return Maps(maps.entries[:, :, :count], maps.scales[:, :count])


def applied(beliefs: Float[Tensor, "S n B"], maps: Maps, measure: Float[Tensor, "S 1 1"]) -> Float[Tensor, "S n B"]:
    """Beliefs after one word each, normalised."""
    moved = contracted(weighted(beliefs.unsqueeze(0), maps.scales)[0], maps.entries).squeeze(0)
    return moved / (moved * measure).sum(0)


def composed(first: Maps, second: Maps) -> Maps:
    """Maps of words one after the other, each row scaled to a greatest entry of 1."""
    weights, greatest = weighted(first.entries, second.scales)
    product = contracted(weights, second.entries)
    size = product.abs().amax(1)
    scales = first.scales + greatest + size.log()  # -inf for a row of zeros
    return Maps(product / size.where(size > 0, 1.0).unsqueeze(1), scales)


def weighted(
    rows: Float[Tensor, "R S n B"], scales: Float[Tensor, "S n B"]
) -> tuple[Float[Tensor, "R S n B"], Float[Tensor, "R n B"]]:
    """``rows[r, i] exp(scales[i] - greatest[r])``, with the greatest scale that row r meets."""
    met = torch.where(rows != 0, scales, -torch.inf)
    greatest = met.amax(1)
    greatest = greatest.where(greatest > -torch.inf, 0.0)
    return rows * (met - greatest.unsqueeze(1)).exp_(), greatest


def contracted(rows: Float[Tensor, "R S n B"], entries: Float[Tensor, "S S n B"]) -> Float[Tensor, "R S n B"]:
    """Products of matrices, place by place."""
    if len(entries) > FEW_STATES:
        return torch.einsum("riub,ijub->rjub", rows, entries)
    product = rows[:, :1] * entries[0]
    for i in range(1, len(entries)):
        product.addcmul_(rows[:, i : i + 1], entries[i])
    return product
