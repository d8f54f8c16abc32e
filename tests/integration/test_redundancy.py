"""``comparisons.redundancy``: the small run end to end, and a planted merger at the logits."""

from pathlib import Path

import pandas as pd
import pytest

from comparisons.redundancy import main


@pytest.mark.slow
def test_smoke_measures_once_and_draws_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--smoke", "--out", str(tmp_path), "--processes", "rrxor", "--models", "gru", "temporal_pc"]
    assert main(arguments) == 0
    folder = tmp_path / "smoke"
    text = (folder / "redundancy.md").read_text()
    assert text in capsys.readouterr().out
    assert (folder / "redundancy.png").read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(folder / "rrxor-temporal_pc-0.csv", dtype={"iteration": str})
    assert {"layers.0.error", "all value", "logits"} <= set(table["site"])
    assert (table[table["share"].isna()]["explained"] < 0.05).all()  # no share where nothing moves with the belief
    # errors are zero before inference begins: nothing to separate, and so no row
    assert not (table["site"].isin(["layers.1.error", "layers.2.error"]) & (table["iteration"] == "0")).any()
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*.csv")}
    assert main([*arguments, "--replot"]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.csv")} == written


def test_replot_needs_something_measured(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--replot", "--out", str(tmp_path)])
