"""The trained models of ``pcnet compare``, in its run's folder; what is missing there is trained by the same jobs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pcnet.experiments import Borrowed, ConfigError, Experiment, Job
from pcnet.experiments.beliefs import BeliefComparison
from pcnet.experiments.settings import build, find, read, resolve
from pcnet.predictor import Predictor

MODELS = ("transformer", "gru", "temporal_pc", "temporal_pc_nudged", "temporal_pc_local")
"""The names of the models in all configurations."""


@dataclass(frozen=True)
class TrainedModels:
    """The models of one configuration. A checkpoint that a later ``pcnet compare CONFIG`` would make is part of that run.

    Args:
        config: name of a configuration, as ``pcnet compare`` takes it; its name is the folder's.
        runs: the folder that holds the folders of runs.
    """

    config: str
    runs: Path

    @property
    def folder(self) -> Path:
        return self.runs / self.config

    def borrowed(self, models: Sequence[str], seeds: Sequence[int], short: bool = False) -> Borrowed:
        """The trainings, for `Experiment.borrowed`; of a run's shortened kind where the folder isn't there yet and `short`.

        Args:
            models: names of the configuration's models.
            seeds: of training; need not be those of the configuration.
            short: whether hardly to train at all.
        """
        settings = read(find(self.config))
        arguments = BeliefComparison.shortened(settings["init_args"]) if short else settings["init_args"]

        def trainings(comparison: BeliefComparison) -> list[Job]:
            missing = set(models) - comparison.models.keys()
            if missing:
                raise ConfigError(
                    f"models: {self.config} has no {min(missing)!r}; there are {', '.join(comparison.models)}"
                )
            return [comparison.training_job(model, seed) for model in models for seed in seeds]

        return Borrowed(self.folder, settings | {"init_args": arguments}, trainings)

    @cached_property
    def comparison(self) -> BeliefComparison:
        """The run's own experiment, with the settings that its folder was made with."""
        return build(resolve(read(self.folder / "config.yaml")))

    def trained(self, model: str, seed: int) -> Predictor:
        """A trained model, in evaluation mode."""
        return self.comparison.trained(model, seed, self.folder)

    def untrained(self, model: str, seed: int) -> Predictor:
        """A copy that never learned: the same initialiser and scale of its weights."""
        return self.comparison.fresh(model, seed).eval()

    def snapshots(self, model: str, seed: int) -> dict[int, Predictor]:
        """A model as it was while it was trained, by optimiser step; those that were kept."""
        return self.comparison.kept_snapshots(model, seed, self.folder)


@dataclass(frozen=True)
class AboutTrainedModels(Experiment):
    """What experiments about these models share.

    Args:
        processes: configurations of `pcnet compare`, each with the longest word that is looked at.
        models: of each configuration.
        seeds: of training.
        runs: where runs of `pcnet compare` lie; null is a folder inside this run's own, with hardly trained models.
    """

    processes: dict[str, int] = field(default_factory=dict)
    models: list[str] = field(default_factory=lambda: list(MODELS))
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    runs: str | None = "runs"

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every process with every model; those that take longest, predictive-coding networks, stand last among the models."""
        return [(process, model) for model in reversed(self.models) for process in self.processes]

    def borrowed(self, folder: Path) -> list[Borrowed]:
        found = [self.trained_models(process, folder) for process in self.processes]
        return [models.borrowed(self.models, self.seeds, short=self.runs is None) for models in found]

    def trained_models(self, process: str, files: Path) -> TrainedModels:
        """The models of one configuration, for a job of this run."""
        return TrainedModels(process, files / "runs" if self.runs is None else Path(self.runs))
