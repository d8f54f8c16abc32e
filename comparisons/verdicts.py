"""Do trained networks encode the belief beyond every control? ``python -m comparisons.verdicts``

The models of `pcnet compare` at the site that was fixed before training, and the instrument's answer: yes, no or not decidable
here. Beside the exact next-token law, tables of the last tokens, additive history, constrained belief and the model's own
softmax, every model is ranked among untrained copies of itself and among untrained recurrent networks of its width.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from comparisons.checkpoints import Trained, trained, untrained
from comparisons.kept import markdown, progress, save_table, whole
from pcnet import processes
from pcnet.cli.verbs import smoke
from pcnet.probing import Subject
from pcnet.probing.controls.banks import ControlBank, DefaultBanks
from pcnet.probing.controls.tested import softmax_test
from pcnet.probing.rows.prefix_walk import walk
from pcnet.probing.verdict.examination import Examination
from pcnet.probing.verdict.judgement import examine
from pcnet.processes import Words

CONFIGS = {"zrr": 10, "rrxor": 10, "mess3": 6}
"""Configurations, and the longest words that are probed."""
MODELS = ("transformer", "gru", "temporal_pc", "temporal_pc_nudged", "temporal_pc_local")
SEEDS = (0, 1, 2)
"""Of training."""
COPIES = 39
"""Untrained copies; the least p value that they allow is .025."""


def states(model: Trained, site: str, rows: Words) -> tuple[torch.Tensor, torch.Tensor]:
    """What the site holds after every word, and the logits."""
    seen = walk(model.predictor, rows, site)
    return seen.features(site), seen.logits


def asked(config: str, name: str, models: dict[int, Trained], rows: Words, runs: Path, seed: int) -> pd.DataFrame:
    """The answers for one model by training seed, a row for each control; what doesn't depend on training is done once."""
    first = next(iter(models.values()))
    process, site = first.comparison.process, first.comparison.sites[name].headline
    exam = Examination.of(Subject(process, rows, rows.filtered))
    if exam.decidable:
        copies = [states(untrained(config, name, 100 + number, runs), site, rows)[0] for number in range(COPIES)]
        banks = DefaultBanks(seed=seed).banks(exam.subject, site, copies[0].shape[1])
        exam = replace(exam, banks=tuple(map(exam.score, (*banks, ControlBank("untrained copies", copies)))))
    tables = []
    for number, model in models.items():
        features, logits = states(model, site, rows)
        control = softmax_test(replace(exam.subject, logits=logits))
        found = examine(exam, {site: features.double().numpy()}, (control,), seed=seed)
        print(f"\n{config}, {name}, training seed {number}\n{found}", flush=True)
        tables.append(found.table().assign(config=config, model=name, seed=number))
    return pd.concat(tables)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A line per model: the answer of each training seed, the largest p value and the least gain, each with its control."""
    lines = []
    for (config, model), rows in table.groupby(["config", "model"], sort=False):
        line = {"process": config, "model": model, "site": rows["site"].iloc[0]}
        line |= {"answers by training seed": ", ".join(rows.groupby("seed")["answer"].first())}
        known = rows.loc[rows["population_r2"].idxmax()]
        if rows["p_value"].notna().any():
            worst = [part.loc[part["p_value"].idxmax()] for _, part in rows.groupby("seed")]
            least = rows.loc[rows["gain"].idxmin()]
            line |= {"largest p of each": ", ".join(f"{row['p_value']:.3f} ({row['control']})" for row in worst)}
            line |= {"least gain": f"{least['gain']:+.3f} ({least['control']})"}
        line |= {"strongest control explains": f"{known['population_r2']:.3f} ({known['control']})"}
        lines.append(line | {"words": rows["rows"].iloc[0], "n_eff": f"{rows['n_eff'].iloc[0]:.0f}"})
    return pd.DataFrame(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask what wasn't asked yet, then print the table."""
    parser = argparse.ArgumentParser("python -m comparisons.verdicts", description=__doc__.split("\n\n")[1])
    parser.add_argument("--out", type=Path, default=Path("runs/verdicts"), help="default runs/verdicts")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs of pcnet compare lie; default runs")
    parser.add_argument("--processes", nargs="+", choices=list(CONFIGS), default=list(CONFIGS), help="default all")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="of training; default 0 1 2")
    parser.add_argument("--seed", type=int, default=0, help="of permutations and banks; default 0")
    parser.add_argument("--smoke", action="store_true", help="one hardly trained model, short words")
    parser.add_argument("--replot", action="store_true", help="the table anew; nothing is computed")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = options.out / "smoke" if options.smoke else options.out
    runs, models = (folder / "runs", ["gru"]) if options.smoke else (options.runs, options.models)
    folder.mkdir(parents=True, exist_ok=True)
    configs, seeds = (["rrxor"], [0]) if options.smoke else (options.processes, options.seeds)
    wanted = [] if options.replot else [(config, model) for config in configs for model in models]
    missing = [pair for pair in wanted if not (folder / f"{'-'.join(pair)}.csv").is_file()]
    with progress("{task.completed}/{task.total}") as bar:
        task = bar.add_task("models", total=len(missing))
        for config, name in missing:
            ready = trained(config, [name], seeds, runs, smoke if options.smoke else None)
            models = {seed: ready[name, seed] for seed in seeds}
            rows = processes.words(models[seeds[0]].comparison.process, 5 if options.smoke else CONFIGS[config])
            found = asked(config, name, models, rows, runs, options.seed)
            save_table(found.to_dict("records"), folder / f"{config}-{name}.csv")
            bar.advance(task)
    parts = sorted(folder.glob("*-*.csv"))
    if not parts:
        parser.error(f"nothing has been measured in {folder}")
    text = markdown(summary(pd.concat([pd.read_csv(path) for path in parts], ignore_index=True)))
    with whole(folder / "verdicts.md") as path:
        path.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
