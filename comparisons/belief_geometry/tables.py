"""Tables of ``comparisons.belief_geometry``."""

from itertools import combinations

import pandas as pd

from comparisons.belief_geometry.measures import NOTHING, PROBE, TRUTHLESS
from comparisons.model_pictures import by_model, spread
from pcnet.probing import paired_seeds


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """Scores of the belief at the site that was fixed before training: all values, the last stream, the hidden state."""
    wanted = {"iteration": "equilibrium", "weights": "equal", "target": "belief"}
    return by_model(table[table["headline"].eq(True) & (table[list(wanted)] == pd.Series(wanted)).all(axis=1)])


def summary(table: pd.DataFrame, outlines: pd.DataFrame) -> pd.DataFrame:
    """A line per process and model: the headline site trained and untrained, all layers together, and the shapes."""
    lines = []
    for (process, model), rows in headline(table).groupby(["process", "model"], sort=False):
        kept, copies = (rows[rows["copy"] == kind]["r2"] for kind in ("trained", "untrained"))
        if not len(kept):
            continue
        layers = (table["site"] == "all activation") & (table["copy"] == "trained") & (table["weights"] == "equal")
        layers &= (table["process"] == process) & (table["model"] == model) & (table["target"] == "belief")
        line = {"process": process, "model": model, "seeds": kept.count(), "R2": spread(kept)}
        line |= {
            "all layers": spread(table[layers]["r2"]),
            "best untrained R2": f"{copies.max():.3f}" if len(copies) else "-",
        }
        mine = outlines[(outlines["process"] == process) & (outlines["model"] == model)]
        lines.append(line | outline(mine))
    return pd.DataFrame(lines)


def outline(rows: pd.DataFrame) -> dict[str, str]:
    """How the set that is decoded with and without ground truth compares with the exact one."""
    kept = rows[rows["copy"] == "trained"].groupby("decoder").get_group
    bare = rows[(rows["copy"] == "untrained") & (rows["decoder"] == TRUTHLESS)]
    read, blind, nothing = (kept(name) for name in (PROBE, TRUTHLESS, NOTHING))
    return {
        "distance R2": spread(read["distance_r2"]),
        "Procrustes": spread(read["procrustes"]),
        "correlation dimension": spread(read["correlation_dimension"]),
        f"{TRUTHLESS}: rank": "/".join(str(int(rank)) for rank in blind["rank"]),
        f"{TRUTHLESS}: R2": spread(blind["r2"]),
        "its distance R2": spread(blind["distance_r2"]),
        f"untrained, {TRUTHLESS}: R2": spread(bare["r2"]),
        f"{NOTHING}: R2": spread(nothing["r2"]),
    }


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Every two models at their headline sites, paired by training seed; empty with fewer than two seeds in common."""
    lines = []
    kept = headline(table)
    for process, rows in kept[kept["copy"] == "trained"].groupby("process", sort=False):
        scores = rows.pivot(index="seed", columns="model", values="r2")[list(dict.fromkeys(rows["model"]))]
        for one, other in combinations(scores, 2):
            both = scores[[one, other]].dropna()
            if len(both) >= 2:
                test = paired_seeds(both[one].to_list(), both[other].to_list())
                low, high = test.difference.low, test.difference.high
                line = {"process": process, "one": one, "other": other, "seeds": len(both)}
                line |= {"difference in R2": f"{test.difference.estimate:+.3f}"}
                lines.append(line | {"95 % interval": f"{low:+.3f} to {high:+.3f}", "p": f"{test.p_value:.3g}"})
    return pd.DataFrame(lines)
