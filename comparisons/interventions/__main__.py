"""Do beliefs move predictions? ``python -m comparisons.interventions``

The state of a trained model after one history is moved to the belief of another, and the change of what the model says about
the next 1 to 5 tokens is compared with the exact law of the new belief. Which directions hold the belief is learned on other
words: on those that begin with a history of the other half or, of processes with fewer than 200 histories, with neither of the
pair's two. A transformer's state is its residual stream after the middle block at all positions of the history, with the keys and
values up to there; moved at the last position only, beside it. A recurrent network's is what it carries. A predictive-coding
network's values are clamped at the edited value, level by level while the others relax again, or all at once.

R2 is 1 for the exact change and 0 for none. Controls move as far in 20 random subspaces, to a shuffled belief, in the subspace
that holds the next-token law until a probe reads that of the new belief (the same fit, another target), or until the model's own
next-token law is that. Intervals (95 %) resample histories. Pairs whose edited state has no equilibrium after one move or another
are dropped from all moves and counted; with more than a fifth of them the place is left out by name.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from comparisons.interventions.drawing import figure
from comparisons.interventions.measure import ABLATIONS, LEFT_OUT, MOVES, measure
from comparisons.interventions.plan import SMOKE, Plan
from comparisons.interventions.tables import table
from comparisons.kept import load_table, markdown, save_table, whole


def report(folder: Path) -> None:
    """Table and figure of what has been measured."""
    rows, losses = (pd.DataFrame(load_table(folder / name)) for name in (MOVES, ABLATIONS))
    lines = table(rows, losses)
    save_table(lines.to_dict("records"), folder / "interventions.csv")
    text = markdown(lines)
    if left_out := load_table(folder / LEFT_OUT):
        text += "\nLeft out:\n\n" + markdown(pd.DataFrame(left_out))
    with whole(folder / "interventions.md") as temporary:
        temporary.write_text(text)
    figure(rows, folder / "interventions.png")
    print(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, then write and print the table and draw the figure."""
    parser = argparse.ArgumentParser("python -m comparisons.interventions", description=__doc__.split("\n\n")[1])
    parser.add_argument("--out", type=Path, default=Path("runs/interventions"), help="default runs/interventions")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of pcnet compare's runs; default runs")
    parser.add_argument("--seed", type=int, default=0, help="of pairs and subspaces; default 0")
    parser.add_argument("--smoke", action="store_true", help="tiny models, a few pairs")
    parser.add_argument("--replot", action="store_true", help="table and figure anew from what was measured")
    options = parser.parse_args(arguments)
    folder = options.out / "smoke" if options.smoke else options.out
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if not options.replot:
        runs = folder / "runs" if options.smoke else options.runs
        measure(SMOKE if options.smoke else Plan(), runs, folder, options.seed)
    elif not (folder / ABLATIONS).is_file():
        parser.error(f"there is nothing measured in {folder}")
    report(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
