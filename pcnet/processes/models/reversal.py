"""A process read from its end to its beginning."""

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from pcnet.processes.models.compose import block, mixture, noisy_channel, product, relabel
from pcnet.processes.models.hmm import GeneralizedHiddenMarkovModel, HiddenMarkovModel, Process, as_process
from pcnet.processes.models.parts import Blocks, Channel, Mixture, Product

STATIONARY = 1e-9
"""Greatest change of an entry of the initial law in one step."""


def time_reversal(process: Process | ArrayLike) -> Process:
    """Read a stationary process backwards: every word gets the probability of its mirror image.

    ``T~[x] = D^-1 T[x]^T D`` with ``D = diag(pi)``: what the hidden states do in reversed time

    States that are never visited are dropped. A generalised process, which has no states, is transposed instead: initial
    and right vector change places. Mixtures, products, channels and blocks of processes are those of the reversed ones, so
    beliefs split as before.

    Args:
        process: starts from a stationary law.

    Raises:
        ValueError: if it doesn't start from a stationary law.
    """
    process = as_process(process)
    _require_stationary(process)
    match process.composition:  # what is built is no larger than what is there
        case Mixture(components, weights):
            return mixture([time_reversal(part) for part in components], weights, max_gib=torch.inf)
        case Product(factors):
            return product([time_reversal(part) for part in factors], max_gib=torch.inf)
        case Channel(source, matrix):
            return noisy_channel(time_reversal(source), matrix, max_gib=torch.inf)
        case Blocks(source, length):
            words = block(time_reversal(source), length, max_gib=torch.inf)
            return relabel(words, _mirrored(source.vocab_size, length), max_gib=torch.inf)
        case _:
            return _reversed(process)


def _reversed(process: Process) -> Process:
    mirrored = process.transition_matrices.transpose(1, 2)
    start = process.initial_distribution
    if not isinstance(process, HiddenMarkovModel):
        return GeneralizedHiddenMarkovModel(mirrored, right=start, initial=process.right_vector)
    kept = start > 0
    law = start[kept]
    rows = mirrored[:, kept][:, :, kept] * (law / law.unsqueeze(1))
    return HiddenMarkovModel(_normalised(rows), initial=law)


def _normalised(matrices: Float[Tensor, "V S S"]) -> Float[Tensor, "V S S"]:
    """Rows that sum to 1 to the last digit, whatever the stationary law's were."""
    return matrices / matrices.sum((0, 2)).unsqueeze(1)


def _mirrored(vocab_size: int, length: int) -> list[int]:
    """Number of each word of one length, read backwards."""
    digits = torch.arange(vocab_size**length).reshape([vocab_size] * length)
    return digits.permute(*reversed(range(length))).flatten().tolist()


def _require_stationary(process: Process) -> None:
    start = process.initial_distribution
    change = start @ process.state_transition_matrix - start
    if change.abs().max() > STATIONARY * start.abs().max().clamp(min=1):
        state = int(change.abs().argmax())
        raise ValueError(
            "time_reversal needs a process that starts from a stationary law, but one step changes entry "
            f"{state} of its initial law from {start[state].item():.6g} to {(start + change)[state].item():.6g}"
        )
