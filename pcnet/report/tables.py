"""The tables of the report; each says in plain words when its numbers aren't there yet."""

import pandas as pd

from pcnet.report import results as run
from pcnet.report import verdicts
from pcnet.report.headlines import count, fixed, iterations_text, milliseconds, nats
from pcnet.report.page import Markup, element, number, table
from pcnet.report.plots.cost import MEBIBYTE
from pcnet.report.results import EQUILIBRIUM, WEIGHTS, Results
from pcnet.report.text import TABLES, control_name

TOO_FEW = 50


def _name(content: str) -> Markup:
    return element("th", content)


def _words(content: str) -> Markup:
    return element("td", content, kind="text")


def _cell(value: float, shown: str, kind: str = "") -> Markup:
    return element("td", "-" if pd.isna(value) else number(value, shown), kind=kind)


def _score(value: float, sign: str = "-") -> Markup:
    return _cell(value, fixed(value, 3, sign))


def _pair(values: list[float]) -> Markup:
    """Two scores, by probability and equally, in one cell."""
    first, second = ("-" if pd.isna(value) else number(value, fixed(value, 3)) for value in values)
    return element("td", first, " / ", second) if pd.notna(values).any() else element("td", "-")


def _absent(what: str) -> Markup:
    return element("p", f"Not there yet: {what}.", kind="soft")


def summary_table(frame: pd.DataFrame) -> Markup:
    """One row a model; two scores in a cell: words weighted by probability, then equally."""
    if frame.empty:
        return _absent("any result of any model")
    headers = [
        "model",
        "beyond every control?",
        "excess loss, nats",
        "R²",
        "best untrained",
        "shuffled, 95th pct",
    ]
    headers += ["parameters", "FLOPs", "latency p50, ms", "iterations p50/p90", "sequential depth"]
    return table(headers, [_summary_row(*item) for item in frame.iterrows()], TABLES["summary"], words=1)


def _summary_row(model: str, row: pd.Series) -> list[Markup]:
    cells = [_name(model), _words(row["verdict"]), _cell(row["excess"], nats(row["excess"]))]
    for name in ("r2", "untrained", "shuffled"):
        cells.append(_pair([row[f"{name}_{weights}"] for weights in WEIGHTS]))
    cells += [_cell(row[name], count(row[name])) for name in ("parameters", "flops")]
    cells.append(_cell(row["latency_p50_ms"], milliseconds(row["latency_p50_ms"])))
    return [*cells, element("td", iterations_text(row)), _cell(row["sequential_depth"], count(row["sequential_depth"]))]


# --- controls -----------------------------------------------------------------------------------------------------


def controls(results: Results) -> Markup:
    """Held-out score of every model, its untrained copies and every control, beside the population oracle."""
    rows = [cells for model in ["", *run.models(results)] for cells in _model_controls(results, model)]
    if not rows:
        return _absent("scores of the controls (probes.csv)")
    headers = ["model", "control", "held-out R², by probability", "held-out R², equally", "population oracle", "rows"]
    return table([*headers, "n_eff", "features"], rows, TABLES["controls"], words=1)


def _model_controls(results: Results, model: str) -> list[list[Markup]]:
    probes = results.probes[(results.probes["model"] == model) & (results.probes["target"] == "filtered")]
    rows = [_own_row(results, model), _copies_row(results, model)] if model else []
    rows += [_control_row(results, model, control) for control in probes["control"].unique() if control]
    return [row for row in rows if row]


def _own_row(results: Results, model: str) -> list[Markup]:
    frames = [run.headline(results, model, weights) for weights in WEIGHTS]
    values = [run.score(frame) for frame in frames]
    return _row(model, "none: the trained model", values, [frame["r2"] for frame in frames], float("nan"), frames)


def _copies_row(results: Results, model: str) -> list[Markup]:
    frames = [run.headline(results, model, weights, trained=False) for weights in WEIGHTS]
    copies = [run.copies(results, model, weights) for weights in WEIGHTS]
    title = f"untrained, best of {len(copies[0])} copies"
    return _row(model, title, [c.max() for c in copies], copies, float("nan"), frames)


def _control_row(results: Results, model: str, control: str) -> list[Markup]:
    frames = [run.headline(results, model, weights, control=control) for weights in WEIGHTS]
    values = [run.score(frame) for frame in frames]
    if control == "shuffled":
        values = [run.shuffled(results, model, weights) for weights in WEIGHTS]
    oracle = run.population(results, control, model)
    return _row(model, control_name(control), values, [f["r2"] for f in frames], oracle, frames)


def _row(
    model: str, title: str, values: list[float], spreads: list[pd.Series], oracle: float, frames: list[pd.DataFrame]
) -> list[Markup]:
    if pd.isna(values).all() and pd.isna(oracle):
        return []
    first = next((frame.iloc[0] for frame in frames if len(frame)), pd.Series(dtype=object))
    sizes = [_cell(first.get(name, float("nan")), count(first.get(name))) for name in ("n_eff", "features")]
    held_out = [_ranged(value, spread) for value, spread in zip(values, spreads)]
    rows = first.get("rows", float("nan"))
    return [_name(model or "no model"), _words(title), *held_out, _score(oracle), _cell(rows, f"{rows:,.0f}"), *sizes]


def _ranged(value: float, scores: pd.Series) -> Markup:
    """A score and, where there are several, their range."""
    if pd.isna(value) or scores.count() < 2:
        return _score(value)
    span = element("span", f" ({fixed(scores.min(), 3)} to {fixed(scores.max(), 3)})", kind="soft")
    return element("td", number(value, fixed(value, 3)), span)


def sites(results: Results) -> Markup:
    """Every site and target of the trained models, folded away."""
    probes = results.probes
    kept = (probes["model"] != "") & probes["trained"] & (probes["control"] == "") & (probes["position"] == "all")
    keys = ["model", "site", "headline", "target", "offset", "iteration"]
    frame = probes[kept & (probes["iteration"] == EQUILIBRIUM)].groupby([*keys, "weights"], sort=False)["r2"].median()
    if frame.empty:
        return Markup("")
    wide = frame.unstack("weights").reindex(columns=list(WEIGHTS))
    headers = ["model", "site", "target", "offset", "R², by probability", "R², equally"]
    body = table(headers, [_site_row(*item) for item in wide.iterrows()], TABLES["sites"], words=3)
    return element("details", element("summary", "Every site and target"), body)


def _site_row(key: tuple, row: pd.Series) -> list[Markup]:
    model, site, starred, target, offset, _ = key
    words = [site + " *" * starred, target, "yes" if offset else "no"]
    return [_name(model), *map(_words, words), *(_score(row[weights]) for weights in WEIGHTS)]


def lengths(results: Results) -> Markup:
    """Scores of the headline sites by word length, folded away."""
    probes = results.probes
    kept = probes["position"].str.isdecimal() & probes["headline"] & probes["trained"] & (probes["control"] == "")
    kept &= (probes["target"] == "filtered") & (probes["iteration"] == EQUILIBRIUM)
    frame = probes[kept].groupby(["model", "weights", "position"], sort=False).agg({"r2": "median", "rows": "first"})
    if frame.empty:
        return Markup("")
    found = sorted(set(frame.index.get_level_values("position")), key=int)
    rows = [_length_row(frame, model, weights, found) for model, weights in frame.index.droplevel("position").unique()]
    body = table(["model", "weights", *found], rows, TABLES["lengths"].format(TOO_FEW), words=1)
    return element("details", element("summary", "By word length"), body)


def _length_row(frame: pd.DataFrame, model: str, weights: str, found: list[str]) -> list[Markup]:
    cells = []
    for position in found:
        row = frame.loc[(model, weights, position)] if (model, weights, position) in frame.index else None
        few = row is not None and pd.isna(row["r2"]) and row["rows"] < TOO_FEW
        cells.append(element("td", "too few") if few else _score(float("nan") if row is None else row["r2"]))
    return [_name(model), _words(weights), *cells]


# --- inference, checks, cost --------------------------------------------------------------------------------------


def inference(results: Results) -> Markup:
    """How many token problems reached the equilibrium."""
    if results.inference.empty:
        return _absent("inference.csv, which only predictive-coding models fill")
    headers = [
        "model",
        "seed",
        "token problems",
        "converged",
        "share",
        "diverged",
        "not converged",
        "largest residual",
        "iterations p50/p90",
    ]
    rows = [_inference_row(row) for _, row in results.inference.iterrows()]
    return table(headers, rows, TABLES["inference"])


def _inference_row(row: pd.Series) -> list[Markup]:
    share = verdicts.converged_share(row)
    kind = "good" if share >= verdicts.ENOUGH_CONVERGED else "bad"
    cells = [_cell(row[name], f"{row[name]:,.0f}") for name in ("seed", "tokens", "converged")]
    cells.append(_cell(share, f"{100 * share:.3f} %", kind))
    cells += [
        _cell(row[name], f"{row[name]:,.0f}", "bad" if row[name] > 0 else "") for name in ("diverged", "unconverged")
    ]
    return [_name(row["model"]), *cells, _small(row["residual_max"]), element("td", iterations_text(row))]


def _small(value: float) -> Markup:
    return _cell(value, f"{value:.2g}")


def checks(results: Results) -> Markup:
    """What must not change the numbers, and by how much it did."""
    if results.checks.empty:
        return _absent("checks.csv")
    headers = ["model", "check", "value", "reference", "difference", "allowed", "passed"]
    return table(headers, [_check_row(row) for _, row in results.checks.iterrows()], TABLES["checks"], words=1)


def _check_row(row: pd.Series) -> list[Markup]:
    values = [_cell(row[name], f"{row[name]:.6g}") for name in ("value", "reference")]
    passed = element("td", "yes" if row["passed"] else "NO", kind="good" if row["passed"] else "bad")
    return [_name(row["model"]), _words(row["check"]), *values, _small(row["difference"]), _small(row["bound"]), passed]


def cost(results: Results) -> Markup:
    """Every row of cost.csv."""
    if results.cost.empty:
        return _absent("cost.csv")
    headers = [
        "model",
        "device",
        "threads",
        "batch",
        "length",
        "tolerance",
        "parameters",
        "FLOPs, 1 sequence",
        "latency p50, ms",
    ]
    headers += ["latency p90, ms", "sequential depth", "iterations p50/p90", "peak memory, MiB"]
    rows = [_cost_row(row) for _, row in results.cost.iterrows()]
    return table(headers, rows, TABLES["cost"], words=1)


def _cost_row(row: pd.Series) -> list[Markup]:
    cells = [_cell(row[name], f"{row[name]:.0f}") for name in ("threads", "batch", "length")]
    cells += [_small(row["tolerance"]), *(_cell(row[name], count(row[name])) for name in ("parameters", "flops"))]
    cells += [_cell(row[name], milliseconds(row[name])) for name in ("latency_p50_ms", "latency_p90_ms")]
    cells += [_cell(row["sequential_depth"], count(row["sequential_depth"])), element("td", iterations_text(row))]
    return [
        _name(row["model"]),
        _words(row["device"]),
        *cells,
        _cell(row["peak_bytes"], count(row["peak_bytes"] / MEBIBYTE)),
    ]
