"""Beliefs: what the tokens seen so far say about the hidden state, exactly.

``predicted`` is the belief before token t is seen and gives that token's law; ``filtered`` is the belief after it. As
tokens are emitted on transitions, the filtered belief already concerns the state that token t led to, so it is the
predicted belief of token t + 1.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from pcnet.processes.beliefs.scan import FEW_STATES, IMPOSSIBLE, Forward, forward, kernel_of, measure_of
from pcnet.processes.beliefs.stack import stacked
from pcnet.processes.models.hmm import GeneralizedHiddenMarkovModel, Process, as_process
from pcnet.processes.models.parts import factor_tokens, leaves, outer

DTYPES = (torch.float64, torch.float32)
"""Precisions in which beliefs can be followed."""

HELD = 2**23
"""Entries of beliefs that are computed at once, about."""
MULTIPLIED = 1e-30
"""Probabilities greater than this are multiplied before their logarithm is taken."""


class Beliefs(NamedTuple):
    """Exact beliefs along sequences.

    Attributes:
        predicted: law of the state before token t is emitted, given tokens 0..t-1; at t = 0 the initial law.
        filtered: law of the state after token t was emitted, given tokens 0..t.
        log_likelihood: log-probability of the whole sequence, in nats; float64 always.
    """

    predicted: Float[Tensor, "B L S"]
    filtered: Float[Tensor, "B L S"]
    log_likelihood: Float[Tensor, " B"]


def filter_beliefs(
    process: Process | ArrayLike, tokens: Int[Tensor, "B L"], *, dtype: torch.dtype = torch.float64
) -> Beliefs:
    """Follow the belief of an ideal observer through token sequences, from the initial law on.

    ``filtered[t] = predicted[t] T[x_t] / (predicted[t] T[x_t] r)``, ``predicted[t + 1] = filtered[t]``

    Exact up to rounding, on the CPU wherever the tokens are. Costs B L S^2 in L steps that go through all sequences at
    once; for few long sequences, `filter_beliefs_parallel` is quicker.

    Args:
        process: what emitted the tokens. Beliefs of a generalised process are points of its linear space, not laws.
        tokens: sequences of an integer type with entries in 0..V-1; L may be 0.
        dtype: torch.float64 or, for speed, torch.float32, which is good to about 1e-6.

    Raises:
        TypeError, ValueError: if ``tokens`` isn't a two-dimensional tensor of legal integers, ``dtype`` is another one, or
            the process can't emit a sequence (its probability is 0 or below what the precision holds; for a generalised
            process, that of a token is below its rounding, 1e-12 or 1e-6); the message names row and position.

    Reference: the forward algorithm of Rabiner (1989), Proc. IEEE 77, 257, for emission on transitions.
    """
    process = as_process(process)
    require_dtype(dtype)
    columns = checked_tokens(process, tokens).T.contiguous()
    factors = leaves(process)
    followed = follow(process, factors, factor_tokens(factors, columns), dtype)
    require_possible(process, followed.probabilities, columns)
    return Beliefs(followed.predicted, followed.filtered, log_product(followed.probabilities))


def token_log_probabilities(
    process: Process | ArrayLike, tokens: Int[Tensor, "B L"], *, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "B L"]:
    """Compute how probable each token is given those before it: ``log P(x_t | x_0 ... x_(t-1))``.

    Returns:
        Logarithms in nats, float64; their sum over a sequence is its log-likelihood.

    Raises:
        TypeError, ValueError: as `filter_beliefs` does.
    """
    process = as_process(process)
    require_dtype(dtype)
    columns = checked_tokens(process, tokens).T.contiguous()
    factors = leaves(process)
    parts = in_batches(process, factors, factor_tokens(factors, columns), dtype)
    probabilities = torch.empty(columns.shape, dtype=dtype)
    for batch, found in parts:
        probabilities[:, batch] = whole_probabilities(found)
    require_possible(process, probabilities, columns)
    return log_in_double(probabilities).T.contiguous()


def next_token_law(process: Process | ArrayLike, beliefs: Float[Tensor, "... S"]) -> Float[Tensor, "... V"]:
    """Compute the law of the next token in a belief.

    ``P(x | eta) = eta T[x] 1 = sum_s eta[s] E[s, x]``

    Of a filtered belief at t this is the law of token t + 1; of a predicted belief, that of token t itself. Float64,
    whatever the beliefs are.

    Raises:
        ValueError: if the last dimension of ``beliefs`` isn't the number of states.
    """
    process = as_process(process)
    if beliefs.ndim == 0 or beliefs.shape[-1] != process.num_states:
        raise ValueError(f"beliefs must have a shape (..., {process.num_states}), got {tuple(beliefs.shape)}")
    return beliefs.double() @ process.emission_matrix


class Followed(NamedTuple):
    """Beliefs before and after every token, and the probabilities of tokens."""

    predicted: Float[Tensor, "B L S"]
    filtered: Float[Tensor, "B L S"]
    probabilities: Float[Tensor, "L B"]


def follow(
    process: Process,
    factors: Sequence[Process],
    columns: Sequence[Int[Tensor, "L B"]],
    dtype: torch.dtype,
    laws: Float[Tensor, "B L V"] | None = None,
) -> Followed:
    """Beliefs of the whole, and if there is room for them, laws of the token after every token.

    What an impossible token leaves behind isn't checked.
    """
    length, batch = columns[0].shape
    predicted, filtered = (torch.empty(batch, length, process.num_states, dtype=dtype) for _ in range(2))
    probabilities = torch.empty(length, batch, dtype=dtype)
    for own, found in in_batches(process, factors, columns, dtype):
        write_batch_first([part.beliefs[1:] for part in found], filtered[own])
        write_predicted(found, filtered[own], predicted[own])
        if laws is not None:
            write_batch_first([_laws_after(*pair) for pair in zip(factors, found, strict=True)], laws[own])
        probabilities[:, own] = whole_probabilities(found)
    return Followed(predicted, filtered, probabilities)


def in_batches(
    process: Process, factors: Sequence[Process], columns: Sequence[Int[Tensor, "L B"]], dtype: torch.dtype
) -> Iterator[tuple[slice, list[Forward]]]:
    """Go through the sequences, many at a time, without holding more than a piece of the beliefs twice."""
    length, batch = columns[0].shape
    count = max(64, HELD // ((length + 1) * sum(factor.num_states for factor in factors)))
    for first in range(0, batch, count):
        own = slice(first, first + count)
        yield own, forward_factors(process, factors, [tokens[:, own].contiguous() for tokens in columns], dtype)


def forward_factors(
    process: Process, factors: Sequence[Process], columns: Sequence[Int[Tensor, "L B"]], dtype: torch.dtype
) -> list[Forward]:
    """Beliefs, states first, of every factor along its own tokens, from the initial law on."""
    if len(factors) > 1 and max(factor.num_states for factor in factors) <= FEW_STATES:
        return stacked(process, factors, dtype).forward(columns)
    return [forward_from_start(factor, tokens, dtype) for factor, tokens in zip(factors, columns, strict=True)]


def forward_from_start(process: Process, columns: Int[Tensor, "L B"], dtype: torch.dtype) -> Forward:
    """Beliefs, states first, along sequences that begin at the initial law."""
    start = process.initial_distribution.to(dtype).unsqueeze(1)
    return forward(kernel_of(process, dtype), start, measure_of(process, dtype), columns, process.vocab_size)


def write_predicted(
    found: Sequence[Forward], filtered: Float[Tensor, "B L S"], predicted: Float[Tensor, "B L S"]
) -> None:
    """The belief before the first token, then those after all tokens but the last."""
    if filtered.shape[1]:
        write_batch_first([part.beliefs[:1] for part in found], predicted[:, :1])
        predicted[:, 1:] = filtered[:, :-1]


def _laws_after(process: Process, found: Forward) -> Float[Tensor, "L V B"]:
    beliefs = found.beliefs[1:]
    return torch.matmul(process.emission_matrix.T.to(beliefs.dtype), beliefs)


def whole_probabilities(found: Sequence[Forward]) -> Float[Tensor, "L B"]:
    """Probabilities of tokens, from those of what each factor emits."""
    return math.prod((part.probabilities for part in found[1:]), start=found[0].probabilities)


def write_batch_first(parts: Sequence[Float[Tensor, "L S B"]], answer: Float[Tensor, "B L product"]) -> None:
    """Copy vectors of each factor, so that writing to one answer never changes another; of several, their product."""
    if len(parts) > 1 or parts[0].shape[1] > FEW_STATES or not answer.is_contiguous():
        answer.copy_(outer([part.permute(2, 0, 1) for part in parts]))
    else:
        answer.view(len(answer), -1).copy_(parts[0].flatten(0, 1).T)  # a plain transpose of long rows


def log_in_double(probabilities: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Logarithms in float64, in which they can be added up over long sequences."""
    return probabilities.log().double()


def log_product(probabilities: Float[Tensor, "L B"]) -> Float[Tensor, " B"]:
    """Logarithm of the product over each sequence, in float64; where none is tiny, up to 8 are multiplied first."""
    probabilities = probabilities.double()
    if probabilities.numel() and probabilities.amin() > MULTIPLIED:
        for _ in range(3):
            half = len(probabilities) // 2
            rest = probabilities[2 * half :]
            probabilities = torch.cat([probabilities[:half] * probabilities[half : 2 * half], rest])
    return probabilities.log().sum(0)


def require_dtype(dtype: torch.dtype) -> None:
    """Refuse a precision in which beliefs can't be followed."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be torch.float64 or torch.float32, got {dtype!r}")


def checked_tokens(process: Process, tokens: Int[Tensor, "B L"]) -> Int[Tensor, "B L"]:
    """Refuse what isn't a batch of token sequences; return it as int64 on the CPU."""
    if not isinstance(tokens, Tensor):
        raise TypeError(f"tokens must be a torch.Tensor of integers, got {type(tokens).__name__}")
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise TypeError(f"tokens must have an integer dtype, got {tokens.dtype}")
    if tokens.ndim != 2:
        raise ValueError(f"tokens must have two dimensions (sequence, position), got shape {tuple(tokens.shape)}")
    tokens = tokens.to("cpu", torch.int64)
    if tokens.numel():
        least, greatest = torch.aminmax(tokens)
        if least < 0 or greatest >= process.vocab_size:
            _refuse_token(process, tokens)
    return tokens


def _refuse_token(process: Process, tokens: Int[Tensor, "B L"]) -> None:
    row, position = ((tokens < 0) | (tokens >= process.vocab_size)).nonzero()[0].tolist()
    raise ValueError(
        f"tokens[{row}, {position}] = {tokens[row, position].item()} is no token of this process; "
        f"legal are 0..{process.vocab_size - 1}"
    )


def require_possible(process: Process, probabilities: Float[Tensor, "L B"], columns: Int[Tensor, "L B"]) -> None:
    """Refuse sequences that the process can't emit; the first of them is named, and where it fails."""
    least = IMPOSSIBLE[probabilities.dtype] if isinstance(process, GeneralizedHiddenMarkovModel) else 0.0
    if probabilities.numel() and not bool(probabilities.amin() > least):
        row, position = (~(probabilities > least)).T.nonzero()[0].tolist()  # NaN after the first one
        raise ValueError(
            f"tokens[{row}] is impossible: after its first {position} tokens, the process emits "
            f"tokens[{row}, {position}] = {columns[position, row].item()} with probability 0"
        )
