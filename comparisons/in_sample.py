"""What an untrained network scores in sample, beside what it scores held out. ``python -m comparisons.in_sample``"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from sklearn.linear_model import LinearRegression
from torch import Tensor

from comparisons.kept import markdown, save_picture
from pcnet import capture
from pcnet.baselines import RNN
from pcnet.experiments import Experiment, Job, Report, RunFolder, Schema, Tables, command
from pcnet.probing import Protocol, effective_sample_size, population_r2, probability_weights, probe
from pcnet.processes import HiddenMarkovModel, Words, mess3, observe, rrxor, words

BELIEF, SHUFFLED, ALL = "belief", "shuffled beliefs", "all layers"
PUBLISHED = {
    ("rrxor", ALL, BELIEF): (0.854, 0.854),
    ("rrxor", ALL, SHUFFLED): (0.615, 0.615),
    **{("mess3", f"layer {layer}", BELIEF): (0.961, 0.966) for layer in range(4)},
    ("mess3", ALL, BELIEF): (0.990, 0.990),
}
"""Scores of 4 x 64 untrained networks where nothing was held out, or prefixes leaked; the layers share one range. In the order of the report."""

Groups = dict[tuple[str, str, str], pd.DataFrame]
"""Rows of all networks by process, features and target."""


@dataclass(frozen=True)
class InSample(Experiment):
    """What does an untrained network score where nothing is held out, beside what it scores held out?

    Four layers of 64 untrained tanh units read every word once. Rrxor: all layers decoded to the exact belief, fitted and scored
    on the same words weighted by probability, as published, and again under the default protocol; the same with shuffled
    beliefs. Mess3: each layer and all layers on sampled sequences split 80/20, where most test prefixes stand in the training
    part too.

    Args:
        seeds: how many untrained networks.
        rrxor_length: greatest length of its words.
        mess3_length: greatest length of its words.
        sequences: sampled from Mess3.
        fold_seeds: how many deals to folds, of the default protocol.
    """

    seeds: int = 5
    rrxor_length: int = 10
    mess3_length: int = 7
    sequences: int = 2000
    fold_seeds: int = 5

    name: ClassVar[str] = "in_sample"
    schema = Schema(
        in_sample="process:text features_of:text target:text seed as_published rows n_eff held_out_equal "
        "held_out_by_probability rows_held_out n_eff_held_out_by_probability features"
    )
    smoke: ClassVar[dict] = {"seeds": 2, "rrxor_length": 6, "mess3_length": 5, "sequences": 60, "fold_seeds": 1}

    def jobs(self) -> list[Job]:
        works = {"mess3": self.on_mess3, "rrxor": self.on_rrxor}
        return [Job(f"{name}-{seed}", partial(works[name], seed)) for name in works for seed in range(self.seeds)]

    def on_rrxor(self, seed: int, files: Path, told: Report) -> Tables:
        """All layers, weighted by probability, fitted and scored on the same words."""
        population = words(rrxor(), self.rrxor_length)
        features = named(of_words(network(rrxor(), seed), population))[ALL]
        shuffled = np.random.default_rng(seed).permutation(population.num_words)
        n_eff = effective_sample_size(probability_weights(population.lengths.numpy(), population.probabilities.numpy()))
        lines = []
        for target, order in {BELIEF: np.arange(len(shuffled)), SHUFFLED: shuffled}.items():
            beliefs = population.filtered.numpy()[order]
            inflated = population_r2(features, beliefs, population)
            line = {"features_of": ALL, "target": target, "as_published": inflated, "rows": len(order), "n_eff": n_eff}
            lines.append(line | self.held_out(features, beliefs, population))
        return {"in_sample": pd.DataFrame(lines).assign(process="rrxor", seed=seed)}

    def on_mess3(self, seed: int, files: Path, told: Report) -> Tables:
        """Each layer and all of them, unweighted least squares on a fifth of the sequences held out."""
        seen = observe(mess3(), self.sequences, 10, torch.Generator().manual_seed(seed))
        model, population = network(mess3(), seed), words(mess3(), self.mess3_length)
        sampled = named([layer.numpy() for layer in states(model, seen.tokens)])
        exact = named(of_words(model, population))
        beliefs, train = seen.filtered.numpy(), int(0.8 * self.sequences)
        lines = []
        for name, features in sampled.items():
            fit = [part[:train].reshape(-1, part.shape[-1]) for part in (features, beliefs)]
            test = [part[train:].reshape(-1, part.shape[-1]) for part in (features, beliefs)]
            leaked, count = LinearRegression().fit(*fit).score(*test), len(test[0])
            line = {"features_of": name, "target": BELIEF, "as_published": leaked, "rows": count, "n_eff": float(count)}
            lines.append(line | self.held_out(exact[name], population.filtered.numpy(), population))
        return {"in_sample": pd.DataFrame(lines).assign(process="mess3", seed=seed)}

    def held_out(self, features: np.ndarray, beliefs: np.ndarray, population: Words) -> dict[str, float]:
        """The default protocol: medians over fold seeds of both weightings, with the size of what was scored."""
        protocol = Protocol(fold_seeds=tuple(range(self.fold_seeds)))
        scores = probe(features, beliefs, population, protocol, offsets=(True,))
        scores = scores[scores["position"] == "all"].groupby("weights")[["r2", "rows", "n_eff", "features"]].median()
        equal, weighted = scores.loc["equal"], scores.loc["probability"]
        return {
            "held_out_equal": equal["r2"],
            "held_out_by_probability": weighted["r2"],
            "rows_held_out": int(equal["rows"]),
            "n_eff_held_out_by_probability": weighted["n_eff"],
            "features": int(equal["features"]),
        }

    def report(self, folder: RunFolder) -> str:
        groups = grouped(folder.table("in_sample"))
        if not groups:
            return "Nothing has been computed yet."
        figure(groups, folder.path / "in_sample.png")
        return markdown(summary(groups))


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


def grouped(table: pd.DataFrame) -> Groups:
    """The groups that are there, in the order of the report."""
    groups = dict(list(table.groupby(["process", "features_of", "target"])))
    return {key: groups[key] for key in PUBLISHED if key in groups}


def summary(groups: Groups) -> pd.DataFrame:
    """Medians and ranges over networks, beside the published values."""
    lines = []
    for key, group in groups.items():
        low, high = PUBLISHED[key]
        line = dict(zip(("process", "features of", "target"), key, strict=True))
        line["published"] = f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
        for name in ("as published", "held out, equal", "held out, by probability"):
            scores = group[name.replace(", ", "_").replace(" ", "_")]
            line[name] = f"{scores.median():.3f} ({scores.min():.3f} to {scores.max():.3f})"
        first = group.iloc[0]  # sizes are alike
        line["rows (n_eff)"] = f"{first['rows']} ({first['n_eff']:.0f})"
        line["held out rows (n_eff)"] = f"{first['rows_held_out']} ({first['n_eff_held_out_by_probability']:.0f})"
        lines.append(line | {"features": str(first["features"]), "networks": str(len(group))})
    return pd.DataFrame(lines)


COLOURS = {"as_published": "#D55E00", "held_out_equal": "#0072B2"}
LABELS = {"as_published": "published procedure", "held_out_equal": "held out, default protocol"}


def draw(axes: Axes, groups: Groups, title: str) -> None:
    """Every network a dot, medians as bars, published values as crosses."""
    for place, (key, group) in enumerate(groups.items()):
        for shift, name in zip((-0.2, 0.2), COLOURS, strict=True):
            axes.bar(place + shift, group[name].median(), 0.36, color=COLOURS[name], alpha=0.55)
            spread = np.linspace(-0.1, 0.1, len(group))
            axes.plot(place + shift + spread, group[name], "o", color=COLOURS[name], markersize=4)
        low, high = PUBLISHED[key]
        axes.errorbar(place - 0.2, (low + high) / 2, (high - low) / 2, fmt="kx", markersize=9, capsize=4)
    several = len({key[2] for key in groups}) > 1
    axes.set_xticks(range(len(groups)), [key[2] if several else key[1] for key in groups], fontsize=11)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(title=title)


def figure(groups: Groups, path: Path) -> None:
    """Both processes side by side."""
    canvas, places = pyplot.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained", width_ratios=(2, 5))
    titles = {
        "rrxor": "rrxor: fitted and scored\non the same words",
        "mess3": "Mess3: sampled sequences split 80/20,\nprefixes shared",
    }
    for axes, (process, title) in zip(places, titles.items(), strict=True):
        draw(axes, {key: group for key, group in groups.items() if key[0] == process}, title)
    places[0].set_ylabel("R² of an untrained 4 × 64 RNN", fontsize=12)
    for name, colour in COLOURS.items():
        places[1].bar(0, 0, color=colour, alpha=0.55, label=LABELS[name])
    places[1].plot([], [], "kx", label="published value")
    canvas.legend(loc="outside lower center", ncols=3, fontsize=11)
    save_picture(canvas, path)


if __name__ == "__main__":
    sys.exit(command("comparisons.in_sample.InSample"))
