"""A comparison of your own, whole: two models learn the same digits; a table and a figure say which does better.

Copy this file, give it and its class names of your own (the last line says them, too), and change what is trained. Run it with

    python two_models.py --smoke            # a minute: does everything work?
    python two_models.py --epochs 5         # any setting can be given on the command line, --help lists them

Results are kept in runs/two_models. An interrupted run goes on from there, and `--replot` only draws again.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pcnet import Backprop, Example, HierarchicalPC, Inference, Local
from pcnet.data import digits, stratified_folds
from pcnet.experiments import Experiment, Job, Report, RunFolder, Schema, Tables, command

RULES = {"backpropagation": Backprop(), "predictive coding": Local(inference=Inference(atol=1e-3, max_steps=50))}
CLASSES = 10


@dataclass(frozen=True)
class TwoModels(Experiment):
    """Does a network learn as fast by the local rule of predictive coding as by backpropagation?

    The same network, from the same weights, sees the same batches of scikit-learn's handwritten digits in the same order;
    only the rule differs. A fifth of the digits is never learned from, and is classified after every epoch.

    Args:
        seeds: of weights and order of batches; each rule is run with each.
        hidden: widths of the hidden layers.
        epochs: passes through the images that are learned from.
        rate: of Adam.
        images: how many digits are used, 1797 at most.
    """

    # The fields are the settings. Their types and the texts above make the command line and its --help.
    seeds: tuple[int, ...] = (0, 1, 2)
    hidden: tuple[int, ...] = (64, 32)
    epochs: int = 10
    rate: float = 0.003
    images: int = 1797

    name: ClassVar[str] = "two_models"  # of the folder in runs/
    schema = Schema(accuracy="rule:text seed epoch percent")  # one table and its columns
    smoke: ClassVar[dict] = {"seeds": [0, 1], "hidden": [16], "epochs": 2, "images": 300}  # what --smoke changes

    def jobs(self) -> list[Job]:
        """One job a rule and seed. Jobs run side by side, and what has been done once is not done again."""
        return [Job(f"{rule}-seed{seed}", partial(self.train, rule, seed)) for rule in RULES for seed in self.seeds]

    def train(self, rule: str, seed: int, files: Path, told: Report) -> Tables:
        """The work of one job: returns its rows of the table."""
        train, test = stratified_folds(digits().labels[: self.images], folds=5, seed=0)[0]
        pixels, labels = digits().values.flatten(1), digits().labels
        torch.manual_seed(seed)
        network = HierarchicalPC([pixels.shape[1], *self.hidden, CLASSES])
        optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], self.rate)
        order, targets, rows = torch.Generator().manual_seed(seed), torch.eye(CLASSES)[labels], []
        for epoch in range(1, self.epochs + 1):
            for batch in train[torch.randperm(len(train), generator=order)].split(32):
                example = Example({network.inputs: pixels[batch]}, {network.outputs: targets[batch]})
                optimizer.zero_grad()
                loss = RULES[rule].loss(network, example)
                loss.backward()
                optimizer.step()
            told(epoch, self.epochs, loss.item())  # moves the progress bar
            rows.append({"epoch": epoch, "percent": percent_right(network, pixels[test], labels[test])})
        return {"accuracy": pd.DataFrame(rows).assign(rule=rule, seed=seed)}

    def report(self, folder: RunFolder) -> str:
        """Draw the figure from the table of all jobs, and return what is printed; jobs may still be missing."""
        table = folder.table("accuracy")
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        for rule, colour in zip(RULES, ("#0072B2", "#D55E00")):
            for label, (_, run) in zip([rule, *[None] * len(table)], table[table.rule == rule].groupby("seed")):
                axes.plot(run.epoch, run.percent, color=colour, alpha=0.8, label=label)
        axes.set(xlabel="epochs", ylabel="held-out digits classified correctly (%)", title="One line a seed")
        axes.legend(frameon=False)
        figure.savefig(folder.path / "two_models.png", dpi=160)
        last = table[table.epoch == self.epochs].groupby("rule").percent.agg(["mean", "min", "max"])
        return f"Held-out digits classified correctly after {self.epochs} epochs, over seeds (%)\n{last.round(1)}"


@torch.no_grad()
def percent_right(network: HierarchicalPC, pixels: Tensor, labels: Tensor) -> float:
    """Accuracy of the network's answers, for which it is given no label."""
    return 100 * (network(pixels).argmax(-1) == labels).double().mean().item()


if __name__ == "__main__":
    sys.exit(command("two_models.TwoModels"))
