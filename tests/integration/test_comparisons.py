"""Every comparison, shortened: its files are there, its numbers are of the right kind, and nothing is done twice."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from comparisons import digits, solvers, still_image

PICTURES = {digits: ["digits.png"], solvers: ["solvers.png"], still_image: ["digits-0.png", "patches-0.png"]}
each = pytest.mark.parametrize("command", list(PICTURES), ids=lambda command: command.__name__)


@pytest.mark.slow
@each
def test_a_comparison_runs_shortened_and_again_from_its_files(
    command: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(["--smoke", "--out", "there"]) == 0
    printed = capsys.readouterr().out
    kept = {path: path.stat().st_mtime_ns for path in Path("there/smoke").iterdir() if path.suffix in (".csv", ".pt")}
    assert all((Path("there/smoke") / name).stat().st_size > 10_000 for name in PICTURES[command])
    assert command.main(["--smoke", "--out", "there", "--replot"]) == 0
    assert capsys.readouterr().out == printed
    measured = {path for path in kept if path.name != "errors.csv"}
    assert measured and all(path.stat().st_mtime_ns == kept[path] for path in measured)


@pytest.mark.parametrize("command", [digits, solvers, still_image], ids=lambda command: command.__name__)
def test_nothing_to_plot_is_said_in_a_line(command: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--replot", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_the_interval_of_paired_differences() -> None:
    """Nadeau & Bengio 2003, by hand: 4 differences in 2 folds have a variance of (1/4 + 1) times theirs."""
    differences = np.array([0.0, 1.0, 2.0, 3.0])
    mean, half = digits.interval(differences, 2)
    assert mean == 1.5
    assert half == pytest.approx(3.182446305284263 * (1.25 * 5 / 3) ** 0.5)


def test_the_verdict_on_solvers_counts_wins_and_bounds() -> None:
    def row(solver: str, milliseconds: float, arrived: bool, depth: int) -> dict:
        point = {"weights": "gain 1.0", "depth": depth, "width": 8, "batch": 1}
        return point | {"solver": solver, "milliseconds": milliseconds, "arrived": arrived}

    rows = pd.DataFrame(
        [
            row(solvers.DEFAULT, 1.0, True, 20),
            row(solvers.VALUES, 22.0, False, 20),
            row(solvers.ERRORS, 3.0, True, 20),
            row(solvers.DEFAULT, 1.0, True, 5),
            row(solvers.VALUES, 7.0, True, 5),
            row(solvers.ERRORS, 0.5, True, 5),
        ]
    )
    text = solvers.verdict(rows)
    assert "converged: the default solver at 2 of 2 points" in text
    assert "fastest in wall time: the default solver at 1 of 2 points" in text
    assert "at least 22 to 22 times" in text
    assert "not fastest at (5, 8, 'gain 1.0', 1)" in text
