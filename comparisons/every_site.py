"""Something measured at every site of trained models and of their untrained copies: the jobs, and how iterations are seen."""

import abc
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from fnmatch import filter as matching
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from torch import Tensor, nn

from comparisons.checkpoints import AboutTrainedModels
from pcnet.experiments import Job, Report, Tables
from pcnet.experiments.beliefs import BeliefComparison
from pcnet.predictor import Predictor
from pcnet.probing import Protocol, probe
from pcnet.processes import Words, words

ONE_DEAL = Protocol(fold_seeds=(0,))
"""A departure from the default protocol: one fold seed, since some thousand places are compared with each other."""
ITERATIONS = (0, 1, 2, 4, 8, 16, 32, 64, 128)


class Look(NamedTuple):
    """A model to look at: a trained one, or an untrained copy (then the seed is that of its weights)."""

    process: str
    model: str
    copy: str
    seed: int

    @property
    def label(self) -> str:
        """All of it in one word."""
        return f"{self.process}-{self.model}-{self.copy}{self.seed}"


@dataclass(frozen=True)
class Case:
    """A model with the words that it reads.

    Args:
        which: of them.
        comparison: that it is part of.
        predictor: the model, in evaluation mode.
        rows: all words up to the longest.
    """

    which: Look
    comparison: BeliefComparison
    predictor: Predictor
    rows: Words

    def iterating(self) -> AbstractContextManager[None]:
        """While this lasts, a network that infers does so by the solver whose iterations are looked at."""
        solver = self.comparison.evaluation.iteration_solver
        return self.predictor.examining(replace(self.predictor.inference, solver=solver, max_steps=max(ITERATIONS)))


@dataclass(frozen=True)
class EverySite(AboutTrainedModels):
    """The same measurement of every trained model and of its untrained copies, each a job.

    Args:
        copies: untrained copies of each model, with the same initialiser and scale, and seeds 0, 1, ...
    """

    copies: int = 3

    @abc.abstractmethod
    def measure(self, case: Case, files: Path) -> Tables:
        """The tables of one model; process, model, copy and seed are put to them afterwards."""

    def jobs(self) -> Sequence[Job]:
        copies = [("trained", seed) for seed in self.seeds] + [("untrained", seed) for seed in range(self.copies)]
        looks = [Look(*pair, *copy) for pair in self.pairs for copy in copies]
        return [Job(which.label, partial(self.look, which)) for which in looks]

    def case(self, which: Look, files: Path) -> Case:
        """A model with the words that this run reads."""
        models = self.trained_models(which.process, files)
        take = models.trained if which.copy == "trained" else models.untrained
        rows = words(models.comparison.process, self.processes[which.process])
        return Case(which, models.comparison, take(which.model, which.seed), rows)

    def look(self, which: Look, files: Path, told: Report) -> Tables:
        """Measure one model."""
        tables = self.measure(self.case(which, files), files)
        return {name: table.assign(**which._asdict()) for name, table in tables.items()}


def present(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """The patterns that a site of this model matches."""
    names = [name for name, _ in model.named_modules()]
    return [pattern for pattern in patterns if matching(names, pattern)]


def whole(scores: pd.DataFrame) -> pd.Series:
    """R2 over all positions, all words of a length counting equally."""
    return scores.loc[(scores["position"] == "all") & (scores["weights"] == "equal"), "r2"]


def held_out(features: Tensor, targets: Tensor, rows: Words) -> float:
    """R2 of an affine probe on held-out words, by one deal to folds."""
    return float(whole(probe(features, targets, rows, ONE_DEAL, (True,))).iloc[0])
