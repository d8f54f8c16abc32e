"""What `pcnet probe` prints: a table, and what may be said of each site."""

import pandas as pd

from pcnet.cli.probe.controls import NETWORKS
from pcnet.cli.probe.question import Question
from pcnet.cli.probe.scores import ALL_TOGETHER, SUBSPACES, headline_rows
from pcnet.probing.controls.tested import DECIDABLE_BELOW

LABELS = {
    "": "the site itself",
    ALL_TOGETHER: "next-token law and site together",
    "random_subspace": f"random subspace, best of {SUBSPACES}",
    "untrained_network": f"untrained network, best of {NETWORKS}",
    "shuffled": "shuffled within length, 95th percentile",
    "shuffled_keeping_last_token": "shuffled, last token kept, 95th pct",
    "shuffled_everywhere": "shuffled everywhere, 95th percentile",
    "next_token": "next-token law",
    "last_1_table": "last token",
    **{f"last_{k}_table": f"last {k} tokens" for k in (2, 3, 4)},
    "additive_history": "additive history",
    "constrained": "constrained belief",
    "softmax": "the model's softmax",
}
"""What a reader is told of a control."""
OWN = (ALL_TOGETHER, "random_subspace", "shuffled", "shuffled_keeping_last_token", "shuffled_everywhere")
"""Controls of which none is another explanation of a site's score: a floor, or the site itself in other words."""


def label_of(control: str) -> str:
    """What a reader is told of a control."""
    cut = control.removeprefix("additive_history_")
    return LABELS.get(control, f"additive history, last {cut} tokens")


def summary_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Median and range over fold seeds, of all positions together, rows weighted equally within a length.

    Args:
        scores: of every site and control.
    """
    groups = headline_rows(scores).groupby(["site", "control", "rows", "n_eff", "features", "departures"], sort=False)
    found = groups.agg(r2=("r2", "median"), r2_min=("r2", "min"), r2_max=("r2", "max"), rmse=("rmse", "median"))
    found = found.reset_index()
    found.insert(2, "label", found["control"].map(label_of))
    return found


def text(summary: pd.DataFrame, readings: pd.DataFrame, question: Question) -> str:
    """The table, and a sentence for each site.

    Args:
        summary: from ``summary_of``.
        readings: from ``readings_of``.
        question: what was decoded.
    """
    rows = question.rows
    lines = [
        f"Held-out R2 of {question.title}; {int(summary['rows'].iloc[0]):,} rows scored, worth "
        f"{summary['n_eff'].iloc[0]:,.1f} equally weighted ones, {rows.by_word().count:,} distinct words; "
        f"{summary['departures'].iloc[0]}",
        "",
        f"{'':44}{'features':>9}{'R2':>9}{'range over fold seeds':>24}{'RMSE':>9}",
    ]
    sites = [site for site in dict.fromkeys(summary["site"]) if site]
    for site in [*sites, ""]:
        lines += [site or "without looking at a site"]
        lines += [_line(row) for row in summary[summary["site"] == site].itertuples()]
        lines += [_reading(row) for row in readings[readings["site"] == site].itertuples()]
    meanings = [f"({meaning})" for meaning in dict.fromkeys(readings["meaning"])]
    return "\n".join([*lines, *meanings, "", *(_sentence(summary, site) for site in sites)])


def _line(row: tuple) -> str:
    # a shuffle has one deal to folds
    spread = f"{row.r2_min:.3f} to {row.r2_max:.3f}" if row.r2_max > row.r2_min else ""
    return f"    {row.label:40}{row.features:9}{row.r2:9.3f}{spread:>24}{row.rmse:9.4f}"


def _reading(row: tuple) -> str:
    chance = "" if row.chance != row.chance else f"by chance {row.chance:.3f}"
    return f"    {row.measure.replace('_', ' '):40}{row.value:18.3f}{chance:>24}"


def _sentence(summary: pd.DataFrame, site: str) -> str:
    """What may be said of one site."""
    found = summary[summary["site"] == site].set_index("control")["r2"]
    shared = summary[summary["site"] == ""].set_index("control")["r2"]
    controls = pd.concat([shared, found.drop(["", *OWN], errors="ignore")])
    best, score = controls.idxmax(), found[""]
    if not score > max(found["shuffled"], 0.0):
        return f"{site}: no more than shuffled targets ({found['shuffled']:.3f}); nothing is decoded"
    if shared.max() >= DECIDABLE_BELOW:
        return f"{site}: not decidable on this process: {label_of(shared.idxmax())} alone explains {shared.max():.3f}"
    said = f"{site}: {score - controls.max():+.3f} beside {label_of(best)}, the best control"
    if not score > controls.max():
        return f"{said}: nothing beyond its controls is shown"
    if ALL_TOGETHER not in found:
        return said
    gain = found[ALL_TOGETHER] - shared["next_token"]
    return f"{said}; {gain:+.3f} on top of the exact next-token law"
