"""Where beliefs that predict the next token equally separate, and where they merge. ``python -m comparisons.redundancy``"""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd
from matplotlib.axes import Axes

from comparisons.every_site import ITERATIONS, Case, EverySite, held_out, present
from comparisons.kept import markdown
from comparisons.model_pictures import Picture, by_model, point, spread
from pcnet.experiments import RunFolder, Schema, Tables, command
from pcnet.probing import SiteState, belief_beyond_next_token_law, separation, site_states
from pcnet.probing.rows.prefix_walk import walk
from pcnet.sites import Iterates

SITES = ("blocks.0.resid_pre", "blocks.*.resid_post", "norm", "cells.*.hidden")
SITES += ("layers.0.error", "layers.[1-9].value", "layers.[1-9].error")
"""From the senses to the read-out."""
NEGLIGIBLE = 1e-6
"""A site whose values vary less than this (errors before inference has begun) holds nothing."""


@dataclass(frozen=True)
class Redundancy(EverySite):
    """Where beliefs that predict the next token equally separate, and where they merge.

    On zrr and rrxor different beliefs have the same next-token law: to predict one token they need not be told apart, to
    predict the following ones they must. For every layer of the transformer, the GRU's state, and the values and errors of
    predictive-coding networks at every inference iteration: how much of the state's movement with the belief is between
    beliefs of equal law, beside the belief's own share, untrained copies and states dealt out anew within each law.
    """

    processes: dict[str, int] = field(default_factory=lambda: {"zrr": 10, "rrxor": 10})

    name: ClassVar[str] = "redundancy"
    schema = Schema(
        shares="process:text model:text copy:text seed site:text part:text iteration:text share explained spread "
        "beliefs laws words r2_beyond_law shuffled exact"
    )
    smoke: ClassVar = {"models": ["gru", "temporal_pc"], "processes": {"rrxor": 6}, "seeds": [0], "runs": None}

    def measure(self, case: Case, files: Path) -> Tables:
        exact = separation(case.rows.filtered, case.rows).share
        return {"shares": pd.DataFrame(lines_of(case)).assign(exact=exact)}

    def report(self, folder: RunFolder) -> str:
        table = by_model(folder.table("shares"))
        titles = (
            "Circles: trained. Bars: untrained. Crosses: states shuffled within each law",
            "All values (solid), all errors (dotted)",
        )
        Picture(titles, "share", frame, mark).draw(table, folder.path / "redundancy.png")
        return markdown(summary(table))


def states(case: Case) -> list[SiteState]:
    """What every site holds, at every iteration where there are any, and last the logits."""
    predictor, sites = case.predictor, present(case.predictor, SITES)
    found = site_states(predictor, case.rows, sites)
    if isinstance(predictor, Iterates):
        with case.iterating():
            on_the_way = site_states(predictor, case.rows, sites, ITERATIONS)
        found += [state for state in on_the_way if state.iteration != "equilibrium"]
    logits = walk(predictor, case.rows, sites[:1]).logits
    return [*found, SiteState("logits", "logits", "equilibrium", logits.log_softmax(-1))]


def lines_of(case: Case) -> Iterator[dict]:
    """Separation at every site and iteration, and how well a probe reads what the law leaves open of the belief."""
    rows, rest = case.rows, belief_beyond_next_token_law(case.rows)
    for state in states(case):
        features = state.features.double().numpy()
        if features.std(axis=0).max() < NEGLIGIBLE:
            continue
        line = {"site": state.site, "part": state.part, "iteration": state.iteration}
        line |= asdict(separation(features, rows)) | {"r2_beyond_law": held_out(features, rest, rows)}
        yield line | {"shuffled": separation(features, rows, shuffled=True).share}


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A line per model and site at the equilibrium."""
    ended = table[table["iteration"] == "equilibrium"]
    lines = []
    for (process, model, site), rows in ended.groupby(["process", "model", "site"], sort=False):
        kept, copies = (rows[rows["copy"] == kind] for kind in ("trained", "untrained"))
        if not len(kept):
            continue
        line = {"process": process, "model": model, "site": site, "seeds": len(kept), "share": spread(kept["share"])}
        line |= {"of the exact": spread(kept["share"] / kept["exact"])}
        line |= {"untrained share": spread(copies["share"]), "shuffled": spread(kept["shuffled"])}
        line |= {"variance within law explained": spread(kept["explained"]), "untrained ": spread(copies["explained"])}
        line |= {"R2 beyond law": spread(kept["r2_beyond_law"]), "untrained  ": spread(copies["r2_beyond_law"])}
        lines.append(line)
    return pd.DataFrame(lines)


def frame(axes: Axes, rows: pd.DataFrame) -> None:
    """Reference lines, limits and label of a panel."""
    axes.axhline(rows["exact"].iloc[0], color="black", lw=1, ls="--", label="exact belief")
    axes.axhline(0, color="black", lw=1, ls=":", label="merged (equal laws, equal states)")
    axes.set_ylabel(f"{rows['process'].iloc[0]}: share of movement\nbeyond the next-token law")
    axes.set_ylim(-0.08, 1.16)


def mark(axes: Axes, x: int, trained: pd.DataFrame, colour: str, label: str | None) -> None:
    """The share, and that of shuffled states as a cross."""
    point(axes, x, trained["share"], colour, label)
    axes.plot(x, trained["shuffled"].median(), "x", ms=5, color=colour)


if __name__ == "__main__":
    sys.exit(command("comparisons.redundancy.Redundancy"))
