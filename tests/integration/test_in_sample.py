"""The comparison of in-sample and held-out scores, as its command runs it."""

import pandas as pd

from comparisons import in_sample
from pcnet.experiments import command


def test_in_sample_scores_are_high_for_nothing(tmp_path, capsys):
    arguments = ["--smoke", "--out", str(tmp_path), "--workers", "0"]
    assert command("comparisons.in_sample.InSample", arguments) == 0
    table = pd.read_csv(tmp_path / "in_sample.csv")
    shuffled = table[table["target"] == in_sample.SHUFFLED]
    # 256 features for 110 words: in sample, nothing is decoded well
    assert (shuffled["as_published"] > 0.7).all() and (shuffled["held_out_equal"] < 0.05).all()
    (tmp_path / "in_sample.png").unlink()
    assert command("comparisons.in_sample.InSample", [*arguments, "--replot"]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "in_sample.csv"), table)
    assert (tmp_path / "in_sample.md").read_text() in capsys.readouterr().out
    assert (tmp_path / "in_sample.png").stat().st_size > 10000
