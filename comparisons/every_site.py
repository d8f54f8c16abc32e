"""Something measured at every site of trained models and of their untrained copies: the jobs, and how iterations are seen."""

import abc
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from fnmatch import filter as matching
from functools import cached_property, partial
from pathlib import Path

import pandas as pd
from torch import Tensor, nn

from comparisons.checkpoints import AboutTrainedModels, TrainedModels
from pcnet.experiments import Job, Report, Tables
from pcnet.predictor import Predictor
from pcnet.probing import Protocol, probe
from pcnet.processes import Words, words

ONE_DEAL = Protocol(fold_seeds=(0,))
"""A departure from the default protocol: one fold seed, since some thousand places are compared with each other."""
ITERATIONS = (0, 1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Case:
    """A trained model, or an untrained copy of it, with the words that it reads.

    Args:
        models: of its configuration.
        model: its name.
        copy: trained or untrained.
        seed: of training, or of the untrained copy's weights.
        length: of the longest word.
    """

    models: TrainedModels
    model: str
    copy: str
    seed: int
    length: int

    @cached_property
    def predictor(self) -> Predictor:
        """In evaluation mode."""
        return (self.models.trained if self.copy == "trained" else self.models.untrained)(self.model, self.seed)

    @cached_property
    def rows(self) -> Words:
        """All words up to the longest."""
        return words(self.models.comparison.process, self.length)

    def iterating(self) -> AbstractContextManager[None]:
        """While this lasts, a network that infers does so by the solver whose iterations are looked at."""
        inference, solver = self.predictor.inference, self.models.comparison.evaluation.iteration_solver
        return self.predictor.examining(replace(inference, solver=solver, max_steps=max(ITERATIONS)))


class EverySite(AboutTrainedModels):
    """The same measurement of every trained model and of its untrained copies, each a job.

    Attributes:
        copies: untrained copies of each model: same initialiser and scale, seeds 0, 1, ...
    """

    copies: int

    @abc.abstractmethod
    def measure(self, case: Case, files: Path) -> Tables:
        """The tables of one model; process, model, copy and seed are put to them afterwards."""

    def jobs(self) -> Sequence[Job]:
        # predictive-coding networks take longest and stand last among the models
        return [
            Job(f"{process}-{model}-{copy}{seed}", partial(self.look, process, model, copy, seed))
            for model in reversed(self.models)
            for process in self.processes
            for copy, seeds in (("trained", self.seeds), ("untrained", range(self.copies)))
            for seed in seeds
        ]

    def case(self, process: str, model: str, copy: str, seed: int, files: Path) -> Case:
        """A model with the words that this run reads."""
        return Case(self.trained_models(process, files), model, copy, seed, self.processes[process])

    def look(self, process: str, model: str, copy: str, seed: int, files: Path, told: Report) -> Tables:
        """Measure one model."""
        tables = self.measure(self.case(process, model, copy, seed, files), files)
        labels = {"process": process, "model": model, "copy": copy, "seed": seed}
        return {name: table.assign(**labels) for name, table in tables.items()}


def present(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """The patterns that a site of this model matches."""
    names = [name for name, _ in model.named_modules()]
    return [pattern for pattern in patterns if matching(names, pattern)]


def whole(scores: pd.DataFrame) -> pd.Series:
    """R2 over all positions, all words of a length counting equally."""
    return scores.loc[(scores["position"] == "all") & (scores["weights"] == "equal"), "r2"]


def held_out(features: Tensor, targets: Tensor, rows: Words) -> float:
    """R2 of an affine probe on held-out words, by one deal to folds."""
    return float(whole(probe(features, targets, rows.lengths, rows.probabilities, ONE_DEAL, (True,))).iloc[0])
