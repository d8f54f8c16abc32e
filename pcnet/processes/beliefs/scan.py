"""The forward recursion for many sequences at once: ``beliefs <- beliefs T[x]``.

Beliefs stand in columns, (S, N) for N sequences. Few states lie in rows of memory, so that every operation runs along N
contiguous numbers; many states lie next to each other in memory, which is a transpose of the same shape. Nothing is
normalised until a block of steps is done; a block in which a sequence becomes so improbable that digits are at risk is done
again, normalised at every step.
"""

import abc
import math
from functools import cache
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.processes.models.hmm import GeneralizedHiddenMarkovModel, Process

FEW_STATES = 8
"""Up to so many states, fetching a matrix for every sequence costs less than sorting sequences by their tokens."""
BLOCK = 32
"""Steps between two normalisations, at most."""
FETCHED = 2**22
"""Numbers that a block may fetch at once."""
FAINT = {torch.float64: 2.0**-300, torch.float32: 2.0**-60}
"""A block's word that is less probable is followed step by step."""
IMPOSSIBLE = {torch.float64: 1e-12, torch.float32: 1e-6}
"""Greatest probability that counts as zero where matrices have negative entries, so that zeros cancel."""


class Kernel(abc.ABC):
    """Multiplies beliefs by the matrices of their tokens.

    Attributes:
        fetched: numbers that it fetches for every step of every sequence.
    """

    fetched: int

    @abc.abstractmethod
    def advance(self, block: Float[Tensor, "K+1 S N"], columns: Int[Tensor, "K N"]) -> None:
        """Fill ``block[k + 1] = block[k] T[columns[k]]`` from its first entry on; nothing is normalised."""


class Fetched(Kernel):
    """A matrix for every sequence; S^2 multiplications each. For few states."""

    def __init__(self, matrices: Float[Tensor, "V S S"]) -> None:
        self.num_states = matrices.shape[1]
        self.table = matrices.flatten(1).T.contiguous()
        self.fetched = len(self.table)

    def advance(self, block: Float[Tensor, "K+1 S N"], columns: Int[Tensor, "K N"]) -> None:
        weights = self.table.gather(1, columns.reshape(1, -1).expand(len(self.table), -1))
        weights = weights.view(self.num_states, self.num_states, *columns.shape)
        product = weights.new_empty(*weights.shape[:2], columns.shape[1])
        beliefs = block.unbind()
        for k, matrix in enumerate(weights.unbind(2)):
            torch.mul(matrix, beliefs[k].unsqueeze(1), out=product)
            torch.sum(product, 0, out=beliefs[k + 1])


class Emitted(Kernel):
    """Tokens that depend on one state alone, through a weight for every state.

    Args:
        chain: A, ``sum_x T[x]``.
        emission: E.
    """

    def __init__(self, chain: Float[Tensor, "S S"], emission: Float[Tensor, "V S"]) -> None:
        self.chain, self.emission, self.by_state = chain.T.contiguous(), emission, emission.T.contiguous()
        self.fetched = len(chain)

    def weights(self, columns: Int[Tensor, "K N"]) -> tuple[Float[Tensor, "S N"], ...]:
        """Weights of every step, in memory in the order of beliefs."""
        if self.fetched <= FEW_STATES:
            return fetched_columns(self.by_state, columns).unbind(1)
        rows = self.emission.index_select(0, columns.flatten())
        return rows.view(*columns.shape, -1).transpose(1, 2).unbind()


class EmittedAfter(Emitted):
    """Tokens that depend on the next state alone, ``T[x, i, j] = A[i, j] E[x, j]``: one product for all sequences."""

    def advance(self, block: Float[Tensor, "K+1 S N"], columns: Int[Tensor, "K N"]) -> None:
        beliefs = block.unbind()
        for k, weight in enumerate(self.weights(columns)):
            torch.mm(self.chain, beliefs[k], out=beliefs[k + 1])
            beliefs[k + 1].mul_(weight)


class EmittedBefore(Emitted):
    """Tokens that depend on the state before alone, ``T[x, i, j] = E[x, i] A[i, j]``: one product for all sequences."""

    def advance(self, block: Float[Tensor, "K+1 S N"], columns: Int[Tensor, "K N"]) -> None:
        beliefs = block.unbind()
        seen = torch.empty_like(beliefs[0])
        for k, weight in enumerate(self.weights(columns)):
            torch.mul(beliefs[k], weight, out=seen)
            torch.mm(self.chain, seen, out=beliefs[k + 1])


class Sorted(Kernel):
    """Sequences sorted by their next token: one product for every token that occurs. For many states."""

    def __init__(self, matrices: Float[Tensor, "V S S"]) -> None:
        self.matrices = matrices.contiguous()
        self.fetched = matrices.shape[1]

    def advance(self, block: Float[Tensor, "K+1 S N"], columns: Int[Tensor, "K N"]) -> None:
        ordered, order = columns.sort(dim=1)
        back = order.argsort(dim=1)
        rows = block.transpose(1, 2).unbind()
        moved = torch.empty_like(rows[0], memory_format=torch.contiguous_format)
        for k in range(len(columns)):
            standing = rows[k].index_select(0, order[k])
            tokens, counts = ordered[k].unique_consecutive(return_counts=True)
            first = 0
            for token, count in zip(tokens.tolist(), counts.tolist(), strict=True):
                torch.mm(standing[first : first + count], self.matrices[token], out=moved[first : first + count])
                first += count
            rows[k + 1].copy_(moved.index_select(0, back[k]))


def fetched_columns(table: Float[Tensor, "rows V"], columns: Int[Tensor, "*shape"]) -> Float[Tensor, "rows *shape"]:
    """``table[:, columns]``, several times faster."""
    chosen = table.gather(1, columns.reshape(1, -1).expand(len(table), -1))
    return chosen.view(len(table), *columns.shape)


def make_kernel(matrices: Float[Tensor, "V S S"], dtype: torch.dtype) -> Kernel:
    """The cheapest way to multiply by these matrices."""
    after = emission_after(matrices)
    if after is not None:
        return EmittedAfter(matrices.sum(0).to(dtype), after.to(dtype))
    before = emission_after(matrices.transpose(1, 2))
    if before is not None:
        return EmittedBefore(matrices.sum(0).to(dtype), before.to(dtype))
    matrices = matrices.to(dtype)
    return Fetched(matrices) if matrices.shape[1] <= FEW_STATES else Sorted(matrices)


def emission_after(matrices: Float[Tensor, "V S S"]) -> Float[Tensor, "V S"] | None:
    """E, if ``T[x, i, j] = E[x, j] sum_y T[y, i, j]`` in every entry, up to its rounding."""
    chain = matrices.sum(0)
    rows = chain.abs().argmax(0, keepdim=True)
    total = chain.gather(0, rows)
    emission = matrices.gather(1, rows.expand(len(matrices), 1, -1)).squeeze(1) / total.where(total != 0, 1.0)
    wrong = (emission.unsqueeze(1) * chain - matrices).abs() > 1e-15 * matrices.abs()
    return None if wrong.any() else emission


_KERNELS: WeakKeyDictionary[Process, dict[torch.dtype, Kernel]] = WeakKeyDictionary()


def kernel_of(process: Process, dtype: torch.dtype) -> Kernel:
    """The kernel of a process, made once."""
    made = _KERNELS.setdefault(process, {})
    if dtype not in made:
        made[dtype] = make_kernel(process.transition_matrices, dtype)
    return made[dtype]


@cache
def keep_memory() -> None:
    """Have the C library keep freed memory for the next call instead of returning it to the system.

    Mapping it anew, page by page, would take longer than the recursion. glibc keeps blocks up to the size of the greatest
    one that was ever freed, at most 32 MiB; the block here is never touched.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


class Forward(NamedTuple):
    """What the recursion finds.

    Attributes:
        beliefs: before every token, and after the last.
        probabilities: of every token in the belief before it; after an impossible one, they are meaningless.
    """

    beliefs: Float[Tensor, "L+1 S N"]
    probabilities: Float[Tensor, "L N"]


def forward(
    kernel: Kernel,
    start: Float[Tensor, "S #N"],
    measure: Float[Tensor, "S #N"] | None,
    columns: Int[Tensor, "L N"],
    vocab_size: int,
) -> Forward:
    """Follow beliefs through all tokens.

    Args:
        kernel: multiplies by the matrices.
        start: beliefs before the first token; their type is that of the answers.
        measure: r, what a belief's product with is its total; None: the sum.
        columns: tokens, one sequence a column.
        vocab_size: sets how many steps go unnormalised.
    """
    keep_memory()
    length, count = columns.shape
    beliefs = empty_beliefs(start, length + 1, count)
    beliefs[0] = start
    probabilities = start.new_empty(length, count)
    steps = block_steps(kernel, start.dtype, vocab_size, count)
    for first in range(0, length, steps):
        block, tokens = beliefs[first : first + steps + 1], columns[first : first + steps]
        follow(kernel, block, tokens, measure, probabilities[first : first + steps])
    return Forward(beliefs, probabilities)


def empty_beliefs(start: Float[Tensor, "S #N"], length: int, count: int) -> Float[Tensor, "length S count"]:
    """Room for beliefs, in the order in memory that suits their number of states."""
    if len(start) <= FEW_STATES:
        return start.new_empty(length, len(start), count)
    return start.new_empty(length, count, len(start)).transpose(1, 2)


def follow(
    kernel: Kernel,
    block: Float[Tensor, "K+1 S N"],
    columns: Int[Tensor, "K N"],
    measure: Float[Tensor, "S #N"] | None,
    probabilities: Float[Tensor, "K N"],
) -> None:
    """Fill a block from its first beliefs, normalised, and the probabilities of its tokens."""
    kernel.advance(block, columns)
    totals = total(block[1:], measure)
    if len(columns) > 1 and totals.numel() and not bool(totals.amin() > FAINT[block.dtype]):
        for k in range(len(columns)):
            follow(kernel, block[k : k + 2], columns[k : k + 1], measure, probabilities[k : k + 1])
        return
    block[1:].div_(totals.unsqueeze(1))
    probabilities[0] = totals[0]
    torch.div(totals[1:], totals[:-1], out=probabilities[1:])


def total(beliefs: Float[Tensor, "K S N"], measure: Float[Tensor, "S #N"] | None) -> Float[Tensor, "K N"]:
    """What beliefs are measured by before they are normalised."""
    return beliefs.sum(1) if measure is None else (beliefs * measure).sum(1)


def block_steps(kernel: Kernel, dtype: torch.dtype, vocab_size: int, count: int) -> int:
    """Steps of a block: few enough for a word of evenly likely tokens to be far from faint, and for memory."""
    likely = -math.log2(FAINT[dtype]) / 2 / max(1.0, math.log2(vocab_size))
    return max(1, min(BLOCK, int(likely), FETCHED // (kernel.fetched * max(1, count))))


def measure_of(process: Process, dtype: torch.dtype) -> Float[Tensor, "S 1"] | None:
    """What a process measures beliefs by; None for the sum."""
    if not isinstance(process, GeneralizedHiddenMarkovModel):
        return None
    return process.right_vector.to(dtype).unsqueeze(1)
