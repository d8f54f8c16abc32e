"""The comparison of speed, shortened: what it calls right, and that it prints again what it measured."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from comparisons.belief_speed import BeliefSpeed
from comparisons.belief_speed.experiment import compared
from comparisons.belief_speed.tasks import ROWS, Hidden, error, filtered
from pcnet.experiments import command
from pcnet.processes import HiddenMarkovModel, mess3


def test_the_task_of_three_states_is_mess3() -> None:
    task = Hidden(3, 3, 2, 2).arrays()
    matrices = task["chain"] * task["emission"].T[:, None]
    np.testing.assert_allclose(matrices, mess3(0.05, 0.85).transition_matrices, atol=1e-15)


def test_the_reference_is_a_product_of_matrices() -> None:
    task = Hidden(5, 4, 3, 4).arrays()
    process = HiddenMarkovModel(task["chain"] * task["emission"].T[:, None])
    beliefs, surprise = filtered(task, task["tokens"])
    for row, word in enumerate(task["tokens"]):
        joint = np.linalg.multi_dot([task["initial"], *process.transition_matrices.numpy()[word]])
        np.testing.assert_allclose(beliefs[row, -1], joint / joint.sum(), rtol=1e-12)
        assert surprise[row] == pytest.approx(np.log(joint.sum()), rel=1e-12)
    answer = {"tokens": task["tokens"], "filtered": beliefs + 1e-3, "log_likelihood": surprise}
    assert error(task, answer) == pytest.approx(1e-3, rel=1e-6)


def test_a_ratio_is_paired_and_judged_by_its_median() -> None:
    found = compared([1.0, 2.0, 30.0], [2.0, 1.0, 40.0])
    assert found["ratio"] == 0.75 and (found["pcnet_ms"], found["peer_ms"]) == (2.0, 2.0)
    assert ROWS["filter3"].reached(2.0, 0.75) and not ROWS["filter3"].reached(3.0, 1.5)
    assert ROWS["filter3"].reached(3.0, np.nan) is None  # nobody beside it
    assert ROWS["words"].reached(199.0, np.nan) and not ROWS["words"].reached(201.0, np.nan)


@pytest.mark.slow
def test_shortened_and_again_from_its_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--smoke", "--out", str(tmp_path), "--workers", "0"]
    assert command("comparisons.belief_speed.BeliefSpeed", arguments) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 5
    timed = pd.read_csv(tmp_path / "belief_speed.csv")
    assert sorted(timed["row"]) == ["filter3", "mixed_states", "words"] and (timed["pcnet_ms"] > 0).all()
    assert command("comparisons.belief_speed.BeliefSpeed", [*arguments, "--replot"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")] == table


@pytest.mark.parametrize("setting", [{"rows": ("filter5",)}, {"rounds": 0}, {"burst": 0.0}])
def test_what_cannot_be_timed_is_refused(setting: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        BeliefSpeed(**setting)
