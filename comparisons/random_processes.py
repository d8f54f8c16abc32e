"""What is usual among hidden Markov processes? ``python -m comparisons.random_processes``

A census of random machines: hidden Markov models over numbers of states and tokens and shares of entries that are zero, and
unifilar machines, in which each token leads from a state to one other. Of each it is asked whether its mixed states close; if
they don't, whether the epsilon-machine is finite all the same (what lies beyond is transient then), or what dimension the set of
its mixed states has; and whether the law of the next token gives the belief away, affinely.

Shares carry Wilson's 95 % interval, dimensions (Lyapunov's, of those that aren't 0) their median and middle half, where
there are at least 4.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes

from comparisons.kept import load_table, markdown, progress, save_picture, save_table, whole
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
Z = 1.959964
"""Half-width of a 95 % interval, in standard errors."""


@dataclass(frozen=True)
class Cell:
    """A kind of machine; `zeros` is the share of entries that are zero, or that it is unifilar."""

    states: int
    tokens: int
    zeros: str


@dataclass(frozen=True)
class Plan:
    """How many of what.

    Args:
        machines: of each kind.
        with_dimension: how many of them, the first ones, are asked for their dimension, which takes longest.
        max_states: mixed states to look at before saying that they don't close.
    """

    states: tuple[int, ...] = (2, 3, 4, 6)
    tokens: tuple[int, ...] = (2, 3)
    zeros: tuple[str, ...] = ("0.0", "0.2", "0.4", "0.6", UNIFILAR)
    machines: int = 60
    with_dimension: int = 20
    max_states: int = 1500

    def cells(self) -> list[Cell]:
        return [Cell(*kind) for kind in product(self.states, self.tokens, self.zeros)]


SMOKE = Plan((2, 3), (2,), ("0.0", "0.5", UNIFILAR), machines=4, with_dimension=1, max_states=200)


def draw(cell: Cell, generator: torch.Generator) -> HiddenMarkovModel:
    """A machine of a kind."""
    if cell.zeros == UNIFILAR:
        return random_epsilon_machine(cell.states, cell.tokens, generator)
    return random_hmm(cell.states, cell.tokens, generator, sparsity=float(cell.zeros))


def examine(process: HiddenMarkovModel, max_states: int, with_dimension: bool) -> dict:
    """What the census asks of one machine; the dimension is 0 where finitely many mixed states recur."""
    presentation = mixed_state_presentation(process, max_states=max_states)
    try:
        causal = epsilon_machine(process, max_states=max_states).num_states
    except NotClosedError:
        causal = math.inf
    return {
        "closed": presentation.closed,
        "mixed states": len(presentation) if presentation.closed else math.inf,
        "causal states": causal,
        "dimension": float(mixed_state_dimension(process, max_states=max_states)) if with_dimension else math.nan,
        "next token suffices": next_token_sufficient(process),
    }


def measure(plan: Plan, seed: int, path: Path) -> None:
    """Every kind that isn't in the table yet; the table is written after each."""
    rows = [row | {"zeros": str(row["zeros"])} for row in load_table(path)]
    done = {(row["states"], row["tokens"], row["zeros"], row["seed"]) for row in rows}
    missing = [cell for cell in plan.cells() if (*asdict(cell).values(), seed) not in done]
    with progress("{task.completed}/{task.total}") as bar:
        task = bar.add_task("machines", total=len(missing) * plan.machines)
        for cell in missing:
            generator = torch.Generator().manual_seed(seed + hash_of(cell))
            for number in range(plan.machines):
                found = examine(draw(cell, generator), plan.max_states, number < plan.with_dimension)
                rows.append(asdict(cell) | {"seed": seed} | found)
                bar.advance(task)
            save_table(rows, path)


def hash_of(cell: Cell) -> int:
    """A seed of its own for every kind, whichever are measured before."""
    return 1_000_003 * cell.states + 10_007 * cell.tokens + sum(map(ord, cell.zeros))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share, after Wilson (1927), J. Am. Stat. Assoc. 22, 209."""
    share, width = hits / count, Z**2 / count
    centre = (share + width / 2) / (1 + width)
    half = math.sqrt(share * (1 - share) * width + width**2 / 4) / (1 + width)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per kind: shares with their intervals, and quartiles of the dimension."""
    lines = []
    for (states, tokens, zeros), part in rows.groupby(["states", "tokens", "zeros"], sort=False):
        infinite = np.isinf(part["causal states"])
        asked = part.dimension.notna()
        questions = {
            "closed": part.closed,
            "finite": ~infinite,
            "sufficient": part["next token suffices"],
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


def table(lines: pd.DataFrame) -> pd.DataFrame:
    """The summary, for reading."""

    def percent(question: str) -> list[str]:
        triples = lines[[question, f"{question} low", f"{question} high"]].to_numpy()
        return [f"{100 * share:.0f} ({100 * low:.0f} to {100 * high:.0f})" for share, low, high in triples]

    quartiles = lines[["dimension", "dimension low", "dimension high"]].to_numpy()
    return pd.DataFrame(
        {
            "states": lines.states,
            "tokens": lines.tokens,
            "zeros": lines.zeros,
            "machines": lines.machines,
            "mixed states close, %": percent("closed"),
            "finitely many causal states, %": percent("finite"),
            "asked for the dimension": lines.asked,
            "fractal, %": percent("fractal"),
            "infinitely many, of dimension 0, %": percent("countable"),
            "dimension: median (middle half)": [
                "" if math.isnan(middle) else f"{middle:.2f} ({low:.2f} to {high:.2f})"
                for middle, low, high in quartiles
            ],
            "next-token law gives the belief away, %": percent("sufficient"),
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


def report(folder: Path) -> None:
    """Tables and figure of what has been measured."""
    rows = pd.DataFrame(load_table(folder / "machines.csv")).astype({"zeros": str})
    lines = summary(rows)
    save_table(lines.to_dict("records"), folder / "random_processes.csv")
    text = markdown(table(lines))
    with whole(folder / "random_processes.md") as temporary:
        temporary.write_text(text)
    figure(lines, folder / "random_processes.png")
    print(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, then write and print the table and draw the figure."""
    parser = argparse.ArgumentParser("python -m comparisons.random_processes", description=__doc__.split("\n\n")[1])
    parser.add_argument(
        "--out", type=Path, default=Path("runs/random_processes"), help="folder; default runs/random_processes"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the machines; default 0")
    parser.add_argument("--smoke", action="store_true", help="a few small machines")
    parser.add_argument("--replot", action="store_true", help="table and figure anew from what was measured")
    options = parser.parse_args(arguments)
    folder = options.out / "smoke" if options.smoke else options.out
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if not options.replot:
        measure(SMOKE if options.smoke else Plan(), options.seed, folder / "machines.csv")
    elif not (folder / "machines.csv").is_file():
        parser.error(f"there is nothing measured in {folder}")
    report(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
