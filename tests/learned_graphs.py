"""Small graph networks whose learning is checked, one family of them written out in plain tensors."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from linear_problems import normal
from torch import Tensor, nn
from torch.nn import functional

from pcnet.energies import (
    Bernoulli,
    Categorical,
    Energy,
    Gaussian,
    GaussianPrior,
    InputPrecision,
    KurtoticPrior,
    Prior,
)
from pcnet.inference import Inference, Momentum
from pcnet.learning import (
    Example,
    Implicit,
    LearningRule,
)
from pcnet.networks import (
    Dense,
    GraphNetwork,
    HierarchicalPC,
    Node,
    PCGraph,
    Prediction,
    Skip,
    Tanh,
)

TIGHT = Inference(atol=1e-13, max_steps=500)
EXACT = Implicit(rtol=1e-12, max_steps=300)
WIDTHS = (4, 5, 6, 3)
ROWS = 4

Gradients = dict[str, Tensor]


def gradients(rule: LearningRule, network: GraphNetwork, example: Example) -> Gradients:
    network.zero_grad()
    rule.loss(network, example).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.requires_grad and p.grad is not None}


def relative_difference(one: Gradients, other: Gradients) -> float:
    assert one.keys() == other.keys()
    flat, reference = (torch.cat([part[name].flatten() for name in other]) for part in (one, other))
    return ((flat - reference).norm() / reference.norm()).item()


def made(network: GraphNetwork, seed: int = 0) -> GraphNetwork:
    """In float64, every learned parameter drawn anew: biases and log precisions are not zero."""
    network = network.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            if p.requires_grad:
                scale = 0.9 / p.shape[1] ** 0.5 if p.ndim > 1 else 0.3
                p.copy_(scale * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return network


def discriminative(output: Energy | None = None, **settings) -> GraphNetwork:
    """tanh 4-5-6-3; a learned precision at node 2 unless energies are given."""
    energies = {2: Gaussian(6, learned=True), 3: output or Gaussian(3, learned=True)}
    return made(HierarchicalPC(WIDTHS, **{"energies": energies, "inference": TIGHT} | settings))


def labelled(network: GraphNetwork, seed: int = 1) -> Example:
    """Inputs and targets that suit the network's output."""
    inputs = normal(ROWS, network.widths[network.inputs], seed=seed)
    width = network.widths[network.outputs]
    laws = [p.energy for p in network.predictions if p.target == network.outputs]
    if laws and laws[0].observed_only:
        targets = torch.arange(ROWS) % width
        if isinstance(laws[0], Bernoulli):
            targets = (normal(ROWS, width, seed=seed + 1) > 0).double()
    else:
        targets = normal(ROWS, width, seed=seed + 1)
    return Example({network.inputs: inputs}, {network.outputs: targets})


def slopes(
    network: GraphNetwork, found: Gradients, loss: Callable[[], float], step: float = 1e-5, directions: int = 3
) -> list[tuple[float, float]]:
    """Along random directions of all parameters: by a gradient, and by central differences of a loss."""
    learned = {name: p for name, p in network.named_parameters() if p.requires_grad}
    pairs = []
    for seed in range(directions):
        moves = {name: normal(*p.shape, seed=100 * seed + k) for k, (name, p) in enumerate(learned.items())}
        ends = []
        with torch.no_grad():
            for shift in (step, -2 * step):  # to one side, and from there to the other
                for name, p in learned.items():
                    p.add_(shift * moves[name])
                ends.append(loss())
            for name, p in learned.items():
                p.add_(step * moves[name])
        pairs.append((sum((found[n] * moves[n]).sum() for n in found).item(), (ends[0] - ends[1]) / (2 * step)))
    return pairs


class LearnedPrior(Prior):
    """exp(s)/2 x^2 - s/2, s learned."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.log_precision = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, value: Tensor) -> Tensor:
        return 0.5 * (self.log_precision.exp() * value**2 - self.log_precision).sum(-1)

    def gradient(self, value: Tensor) -> Tensor:
        return self.log_precision.exp() * value

    def curvature(self, value: Tensor) -> Tensor:
        return self.log_precision.exp().expand_as(value)


def bidirectional() -> GraphNetwork:
    """tanh 4-5-3 both ways, precisions learned, priors in the middle and on top."""
    energies = {0: Gaussian(4, learned=True), 1: Gaussian(5, learned=True)}
    priors = {1: KurtoticPrior(0.3), 2: LearnedPrior(3)}
    relaxed = Inference(Momentum(), atol=1e-12, max_steps=2000)
    return made(HierarchicalPC([4, 5, 3], 1.0, 0.6, energies=energies, priors=priors, inference=relaxed))


def skipping(output: Energy | None = None) -> GraphNetwork:
    """Node b from a and from the input over a skip connection, one layer used twice, a precision that is predicted."""
    output = output or InputPrecision()
    tied = Dense(4, 4, Tanh())
    nodes = [Node("x", 4), Node("a", 4), Node("b", 4, GaussianPrior(0.2)), Node("y", 2)]
    predictions = [
        Prediction("a", [("x", tied)], Gaussian(4, learned=True)),
        Prediction("b", [("a", tied), ("x", Skip()), ("x", Dense(4, 4))], Gaussian(4), weight=0.7),
        Prediction("y", [("b", Dense(4, output.prediction_width(2)))], output),
    ]
    return made(PCGraph(nodes, predictions, inputs="x", outputs="y", inference=TIGHT))


def generative(prior: Prior | None = None, **settings) -> GraphNetwork:
    """tanh 3-5-4 downwards: causes of an image, which nothing predicts."""
    energies = {0: Gaussian(4, learned=True), 1: Gaussian(5)}
    priors = {2: prior or GaussianPrior(0.7)}
    return made(
        HierarchicalPC([4, 5, 3], 0.0, 1.0, energies=energies, priors=priors, **{"inference": TIGHT} | settings)
    )


@dataclass
class Written:
    """W, b and log precision of every level of a tanh chain, last level linear."""

    weights: list[Tensor]
    biases: list[Tensor]
    log_precisions: list[Tensor]
    categorical: bool

    @classmethod
    def of(cls, network: GraphNetwork) -> "Written":
        layers = [p.layers[0] for p in network.predictions]
        energies = [p.energy for p in network.predictions]
        return cls(
            [layer.weight.detach().clone() for layer in layers],
            [layer.bias.detach().clone() for layer in layers],
            [e.log_precision.detach().clone() if isinstance(e, Gaussian) else torch.zeros(3) for e in energies],
            isinstance(energies[-1], Categorical),
        )

    def parameters(self) -> list[Tensor]:
        return [*self.weights, *self.biases, *self.log_precisions]

    def predict(self, level: int, source: Tensor) -> Tensor:
        drive = source @ self.weights[level].T + self.biases[level]
        return drive if level == len(self.weights) - 1 else torch.tanh(drive)

    def feedforward(self, x: Tensor) -> list[Tensor]:
        values = []
        for level in range(len(self.weights)):
            values.append(self.predict(level, values[-1] if values else x))
        return values

    def output_cost(self, below: Tensor, y: Tensor) -> Tensor:
        mu = self.predict(len(self.weights) - 1, below)
        if self.categorical:
            return -(y * mu.log_softmax(-1)).sum(-1)
        return self.cost(len(self.weights) - 1, y - mu)

    def cost(self, level: int, error: Tensor) -> Tensor:
        log_precision = self.log_precisions[level]
        return 0.5 * (log_precision.exp() * error**2 - log_precision).sum(-1)

    def hidden_energy(self, x: Tensor, hidden: list[Tensor]) -> Tensor:
        below = [x, *hidden[:-1]]
        return sum(self.cost(k, h - self.predict(k, b)) for k, (h, b) in enumerate(zip(hidden, below)))

    def relaxed(self, x: Tensor, y: Tensor, strength: float) -> list[Tensor]:
        """Hidden values that minimise F_hidden + strength * output cost, by Newton's method on a dense Hessian, row by row."""
        rows = []
        for row in range(len(x)):
            flat = torch.cat(self.feedforward(x[[row]])[:-1], -1)[0]
            sizes = [len(w) for w in self.weights[:-1]]

            def energy(flat: Tensor, row: int = row, sizes: list[int] = sizes) -> Tensor:
                hidden = list(flat.unsqueeze(0).split(sizes, -1))
                return (self.hidden_energy(x[[row]], hidden) + strength * self.output_cost(hidden[-1], y[[row]]))[0]

            for _ in range(30):
                slope = torch.autograd.functional.jacobian(energy, flat)
                if slope.norm() < 1e-13:
                    break
                flat = flat - torch.linalg.solve(torch.autograd.functional.hessian(energy, flat), slope)
            assert slope.norm() < 1e-12
            rows.append(flat)
        return list(torch.stack(rows).split(sizes, -1))


def one_hot(example: Example) -> Tensor:
    y = example.targets["3"]
    return y if y.is_floating_point() else functional.one_hot(y, 3).double()


def named(network: GraphNetwork, parts: list[list]) -> Gradients:
    """Lists of weights, biases and log precisions under the network's names."""
    lookup = {p: name for name, p in network.named_parameters() if p.requires_grad}
    result = {}
    for k, p in enumerate(network.predictions):
        for parameter, values in ((p.layers[0].weight, parts[0]), (p.layers[0].bias, parts[1])):
            result[lookup[parameter]] = torch.as_tensor(values[k])
        if isinstance(p.energy, Gaussian) and p.energy.log_precision in lookup:
            result[lookup[p.energy.log_precision]] = torch.as_tensor(parts[2][k])
    return result
