"""The trained models of ``pcnet compare``, from its run's folder; what is missing there is trained by the same jobs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from comparisons.kept import progress
from pcnet.config import Comparison, Settings, build, find, read, resolve
from pcnet.jobs import Train
from pcnet.predictor import Predictor
from pcnet.records import RunFolder
from pcnet.training import load


class Trained(NamedTuple):
    """One model, trained.

    Attributes:
        comparison: as the run's configuration says it, with this model alone.
        predictor: in evaluation mode.
    """

    comparison: Comparison
    predictor: Predictor


def trained(
    config: str,
    models: Sequence[str],
    seeds: Sequence[int],
    runs: Path,
    changes: Callable[[Settings], Settings] | None = None,
) -> dict[tuple[str, int], Trained]:
    """The models by name and training seed; a run's folder that is there is used with the settings that it was made with.

    A checkpoint that a later ``pcnet compare CONFIG --out RUNS/CONFIG`` would make is made here, as its part of that run.

    Args:
        config: name or path of a configuration, as ``pcnet compare`` takes it; its name is the folder's.
        models: names of its models; those that the configuration doesn't have are an error.
        seeds: of training; need not be those of the configuration.
        runs: the folder that holds the folders of runs.
        changes: made to the configuration's settings, for a folder that isn't there yet (``pcnet.cli.verbs.smoke``, say).

    Raises:
        ConfigError: there is no such configuration.
        ValueError: it has no such model.
    """
    kept = RunFolder(runs / Path(config).stem)
    settings = _settings(config, kept, changes)
    for model in models:
        if model not in settings["models"]:
            raise ValueError(f"models: {config} has no {model!r}; there are {', '.join(settings['models'])}")
    jobs = [Train(settings, kept.path, model, seed) for model in models for seed in seeds]
    missing = [job for job in jobs if not kept.has(job.part)]
    if missing:
        with kept.locked():
            kept.open(settings)
            _train(missing)
    return {(job.model, job.seed): _load(job) for job in jobs}


def _settings(config: str, folder: RunFolder, changes: Callable[[Settings], Settings] | None) -> Settings:
    if folder.config.is_file():
        return resolve(read(folder.config))
    settings = read(find(config))
    return resolve(changes(settings) if changes else settings)


def untrained(config: str, model: str, seed: int, runs: Path, gain: float | None = None) -> Trained:
    """A copy that never learned: the same initialiser and, unless told otherwise, the same gain.

    Args:
        config: of a run whose folder is there (see ``trained``).
        model: its name.
        seed: of the weights.
        runs: the folder that holds the folders of runs.
        gain: of the weights; the configuration's own if None.
    """
    settings = resolve(read(RunFolder(runs / Path(config).stem).config))
    spec = settings["models"][model]
    if gain is not None:
        spec = spec | {"init_args": spec["init_args"] | {"scale": gain}}
    torch.manual_seed(seed)
    comparison = build(settings | {"models": settings["models"] | {model: spec}}, model)
    return Trained(comparison, comparison.models[model].eval())


def snapshots(config: str, model: str, seed: int, runs: Path) -> dict[int, Trained]:
    """A model as it was while it was trained, by optimiser step; those of the configuration's ``snapshots`` that were kept.

    Args:
        config: of a run whose folder is there (see ``trained``).
        model: its name.
        seed: of its training.
        runs: the folder that holds the folders of runs.
    """
    folder = RunFolder(runs / Path(config).stem)
    job, found = Train(resolve(read(folder.config)), folder.path, model, seed), {}
    for step in sorted(job.settings["snapshots"]):
        path = folder.snapshot(model, seed, step)
        if path.is_file():
            comparison, predictor = job.fresh()
            found[step] = Trained(comparison, load(predictor, path))
    return found


def _train(jobs: Sequence[Train]) -> None:
    with progress("{task.fields[loss]}") as bar:
        for job in jobs:
            task = bar.add_task(job.part, total=None, loss="")
            job.run(
                lambda step, steps, loss, task=task: bar.update(
                    task, completed=step, total=steps, loss="" if loss is None else f"loss {loss:.4f}"
                )
            )
            bar.remove_task(task)


def _load(job: Train) -> Trained:
    comparison, predictor = job.trained()
    return Trained(comparison, predictor.eval())
