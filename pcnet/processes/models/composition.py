"""What a process was composed of, and so what its beliefs split into."""

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from pcnet.processes.models.hmm import HiddenMarkovModel, Process

CANCELLED = 1e-12
"""Weight of a component that counts as zero where a belief has negative entries, so that zeros cancel."""


class Composition(abc.ABC):
    """Where a process comes from; stored as its `composition`.

    A belief of a process that was composed is a belief about each of its parts, which have names: ``component`` and
    ``component.0``, ``component.1``, ... of a mixture, ``factor.0``, ``factor.1``, ... of a product. Parts of parts go
    on after a dot: ``factor.1.component.0``. What only changes the tokens (a channel, blocks) leaves beliefs alone, so
    the names are those of its source.
    """

    @property
    @abc.abstractmethod
    def num_states(self) -> int:
        """Length of a whole belief."""

    @property
    @abc.abstractmethod
    def sizes(self) -> dict[str, int]:
        """Length of the belief about every part, by name; parts of parts follow them."""

    def split(self, beliefs: Float[Tensor, "... S"] | ArrayLike) -> dict[str, Float[Tensor, "... s"]]:
        """Compute what beliefs, filtered, predicted or smoothed, say of every part by itself: their marginals.

        Args:
            beliefs: of the whole process; laws sum to 1, generalised ones have ``eta r = 1``.

        Returns:
            A belief for each name of `sizes`, in that order and float64. Of a mixture, ``component`` is the law of which
            component it is, and ``component.k`` the belief in component k, given that it is this one; where that is
            ruled out (probability 0), it is the component's stationary belief. Of a product, ``factor.k`` is
            the marginal belief in factor k.

        Raises:
            ValueError: if a belief doesn't have the length of the whole process's.
        """
        beliefs = torch.as_tensor(beliefs, dtype=torch.float64)
        if beliefs.ndim == 0 or beliefs.shape[-1] != self.num_states:
            raise ValueError(f"beliefs must have a shape (..., {self.num_states}), got {tuple(beliefs.shape)}")
        return self._split(beliefs)

    def join(self, parts: Mapping[str, Float[Tensor, "... s"]]) -> Float[Tensor, "... S"]:
        """Put beliefs about the parts together to one about the whole, as if factors were independent.

        The inverse of `split` for a mixture, and for a product as long as its factors stay independent, as they do unless
        something blurs the tokens. Elsewhere the difference is what the parts' beliefs don't know of each other.

        Args:
            parts: by name; those at the top are used, parts of parts aren't.

        Raises:
            ValueError: if a part is missing or doesn't have its length.
        """
        names = [name for name in self.sizes if name in self._top]
        for name in names:
            if name not in parts:
                raise ValueError(f"parts must have a belief about {', '.join(names)}; {name} is missing")
            if parts[name].shape[-1] != self.sizes[name]:
                raise ValueError(
                    f"parts[{name!r}] must have a shape (..., {self.sizes[name]}), got {parts[name].shape}"
                )
        return self._join({name: parts[name].double() for name in names})

    @property
    @abc.abstractmethod
    def _top(self) -> tuple[str, ...]: ...

    @abc.abstractmethod
    def _split(self, beliefs: Float[Tensor, "... S"]) -> dict[str, Float[Tensor, "... s"]]: ...

    @abc.abstractmethod
    def _join(self, parts: Mapping[str, Float[Tensor, "... s"]]) -> Float[Tensor, "... S"]: ...


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
        return _outer([*parts.values()])


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
    """What measures a belief in a product of some factors; of none, 1."""
    return _outer([torch.ones(1, dtype=torch.float64), *(factor.right_vector for factor in factors)])


def _outer(parts: Sequence[Float[Tensor, "... s"]]) -> Float[Tensor, "... product"]:
    """What stands in a product's space for a vector of each factor."""
    whole = parts[0]
    for part in parts[1:]:
        whole = (whole.unsqueeze(-1) * part.unsqueeze(-2)).flatten(-2)
    return whole
