"""The experiment: cases to judge, samples to try, and the report."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import pandas as pd

from comparisons.calibration import tables
from comparisons.calibration.cases import Case, Plan, judge, prepare
from comparisons.calibration.coverage import SAMPLES, Sample, try_intervals
from comparisons.calibration.picture import draw
from comparisons.kept import markdown
from pcnet.experiments import Experiment, Job, Report, RunFolder, Schema, Tables

CASES, BATCHES = 60, 6
"""Of one job."""


@dataclass(frozen=True)
class Calibration(Experiment):
    """Planted answers, and how often the verdict errs.

    Features of which the right answer is known are planted on rrxor (two parameters), zrr and leaky rrxor: 500 without belief in
    six classes, 500 with a belief beside its controls at stated ratios of signal to noise, more of them weaker, some in which
    the belief is present but not linear, and some on processes where a control determines the belief. Shown: error rates and
    power of the verdict "encodes the belief beyond its controls" with Wilson intervals, and how often the intervals of sampled
    rows hold the score on a million fresh rows.

    Args:
        plan: how many cases, and where.
        samples: kinds of samples whose intervals are tried: process, length, width, strength and sequences of each.
        batches: of 25 samples of each kind.
        seed: of everything that is drawn.
    """

    plan: Plan = field(default_factory=Plan)
    samples: list[tuple[str, int, int, float, int]] = field(default_factory=lambda: list(map(astuple, SAMPLES)))
    batches: int = 24
    seed: int = 0

    name: ClassVar[str] = "calibration"
    schema = Schema(
        cases="number group:text kind:text strength process:text length width answer:text p_value hardest:text gain_over_hardest",
        tests="number control:text p_value",
        samples="number process:text length width strength sequences estimate low high fresh",
    )
    smoke: ClassVar[dict] = {
        "plan": dict(negatives=6, positives=3, weaker=1, beyond=1, undecidable=2, pool=19, settings=[["rrxor", 7, 8]]),
        "samples": [["rrxor", 10, 16, 4.0, 60]],
        "batches": 1,
    }

    def jobs(self) -> list[Job]:
        cases, jobs = self.plan.cases(), []
        for setting in dict.fromkeys(case.setting for case in cases):
            own, name = (
                [case for case in cases if case.setting == setting],
                "-".join(map(str, setting)).replace(" ", "_"),
            )
            jobs += [
                Job(f"cases-{name}-{start:03}", partial(self.verdicts, own[start : start + CASES]))
                for start in range(0, len(own), CASES)
            ]
        return jobs + [
            Job(f"samples-{kind}-{start:03}", partial(self.intervals, Sample(*sample), start))
            for kind, sample in enumerate(self.samples)
            for start in range(0, self.batches, BATCHES)
        ]

    def verdicts(self, cases: Sequence[Case], files: Path, told: Report) -> Tables:
        """Judge cases of one setting."""
        return judge(cases, prepare(cases[0].setting, self.plan.pool, self.seed), self.seed)

    def intervals(self, sample: Sample, start: int, files: Path, told: Report) -> Tables:
        """Try the intervals of samples of one kind, from a batch on."""
        batches = range(start, min(start + BATCHES, self.batches))
        rows = [row for batch in batches for row in try_intervals(sample, batch, self.seed)]
        return {"samples": pd.DataFrame(rows)}

    def report(self, folder: RunFolder) -> str:
        cases, samples = folder.table("cases").sort_values("number"), folder.table("samples")
        missing = {"negative", "positive", "undecidable"} - set(cases["group"])
        if missing or samples.empty:
            return f"Still to be measured: {', '.join(sorted(missing) or ['samples'])}."
        p_values = folder.table("tests").pivot(index="number", columns="control", values="p_value").add_prefix("p ")
        rows = cases.join(p_values, on="number")
        draw(rows, samples, folder.path / "calibration.png")
        bounds = [f"{'kept' if kept else 'NOT KEPT'}: {text}" for kept, text in tables.bounds(rows, samples)]
        return "\n".join(bounds) + "\n\n" + "\n".join(map(markdown, tables.readable(rows, samples)))
