"""The comparison of in-sample and held-out scores, as its command runs it."""

import pandas as pd
import pytest

from comparisons import in_sample


def test_in_sample_scores_are_high_for_nothing(tmp_path, capsys):
    assert in_sample.main(["--smoke", "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "smoke" / "in_sample.csv")
    shuffled = table[table["target"] == in_sample.SHUFFLED]
    # 256 features for 110 words: in sample, nothing is decoded well
    assert (shuffled["as published"] > 0.7).all() and (shuffled["held out, equal"] < 0.05).all()
    before = (tmp_path / "smoke" / "in_sample.csv").stat().st_mtime_ns
    assert in_sample.main(["--smoke", "--out", str(tmp_path), "--replot"]) == 0
    assert (tmp_path / "smoke" / "in_sample.csv").stat().st_mtime_ns == before
    assert "shuffled beliefs" in capsys.readouterr().out
    assert (tmp_path / "smoke" / "in_sample.png").stat().st_size > 10000


def test_nothing_is_drawn_of_nothing(tmp_path):
    with pytest.raises(SystemExit):
        in_sample.main(["--replot", "--out", str(tmp_path)])
