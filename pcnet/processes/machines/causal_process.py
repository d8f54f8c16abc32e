"""The stationary process of a process, its smallest form and its causal states, computed once for each process."""

from collections.abc import Callable, Hashable
from typing import TypeVar
from weakref import WeakKeyDictionary

from pcnet.processes.machines.causal_states import EpsilonMachine, epsilon_machine, lumped, observable
from pcnet.processes.machines.mixed_state import MixedStatePresentation, NotClosedError, mixed_state_presentation
from pcnet.processes.models.arguments import require_at_least
from pcnet.processes.models.hmm import HiddenMarkovModel, Process, started_at
from pcnet.processes.models.stationary import recurrent_classes

MAX_STATES = 30_000
"""Mixed states that are looked for; enough for all words of up to nine tokens of three kinds."""

Answer = TypeVar("Answer")
_ANSWERS: WeakKeyDictionary[Process, dict[Hashable, object]] = WeakKeyDictionary()


def remembered(process: Process, question: Hashable, answer: Callable[[], Answer]) -> Answer:
    """Answer a question about a process once, and keep the answer; it must not hold the process itself."""
    known = _ANSWERS.setdefault(process, {})
    if question not in known:
        known[question] = answer()
    return known[question]


def causal_machine(process: Process, max_states: int) -> EpsilonMachine | None:
    """The epsilon-machine of the process in the long run; None if there are more causal states than are looked for.

    Raises:
        TypeError, ValueError: if ``max_states`` isn't a positive integer, or the stationary law isn't unique.
    """
    require_at_least("max_states", max_states, 1)
    _ = process.stationary_distribution  # raises if it isn't unique
    return remembered(process, ("machine", max_states), lambda: _machine(process, max_states))


def in_the_long_run(process: Process) -> Process:
    """The process started from its stationary law; hidden states with equal futures are merged."""
    return remembered(process, "long run", lambda: _stationary(process))


def smallest(process: Process, max_states: int) -> Process:
    """The smallest form of the stationary process that is found: no direction of its beliefs is without influence on words."""
    machine = causal_machine(process, max_states)
    if machine is not None:
        return machine.process
    return remembered(process, "observable", lambda: observable(in_the_long_run(process)))


def smallest_presentation(process: Process, max_states: int) -> MixedStatePresentation:
    """The mixed states of that form."""
    return remembered(
        process,
        ("presentation", max_states),
        lambda: mixed_state_presentation(smallest(process, max_states), max_states=max_states),
    )


def ergodic_parts(process: Process) -> list[tuple[float, Process]]:
    """The ergodic processes that it is a mixture of, with their probabilities; a generalised process counts as one."""
    return remembered(process, "parts", lambda: _parts(in_the_long_run(process)))


def _machine(process: Process, max_states: int) -> EpsilonMachine | None:
    try:
        return epsilon_machine(process, max_states=max_states)
    except NotClosedError:
        return None


def _stationary(process: Process) -> Process:
    if isinstance(process, HiddenMarkovModel):
        return lumped(process)
    return started_at(process, process.stationary_distribution)


def _parts(process: Process) -> list[tuple[float, Process]]:
    if not isinstance(process, HiddenMarkovModel):
        return [(1.0, process)]
    parts = []
    for states in recurrent_classes(process.state_transition_matrix):
        matrices = process.transition_matrices[:, states][:, :, states]
        parts.append((float(process.initial_distribution[states].sum()), HiddenMarkovModel(matrices)))
    return parts
