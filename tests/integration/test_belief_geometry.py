"""``comparisons.belief_geometry``: the small run end to end, once, and what its table says."""

from pathlib import Path

import pandas as pd
import pytest

from comparisons.belief_geometry import ITERATIONS, main


@pytest.mark.slow
def test_smoke_measures_once_and_draws_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--smoke", "--out", str(tmp_path), "--processes", "rrxor", "--models", "gru", "temporal_pc"]
    assert main(arguments) == 0
    folder = tmp_path / "smoke"
    text = (folder / "belief_geometry.md").read_text()
    assert text in capsys.readouterr().out and text.count("| rrxor | gru |") == 1
    for name in ("belief_geometry.png", "without_truth.png", "learning.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(folder / "rrxor-temporal_pc-0.csv", dtype={"iteration": str})
    assert set(table["copy"]) == {"trained", *(f"untrained {n}" for n in range(3))}
    assert set(table["iteration"]) == {"equilibrium", *map(str, ITERATIONS)}
    assert {"all value", "all error", "all prediction", "layers.1.value"} <= set(table["site"])
    assert set(table[table["part"] == "prediction"]["target"]) == {"belief"}
    shapes = pd.read_csv(folder / "rrxor-gru-0-shapes.csv")
    shuffled = shapes[shapes["decoder"] == "without truth, futures shuffled"]
    assert len(shapes) == 4 * 3 and (shuffled["rank"] <= 1).all()
    learned = pd.read_csv(folder / "rrxor-gru-0-learning.csv")
    first = learned[(learned["step"] == 0) & (learned["weights"] == "equal") & (learned["target"] == "belief")]
    bare = pd.read_csv(folder / "rrxor-gru-0.csv").query(
        "copy == 'untrained 0' and weights == 'equal' and target == 'belief'"
    )
    assert {0} < set(learned["step"]) and list(first["r2"]) == pytest.approx(list(bare["r2"]))  # same seed, not trained
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*.csv")}
    assert main([*arguments, "--replot"]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.csv")} == written
    assert (folder / "belief_geometry.md").read_text() == text
    (folder / "rrxor-gru-0.csv").unlink()
    assert main(arguments) == 0
    assert (folder / "belief_geometry.md").read_text() == text
    assert (folder / "rrxor-temporal_pc-0.csv").stat().st_mtime_ns == written[folder / "rrxor-temporal_pc-0.csv"]


def test_replot_needs_something_measured(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--replot", "--out", str(tmp_path)])
