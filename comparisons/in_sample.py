"""What an untrained network scores in sample, beside what it scores held out. ``python -m comparisons.in_sample``

Four layers of 64 untrained tanh units read every word once. Rrxor: all layers decoded to the exact belief, fitted and scored on
the same words weighted by probability, as published, and again under the default protocol; the same with shuffled beliefs.
Mess3: each layer and all layers on sampled sequences split 20/80, where most test prefixes stand in the training part too.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from sklearn.linear_model import LinearRegression
from torch import Tensor

from comparisons.kept import markdown, progress, save_picture, save_table, whole
from pcnet import capture
from pcnet.baselines import RNN
from pcnet.probing import Protocol, effective_sample_size, population_r2, probability_weights, probe
from pcnet.processes import HiddenMarkovModel, Words, mess3, observe, rrxor, words

BELIEF, SHUFFLED, ALL = "belief", "shuffled beliefs", "all layers"
PUBLISHED = {
    ("rrxor", ALL, BELIEF): (0.854, 0.854),
    ("rrxor", ALL, SHUFFLED): (0.615, 0.615),
    ("mess3", ALL, BELIEF): (0.990, 0.990),
} | {("mess3", f"layer {layer}", BELIEF): (0.961, 0.966) for layer in range(4)}
"""Scores of 4 x 64 untrained networks where nothing was held out, or prefixes leaked; the range over layers is one range."""


@dataclass(frozen=True)
class Plan:
    """How much is computed.

    Args:
        seeds: untrained networks.
        lengths: greatest word length of rrxor and of Mess3.
        sequences: sampled from Mess3.
        fold_seeds: of the default protocol.
    """

    seeds: int = 5
    lengths: tuple[int, int] = (10, 7)
    sequences: int = 2000
    fold_seeds: int = 5


SMOKE = Plan(2, (6, 5), 60, 1)


def network(process: HiddenMarkovModel, seed: int) -> RNN:
    """Four layers of 64 untrained tanh units with torch's own initial weights and biases."""
    torch.manual_seed(seed)
    model = RNN(process.vocab_size, width=64, layers=4)
    for cell in model.cells:
        cell.recurrence.reset_parameters()
    return model


def states(model: RNN, tokens: Tensor) -> list[Tensor]:
    """What each layer holds after every token of sequences (B, L)."""
    sites = capture(model, tokens, "cells.*.hidden").sites
    return [sites[f"cells.{layer}.hidden"].double() for layer in range(4)]


def of_words(model: RNN, population: Words) -> list[np.ndarray]:
    """What each layer holds after every word; the filling after shorter words comes too late to matter."""
    last = (torch.arange(population.num_words), population.lengths - 1)
    return [layer[last].numpy() for layer in states(model, population.tokens.clamp_min(0))]


def named(layers: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Layers one by one and side by side."""
    return {f"layer {place}": layer for place, layer in enumerate(layers)} | {ALL: np.concatenate(layers, axis=-1)}


def held_out(features: np.ndarray, beliefs: np.ndarray, population: Words, plan: Plan) -> dict[str, float]:
    """The default protocol: medians over fold seeds of both weightings, with the size of what was scored."""
    protocol = Protocol(fold_seeds=tuple(range(plan.fold_seeds)))
    scores = probe(features, beliefs, population, protocol, offsets=(True,))
    scores = scores[scores["position"] == "all"].groupby("weights")[["r2", "rows", "n_eff", "features"]].median()
    equal, weighted = scores.loc["equal"], scores.loc["probability"]
    return {
        "held out, equal": equal["r2"],
        "held out, by probability": weighted["r2"],
        "rows held out": int(equal["rows"]),
        "n_eff held out, by probability": weighted["n_eff"],
        "features": int(equal["features"]),
    }


def on_rrxor(seed: int, plan: Plan) -> list[dict]:
    """All layers, weighted by probability, fitted and scored on the same words."""
    population = words(rrxor(), plan.lengths[0])
    features = named(of_words(network(rrxor(), seed), population))[ALL]
    orders = {
        BELIEF: np.arange(population.num_words),
        SHUFFLED: np.random.default_rng(seed).permutation(population.num_words),
    }
    n_eff = effective_sample_size(probability_weights(population.lengths.numpy(), population.probabilities.numpy()))
    lines = []
    for target, order in orders.items():
        beliefs = population.filtered.numpy()[order]
        inflated = population_r2(features, beliefs, population)
        line = {"process": "rrxor", "features of": ALL, "target": target, "seed": seed, "as published": inflated}
        lines.append(line | {"rows": len(order), "n_eff": n_eff} | held_out(features, beliefs, population, plan))
    return lines


def on_mess3(seed: int, plan: Plan) -> list[dict]:
    """Each layer and all of them, unweighted least squares on a fifth of the sequences held out."""
    seen = observe(mess3(), plan.sequences, 10, torch.Generator().manual_seed(seed))
    model, population = network(mess3(), seed), words(mess3(), plan.lengths[1])
    sampled = named([layer.numpy() for layer in states(model, seen.tokens)])
    exact = named(of_words(model, population))
    beliefs, train = seen.filtered.numpy(), int(0.8 * plan.sequences)
    lines = []
    for name, features in sampled.items():
        fit, test = ([part[rows].reshape(-1, part.shape[-1]) for part in (features, beliefs)] for rows in
                     (slice(train), slice(train, None)))  # fmt: skip
        leaked = LinearRegression().fit(*fit).score(*test)
        line = {"process": "mess3", "features of": name, "target": BELIEF, "seed": seed, "as published": leaked}
        size = {"rows": len(test[0]), "n_eff": float(len(test[0]))}
        lines.append(line | size | held_out(exact[name], population.filtered.numpy(), population, plan))
    return lines


def computed(plan: Plan) -> list[dict]:
    """Every process and every network."""
    parts: tuple[Callable[[int, Plan], list[dict]], ...] = (on_rrxor, on_mess3)
    lines: list[dict] = []
    with progress() as bar:
        task = bar.add_task("untrained networks", total=len(parts) * plan.seeds)
        for part in parts:
            for seed in range(plan.seeds):
                lines += part(seed, plan)
                bar.update(task, advance=1)
    return lines


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Medians and ranges over networks, beside the published values."""
    lines = []
    for key, group in table.groupby(["process", "features of", "target"], sort=False):
        low, high = PUBLISHED[key]
        line = dict(zip(("process", "features of", "target"), key, strict=True))
        line["published"] = f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
        for name in ("as published", "held out, equal", "held out, by probability"):
            line[name] = f"{group[name].median():.3f} ({group[name].min():.3f} to {group[name].max():.3f})"
        line["rows (n_eff)"] = f"{group['rows'].iloc[0]} ({group['n_eff'].iloc[0]:.0f})"
        sizes = group[["rows held out", "n_eff held out, by probability", "features"]].iloc[0]
        line["held out rows (n_eff)"] = f"{sizes.iloc[0]:.0f} ({sizes.iloc[1]:.0f})"
        lines.append(line | {"features": f"{sizes.iloc[2]:.0f}", "networks": str(len(group))})
    return pd.DataFrame(lines)


COLOURS = {"as published": "#D55E00", "held out, equal": "#0072B2"}
LABELS = {"as published": "published procedure", "held out, equal": "held out, default protocol"}


def draw(axes: Axes, table: pd.DataFrame, title: str) -> None:
    """Every network a dot, medians as bars, published values as crosses."""
    groups = list(table.groupby(["process", "features of", "target"], sort=False))
    for place, (key, group) in enumerate(groups):
        for shift, name in zip((-0.2, 0.2), COLOURS, strict=True):
            axes.bar(place + shift, group[name].median(), 0.36, color=COLOURS[name], alpha=0.55)
            spread = np.linspace(-0.1, 0.1, len(group))
            axes.plot(place + shift + spread, group[name], "o", color=COLOURS[name], markersize=4)
        low, high = PUBLISHED[key]
        axes.errorbar(place - 0.2, (low + high) / 2, (high - low) / 2, fmt="kx", markersize=9, capsize=4)
    several = table["target"].nunique() > 1
    axes.set_xticks(range(len(groups)), [key[2] if several else key[1] for key, _ in groups], fontsize=11)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(title=title)


def figure(table: pd.DataFrame, path: Path) -> None:
    """Both processes side by side."""
    canvas, places = pyplot.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained", width_ratios=(2, 5))
    draw(places[0], table[table["process"] == "rrxor"], "rrxor: fitted and scored\non the same words")
    draw(places[1], table[table["process"] == "mess3"], "Mess3: sampled sequences split 80/20,\nprefixes shared")
    places[0].set_ylabel("R² of an untrained 4 × 64 RNN", fontsize=12)
    for name, colour in COLOURS.items():
        places[1].bar(0, 0, color=colour, alpha=0.55, label=LABELS[name])
    places[1].plot([], [], "kx", label="published value")
    canvas.legend(loc="outside lower center", ncols=3, fontsize=11)
    save_picture(canvas, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute what has not been computed, then write and print the table and draw the figure."""
    parser = argparse.ArgumentParser("python -m comparisons.in_sample", description=__doc__.split("\n\n")[1])
    parser.add_argument("--out", type=Path, default=Path("runs/in_sample"), help="folder; default runs/in_sample")
    parser.add_argument("--smoke", action="store_true", help="few networks, short words")
    parser.add_argument("--replot", action="store_true", help="table and figure anew; nothing is computed")
    options = parser.parse_args(arguments)
    folder = options.out / "smoke" if options.smoke else options.out
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    path = folder / "in_sample.csv"
    if options.replot and not path.is_file():
        parser.error(f"nothing has been computed in {folder}")
    if not path.is_file():
        save_table(computed(SMOKE if options.smoke else Plan()), path)
    table = pd.read_csv(path)
    with whole(folder / "in_sample.md") as temporary:
        temporary.write_text(markdown(summary(table)))
    figure(table, folder / "in_sample.png")
    print(markdown(summary(table)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
