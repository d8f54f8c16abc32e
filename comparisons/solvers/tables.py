"""What was measured, as a table and as a verdict."""

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


def verdict(rows: pd.DataFrame) -> str:
    """What was set out to be reached, and whether it was. A ratio whose quartiles hold 1 is a tie."""
    rows = rows.assign(
        point=[f"{weights} {depth}x{width} batch {batch}" for depth, width, weights, batch in rows[KEY].to_numpy()]
    )
    default = rows[rows.solver == DEFAULT]
    there = default.arrived.sum()
    parts = [f"converged: the default solver at {there} of {len(default)} points"]
    parts += by_themselves(rows, default)
    parts += against_errors(rows[rows.solver == ERRORS])
    for solver, kind in ((PLAIN, "plain"), (VALUES, "with momentum or without")):
        parts += against_values(rows[(rows.solver == solver) & (rows.depth == DEMANDED)], kind)
    return "\n".join(f"* {part}" for part in parts) + "\n"


def by_themselves(rows: pd.DataFrame, default: pd.DataFrame) -> list[str]:
    """Among solvers that set themselves."""
    others = rows[~rows.solver.isin([DEFAULT, *TUNED])]
    rivals, early = others[others.arrived], others[~others.arrived & (others.ratio < 1)]
    ahead, level = rivals[rivals.ratio_high < 1], rivals[tied(rivals)]
    missing = set(default[~default.arrived].point)
    behind = set(ahead.point) | missing
    ties = set(level.point) - behind
    text = f"among solvers that set themselves: the default is first at {len(default) - len(behind | ties)}"
    parts = [f"{text} of {len(default)} points, tied at {len(ties)}, behind at {len(behind)}"]
    parts += [f"ahead of the default: {named(ahead)}"] if len(ahead) else []
    parts += [f"tied with the default: {named(level)}"] if len(level) else []
    parts += [f"given up before the default's time, without hope: {named(early)}"] if len(early) else []
    return parts + ([f"the default did not arrive: {', '.join(sorted(missing))}"] if missing else [])


def against_errors(errors: pd.DataFrame) -> list[str]:
    """Beside descent in errors that an oracle has tuned."""
    there = errors[errors.arrived]
    if there.empty:
        return [f"descent in errors, tuned at every point by an oracle, arrived at none of {len(errors)} points"]
    ahead, level = there[there.ratio_high < 1], there[tied(there)]
    spread = f"{there.ratio.median():.2g} times the default's time"
    parts = [
        f"descent in errors, tuned at every point by an oracle, takes {spread} where it arrives (median; "
        f"{there.ratio.min():.2g} to {there.ratio.max():.2g}); {stops(errors)}it is faster at {len(ahead)} of {len(errors)} "
        f"points, tied at {len(level)}"
    ]
    parts += [f"faster than the default: {named(ahead)}"] if len(ahead) else []
    steps = there.iterations
    return [*parts, f"its iterations: {steps.median():.0f} (median; {steps.min()} to {steps.max()})"]


def stops(rows: pd.DataFrame) -> str:
    """How often solvers did not arrive; some are given up before the default's time, because they promise to take far longer."""
    stopped = rows[~rows.arrived]
    early = (
        f" ({(stopped.ratio < 1).sum()} of them given up before the default's time)"
        if (stopped.ratio < 1).any()
        else ""
    )
    return f"stopped before it arrived at {len(stopped)}{early}; " if len(stopped) else ""


def against_values(values: pd.DataFrame, kind: str) -> list[str]:
    """Beside descent in values that an oracle has tuned, at the depth for which 20 times was demanded."""
    if values.empty:
        return []
    stopped, enough = ~values.arrived, values.ratio >= 20
    least, most = values.loc[values.ratio.idxmin()], values.loc[values.ratio.idxmax()]
    spread = " to ".join(("" if row.arrived else "more than ") + f"{row.ratio:.3g}" for row in (least, most))
    parts = [
        f"descent in values, {kind}, tuned at every point by an oracle, at depth {DEMANDED}: {spread} times the default's time; "
        f"at least 20 times at {int(enough.sum())} of {len(values)} points ({int((enough & stopped).sum())} of them stopped there)"
    ]
    return parts + ([f"below 20 times: {named(values[~enough], solver=False)}"] if not enough.all() else [])


def tied(rows: pd.DataFrame) -> pd.Series:
    return (rows.ratio_low <= 1) & (rows.ratio_high >= 1)


def named(rows: pd.DataFrame, solver: bool = True) -> str:
    """Points, with ratios."""
    return "; ".join(f"{row.point}{f', {row.solver},' if solver else ''} {ratio(row)}" for _, row in rows.iterrows())
