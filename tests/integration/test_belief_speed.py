"""The comparison of speed, shortened: what it calls right, and that it prints again what it measured."""

from pathlib import Path

import numpy as np
import pytest

from comparisons.belief_speed.__main__ import main, summary
from comparisons.belief_speed.tasks import ROWS, Hidden, error, filtered
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
    found = summary(ROWS["filter3"], [1.0, 2.0, 30.0], [2.0, 1.0, 40.0])
    assert found["ratio"] == 0.75
    assert found["reached"] == "yes"
    assert summary(ROWS["filter3"], [3.0], [2.0])["reached"] == "no"
    assert summary(ROWS["words"], [201.0], None)["reached"] == "no"


@pytest.mark.slow
def test_shortened_and_again_from_its_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--smoke", "--out", str(tmp_path)]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 5
    assert main(["--replot", "--smoke", "--out", str(tmp_path)]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")] == table


def test_nothing_measured_is_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--replot", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err
