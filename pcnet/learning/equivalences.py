"""Two schedules of predictive coding that give backpropagation's gradients exactly: tested equivalences, not shortcuts."""

from collections import Counter
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pcnet.energies import Gaussian
from pcnet.learning.example import Example
from pcnet.learning.explicit import Gradients, add_energy, add_layers, handed
from pcnet.learning.relaxed import diverged
from pcnet.learning.rule import LearningRule, check_example, check_graph, with_weight_prior
from pcnet.networks import GraphNetwork, GraphPoint, GraphProblem
from pcnet.predictor import check_sizes


@dataclass(frozen=True)
class ZeroDivergence(LearningRule):
    """Z-IL: weights of the level that errors have just reached learn at once, and the gradient is backpropagation's.

    Inputs and targets are held, values start at the feedforward sweep and move by steps of size 1. After t steps errors have
    come down t levels; there and then, predictions and slopes are still those of the sweep, and the weights of that level
    take dF/dtheta. Costs as many evaluations as the network has levels.

    For chains: every free node predicted once, predicting one other node, with a Gaussian energy of fixed precision 1; the
    energy of the output is free to choose. The value of the loss is the energy of the output at the sweep.

    Reference: Song et al. 2020, "Can the brain do backpropagation? Exact implementation of backpropagation in predictive
    coding networks", NeurIPS.
    """

    def loss(self, network: nn.Module, batch: Example) -> Float[Tensor, ""]:
        problem, point = _swept(self, network, batch)
        chain = _chain(self, problem)
        value = _output_energy(problem, point, chain[-1])
        gradients: Gradients = {}
        add_energy(gradients, problem.structure, point, chain[-1])
        for index in reversed(chain):
            if index != chain[-1]:
                point = _moved(problem, point)
            add_layers(gradients, problem.structure, point, index, point.signals[index])
        return _handed(network, value, gradients)


@dataclass(frozen=True)
class FixedPrediction(LearningRule):
    """Predictions and slopes frozen at the feedforward sweep: errors relax to backpropagation's gradients.

        eps <- eps - step_size (eps - J^T xi),   J and the output's signal those of the sweep,   dF/dtheta = -(dmu/dtheta)^T eps.

    With L levels, step size 1 arrives after L - 1 steps exactly, other step sizes geometrically, at rate 1 - step_size. For
    any acyclic graph in which every free node is predicted once, with a Gaussian energy of fixed precision 1. The value of
    the loss is the energy of the outputs at the sweep.

    Args:
        step_size: in (0, 1].
        steps: of the errors.

    Reference: Millidge, Tschantz & Buckley 2020, "Predictive coding approximates backprop along arbitrary computation
    graphs", arXiv 2006.04182; Whittington & Bogacz 2017.
    """

    step_size: float = 0.5
    steps: int = 50

    def __post_init__(self) -> None:
        check_sizes(steps=self.steps)
        if not 0 < self.step_size <= 1:
            raise ValueError(f"step_size must be in (0, 1], got {self.step_size}")

    def loss(self, network: nn.Module, batch: Example) -> Float[Tensor, ""]:
        problem, point = _swept(self, network, batch)
        outputs = _outputs(problem)
        signals = self._relaxed(problem, point)
        gradients: Gradients = {}
        for index, signal in enumerate(signals):
            add_layers(gradients, problem.structure, point, index, signal)
        for index in outputs:
            add_energy(gradients, problem.structure, point, index)
        return _handed(network, sum(_output_energy(problem, point, index) for index in outputs), gradients)

    @torch.no_grad()
    def _relaxed(self, problem: GraphProblem, point: GraphPoint) -> list[Float[Tensor, "B M"]]:
        """The signal at every prediction once errors have relaxed: minus the error of a free node, constant at an output."""
        structure = problem.structure
        signals = list(point.signals)
        for _ in range(self.steps):
            pulled = {name: torch.zeros_like(point.nodes[name]) for name in structure.free}
            for p, sent, signal in zip(structure.predictions, point.sent, signals):
                for source, part in zip(p.sources, sent.parts):
                    if source in pulled:
                        pulled[source] = pulled[source] + part.pull(signal)
            for name, index in structure.trunk.items():
                signals[index] = torch.lerp(signals[index], pulled[name], self.step_size)
        return signals


def _swept(rule: LearningRule, network: nn.Module, batch: Example) -> tuple[GraphProblem, GraphPoint]:
    """The problem with inputs and targets held, evaluated at the feedforward sweep."""
    network = check_graph(rule, network)
    example = check_example(rule, network, batch)
    example.split(network)  # there are inputs and targets
    problem = network.problem(example.whole(network))
    _check_gaussian(rule, problem)
    with torch.no_grad():
        point = problem.at(network.sweep(problem))
    if not point.energy.isfinite().all():
        raise diverged(network)
    return problem, point


def _check_gaussian(rule: LearningRule, problem: GraphProblem) -> None:
    """Raise a ValueError unless every free node is predicted once, by a unit Gaussian, in an order, and has no prior."""
    structure, name = problem.structure, type(rule).__name__
    times = Counter(p.target for p in structure.predictions)
    wrong = [node for node in structure.free if times[node] != 1 or node not in structure.trunk]
    if wrong:
        raise ValueError(f"{name} needs every free node predicted once, and none in a circle; {wrong[0]!r} is not")
    if structure.priors:
        raise ValueError(f"{name} needs free nodes without priors, {next(iter(structure.priors))!r} has one")
    for p in structure.predictions:
        if p.weight != 1 or (p.target in structure.free and not _is_unit(p.energy)):
            raise ValueError(
                f"{name} needs weights of 1, and Gaussian energies of fixed precision 1 at free nodes; {p.target!r} has not"
            )


def _is_unit(energy: nn.Module) -> bool:
    return (
        isinstance(energy, Gaussian) and not energy.log_precision.requires_grad and not bool(energy.log_precision.any())
    )


def _outputs(problem: GraphProblem) -> list[int]:
    """Indices of the predictions of held nodes."""
    return [index for index, p in enumerate(problem.structure.predictions) if p.target not in problem.structure.free]


def _chain(rule: LearningRule, problem: GraphProblem) -> list[int]:
    """Indices of the predictions from the input to the output.

    Raises:
        ValueError: the network is no chain.
    """
    structure, outputs = problem.structure, _outputs(problem)
    chain = [structure.trunk[name] for name in structure.order] + outputs
    targets = [structure.predictions[index].target for index in chain]
    sources = [set(structure.predictions[index].sources) & set(structure.free) for index in chain]
    if len(outputs) != 1 or sources != [set(), *({target} for target in targets[:-1])]:
        raise ValueError(
            f"{type(rule).__name__} needs a chain: every level predicted from the one before and from nothing else"
        )
    return chain


@torch.no_grad()
def _moved(problem: GraphProblem, point: GraphPoint) -> GraphPoint:
    """One step of size 1."""
    return problem.at(tuple(x - r for x, r in zip(point.values, point.residual, strict=True)))


@torch.no_grad()
def _output_energy(problem: GraphProblem, point: GraphPoint, index: int) -> Float[Tensor, " B"]:
    p = problem.structure.predictions[index]
    return p.energy(point.nodes[p.target], point.sent[index].prediction)


def _handed(network: GraphNetwork, value: Float[Tensor, " B"], gradients: Gradients) -> Float[Tensor, ""]:
    return with_weight_prior(network, handed(value.mean(), gradients, 1 / len(value)))
