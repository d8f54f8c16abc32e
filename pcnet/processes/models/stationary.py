"""The law that one step leaves unchanged."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

UNIT = 1e-9
"""How far an eigenvalue may be from 1 and still count as 1."""


def stationary_law(chain: Float[Tensor, "S S"], initial: Float[Tensor, " S"] | None = None) -> Float[Tensor, " S"]:
    """Solve for the law of a Markov chain that one step leaves unchanged.

    ``pi T = pi``, ``sum(pi) = 1``

    Solved on the recurrent states by elimination without subtraction, so that no probability loses relative accuracy to
    cancellation, however small; transient states get exactly 0. Periodic chains have a stationary law too. Costs S^3.

    Args:
        chain: stochastic.
        initial: where a chain with several recurrent classes starts. Each class gets the probability that the chain ends
            in it, so the law is the long-run average of ``initial T^n``.

    Raises:
        ValueError: if there are several classes and no ``initial``.

    Reference: Grassmann, Taksar & Heyman (1985), Operations Research 33, 1107.
    """
    classes = recurrent_classes(chain)
    if len(classes) == 1:
        weights = chain.new_ones(1)
    elif initial is None:
        members = ", ".join(str(states.tolist()) for states in classes)
        raise ValueError(
            f"the stationary distribution isn't unique: transition_matrices has {len(classes)} recurrent classes of "
            f"states, {members}, that can't reach each other; give an initial law to choose between them"
        )
    else:
        weights = initial @ _absorption(chain, classes)
    law = chain.new_zeros(len(chain))
    for states, weight in zip(classes, weights):
        law[states] = weight * eliminate(chain[states][:, states])
    return law


def long_run_average(
    matrix: Float[Tensor, "S S"], right: Float[Tensor, " S"], initial: Float[Tensor, " S"] | None = None
) -> Float[Tensor, " S"]:
    """``pi T = pi``, ``pi r = 1`` for a matrix of any signs: the average of ``initial T^n`` over n.

    Raises:
        ValueError: if several vectors are left unchanged and there is no ``initial``, or none is.
    """
    residual = torch.eye(len(matrix), dtype=matrix.dtype) - matrix
    left, sizes, rightT = torch.linalg.svd(residual)
    kept = sizes <= UNIT * sizes[0].clamp(min=1)
    lefts, rights = left[:, kept].T, rightT[kept].T  # rows l T = l, columns T v = v
    if not len(lefts):
        raise ValueError("no vector is left unchanged by the sum of transition_matrices: it is no process")
    if initial is None:
        if len(lefts) > 1:
            raise ValueError(
                f"the stationary vector isn't unique: {len(lefts)} independent ones are left unchanged by the sum of "
                "transition_matrices; give an initial vector to choose between them"
            )
        return lefts[0] / (lefts[0] @ right)
    return initial @ rights @ torch.linalg.solve(lefts @ rights, lefts)


def reachable(chain: Float[Tensor, "S S"]) -> Bool[Tensor, "S S"]:
    """Whether state j can be reached from state i, in any number of steps, none included."""
    reaches = (chain > 0) | torch.eye(len(chain), dtype=torch.bool)
    for _ in range(len(chain).bit_length()):  # each squaring doubles the number of steps covered
        reaches = (reaches.double() @ reaches.double()) > 0
    return reaches


def recurrent_classes(chain: Float[Tensor, "S S"]) -> list[Int[Tensor, " class"]]:
    """Sets of states that reach each other and nothing else, by their first states."""
    reaches = reachable(chain)
    recurrent = (~reaches | reaches.T).all(1).nonzero().squeeze(1)
    classes = torch.unique(reaches[recurrent].int(), dim=0)
    return [row.nonzero().squeeze(1) for row in classes.flip(0)]


def _absorption(chain: Float[Tensor, "S S"], classes: list[Int[Tensor, " class"]]) -> Float[Tensor, "S classes"]:
    """Probability of ending in each class, from each state."""
    ends = chain.new_zeros(len(chain), len(classes))
    for k, states in enumerate(classes):
        ends[states, k] = 1
    passing = (ends.sum(1) == 0).nonzero().squeeze(1)
    if len(passing):
        stay = torch.eye(len(passing), dtype=chain.dtype) - chain[passing][:, passing]
        ends[passing] = torch.linalg.solve(stay, chain[passing] @ ends)
    return ends


def eliminate(chain: Float[Tensor, "recurrent recurrent"]) -> Float[Tensor, " recurrent"]:
    """Stationary law of an irreducible chain: drop states from the last to the first, rerouting through them."""
    routed = chain.clone()
    for k in range(len(chain) - 1, 0, -1):
        routed[:k, k] /= routed[k, :k].sum()
        routed[:k, :k] += torch.outer(routed[:k, k], routed[k, :k])
    law = torch.ones(len(chain), dtype=chain.dtype)
    for k in range(1, len(chain)):
        law[k] = law[:k] @ routed[:k, k]
    return law / law.sum()
