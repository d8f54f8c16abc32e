"""`pcnet compare` as a user meets it: every YAML, resuming, refusals."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml

from pcnet.cli import verbs as cli
from pcnet.experiments import InThisProcess, LocalWorkers, RunFolder, run
from pcnet.experiments import settings as configuration
from pcnet.experiments.beliefs import BeliefComparison
from pcnet.experiments.door import folder_name, split
from pcnet.report.schema import SCHEMA

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
TABLES = {"training", "probes", "verdicts", "excess", "cost", "inference", "checks"}


def tiny(name: str = "mess3", keep: tuple[str, ...] = ("gru", "temporal_pc")) -> configuration.Settings:
    """A shipped configuration, shortened, with some of its models."""
    settings = configuration.read(configuration.find(name))
    arguments = BeliefComparison.shortened(settings["init_args"])
    for part in ("models", "training", "sites"):
        arguments[part] = {model: arguments[part][model] for model in keep}
    arguments["evaluation"]["robust"] = [model for model in arguments["evaluation"]["robust"] if model in keep]
    return configuration.resolve(settings | {"init_args": arguments})


def here(settings: configuration.Settings, path: Path) -> Path:
    """The folder of a run done in this process."""
    return run(settings, path, InThisProcess()).folder.path


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than everything else in a shortened run."""
    monkeypatch.setattr("pcnet.report.write", lambda folder: folder / "report.html")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] if path.stem == "local_rules" else []) for path in CONFIGS],
    ids=lambda path: path.stem,
)
def test_every_configuration_runs_and_leaves_all_that_is_promised(
    path: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if path.stem != "mess3":
        request.getfixturevalue("without_report")
    keep = tuple(configuration.read(path)["init_args"]["models"])
    settings = tiny(path.stem, keep)
    folder = here(settings, tmp_path / "run")
    asked = TABLES if settings["init_args"]["evaluation"]["robust"] else TABLES - {"checks"}
    assert {table.stem for table in folder.glob("*.csv")} == asked
    assert yaml.safe_load((folder / "config.yaml").read_text()) == settings
    probes, models = pd.read_csv(folder / "probes.csv"), set(keep)
    assert set(probes["model"].dropna()) == models
    assert set(probes.loc[probes["trained"].eq(False) & probes["scale"].notna(), "model"]) == models
    assert set(pd.read_csv(folder / "cost.csv")["model"]) == models
    if path.stem == "mess3":
        assert all(model in (folder / "report.html").read_text() for model in models)
        assert {figure.suffix for figure in (folder / "figures").iterdir()} == {".png", ".svg"}
    assert not [left for left in folder.rglob(".*") if left.name != ".lock"], "temporary files were left behind"


@pytest.mark.usefixtures("without_report")
def test_a_run_stopped_in_training_ends_with_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tiny()
    whole = here(settings, tmp_path / "whole")

    from pcnet.training import NextToken

    learn, calls = NextToken.training_step, []

    def stop_midway(task: NextToken, batch: object, index: int) -> object:
        calls.append(index)
        if len(calls) == 4:  # after the checkpoint at step 2, in the middle of step 4
            raise KeyboardInterrupt
        return learn(task, batch, index)

    monkeypatch.setattr(NextToken, "training_step", stop_midway)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        here(settings, tmp_path / "stopped")
    monkeypatch.setattr(NextToken, "training_step", learn)
    stopped = here(settings, tmp_path / "stopped")
    for table in ("training", "excess", "probes"):
        first, second = (pd.read_csv(folder / f"{table}.csv") for folder in (whole, stopped))
        pd.testing.assert_frame_equal(first, second, check_exact=True)
    for checkpoint in (whole / "checkpoints").rglob("*.ckpt"):
        other = stopped / checkpoint.relative_to(whole)
        ours, theirs = (torch.load(path, weights_only=True)["state_dict"] for path in (checkpoint, other))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_tables_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Positions with too few words have no score; a control of the process belongs to no model."""
    folder = RunFolder(tmp_path, SCHEMA)
    known = {"model": ["", "gru"], "position": ["4", "all"], "r2": [float("nan"), 0.5], "trained": [True, False]}
    folder.add("one", {"probes": pd.DataFrame(known).reindex(columns=list(SCHEMA["probes"]))})
    back = folder.part("one", "probes")
    pd.testing.assert_frame_equal(back[list(known)], pd.DataFrame(known), check_dtype=False)
    assert back["r2"].median() == 0.5


@pytest.mark.slow
def test_killed_at_any_time_it_goes_on_from_there(tmp_path: Path) -> None:
    settings = tiny(keep=("gru",))
    settings["init_args"]["training"]["gru"]["steps"] = 3000
    settings["init_args"]["checkpoint_every"] = 50
    whole = run(settings, tmp_path / "whole", LocalWorkers(1)).folder.path
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "pcnet.cli.verbs", "compare", str(path), "--workers", "1"]
    command += ["--out", str(tmp_path / "killed")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=tmp_path)
    checkpoint = tmp_path / "killed/checkpoints/gru/seed0/last.ckpt"
    while not checkpoint.is_file():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed/parts/train-gru-seed0").exists(), "it had finished before it was killed"
    _wait_until_quiet(checkpoint)
    assert subprocess.run(command, check=False, cwd=tmp_path).returncode == 0
    for table in ("training", "excess", "probes"):
        first, second = (pd.read_csv(folder / f"{table}.csv") for folder in (whole, tmp_path / "killed"))
        pd.testing.assert_frame_equal(first, second, check_exact=True)


def _wait_until_quiet(path: Path) -> None:
    """The worker of a killed run goes away by itself; nothing may be written after that."""
    before, since = path.stat().st_mtime_ns, time.monotonic()
    while time.monotonic() - since < 3:
        time.sleep(0.2)
        if path.stat().st_mtime_ns != before:
            before, since = path.stat().st_mtime_ns, time.monotonic()
            assert time.monotonic() - since < 30


REFUSED = {
    "an unknown key": (["--models.gru.init_args.widht", "3"], "widht"),
    "a wrong type": (["--models.gru.init_args.width", "many"], "width"),
    "an unknown class": (["--models.gru.class_path", "pcnet.GRUU"], "GRUU"),
    "an unknown key in training": (["--training.gru.stepz", "3"], "stepz"),
    "an impossible size": (["--models.gru.init_args.width", "0"], "width must be at least 1"),
    "no steps": (["--training.gru.steps", "0"], "training.gru.steps"),
    "a process that is not stochastic": (["--process.init_args.a", "85"], "a"),
    "another vocabulary": (["--models.gru.init_args.vocab_size", "4"], "vocab_size is 4"),
    "a model without training": (["--models.extra", "{class_path: pcnet.GRU, init_args: {vocab_size: 3}}"], "extra"),
    "a setting that is not there": (["--nonsense", "1"], "nonsense"),
    "a setting without a value": (["--seeds"], "--seeds needs a value"),
}


@pytest.mark.parametrize(("arguments", "named"), REFUSED.values(), ids=REFUSED)
def test_bad_calls_get_one_line_and_exit_code_2(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(["compare", "mess3", "--out", str(tmp_path / "run"), *arguments]) == 2
    message = capsys.readouterr().err
    assert named in message
    assert len(message.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments", [["compare", "mess3", "stray"], ["compare", "-q"], ["compare", "--out"]])
def test_calls_that_make_no_sense_get_the_usage_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: pcnet" in capsys.readouterr().err


def test_there_are_three_verbs(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["train"]) == 2
    assert "'train'" in capsys.readouterr().err
    assert cli.main([]) == 2


@pytest.fixture
def asked_to_run(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict, Path]]:
    """Settings and folder of every run that a command asks for, which is not done."""
    ran = []

    def note(settings: dict, out: Path, *_: object) -> SimpleNamespace:
        ran.append((settings["init_args"], out))
        return SimpleNamespace(text="")

    monkeypatch.setattr("pcnet.experiments.harness.run", note)
    return ran


def test_a_setting_may_stand_before_the_configuration(tmp_path: Path, asked_to_run: list) -> None:
    assert cli.main(["compare", "--seeds", "[3]"]) == 0
    assert cli.main(["compare", "--seeds=[4]", "rrxor", "--out", str(tmp_path / "here")]) == 0
    assert [(settings["seeds"], out.name) for settings, out in asked_to_run] == [([3], "mess3-seeds=3"), ([4], "here")]


def test_a_missing_configuration_is_named_with_those_that_there_are(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["compare", "nowhere.yaml"]) == 2
    message = capsys.readouterr().err
    assert "nowhere.yaml" in message
    assert "mess3, rrxor" in message


def test_a_folder_of_another_configuration_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tiny(keep=("gru",))))
    before = (tmp_path / "config.yaml").read_bytes()
    assert cli.main(["compare", "mess3", "--out", str(tmp_path)]) == 2
    assert "was made with another" in capsys.readouterr().err
    assert (tmp_path / "config.yaml").read_bytes() == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert cli.main(["compare", "mess3", "--out", str(tmp_path)]) == 2
    assert "no config.yaml" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".lock") == ["thesis.tex"]


def test_the_default_folder_says_what_was_overridden() -> None:
    _, overrides = split(["--models.temporal_pc.init_args.width", "32", "--seeds=[0, 1]"])
    assert folder_name("mess3", overrides, short=False) == "mess3-temporal_pc.width=32-seeds=0_1"


def test_overriding_reaches_any_value() -> None:
    shipped = configuration.read(configuration.find("mess3"))
    changes = {"models.temporal_pc.init_args.width": "32", "seeds": "[0, 1]"}
    resolved = configuration.resolve(configuration.override(shipped, changes))["init_args"]
    assert resolved["models"]["temporal_pc"]["init_args"]["width"] == 32
    assert resolved["seeds"] == [0, 1]
    assert resolved["models"]["gru"]["init_args"]["width"] == 64


def test_resolved_settings_resolve_to_themselves() -> None:
    for path in CONFIGS:
        resolved = configuration.resolve(configuration.read(path))
        assert configuration.resolve(yaml.safe_load(yaml.safe_dump(resolved))) == resolved


def test_help_is_quick_and_says_what_there_is() -> None:
    code = "import sys, pcnet.cli.verbs; pcnet.cli.verbs.main(sys.argv[1:])"
    for arguments in (["--help"], ["compare", "--help"]):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", code, *arguments], capture_output=True, text=True, check=True
        )
        assert "compare" in done.stdout
        assert not re.search(r"\| +(torch|lightning|numpy|pandas|matplotlib)$", done.stderr, re.MULTILINE), (
            "help imports too much"
        )


@pytest.mark.slow
def test_configurations_come_with_the_wheel(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)], check=True
    )
    import zipfile

    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert {f"pcnet/configs/{path.name}" for path in CONFIGS} <= set(names)
