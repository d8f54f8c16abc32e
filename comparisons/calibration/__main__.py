"""Planted answers, and how often the verdict errs. ``python -m comparisons.calibration``

Features of which the right answer is known are planted on rrxor (two parameters), zrr and leaky rrxor: 500 without belief in
six classes, 500 with a belief beside its controls at stated ratios of signal to noise, more of them weaker, some in which the
belief is present but not linear, and some on processes where a control determines the belief. Shown: error rates and power of
the verdict "encodes the belief beyond its controls" with Wilson intervals, and how often the intervals of sampled rows hold the
score on a million fresh rows.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from comparisons.calibration import cases, coverage, tables
from comparisons.calibration.picture import draw
from comparisons.kept import load_table, markdown, progress, save_table, whole

BATCHES = 24
"""Of 25 samples, for each kind of sample: 600 intervals each."""


def measure(folder: Path, smoke: bool, seed: int, jobs: int) -> None:
    """Every case and every sample that isn't in the tables yet; they are written as results come."""
    plan = cases.SMOKE if smoke else cases.Plan()
    judged, tried = load_table(folder / "cases.csv"), load_table(folder / "samples.csv")
    done = {row["number"] for row in judged}
    kinds, batches = (coverage.SAMPLES[:1], 1) if smoke else (coverage.SAMPLES, BATCHES)
    keys = {(*(row[name] for name in coverage.Sample.__dataclass_fields__), row["number"]) for row in tried}
    parts = (
        ("cases", judged, cases.run(plan, seed, done, jobs), len(plan.cases()) - len(done)),
        ("samples", tried, coverage.run(kinds, batches, seed, keys, jobs), len(kinds) * batches * 25 - len(tried)),
    )
    with progress("{task.completed}/{task.total}") as bar:
        for name, rows, found, total in parts:
            task = bar.add_task(name, total=total)
            for part in found:
                rows += part
                save_table(rows, folder / f"{name}.csv")
                bar.advance(task, len(part))


def report(folder: Path) -> None:
    """Tables and figure of what has been measured."""
    rows, samples = (pd.read_csv(folder / f"{name}.csv") for name in ("cases", "samples"))
    text = "\n".join(tables.bounds(rows, samples)) + "\n\n" + "\n".join(map(markdown, readable(rows, samples)))
    with whole(folder / "calibration.md") as temporary:
        temporary.write_text(text)
    draw(rows, samples, folder / "calibration.png")
    print(text)


def readable(rows: pd.DataFrame, samples: pd.DataFrame) -> list[pd.DataFrame]:
    """The tables: negatives by class, positives by strength and by setting, coverage."""
    wrong = tables.errors(rows)
    own = tables.percent(wrong, ("own control rejects", "own low", "own high"))
    extra = [f"{p:.2g}" for p in wrong["excess p"]]
    negatives = pd.DataFrame(
        {
            "negatives": wrong["cases"],
            "cases": wrong["count"],
            "called yes": wrong["yes"],
            "% (95 % interval)": tables.percent(wrong),
            "p of more than 5 %": extra,
            "its own control's test rejects, %": own,
        }
    )
    shares = {
        "strength (belief / noise)": tables.power(rows),
        f"strength {min(cases.STRENGTHS):g} or more": tables.by_setting(rows),
        "sampled rows": tables.coverage(samples),
    }
    answers = ("found", "found", "hold the fresh score")
    others = [
        pd.DataFrame(
            {
                name: lines["cases"],
                "cases": lines["count"],
                answer: lines["yes"],
                "% (95 % interval)": tables.percent(lines),
            }
        )
        for (name, lines), answer in zip(shares.items(), answers)
    ]
    return [negatives, *others]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, then write and print the tables and draw the figure."""
    parser = argparse.ArgumentParser("python -m comparisons.calibration", description=__doc__.split("\n\n")[1])
    parser.add_argument("--out", type=Path, default=Path("runs/calibration"), help="folder; default runs/calibration")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn; default 0")
    parser.add_argument("--jobs", type=int, default=2, help="processes; default 2")
    parser.add_argument("--smoke", action="store_true", help="a few cases and samples, in this process")
    parser.add_argument("--replot", action="store_true", help="tables and figure anew from what was measured")
    options = parser.parse_args(arguments)
    folder = options.out / "smoke" if options.smoke else options.out
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if not options.replot:
        measure(folder, options.smoke, options.seed, 1 if options.smoke else options.jobs)
    elif not all((folder / f"{name}.csv").is_file() for name in ("cases", "samples")):
        parser.error(f"there is nothing measured in {folder}")
    report(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
