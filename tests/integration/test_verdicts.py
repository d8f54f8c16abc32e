"""``comparisons.verdicts``: a hardly trained network is not called an encoder."""

from pathlib import Path

import pandas as pd
import pytest

from comparisons.verdicts import main


@pytest.mark.slow
def test_smoke_asks_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--smoke", "--out", str(tmp_path)]) == 0
    folder = tmp_path / "smoke"
    found = pd.read_csv(folder / "rrxor-gru.csv").set_index("control")
    assert found["answer"].eq("no").all() and found.loc["untrained copies", "p_value"] > 0.05
    written = (folder / "rrxor-gru.csv").stat().st_mtime_ns
    text = (folder / "verdicts.md").read_text()
    assert main(["--smoke", "--out", str(tmp_path)]) == 0
    assert (folder / "rrxor-gru.csv").stat().st_mtime_ns == written and (folder / "verdicts.md").read_text() == text


def test_replot_needs_something_measured(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--replot", "--out", str(tmp_path)])
