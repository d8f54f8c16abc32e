"""A new experiment costs one short file: `tests/two_models.py`, the pattern that the README points at, is run as one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import two_models

from pcnet.experiments import command

MOST_LINES = 120


def run(folder: Path, *arguments: str) -> None:
    assert command("two_models.TwoModels", ["--smoke", "--out", str(folder), "--workers", "0", *arguments]) == 0


def parts(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("parts/*/*.csv")}


def test_it_is_short() -> None:
    assert len(Path(two_models.__file__).read_text().splitlines()) <= MOST_LINES


def test_it_runs_resumes_and_draws_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run(tmp_path)
    printed, table = capsys.readouterr().out, pd.read_csv(tmp_path / "accuracy.csv")
    short = two_models.TwoModels(**two_models.TwoModels.smoke)
    assert table.groupby("rule").size().to_dict() == dict.fromkeys(two_models.RULES, len(short.seeds) * short.epochs)
    assert table.percent.between(0, 100).all()
    shutil.rmtree(tmp_path / "parts" / "backpropagation-seed1")
    kept = parts(tmp_path)
    run(tmp_path)
    assert len(kept) == 3 and kept.items() < parts(tmp_path).items()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "accuracy.csv"), table)
    kept, figure = parts(tmp_path), tmp_path / "two_models.png"
    figure.unlink()
    capsys.readouterr()
    run(tmp_path, "--replot")
    assert capsys.readouterr().out == printed and figure.stat().st_size > 10_000 and parts(tmp_path) == kept


@pytest.mark.slow
def test_it_runs_as_a_script_with_worker_processes(tmp_path: Path) -> None:
    arguments = ["--smoke", "--epochs", "1", "--out", str(tmp_path / "run"), "--workers", "2"]
    subprocess.run([sys.executable, two_models.__file__, *arguments], cwd=tmp_path, check=True, capture_output=True)
    assert len(pd.read_csv(tmp_path / "run" / "accuracy.csv")) == 4 * 1  # a setting given beside --smoke counts
