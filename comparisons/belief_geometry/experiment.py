"""The jobs of ``comparisons.belief_geometry``, its tables and its report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import pandas as pd

from comparisons.belief_geometry import figures, measures, tables
from comparisons.checkpoints import MODELS
from comparisons.every_site import Case, EverySite
from comparisons.kept import markdown
from pcnet.experiments import ConfigError, Job, Report, RunFolder, Schema, Tables
from pcnet.files import save_arrays

SCORES = "site:text part:text iteration:text target:text weights:text r2 rmse n_eff rows features r2_low r2_high"


@dataclass(frozen=True)
class BeliefGeometry(EverySite):
    """Belief geometry, layer by layer and iteration by iteration.

    The models of `pcnet compare` on zrr, rrxor and Mess3: at every residual stream, hidden state, level and inference
    iteration, how much of the belief a linear probe reads on held-out words, beside untrained copies, shuffled beliefs and the
    next-token law; when in training it came; distances, Procrustes residual and dimension of what it decodes; and how much
    of it is recovered from activations and the model's own predictions without knowing the process.

    Args:
        processes: configurations of `pcnet compare`, each with the longest word that is probed.
        ahead: tokens that the decoder without ground truth looks ahead, for each process.
        models: of each configuration.
        seeds: of training.
        copies: untrained copies of each model, with seeds 0, 1, ...
        runs: where runs of `pcnet compare` lie; null is a folder inside this run's own, with hardly trained models.
    """

    processes: dict[str, int] = field(default_factory=lambda: {"zrr": 10, "rrxor": 10, "mess3": 7})
    ahead: dict[str, int] = field(default_factory=lambda: {"zrr": 4, "rrxor": 4, "mess3": 2})
    models: list[str] = field(default_factory=lambda: list(MODELS))
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    copies: int = 3
    runs: str | None = "runs"

    name: ClassVar[str] = "belief_geometry"
    schema = Schema(
        places=f"process:text model:text copy:text seed {SCORES}",
        learning=f"process:text model:text seed step {SCORES}",
        shapes=f"process:text model:text copy:text seed decoder:text {' '.join(measures.SHAPE[1:])}",
        references="process:text reference:text value",
    )
    smoke: ClassVar = {
        "models": ["gru", "temporal_pc"],
        "processes": {"rrxor": 5},
        "ahead": {"rrxor": 2},
        "seeds": [0],
        "runs": None,
    }

    def __post_init__(self) -> None:
        if missing := self.processes.keys() - self.ahead.keys():
            raise ConfigError(f"ahead: must name every process, {min(missing)} is missing")

    def jobs(self) -> Sequence[Job]:
        learning = [
            Job(f"learning-{process}-{model}-{seed}", partial(self.learning, process, model, seed))
            for process in self.processes
            for model in self.models
            for seed in self.seeds
        ]
        references = [Job(f"references-{process}", partial(self.references, process)) for process in self.processes]
        return [*super().jobs(), *learning, *references]

    def measure(self, case: Case, files: Path) -> Tables:
        shapes, arrays = measures.shapes(case, self.ahead[case.models.config])
        save_arrays(figures.arrays_file(files, case.models.config, case.model, case.copy, case.seed), **arrays)
        return {"places": measures.scores(case), "shapes": shapes}

    def learning(self, process: str, model: str, seed: int, files: Path, told: Report) -> Tables:
        """When in its training a model came to hold the belief."""
        table = measures.learning(self.case(process, model, "trained", seed, files))
        return {"learning": table.assign(process=process, model=model, seed=seed)}

    def references(self, process: str, files: Path, told: Report) -> Tables:
        """What the scores of a process's models are compared with."""
        case = self.case(process, self.models[0], "trained", self.seeds[0], files)
        return {"references": pd.DataFrame(measures.references(case)).assign(process=process)}

    def report(self, folder: RunFolder) -> str:
        places, shapes, learned, known = map(folder.table, ("places", "shapes", "learning", "references"))
        figures.draw(places, known, folder.path / "belief_geometry.png")
        figures.draw_learning(learned, known, folder.path / "learning.png")
        figures.draw_shapes(shapes, folder.path)
        found = [tables.summary(places, shapes), tables.differences(places), known.round(4)]
        return "\n".join(markdown(one) for one in found if len(one))
