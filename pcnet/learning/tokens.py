"""Temporal networks inferred for learning: every token a row, sequences that diverged left out."""

from jaxtyping import Int
from torch import Tensor

from pcnet.inference import Inference, Status
from pcnet.networks.fast.token_problem import TokenProblem
from pcnet.networks.time.temporal import TemporalPC, TokenClamp, Trajectory
from pcnet.typing import State


def infer_tokens(
    network: TemporalPC, tokens: Int[Tensor, "B L"], inference: Inference | None
) -> tuple[Int[Tensor, "B L"], Trajectory]:
    """Equilibria of all tokens but the last; sequences in which inference diverged are left out of the update."""
    trajectory = network.infer(tokens[:, :-1], inference)
    good = (trajectory.status != Status.DIVERGED).all(-1)
    if good.all():
        return tokens, trajectory
    if not good.any():
        raise FloatingPointError("inference diverged in every sequence of the batch; lower the step size or the gain")
    return tokens[good], trajectory.rows(good)


def as_rows(state: State) -> State:
    """Every token a row."""
    return tuple(group.detach().flatten(0, 1) for group in state)


def every_token(network: TemporalPC, tokens: Int[Tensor, "B L"], trajectory: Trajectory) -> TokenProblem:
    """The energies of all tokens but the last, each given its own past, as one problem."""
    return network.problem(TokenClamp(tokens[:, :-1].flatten(), as_rows(trajectory.past)))
