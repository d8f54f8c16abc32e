"""The compositions: a mixture, a product, and processes whose tokens are seen through a channel or in blocks.

Tokens and states of a product count like digits, the last factor running fastest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.processes.models.composition import Composition
from pcnet.processes.models.hmm import HiddenMarkovModel, Process

CANCELLED = 1e-12
"""Weight of a component that counts as zero where a belief has negative entries, so that zeros cancel."""


@dataclass(frozen=True, eq=False)
class Mixture(Composition):
    """One of several processes, chosen at the start and never changed.

    Args:
        components: the processes; the states of the mixture are theirs, one component after the other.
        weights: probability of each.
    """

    components: tuple[Process, ...]
    weights: tuple[float, ...]

    @property
    def num_states(self) -> int:
        return sum(component.num_states for component in self.components)

    @property
    def sizes(self) -> dict[str, int]:
        return {"component": len(self.components)} | _sizes("component", self.components)

    @property
    def _top(self) -> tuple[str, ...]:
        return ("component", *(f"component.{k}" for k in range(len(self.components))))

    def _split(self, beliefs: Float[Tensor, "... S"]) -> dict[str, Float[Tensor, "... s"]]:
        blocks = beliefs.split([component.num_states for component in self.components], dim=-1)
        weights = [block @ part.right_vector for part, block in zip(self.components, blocks, strict=True)]
        answers = {"component": torch.stack(weights, dim=-1)}
        for k, (part, block, weight) in enumerate(zip(self.components, blocks, weights, strict=True)):
            least = 0.0 if isinstance(part, HiddenMarkovModel) else CANCELLED
            ruled_out = (weight <= least).unsqueeze(-1)
            within = block / weight.unsqueeze(-1).where(~ruled_out, 1.0)
            answers |= _nested(f"component.{k}", part, within.where(~ruled_out, part.stationary_distribution))
        return answers

    def _join(self, parts: Mapping[str, Float[Tensor, "... s"]]) -> Float[Tensor, "... S"]:
        weights = parts["component"].split(1, dim=-1)
        return torch.cat([weight * parts[f"component.{k}"] for k, weight in enumerate(weights)], dim=-1)


@dataclass(frozen=True, eq=False)
class Product(Composition):
    """Several processes side by side, independent of each other.

    Args:
        factors: the processes. State and token of the product count theirs like digits, the last factor's running
            fastest.
    """

    factors: tuple[Process, ...]

    @property
    def num_states(self) -> int:
        return math.prod(factor.num_states for factor in self.factors)

    @property
    def sizes(self) -> dict[str, int]:
        return _sizes("factor", self.factors)

    @property
    def _top(self) -> tuple[str, ...]:
        return tuple(f"factor.{k}" for k in range(len(self.factors)))

    def _split(self, beliefs: Float[Tensor, "... S"]) -> dict[str, Float[Tensor, "... s"]]:
        answers = {}
        for k, factor in enumerate(self.factors):
            before, after = (_measure(side) for side in (self.factors[:k], self.factors[k + 1 :]))
            digits = beliefs.unflatten(-1, (len(before), factor.num_states, len(after)))
            answers |= _nested(f"factor.{k}", factor, torch.einsum("...bsa,b,a->...s", digits, before, after))
        return answers

    def _join(self, parts: Mapping[str, Float[Tensor, "... s"]]) -> Float[Tensor, "... S"]:
        return outer([*parts.values()])


class _SameBeliefs(Composition):
    """A process with the beliefs of its source."""

    source: Process

    @property
    def num_states(self) -> int:
        return self.source.num_states

    @property
    def sizes(self) -> dict[str, int]:
        return {} if self.source.composition is None else self.source.composition.sizes

    @property
    def _top(self) -> tuple[str, ...]:
        return () if self.source.composition is None else self.source.composition._top

    def _split(self, beliefs: Float[Tensor, "... S"]) -> dict[str, Float[Tensor, "... s"]]:
        return {} if self.source.composition is None else self.source.composition._split(beliefs)

    def _join(self, parts: Mapping[str, Float[Tensor, "... s"]]) -> Float[Tensor, "... S"]:
        if self.source.composition is None:
            raise ValueError("the process has no parts that could be joined: its source isn't composed of any")
        return self.source.composition._join(parts)


@dataclass(frozen=True, eq=False)
class Channel(_SameBeliefs):
    """A process whose tokens went through a channel without memory, or have other names.

    Args:
        source: the process before it.
        matrix: ``matrix[x, y]``, probability to receive y where x was sent.
    """

    source: Process
    matrix: Float[Tensor, "V received"]


@dataclass(frozen=True, eq=False)
class Blocks(_SameBeliefs):
    """A process whose tokens are words of another.

    Args:
        source: the process of single tokens.
        length: of a word.
    """

    source: Process
    length: int


def _sizes(name: str, parts: tuple[Process, ...]) -> dict[str, int]:
    found = {}
    for k, part in enumerate(parts):
        found[f"{name}.{k}"] = part.num_states
        inner = {} if part.composition is None else part.composition.sizes
        found |= {f"{name}.{k}.{below}": size for below, size in inner.items()}
    return found


def _nested(name: str, part: Process, belief: Float[Tensor, "... s"]) -> dict[str, Float[Tensor, "... s"]]:
    inner = {} if part.composition is None else part.composition._split(belief)
    return {name: belief} | {f"{name}.{below}": found for below, found in inner.items()}


def _measure(factors: tuple[Process, ...]) -> Float[Tensor, " product"]:
    """Right vector of the product of some factors; of none, 1."""
    return outer([torch.ones(1, dtype=torch.float64), *(factor.right_vector for factor in factors)])


def leaves(process: Process) -> list[Process]:
    """Factors of a product that are no products themselves; of another process, the process."""
    if not isinstance(process.composition, Product):
        return [process]
    return [leaf for factor in process.composition.factors for leaf in leaves(factor)]


def joined(sizes: Sequence[int], parts: Sequence[Int[Tensor, "*shape"]]) -> Int[Tensor, "*shape"]:
    """One number for the numbers of all factors."""
    whole = parts[0]
    for size, part in zip(sizes[1:], parts[1:], strict=True):
        whole = whole * size + part
    return whole


def factor_tokens(factors: Sequence[Process], tokens: Int[Tensor, "*shape"]) -> list[Int[Tensor, "*shape"]]:
    """Inverse of `joined` for tokens: those of each factor."""
    parts = []
    for factor in reversed(factors[1:]):
        rest = tokens // factor.vocab_size
        parts.append(tokens - rest * factor.vocab_size)
        tokens = rest
    return [tokens, *reversed(parts)]


def outer(parts: Sequence[Float[Tensor, "... S"]]) -> Float[Tensor, "... product"]:
    """Kronecker product of one vector of each factor."""
    whole = parts[0]
    for part in parts[1:]:
        whole = (whole.unsqueeze(-1) * part.unsqueeze(-2)).flatten(-2)
    return whole
