"""The census: small and end to end, with a lost part found again, and its arithmetic by other means."""

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from comparisons.random_processes import UNIFILAR, Kind, examine, summary
from comparisons.shares import wilson
from pcnet.experiments import command
from pcnet.processes import HiddenMarkovModel, even, mess3, rrxor


def census(folder: Path, *options: str) -> int:
    arguments = ["--smoke", "--out", str(folder), "--workers", "0", *options]
    return command("comparisons.random_processes.RandomProcesses", arguments)


def test_smoke_examines_once_and_draws_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert census(tmp_path) == 0
    text = (tmp_path / "random_processes.md").read_text()
    assert text in capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "machines.csv")
    assert len(rows) == 6 * 4
    assert rows.groupby(["states", "tokens", "zeros"]).dimension.count().eq(1).all()
    assert np.isfinite(rows[rows.zeros == UNIFILAR]["causal_states"]).all()
    assert (tmp_path / "random_processes.png").read_bytes().startswith(b"\x89PNG")
    # what is lost is found again, and equal: every kind has a seed of its own
    shutil.rmtree(tmp_path / "parts" / "3-2-0.5")
    assert census(tmp_path, "--replot") == 0
    assert len(pd.read_csv(tmp_path / "machines.csv")) == 5 * 4
    assert census(tmp_path) == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "machines.csv"), rows)
    assert (tmp_path / "random_processes.md").read_text() == text


@pytest.mark.parametrize(
    "process, expected",
    [
        (even(), {"closed": True, "mixed_states": 4, "causal_states": 2, "dimension": 0, "next_token_suffices": True}),
        (rrxor(), {"closed": True, "mixed_states": 36, "causal_states": 5, "next_token_suffices": False}),
        (rrxor(0.3, 0.6), {"closed": False, "mixed_states": math.inf, "causal_states": 5, "dimension": 0}),
        (mess3(), {"closed": False, "causal_states": math.inf, "next_token_suffices": True}),
    ],
)
def test_what_is_known_of_a_machine(process: HiddenMarkovModel, expected: dict) -> None:
    found = examine(process, 300, with_dimension=True)
    assert {name: found[name] for name in expected} == expected
    assert found["dimension"] == pytest.approx(0.52, abs=0.01) or found["causal_states"] < math.inf


@pytest.mark.parametrize("hits, count", [(0, 20), (7, 20), (20, 20), (33, 60)])
def test_intervals_end_where_the_score_test_rejects(hits: int, count: int) -> None:
    """Wilson's interval holds the shares p with (hits / count - p)^2 <= z^2 p (1 - p) / count."""
    share, allowed = hits / count, 1.959963984540054**2 / count
    for end in wilson(hits, count):
        assert (share - end) ** 2 == pytest.approx(allowed * end * (1 - end), abs=1e-12)


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
    names = ("closed", "causal_states", "dimension", "next_token_suffices")
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
        unifilar = Kind(4, 3, UNIFILAR).draw(generator).transition_matrices
        assert ((unifilar > 0).sum(2) <= 1).all() and unifilar.shape[0] == 3
        dense = Kind(4, 3, "0.0").draw(generator).transition_matrices
        assert (dense > 0).all() and dense.shape == (3, 4, 4)
    zeros = [(Kind(4, 3, "0.5").draw(generator).transition_matrices == 0).double().mean() for _ in range(40)]
    assert float(torch.stack(zeros).mean()) == pytest.approx(0.5, abs=0.08)
