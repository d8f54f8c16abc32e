"""Bounds on the uncertainty of the next token, and of the hidden state, after l tokens."""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from pcnet.processes.machines.causal_process import remembered
from pcnet.processes.machines.mixed_state import MixedStatePresentation, mixed_state_presentation
from pcnet.processes.models.hmm import HiddenMarkovModel, Process, started_at

TOLERANCE = 1e-13
"""Beliefs that differ by more are different states."""
MOST_TOKENS = 2000
"""Greatest length that is looked at."""
FEWEST_STATES = 100
"""Mixed states from each known hidden state on, at least."""
STILL = 40
"""A floor that stays the same for so many tokens counts as the limit."""
MOST_LOST = 0.05
"""Longer words are not looked at once this probability lies beyond the mixed states."""


class Histories(NamedTuple):
    """Bounds in nats for l = 0, 1, ..., n tokens of a stationary process.

    Attributes:
        floors: ``H[X_l | X_0 ... X_(l-1)]`` or a little more.
        floors_below: the same or a little less.
        known: ``H[X_l | X_0 ... X_(l-1), S_0]`` or a little less; zeros for a generalised process.
        memory: ``I[S_0; S_l | X_0 ... X_(l-1)]`` or a little more; infinite for a generalised process.
    """

    floors: Float[NDArray, " n"]
    floors_below: Float[NDArray, " n"]
    known: Float[NDArray, " n"]
    memory: Float[NDArray, " n"]


def histories(process: Process, max_states: int) -> Histories:
    """Follow two observers: one who knows only the tokens, and one who also knows the first hidden state.

    Args:
        process: started from its stationary law.
        max_states: mixed states to look at.
    """
    return remembered(process, ("histories", max_states), lambda: _histories(process, max_states))


def _histories(process: Process, max_states: int) -> Histories:
    presentation = mixed_state_presentation(process, tolerance=TOLERANCE, max_states=max_states)
    length = _worthwhile(presentation)
    levels = _levels(presentation, length)
    spread = levels.lost * math.log(process.vocab_size)
    floors_below = levels.laws - levels.slack
    floors = levels.laws + spread + levels.slack
    if not isinstance(process, HiddenMarkovModel):
        return Histories(floors, floors_below, np.zeros(length + 1), np.full(length + 1, np.inf))
    start = process.initial_distribution
    known, certain = np.zeros(length + 1), np.zeros(length + 1)
    for state in start.nonzero().squeeze(1).tolist():
        informed = _informed(process, state, max(max_states // process.num_states, FEWEST_STATES), length)
        known += float(start[state]) * np.maximum(informed.laws - informed.slack, 0)
        certain += float(start[state]) * np.maximum(informed.beliefs - informed.slack, 0)
    memory = levels.beliefs + levels.lost * math.log(process.num_states) + levels.slack - certain
    return Histories(floors, floors_below, known, np.maximum(memory, 0))


class _Levels(NamedTuple):
    """Averages over the mixed states after l = 0, 1, ... tokens, without what lies beyond.

    Attributes:
        laws: entropy of the next token.
        beliefs: entropy of the belief.
        lost: probability that lies beyond.
        slack: error of the averages, from taking close beliefs for one.
    """

    laws: Float[NDArray, " n"]
    beliefs: Float[NDArray, " n"]
    lost: Float[NDArray, " n"]
    slack: Float[NDArray, " n"]


def _informed(process: HiddenMarkovModel, state: int, max_states: int, length: int) -> _Levels:
    """The levels of an observer who knows the first hidden state."""
    sure = torch.zeros(process.num_states, dtype=torch.float64)
    sure[state] = 1
    return _levels(
        mixed_state_presentation(started_at(process, sure), tolerance=TOLERANCE, max_states=max_states), length
    )


def _worthwhile(presentation: MixedStatePresentation) -> int:
    """Length up to which nearly all words end in a mixed state and the next token still becomes more certain."""
    leak, laws = presentation.leak.numpy(), presentation.law_entropies.numpy()
    lost, floors = 0.0, [math.inf]
    for row in presentation.walk():
        floors.append(float(row @ laws))
        still = len(floors) > STILL and floors[-STILL] - floors[-1] < 1e-15
        lost += float(row @ leak)
        if still or len(floors) > MOST_TOKENS or lost >= MOST_LOST:
            break
    return max(len(floors) - 1, min(presentation.depth, MOST_TOKENS))


def _levels(presentation: MixedStatePresentation, length: int) -> _Levels:
    laws = presentation.law_entropies.numpy()
    beliefs = torch.special.entr(presentation.states.clamp(min=0)).sum(1).numpy()
    leak, found, lost = presentation.leak.numpy(), np.zeros((3, length + 1)), 0.0
    for l, row in zip(range(length + 1), presentation.walk()):
        found[:, l] = row @ laws, row @ beliefs, lost
        lost += float(row @ leak)
    return _Levels(*found, slack=_slack(presentation, length))


def _slack(presentation: MixedStatePresentation, length: int) -> Float[NDArray, " n"]:
    """Change of an entropy by a total variation of d: at most ``d log(outcomes) + 2 h(d)``, Fannes' inequality."""
    states = presentation.process.num_states
    outcomes = max(presentation.process.vocab_size, states)
    moved = np.minimum((presentation.merged + 1e-15) * states * np.arange(1, length + 2), 0.1)
    return moved * math.log(outcomes) + 2 * moved * (1 - np.log(moved))
