"""What is usual among hidden Markov processes? ``python -m comparisons.random_processes``"""

import math
import sys
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes

from comparisons.kept import markdown, save_picture
from comparisons.shares import percent, wilson
from pcnet.experiments import Experiment, Job, Report, RunFolder, Schema, Tables, command
from pcnet.processes import (
    HiddenMarkovModel,
    NotClosedError,
    epsilon_machine,
    mixed_state_dimension,
    mixed_state_presentation,
    next_token_sufficient,
    random_epsilon_machine,
    random_hmm,
)

UNIFILAR = "unifilar"
COLOURS = {2: "#0072B2", 3: "#D55E00", 4: "#009E73", 6: "#CC79A7"}
MARKERS = {2: "o", 3: "s", 4: "^", 6: "D"}
FEWEST = 4
"""Dimensions that a median is given of."""


class Kind(NamedTuple):
    """A kind of machine; `zeros` is the share of entries that are zero, or that it is unifilar."""

    states: int
    tokens: int
    zeros: str

    def draw(self, generator: torch.Generator) -> HiddenMarkovModel:
        """A machine of this kind."""
        if self.zeros == UNIFILAR:
            return random_epsilon_machine(self.states, self.tokens, generator)
        return random_hmm(self.states, self.tokens, generator, sparsity=float(self.zeros))

    def seed(self) -> int:
        """Its own, whichever kinds are examined."""
        return 1_000_003 * self.states + 10_007 * self.tokens + sum(map(ord, self.zeros))


@dataclass(frozen=True)
class RandomProcesses(Experiment):
    """A census of random machines.

    They are hidden Markov models over numbers of states and tokens and shares of entries that are zero, and unifilar machines, in
    which each token leads from a state to one other. Of each it is asked whether its mixed states close; if they don't, whether
    the epsilon-machine is finite all the same (what lies beyond is transient then), or what dimension the set of its mixed
    states has; and whether the law of the next token gives the belief away, affinely.

    Shares carry Wilson's 95 % interval, dimensions (Lyapunov's, of those that aren't 0) their median and middle half, where
    there are at least 4.

    Args:
        states: numbers of states.
        tokens: numbers of tokens.
        zeros: shares of entries that are zero, as text; "unifilar" for unifilar machines.
        machines: of each kind.
        with_dimension: how many of them, the first ones, are asked for their dimension, which takes longest.
        max_states: mixed states to look at before saying that they don't close.
        seed: of the machines.
    """

    states: list[int] = field(default_factory=lambda: [2, 3, 4, 6])
    tokens: list[int] = field(default_factory=lambda: [2, 3])
    zeros: list[str] = field(default_factory=lambda: ["0.0", "0.2", "0.4", "0.6", UNIFILAR])
    machines: int = 60
    with_dimension: int = 20
    max_states: int = 1500
    seed: int = 0

    name: ClassVar[str] = "random_processes"
    schema = Schema(
        machines="states tokens zeros:text seed closed:flag mixed_states causal_states dimension next_token_suffices:flag"
    )
    smoke: ClassVar[dict] = dict(
        states=[2, 3], tokens=[2], zeros=["0.0", "0.5", UNIFILAR], machines=4, with_dimension=1, max_states=200
    )

    def jobs(self) -> list[Job]:
        kinds = product(sorted(self.states, reverse=True), self.tokens, self.zeros)
        return [Job("-".join(map(str, kind)), partial(self.census, Kind(*kind))) for kind in kinds]

    def census(self, kind: Kind, files: Path, told: Report) -> Tables:
        """Examine machines of one kind."""
        generator = torch.Generator().manual_seed(self.seed + kind.seed())
        rows = []
        for number in range(self.machines):
            told(number, self.machines, None)
            found = examine(kind.draw(generator), self.max_states, number < self.with_dimension)
            rows.append(kind._asdict() | {"seed": self.seed} | found)
        return {"machines": pd.DataFrame(rows)}

    def report(self, folder: RunFolder) -> str:
        rows = folder.table("machines")
        if rows.empty:
            return "No machine has been examined yet."
        lines = summary(rows)
        figure(lines, folder.path / "random_processes.png")
        return markdown(readable(lines))


def examine(process: HiddenMarkovModel, max_states: int, with_dimension: bool) -> dict:
    """What the census asks of one machine; the dimension is 0 where finitely many mixed states recur."""
    presentation = mixed_state_presentation(process, max_states=max_states)
    try:
        causal = epsilon_machine(process, max_states=max_states).num_states
    except NotClosedError:
        causal = math.inf
    return {
        "closed": presentation.closed,
        "mixed_states": len(presentation) if presentation.closed else math.inf,
        "causal_states": causal,
        "dimension": float(mixed_state_dimension(process, max_states=max_states)) if with_dimension else math.nan,
        "next_token_suffices": next_token_sufficient(process),
    }


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per kind: shares with their intervals, and quartiles of the dimension."""
    lines = []
    for (states, tokens, zeros), part in rows.groupby(["states", "tokens", "zeros"]):
        infinite = np.isinf(part["causal_states"])
        asked = part.dimension.notna()
        questions = {
            "closed": part.closed,
            "finite": ~infinite,
            "sufficient": part["next_token_suffices"],
            "fractal": (infinite & (part.dimension > 0))[asked],
            "countable": (infinite & (part.dimension <= 0))[asked],
        }
        line = {"states": states, "tokens": tokens, "zeros": zeros, "machines": len(part), "asked": int(asked.sum())}
        for question, answers in questions.items():
            low, high = wilson(int(answers.sum()), len(answers))
            line |= {question: answers.mean(), f"{question} low": low, f"{question} high": high}
        fractals = part.dimension[asked & infinite & (part.dimension > 0)]
        quartiles = fractals.quantile([0.25, 0.5, 0.75]).tolist() if len(fractals) >= FEWEST else [math.nan] * 3
        lines.append(line | dict(zip(("dimension low", "dimension", "dimension high"), quartiles, strict=True)))
    return pd.DataFrame(lines)


def readable(lines: pd.DataFrame) -> pd.DataFrame:
    """The summary, for reading."""

    def shares(question: str) -> list[str]:
        return percent(lines, (question, f"{question} low", f"{question} high"), 0)

    quartiles = lines[["dimension", "dimension low", "dimension high"]].to_numpy()
    return pd.DataFrame(
        {
            "states": lines.states,
            "tokens": lines.tokens,
            "zeros": lines.zeros,
            "machines": lines.machines,
            "mixed states close, %": shares("closed"),
            "finitely many causal states, %": shares("finite"),
            "asked for the dimension": lines.asked,
            "fractal, %": shares("fractal"),
            "infinitely many, of dimension 0, %": shares("countable"),
            "dimension: median (middle half)": [
                "" if math.isnan(middle) else f"{middle:.2f} ({low:.2f} to {high:.2f})"
                for middle, low, high in quartiles
            ],
            "next-token law gives the belief away, %": shares("sufficient"),
        }
    )


ROWS = (
    ("closed", "mixed states\nclose (%)", 100),
    ("fractal", "infinitely many\nand fractal (%)", 100),
    ("dimension", "Lyapunov dimension\nof the fractals", 1),
    ("sufficient", "next-token law gives\nthe belief away (%)", 100),
)


def figure(lines: pd.DataFrame, path: Path) -> None:
    """A column for each vocabulary, a row for each question, a line for each number of states."""
    vocabularies = sorted(lines.tokens.unique())
    page, grid = pyplot.subplots(
        len(ROWS), len(vocabularies), figsize=(3.3 * len(vocabularies) + 2.2, 10.4), layout="constrained", squeeze=False
    )
    kinds = list(dict.fromkeys(lines.zeros))
    for column, vocabulary in enumerate(vocabularies):
        part = lines[lines.tokens == vocabulary]
        for row, (question, name, scale) in enumerate(ROWS):
            axes = grid[row, column]
            draw_question(axes, part, kinds, question, scale)
            if column == 0:
                axes.set_ylabel(name, fontsize=12)
            axes.set_ylim((-4, 104) if scale == 100 else (0, 1.08 * np.nanmax([*lines["dimension high"], 1e-9])))
        grid[0, column].set_title(f"{vocabulary} tokens", fontsize=13)
        grid[-1, column].set_xlabel("share of zero entries", fontsize=12)
    handles, names = grid[0, 0].get_legend_handles_labels()
    page.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=12)
    save_picture(page, path)


def draw_question(axes: Axes, part: pd.DataFrame, kinds: list[str], question: str, scale: float) -> None:
    """Shares or medians over kinds, with their intervals; unifilar machines stand apart."""
    sizes = sorted(part.states.unique())
    for place, states in enumerate(sizes):
        own = part[part.states == states].set_index("zeros").reindex(kinds)
        x = np.arange(len(kinds)) + 0.09 * (place - (len(sizes) - 1) / 2)
        middle, low, high = (scale * own[f"{question}{end}"].to_numpy(float) for end in ("", " low", " high"))
        style = {"color": COLOURS[states], "marker": MARKERS[states], "ms": 6, "capsize": 2.5, "elinewidth": 1.2}
        alike = np.array([kind != UNIFILAR for kind in kinds])
        for chosen, line in ((alike, "-"), (~alike, "")):
            spread = np.maximum([middle - low, high - middle], 0)[:, chosen]
            label = f"{states} states" if line else None
            axes.errorbar(x[chosen], middle[chosen], yerr=spread, ls=line, lw=1.4, label=label, **style)
    axes.set_xticks(
        range(len(kinds)), [kind if kind == UNIFILAR else f"{float(kind):g}" for kind in kinds], fontsize=11
    )
    axes.tick_params(axis="y", labelsize=11)
    axes.set_xlim(-0.4, len(kinds) - 0.6)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    sys.exit(command("comparisons.random_processes.RandomProcesses"))
