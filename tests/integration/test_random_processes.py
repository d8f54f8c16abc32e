"""The census: small and end to end, resumed where it broke off, and its arithmetic by other means."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from comparisons import random_processes as census
from comparisons.random_processes import SMOKE, UNIFILAR, Cell, draw, examine, main, summary, wilson
from pcnet.processes import HiddenMarkovModel, even, mess3, rrxor


def test_smoke_measures_once_and_draws_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--smoke", "--out", str(tmp_path)]) == 0
    folder = tmp_path / "smoke"
    text = (folder / "random_processes.md").read_text()
    assert text in capsys.readouterr().out
    rows = pd.read_csv(folder / "machines.csv")
    assert len(rows) == len(SMOKE.cells()) * SMOKE.machines
    assert rows.groupby(["states", "tokens", "zeros"]).dimension.count().eq(SMOKE.with_dimension).all()
    assert np.isfinite(rows[rows.zeros == UNIFILAR]["causal states"]).all()
    assert (folder / "random_processes.png").read_bytes().startswith(b"\x89PNG")
    kept = (folder / "machines.csv").stat().st_mtime_ns
    for again in ([], ["--replot"]):
        assert main(["--smoke", "--out", str(tmp_path), *again]) == 0
        assert (folder / "random_processes.md").read_text() == text
        assert (folder / "machines.csv").stat().st_mtime_ns == kept


def test_an_interrupted_census_goes_on_and_ends_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = census.Plan((2,), (2,), ("0.0", UNIFILAR), machines=3, with_dimension=0, max_states=100)
    census.measure(plan, 0, tmp_path / "whole.csv")
    left = [4]

    def breaking_off(cell: Cell, generator: torch.Generator) -> HiddenMarkovModel:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return draw(cell, generator)

    monkeypatch.setattr(census, "draw", breaking_off)
    with pytest.raises(KeyboardInterrupt):
        census.measure(plan, 0, tmp_path / "part.csv")
    assert len(pd.read_csv(tmp_path / "part.csv")) == 3
    monkeypatch.setattr(census, "draw", draw)
    census.measure(plan, 0, tmp_path / "part.csv")
    assert (tmp_path / "part.csv").read_text() == (tmp_path / "whole.csv").read_text()


def test_nothing_to_plot_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--replot", "--out", str(tmp_path)])
    assert ended.value.code == 2 and str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize(
    "process, expected",
    [
        (even(), {"closed": True, "mixed states": 4, "causal states": 2, "dimension": 0, "next token suffices": True}),
        (rrxor(), {"closed": True, "mixed states": 36, "causal states": 5, "next token suffices": False}),
        (rrxor(0.3, 0.6), {"closed": False, "mixed states": math.inf, "causal states": 5, "dimension": 0}),
        (mess3(), {"closed": False, "causal states": math.inf, "next token suffices": True}),
    ],
)
def test_what_is_known_of_a_machine(process: HiddenMarkovModel, expected: dict) -> None:
    found = examine(process, 300, with_dimension=True)
    assert {name: found[name] for name in expected} == expected
    assert found["dimension"] == pytest.approx(0.52, abs=0.01) or found["causal states"] < math.inf


@pytest.mark.parametrize("hits, count", [(0, 20), (7, 20), (20, 20), (33, 60)])
def test_intervals_are_scipy_s(hits: int, count: int) -> None:
    expected = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_the_summary_is_arithmetic() -> None:
    """One closes, one is finite only, five are fractal, one is countable and one, not asked for its dimension, infinite."""
    kind = {"states": 2, "tokens": 3, "zeros": "0.5", "seed": 0}
    machines = [
        (True, 2, 0.0, True),
        (False, 3, 0.0, True),
        (False, math.inf, 0.0, True),
        (False, math.inf, math.nan, False),
    ]
    machines += [(False, math.inf, size / 10, True) for size in (1, 2, 5, 8, 9)]
    names = ("closed", "causal states", "dimension", "next token suffices")
    rows = pd.DataFrame([kind | dict(zip(names, values, strict=True)) for values in machines])
    line = summary(rows).iloc[0]
    assert (line.machines, line.asked) == (9, 8)
    shares = {"closed": 1 / 9, "finite": 2 / 9, "sufficient": 8 / 9, "fractal": 5 / 8, "countable": 1 / 8}
    assert {name: line[name] for name in shares} == pytest.approx(shares)
    assert (line["fractal low"], line["fractal high"]) == pytest.approx(wilson(5, 8))
    assert line[["dimension low", "dimension", "dimension high"]].tolist() == pytest.approx([0.2, 0.5, 0.8])
    assert math.isnan(summary(rows[:-2]).iloc[0].dimension)  # three are too few for a median


def test_kinds_are_what_they_are_called() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        unifilar = draw(Cell(4, 3, UNIFILAR), generator).transition_matrices
        assert ((unifilar > 0).sum(2) <= 1).all() and unifilar.shape[0] == 3
        dense = draw(Cell(4, 3, "0.0"), generator).transition_matrices
        assert (dense > 0).all() and dense.shape == (3, 4, 4)
    zeros = [(draw(Cell(4, 3, "0.5"), generator).transition_matrices == 0).double().mean() for _ in range(40)]
    assert float(torch.stack(zeros).mean()) == pytest.approx(0.5, abs=0.08)
