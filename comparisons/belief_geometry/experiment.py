"""The jobs of ``comparisons.belief_geometry``, its tables and its report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import pandas as pd

from comparisons.belief_geometry import figures, measures, tables
from comparisons.every_site import Case, EverySite, Look
from comparisons.kept import markdown
from pcnet.experiments import ConfigError, Job, Report, RunFolder, Schema, Tables
from pcnet.files import save_arrays

LOOK = "process:text model:text copy:text seed"
SCORES = "site:text part:text iteration:text target:text weights:text r2 rmse n_eff rows features r2_low r2_high headline:flag"


@dataclass(frozen=True)
class BeliefGeometry(EverySite):
    """Belief geometry, layer by layer and iteration by iteration.

    The models of `pcnet compare` on zrr, rrxor and Mess3: at every residual stream, hidden state, level and inference
    iteration, how much of the belief a linear probe reads on held-out words, beside untrained copies, shuffled beliefs and the
    next-token law; when in training it came; distances, Procrustes residual and dimension of what it decodes; and how much
    of it is recovered from activations and the model's own predictions without knowing the process.

    Args:
        ahead: tokens that the decoder without ground truth looks ahead, for each process.
    """

    processes: dict[str, int] = field(default_factory=lambda: {"zrr": 10, "rrxor": 10, "mess3": 7})
    ahead: dict[str, int] = field(default_factory=lambda: {"zrr": 4, "rrxor": 4, "mess3": 2})

    name: ClassVar[str] = "belief_geometry"
    schema = Schema(
        places=f"{LOOK} {SCORES}",
        learning=f"{LOOK} step {SCORES}",
        shapes=f"{LOOK} decoder:text {' '.join(measures.SHAPE[1:])}",
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
        trained = [Look(*pair, "trained", seed) for pair in self.pairs for seed in self.seeds]
        learning = [Job(f"learning-{which.label}", partial(self.learning, which)) for which in trained]
        references = [Job(f"references-{process}", partial(self.references, process)) for process in self.processes]
        return [*super().jobs(), *learning, *references]

    def measure(self, case: Case, files: Path) -> Tables:
        shapes, arrays = measures.shapes(case, self.ahead[case.which.process])
        save_arrays(figures.arrays_file(files, case.which), **arrays)
        return {"places": measures.scores(case), "shapes": shapes}

    def learning(self, which: Look, files: Path, told: Report) -> Tables:
        """When in its training a model came to hold the belief, as far as weights were kept."""
        case = self.case(which, files)
        checkpoints = self.trained_models(which.process, files).snapshots(which.model, which.seed)
        checkpoints |= {case.comparison.training[which.model].steps: case.predictor}
        return {"learning": measures.learning(case, checkpoints).assign(**which._asdict())}

    def references(self, process: str, files: Path, told: Report) -> Tables:
        """What the scores of a process's models are compared with."""
        case = self.case(Look(process, self.models[0], "trained", self.seeds[0]), files)
        found = pd.Series(measures.references(case), name="value").rename_axis("reference").reset_index()
        return {"references": found.assign(process=process)}

    def report(self, folder: RunFolder) -> str:
        places, shapes, learned, known = map(folder.table, ("places", "shapes", "learning", "references"))
        figures.draw(places, known, folder.path / "belief_geometry.png")
        figures.draw_learning(learned, known, folder.path / "learning.png")
        figures.draw_shapes(shapes, folder.path)
        found = [tables.summary(places, shapes), tables.differences(places), known.round(4)]
        return "\n".join(markdown(one) for one in found if len(one))
