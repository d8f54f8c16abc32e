"""Error rates, power and coverage with their intervals, and whether each bound is kept."""

import math
from typing import NamedTuple

import pandas as pd
import scipy.stats

from comparisons.calibration.cases import STRENGTHS
from comparisons.shares import percent, wilson

OWN = {
    "function of the next-token law": "p next_token",
    "function of the last k tokens": "p last_4_table",
    "shuffled belief": "p last_1_table",
    "random features": "p shuffled",
    "belief of another process": "p other_process",
}
"""The control that describes a class exactly: its own test rejects as often as the level says, the verdict less often."""


def line(name: str, hits: int, count: int) -> dict:
    """A share of cases."""
    low, high = wilson(hits, count)
    return {"cases": name, "count": count, "yes": hits, "share": hits / count, "low": low, "high": high}


def reservoir_p(rows: pd.DataFrame) -> pd.Series:
    """The largest p value over the reservoirs' banks."""
    return rows[[name for name in rows.columns if name.startswith("p reservoir")]].max(axis=1)


def errors(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each class of negatives: how often the verdict says yes, and how often its own control's test rejects."""
    lines = []
    for (group, kind), part in rows[rows.group.isin(["negative", "beyond"])].groupby(["group", "kind"], sort=False):
        hits = int((part.answer == "yes").sum())
        found = line(kind, hits, len(part)) | {"group": group, "excess p": excess_p(hits, len(part))}
        if kind in OWN or kind.startswith("reservoir"):
            own = part[OWN[kind]] if kind in OWN else reservoir_p(part)
            low, high = wilson(int((own <= 0.05).sum()), len(part))
            found |= {"own control rejects": (own <= 0.05).mean(), "own low": low, "own high": high}
        lines.append(found)
    return pd.DataFrame(lines)


def excess_p(hits: int, count: int, level: float = 0.05) -> float:
    """Chance of as many or more errors if each case erred with probability `level`."""
    return float(scipy.stats.binom.sf(hits - 1, count, level))


def power(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each strength: how often a planted belief is found."""
    beliefs = rows[rows.group.isin(["positive", "weaker"])]
    return pd.DataFrame(
        [
            line(f"{strength:g}", int((part.answer == "yes").sum()), len(part)) | {"strength": strength}
            for strength, part in beliefs.groupby("strength")
        ]
    )


def by_setting(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each setting: how often a belief of the stated strength is found."""
    positives = rows[rows.group == "positive"]
    return pd.DataFrame(
        [
            line(f"{process}, words to length {length}, {width} features", int((part.answer == "yes").sum()), len(part))
            for (process, length, width), part in positives.groupby(["process", "length", "width"], sort=False)
        ]
    )


def coverage(samples: pd.DataFrame) -> pd.DataFrame:
    """A line for each kind of sample, and one for all: how often the interval holds the score on fresh rows."""
    hit = samples.low.le(samples.fresh) & samples.fresh.le(samples.high)
    keys = ["process", "length", "width", "strength", "sequences"]
    lines = []
    for (process, length, width, strength, sequences), part in samples.groupby(keys, sort=False):
        name = f"{process}, {sequences} sequences of {length}, {width} features, strength {strength:g}"
        ends = {"fresh": part.fresh.median(), "half width": (part.high - part.low).median() / 2}
        lines.append(line(name, int(hit[part.index].sum()), len(part)) | ends)
    return pd.DataFrame([*lines, line("all", int(hit.sum()), len(hit))])


class Bound(NamedTuple):
    """What was demanded, and whether it is kept."""

    kept: bool
    text: str


def bounds(rows: pd.DataFrame, samples: pd.DataFrame) -> list[Bound]:
    """Every bound and what was found."""
    negatives, positives = rows[rows.group == "negative"], rows[rows.group == "positive"]
    wrong, found = int((negatives.answer == "yes").sum()), int((positives.answer == "yes").sum())
    most, least = int(0.07 * len(negatives)), math.ceil(0.95 * len(positives))
    classes = errors(negatives)
    worst = classes.sort_values("excess p").iloc[0]
    unable = rows[rows.group == "undecidable"]
    honest = int((unable.answer == "not decidable here").sum())
    held, strengths = coverage(samples)["share"], ", ".join(f"{strength:g}" for strength in STRENGTHS)
    return [
        Bound(wrong <= most, f"{wrong} of {len(negatives)} negatives are called yes; at most {most} may be"),
        Bound(
            worst["excess p"] > 0.05 / len(classes),
            f"the worst class, {worst['cases']}: {worst['yes']} of {worst['count']}, p = {worst['excess p']:.2g} for more "
            f"than 5 %, before correcting for {len(classes)} classes",
        ),
        Bound(
            found >= least,
            f"{found} of {len(positives)} positives at strengths {strengths} are found; at least {least} must be",
        ),
        Bound(
            honest == len(unable), f"{honest} of {len(unable)} beliefs that a control determines are called undecidable"
        ),
        Bound(
            0.93 <= held.iloc[-1] <= 0.97,
            f"intervals hold the score on fresh rows in {100 * held.iloc[-1]:.1f} % of {len(samples)} samples "
            f"({100 * held.iloc[:-1].min():.1f} to {100 * held.iloc[:-1].max():.1f} % by kind); 93 to 97 % are wanted",
        ),
    ]


def readable(rows: pd.DataFrame, samples: pd.DataFrame) -> list[pd.DataFrame]:
    """The tables for people: negatives by class, positives by strength and by setting, coverage."""
    wrong = errors(rows)
    negatives = named(wrong, "negatives", "called yes").assign(
        **{
            "p of more than 5 %": [f"{p:.2g}" for p in wrong["excess p"]],
            "its own control's test rejects, %": percent(wrong, ("own control rejects", "own low", "own high"), 1),
        }
    )
    return [
        negatives,
        named(power(rows), "strength (belief / noise)", "found"),
        named(by_setting(rows), f"strength {min(STRENGTHS):g} or more", "found"),
        named(coverage(samples), "sampled rows", "hold the fresh score"),
    ]


def named(lines: pd.DataFrame, cases: str, answer: str) -> pd.DataFrame:
    """Lines of shares under names for people."""
    intervals = percent(lines, ("share", "low", "high"), 1)
    columns = {cases: lines["cases"], "cases": lines["count"], answer: lines["yes"], "% (95 % interval)": intervals}
    return pd.DataFrame(columns)
