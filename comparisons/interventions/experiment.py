"""The jobs of ``comparisons.interventions``, its tables and its report."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import pandas as pd

from comparisons.checkpoints import AboutTrainedModels
from comparisons.interventions.bench import LeftOutError, ablate_place, measure_place
from comparisons.interventions.drawing import figure
from comparisons.interventions.plan import Plan, places
from comparisons.interventions.tables import table
from comparisons.kept import markdown
from comparisons.model_pictures import by_model
from pcnet.experiments import Job, Report, RunFolder, Schema, Tables
from pcnet.predictor import Predictor
from pcnet.processes import words
from pcnet.sites import Iterates

WHERE = "process:text model:text place:text"


@dataclass(frozen=True)
class Interventions(AboutTrainedModels):
    """Do beliefs move predictions?

    The state of a trained model after one history is moved to the belief of another, and the change of what the model says
    about the next 1 to 5 tokens is compared with the exact law of the new belief. Which directions hold the belief is learned
    on other words: on those that begin with a history of the other half or, of processes with fewer than 200 histories, with
    neither of the pair's two. A transformer's state is its residual stream after the middle block at all positions of the
    history, with the keys and values up to there; moved at the last position only, beside it. A recurrent network's is what it
    carries. A predictive-coding network's values are clamped at the edited value, level by level while the others relax again,
    or all at once.

    R2 is 1 for the exact change and 0 for none. Controls move as far in 20 random subspaces, to a shuffled belief, in the
    subspace that holds the next-token law until a probe reads that of the new belief (the same fit, another target), or until
    the model's own next-token law is that. Intervals (95 %) resample histories. Pairs whose edited state has no equilibrium
    after one move or another are dropped from all moves and counted; with more than a fifth of them the place is left out by
    name.

    Args:
        plan: how much is measured.
        seed: of pairs and subspaces.
    """

    processes: dict[str, int] = field(default_factory=lambda: {"mess3": 8, "rrxor": 8})
    plan: Plan = field(default_factory=Plan)
    seed: int = 0

    name: ClassVar[str] = "interventions"
    seeds: ClassVar[list[int]] = [0]
    schema = Schema(
        moves=f"{WHERE} pairs:text edit:text number dose horizon r2 low high realised count unsettled learned_from",
        ablations=f"{WHERE} ablated:text divergence count",
        left_out=f"{WHERE} reason:text",
    )
    smoke: ClassVar = {
        "processes": {"mess3": 4},
        "models": ["transformer", "gru", "temporal_pc"],
        "plan": {
            **{"history": 3, "horizon": 2, "shortest": 1, "pairs": 6, "enough": 20},
            **{"doses": [0.5, 1.0], "subspaces": 2, "subspaces_by_dose": 1},
        },
        "runs": None,
    }

    def jobs(self) -> Sequence[Job]:
        return [Job("-".join(pair), partial(self.move, *pair)) for pair in self.pairs]

    def move(self, process: str, model: str, files: Path, told: Report) -> Tables:
        """Measure every place of a model, in double precision; a place where too many states don't settle is left out."""
        models = self.trained_models(process, files)
        population = words(models.comparison.process, self.processes[process])
        known = places(on_moving_rows(models.trained(model, *self.seeds).double()))
        found: dict[str, list[dict]] = {name: [] for name in self.schema}
        for done, (name, place) in enumerate(known.items()):
            told(done, len(known), None)
            plan, subject = self.plan.at(name), (models.comparison.process, place, population)
            try:
                rows = {
                    "moves": measure_place(*subject, plan, self.seed),
                    "ablations": ablate_place(*subject, plan, self.seed),
                }
            except LeftOutError as error:
                rows = {"left_out": [{"reason": str(error)}]}
            for kind, lines in rows.items():
                found[kind] += [{"process": process, "model": model, "place": name} | line for line in lines]
        return {name: pd.DataFrame(rows) for name, rows in found.items() if rows}

    def report(self, folder: RunFolder) -> str:
        moves, ablations, left_out = (by_model(folder.table(name)) for name in self.schema)
        figure(moves, folder.path / "interventions.png")
        text = markdown(table(moves, ablations))
        return text + "\nLeft out:\n\n" + markdown(left_out) if len(left_out) else text


def on_moving_rows(model: Predictor) -> Predictor:
    """A network that infers computes on the rows that still move alone: the same values to rounding, in a third of the time."""
    if isinstance(model, Iterates):
        model.inference = replace(model.inference, compact=True)
    return model
