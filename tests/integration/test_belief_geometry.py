"""``comparisons.belief_geometry``: the small run end to end, once, and what its tables say."""

import math
from pathlib import Path

import pandas as pd
import pytest

from comparisons.belief_geometry.tables import summary
from comparisons.every_site import ITERATIONS
from pcnet.experiments import command

NAME = "comparisons.belief_geometry.BeliefGeometry"


@pytest.mark.slow
def test_smoke_measures_once_and_draws_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "run"
    assert command(NAME, ["--smoke", "--out", str(folder), "--workers", "0"]) == 0
    text = (folder / "belief_geometry.md").read_text()
    assert text.strip() in capsys.readouterr().out and text.count("| rrxor | gru |") == 1
    for name in ("belief_geometry.png", "without_truth.png", "learning.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    places, shapes, learned = (pd.read_csv(folder / f"{name}.csv") for name in ("places", "shapes", "learning"))
    table = places[places["model"] == "temporal_pc"]
    assert set(table["iteration"]) == {"equilibrium", *map(str, ITERATIONS)}
    assert {"all value", "all error", "all prediction", "layers.1.value"} <= set(table["site"])
    assert set(table[table["part"] == "prediction"]["target"]) == {"belief"}
    shuffled = shapes[shapes["decoder"] == "without truth, futures shuffled"]
    assert len(shapes) == 2 * 3 * 4 and (shuffled["rank"] <= 1).all()
    question = "model == 'gru' and weights == 'equal' and target == 'belief'"
    first = learned.query(question + " and step == 0")
    bare = places.query(question + " and copy == 'untrained' and seed == 0")
    assert {0} < set(learned["step"]) and list(first["r2"]) == pytest.approx(list(bare["r2"]))  # same seed, not trained
    parts = {path: path.stat().st_mtime_ns for path in folder.glob("parts/*")}
    assert command(NAME, ["--smoke", "--out", str(folder), "--replot"]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("parts/*")} == parts
    assert (folder / "belief_geometry.md").read_text() == text


def test_a_model_without_its_untrained_copies_is_summed_up() -> None:
    labels = {"process": "rrxor", "model": "gru", "copy": "trained", "seed": 0}
    place = {
        "site": "cells.0.hidden",
        "iteration": "equilibrium",
        "target": "belief",
        "weights": "equal",
        "r2": 0.5,
        "headline": True,
    }
    shapes = [
        labels | {"decoder": name, "rank": 2, "r2": 0.4, "distance_r2": 0.3, "procrustes": 0.2}
        for name in ("probe", "without truth", "without truth, futures shuffled")
    ]
    lines = summary(pd.DataFrame([labels | place]), pd.DataFrame(shapes).assign(correlation_dimension=math.nan))
    assert lines[["R2", "best untrained R2", "distance R2"]].iloc[0].tolist() == ["0.500", "-", "0.300"]


def test_replot_needs_something_measured(tmp_path: Path) -> None:
    assert command(NAME, ["--replot", "--out", str(tmp_path)]) == 2
