"""Beliefs: what the tokens seen so far say about the hidden state, exactly.

``predicted`` is the belief before token t is seen and gives that token's law; ``filtered`` is the belief after it. As
tokens are emitted on transitions, the filtered belief already concerns the state that token t led to, so it is the
predicted belief of token t + 1.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.processes.hmm import HiddenMarkovModel
from pcnet.processes.words import Words


class Beliefs(NamedTuple):
    """Exact beliefs along sequences.

    Attributes:
        predicted: law of the state before token t is emitted, given tokens 0..t-1; at t = 0 the stationary law.
        filtered: law of the state after token t was emitted, given tokens 0..t.
        log_likelihood: log-probability of the whole sequence, in nats.
    """

    predicted: Float[Tensor, "B L S"]
    filtered: Float[Tensor, "B L S"]
    log_likelihood: Float[Tensor, " B"]


def filter_beliefs(process: HiddenMarkovModel, tokens: Int[Tensor, "B L"]) -> Beliefs:
    """Follow the belief of an ideal observer through token sequences, from the stationary law on.

    ``filtered[t] = predicted[t] T[x_t] / (predicted[t] T[x_t] 1)``, ``predicted[t + 1] = filtered[t]``

    Exact in float64, on the CPU wherever the tokens are. Costs B L S^2, in L steps.

    Args:
        process: what emitted the tokens.
        tokens: sequences of an integer type with entries in 0..V-1; L may be 0.

    Raises:
        TypeError: if ``tokens`` isn't a tensor of integers.
        ValueError: if ``tokens`` isn't two-dimensional, if an entry is out of range, or if the process can't emit a
            sequence (its probability is 0 or below what float64 holds); the message names row and position.

    Reference: the forward algorithm of Rabiner (1989), Proc. IEEE 77, 257, for emission on transitions.
    """
    columns = _checked_tokens(process, tokens).T.contiguous()
    length, batch = columns.shape
    probabilities = torch.empty(length, batch, dtype=torch.float64)
    beliefs = torch.empty(length + 1, batch, process.num_states, dtype=torch.float64)
    beliefs[0] = process.initial_distribution
    for t in range(length):
        beliefs[t + 1], probabilities[t] = process.advance(beliefs[t], columns[t])
    _require_possible(probabilities, columns)
    return Beliefs(_batch_first(beliefs[:-1]), _batch_first(beliefs[1:]), probabilities.log().sum(0))


def next_token_law(process: HiddenMarkovModel, beliefs: Float[Tensor, "... S"]) -> Float[Tensor, "... V"]:
    """Compute the law of the next token in a belief.

    ``P(x | eta) = eta T[x] 1 = sum_s eta[s] E[s, x]``

    Of a filtered belief at t this is the law of token t + 1; of a predicted belief, that of token t itself. Float64,
    whatever the beliefs are.

    Raises:
        ValueError: if the last dimension of ``beliefs`` isn't the number of states.
    """
    if beliefs.ndim == 0 or beliefs.shape[-1] != process.num_states:
        raise ValueError(f"beliefs must have a shape (..., {process.num_states}), got {tuple(beliefs.shape)}")
    return beliefs.double() @ process.emission_matrix


def constrained_beliefs(process: HiddenMarkovModel, words: Words) -> Float[Tensor, "N S"]:
    """Compute the belief that attention alone can form: the sum of what each token says by itself.

    ``r_d = pi + sum_(s <= d) (pi T|z_s T^(d-s) - pi)``, with ``pi T|z = pi T[z] / (pi T[z] 1)`` and ``T = sum_x T[x]``

    Each past token moves the stationary law as if it stood alone and is then carried forward to the last position d
    without looking at the tokens between. The entries sum to 1 but may be negative. A control for what a probe finds:
    how much of the full belief a single layer of attention explains. Costs as much as the filter.

    Args:
        process: the process that the words were enumerated from.
        words: what `pcnet.processes.words` returned for it.

    Reference: Piotrowski et al. (2025), arXiv 2502.01954.
    """
    stationary = process.initial_distribution
    singles = words.levels[0]
    single_token_shifts = stationary.new_zeros(process.vocab_size, process.num_states)
    single_token_shifts[singles.last_tokens] = singles.filtered - stationary
    shifts = torch.zeros_like(stationary).unsqueeze(0)
    constrained = []
    for level in words.levels:
        carried = shifts @ process.state_transition_matrix
        shifts = carried[level.parents] + single_token_shifts[level.last_tokens]
        constrained.append(stationary + shifts)
    return torch.cat(constrained)


def _batch_first(beliefs: Float[Tensor, "L B S"]) -> Float[Tensor, "B L S"]:
    # A copy always, so that writing to one answer never changes another.
    return beliefs.transpose(0, 1).clone(memory_format=torch.contiguous_format)


def _checked_tokens(process: HiddenMarkovModel, tokens: Int[Tensor, "B L"]) -> Int[Tensor, "B L"]:
    """Refuse what isn't a batch of token sequences; return it as int64 on the CPU."""
    if not isinstance(tokens, Tensor):
        raise TypeError(f"tokens must be a torch.Tensor of integers, got {type(tokens).__name__}")
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise TypeError(f"tokens must have an integer dtype, got {tokens.dtype}")
    if tokens.ndim != 2:
        raise ValueError(f"tokens must have two dimensions (sequence, position), got shape {tuple(tokens.shape)}")
    tokens = tokens.to("cpu", torch.int64)
    wrong = ((tokens < 0) | (tokens >= process.vocab_size)).nonzero()
    if len(wrong):
        row, position = wrong[0].tolist()
        raise ValueError(
            f"tokens[{row}, {position}] = {tokens[row, position].item()} is no token of this process; "
            f"legal are 0..{process.vocab_size - 1}"
        )
    return tokens


def _require_possible(probabilities: Float[Tensor, "L B"], columns: Int[Tensor, "L B"]) -> None:
    # After the first impossible token the belief is NaN, and so is every probability; they fail this comparison too.
    wrong = (~(probabilities > 0)).T.nonzero()
    if len(wrong):
        row, position = wrong[0].tolist()
        raise ValueError(
            f"tokens[{row}] is impossible: after its first {position} tokens, the process emits "
            f"tokens[{row}, {position}] = {columns[position, row].item()} with probability 0"
        )
