"""Do trained networks encode the belief beyond every control? ``python -m comparisons.verdicts``

The models of `pcnet compare` at the site that was fixed before training, and the instrument's answer: yes, no or not decidable
here. Beside the exact next-token law, tables of the last tokens, additive history, constrained belief and the model's own
softmax, every model is ranked among untrained copies of itself and among untrained recurrent networks of its width.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from comparisons.checkpoints import Trained, trained, untrained
from comparisons.kept import markdown, progress, save_table, whole
from pcnet import processes
from pcnet.cli import smoke
from pcnet.probing import Subject, verdict
from pcnet.probing.banks import Bank, default_banks
from pcnet.probing.walk import walk
from pcnet.processes import Words

CONFIGS = {"rrxor": 10, "mess3": 6}
"""Configurations, and the longest words that are probed."""
MODELS = ("transformer", "gru", "temporal_pc", "temporal_pc_nudged", "temporal_pc_local")
COPIES = 19
"""Untrained copies: as few as can give p = .05."""


def states(model: Trained, site: str, rows: Words) -> tuple[torch.Tensor, torch.Tensor]:
    """What the site holds after every word, and the logits."""
    seen = walk(model.predictor, rows, site)
    return seen.features(site), seen.logits


def asked(config: str, name: str, model: Trained, rows: Words, runs: Path, seed: int) -> pd.DataFrame:
    """The answer for one model, a row for each control."""
    process, site = model.comparison.process, model.comparison.sites[name].headline
    features, logits = states(model, site, rows)
    copies = [states(untrained(config, name, 100 + number, runs), site, rows)[0] for number in range(COPIES)]
    banks = (
        *default_banks(rows, features.shape[1], process.num_states, process.vocab_size, seed=seed),
        Bank("untrained copies", copies),
    )
    found = verdict({site: features}, Subject(process, rows, rows.filtered, logits=logits), banks, seed=seed)
    print(f"\n{config}, {name}\n{found}", flush=True)
    return found.table().assign(config=config, model=name)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A line per model: the answer, the largest p value and the least gain, each with the control that gives it."""
    lines = []
    for (config, model), rows in table.groupby(["config", "model"], sort=False):
        line = {"process": config, "model": model, "site": rows["site"].iloc[0], "answer": rows["answer"].iloc[0]}
        known = rows.loc[rows["population_r2"].idxmax()]
        if rows["p_value"].notna().any():
            worst, least = rows.loc[rows["p_value"].idxmax()], rows.loc[rows["gain"].idxmin()]
            line |= {"largest p": f"{worst['p_value']:.3f} ({worst['control']})"}
            line |= {"least gain": f"{least['gain']:+.3f} ({least['control']})"}
        line |= {"strongest control explains": f"{known['population_r2']:.3f} ({known['control']})"}
        lines.append(line | {"words": rows["rows"].iloc[0], "n_eff": f"{rows['n_eff'].iloc[0]:.0f}"})
    return pd.DataFrame(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask what wasn't asked yet, then print the table."""
    parser = argparse.ArgumentParser("python -m comparisons.verdicts", description=__doc__.split("\n\n")[1])
    parser.add_argument("--out", type=Path, default=Path("runs/verdicts"), help="default runs/verdicts")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs of pcnet compare lie; default runs")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default all")
    parser.add_argument("--seed", type=int, default=0, help="of permutations and banks; default 0")
    parser.add_argument("--smoke", action="store_true", help="one hardly trained model, short words")
    parser.add_argument("--replot", action="store_true", help="the table anew; nothing is computed")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = options.out / "smoke" if options.smoke else options.out
    runs, models = (folder / "runs", ["gru"]) if options.smoke else (options.runs, options.models)
    folder.mkdir(parents=True, exist_ok=True)
    configs = ["rrxor"] if options.smoke else list(CONFIGS)
    wanted = [] if options.replot else [(config, model) for config in configs for model in models]
    missing = [pair for pair in wanted if not (folder / f"{'-'.join(pair)}.csv").is_file()]
    with progress("{task.completed}/{task.total}") as bar:
        task = bar.add_task("models", total=len(missing))
        for config, name in missing:
            model = trained(config, [name], [0], runs, smoke if options.smoke else None)[name, 0]
            rows = processes.words(model.comparison.process, 5 if options.smoke else CONFIGS[config])
            found = asked(config, name, model, rows, runs, options.seed)
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
