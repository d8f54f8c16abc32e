"""Table of what was measured."""

import pandas as pd

from comparisons.interventions.plan import LEAST, NEXT, RANDOM, SHUFFLED, SUBSPACE, WHOLE
from comparisons.model_pictures import spread


def table(rows: pd.DataFrame, losses: pd.DataFrame) -> pd.DataFrame:
    """A line per place: R2 of the whole move for the next 1 and the next few tokens, and its controls."""
    keys = ["process", "model", "place"]
    lost = {key: part.set_index("ablated").divergence for key, part in losses.groupby(keys)}
    whole = rows[rows.dose == 1.0].groupby([*keys, "pairs"], sort=False)
    return pd.DataFrame([line(*key, part) | {"nats lost": nats(lost[key[:3]])} for key, part in whole])


def line(process: str, model: str, place: str, pairs: str, part: pd.DataFrame) -> dict[str, str]:
    """Of one place and kind of pairs."""
    farthest = part.horizon.max()
    last, first = part[part.horizon == farthest], part.iloc[0]
    own = part[part.edit == LEAST]
    return {
        "process": process,
        "model": model,
        "state": place,
        "pairs": f"{pairs} ({first['count']})",
        "unsettled": f"{first.unsettled} of {first['count'] + first.unsettled}",
        "words learned from": str(first.learned_from),
        "R2, next 1": r2(part[part.horizon == 1], LEAST),
        f"R2, next {farthest} (95 %)": interval(last),
        f"least of 1..{farthest}": f"{own.r2.min():.3f}",
        **{name: r2(last, name) for name in (WHOLE, "pattern", "pseudo-inverse", "optimised")},
        "random (least to largest)": spread(last[last.edit == RANDOM].r2),
        **{name: r2(last, name) for name in (SHUFFLED, SUBSPACE, NEXT)},
    }


def r2(part: pd.DataFrame, edit: str) -> str:
    """Of one edit; "-" where the exact law doesn't change or there is no such edit."""
    values = part[part.edit == edit].r2
    return "-" if values.isna().all() else f"{values.mean():.3f}"


def interval(part: pd.DataFrame) -> str:
    row = part[part.edit == LEAST].iloc[0]
    return f"{row.r2:.3f} ({row.low:.3f} to {row.high:.3f})"


def nats(lost: pd.Series) -> str:
    """When nothing is emptied, random subspaces (median, least and largest) and the belief's."""
    random = lost[lost.index.str.startswith(RANDOM)]
    return f"nothing {lost['nothing']:.4f}, random {spread(random, 4)}, belief {lost['belief']:.4f}"
