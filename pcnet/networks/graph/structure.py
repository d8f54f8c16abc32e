"""What a graph of predictions is made of, and what follows from which of its nodes are clamped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pcnet.energies import Energy, Gaussian, GaussianPrior, Prior
from pcnet.networks.layers import Layer


class Prediction(nn.Module):
    """One node group predicted from others: mu = sum of the layers of its sources.

    Args:
        target: name of the node that is predicted.
        terms: names of sources with their layers; more than one where a skip connection joins in.
        energy: what a mismatch costs.
        weight: factor >= 0 of the energy.
    """

    def __init__(self, target: str, terms: Sequence[tuple[str, Layer]], energy: Energy, weight: float = 1.0) -> None:
        super().__init__()
        if not terms:
            raise ValueError(f"terms: the prediction of {target!r} needs at least one source")
        if not 0 <= weight < float("inf"):
            raise ValueError(f"weight must be a finite number >= 0, got {weight}")
        self.target = target
        self.sources = tuple(source for source, _ in terms)
        self.layers = nn.ModuleList([layer for _, layer in terms])
        self.energy = energy
        self.weight = weight

    def weighted(self, x: Tensor) -> Tensor:
        """x times the weight."""
        return x if self.weight == 1 else self.weight * x


@dataclass(frozen=True)
class Clamped:
    """What is clamped while values relax.

    Attributes:
        values: of every node that is clamped, all of it or some units.
        observed: which units are clamped, for nodes of which only some are.
    """

    values: dict[str, Float[Tensor, "B D"]]
    observed: dict[str, Bool[Tensor, "B D"]] = field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        return len(next(iter(self.values.values())))

    def rows(self, index: Int[Tensor, " R"]) -> "Clamped":
        """The same for some of the rows."""
        return Clamped(*({name: held[index] for name, held in part.items()} for part in (self.values, self.observed)))


@dataclass(frozen=True)
class Structure:
    """What depends on which nodes are clamped, but not on their values; made anew for every problem, since modules change.

    Attributes:
        predictions: those that count.
        free: names of the nodes with free units, in the network's order.
        trunk: index of the prediction that each free node's error is measured from; none for nodes that are their own error.
        order: free nodes, each after those its trunk prediction comes from.
        priors: of the free nodes that have one.
        widths: units of every node.
    """

    predictions: tuple[Prediction, ...]
    free: tuple[str, ...]
    trunk: dict[str, int]
    order: tuple[str, ...]
    priors: dict[str, Prior]
    widths: dict[str, int]

    @cached_property
    def linear_gaussian(self) -> bool:
        """Whether the energy is a quadratic form, solved by one step in error coordinates."""
        layers = (layer for p in self.predictions for layer in p.layers)
        return (
            all(layer.linear for layer in layers)
            and all(isinstance(p.energy, Gaussian) for p in self.predictions)
            and all(isinstance(prior, GaussianPrior) for prior in self.priors.values())
        )

    @cached_property
    def energies(self) -> tuple[Energy, ...]:
        """Of the predictions; a plain tuple, because looking a module up in its parent costs as much as a small product."""
        return tuple(p.energy for p in self.predictions)

    @cached_property
    def places(self) -> dict[str, int]:
        """Where in a state each free node is."""
        return {name: place for place, name in enumerate(self.free)}

    @cached_property
    def free_widths(self) -> tuple[int, ...]:
        """Units of every free node."""
        return tuple(self.widths[name] for name in self.free)

    @cached_property
    def units(self) -> tuple[bool, ...]:
        """Which predictions cost 1/2 error^2 and nothing else."""
        return tuple(isinstance(p.energy, Gaussian) and p.energy.is_unit and p.weight == 1 for p in self.predictions)

    @cached_property
    def layers(self) -> tuple[tuple[Layer, ...], ...]:
        """Of the predictions."""
        return tuple(tuple(p.layers) for p in self.predictions)

    @cached_property
    def sparse(self) -> dict[str, float]:
        """Weight of |x| in the priors of free nodes, where there is one."""
        return {name: prior.sparsity for name, prior in self.priors.items() if prior.sparsity}

    @classmethod
    def of(
        cls,
        predictions: Sequence[Prediction],
        priors: Mapping[str, Prior],
        widths: dict[str, int],
        free: tuple[str, ...],
    ) -> "Structure":
        """With these nodes free."""
        active = tuple(p for p in predictions if not (p.energy.observed_only and p.target in free))
        seen = {p.target for p in active} | {source for p in active for source in p.sources}
        # A node whose energy is for observed values only is answered by its prediction, not by the mode of its prior.
        without_value = {p.target for p in predictions if p.energy.observed_only}
        free = tuple(name for name in free if name in seen or name in priors.keys() - without_value)
        own = {name: prior for name, prior in priors.items() if name in free}
        trunk = _trunk(active, free, {name for name, prior in own.items() if prior.sparsity})
        return cls(active, free, {n: i for n, i in trunk.items() if i is not None}, tuple(trunk), own, widths)


def _trunk(predictions: Sequence[Prediction], free: tuple[str, ...], kinked: set[str]) -> dict[str, int | None]:
    """The prediction of every free node that its error is measured from, in an order in which they follow from each other."""
    offers = {
        name: [i for i, p in enumerate(predictions) if p.target == name and name not in kinked] or [None]
        for name in free
    }
    placed: dict[str, int | None] = {}

    def known(index: int | None) -> bool:
        return index is None or all(s in placed or s not in free for s in predictions[index].sources)

    while len(placed) < len(free):
        waiting = [name for name in free if name not in placed]
        first = ((name, offers[name][0]) for name in waiting)
        other = ((name, index) for name in waiting for index in offers[name])
        name, index = next((x for offer in (first, other) for x in offer if known(x[1])), (waiting[0], None))
        placed[name] = index
    return placed
