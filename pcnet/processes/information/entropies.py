"""Uncertainty of the next token: the loss floor at each context length, and the entropy rate that it falls to. In nats."""

import math
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcnet.processes.beliefs.filtering import filter_beliefs, next_token_law
from pcnet.processes.beliefs.sampling import sample
from pcnet.processes.beliefs.word_tree import branch, require_affordable
from pcnet.processes.information.histories import Histories, histories
from pcnet.processes.information.quantity import Quantity, bounded, mixed
from pcnet.processes.machines.causal_process import MAX_STATES, causal_machine, ergodic_parts, remembered
from pcnet.processes.machines.mixed_state import IMPOSSIBLE
from pcnet.processes.models.arguments import require_at_least
from pcnet.processes.models.hmm import HiddenMarkovModel, Process, as_process

WIDE = 1e-4
"""Where bounds are further apart than this, in nats, samples give the estimate."""
SEQUENCES, TOKENS, FORGOTTEN = 64, 4096, 512
"""Number and length of samples, and how many first tokens of each are left out."""


def myopic_entropies(
    process: Process | ArrayLike, max_length: int, max_words: int = 2_000_000
) -> Float[Tensor, " max_length+1"]:
    """Compute the uncertainty of the next token given the last L: the loss floor at each context length.

    ``h(L) = H[X_L | X_0, ..., X_(L-1)] = sum_(|w| = L) P(w) H[P(. | w)]``

    No predictor with L tokens of context has a lower expected cross-entropy. From the stationary law it falls with L
    towards the entropy rate. Exact up to rounding; costs as many beliefs as there are words of length ``max_length``,
    and keeps one level only.

    Args:
        process: what emits the tokens, from its initial law on; or the matrices of a hidden Markov model.
        max_length: longest context, at least 0.
        max_words: refuse a level with more words than this.

    Returns:
        h(0), h(1), ..., h(max_length) in nats.

    Raises:
        TypeError, ValueError: if ``max_length`` or ``max_words`` isn't a legal integer, a length has more than
            ``max_words`` words, or the process has no unique stationary law.

    Reference: Crutchfield & Feldman (2003), Chaos 13, 25, arXiv cond-mat/0102181.
    """
    process = as_process(process)
    require_at_least("max_length", max_length, 0)
    require_at_least("max_words", max_words, 1)
    probabilities = torch.ones(1, dtype=torch.float64)
    beliefs = process.initial_distribution.unsqueeze(0)
    laws = _possible_laws(process, beliefs)
    entropies = [probabilities @ _entropy(laws)]
    for length in range(1, max_length + 1):
        require_affordable(f"words of length {length}", int(torch.count_nonzero(laws)), max_words)
        children = branch(process, beliefs, laws)
        probabilities = probabilities[children.parents] * children.probabilities
        beliefs = children.filtered
        laws = _possible_laws(process, beliefs)
        entropies.append(probabilities @ _entropy(laws))
    return torch.stack(entropies)


def entropy_rate(
    process: Process | ArrayLike, *, max_states: int = MAX_STATES, generator: torch.Generator | None = None
) -> Quantity:
    """Compute the uncertainty of the next token after an infinite past, in nats: the floor of every loss.

    ``h = lim H[X_L | X_0 ... X_(L-1)] = sum_s pi(s) H[P(. | s)]`` over causal states s

    Exact if the causal states are finitely many: always so if the process is unifilar, its mixed states closed or not,
    and if it is a Markov chain. Otherwise between bounds that approach it exponentially fast,
    ``H[X_n | X_0 ... X_(n-1), S_0] <= h <= H[X_n | X_0 ... X_(n-1)]``, with n as great as ``max_states`` allows. If these
    are over 1e-4 apart, the estimate between them is an average over the Blackwell measure, 229,376 beliefs of 64
    samples, with its standard error. A process with several ergodic parts has the average of their rates.

    Args:
        process: a process, or the matrices of a hidden Markov model. Its stationary process counts. Of a generalised
            process whose mixed states don't close, no lower bound but 0 is known.
        max_states: mixed states to look at.
        generator: source of the samples, on the CPU. None: one with seed 0, so that answers repeat.

    Raises:
        TypeError, ValueError: if ``max_states`` isn't a positive integer, or the stationary law isn't unique.

    Reference: Birch (1962), Ann. Math. Statist. 33, 930, for the bounds; Jurgens & Crutchfield (2021), J. Stat. Phys.
        183, 32, arXiv 2008.12886, for the average.
    """
    process = as_process(process)
    machine = causal_machine(process, max_states)
    if machine is not None:
        return Quantity(machine.entropy_rate)
    parts = ergodic_parts(process)
    if generator is None:
        rates = [remembered(part, ("rate", max_states), partial(_rate, part, max_states)) for _, part in parts]
    else:
        rates = [_rate(part, max_states, generator) for _, part in parts]
    return mixed([weight for weight, _ in parts], rates)


def limit(terms: Float[NDArray, " n"]) -> tuple[float, float]:
    """Limit of a falling sequence whose steps shrink at the last observed rate, and that rate."""
    if len(terms) < 3:
        return float(terms[-1]), 0.0
    before, last = terms[-3] - terms[-2], terms[-2] - terms[-1]
    if not 0 < last < before:
        return float(terms[-1]), 0.0
    rate = last / before
    return float(terms[-1] - last * rate / (1 - rate)), float(rate)


def _rate(process: Process, max_states: int, generator: torch.Generator | None = None) -> Quantity:
    """Entropy rate of an ergodic process."""
    machine = causal_machine(process, max_states)
    if machine is not None:
        return Quantity(machine.entropy_rate)
    bounds = histories(process, max_states)
    low, high = float(bounds.known.max()), float(bounds.floors.min())
    estimate = _extrapolated(bounds)
    doubt = high - (low if isinstance(process, HiddenMarkovModel) else estimate)
    if doubt <= WIDE:
        return bounded(estimate, low, high)
    average, error = _average(process, generator)
    if 2 * error < doubt:
        return bounded(average, low, high, standard_error=error)
    return bounded(estimate, low, high)


def _extrapolated(bounds: Histories) -> float:
    """Limit of the floors; those after the least one are left out, as they rise by what lies beyond."""
    return limit(bounds.floors[: int(np.argmin(bounds.floors)) + 1])[0]


def _average(process: Process, generator: torch.Generator | None) -> tuple[float, float]:
    """Mean uncertainty of the next token along samples, and its standard error: each sample is a batch."""
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    tokens = sample(process, SEQUENCES, TOKENS, generator)
    beliefs = filter_beliefs(process, tokens).filtered[:, FORGOTTEN:]
    means = _entropy(_possible_laws(process, beliefs)).mean(1)
    return float(means.mean()), float(means.std() / math.sqrt(SEQUENCES))


def _possible_laws(process: Process, beliefs: Float[Tensor, "... S"]) -> Float[Tensor, "... V"]:
    """Laws of the next token; where zeros of a generalised process cancel up to rounding, they are zeros."""
    laws = next_token_law(process, beliefs)
    return laws if isinstance(process, HiddenMarkovModel) else torch.where(laws > IMPOSSIBLE, laws, 0.0)


def _entropy(laws: Float[Tensor, "... V"]) -> Float[Tensor, "..."]:
    return torch.special.entr(laws).sum(-1)
