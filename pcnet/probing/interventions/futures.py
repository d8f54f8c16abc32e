"""Laws of the next few tokens: what a process says that follows a belief, and what a model says that follows a state."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcnet.predictor import Predictor
from pcnet.probing.interventions.places import Moment, NotSettledError, Place
from pcnet.probing.rows.targets import check_horizon
from pcnet.processes import Words
from pcnet.typing import State

Step = Callable[[State, Int[Tensor, " B"]], tuple[Float[Tensor, "B V"], State]]
"""Takes a memory and a token on; gives logits and the memory after it."""


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

    def step(memory: State, tokens: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B V"], State]:
        after = place.advance(memory, tokens)
        return after.logits, after.memory

    return continued(step, moment.memory, moment.logits, horizon)


@torch.no_grad()
def own_futures(model: Predictor, rows: Words, horizon: int, chunk: int = 1024) -> Float[Tensor, "N futures"]:
    """Law of the next `horizon` tokens that a model itself states after each word: no process is asked.

    Each word is run anew, and then every continuation: N V^horizon steps.

    Args:
        model: any predictor. One with a bounded context may be asked no further than it reaches.
        rows: the words: ``tokens`` (padded on the right with negative numbers) and ``lengths`` are used.
        horizon: tokens ahead, at least 1.
        chunk: words per batch.

    Raises:
        ValueError: if ``horizon`` is not positive or has too many continuations.
    """
    check_horizon(horizon, model.vocab_size)
    laws = torch.empty(len(rows.lengths), model.vocab_size**horizon, dtype=torch.float64)
    for length in rows.lengths.unique().tolist():
        for part in torch.nonzero(rows.lengths == length).flatten().split(chunk):
            memory, logits = model.start(len(part)), None
            for token in rows.tokens[part, :length].unbind(1):
                logits, memory = model.step(memory, token)
            laws[part] = continued(model.step, memory, logits, horizon)
    return laws


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

    Raises:
        ValueError: if ``horizon`` is not positive or has too many continuations.
    """
    batch, vocab_size = logits.shape
    check_horizon(horizon, vocab_size)
    logs = logits.double().log_softmax(-1)
    for _ in range(horizon - 1):
        tokens = torch.arange(vocab_size).repeat(len(logits))
        logits, memory = step(tuple(part.repeat_interleave(vocab_size, 0) for part in memory), tokens)
        logs = logs.flatten().unsqueeze(1) + logits.double().log_softmax(-1)
    return logs.exp().reshape(batch, -1)


def next_tokens(futures: Float[Tensor, "N futures"], vocab_size: int, horizon: int) -> Float[Tensor, "N words"]:
    """Joint law of the first `horizon` tokens of these futures."""
    return futures.reshape(len(futures), vocab_size**horizon, -1).sum(-1)
