"""What was measured, point by point, and where the default solver stands."""

import pandas as pd

from comparisons.solvers.points import KEY
from comparisons.solvers.race import DEFAULT, DEMANDED, ERRORS, PLAIN, TUNED, VALUES


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per point: the default, and how many times as long the others took, with quartiles over paired rounds."""
    lines = []
    for key, part in rows.groupby(KEY, sort=False):
        table = part.set_index("solver")
        default = table.loc[DEFAULT]
        alone = table[table.arrived & ~table.index.isin([DEFAULT, *TUNED])]
        fastest = alone.ratio.idxmin() if len(alone) else ""
        lines.append(
            {
                **dict(zip(KEY, key)),
                "default ms": f"{default.milliseconds:.1f}" + ("" if default.arrived else " (not there)"),
                "its iterations": int(default.iterations),
                "values, plain, tuned": ratio(table.loc[PLAIN]) if PLAIN in table.index else "",
                "values, tuned": ratio(table.loc[VALUES]),
                "errors, tuned": ratio(table.loc[ERRORS]),
                "errors' iterations": int(table.loc[ERRORS].iterations),
                "best that sets itself": ratio(table.loc[fastest]) if fastest else "",
                "which": fastest,
                "rows elsewhere": int(table.elsewhere.max()),
            }
        )
    return pd.DataFrame(lines)


def ratio(row: pd.Series) -> str:
    """How many times the default's time, and quartiles where it was timed in turns; a bound where it did not arrive."""
    spread = f" ({row.ratio_low:.2f} to {row.ratio_high:.2f})" if row.rounds > 1 else ""
    return ("" if row.arrived else "> ") + f"{row.ratio:.3g}" + spread


ENOUGH = 20
"""Times the default's time that tuned descent in values was meant to take."""


def standing(rows: pd.DataFrame) -> pd.DataFrame:
    """The default beside those that set themselves, and beside every tuned descent, over points.

    A ratio whose quartiles hold 1 is a tie. The default is behind where another is faster, and where it does not arrive
    itself. Times are ratios to the default's; of a solver that was stopped, the ratio is a bound from below.
    """
    rows = with_points(rows)
    deep = rows.depth == DEMANDED
    groups = {
        "all that set themselves": ~rows.solver.isin([DEFAULT, *TUNED]),
        ERRORS: rows.solver == ERRORS,
        f"{PLAIN}, depth {DEMANDED}": (rows.solver == PLAIN) & deep,
        f"{VALUES}, depth {DEMANDED}": (rows.solver == VALUES) & deep,
    }
    missing = set(rows[(rows.solver == DEFAULT) & ~rows.arrived].point)
    lines = [beside(name, rows[chosen], missing) for name, chosen in groups.items() if chosen.any()]
    return pd.DataFrame(lines)


def beside(name: str, others: pd.DataFrame, missing: set[str]) -> dict:
    """A line of `standing`; `missing` are the points at which the default does not arrive."""
    points, there, stopped = set(others.point), others[others.arrived], others[~others.arrived]
    behind = set(there[there.ratio_high < 1].point) | (missing & points)
    tied = set(there[ties(there)].point) - behind
    return {
        "compared with the default": name,
        "points": len(points),
        "default first": len(points - behind - tied),
        "tied": len(tied),
        "behind": len(behind),
        "stopped": len(stopped),
        "before the default's time": int((stopped.ratio < 1).sum()),
        "median time": there.ratio.median(),
        "least": others.ratio.min(),
        "most": others.ratio.max(),
        f"at least {ENOUGH} times": int((others.ratio >= ENOUGH).sum()),
        "median iterations": there.iterations.median(),
    }


def exceptions(rows: pd.DataFrame) -> str:
    """Points at which the default does not arrive, or another solver is as fast or faster, with ratios."""
    rows = with_points(rows)
    default, others = rows[rows.solver == DEFAULT], rows[(rows.solver != DEFAULT) & rows.arrived]
    parts = [f"the default arrives at {default.arrived.sum()} of {len(default)} points"]
    parts += [f"it does not arrive: {point}" for point in default[~default.arrived].point]
    for words, chosen in (("faster than the default", others.ratio_high < 1), ("tied with the default", ties(others))):
        found = [f"{row.point}, {row.solver}, {ratio(row)}" for _, row in others[chosen].iterrows()]
        parts += [f"{words}: {'; '.join(found)}"] if found else []
    return "\n".join(f"* {part}" for part in parts)


def with_points(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the names of their points."""
    names = [f"{weights} {depth}x{width} batch {batch}" for depth, width, weights, batch in rows[KEY].to_numpy()]
    return rows.assign(point=names)


def ties(rows: pd.DataFrame) -> pd.Series:
    return (rows.ratio_low <= 1) & (rows.ratio_high >= 1)
