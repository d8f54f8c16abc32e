"""The group inverse of a mixed-state presentation: sums over all lengths of a word, without summing."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from pcnet.processes.machines.mixed_state import MixedStatePresentation, law_of_class


def apply_group_inverse(presentation: MixedStatePresentation, values: Float[NDArray, " M"]) -> Float[NDArray, " M"]:
    """Sum the differences between a quantity and its long-run average over all future tokens, from each mixed state on.

    ``x = (I - W)^D v = sum_n (W^n - W_1) v``, with W_1 the average of W^n in the long run

    Where W is periodic the sum is Cesaro's. Solved part by part with sparse elimination: in a recurrent class c, with
    stationary law p, ``(I - W_c) x = v - p v`` and ``p x = 0``; from the transient states on, what they lead to.

    Args:
        presentation: with nothing beyond.
        values: v, one for each mixed state.

    Reference: Meyer (1975), SIAM Review 17, 443; Riechers & Crutchfield (2018), Chaos 28, 033116, arXiv 1706.00883.
    """
    presentation.require_nothing_beyond("the group inverse")
    step, recurrent = presentation.sparse_transition, presentation.recurrent.numpy()
    average, found = np.zeros(len(values)), np.zeros(len(values))
    for members in presentation.recurrent_classes:
        law = law_of_class(step[members][:, members])
        average[members] = law @ values[members]
        found[members] = _within_class(step[members][:, members], law, values[members] - average[members])
    passing, ends = np.flatnonzero(~recurrent), np.flatnonzero(recurrent)
    if len(passing):
        solve = sparse_linalg.splu((sparse.eye_array(len(passing)) - step[passing][:, passing]).tocsc()).solve
        onward = step[passing][:, ends]
        average[passing] = solve(onward @ average[ends])
        found[passing] = solve(values[passing] - average[passing] + onward @ found[ends])
    return found


def _within_class(
    step: sparse.csr_array, law: Float[NDArray, " m"], excess: Float[NDArray, " m"]
) -> Float[NDArray, " m"]:
    """Solve ``(I - W) x = excess`` with ``law x = 0`` for an irreducible W."""
    found = np.zeros(len(law))
    if len(law) > 1:
        system = (sparse.eye_array(len(law)) - step)[1:][:, 1:]
        found[1:] = sparse_linalg.spsolve(system.tocsc(), excess[1:])
    return found - law @ found
