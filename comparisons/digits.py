"""Does predictive coding classify as well as backpropagation of the same network? ``python -m comparisons.digits``"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

import pcnet
from comparisons.kept import markdown, save_picture
from pcnet import Backprop, Example, FixedSteps, HierarchicalPC, Incremental, Inference, Local, MuPC, Nudged
from pcnet.data import stratified_folds
from pcnet.experiments import Experiment, Job, Report, RunFolder, Schema, Tables, command

PIXELS, CLASSES = 64, 10
TUNING_SEED = 100
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"


@dataclass(frozen=True)
class Entry:
    """A learning rule, and the learning rates it may choose from, smallest first."""

    rule: pcnet.LearningRule | pcnet.SteppedRule
    rates: tuple[float, ...] = (0.001, 0.003, 0.01)


BASE = "backprop"
RULES = {
    BASE: Entry(Backprop()),
    "local": Entry(Local(inference=Inference(atol=1e-3, max_steps=50))),
    "local, 20 steps": Entry(Local(inference=FixedSteps(0.1, 20))),
    "incremental": Entry(Incremental(steps=10), (0.0003, 0.001, 0.003)),
    "nudged, centred": Entry(Nudged(beta=0.1)),
}
ALL_LAYERS, LAST_LAYER, RIDGE = "30 layers, local", "last layer, backprop", "last layer, ridge"
DEEP = {ALL_LAYERS: RULES["local"].rule, LAST_LAYER: Backprop()}
DEEP_RATE = 0.01


class Images(NamedTuple):
    """Pixels in [-1, 1], (N, 64), and their classes."""

    pixels: Tensor
    labels: Tensor

    def at(self, rows: Tensor | np.ndarray) -> "Images":
        """Some of them."""
        return Images(self.pixels[rows], self.labels[rows])


@dataclass(frozen=True)
class Digits(Experiment):
    """Does predictive coding classify as well as backpropagation of the same network?

    scikit-learn's 1797 handwritten digits (8 x 8), cross-validated with several seeds. Every rule, backpropagation
    included, has its learning rate tuned inside the training part of every fold (a fifth of it held out), starts from the
    same weights and sees the same batches in the same order. What counts is the paired difference to backpropagation.

    A 30-layer muPC network is trained by the local rule at its equilibrium beside the same network of which only the last
    layer learns: by as many steps, and by ridge regression, which is the best a last layer can do.

    Args:
        hidden: widths of the hidden layers of the network that all rules share.
        deep_layers: of the muPC network.
        deep_width: of its hidden layers.
        epochs: passes through the training part.
        batch_size: images per step.
        folds: of the cross-validation.
        seeds: of weights and order of batches.
        deep_seeds: the same for muPC.
        rows: digits used; all of them by default.
    """

    hidden: tuple[int, ...] = (128, 64)
    deep_layers: int = 30
    deep_width: int = 64
    epochs: int = 20
    batch_size: int = 64
    folds: int = 5
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    deep_seeds: tuple[int, ...] = (0,)
    rows: int | None = None

    name: ClassVar[str] = "digits"
    schema = Schema(trainings="kind:text rule:text fold seed rate accuracy")
    smoke: ClassVar[dict] = dict(hidden=[16], deep_layers=4, deep_width=16, epochs=2, folds=2, seeds=[0], rows=300)

    def jobs(self) -> list[Job]:
        cases = [(rule, fold) for rule in RULES for fold in range(self.folds)]
        deep = [(rule, fold) for rule in (*DEEP, RIDGE) for fold in range(self.folds)]
        return [
            *(Job(part("tune", *case), partial(self.tune, *case)) for case in cases),
            *(Job(part("deep", *case), partial(self.score_deep, *case)) for case in deep),
            *(Job(part("score", *case), partial(self.score, *case), (part("tune", *case),)) for case in cases),
        ]

    def tune(self, rule: str, fold: int, files: Path, told: Report) -> Tables:
        """Score every learning rate on a fifth of a fold's training part."""
        images, _ = self.split(fold)
        rows = np.arange(len(images.labels))
        inside, held_out = train_test_split(rows, test_size=0.2, stratify=images.labels, random_state=fold)
        rates, found = RULES[rule].rates, []
        for done, rate in enumerate(rates):
            told(done, len(rates), None)
            net = self.network(TUNING_SEED)
            self.train(net, net, RULES[rule].rule, rate, images.at(inside), TUNING_SEED)
            found.append({"seed": TUNING_SEED, "rate": rate, "accuracy": accuracy(net, images.at(held_out))})
        return {"trainings": pd.DataFrame(found).assign(kind="tuning", rule=rule, fold=fold)}

    def score(self, rule: str, fold: int, files: Path, told: Report) -> Tables:
        """Train on a fold with the rate chosen inside it (of equals, the smallest); score on its test part."""
        tried = RunFolder(files, self.schema).part(part("tune", rule, fold), "trainings")
        rate = RULES[rule].rates[int(tried.accuracy.argmax())]
        (images, test), found = self.split(fold), []
        for done, seed in enumerate(self.seeds):
            told(done, len(self.seeds), None)
            net = self.network(seed)
            self.train(net, net, RULES[rule].rule, rate, images, seed)
            found.append({"seed": seed, "rate": rate, "accuracy": accuracy(net, test)})
        return {"trainings": pd.DataFrame(found).assign(kind="score", rule=rule, fold=fold)}

    def score_deep(self, rule: str, fold: int, files: Path, told: Report) -> Tables:
        """The muPC network, all of it or its last layer only."""
        (images, test), found = self.split(fold), []
        for done, seed in enumerate(self.deep_seeds):
            told(done, len(self.deep_seeds), None)
            net = self.network(seed, deep=True)
            if rule == RIDGE:
                right = by_ridge(net, images, test)
            else:
                self.train(net, net if rule == ALL_LAYERS else net.predictions[-1], DEEP[rule], DEEP_RATE, images, seed)
                right = accuracy(net, test)
            found.append({"seed": seed, "rate": np.nan if rule == RIDGE else DEEP_RATE, "accuracy": right})
        return {"trainings": pd.DataFrame(found).assign(kind="muPC", rule=rule, fold=fold)}

    def split(self, fold: int) -> tuple[Images, Images]:
        """Training and test part of one fold."""
        pixels, labels = (torch.tensor(array)[: self.rows] for array in load_digits(return_X_y=True))
        images = Images((pixels / 8 - 1).float(), labels)
        train, test = stratified_folds(labels, self.folds, seed=0)[fold]
        return images.at(train), images.at(test)

    def network(self, seed: int, deep: bool = False) -> HierarchicalPC:
        torch.manual_seed(seed)
        if deep:
            hidden = [self.deep_width] * (self.deep_layers - 1)
            return HierarchicalPC([PIXELS, *hidden, CLASSES], parameterisation=MuPC(bias=False))
        return HierarchicalPC([PIXELS, *self.hidden, CLASSES])

    def train(
        self,
        net: HierarchicalPC,
        learned: nn.Module,
        rule: pcnet.LearningRule | pcnet.SteppedRule,
        rate: float,
        images: Images,
        seed: int,
    ) -> None:
        """One cycle of the learning rate over all epochs, for the parameters of the part of the network that is learned."""
        optimizer = torch.optim.Adam([p for p in learned.parameters() if p.requires_grad], rate)
        steps = self.epochs * (len(images.labels) // self.batch_size)
        schedule = OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.2, cycle_momentum=False)
        goals = torch.eye(CLASSES)[images.labels]
        for chosen in self.batches(len(images.labels), seed):
            example = Example({net.inputs: images.pixels[chosen]}, {net.outputs: goals[chosen]})
            stepped = isinstance(rule, pcnet.SteppedRule)
            for loss in rule.updates(net, example) if stepped else [rule.loss(net, example)]:
                net.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()

    def batches(self, rows: int, seed: int) -> Iterator[Tensor]:
        """Rows of every batch; what is left over at the end of an epoch is not used in it."""
        generator, size = torch.Generator().manual_seed(seed), self.batch_size
        for _ in range(self.epochs):
            yield from torch.randperm(rows, generator=generator)[: rows // size * size].view(-1, size)

    def report(self, folder: RunFolder) -> str:
        rows = folder.table("trainings")
        scores, deep = accuracies(rows, "score", RULES), accuracies(rows, "muPC", (ALL_LAYERS, RIDGE, LAST_LAYER))
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), width_ratios=(3, 2), layout="constrained")
        draw_differences(left, scores, self.folds)
        draw_deep(right, deep)
        save_picture(figure, folder.path / "digits.png")
        return markdown(self.summary(rows))

    def summary(self, rows: pd.DataFrame) -> pd.DataFrame:
        """A line per rule: accuracy, and its paired difference to backpropagation."""
        scores, deep = accuracies(rows, "score", RULES), accuracies(rows, "muPC", (ALL_LAYERS, LAST_LAYER, RIDGE))
        lines = []
        for rule in scores:
            chosen = rows[(rows.kind == "score") & (rows.rule == rule)]
            rates = ", ".join(f"{rate:g} x{count}" for rate, count in chosen.groupby("rate").fold.nunique().items())
            line = {"rule": rule, "accuracy %": f"{scores[rule].mean():.2f}"}
            line["minus backprop, points"] = "" if rule == BASE else difference(scores, rule, BASE, self.folds)
            lines.append(line | {"rates chosen": rates})
        for rule in deep:
            spread = f"{deep[rule].mean():.2f} ({deep[rule].min():.1f} to {deep[rule].max():.1f})"
            line = {"rule": f"muPC {rule}", "accuracy %": spread}
            beaten = "" if rule == ALL_LAYERS else difference(deep, ALL_LAYERS, rule, self.folds)
            lines.append(line | {"all 30 layers minus this, points": beaten})
        return pd.DataFrame(lines).fillna("")


def part(kind: str, rule: str, fold: int) -> str:
    return f"{kind}-{rule}-fold{fold}".replace(",", "").replace(" ", "-")


def accuracy(net: HierarchicalPC, images: Images) -> float:
    """Percent right, by networks that are never given a label."""
    return 100 * (net(images.pixels).argmax(-1) == images.labels).double().mean().item()


def by_ridge(net: HierarchicalPC, images: Images, test: Images) -> float:
    """Percent right with the best last layer: ridge regression on the untrained network's last hidden layer."""
    hidden = f"layers.{net.depth - 1}.value"
    features = [pcnet.capture(net, part.pixels, hidden)[hidden].flatten(1).numpy() for part in (images, test)]
    fitted = RidgeClassifierCV(np.logspace(-8, 2, 11)).fit(features[0], images.labels)
    return 100 * fitted.score(features[1], test.labels)


def accuracies(rows: pd.DataFrame, kind: str, rules: Iterable[str]) -> pd.DataFrame:
    """A row per fold and seed, a column per rule that has been scored, in this order."""
    table = rows[rows.kind == kind].pivot_table(index=["fold", "seed"], columns="rule", values="accuracy")
    return table[[rule for rule in rules if rule in table]]


def interval(differences: np.ndarray, folds: int) -> tuple[float, float]:
    """Mean and half-width of the 95 % interval, corrected for overlapping training parts (Nadeau & Bengio 2003)."""
    count = len(differences)
    if count < 2:
        return float(differences.sum()) if count else np.nan, np.nan
    spread = np.sqrt((1 / count + 1 / (folds - 1)) * differences.var(ddof=1))
    return float(differences.mean()), float(stats.t.ppf(0.975, count - 1) * spread)


def paired(scores: pd.DataFrame, rule: str, other: str) -> np.ndarray:
    """Differences where both have been scored, by fold and seed."""
    return (scores[rule] - scores[other]).dropna().to_numpy() if other in scores else np.zeros(0)


def difference(scores: pd.DataFrame, rule: str, other: str, folds: int) -> str:
    """Mean and interval as text; empty where no pair has been scored."""
    mean, half = interval(paired(scores, rule, other), folds)
    return "" if np.isnan(mean) else f"{mean:+.2f} ± {half:.2f}"


def draw_differences(axes: Axes, scores: pd.DataFrame, folds: int) -> None:
    """Paired differences to backpropagation with their intervals."""
    rules = [rule for rule in scores if rule != BASE]
    shake = np.random.default_rng(0).uniform(-0.16, 0.16, len(scores))
    axes.axvspan(-0.5, 0.5, color=GREY, alpha=0.12, lw=0)
    axes.axvline(0, color=GREY, lw=1)
    for height, rule in enumerate(rules):
        differences = paired(scores, rule, BASE)
        mean, half = interval(differences, folds)
        axes.scatter(differences, height + shake[: len(differences)], s=12, color=BLUE, alpha=0.45, lw=0)
        axes.errorbar(mean, height, xerr=half, fmt="o", color=ORANGE, capsize=4, ms=7, lw=2)
    axes.set_yticks(range(len(rules)), rules)
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy minus backpropagation's (percentage points)")
    axes.set_title(f"Same network, same batches: {len(scores)} folds × seeds", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)


def draw_deep(axes: Axes, scores: pd.DataFrame) -> None:
    """Accuracy of the muPC networks, a dot a fold and a bar at the mean."""
    for height, (rule, colour) in enumerate(zip(scores, (BLUE, GREEN, GREY))):
        found = scores[rule].dropna()
        axes.scatter(found, np.full(len(found), height), s=24, color=colour, alpha=0.8, lw=0)
        axes.plot([found.mean()] * 2, [height - 0.25, height + 0.25], color=colour, lw=3)
    axes.axvline(93, color=GREY, lw=1, ls="--")
    axes.text(93, -0.62, "93 %", ha="center", va="bottom", fontsize=9, color=GREY)
    axes.set_yticks(range(scores.shape[1]), list(scores))
    axes.set_ylim(max(1, scores.shape[1]) - 0.5, -0.5)
    axes.set_xlabel("test accuracy (%)")
    axes.set_title("muPC, one dot a fold\n", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    sys.exit(command("comparisons.digits.Digits"))
