"""The belief that a single layer of attention can form."""

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
        process: of the words; may be a generalised one.
        words: of which ``tokens`` and ``lengths`` are looked at.

    Reference: Piotrowski et al. (2025), arXiv 2502.01954.
    """
    start = process.initial_distribution
    after = start @ process.transition_matrices
    mass = after @ process.right_vector
    shifts = after / mass.where(mass > 0, 1.0).unsqueeze(1) - start
    found = start.repeat(len(words.lengths), 1)
    for lag in range(words.tokens.shape[1]):
        place = words.lengths - 1 - lag
        tokens = words.tokens.gather(1, place.clamp_min(0).unsqueeze(1)).squeeze(1)
        found += shifts[tokens.clamp_min(0)] * (place >= 0).unsqueeze(1)
        shifts = shifts @ process.state_transition_matrix
    return found
