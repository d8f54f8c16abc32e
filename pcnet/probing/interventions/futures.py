"""Laws of the next few tokens: what a process says that follows a belief, and what a model says that follows a state."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcnet.probing.interventions.places import Moment, NotSettledError, Place
from pcnet.processes import HiddenMarkovModel
from pcnet.typing import State

Step = Callable[[State, Int[Tensor, " B"]], tuple[Float[Tensor, "B V"], State]]
"""Takes a memory and a token on; gives logits and the memory after it."""

MAX_FUTURES = 2**16
"""Continuations of one history beyond which an enumeration is refused."""


def exact_futures(
    process: HiddenMarkovModel, beliefs: Float[Tensor, "N S"], horizon: int
) -> Float[Tensor, "N futures"]:
    r"""Law of the next `horizon` tokens in each belief, over all V^horizon continuations in lexicographic order.

    .. math:: P(w_1 \dots w_k \mid \eta) = \eta\, T[w_1] \cdots T[w_k]\, r

    It is linear in the belief: what a mixture of two beliefs predicts is the mixture of what they predict.

    Args:
        process: whose futures.
        beliefs: filtered beliefs; points outside the simplex get what linearity gives them.
        horizon: tokens ahead, at least 1.

    Raises:
        ValueError: if ``horizon`` is not positive or has too many continuations, or the beliefs' width is not the
            number of states.
    """
    check_horizon(horizon, process.vocab_size)
    if beliefs.ndim != 2 or beliefs.shape[1] != process.num_states:
        raise ValueError(f"beliefs must have a shape (N, {process.num_states}), got {tuple(beliefs.shape)}")
    vectors = beliefs.double().unsqueeze(1)
    for _ in range(horizon):
        vectors = torch.einsum("nws,vsj->nwvj", vectors, process.transition_matrices).flatten(1, 2)
    return vectors @ process.right_vector


@torch.no_grad()
def model_futures(place: Place, moment: Moment, horizon: int) -> Float[Tensor, "B futures"]:
    """Law of the next `horizon` tokens that a model states when it goes on from this moment, over all continuations.

    The product of its next-token laws along each continuation; V^(horizon - 1) more runs of one token each.

    Args:
        place: of the model.
        moment: where to start, edited or not.
        horizon: tokens ahead, at least 1.

    Raises:
        ValueError: if ``horizon`` is not positive or has too many continuations.
    """
    check_horizon(horizon, moment.logits.shape[-1])

    def step(memory: State, tokens: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B V"], State]:
        after = place.advance(memory, tokens)
        return after.logits, after.memory

    return continued(step, moment.memory, moment.logits, horizon)


class EditedFutures(NamedTuple):
    """What a model says after an edit, where it has a state to say it from.

    Attributes:
        futures: of the settled rows alone, in their order.
        settled: which of all rows these are.
    """

    futures: Float[Tensor, "S futures"]
    settled: Bool[Tensor, " B"]


@torch.no_grad()
def edited_futures(place: Place, moment: Moment, values: Float[Tensor, "B D"], horizon: int) -> EditedFutures:
    """Law of the next `horizon` tokens with these values in the place, for the rows in which the model settles around them.

    A row has not settled if values that are held leave the others without an equilibrium (`NotSettledError`), or if what
    the model says later on is not finite, because it diverged. One such row doesn't cost the others theirs.

    Args:
        place: where the values are put.
        moment: before the edit.
        values: for every row.
        horizon: tokens ahead, at least 1.

    Raises:
        ValueError: as `model_futures`.
    """
    check_horizon(horizon, moment.logits.shape[-1])
    settled = values.isfinite().all(-1)
    while bool(settled.any()):
        rows = settled.nonzero().squeeze(-1)
        try:
            edited = place.put(moment.rows(rows), values[rows])
        except NotSettledError as error:
            settled = settled.index_put((rows,), error.settled)
            continue
        futures = model_futures(place, edited, horizon)
        finite = futures.isfinite().all(-1)
        return EditedFutures(futures[finite], settled.index_put((rows,), finite))
    return EditedFutures(moment.logits.new_empty(0, moment.logits.shape[-1] ** horizon, dtype=torch.float64), settled)


def continued(step: Step, memory: State, logits: Float[Tensor, "B V"], horizon: int) -> Float[Tensor, "B futures"]:
    """Law of the next `horizon` tokens, all continuations in lexicographic order: the product of next-token laws.

    Args:
        step: gives logits and memory after one more token.
        memory: of the model before any of them.
        logits: of the first one.
        horizon: tokens ahead, at least 1.
    """
    batch, vocab_size = logits.shape
    logs = logits.double().log_softmax(-1)
    for _ in range(horizon - 1):
        tokens = torch.arange(vocab_size).repeat(len(logits))
        logits, memory = step(tuple(part.repeat_interleave(vocab_size, 0) for part in memory), tokens)
        logs = logs.flatten().unsqueeze(1) + logits.double().log_softmax(-1)
    return logs.exp().reshape(batch, -1)


def next_tokens(futures: Float[Tensor, "N futures"], vocab_size: int, horizon: int) -> Float[Tensor, "N words"]:
    """Joint law of the first `horizon` tokens of these futures."""
    return futures.reshape(len(futures), vocab_size**horizon, -1).sum(-1)


def token_ahead(futures: Float[Tensor, "N futures"], vocab_size: int, horizon: int) -> Float[Tensor, "N V"]:
    """Law of the token that comes `horizon` tokens ahead (1 is the next one)."""
    return futures.reshape(len(futures), vocab_size ** (horizon - 1), vocab_size, -1).sum((1, 3))


def check_horizon(horizon: int, vocab_size: int) -> None:
    """Refuse what cannot be enumerated."""
    if horizon < 1 or vocab_size**horizon > MAX_FUTURES:
        raise ValueError(
            f"horizon={horizon}: it must be at least 1 and leave at most {MAX_FUTURES} continuations of "
            f"{vocab_size} tokens"
        )
