"""Run folders and configurations of version 0.1 are gone on with."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pcnet.experiments import InThisProcess, RunFolder, run
from pcnet.experiments import settings as configuration
from pcnet.experiments.beliefs import BeliefComparison
from pcnet.report.schema import SCHEMA

EARLIER = """
name: tiny
process: {class_path: pcnet.processes.mess3, init_args: {x: 0.05, a: 0.85}}
context: 4
seeds: [0]
models: {gru: {class_path: pcnet.GRU, init_args: {vocab_size: 3, width: 8, gain: 0.6}}}
training:
  gru: {rule: {class_path: pcnet.learning.Backprop}, optimizer: {class_path: torch.optim.Adam}, steps: 2, batch_size: 4}
sites: {gru: {headline: cells.*.hidden}}
evaluation: {untrained_gains: [0.9], untrained_seeds: [0], permutations: 20, batch_sizes: [1], timing_seconds: 0.01}
workers: 2
"""


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(EARLIER)
    return path


def test_a_configuration_that_names_no_experiment_is_a_belief_comparison(earlier: Path) -> None:
    experiment = configuration.build(configuration.resolve(configuration.read(earlier)))
    assert isinstance(experiment, BeliefComparison)
    assert experiment.evaluation.untrained_scales == [0.9]
    assert experiment.models["gru"].keywords["scale"] == 0.6


def test_a_folder_is_gone_on_with_and_nothing_is_done_twice(
    earlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished run, put into the form of version 0.1: its names of files and columns, its configuration."""
    settings, folder = configuration.resolve(configuration.read(earlier)), tmp_path / "run"
    run(settings, folder, InThisProcess())
    before = pd.read_csv(folder / "probes.csv")
    for new in [*folder.glob("parts/untrained-*"), *folder.glob("geometry/*-scale*")]:
        new.rename(new.with_name(new.name.replace("-scale", "-gain")))
    for table in folder.rglob("probes.csv"):
        pd.read_csv(table).rename(columns={"scale": "gain"}).to_csv(table, index=False)
    (folder / "config.yaml").write_text(yaml.safe_dump(yaml.safe_load(EARLIER)))
    monkeypatch.setattr(BeliefComparison, "jobs", _refusing(BeliefComparison.jobs))
    record = run(settings, folder, InThisProcess())
    pd.testing.assert_frame_equal(pd.read_csv(folder / "probes.csv"), before)
    assert RunFolder(folder, SCHEMA).table("probes")["scale"].notna().any()
    assert "gru" in record.text


def _refusing(jobs: Callable) -> Callable:
    """The same jobs, none of which may be done."""
    from dataclasses import replace

    def refuse(files: Path, told: object) -> None:
        raise AssertionError("a finished job was done again")

    return lambda experiment: [replace(job, work=refuse) for job in jobs(experiment)]
