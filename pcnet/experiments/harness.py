"""`run(settings, folder)`: do what is missing, then lay tables and the report together. Every command calls this function."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import yaml

from pcnet.experiments import earlier
from pcnet.experiments.errors import ConfigError, RunFailed
from pcnet.experiments.executors import Desk, Executor, LocalWorkers, Silent, View
from pcnet.experiments.experiment import Borrowed, Experiment, Job
from pcnet.experiments.run_folder import RunFolder
from pcnet.experiments.settings import Settings, build, differences, read, resolve
from pcnet.files import replace_file


class RunRecord(NamedTuple):
    """What a run left behind.

    Attributes:
        folder: its tables, files, figures and report.
        text: what the experiment's report says in words.
    """

    folder: RunFolder
    text: str


def run(settings: Settings, path: Path, executor: Executor | None = None, view: View | None = None) -> RunRecord:
    """Do everything that is missing in the run's folder, then lay tables, figures and the report together.

    Args:
        settings: resolved (`pcnet.experiments.settings.resolve`).
        path: the run's folder; made for these settings, or by an earlier run with the same.
        executor: who does the jobs; by default local worker processes, one for each processor.
        view: told what happens.

    Raises:
        ConfigError: the folder belongs to other settings or is in use.
        RunFailed: some jobs failed; what the others found is kept, laid together and in the report.
    """
    executor, view = executor or LocalWorkers(), view or Silent()
    experiment = build(settings)
    folder = RunFolder(path, experiment.schema)
    with folder.locked():
        open_folder(folder, settings)
        with ExitStack() as stack:
            failures = [f for b in experiment.borrowed(path) for f in _borrow(b, executor, view, stack)]
        failures += _do(experiment, experiment.jobs(), folder, executor, view)
        text = laid_together(experiment, folder)
    if failures:
        raise RunFailed("; ".join(failures))
    return RunRecord(folder, text)


def laid_together(experiment: Experiment, folder: RunFolder) -> str:
    """Tables, figures and report of what the folder holds; the report's words, which are also kept as ``NAME.md``."""
    folder.write_tables()
    text = experiment.report(folder)
    replace_file(folder.path / f"{experiment.name}.md", text.rstrip("\n") + "\n")
    return text


def open_folder(folder: RunFolder, settings: Settings) -> None:
    """Make a folder for these settings, or check that it was made for them.

    Raises:
        ConfigError: it was made by another configuration, or is somebody else's folder.
    """
    if folder.config.is_file():
        earlier.rename_files(folder.path)
        odd = differences(resolve(read(folder.config)), settings)  # settings that came since had their defaults
        if odd:
            raise ConfigError(
                f"{folder.path} was made with another {odd[0].removeprefix('init_args.')}; name another folder with --out"
            )
        return
    if any(name for name in os.listdir(folder.path) if name != ".lock"):
        raise ConfigError(f"{folder.path} holds files but no config.yaml; name another folder with --out")
    replace_file(folder.config, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def _do(experiment: Experiment, jobs: Sequence[Job], folder: RunFolder, executor: Executor, view: View) -> list[str]:
    todo = [job for job in jobs if not folder.has(job.part)]
    view.begin(len(jobs), len(jobs) - len(todo), experiment.headline())
    return executor.do(todo, Desk(folder, view, experiment.said))


def _borrow(borrowed: Borrowed, executor: Executor, view: View, stack: ExitStack) -> list[str]:
    """Have another experiment's jobs done in its own folder; a folder that is there keeps the settings that it has."""
    config = borrowed.folder / "config.yaml"
    settings = resolve(read(config) if config.is_file() else borrowed.settings)
    experiment = build(settings)
    folder = RunFolder(borrowed.folder, experiment.schema)
    jobs = borrowed.jobs(experiment)
    if all(folder.has(job.part) for job in jobs):
        return []
    stack.enter_context(folder.locked())
    open_folder(folder, settings)
    return _do(experiment, jobs, folder, executor, view)
