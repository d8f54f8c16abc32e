"""A sample together with everything that is exactly known about it."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from pcnet.processes.beliefs.filtering import follow, log_in_double, require_dtype
from pcnet.processes.beliefs.sampling import Drawn, draw_factors, require_draws
from pcnet.processes.models.hmm import Process, as_process
from pcnet.processes.models.parts import joined, leaves


class Observed(NamedTuple):
    """Sequences, their hidden states, and what an ideal observer knows of them.

    Attributes:
        tokens: as `sample` draws them.
        states: hidden states; token t was emitted on the way from state t to state t + 1. None of a generalised process.
        predicted: belief before token t, as `filter_beliefs` gives it.
        filtered: belief after token t.
        next_token_laws: law of the token that follows tokens 0..t.
        log_word_probabilities: log-probability of tokens 0..t, in nats; float64 always.
    """

    tokens: Int[Tensor, "B L"]
    states: Int[Tensor, "B L+1"] | None
    predicted: Float[Tensor, "B L S"]
    filtered: Float[Tensor, "B L S"]
    next_token_laws: Float[Tensor, "B L V"]
    log_word_probabilities: Float[Tensor, "B L"]


def observe(
    process: Process | ArrayLike,
    num_sequences: int,
    length: int,
    generator: torch.Generator,
    *,
    dtype: torch.dtype = torch.float64,
) -> Observed:
    """Draw sequences together with their hidden states, beliefs, next-token laws and word probabilities.

    Tokens are those of `sample` for the same generator, beliefs those of `filter_beliefs`. A product is drawn and followed
    factor by factor; only the answers have the size of the whole.

    Args:
        process: what to sample from.
        num_sequences: B >= 1.
        length: L >= 1.
        generator: source of every draw, on the CPU.
        dtype: of beliefs and laws, torch.float64 or torch.float32; what is drawn doesn't depend on it.

    Raises:
        TypeError, ValueError: if a size isn't a positive integer, ``generator`` isn't a `torch.Generator` on the CPU,
            ``dtype`` is another one, or the stationary law isn't unique.
    """
    process = as_process(process)
    require_draws(num_sequences, length, generator)
    require_dtype(dtype)
    factors = leaves(process)
    drawn = draw_factors(process, factors, num_sequences, length, [generator])
    columns = [part.tokens for part in drawn]
    laws = torch.empty(num_sequences, length, process.vocab_size, dtype=dtype)
    followed = follow(process, factors, columns, dtype, laws)
    return Observed(
        tokens=joined([factor.vocab_size for factor in factors], columns).T.contiguous(),
        states=joined_states(factors, drawn),
        predicted=followed.predicted,
        filtered=followed.filtered,
        next_token_laws=laws,
        log_word_probabilities=log_in_double(followed.probabilities.T.contiguous()).cumsum(1),
    )


def joined_states(factors: list[Process], drawn: list[Drawn]) -> Int[Tensor, "B L+1"] | None:
    """Hidden states of the whole, if every factor has them."""
    states = [part.states for part in drawn if part.states is not None]
    if len(states) < len(drawn):
        return None
    return joined([factor.num_states for factor in factors], states).T.contiguous()
