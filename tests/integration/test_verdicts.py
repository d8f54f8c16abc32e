"""``comparisons.verdicts``: a hardly trained network is not called an encoder."""

from pathlib import Path

import pandas as pd
import pytest

from pcnet.experiments import command

NAME = "comparisons.verdicts.Verdicts"


@pytest.mark.slow
def test_smoke_asks_once(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ["--smoke", "--out", str(folder), "--workers", "0"]
    assert command(NAME, arguments) == 0
    found = pd.read_csv(folder / "verdicts.csv").set_index("control")
    assert found["answer"].eq("no").all() and found.loc["untrained copies", "p_value"] > 0.05
    part, text = folder / "parts" / "rrxor-gru", (folder / "verdicts.md").read_text()
    written = part.stat().st_mtime_ns
    assert command(NAME, arguments) == 0
    assert part.stat().st_mtime_ns == written and (folder / "verdicts.md").read_text() == text
    assert f"{found['gain'].min():+.3f}" in text


def test_replot_needs_something_measured(tmp_path: Path) -> None:
    assert command(NAME, ["--replot", "--out", str(tmp_path)]) == 2
