"""A run folder read back: its tidy tables, as much of them as there is, and the rows that count.

Everything here works on a run that is still going on: a table that isn't there yet is an empty frame with the right
columns, a line that is being written (no newline yet) isn't read, and a picture's data that cannot be read are absent.
"""

import io
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from pcnet.report.schema import EQUILIBRIUM, SCHEMA

WEIGHTS = ("probability", "equal")


@dataclass(frozen=True)
class Results:
    """The tables of one run folder and the text of its config.

    Args:
        folder: where they were read from.
        config: text of ``config.yaml``; empty where it is missing.
        verdicts: ``verdicts.csv``.
        training: ``training.csv``; like every table here, an empty frame with its columns where the file is missing.
        probes: ``probes.csv``.
        excess: ``excess.csv``.
        cost: ``cost.csv``.
        inference: ``inference.csv``.
        checks: ``checks.csv``.
    """

    folder: Path
    config: str
    training: pd.DataFrame
    probes: pd.DataFrame
    excess: pd.DataFrame
    cost: pd.DataFrame
    inference: pd.DataFrame
    checks: pd.DataFrame
    verdicts: pd.DataFrame


def read(folder: Path) -> Results:
    """Read what a run folder holds so far.

    Args:
        folder: the run folder; any of its files may be missing.

    Returns:
        The tables, typed: numbers as float64, flags as bool, everything else as text.
    """
    config = folder / "config.yaml"
    tables = {name: _read_table(folder / f"{name}.csv", name) for name in SCHEMA}
    return Results(folder, config.read_text(encoding="utf-8") if config.is_file() else "", **tables)


def _read_table(path: Path, name: str) -> pd.DataFrame:
    kinds = SCHEMA[name]
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    complete = text[: text.rfind("\n") + 1]
    if not complete.strip():
        return pd.DataFrame({name: _typed(name, kind, pd.Series(dtype=str)) for name, kind in kinds.items()})
    raw = pd.read_csv(io.StringIO(complete), dtype=str, keep_default_na=False, on_bad_lines="skip")
    raw = SCHEMA.named(name, raw).fillna("")
    return pd.DataFrame({name: _typed(name, kind, raw[name]) for name, kind in kinds.items()})


def _typed(name: str, kind: str, column: pd.Series) -> pd.Series:
    """Text, flag or number. Iteration 8.0 is iteration 8; no iteration is the equilibrium, no position all of them."""
    if kind == "flag":
        return column.str.lower().isin(["true", "1", "1.0"])
    if name == "iteration":
        return column.str.removesuffix(".0").replace("", EQUILIBRIUM)
    if name == "position":
        return column.str.removesuffix(".0").replace("", "all")
    return column if kind == "text" else pd.to_numeric(column, errors="coerce")


def settings(results: Results) -> dict:
    """The experiment's arguments in the config as nested dictionaries; empty where there is none or it isn't YAML."""
    try:
        parsed = yaml.safe_load(results.config)
    except yaml.YAMLError:
        return {}
    parsed = parsed if isinstance(parsed, dict) else {}
    return parsed.get("init_args", parsed)


def models(results: Results) -> list[str]:
    """Every model of the run in the config's order, then any others in the order in which the tables name them."""
    named = settings(results).get("models")
    names = [str(name) for name in named] if isinstance(named, dict) else []
    for table in (results.training, results.cost, results.excess, results.probes, results.inference):
        names.extend(table["model"].unique())
    return [name for name in dict.fromkeys(names) if name]


def iterative(results: Results) -> list[str]:
    """The models whose answer is an equilibrium: they have truncated scores or a record of their inference."""
    tables = (results.excess, results.probes)
    named = set(results.inference["model"]).union(*(t.loc[t["iteration"] != EQUILIBRIUM, "model"] for t in tables))
    return [model for model in models(results) if model in named]


def iterations(labels: Iterable[str]) -> list[str]:
    """Distinct iteration labels in the order in which inference passes them, the equilibrium last."""
    distinct = set(labels)
    counted = sorted((label for label in distinct if label.isdecimal()), key=int)
    return counted + [EQUILIBRIUM] * (EQUILIBRIUM in distinct)


# --- rows of probes.csv -------------------------------------------------------------------------------------------


def headline(
    results: Results,
    model: str,
    weights: str,
    *,
    trained: bool = True,
    control: str = "",
    target: str = "filtered",
    iteration: str = EQUILIBRIUM,
) -> pd.DataFrame:
    """The rows that count for one model: its headline site, all word lengths, fitted with an offset where both were.

    Where several sites are marked as headline the first in the file counts. Controls of a model need not be marked.

    Args:
        model: the model's name; empty for controls that belong to none.
        weights: ``probability``, ``equal`` or ``population``.
        trained: the trained model or its untrained copies.
        control: empty for the model itself.
        target: what is predicted from the site.
        iteration: ``equilibrium`` or a count.

    Returns:
        One row a training seed (or untrained copy) and fold seed (or permutation).
    """
    rows = results.probes
    wanted = {"model": model, "control": control, "target": target, "weights": weights, "position": "all"}
    for column, value in (wanted | {"iteration": iteration}).items():
        rows = rows[rows[column] == value]
    if model and not control:
        rows = rows[rows["headline"] & (rows["trained"] == trained)]
    rows = _preferring(_preferring(rows, "headline"), "offset")
    return rows[rows["site"] == rows["site"].iloc[0]] if len(rows) else rows


def _preferring(rows: pd.DataFrame, flag: str) -> pd.DataFrame:
    return rows[rows[flag]] if rows[flag].any() else rows


def score(rows: pd.DataFrame) -> float:
    """Median R2 over fold seeds, then over training seeds; NaN without rows."""
    return float(rows.groupby("seed", dropna=False)["r2"].median().median()) if len(rows) else np.nan


def copies(results: Results, model: str, weights: str) -> pd.Series:
    """Median R2 over fold seeds of every untrained copy, indexed by (scale, seed)."""
    rows = headline(results, model, weights, trained=False)
    return rows.groupby(["scale", "seed"], dropna=False)["r2"].median()


def shuffled(results: Results, model: str, weights: str) -> float:
    """What beliefs dealt out at random reach: each row is the 95th percentile over the permutations of one fold seed."""
    return score(headline(results, model, weights, control="shuffled"))


def population(results: Results, control: str, model: str = "") -> float:
    """The full-population oracle value of a control; NaN where it isn't there."""
    return score(headline(results, model, "population", control=control))


def excess_loss(results: Results, model: str, iteration: str = EQUILIBRIUM) -> float:
    """Exact excess loss in nats, median over training seeds; NaN where it isn't there."""
    rows = results.excess
    return float(rows.loc[(rows["model"] == model) & (rows["iteration"] == iteration), "excess"].median())


def cost_row(results: Results, model: str, batch: int = 1) -> pd.Series:
    """The first cost row of a model at this batch size; all NaN where there is none."""
    rows = results.cost[(results.cost["model"] == model) & (results.cost["batch"] == batch)]
    return rows.iloc[0] if len(rows) else pd.Series(np.nan, index=list(SCHEMA["cost"]), dtype=object)


# --- geometry -----------------------------------------------------------------------------------------------------


def truth(results: Results) -> dict[str, np.ndarray] | None:
    """True ``beliefs``, ``lengths`` and ``probabilities`` of every word, or None where they aren't there yet."""
    arrays = _arrays(results.folder / "geometry" / "truth.npz", ("beliefs", "lengths", "probabilities"))
    return arrays if arrays and arrays["beliefs"].ndim == 2 else None


def decoded(results: Results, model: str, kind: str) -> np.ndarray | None:
    """Beliefs decoded from a model's first training seed, one row a word; None where they aren't there yet.

    Args:
        model: the model's name.
        kind: ``trained``, ``shuffled`` or ``iteration8`` and the like.
    """
    pattern = re.compile(rf"{re.escape(model)}-seed(\d+)-{re.escape(kind)}\.npz")
    names = (pattern.fullmatch(path.name) for path in (results.folder / "geometry").glob("*.npz"))
    found = sorted((int(match[1]), match[0]) for match in names if match)
    arrays = _arrays(results.folder / "geometry" / found[0][1], ("decoded",)) if found else None
    return arrays["decoded"] if arrays else None


def decoded_copy(results: Results, model: str) -> np.ndarray | None:
    """Beliefs decoded from the best of a model's untrained copies; None where they aren't there yet."""
    scores = copies(results, model, "probability").dropna()
    if scores.empty:
        return None
    scale, seed = scores.idxmax()
    arrays = _arrays(results.folder / "geometry" / f"{model}-scale{scale}-seed{seed:.0f}-untrained.npz", ("decoded",))
    return arrays["decoded"] if arrays else None


def decoded_iterations(results: Results, model: str) -> list[str]:
    """The iterations after which decoded beliefs were kept, in order, without the equilibrium."""
    pattern = re.compile(rf"{re.escape(model)}-seed\d+-iteration(\d+)\.npz")
    names = (pattern.fullmatch(path.name) for path in (results.folder / "geometry").glob("*.npz"))
    return iterations(match[1] for match in names if match)


def _arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray] | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
