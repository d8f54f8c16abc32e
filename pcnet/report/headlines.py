"""One row a model: what it scored, against what, and what the answer cost; as a table for a terminal or a README."""

import math

import numpy as np
import pandas as pd

from pcnet.report.results import (
    WEIGHTS,
    Results,
    copies,
    cost_row,
    excess_loss,
    headline,
    models,
    score,
    shuffled,
)

MISSING = "-"
SHORT = {"not decidable here": "not decidable", "present, not linear": "not linear"}
NAME_WIDTH = 20


def summarise(results: Results) -> pd.DataFrame:
    """The summary table, in the config's order of models; NaN where a number isn't there yet.

    Args:
        results: a run folder, finished or not.

    Returns:
        One row a model, indexed by its name, with these columns:

        ``verdict``
            whether the headline site encodes the belief beyond every control: yes, no, not decidable, or present, not
            linear; one for each training seed where they differ, ``-`` where none was judged;
        ``seeds``
            training seeds that were scored;
        ``excess``
            exact excess loss at the equilibrium, nats a token, median over training seeds;
        ``r2_probability``, ``r2_equal``
            held-out R2 of the headline site against the filtered belief, words weighted by probability or equally,
            median over fold seeds, then over training seeds;
        ``untrained_*``
            the same for the best untrained copy;
        ``gain_*``
            the first minus the second;
        ``shuffled_*``
            95th percentile over permutations of the beliefs;
        ``parameters``, ``flops``, ``sequential_depth``, ``latency_p50_ms``
            one sequence, batch 1, from the first such row of ``cost.csv``;
        ``iterations_p50``, ``iterations_p90``
            inference iterations of the same row, else from ``inference.csv``; NaN for models without inference.
    """
    names = models(results)
    rows = [_scores(results, name) | _cost(results, name) for name in names]
    columns = list(_scores(results, "") | _cost(results, ""))
    return pd.DataFrame(rows, index=pd.Index(names, name="model"), columns=columns)


def _scores(results: Results, model: str) -> dict[str, float]:
    row = {"verdict": _verdict(results, model)}
    row |= {"seeds": headline(results, model, WEIGHTS[0])["seed"].nunique(), "excess": excess_loss(results, model)}
    for weights in WEIGHTS:
        trained, untrained = score(headline(results, model, weights)), copies(results, model, weights).max()
        row |= {f"r2_{weights}": trained, f"untrained_{weights}": untrained, f"gain_{weights}": trained - untrained}
        row[f"shuffled_{weights}"] = shuffled(results, model, weights)
    return row


def _verdict(results: Results, model: str) -> str:
    rows = results.verdicts[results.verdicts["model"] == model]
    answers = [SHORT.get(answer, answer) for answer in rows.groupby("seed")["answer"].first()]
    return (answers[0] if len(set(answers)) == 1 else ", ".join(answers)) if answers else MISSING


def _cost(results: Results, model: str) -> dict[str, float]:
    cost = cost_row(results, model)
    inference = results.inference[results.inference["model"] == model]
    row = {name: cost[name] for name in ("parameters", "flops", "latency_p50_ms", "sequential_depth")}
    for name in ("iterations_p50", "iterations_p90"):
        row[name] = inference[name].median() if pd.isna(cost[name]) else cost[name]
    return row


# --- numbers as text ----------------------------------------------------------------------------------------------


def fixed(value: float, digits: int, sign: str = "-") -> str:
    """A number with fixed digits and without the zero before the point: .991, -.002, 1.000."""
    if pd.isna(value):
        return MISSING
    text = f"{round(value, digits) + 0.0:{sign}.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("+-").startswith("0.") else text


def nats(value: float) -> str:
    """A loss in nats to five decimals."""
    return fixed(value, 5)


def pair(first: float, second: float, sign: str = "-") -> str:
    """Two scores as .991/.983: weighted by probability, then equally."""
    both = f"{fixed(first, 3, sign)}/{fixed(second, 3, sign)}"
    return MISSING if both == f"{MISSING}/{MISSING}" else both


def count(value: float) -> str:
    """A count to three significant digits with k, M, G or T for thousands; whole below one thousand."""
    if pd.isna(value):
        return MISSING
    power = min(4, max(0, int(math.log10(abs(value)) // 3))) if value else 0
    short = value / 1000**power
    return f"{short:.3g}{' kMGT'[power]}".strip()


def milliseconds(value: float) -> str:
    """A time to three significant digits, never in powers of ten."""
    return MISSING if pd.isna(value) else np.format_float_positional(value, 3, fractional=False, trim="-")


def _both(row: pd.Series, name: str, sign: str = "-") -> str:
    return pair(row[f"{name}_{WEIGHTS[0]}"], row[f"{name}_{WEIGHTS[1]}"], sign)


def iterations_text(row: pd.Series) -> str:
    """Median and 90th percentile of inference iterations, as 3/5."""
    both = f"{count(row['iterations_p50'])}/{count(row['iterations_p90'])}"
    return MISSING if both == f"{MISSING}/{MISSING}" else both


HEADERS = (
    ("", "model"),
    ("beyond every", "control?"),
    ("excess", "nats"),
    ("R2 held", "out p/e"),
    ("best un-", "trained"),
    ("shuffled", "95th pct"),
    ("para-", "meters"),
    ("FLOPs", "1 seq."),
    ("latency", "p50, ms"),
    ("iter.", "p50/90"),
    ("seq.", "depth"),
)
NOTE = """\
Beyond every control: the verdict on the site that was fixed before training. R2 against the belief, held out; p/e:
words weighted by probability / equally. Latency, FLOPs, iterations: one sequence."""


def _cells(frame: pd.DataFrame) -> list[list[str]]:
    return [
        [
            str(model),
            row["verdict"],
            nats(row["excess"]),
            _both(row, "r2"),
            _both(row, "untrained"),
            _both(row, "shuffled"),
            count(row["parameters"]),
            count(row["flops"]),
            milliseconds(row["latency_p50_ms"]),
            iterations_text(row),
            count(row["sequential_depth"]),
        ]
        for model, row in frame.iterrows()
    ]


def render_summary(frame: pd.DataFrame) -> str:
    """The summary as plain text in fixed width: at most 120 columns; long model names are cut with an ellipsis.

    Args:
        frame: what ``summarise`` returned.
    """
    cells = _cells(frame)
    for row in cells:
        row[0] = row[0] if len(row[0]) <= NAME_WIDTH else row[0][: NAME_WIDTH - 1] + "…"
    lines = [[top for top, _ in HEADERS], [bottom for _, bottom in HEADERS], *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADERS))]
    text = [_aligned(line, widths) for line in lines]
    return "\n".join([*text[:2], "-" * len(text[1]), *text[2:], NOTE])


def _aligned(cells: list[str], widths: list[int]) -> str:
    return "  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths)))


def markdown_summary(frame: pd.DataFrame) -> str:
    """The summary as a Markdown table for a README, with the same cells as in the terminal.

    Args:
        frame: what ``summarise`` returned.
    """
    titles = [_title(*header) for header in HEADERS]
    rule = [":--"] * 2 + ["--:"] * (len(HEADERS) - 2)
    rows = [[cell.replace("|", r"\|") for cell in row] for row in _cells(frame)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in [titles, rule, *rows])
    return f"{table}\n\n{NOTE.replace(chr(10), ' ')}"


def _title(top: str, bottom: str) -> str:
    return (top[:-1] + bottom if top.endswith("-") else f"{top} {bottom}").strip()
