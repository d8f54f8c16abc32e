"""Does predictive coding classify as well as backpropagation of the same network? ``python -m comparisons.digits``

scikit-learn's 1797 handwritten digits (8 x 8), 5-fold cross-validated with 5 seeds. Every rule, backpropagation included, has
its learning rate tuned inside the training part of every fold (a fifth of it held out), starts from the same weights and sees
the same batches in the same order. What counts is the paired difference to backpropagation.

A 30-layer muPC network is trained by the local rule at its equilibrium beside the same network of which only the last layer
learns: by as many steps, and by ridge regression, which is the best a last layer can do.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import StratifiedKFold, train_test_split
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

import pcnet
from comparisons.kept import load_table, markdown, progress, save_picture, save_table, whole
from pcnet import Backprop, Example, FixedSteps, HierarchicalPC, Incremental, Inference, Local, MuPC, Nudged

CLASSES = 10
TUNING_SEED = 100
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"


@dataclass(frozen=True)
class Entry:
    """A learning rule, and the learning rates it may choose from."""

    name: str
    rule: pcnet.LearningRule | pcnet.SteppedRule
    rates: tuple[float, ...] = (0.001, 0.003, 0.01)


RULES = (
    Entry("backprop", Backprop()),
    Entry("local", Local(inference=Inference(atol=1e-3, max_steps=50))),
    Entry("local, 20 steps", Local(inference=FixedSteps(0.1, 20))),
    Entry("incremental", Incremental(steps=10), (0.0003, 0.001, 0.003)),
    Entry("nudged, centred", Nudged(beta=0.1)),
)


@dataclass(frozen=True)
class Plan:
    """How much of everything.

    Args:
        widths: of the network that all rules share.
        deep: of the muPC network.
        epochs: passes through the training part.
        deep_epochs: the same for muPC.
        folds: of the cross-validation.
        seeds: of weights and order of batches.
        deep_seeds: the same for muPC.
        rows: digits used.
    """

    widths: tuple[int, ...] = (64, 128, 64, CLASSES)
    deep: tuple[int, ...] = (64, *[64] * 29, CLASSES)
    epochs: int = 20
    deep_epochs: int = 20
    batch_size: int = 64
    folds: int = 5
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    deep_seeds: tuple[int, ...] = (0,)
    rows: int | None = None
    rules: tuple[Entry, ...] = field(default=RULES)


SMOKE = Plan((64, 16, CLASSES), (64, *[16] * 3, CLASSES), 2, 2, 64, 2, (0,), (0,), 300)


def pixels(rows: int | None) -> tuple[Tensor, Tensor]:
    """Pixels in [-1, 1] and labels."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 8 - 1, dtype=torch.float32)[:rows], torch.tensor(labels)[:rows]


def network(widths: Sequence[int], seed: int, deep: bool) -> HierarchicalPC:
    torch.manual_seed(seed)
    return HierarchicalPC(widths, parameterisation=MuPC(bias=False) if deep else None)


def batches(rows: int, size: int, epochs: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        yield from torch.randperm(rows, generator=generator)[: rows // size * size].view(-1, size)


def train(
    net: HierarchicalPC, entry: Entry, rate: float, x: Tensor, y: Tensor, plan: Plan, epochs: int, seed: int, last: bool
) -> None:
    """One cycle of the learning rate over all epochs."""
    learned = net.predictions[-1] if last else net
    parameters = [p for p in learned.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, rate)
    steps = epochs * (len(x) // plan.batch_size)
    schedule = OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.2, cycle_momentum=False)
    goals = torch.eye(CLASSES)[y]
    for chosen in batches(len(x), plan.batch_size, epochs, seed):
        example = Example({net.inputs: x[chosen]}, {net.outputs: goals[chosen]})
        stepped = isinstance(entry.rule, pcnet.SteppedRule)
        for loss in entry.rule.updates(net, example) if stepped else [entry.rule.loss(net, example)]:
            net.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()


def accuracy(net: HierarchicalPC, x: Tensor, y: Tensor) -> float:
    """Percent right, by networks that are never given a label."""
    return 100 * (net(x).argmax(-1) == y).double().mean().item()


def split(plan: Plan, fold: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test part of one fold."""
    x, y = pixels(plan.rows)
    train_rows, test_rows = list(StratifiedKFold(plan.folds, shuffle=True, random_state=0).split(x, y))[fold]
    return x[train_rows], y[train_rows], x[test_rows], y[test_rows]


def tune(plan: Plan, entry: Entry, fold: int, rate: float) -> dict:
    """Score one learning rate on a fifth of a fold's training part."""
    x, y, _, _ = split(plan, fold)
    inside, held_out = train_test_split(np.arange(len(x)), test_size=0.2, stratify=y, random_state=fold)
    net = network(plan.widths, TUNING_SEED, deep=False)
    train(net, entry, rate, x[inside], y[inside], plan, plan.epochs, TUNING_SEED, last=False)
    found = {"kind": "tuning", "rule": entry.name, "fold": fold, "seed": TUNING_SEED, "rate": rate}
    return found | {"accuracy": accuracy(net, x[held_out], y[held_out])}


def score(plan: Plan, entry: Entry, fold: int, seed: int, rate: float) -> dict:
    """Train on a fold with the rate chosen inside it; score on its test part."""
    x, y, x_test, y_test = split(plan, fold)
    net = network(plan.widths, seed, deep=False)
    train(net, entry, rate, x, y, plan, plan.epochs, seed, last=False)
    found = {"kind": "score", "rule": entry.name, "fold": fold, "seed": seed, "rate": rate}
    return found | {"accuracy": accuracy(net, x_test, y_test)}


DEEP = (
    Entry("30 layers, local", Local(inference=Inference(atol=1e-3, max_steps=50))),
    Entry("last layer, backprop", Backprop()),
)


def deep_score(plan: Plan, entry: Entry, fold: int, seed: int, rate: float) -> dict:
    """The muPC network, all of it or its last layer only."""
    x, y, x_test, y_test = split(plan, fold)
    net = network(plan.deep, seed, deep=True)
    train(net, entry, rate, x, y, plan, plan.deep_epochs, seed, last=entry.name.startswith("last"))
    found = {"kind": "muPC", "rule": entry.name, "fold": fold, "seed": seed, "rate": rate}
    return found | {"accuracy": accuracy(net, x_test, y_test)}


def ridge_score(plan: Plan, fold: int, seed: int) -> dict:
    """The best last layer: ridge regression on the untrained network's last hidden layer."""
    x, y, x_test, y_test = split(plan, fold)
    net = network(plan.deep, seed, deep=True)
    hidden = f"layers.{net.depth - 1}.value"
    features = [pcnet.capture(net, part, hidden)[hidden].flatten(1).numpy() for part in (x, x_test)]
    fitted = RidgeClassifierCV(np.logspace(-8, 2, 11)).fit(features[0], y)
    found = {"kind": "muPC", "rule": "last layer, ridge", "fold": fold, "seed": seed, "rate": np.nan}
    return found | {"accuracy": 100 * fitted.score(features[1], y_test)}


Job = tuple[Callable[..., dict], tuple]


class Table:
    """Rows found so far, kept in a file that is replaced whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = load_table(path)

    def find(self, **wanted: object) -> list[dict]:
        return [row for row in self.rows if all(row.get(key) == value for key, value in wanted.items())]

    def add(self, row: dict) -> None:
        self.rows.append(row)
        save_table(self.rows, self.path)


def run(jobs: Sequence[Job], table: Table, workers: int, title: str) -> None:
    """Side by side, every result kept as soon as it is there."""
    with progress("{task.completed}/{task.total}") as bar:
        task = bar.add_task(title, total=len(jobs))
        calls = (joblib.delayed(alone)(function, arguments) for function, arguments in jobs)
        for row in joblib.Parallel(n_jobs=workers, return_as="generator_unordered")(calls):
            table.add(row)
            bar.advance(task)


def alone(function: Callable[..., dict], arguments: tuple) -> dict:
    """One thread a job."""
    torch.set_num_threads(1)
    return function(*arguments)


def measure(plan: Plan, table: Table, workers: int) -> None:
    """Tune, then score; what the table has already is not run again."""
    folds = range(plan.folds)
    jobs: list[Job] = [
        (tune, (plan, entry, fold, rate))
        for entry in plan.rules
        for fold in folds
        for rate in entry.rates
        if not table.find(kind="tuning", rule=entry.name, fold=fold, rate=rate)
    ]
    run(jobs, table, workers, "tuning inside folds")
    jobs = [
        (score, (plan, entry, fold, seed, best_rate(table, entry, fold)))
        for entry in plan.rules
        for fold in folds
        for seed in plan.seeds
        if not table.find(kind="score", rule=entry.name, fold=fold, seed=seed)
    ]
    run(jobs, table, workers, "scoring on test folds")
    cases = [(fold, seed) for fold in folds for seed in plan.deep_seeds]
    jobs = [
        (deep_score, (plan, entry, fold, seed, 0.01))
        for entry in DEEP
        for fold, seed in cases
        if not table.find(kind="muPC", rule=entry.name, fold=fold, seed=seed)
    ]
    done = {(row["fold"], row["seed"]) for row in table.find(kind="muPC", rule="last layer, ridge")}
    jobs += [(ridge_score, (plan, fold, seed)) for fold, seed in cases if (fold, seed) not in done]
    run(jobs, table, workers, "30 layers")


def best_rate(table: Table, entry: Entry, fold: int) -> float:
    """By held-out accuracy inside the fold; of equals, the smallest."""
    tried = table.find(kind="tuning", rule=entry.name, fold=fold)
    return min(tried, key=lambda row: (-row["accuracy"], row["rate"]))["rate"]


def interval(differences: np.ndarray, folds: int) -> tuple[float, float]:
    """Mean and half-width of the 95 % interval, corrected for overlapping training parts (Nadeau & Bengio 2003)."""
    count = len(differences)
    if count < 2:
        return float(differences.mean()), float("nan")
    spread = np.sqrt((1 / count + 1 / (folds - 1)) * differences.var(ddof=1))
    return float(differences.mean()), float(stats.t.ppf(0.975, count - 1) * spread)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per rule: accuracy, and its paired difference to backpropagation."""
    scores = rows[rows.kind == "score"].pivot_table(index=["fold", "seed"], columns="rule", values="accuracy")
    folds = scores.index.get_level_values("fold").nunique()
    lines = []
    for rule in [entry.name for entry in RULES if entry.name in scores]:
        difference, half = interval((scores[rule] - scores["backprop"]).to_numpy(), folds)
        chosen = rows[(rows.kind == "score") & (rows.rule == rule)]
        rates = ", ".join(f"{rate:g} x{count}" for rate, count in chosen.groupby("rate").fold.nunique().items())
        lines.append(
            {
                "rule": rule,
                "accuracy %": f"{scores[rule].mean():.2f}",
                "minus backprop, points": "" if rule == "backprop" else f"{difference:+.2f} ± {half:.2f}",
                "rates chosen": rates,
            }
        )
    deep = rows[rows.kind == "muPC"].pivot_table(index=["fold", "seed"], columns="rule", values="accuracy")
    for rule in deep:
        entry = f"{deep[rule].mean():.2f} ({deep[rule].min():.1f} to {deep[rule].max():.1f})"
        difference, half = interval((deep["30 layers, local"] - deep[rule]).to_numpy(), folds)
        beaten = "" if rule == "30 layers, local" else f"{difference:+.2f} ± {half:.2f}"
        lines.append({"rule": f"muPC {rule}", "accuracy %": entry, "all 30 layers minus this, points": beaten})
    return pd.DataFrame(lines).fillna("")


def figure(rows: pd.DataFrame, path: Path) -> None:
    """Paired differences with their intervals; the deep networks beside them."""
    scores = rows[rows.kind == "score"].pivot_table(index=["fold", "seed"], columns="rule", values="accuracy")
    folds = scores.index.get_level_values("fold").nunique()
    rules = [entry.name for entry in RULES if entry.name in scores and entry.name != "backprop"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), width_ratios=(3, 2), layout="constrained")
    shake = np.random.default_rng(0).uniform(-0.16, 0.16, len(scores))
    left.axvspan(-0.5, 0.5, color=GREY, alpha=0.12, lw=0)
    left.axvline(0, color=GREY, lw=1)
    for height, rule in enumerate(rules):
        differences = (scores[rule] - scores["backprop"]).to_numpy()
        mean, half = interval(differences, folds)
        left.scatter(differences, height + shake, s=12, color=BLUE, alpha=0.45, lw=0)
        left.errorbar(mean, height, xerr=half, fmt="o", color=ORANGE, capsize=4, ms=7, lw=2)
    left.set_yticks(range(len(rules)), rules)
    left.invert_yaxis()
    left.set_xlabel("test accuracy minus backpropagation's (percentage points)")
    left.set_title(f"Same network, same batches: {len(scores)} folds × seeds", fontsize=11)
    deep = [
        name for name in ("30 layers, local", "last layer, ridge", "last layer, backprop") if (rows.rule == name).any()
    ]
    for height, (name, colour) in enumerate(zip(deep, (BLUE, GREEN, GREY))):
        part = rows[(rows.kind == "muPC") & (rows.rule == name)].accuracy
        right.scatter(part, np.full(len(part), height), s=24, color=colour, alpha=0.8, lw=0)
        right.plot([part.mean()] * 2, [height - 0.25, height + 0.25], color=colour, lw=3)
    right.axvline(93, color=GREY, lw=1, ls="--")
    right.text(93, -0.62, "93 %", ha="center", va="bottom", fontsize=9, color=GREY)
    right.set_yticks(range(len(deep)), deep)
    right.set_ylim(len(deep) - 0.5, -0.5)
    right.set_xlabel("test accuracy (%)")
    right.set_title("muPC, one dot a fold\n", fontsize=11)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    save_picture(figure, path)


def report(folder: Path) -> None:
    """Table and figure of what has been measured."""
    rows = pd.read_csv(folder / "rows.csv")
    text = markdown(summary(rows))
    with whole(folder / "digits.md") as temporary:
        temporary.write_text(text)
    figure(rows, folder / "digits.png")
    print(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, then write and print the table and draw the figure."""
    parser = argparse.ArgumentParser("python -m comparisons.digits", description=__doc__.split("\n\n")[1])
    parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="folder; default runs/digits")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes; default one per core")
    parser.add_argument("--smoke", action="store_true", help="tiny networks, few digits, in this process")
    parser.add_argument("--replot", action="store_true", help="table and figure anew from what was measured")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error(f"--workers must be at least 1, got {options.workers}")
    folder = options.out / "smoke" if options.smoke else options.out
    folder.mkdir(parents=True, exist_ok=True)
    if not options.replot:
        measure(SMOKE if options.smoke else Plan(), Table(folder / "rows.csv"), 1 if options.smoke else options.workers)
    elif not (folder / "rows.csv").is_file():
        parser.error(f"there is nothing measured in {folder}")
    report(folder)
    return 0


if __name__ == "__main__":
    from comparisons import digits  # by its name, so that workers find its functions

    sys.exit(digits.main())
