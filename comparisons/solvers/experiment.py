"""The comparison of solvers: which problems, what is kept of each, and the report."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch

from comparisons.kept import markdown
from comparisons.solvers.picture import draw
from comparisons.solvers.points import DIGITS, LINEAR, Point, make
from comparisons.solvers.race import DEMANDED, measure
from comparisons.solvers.tables import exceptions, standing, summary
from pcnet.experiments import Experiment, Job, Report, RunFolder, Schema, Tables

WITHOUT_TANH = Point(LINEAR, 20, 64, 64)


@dataclass(frozen=True)
class Solvers(Experiment):
    """Which solver reaches the equilibrium first?

    tanh networks 64 - width x depth - 10 with input and target held, and a linear one, in float32 on one thread. Every
    solver starts at the feedforward sweep and runs until every node group of every row lies within 1e-4 (rms) of an
    equilibrium found in float64. Descents in values and in errors, with and without momentum, are tuned by an oracle: of a
    grid around what the curvature suggests, the setting that arrives first. The rule that makes a solver the default: it
    converges at every point, and of those that set themselves it is the first at most of them. Those close to it are timed
    in turns with it; a ratio whose quartiles hold 1 is a tie.

    Args:
        weights: kinds of weights: "gain 1.2", say, are random ones of that gain, "digits" are trained on digits.
        depths: layers of weights.
        widths: of hidden nodes.
        batches: rows.
        linear: one more problem, without tanh.
        repeats: rounds in which solvers close to the default are timed again.
        training_steps: batches that the networks trained on digits have learned from.
        patience: a solver is stopped after so many times the default's time at the latest; above 1.
    """

    weights: tuple[str, ...] = ("gain 0.9", "gain 1.0", "gain 1.2", DIGITS)
    depths: tuple[int, ...] = (5, 10, 20, 40)
    widths: tuple[int, ...] = (64, 256)
    batches: tuple[int, ...] = (1, 64)
    linear: Point = WITHOUT_TANH
    repeats: int = 9
    training_steps: int = 150
    patience: float = 22.0

    name: ClassVar[str] = "solvers"
    schema = Schema(
        times="depth width weights:text batch solver:text arrived:flag milliseconds iterations distance elsewhere "
        "ratio ratio_low ratio_high rounds settings:text",
        courses="depth width weights:text batch solver:text iteration milliseconds distance",
    )
    smoke: ClassVar[dict] = dict(
        weights=["gain 1.0", DIGITS],
        depths=[3],
        widths=[16],
        batches=[4],
        linear=dict(weights=LINEAR, depth=3, width=16, batch=4),
        repeats=3,
        training_steps=10,
    )

    def __post_init__(self) -> None:
        if not self.patience > 1:
            raise ValueError(f"patience must be above 1, got {self.patience:g}")

    @property
    def points(self) -> list[Point]:
        tanh = [
            Point(weights, depth, width, batch)
            for depth in self.depths
            for width in self.widths
            for weights in self.weights
            for batch in self.batches
        ]
        return [*tanh, self.linear]

    def jobs(self) -> list[Job]:
        return [Job(point.part, partial(self.race, point), alone=True) for point in self.points]

    def race(self, point: Point, files: Path, told: Report) -> Tables:
        """Time every solver at one point, on one thread."""
        widest = point.depth == DEMANDED and (point.width, point.batch) == (max(self.widths), max(self.batches))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            times, courses = measure(point, make(point, self.training_steps), self.patience, self.repeats, widest)
        finally:
            torch.set_num_threads(threads)
        return {"times": pd.DataFrame(times), "courses": pd.DataFrame(courses)}

    def report(self, folder: RunFolder) -> str:
        measured = [point.part for point in self.points if folder.has(point.part)]
        if not measured:
            return "Nothing has been measured yet."
        times, courses = (pd.concat([folder.part(part, name) for part in measured]) for name in self.schema)
        draw(courses.reset_index(drop=True), folder.path / "solvers.png")
        return "\n".join([markdown(summary(times)), markdown(standing(times).round(3)), exceptions(times)])
