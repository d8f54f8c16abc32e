"""One training step in pcnet, by its public names."""

from functools import partial
from importlib.metadata import version

import numpy as np
import torch

from pcnet.inference import FixedSteps
from pcnet.learning import Example, Local
from pcnet.networks import Dense, HierarchicalPC

ADAM = partial(torch.optim.Adam, fused=True)
"""Of all loops in torch: one pass over the weights."""


class Step:
    """Training steps of one network from given weights; gradients of the weights are means over the batch."""

    def __init__(self, task: dict[str, np.ndarray], threads: int):
        torch.set_num_threads(threads)
        self.task = task
        self.network = self.given()
        self.batches = [
            Example({self.network.inputs: torch.tensor(x)}, {self.network.outputs: torch.tensor(y)})
            for x, y in zip(task["inputs"], task["targets"])
        ]
        self.inference = FixedSteps(step_size=float(task["step_size"]), steps=int(task["iterations"]))
        self.rule = Local(inference=self.inference)
        self.seen = 0
        self.optimizer = ADAM(self.network.parameters(), lr=float(task["learning_rate"]))

    def given(self) -> HierarchicalPC:
        """A discriminative chain (tanh, linear output) with the task's weights."""
        network = HierarchicalPC(self.task["widths"].tolist())
        with torch.no_grad():
            for i, layer in enumerate(layers(network)):
                layer.weight.copy_(torch.tensor(self.task[f"weight{i}"]))
                layer.bias.copy_(torch.tensor(self.task[f"bias{i}"]))
        return network

    def train(self, network: HierarchicalPC, optimizer: torch.optim.Optimizer, batch: Example) -> None:
        optimizer.zero_grad()
        self.rule.loss(network, batch).backward()
        optimizer.step()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.train(self.network, self.optimizer, self.batches[self.seen % len(self.batches)])
            self.seen += 1

    def check(self) -> dict[str, np.ndarray]:
        """One step of plain descent (whose change of weight is the gradient times a power of two) and one of Adam."""
        found = self.values()
        for name, optimizer, rate in (
            ("descent", torch.optim.SGD, "gradient_scale"),
            ("adam", ADAM, "adam_rate"),
        ):
            network = self.given()
            self.train(network, optimizer(network.parameters(), lr=float(self.task[rate])), self.batches[0])
            for i, layer in enumerate(layers(network)):
                found[f"{name}_weight{i}"] = layer.weight.detach().numpy()
                found[f"{name}_bias{i}"] = layer.bias.detach().numpy()
        return found

    def values(self) -> dict[str, np.ndarray]:
        """Hidden values where the rule's inference ends."""
        network = self.given()
        clamped = self.batches[0].whole(network)
        solution = self.inference.run(network.problem(clamped), network.initial_values(clamped))
        return {f"value{i}": value.numpy() for i, value in enumerate(solution.values, 1)}

    def versions(self) -> dict[str, str]:
        return {"pcnet": version("pcnet"), "torch": torch.__version__}


def layers(network: HierarchicalPC) -> list[Dense]:
    """The dense layers of a chain, from the senses up."""
    return [module for module in network.predictions.modules() if isinstance(module, Dense)]
