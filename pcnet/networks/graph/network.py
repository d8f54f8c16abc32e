"""Networks as graphs: nodes that hold values, predictions of them, and an energy of what is missed."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from pcnet.energies import Categorical, Prior, WeightPrior
from pcnet.inference import CarriedOver, Inference, Relaxation, Solution, Status, Work
from pcnet.networks.base import PCNetwork
from pcnet.networks.graph.problem import GraphProblem, problem_of
from pcnet.networks.graph.structure import Clamped, Prediction, Structure
from pcnet.predictor import check_sizes
from pcnet.sites import Site
from pcnet.typing import State


@dataclass(frozen=True)
class Node:
    """A group of value nodes.

    Args:
        name: without dots; its sites are `layers.NAME.value|prediction|error`.
        width: number of units.
        prior: on its values where they are free.
    """

    name: str
    width: int
    prior: Prior | None = None

    def __post_init__(self) -> None:
        check_sizes(width=self.width)
        if not self.name or "." in self.name:
            raise ValueError(f"name must not be empty nor hold a dot, got {self.name!r}")


class NodeSites(nn.Module):
    """Where one node can be seen, and its prior."""

    def __init__(self, prior: Prior | None) -> None:
        super().__init__()
        self.value = Site()
        self.prediction = Site()
        self.error = Site()
        self.prior = prior


def _sites(nodes: Sequence[Node]) -> nn.ModuleDict:
    sites = nn.ModuleDict()
    for node in nodes:
        try:
            sites[node.name] = NodeSites(node.prior)
        except KeyError as error:
            raise ValueError(f"a node cannot be named {node.name!r}: torch uses that name itself") from error
    return sites


class GraphNetwork(PCNetwork, abc.ABC):
    """What every network of nodes and predictions does: clamp, infer, answer.

    Args:
        nodes: in the order in which states list them.
        predictions: a node's error is measured from the first one whose sources are held or come before it.
        inputs: name of the node that `forward` holds.
        outputs: name of the node that `forward` answers with.
        inference: how values relax.
        weight_prior: what the layers' weights cost by themselves, added once to the mean over a batch: its strength is that
            of the prior of a whole data set, divided by the number of samples.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        predictions: Sequence[Prediction],
        *,
        inputs: str,
        outputs: str,
        inference: Relaxation | None = None,
        weight_prior: WeightPrior | None = None,
    ) -> None:
        super().__init__()
        self.widths = {node.name: node.width for node in nodes}
        if len(self.widths) < len(nodes):
            raise ValueError(f"nodes: names must differ, got {', '.join(node.name for node in nodes)}")
        self.layers = _sites(nodes)
        self.predictions = nn.ModuleList(predictions)
        self.inputs, self.outputs = self._known(inputs), self._known(outputs)
        self.inference = inference or Inference()
        self.weight_prior = weight_prior
        for p in predictions:
            self._check_prediction(p)

    def _known(self, name: str) -> str:
        if name not in self.widths:
            raise ValueError(f"there is no node {name!r}; there are {', '.join(self.widths)}")
        return name

    def _check_prediction(self, p: Prediction) -> None:
        width = self.widths[self._known(p.target)]
        wanted = p.energy.prediction_width(width)
        like = next(p.parameters(), torch.empty(0))  # where the layers are, and in which precision
        for source, layer in zip(p.sources, p.layers):
            probe = like.new_zeros(1, self.widths[self._known(source)])
            try:
                made = layer(probe).shape[-1]
            except RuntimeError as error:
                raise ValueError(
                    f"the layer from {source!r} to {p.target!r} cannot take {probe.shape[-1]} units"
                ) from error
            if made != wanted:
                raise ValueError(f"the layer from {source!r} to {p.target!r} gives {made} numbers, {wanted} are needed")
        try:
            p.energy(like.new_zeros(1, width), like.new_zeros(1, wanted))
        except ValueError as error:
            raise ValueError(f"the energy of {p.target!r} does not fit {width} units: {error}") from error

    @property
    def dtype(self) -> torch.dtype:
        """Of values and weights."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.get_default_dtype())

    def clamp(
        self, values: Mapping[str, Tensor], observed: Mapping[str, Bool[Tensor, "*B D"]] | None = None
    ) -> Clamped:
        """What to hold while the rest relaxes.

        Args:
            values: per node name, (B, width), or (B, ...) that flattens to it, or class labels (B,) for a categorical node.
            observed: per node name, which units are held; True everywhere if left out. A half-occluded image holds half.

        Raises:
            ValueError: a node does not exist, a shape does not fit, a number is not finite, a label is out of range.
        """
        if not values:
            raise ValueError(f"values: hold at least one node of {', '.join(self.widths)}")
        held = {name: self._held(self._known(name), value) for name, value in values.items()}
        sizes = {name: len(value) for name, value in held.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"values must have the same number of rows, got {sizes}")
        masks = {name: self._mask(name, mask, held) for name, mask in (observed or {}).items()}
        return Clamped(held, {name: mask for name, mask in masks.items() if not mask.all()})

    def _held(self, name: str, value: Tensor) -> Tensor:
        width = self.widths[name]
        if not isinstance(value, Tensor) or value.is_complex():
            what = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"values of node {name!r} must be a real tensor, got {what}")
        if not value.is_floating_point():
            value = self._one_hot(name, value) if value.dim() == 1 else value
        value = value.to(self.dtype).flatten(1) if value.dim() > 1 else value
        if value.dim() != 2 or value.shape[1] != width:
            raise ValueError(f"values of node {name!r} must be (batch, {width}), got {tuple(value.shape)}")
        if not (torch.isfinite(value.sum()) or torch.isfinite(value).all()):  # a sum is cheaper to look at
            bad = (~torch.isfinite(value)).any(-1).nonzero().flatten().tolist()
            raise ValueError(f"values of node {name!r} must be finite; they are not in rows {bad[:5]}")
        return value

    def _one_hot(self, name: str, labels: Tensor) -> Tensor:
        width = self.widths[name]
        if len(labels) and not (labels.min() >= 0 and labels.max() < width):
            bad = labels[(labels < 0) | (labels >= width)][0].item()
            raise ValueError(f"labels of node {name!r} must be in [0, {width}), got {bad}")
        return functional.one_hot(labels.long(), width).to(self.dtype)

    def _mask(self, name: str, mask: Tensor, held: Mapping[str, Tensor]) -> Tensor:
        if name not in held:
            raise ValueError(f"observed names {name!r}, which values does not hold; it holds {', '.join(held)}")
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            what = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise TypeError(f"observed of node {name!r} must be a boolean tensor, got {what}")
        if any(p.energy.observed_only for p in self.predictions if p.target == name):
            raise ValueError(f"node {name!r} has an energy that cannot leave units free; hold all of it or none")
        whole = held[name]
        if mask.shape[:1] == whole.shape[:1] and mask.numel() == whole.numel():
            return mask.reshape(whole.shape)
        if mask.numel() != self.widths[name]:
            raise ValueError(f"observed of node {name!r} must fit {tuple(whole.shape)}, got {tuple(mask.shape)}")
        return mask.reshape(1, -1).expand_as(whole)

    def structure(self, clamped: Clamped) -> Structure:
        """Which predictions count and what is free, given what is held."""
        free = tuple(name for name in self.widths if name not in clamped.values or name in clamped.observed)
        priors = {name: sites.prior for name, sites in self.layers.items() if sites.prior is not None}
        return Structure.of(self.predictions, priors, self.widths, free)

    def problem(self, clamped: Clamped) -> GraphProblem:
        return problem_of(self.structure(clamped), clamped)

    def initial_values(self, clamped: Clamped) -> State:
        """Every node at its prediction, swept from what is held; a node that nothing predicts starts at zero."""
        return self.sweep(self.problem(clamped))

    def weight_cost(self) -> Float[Tensor, ""] | None:
        """What the weight prior says of all weights that learn, biases left out; None without a prior."""
        if self.weight_prior is None:
            return None
        layers = (layer for p in self.predictions for layer in p.layers)
        weights = {w: None for layer in layers for w in layer.parameters() if w.requires_grad and w.dim() > 1}
        return self.weight_prior(weights)

    def sweep(self, problem: GraphProblem) -> State:
        """Values at zero error as far as the graph's order goes, held units held; nodes that are their own error at zero."""
        return problem.swept

    def feedforward(self, problem: GraphProblem) -> State:
        """`sweep`, differentiable in the weights."""
        return problem.feedforward()

    def infer(
        self,
        clamped: Clamped,
        inference: Relaxation | None = None,
        *,
        carried: State | None = None,
        record: tuple[int, ...] = (),
    ) -> Solution:
        """Relax what is free.

        Args:
            clamped: what is held.
            inference: how; None is the network's own way.
            carried: values of an earlier solution, to start from; `inference` must have ``initial=CarriedOver()``.
            record: numbers of steps after which to keep the values.

        Raises:
            ValueError: ``carried`` has other shapes than the free values, or would not be looked at.
        """
        problem, inference = self.problem(clamped), inference or self.inference
        if not problem.structure.free:
            return _settled(problem, record)
        swept = self.sweep(problem)
        if carried is not None:
            _check_carried(carried, swept, inference)
        start = inference.initial(swept, carried or tuple(torch.zeros_like(group) for group in swept))
        return inference.run(problem, start, record)

    def reading(self, problem: GraphProblem, values: State) -> dict[str, dict[str, Tensor]]:
        """Value, prediction and error of every node, as far as it has them, at these values of the free ones."""
        nodes = problem.nodes(values)
        seen = {name: {"value": value} for name, value in nodes.items()}
        for p in self.predictions:
            if all(source in nodes for source in p.sources) and "prediction" not in seen.get(p.target, {}):
                mu = sum(layer(nodes[source]) for source, layer in zip(p.sources, p.layers))
                entry = seen.setdefault(p.target, {})
                entry["prediction"] = p.energy.centre(mu)
                if "value" in entry:
                    entry["error"] = entry["value"] - entry["prediction"]
        return seen

    @torch.no_grad()
    def answer(self, clamped: Clamped, solution: Solution, node: str) -> Float[Tensor, "B D"]:
        """What a node that was not held holds now; its prediction, where its energy leaves no free value (a class law).

        Raises:
            ValueError: the node was held, so that its values are an input and no answer.
        """
        if node in clamped.values and node not in clamped.observed:
            raise ValueError(f"node {self._known(node)!r} is held: what it holds is an input, not an answer")
        entry = self.reading(self.problem(clamped), solution.values)[self._known(node)]
        return entry.get("value", entry.get("prediction"))

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Float[Tensor, "B D"]:
        """Hold the inputs, relax everything else, answer with the output node. No target can be given."""
        clamped = self.clamp({self.inputs: inputs})
        solution = self.infer(clamped, record=self.recorded)
        self._show(clamped, solution)
        return self.answer(clamped, solution, self.outputs)

    def _show(self, clamped: Clamped, solution: Solution) -> None:
        """Pass values, predictions and errors through the sites that are watched: (B, D), or (B, K, D) while recording."""
        if not self.watched:
            return
        problem = self.problem(clamped)
        readings = [self.reading(problem, values) for values in self.shown(solution)]
        for name, sites in self.layers.items():
            for kind in ("value", "prediction", "error"):
                seen = [r[name][kind] for r in readings if kind in r.get(name, {})]
                if seen:
                    sites.get_submodule(kind)(torch.stack(seen, 1) if self.recorded else seen[0])


class PCGraph(GraphNetwork):
    """A network of nodes and predictions of your own."""


def _check_carried(carried: State, swept: State, inference: Relaxation) -> None:
    if not isinstance(inference.initial, CarriedOver):
        raise ValueError(f"carried needs an inference with initial=CarriedOver(), got initial={inference.initial}")
    got, wanted = ([tuple(group.shape) for group in state] for state in (carried, swept))
    if got != wanted:
        raise ValueError(f"carried must have the shapes of the free values, {wanted}, got {got}")


def _settled(problem: GraphProblem, record: tuple[int, ...]) -> Solution:
    """The solution where nothing is free: a linear classifier, say."""
    point = problem.at(())
    nothing, steps = problem.zeros(0), problem.zeros().long()
    status = torch.full_like(steps, Status.CONVERGED.value)
    work = Work(torch.ones_like(steps), torch.zeros_like(steps))
    return Solution((), point, nothing, nothing, steps, status, work, dict.fromkeys(record, ()))


def has_class_law(network: GraphNetwork) -> bool:
    """Whether the network answers with the law of a class."""
    return any(isinstance(p.energy, Categorical) for p in network.predictions if p.target == network.outputs)
