"""The pieces of a comparison. Each runs alone in a worker and leaves one part in the run's folder."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch

from pcnet.config import Comparison, Settings, build
from pcnet.evaluation import Examination, after_iterations, process_controls, robustness, trained, untrained
from pcnet.networks import TemporalPC
from pcnet.predictor import Predictor
from pcnet.probing import Protocol
from pcnet.processes import myopic_entropies
from pcnet.records import RunFolder, Tables

Report = Callable[[int, int, float | None], None]
"""Told (step, steps, latest loss or None) while a job goes on."""

TIMING_SEED = 0


@dataclass(frozen=True)
class Job(abc.ABC):
    """One piece of work.

    Attributes:
        settings: of the run, resolved.
        folder: of the run.
    """

    settings: Settings
    folder: Path

    kind: ClassVar[str]

    @property
    @abc.abstractmethod
    def part(self) -> str:
        """Name of the part that the job leaves; the same for the same work."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Parts that must be there first."""
        return ()

    @abc.abstractmethod
    def tables(self, report: Report) -> Tables:
        """Do the work."""

    def run(self, report: Report) -> None:
        """Do the work and leave the part."""
        RunFolder(self.folder).add(self.part, self.tables(report))


@dataclass(frozen=True)
class ModelJob(Job, abc.ABC):
    """A job about one model trained with one seed."""

    model: str
    seed: int

    @property
    def part(self) -> str:
        return f"{self.kind}-{self.model}-seed{self.seed}"

    @property
    def needs(self) -> tuple[str, ...]:
        return (f"train-{self.model}-seed{self.seed}",)

    def fresh(self) -> tuple[Comparison, Predictor]:
        """The comparison with this model alone, initialised by the seed."""
        torch.manual_seed(self.seed)
        comparison = build(self.settings, self.model)
        return comparison, comparison.models[self.model]

    def trained(self) -> tuple[Comparison, Predictor]:
        from pcnet.training import load

        comparison, predictor = self.fresh()
        return comparison, load(predictor, RunFolder(self.folder).checkpoint(self.model, self.seed))


@dataclass(frozen=True)
class Train(ModelJob):
    """Train the model; an interrupted training goes on from its last checkpoint."""

    kind = "train"
    needs = ()

    def tables(self, report: Report) -> Tables:
        from pcnet.training import Session, fit

        comparison, predictor = self.fresh()
        folder = RunFolder(self.folder)
        session = Session(
            folder.checkpoint(self.model, self.seed),
            comparison.checkpoint_every,
            {step: folder.snapshot(self.model, self.seed, step) for step in comparison.snapshots},
            comparison.log_every,
            comparison.device,
            report,
        )
        training = comparison.training[self.model]
        points = fit(predictor, comparison.process, training, comparison.context, self.seed, session)
        table = pd.DataFrame(points).assign(model=self.model, seed=self.seed, floor=floor(comparison))
        return {"training": table}


@dataclass(frozen=True)
class Examine(ModelJob):
    """Score the trained model at its equilibrium."""

    kind = "examine"

    def tables(self, report: Report) -> Tables:
        comparison, predictor = self.trained()
        sites, permutations = comparison.sites[self.model], comparison.evaluation.permutations
        tables, geometry = trained(Examination.of(comparison), predictor, sites, self.seed, permutations, Protocol())
        for kind, decoded in geometry.items():
            RunFolder(self.folder).add_geometry(f"{self.model}-seed{self.seed}-{kind}", decoded=decoded)
        return {name: table.assign(model=self.model) for name, table in tables.items()}


@dataclass(frozen=True)
class Iterations(ModelJob):
    """Score a predictive-coding network that stops early at every token."""

    kind = "iterations"

    def tables(self, report: Report) -> Tables:
        comparison, predictor = self.trained()
        asked, exam = comparison.evaluation, Examination.of(comparison)
        inference = replace(predictor.inference, solver=asked.iteration_solver)
        parts = []
        for done, iterations in enumerate(asked.iterations):
            report(done, len(asked.iterations), None)
            tables, decoded = after_iterations(
                exam, predictor, comparison.sites[self.model].headline, iterations, inference
            )
            RunFolder(self.folder).add_geometry(f"{self.model}-seed{self.seed}-iteration{iterations}", decoded=decoded)
            parts.append(tables)
        joined = {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in ("probes", "excess")}
        return {name: table.assign(model=self.model, seed=self.seed) for name, table in joined.items()}


@dataclass(frozen=True)
class Robustness(ModelJob):
    """Repeat the reported numbers with another solver, other initial values and in float64."""

    kind = "robustness"

    def tables(self, report: Report) -> Tables:
        comparison, predictor = self.trained()
        solver = replace(
            predictor.inference,
            solver=comparison.evaluation.robust_solver,
            max_steps=10 * predictor.inference.max_steps,
        )
        checks = robustness(Examination.of(comparison), predictor, comparison.sites[self.model].headline, solver)
        return {"checks": checks.assign(model=self.model, seed=self.seed)}


@dataclass(frozen=True)
class Cost(ModelJob):
    """Measure what an answer costs; nothing else should run meanwhile."""

    kind = "cost"

    def tables(self, report: Report) -> Tables:
        from pcnet.efficiency import Bench, measure

        comparison, predictor = self.trained()
        asked = comparison.evaluation
        bench = Bench(torch.get_num_threads(), comparison.device, TIMING_SEED, min_seconds=asked.timing_seconds)
        costs = measure(self.model, predictor, comparison.process, comparison.context, asked.batch_sizes, bench)
        return {"cost": pd.DataFrame(costs)}


@dataclass(frozen=True)
class Untrained(Job):
    """Score an untrained copy, for all models that start from the same initialiser.

    Attributes:
        models: names of these models; the first is built.
        gain: of the copy.
        seed: of the copy.
    """

    models: tuple[str, ...]
    gain: float
    seed: int

    kind = "untrained"

    @property
    def part(self) -> str:
        return f"untrained-{self.models[0]}-gain{self.gain}-seed{self.seed}"

    def tables(self, report: Report) -> Tables:
        torch.manual_seed(self.seed)
        comparison = build(regained(self.settings, self.models[0], self.gain), self.models[0])
        predictor = comparison.models[self.models[0]].eval()
        site = comparison.sites[self.models[0]].headline
        rows, decoded = untrained(Examination.of(comparison), predictor, site, Protocol())
        for model in self.models:
            RunFolder(self.folder).add_geometry(f"{model}-gain{self.gain}-seed{self.seed}-untrained", decoded=decoded)
        rows = pd.concat([rows.assign(model=model) for model in self.models], ignore_index=True)
        return {"probes": rows.assign(gain=self.gain, seed=self.seed)}


@dataclass(frozen=True)
class ProcessControls(Job):
    """Score what belongs to the process: the exact next-token law, the last tokens, the history."""

    kind = "controls"

    @property
    def part(self) -> str:
        return "controls"

    def tables(self, report: Report) -> Tables:
        comparison = build(self.settings, next(iter(self.settings["models"])))
        exam = Examination.of(comparison)
        truth = {name: getattr(exam.words, name).numpy() for name in ("lengths", "probabilities")}
        RunFolder(self.folder).add_geometry("truth", beliefs=exam.words.filtered.numpy(), **truth)
        return process_controls(exam, Protocol())


def floor(comparison: Comparison) -> float:
    """The loss of the exact observer, mean over context lengths 1..context, in nats per token."""
    return float(myopic_entropies(comparison.process, comparison.context)[1:].mean())


def regained(settings: Settings, model: str, gain: float) -> Settings:
    """Settings in which one model starts with another gain."""
    spec = settings["models"][model]
    changed = spec | {"init_args": spec["init_args"] | {"scale": gain}}
    return settings | {"models": settings["models"] | {model: changed}}


def plan(settings: Settings, folder: Path) -> list[Job]:
    """All jobs of a run, those that take longest first."""
    comparison = build(settings)
    models = [(name, seed) for seed in comparison.seeds for name in comparison.models]
    inferring = [(name, seed) for name, seed in models if isinstance(comparison.models[name], TemporalPC)]
    asked = comparison.evaluation
    trainings = sorted(models, key=lambda pair: _work(comparison, pair[0]), reverse=True)
    copies = [
        Untrained(settings, folder, alike, gain, seed)
        for alike in _alike(settings)
        for gain in asked.untrained_gains
        for seed in asked.untrained_seeds
    ]
    return [
        *(Train(settings, folder, *pair) for pair in trainings),
        *(Examine(settings, folder, *pair) for pair in models),
        ProcessControls(settings, folder),
        *copies,
        *(Robustness(settings, folder, *pair) for pair in models if pair[0] in asked.robust),
        *(Iterations(settings, folder, *pair) for pair in inferring if asked.iterations),
    ]


def bills(settings: Settings, folder: Path) -> list[Job]:
    """The measurements of cost, to be taken when nothing else runs."""
    return [Cost(settings, folder, name, settings["seeds"][0]) for name in settings["models"]]


def _work(comparison: Comparison, model: str) -> float:
    """A rough measure of how long a training takes; inference costs far more than its arithmetic."""
    predictor, training = comparison.models[model], comparison.training[model]
    slowdown = 20 if isinstance(predictor, TemporalPC) else 1
    return slowdown * training.steps * training.batch_size * predictor.flops(comparison.context, 3.0)


def _alike(settings: Settings) -> list[tuple[str, ...]]:
    """Models grouped by what their untrained copies are: the same constructor, arguments and headline site."""
    groups: dict[str, list[str]] = {}
    for name, spec in settings["models"].items():
        key = repr((spec, settings["sites"][name]["headline"]))
        groups.setdefault(key, []).append(name)
    return [tuple(names) for names in groups.values()]
