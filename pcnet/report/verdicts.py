"""What the numbers of a run allow one to say, in plain sentences; and what they don't."""

import math

import pandas as pd

from pcnet.report import results as run
from pcnet.report.headlines import MISSING, fixed, nats, pair
from pcnet.report.results import WEIGHTS, Results
from pcnet.report.text import control_name

ENOUGH_CONVERGED = 0.999
ENOUGH_SEEDS = 5
QUESTION = "Do their states encode the belief beyond every control?"
BLIND = {
    "residual": "the part of the belief that no function of the next-token law explains",
    "invisible": "the part of the belief that is affinely invisible in the next-token law",
}


def answer(results: Results, frame: pd.DataFrame) -> str:
    """The question's answer: which models got which verdict.

    Args:
        results: the run.
        frame: its summary table.
    """
    given: dict[str, list[str]] = {}
    for model, verdict in frame["verdict"].items():
        if verdict != MISSING:
            given.setdefault(verdict, []).append(str(model))
    if not given:
        return f"{QUESTION} No model has been judged yet."
    parts = "; ".join(f"{verdict}: {', '.join(models)}" for verdict, models in given.items())
    return f"{QUESTION} {parts[0].upper()}{parts[1:]}. {_undecidable(results)}".strip()


def _undecidable(results: Results) -> str:
    """Which control determines the belief, where one does."""
    rows = results.verdicts[results.verdicts["answer"].str.startswith("not decidable")]
    if rows.empty:
        return ""
    strongest = rows.loc[rows["population_r2"].idxmax()]
    return (
        f"Nothing can be shown beyond a control that determines the belief: {control_name(strongest['control'])} alone"
        f" explains {fixed(strongest['population_r2'], 3)} of it on this process."
    )


def card(results: Results, model: str, row: pd.Series) -> str:
    """What may be said of one model.

    Args:
        results: the run.
        model: its name.
        row: its row of the summary table.
    """
    parts = [_prediction(row), _belief(results, model, row), *_judged(results, model)]
    parts += [_gain_over_law(results, model), *(_blind_part(results, model, target) for target in BLIND)]
    return " ".join(filter(None, parts))


def _prediction(row: pd.Series) -> str:
    if math.isnan(row["excess"]):
        return "Its exact excess loss is not there yet."
    return f"Predicts within {nats(row['excess'])} nats a token of the exact Bayesian observer."


def _belief(results: Results, model: str, row: pd.Series) -> str:
    scores = [row[f"r2_{weights}"] for weights in WEIGHTS]
    if any(map(math.isnan, scores)):
        return "Its held-out score is not there yet."
    site = run.headline(results, model, WEIGHTS[0])["site"].iloc[0]
    text = f"A linear probe reads the belief from its headline site, {site}, with held-out R² {pair(*scores)} (words"
    count = len(run.copies(results, model, WEIGHTS[0]))
    best = pair(*(row[f"untrained_{weights}"] for weights in WEIGHTS))
    chance = pair(*(row[f"shuffled_{weights}"] for weights in WEIGHTS))
    return f"{text} weighted by probability/equally); the best of {count} untrained copies {best}, shuffled beliefs {chance}."


def _judged(results: Results, model: str) -> list[str]:
    """The verdict on each training seed, and the control that it is hardest to beat."""
    rows = results.verdicts[results.verdicts["model"] == model]
    return [_sentence(seed, part) for seed, part in rows.groupby("seed")] or ["It has not been judged yet."]


def _sentence(seed: float, rows: pd.DataFrame) -> str:
    first, linear = f"Verdict (seed {seed:.0f}): {rows['answer'].iloc[0]}", rows[rows["probe"] == "linear"]
    if linear["p_value"].isna().all():
        return f"{first}."
    worst = linear.loc[linear["p_value"].idxmax()]
    control = control_name(worst["control"])
    return f"{first}; against {control} its gain is {fixed(worst['gain'], 3, '+')}, p = {worst['p_value']:.3g}, the largest."


def _gain_over_law(results: Results, model: str) -> str:
    """What the site adds to the exact next-token law."""
    together, alone = (
        [run.headline(results, whose, weights, control=control) for weights in WEIGHTS]
        for whose, control in ((model, "next_token+site"), ("", "next_token"))
    )
    if any(rows.empty for rows in (*together, *alone)):
        return ""
    gains = [run.score(rows) - run.score(law) for rows, law in zip(together, alone, strict=True)]
    return f"Beside the exact next-token law its site adds {pair(*gains, '+')} (probability/equally)."


def _blind_part(results: Results, model: str, target: str) -> str:
    """The score on one part of the belief that the next-token law leaves out, against untrained copies."""
    rows = [run.headline(results, model, weights, target=target) for weights in WEIGHTS]
    if any(r.empty for r in rows):
        return ""
    best = [_best_copy(results, model, weights, target) for weights in WEIGHTS]
    reached = pair(*map(run.score, rows))
    return f"Of {BLIND[target]} it explains R² {reached} (probability/equally), the best untrained copy {pair(*best)}."


def _best_copy(results: Results, model: str, weights: str, target: str) -> float:
    rows = run.headline(results, model, weights, trained=False, target=target)
    return float(rows.groupby(["scale", "seed"], dropna=False)["r2"].median().max())


def seeds(frame: pd.DataFrame) -> str:
    """What the number of training seeds allows."""
    most = int(frame["seeds"].max()) if len(frame) else 0
    if most == 0:
        return "No training seed has been scored yet."
    if most == 1:
        return (
            "This is a single training seed: it has no interval. Ranges below are over fold seeds; they say how much"
            " the split matters, not how much another training run would differ."
        )
    if most < ENOUGH_SEEDS:
        return f"{most} training seeds: medians over seeds are given; fewer than {ENOUGH_SEEDS} seeds have no interval."
    return f"{most} training seeds: medians over seeds are given; ranges are over fold seeds and training seeds."


def warnings(results: Results) -> list[str]:
    """What a reader must know before any number: inference that failed, checks that failed."""
    found = [_unconverged(row) for _, row in results.inference.iterrows()]
    failed = results.checks[~results.checks["passed"]]
    found += [f"Check failed for {row['model']}: {row['check']}." for _, row in failed.iterrows()]
    return [text for text in found if text]


def converged_share(row: pd.Series) -> float:
    """Share of token problems that reached the equilibrium; NaN without problems."""
    return row["converged"] / row["tokens"] if row["tokens"] > 0 else math.nan


def _unconverged(row: pd.Series) -> str:
    if not converged_share(row) < ENOUGH_CONVERGED:
        return ""
    return (
        f"{row['model']}: only {100 * converged_share(row):.3f} % of {row['tokens']:,.0f} token problems converged"
        f" ({row['diverged']:,.0f} diverged, {row['unconverged']:,.0f} did not converge);"
        " its numbers are not all at equilibrium."
    )
