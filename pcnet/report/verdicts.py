"""What the numbers of a run allow one to say, in plain sentences; and what they don't."""

import math

import pandas as pd

from pcnet.report import results as run
from pcnet.report.headlines import fixed, nats, pair
from pcnet.report.results import WEIGHTS, Results

DECIDABLE_BELOW = 0.95  # population R2 of a control: from here on nothing beyond it can be shown
ENOUGH_CONVERGED = 0.999
ENOUGH_SEEDS = 5
BLIND = {
    "residual": "the part of the belief that no function of the next-token law explains",
    "invisible": "the part of the belief that is affinely invisible in the next-token law",
}


def answer(results: Results, frame: pd.DataFrame) -> str:
    """The question's answer in one or two sentences.

    Args:
        results: the run.
        frame: its summary table.
    """
    scored = frame.dropna(subset=[f"r2_{w}" for w in WEIGHTS] + [f"untrained_{w}" for w in WEIGHTS])
    if scored.empty:
        return "No model has been probed together with its untrained copies yet, so there is no answer yet."
    gains = scored[[f"gain_{w}" for w in WEIGHTS]]
    above = list(scored.index[(gains > 0).all(axis=1)])
    names = f": {', '.join(above)}" if above else ""
    text = "Models that hold the belief linearly, above the best of their untrained copies in both weightings:"
    return f"{text} {len(above)} of {len(scored)} probed{names}. {decidable(results)}"


def decidable(results: Results) -> str:
    """Whether a score can show more than good predictions on this process."""
    oracle = run.population(results, "next_token")
    if math.isnan(oracle):
        return "Whether that is more than good prediction is open: the next-token control isn't there yet."
    if oracle >= DECIDABLE_BELOW:
        return (
            "Whether a model encodes the belief beyond its predictions is not decidable on this process:"
            f" the exact next-token law is itself nearly affine in the belief (population R² {fixed(oracle, 3)})."
        )
    return (
        "On this process the exact next-token law gives away only part of the belief"
        f" (population R² {fixed(oracle, 3)}), so the part beyond it is scored on its own."
    )


def verdict(results: Results, model: str, row: pd.Series) -> str:
    """What may be said of one model.

    Args:
        results: the run.
        model: its name.
        row: its row of the summary table.
    """
    return " ".join(filter(None, [_prediction(row), _belief(results, model, row), _beyond(results, model)]))


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
    text += " weighted by probability/equally)."
    return " ".join([text, _against_untrained(results, model, row), _against_chance(row)])


def _against_untrained(results: Results, model: str, row: pd.Series) -> str:
    gains = [row[f"gain_{weights}"] for weights in WEIGHTS]
    if any(map(math.isnan, gains)):
        return "The untrained copies are not there yet."
    count = len(run.copies(results, model, WEIGHTS[0]))
    best = f"the best of {count} untrained copies ({pair(*(row[f'untrained_{weights}'] for weights in WEIGHTS))})"
    if max(gains) <= 0:
        return f"That does not beat {best}: training put no more of the belief there than random weights hold."
    if min(gains) <= 0:
        return f"Against {best} that is {pair(*gains, sign='+')}: above in one weighting only, so no claim."
    margins = [_every_fold(results, model, weights) for weights in WEIGHTS]
    where = "in every fold seed" if all(margins) else "in the median, but not in every fold seed"
    return f"That is {pair(*gains)} above {best}, {where}."


def _every_fold(results: Results, model: str, weights: str) -> bool:
    return run.headline(results, model, weights)["r2"].min() > run.copies(results, model, weights).max()


def _against_chance(row: pd.Series) -> str:
    margins = [row[f"r2_{weights}"] - row[f"shuffled_{weights}"] for weights in WEIGHTS]
    if any(map(math.isnan, margins)):
        return "The shuffled control is not there yet."
    return "" if min(margins) > 0 else "It does not beat the 95th percentile of shuffled beliefs."


def _beyond(results: Results, model: str) -> str:
    oracle = run.population(results, "next_token")
    if math.isnan(oracle):
        return ""
    if oracle >= DECIDABLE_BELOW:
        return "Beyond its predictions: not decidable on this process."
    parts = [_gain_over_law(results, model), *(_blind_part(results, model, target) for target in BLIND)]
    return " ".join(filter(None, parts)) or "Beyond its predictions: the parts that they leave out are not scored yet."


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
    reached = [run.score(r) for r in rows]
    best = [_best_copy(results, model, weights, target) for weights in WEIGHTS]
    text = f"Of {BLIND[target]} its site explains R² {pair(*reached)} (probability/equally)"
    if any(map(math.isnan, best)):
        return f"{text}; no untrained copy was scored on it."
    ahead = all(ours > theirs for ours, theirs in zip(reached, best)) and min(reached) > 0
    claim = "it encodes more than it predicts" if ahead else "no claim beyond its predictions"
    return f"{text}, the best untrained copy {pair(*best)}: {claim}."


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
