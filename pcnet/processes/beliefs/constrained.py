"""The belief that a single layer of attention can form."""

import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.processes.beliefs.word_tree import Words
from pcnet.processes.models.hmm import HiddenMarkovModel


def constrained_beliefs(process: HiddenMarkovModel, words: Words) -> Float[Tensor, "N S"]:
    """Compute the belief that attention alone can form: a sum of one shift for each token.

    ``r_d = pi + sum_(s <= d) (pi T|z_s T^(d-s) - pi)``, with ``pi T|z = pi T[z] / (pi T[z] 1)`` and ``T = sum_x T[x]``

    Each past token shifts the stationary law as if it stood alone; the shift is then carried forward to the last position
    d, whatever the tokens between are. The entries sum to 1 but may be negative. A control for what a probe finds. Costs as much as the filter.

    Args:
        process: the process that the words were enumerated from.
        words: what `pcnet.processes.beliefs.word_tree` returned for it.

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
