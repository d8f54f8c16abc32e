"""The command that says what a probe costs runs, and its streams hold little of their files."""

import pandas as pd

from comparisons import probe_speed
from pcnet.experiments import command

SHUFFLES = "3 shuffles, 300 orders"


def test_smoke(tmp_path) -> None:
    arguments = ["--smoke", "--threads", "1", "--out", str(tmp_path), "--workers", "0"]
    assert command("comparisons.probe_speed.ProbeSpeed", arguments) == 0
    table = pd.read_csv(tmp_path / "probe_speed.csv").set_index("part")
    costs = table["seconds"]
    assert abs(costs["all together"] - costs.loc[:SHUFFLES].sum()) < 1e-9
    assert {"model", "untrained copy 2", "last_4_table"} <= set(table.index)


def test_activations_in_a_file_are_never_held_whole() -> None:
    few, many = (probe_speed.streamed_peak(count, 256) for count in (1000, 4000))
    assert many["features_mib"] - few["features_mib"] > 29
    assert many["peak_mib"] - few["peak_mib"] < 0.5 * (many["features_mib"] - few["features_mib"])
    assert many["peak_mib"] < many["features_mib"]
