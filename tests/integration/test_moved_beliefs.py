"""The command that moves the states of trained models to other beliefs."""

import pandas as pd
import pytest

from comparisons.interventions.__main__ import main
from comparisons.interventions.bench import RANDOM, SMOKE


@pytest.mark.slow
def test_smoke_run_is_resumed_and_drawn_again(tmp_path, capsys):
    assert main(["--smoke", "--out", str(tmp_path)]) == 0
    folder = tmp_path / "smoke"
    made = {name: (folder / name).read_bytes() for name in ("moves.csv", "ablations.csv", "interventions.csv")}
    moves = pd.read_csv(folder / "moves.csv")
    assert set(moves.model) == {"transformer", "gru", "temporal_pc"}
    assert set(moves.horizon) == {1, 2}
    random = moves[moves.edit == RANDOM]
    assert set(random.dose) == set(SMOKE.doses)
    assert "| mess3 | gru | hidden units |" in capsys.readouterr().out
    before = (folder / "moves.csv").stat().st_mtime_ns
    assert main(["--smoke", "--out", str(tmp_path)]) == 0
    assert (folder / "moves.csv").stat().st_mtime_ns == before  # nothing was missing
    (folder / "interventions.png").unlink()
    assert main(["--smoke", "--replot", "--out", str(tmp_path)]) == 0
    assert (folder / "interventions.png").stat().st_size > 0
    assert {name: (folder / name).read_bytes() for name in made} == made


def test_replot_of_nothing_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--replot", "--out", str(tmp_path)])
    assert "there is nothing measured in" in capsys.readouterr().err
