"""How fast nearby beliefs approach each other, and the dimension of the set of beliefs."""

import math

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from pcnet.processes.beliefs.filtering import filter_beliefs, next_token_law
from pcnet.processes.beliefs.sampling import sample
from pcnet.processes.beliefs.sufficiency import reachable_span
from pcnet.processes.information.entropies import entropy_rate
from pcnet.processes.information.quantity import Quantity, bounded
from pcnet.processes.machines.causal_process import MAX_STATES, causal_machine, ergodic_parts
from pcnet.processes.models.hmm import Process, UndefinedError, as_process

SEQUENCES, TOKENS, FORGOTTEN = 64, 1500, 100
"""Number and length of samples, and how many first tokens of each are left out."""
CRUSHED = 1e-12
"""A token that shrinks a direction by this factor or more removes it."""


def lyapunov_exponents(
    process: Process | ArrayLike, *, generator: torch.Generator | None = None
) -> tuple[Quantity, ...]:
    """Estimate how fast nearby beliefs approach each other, in nats a token.

    ``lambda_1 + ... + lambda_k = lim 1/n log |volume of k tangent vectors after n tokens|`` of the maps
    ``eta -> eta T[x] / (eta T[x] r)``, whose derivative is ``d -> (d T[x] - (d T[x] r) eta') / (eta T[x] r)``

    Tangent vectors are carried along 64 samples and made orthogonal again after each token. Only directions that some
    reachable belief can have count; the exponents are the same in every basis.

    Args:
        process: ergodic: a process, or the matrices of a hidden Markov model.
        generator: source of the samples, on the CPU. None: one with seed 0, so that answers repeat.

    Returns:
        As many as the reachable beliefs have dimensions, falling; minus infinity where a token removes a direction.
        Their bounds are four standard errors away.

    Raises:
        ValueError: if the process has several ergodic parts (ask about each), or its stationary law isn't unique.

    Reference: Jurgens & Crutchfield (2021), Chaos 31, 083114, arXiv 2102.10487; Benettin et al. (1980), Meccanica 15, 9.
    """
    process = as_process(process)
    parts = ergodic_parts(process)
    if len(parts) > 1:
        raise UndefinedError(
            f"the process has {len(parts)} ergodic parts, each with exponents of its own; ask about one"
        )
    rates = _growth_rates(parts[0][1], generator)
    return tuple(_estimate(column) for column in rates.T)


def mixed_state_dimension(
    process: Process | ArrayLike, *, max_states: int = MAX_STATES, generator: torch.Generator | None = None
) -> Quantity:
    """Estimate the dimension of the set of beliefs that recur.

    ``d = k + (h + lambda_1 + ... + lambda_k) / |lambda_(k+1)|``, with the greatest k for which the bracket isn't negative

    Zero, exactly, where they are finitely many. Otherwise the Lyapunov dimension: the information dimension of the
    Blackwell measure where the images of the maps don't overlap, and more than that where they do. Never more than the
    dimension of the space that the beliefs span. Of several ergodic parts, the greatest.

    Args:
        process: a process, or the matrices of a hidden Markov model.
        max_states: mixed states to look at.
        generator: source of the samples, on the CPU. None: one with seed 0, so that answers repeat.

    Returns:
        The estimate with its standard error; bounds are four of these away.

    Raises:
        TypeError, ValueError: if ``max_states`` isn't a positive integer, or the stationary law isn't unique.

    Reference: Jurgens & Crutchfield (2021), Chaos 31, 083114, arXiv 2102.10487, equation 11; Kaplan & Yorke (1979).
    """
    process = as_process(process)
    if causal_machine(process, max_states) is not None:
        return Quantity(0.0)
    return max(_dimension(part, max_states, generator) for _, part in ergodic_parts(process))


def _dimension(process: Process, max_states: int, generator: torch.Generator | None) -> Quantity:
    """Of an ergodic process; the error by leaving out one sample after the other."""
    if causal_machine(process, max_states) is not None:
        return Quantity(0.0)
    rate = entropy_rate(process, max_states=max_states, generator=generator)
    rates = _growth_rates(process, generator)
    count, whole = len(rates), rates.sum(0)
    value = _kaplan_yorke(rate, whole / count)
    without = torch.tensor(
        [_kaplan_yorke(rate, (whole - row) / (count - 1)) for row in rates.nan_to_num(neginf=-1e300)]
    )
    error = float(((count - 1) / count * (without - without.mean()).square().sum()).sqrt())
    most = rates.shape[1]
    return bounded(value, max(value - 4 * error, 0), min(value + 4 * error, most), standard_error=error)


def _kaplan_yorke(entropy: float, exponents: Float[Tensor, " k"]) -> float:
    left = float(entropy)
    for k, exponent in enumerate(exponents.tolist()):
        if left + exponent < 0:
            return k + left / -exponent
        left += exponent
    return float(len(exponents))


def _estimate(samples: Float[Tensor, " B"]) -> Quantity:
    if bool(torch.isinf(samples).any()):
        return Quantity(-math.inf, exact=True)
    mean, error = float(samples.mean()), float(samples.std() / math.sqrt(len(samples)))
    return Quantity(mean, mean - 4 * error, mean + 4 * error, standard_error=error, exact=False)


def _growth_rates(process: Process, generator: torch.Generator | None) -> Float[Tensor, "B k"]:
    """Average logarithm by which each sample stretches each of k orthogonal tangent vectors per token."""
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    tokens = sample(process, SEQUENCES, TOKENS, generator)
    beliefs = filter_beliefs(process, tokens)
    law = next_token_law(process, beliefs.predicted)
    probabilities = law.gather(2, tokens.unsqueeze(2)).squeeze(2)
    span = reachable_span(process)
    matrices, right = span @ process.transition_matrices @ span.T, span @ process.right_vector
    tangent = torch.linalg.svd(right.unsqueeze(0))[2][1:]  # d r = 0
    after = beliefs.filtered @ span.T @ tangent.T
    inside, shares = tangent @ matrices @ tangent.T, tangent @ matrices @ right
    frame = torch.eye(len(tangent), dtype=torch.float64).expand(len(tokens), -1, -1)
    total = torch.zeros(len(tokens), len(tangent), dtype=torch.float64)
    for t in range(TOKENS if len(tangent) else 0):
        x = tokens[:, t]
        maps = inside[x] - shares[x].unsqueeze(2) * after[:, t].unsqueeze(1)
        frame, stretched = torch.linalg.qr((frame @ (maps / probabilities[:, t, None, None])).mT)
        frame = frame.mT
        if t >= FORGOTTEN:
            factors = stretched.diagonal(dim1=1, dim2=2).abs()
            total += torch.where(factors > CRUSHED, factors, 0.0).log()
    return total / (TOKENS - FORGOTTEN)
