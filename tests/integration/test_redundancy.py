"""``comparisons.redundancy``: the small run end to end."""

from pathlib import Path

import pandas as pd
import pytest

from comparisons.model_pictures import by_model
from pcnet.experiments import command

NAME = "comparisons.redundancy.Redundancy"


@pytest.mark.slow
def test_smoke_measures_once_and_draws_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "run"
    assert command(NAME, ["--smoke", "--out", str(folder), "--workers", "0"]) == 0
    assert (folder / "redundancy.md").read_text().strip() in capsys.readouterr().out
    assert (folder / "redundancy.png").read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(folder / "shares.csv").query("model == 'temporal_pc' and copy == 'trained'")
    assert {"layers.0.error", "all value", "logits"} <= set(table["site"])
    assert (table[table["share"].isna()]["explained"] < 0.05).all()  # no share where nothing moves with the belief
    # errors are zero before inference begins: nothing to separate, and so no row
    assert not (table["site"].isin(["layers.1.error", "layers.2.error"]) & (table["iteration"] == "0")).any()
    written = {path: path.stat().st_mtime_ns for path in folder.glob("parts/*")}
    assert command(NAME, ["--smoke", "--out", str(folder), "--replot"]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("parts/*")} == written


def test_replot_needs_something_measured(tmp_path: Path) -> None:
    assert command(NAME, ["--replot", "--out", str(tmp_path)]) == 2


def test_rows_stand_in_the_order_of_the_models() -> None:
    rows = pd.DataFrame(
        {"process": list("bbaa"), "model": ["gru", "transformer", "unheard of", "gru"], "row": range(4)}
    )
    assert by_model(rows)["row"].tolist() == [3, 2, 1, 0]
    again = pd.concat([rows, rows.assign(row=rows["row"] + 4)], ignore_index=True)
    assert by_model(again)["row"].tolist() == [3, 7, 2, 6, 1, 5, 0, 4]
