"""Random processes: hidden Markov models, and epsilon-machines with entropies in given ranges."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Real

import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pcnet.processes.information.excess import excess_entropy as excess_entropy_of
from pcnet.processes.machines.mixed_state import mixed_state_presentation
from pcnet.processes.machines.unifilar import (
    NOWHERE,
    components,
    distinct,
    machine_matrices,
    refine,
    tolerance_ranks,
)
from pcnet.processes.models.arguments import require_at_least, require_generator
from pcnet.processes.models.hmm import HiddenMarkovModel
from pcnet.processes.models.stationary import eliminate

SAME = 1e-6
"""Laws of the next token that differ by no more count as equal: states must differ by more to be two."""
LEAST = 1e-4
"""Least probability of a possible token, times the number of possible ones."""
WORDS, LONGEST = 4096, 100
"""Words, and their length, that are looked at for first bounds of the excess entropy."""
BELIEFS = 512
"""Mixed states that are looked at where those don't decide; if they close, it is exact."""
STEPS = 40
"""Machines that are tried by changing one, before a new one is drawn."""


def random_hmm(
    num_states: int, vocab_size: int, generator: torch.Generator, *, sparsity: float = 0.0
) -> HiddenMarkovModel:
    """Draw a hidden Markov model in which every state can be reached from every other.

    Which transitions are possible is drawn first: a cycle through all states, a transition for every token that the cycle
    leaves out, and the rest evenly from all others. The probabilities out of a state are then drawn evenly from their
    simplex (a Dirichlet law with all parameters 1). Almost surely neither unifilar nor, unless it is very sparse, periodic.

    Args:
        num_states: S, at least 1.
        vocab_size: V, at least 1; every token is possible.
        generator: source of every draw.
        sparsity: fraction of the ``V S^2`` entries that are exactly zero, rounded to whole entries; at least
            max(S, V) entries must be left.

    Raises:
        TypeError, ValueError: if an argument isn't of its type or out of range; the message names the greatest sparsity.
    """
    require_at_least("num_states", num_states, 1)
    require_at_least("vocab_size", vocab_size, 1)
    require_generator(generator)
    entries, needed = vocab_size * num_states**2, max(num_states, vocab_size)
    if not isinstance(sparsity, Real):
        raise TypeError(f"sparsity must be a number, got {type(sparsity).__name__} {sparsity!r}")
    if not (0 <= sparsity <= 1) or entries - round(sparsity * entries) < needed:
        raise ValueError(
            f"sparsity must lie in [0, {1 - needed / entries:.6g}] for {num_states} states and {vocab_size} tokens to "
            f"stay in use (a fraction, not a percentage), got {sparsity}"
        )
    possible = torch.zeros(entries, dtype=torch.bool)
    possible[_skeleton(num_states, vocab_size, generator)] = True
    rest = (~possible).nonzero().squeeze(1)
    missing = entries - round(sparsity * entries) - int(possible.sum())
    possible[rest[torch.randperm(len(rest), generator=generator)[:missing]]] = True
    possible = possible.view(vocab_size, num_states, num_states)
    weights = torch.where(possible, _exponential(possible.shape, generator), 0.0)
    return HiddenMarkovModel(weights / weights.sum((0, 2)).unsqueeze(1))


def random_epsilon_machine(
    num_states: int,
    vocab_size: int,
    generator: torch.Generator,
    *,
    entropy_rate: tuple[float, float] | None = None,
    complexity: tuple[float, float] | None = None,
    excess_entropy: tuple[float, float] | None = None,
    max_tries: int = 2000,
) -> HiddenMarkovModel:
    """Draw an epsilon-machine: each token leads to one state, all states reach each other, no two have the same future.

    In each state a random number of random tokens is possible. Each leads to a random state (in half of the machines along
    a random cycle through all states), with probabilities drawn evenly from their simplex. Machines that aren't strongly
    connected or minimal are drawn again. Every token is possible somewhere.

    With ranges, machines are changed at random while that leads closer, and drawn again from time to time; the answer is
    the first that lies in all ranges. It is no even draw from all machines in the ranges.

    Args:
        num_states: S, at least 1; these are the causal states.
        vocab_size: V, at least 1, and at least 2 for more than one state.
        generator: source of every draw; equal seeds give equal machines.
        entropy_rate: least and greatest h in nats, within [0, ln V].
        complexity: least and greatest statistical complexity in nats, within [0, ln S].
        excess_entropy: least and greatest E in nats, within [0, ln S]; looked at only where the others lie in
            their ranges. Where E is known between bounds only, both must lie in the range.
        max_tries: machines that are looked at.

    Returns:
        A unifilar process, stationary.

    Raises:
        TypeError, ValueError: if an argument isn't of its type, a size is too small, a range is empty or can't be met, or
            none of ``max_tries`` machines lies in all ranges; the message names the closest.
    """
    require_at_least("num_states", num_states, 1)
    require_at_least("vocab_size", vocab_size, 1)
    require_at_least("max_tries", max_tries, 1)
    require_generator(generator)
    if vocab_size == 1 and num_states > 1:
        raise ValueError(f"vocab_size must be at least 2 for {num_states} states: one token makes all futures the same")
    most = {"entropy_rate": vocab_size, "complexity": num_states, "excess_entropy": num_states}
    given = {"entropy_rate": entropy_rate, "complexity": complexity, "excess_entropy": excess_entropy}
    ranges = {name: _checked_range(name, r, math.log(most[name])) for name, r in given.items() if r is not None}
    found = _search(num_states, vocab_size, generator, ranges, max_tries)
    return HiddenMarkovModel(found.matrices)


@dataclass(frozen=True, eq=False)
class _Machine:
    """A unifilar machine and its entropies in nats."""

    successors: Int[NDArray, "S V"]
    probabilities: Float[NDArray, "S V"]

    @cached_property
    def matrices(self) -> Float[Tensor, "V S S"]:
        return machine_matrices(torch.from_numpy(self.successors), torch.from_numpy(self.probabilities))

    @cached_property
    def law(self) -> Float[Tensor, " S"]:
        return eliminate(self.matrices.sum(0))

    @property
    def connected(self) -> bool:
        return bool((components(self.successors) == 0).all())

    @property
    def minimal(self) -> bool:
        """Whether no two states have the same future, even if laws that hardly differ count as equal."""
        labels = distinct(tolerance_ranks(self.probabilities, SAME))
        return int(refine(labels, self.successors).max()) == len(self.successors) - 1

    @property
    def entropy_rate(self) -> float:
        return float(self.law @ torch.special.entr(torch.from_numpy(self.probabilities)).sum(1))

    @property
    def complexity(self) -> float:
        return float(torch.special.entr(self.law).sum())

    def excess_entropy(self, least: float, most: float) -> tuple[float, float]:
        """Bounds, as good as they have to be to say whether they lie in a range.

        ``I[S_0; X_0 ... X_(l-1)] = H[X_0 ... X_(l-1)] - l h <= E <= that + H[S_l | X_0 ... X_(l-1)]``: given the state
        after the first l tokens, these tell nothing more of the others.
        """
        low, high = self._short_words()
        if high < least or most < low or (least <= low and high <= most):
            return low, high
        process = HiddenMarkovModel(self.matrices)
        if not mixed_state_presentation(process, max_states=BELIEFS).closed:
            return low, high
        found = excess_entropy_of(process)
        return found.low, found.high

    def _short_words(self) -> tuple[float, float]:
        joint, rate, length = self.law.unsqueeze(0), self.entropy_rate, 0
        while length < LONGEST and len(joint) * len(self.matrices) <= WORDS:
            joint = torch.einsum("ni,xij->nxj", joint, self.matrices).flatten(0, 1)
            joint = joint[joint.sum(1) > 0]
            length += 1
        words = torch.special.entr(joint.sum(1)).sum()
        told = max(0.0, float(words) - length * rate)
        return told, told + max(0.0, float(torch.special.entr(joint).sum() - words))


Ranges = Mapping[str, tuple[float, float]]


_QUICK: Mapping[str, Callable[[_Machine], float]] = {
    "entropy_rate": lambda machine: machine.entropy_rate,
    "complexity": lambda machine: machine.complexity,
}


@dataclass(frozen=True, eq=False)
class _Tried:
    """A machine and how far it is from its ranges; ``unknown`` ranges come after the others."""

    machine: _Machine
    values: Mapping[str, tuple[float, float]]
    unknown: int
    distance: float

    @classmethod
    def of(cls, machine: _Machine, ranges: Ranges) -> "_Tried":
        """Measure what is quick, and the rest only if that lies in its range."""
        values, distance = {}, 0.0
        for name, measure in _QUICK.items():
            if name in ranges:
                values[name] = (measure(machine),) * 2
                distance += _outside(values[name], ranges[name])
        if "excess_entropy" in ranges and distance == 0:
            values["excess_entropy"] = machine.excess_entropy(*ranges["excess_entropy"])
            distance = _outside(values["excess_entropy"], ranges["excess_entropy"])
        return cls(machine, values, len(ranges) - len(values), distance)

    @property
    def fits(self) -> bool:
        return not self.unknown and self.distance == 0

    def closer_than(self, other: "_Tried | None") -> bool:
        return other is None or (self.unknown, self.distance) < (other.unknown, other.distance)


def _search(num_states: int, vocab_size: int, generator: torch.Generator, ranges: Ranges, max_tries: int) -> _Machine:
    """First machine that lies in all ranges: random machines, each followed downhill for some steps."""
    closest: _Tried | None = None
    current: _Tried | None = None
    for trial in range(max_tries):
        if current is None or trial % STEPS == 0:
            current, machine = None, _draw(num_states, vocab_size, generator, varied=bool(ranges))
            if not (machine.connected and machine.minimal):
                continue
        else:
            machine = _changed(current.machine, generator)  # as connected as before
        tried = _Tried.of(machine, ranges)
        if tried.fits and machine.minimal:
            return machine
        current = tried if tried.closer_than(current) else current
        closest = tried if tried.closer_than(closest) else closest
    wanted = ", ".join(f"{name} in [{low:g}, {high:g}]" for name, (low, high) in ranges.items())
    raise ValueError(
        f"none of max_tries={max_tries} random machines of {num_states} states and {vocab_size} tokens is an "
        f"epsilon-machine{' with ' if wanted else ''}{wanted}; {_described(closest)}"
    )


def _outside(bounds: tuple[float, float], wanted: tuple[float, float]) -> float:
    """How far a quantity, or a bound of it, is from its range."""
    return max(0.0, wanted[0] - bounds[0], bounds[1] - wanted[1])


def _described(closest: _Tried | None) -> str:
    if closest is None:
        return "all of them had states that can't be reached, or that have the same future"
    values = [
        f"{name} = {low:.6g}" if low == high else f"{name} in [{low:.6g}, {high:.6g}]"
        for name, (low, high) in closest.values.items()
    ]
    return f"the closest had {', '.join(values)}"


def _draw(num_states: int, vocab_size: int, generator: torch.Generator, *, varied: bool) -> _Machine:
    """A unifilar machine; if ``varied``, some are all possible, or more or less even than others."""
    order = _uniform((num_states, vocab_size), generator).argsort(1).argsort(1)
    counts = torch.randint(1, vocab_size + 1, (num_states, 1), generator=generator)
    possible = order < counts
    if varied and float(_uniform((1,), generator)) < 1 / 3:
        possible[:] = True
    absent = (~possible.any(0)).nonzero().squeeze(1)
    possible[torch.randint(num_states, (len(absent),), generator=generator), absent] = True
    targets = torch.randint(num_states, (num_states, vocab_size), generator=generator)
    if float(_uniform((1,), generator)) < 0.5:
        cycle = torch.randperm(num_states, generator=generator)
        along = torch.where(possible, _uniform(possible.shape, generator), -1.0).argmax(1)
        targets[cycle, along[cycle]] = cycle.roll(-1)
    exponent = math.exp(torch.randn((), generator=generator).item()) if varied else 1.0
    weights = torch.where(possible, _exponential(possible.shape, generator) ** exponent, 0.0)
    return _Machine(torch.where(possible, targets, NOWHERE).numpy(), _as_laws(weights))


def _changed(machine: _Machine, generator: torch.Generator) -> _Machine:
    """The same machine with somewhat other probabilities."""
    size = math.exp(-3 * float(_uniform((1,), generator)))
    noise = torch.randn(machine.probabilities.shape, generator=generator, dtype=torch.float64)
    return _Machine(machine.successors, _as_laws(torch.from_numpy(machine.probabilities) * (size * noise).exp()))


def _as_laws(weights: Float[Tensor, "S V"]) -> Float[NDArray, "S V"]:
    """Rows that sum to 1, with nothing possible that is nearly impossible."""
    possible = weights > 0
    laws = weights / weights.sum(1, keepdim=True)
    least = LEAST / possible.sum(1, keepdim=True)
    laws = torch.where(possible, laws.clamp(min=least), 0.0)
    return (laws / laws.sum(1, keepdim=True)).numpy()


def _skeleton(num_states: int, vocab_size: int, generator: torch.Generator) -> Int[Tensor, " entries"]:
    """Entries of the matrices that must be possible: a cycle through all states, and one for every other token."""
    cycle = torch.randperm(num_states, generator=generator)
    tokens = torch.randperm(vocab_size, generator=generator)
    along = tokens.repeat(-(-num_states // vocab_size))[:num_states]
    entries = [(along * num_states + cycle) * num_states + cycle.roll(-1)]
    others = tokens[num_states:]
    start, end = torch.randint(num_states, (2, len(others)), generator=generator)
    return torch.cat([*entries, (others * num_states + start) * num_states + end])


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "*shape"]:
    return torch.rand(shape, dtype=torch.float64, generator=generator)


def _exponential(shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "*shape"]:
    """Positive numbers whose shares in their sum follow a Dirichlet law with all parameters 1."""
    return -torch.log1p(-_uniform(shape, generator).clamp(min=2.0**-53))


def _checked_range(name: str, bounds: tuple[float, float], most: float) -> tuple[float, float]:
    if not (isinstance(bounds, tuple | list) and len(bounds) == 2 and all(isinstance(b, Real) for b in bounds)):
        raise TypeError(f"{name} must be a range of two numbers, (least, greatest) in nats, got {bounds!r}")
    least, greatest = float(bounds[0]), float(bounds[1])
    if not least <= greatest:
        raise ValueError(f"{name} must be (least, greatest) with least <= greatest, got {bounds!r}")
    if least > most or greatest < 0:
        raise ValueError(f"{name} lies between 0 and {most:.6g} nats, so it can't be in [{least:g}, {greatest:g}]")
    return least, greatest
