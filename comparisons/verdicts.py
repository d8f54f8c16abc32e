"""Do trained networks encode the belief beyond every control? ``python -m comparisons.verdicts``"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch

from comparisons.checkpoints import MODELS, AboutTrainedModels, TrainedModels
from comparisons.kept import markdown
from pcnet.experiments import Job, Report, RunFolder, Schema, Tables, command
from pcnet.predictor import Predictor
from pcnet.probing import ControlBank, Examination, Subject, default_banks, examine
from pcnet.probing.controls.tested import softmax_test
from pcnet.probing.rows.prefix_walk import walk
from pcnet.processes import Words, words

FIRST_COPY = 100
"""Seed of the first untrained copy."""


@dataclass(frozen=True)
class Verdicts(AboutTrainedModels):
    """Do trained networks encode the belief beyond every control?

    The models of `pcnet compare` at the site that was fixed before training, and the instrument's answer: yes, no or not
    decidable here. Beside the exact next-token law, tables of the last tokens, additive history, constrained belief and the
    model's own softmax, every model is ranked among untrained copies of itself and among untrained recurrent networks of its
    width.

    Args:
        processes: configurations of `pcnet compare`, each with the longest word that is probed.
        models: of each configuration.
        seeds: of training.
        seed: of permutations and banks.
        copies: untrained copies of each model; the least p value that n allow is 1 / (n + 1).
        runs: where runs of `pcnet compare` lie; null is a folder inside this run's own, with hardly trained models.
    """

    processes: dict[str, int] = field(default_factory=lambda: {"zrr": 10, "rrxor": 10, "mess3": 6})
    models: list[str] = field(default_factory=lambda: list(MODELS))
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    seed: int = 0
    copies: int = 39
    runs: str | None = "runs"

    name: ClassVar[str] = "verdicts"
    schema = Schema(
        verdicts="process:text model:text seed site:text answer:text control:text gain p_value population_r2 "
        "rows n_eff features departures:text"
    )
    smoke: ClassVar = {"models": ["gru"], "processes": {"rrxor": 5}, "seeds": [0], "runs": None}

    def jobs(self) -> Sequence[Job]:
        # all training seeds of a model in one job: the untrained networks are scored once
        pairs = [(process, model) for model in reversed(self.models) for process in self.processes]
        return [Job("-".join(pair), partial(self.ask, *pair)) for pair in pairs]

    def ask(self, process: str, model: str, files: Path, told: Report) -> Tables:
        """The answers for one model by training seed, a row for each control."""
        models = self.trained_models(process, files)
        tables = []
        for number, (seed, table) in enumerate(self.answers(models, model), 1):
            told(number, len(self.seeds), None)
            tables.append(table.assign(process=process, model=model, seed=seed))
        return {"verdicts": pd.concat(tables, ignore_index=True)}

    def answers(self, models: TrainedModels, model: str) -> Iterator[tuple[int, pd.DataFrame]]:
        """Each training seed with its answer; what doesn't depend on training is done once."""
        process, site = models.comparison.process, models.comparison.sites[model].headline
        rows = words(process, self.processes[models.config])
        exam = Examination.of(Subject(process, rows, rows.filtered))
        if exam.decidable:
            seeds = range(FIRST_COPY, FIRST_COPY + self.copies)
            copies = [states(models.untrained(model, seed), site, rows)[0] for seed in seeds]
            banks = default_banks(rows, copies[0].shape[1], process.num_states, process.vocab_size, seed=self.seed)
            exam = replace(exam, banks=tuple(map(exam.score, (*banks, ControlBank("untrained copies", copies)))))
        for seed in self.seeds:
            features, logits = states(models.trained(model, seed), site, rows)
            control = softmax_test(replace(exam.subject, logits=logits))
            yield seed, examine(exam, {site: features.double().numpy()}, (control,), seed=self.seed).table()

    def said(self, part: str, tables: Tables) -> str:
        return f"{part}: {answers_by_seed(tables['verdicts'])}"

    def report(self, folder: RunFolder) -> str:
        return markdown(summary(folder.table("verdicts")))


def states(model: Predictor, site: str, rows: Words) -> tuple[torch.Tensor, torch.Tensor]:
    """What the site holds after every word, and the logits."""
    seen = walk(model, rows, site)
    return seen.features(site), seen.logits


def answers_by_seed(rows: pd.DataFrame) -> str:
    return ", ".join(rows.groupby("seed")["answer"].first())


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A line per model: the answer of each training seed, the largest p value and the least gain, each with its control."""
    lines = []
    for (process, model), rows in table.groupby(["process", "model"], sort=False):
        line = {"process": process, "model": model, "site": rows["site"].iloc[0]}
        line |= {"answers by training seed": answers_by_seed(rows)}
        known = rows.loc[rows["population_r2"].idxmax()]
        if rows["p_value"].notna().any():
            worst = [part.loc[part["p_value"].idxmax()] for _, part in rows.groupby("seed")]
            least = rows.loc[rows["gain"].idxmin()]
            line |= {"largest p of each": ", ".join(f"{row['p_value']:.3f} ({row['control']})" for row in worst)}
            line |= {"least gain": f"{least['gain']:+.3f} ({least['control']})"}
        line |= {"strongest control explains": f"{known['population_r2']:.3f} ({known['control']})"}
        lines.append(line | {"words": rows["rows"].iloc[0], "n_eff": f"{rows['n_eff'].iloc[0]:.0f}"})
    return pd.DataFrame(lines)


if __name__ == "__main__":
    sys.exit(command("comparisons.verdicts.Verdicts"))
