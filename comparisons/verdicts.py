"""Do trained networks encode the belief beyond every control? ``python -m comparisons.verdicts``"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import pandas as pd

from comparisons.checkpoints import AboutTrainedModels
from comparisons.kept import markdown
from pcnet.experiments import Job, Report, RunFolder, Schema, Tables, command
from pcnet.experiments.beliefs import Examination


@dataclass(frozen=True)
class Verdicts(AboutTrainedModels):
    """Do trained networks encode the belief beyond every control?

    The models of `pcnet compare` at the site that was fixed before training, and the instrument's answer: yes, no or not
    decidable here. Beside the exact next-token law, tables of the last tokens, additive history, constrained belief and the
    model's own softmax, every model is ranked among untrained copies of itself and among untrained recurrent networks of its
    width.

    Args:
        seed: of permutations and banks.
        copies: untrained copies of each model; the least p value that n allow is 1 / (n + 1).
    """

    processes: dict[str, int] = field(default_factory=lambda: {"zrr": 10, "rrxor": 10, "mess3": 6})
    seed: int = 0
    copies: int = 39

    name: ClassVar[str] = "verdicts"
    schema = Schema(
        verdicts="process:text model:text seed site:text answer:text probe:text control:text gain p_value population_r2 "
        "rows n_eff features departures:text"
    )
    smoke: ClassVar = {"models": ["gru"], "processes": {"rrxor": 5}, "seeds": [0], "runs": None}

    def jobs(self) -> Sequence[Job]:
        return [Job("-".join(pair), partial(self.ask, *pair)) for pair in self.pairs]

    def ask(self, process: str, model: str, files: Path, told: Report) -> Tables:
        """The answers for one model by training seed, a row for each control; what doesn't depend on training is done once."""
        models = self.trained_models(process, files)
        exam = Examination.of(models.comparison.process, self.processes[process])
        found = models.comparison.verdicts(model, self.seeds, models.folder, exam, self.copies, self.seed)
        return {"verdicts": found.assign(process=process)}

    def said(self, part: str, tables: Tables) -> str:
        return f"{part}: {answers_by_seed(tables['verdicts'])}"

    def report(self, folder: RunFolder) -> str:
        return markdown(summary(folder.table("verdicts")))


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
