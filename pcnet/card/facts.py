"""What is known about a process, each number or the reason why there is none."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TypeVar

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from pcnet.card.listing import Value
from pcnet.processes import (
    HiddenMarkovModel,
    MixedStatePresentation,
    Process,
    Quantity,
    Spectrum,
    UndefinedError,
    cryptic_order,
    crypticity,
    entropy_rate,
    excess_entropy,
    markov_order,
    mixed_state_dimension,
    mixed_state_presentation,
    myopic_entropies,
    next_token_sufficient,
    spectrum,
    statistical_complexity,
    synchronization_information,
    transient_information,
)

Answer = TypeVar("Answer")
MOST_STATES = 30_000
"""Beliefs that are looked for: all Mess3 words of up to nine tokens."""
MOST_WORDS = 300_000
"""Words of one length that the floor curve may need."""


@dataclass(frozen=True)
class Undefined:
    """Stands where a number would, if there is none.

    Args:
        reason: why.
    """

    reason: str


Fact = Quantity | int | float | Undefined

ENTROPIES: Mapping[str, Callable[[Process], float]] = {
    "entropy rate": entropy_rate,
    "excess entropy": excess_entropy,
    "statistical complexity": statistical_complexity,
    "crypticity": crypticity,
    "synchronisation information": synchronization_information,
    "transient information": transient_information,
}
"""In nats."""
ORDERS: Mapping[str, Callable[[Process], float]] = {"Markov order": markov_order, "cryptic order": cryptic_order}
"""In tokens."""


@dataclass(frozen=True, eq=False)
class Card:
    """Everything that the card of a process shows.

    Args:
        name: of the process.
        parameters: by name.
        summary: what it is, in a sentence; may be empty.
        reference: where it comes from; may be empty.
        process: itself.
        machine: its mixed-state presentation.
        floor: least possible loss in nats after contexts of 0, 1, ... tokens.
        entropies: in nats, by name.
        orders: in tokens, by name.
        dimension: of the set of mixed states.
        sufficient: whether the next-token law determines the belief affinely.
        spectrum: of the mixed states.
    """

    name: str
    parameters: Mapping[str, Value]
    summary: str
    reference: str
    process: Process
    machine: MixedStatePresentation
    floor: Float[Tensor, " lengths"]
    entropies: Mapping[str, Fact]
    orders: Mapping[str, Fact]
    dimension: Fact
    sufficient: bool | Undefined
    spectrum: Spectrum | Undefined

    @property
    def title(self) -> str:
        """Name and parameters as a call."""
        given = ", ".join(f"{name}={_short(value)}" for name, value in self.parameters.items())
        return f"{self.name}({given})" if given else self.name

    @property
    def has_states(self) -> bool:
        """Whether its beliefs are laws of hidden states."""
        return isinstance(self.process, HiddenMarkovModel)

    @property
    def unifilar(self) -> bool | Undefined:
        """Whether state and token decide the next state."""
        if not self.has_states:
            return Undefined("a generalised process has no hidden states")
        return bool(((self.process.transition_matrices > 0).sum(2) <= 1).all())

    @cached_property
    def modes(self) -> Complex[Tensor, " n"]:
        """Eigenvalues of the mixed states, or of the process itself where those don't close; largest modulus first."""
        if not isinstance(self.spectrum, Undefined):
            return self.spectrum.eigenvalues
        values = torch.linalg.eigvals(self.process.state_transition_matrix)
        return values[torch.argsort(-values.abs().round(decimals=9), stable=True)]

    @cached_property
    def weights(self) -> Float[Tensor, " M"]:
        """How probable each mixed state is, averaged over all lengths up to which every word ends in one."""
        total = sum(_rows(self.machine, max(self.machine.depth, len(self.floor))))
        return total / total.sum()


def make_card(
    process: Process,
    name: str,
    parameters: Mapping[str, Value] | None = None,
    *,
    summary: str = "",
    reference: str = "",
    max_length: int = 10,
) -> Card:
    """Compute everything that is known exactly about a process.

    Args:
        process: any.
        name: what to call it.
        parameters: what it was built from.
        summary: what it is, in a sentence.
        reference: where it comes from.
        max_length: longest context of the floor curve; shortened where there are too many words.
    """
    machine = mixed_state_presentation(process, max_states=MOST_STATES)
    return Card(
        name=name,
        parameters=dict(parameters or {}),
        summary=summary,
        reference=reference,
        process=process,
        machine=machine,
        floor=_floor(machine, max_length),
        entropies={what: _asked(function, process) for what, function in ENTROPIES.items()},
        orders={what: _asked(function, process) for what, function in ORDERS.items()},
        dimension=_asked(mixed_state_dimension, process),
        sufficient=_asked(next_token_sufficient, process),
        spectrum=_asked(spectrum, process),
    )


def _asked(function: Callable[[Process], Answer], process: Process) -> Answer | Undefined:
    """The answer, or why there is none."""
    try:
        return function(process)
    except UndefinedError as error:
        return Undefined(str(error))


def _floor(machine: MixedStatePresentation, max_length: int) -> Float[Tensor, " lengths"]:
    """As much of the floor curve as the mixed states tell, or as there are affordable words."""
    affordable, words = 0, machine.process.vocab_size
    while affordable < max_length and words <= MOST_WORDS:
        affordable, words = affordable + 1, words * machine.process.vocab_size
    told = machine.depth if bool((machine.leak > 0).any()) else max_length
    if told < affordable:
        return myopic_entropies(machine.process, affordable)
    return torch.stack([row @ machine.law_entropies for row in _rows(machine, min(told, max_length))])


def _rows(machine: MixedStatePresentation, max_length: int) -> Iterator[Float[Tensor, " M"]]:
    """Law of the mixed state after words of each length 0, 1, ..., as far as it lies within the states found."""
    return map(torch.from_numpy, islice(machine.walk(), max_length + 1))


def _short(value: Value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
