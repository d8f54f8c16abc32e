"""The report of a run, finished or not: one self-contained page, the answer first, then figures, controls and cost."""

from pathlib import Path

import pandas as pd

from pcnet.files import replace_file
from pcnet.report import plots, tables, verdicts
from pcnet.report import results as run
from pcnet.report.headlines import summarise
from pcnet.report.page import Markup, document, element, image
from pcnet.report.results import Results
from pcnet.report.text import ABSENT, CAPTIONS, METHOD, PROJECTION, TITLES


def summary(folder: Path) -> pd.DataFrame:
    """The summary table of a run folder, one row a model; ``pcnet.report.headlines.summarise`` documents the columns.

    Args:
        folder: the run folder, finished or not.
    """
    return summarise(run.read(Path(folder)))


def write(folder: Path) -> Path:
    """Draw the figures of a run folder and write its ``report.html``; what isn't there yet is said, never an error.

    Args:
        folder: the run folder, finished or not.

    Returns:
        Path of the report, which replaces an older one only when complete.
    """
    results = run.read(Path(folder))
    drawn = plots.draw(results)
    return replace_file(results.folder / "report.html", _page(results, drawn).encode("utf-8"))


def _page(results: Results, drawn: list[plots.Drawn]) -> str:
    frame = summarise(results)
    sections = [_top(results, frame), _models(results, frame), _figures(results, drawn), _details(results)]
    return document(f"pcnet compare: {_process(results)}", *sections)


def _process(results: Results) -> str:
    """The process as the config names it, with its arguments."""
    process = run.settings(results).get("process", "a hidden Markov process")
    if not isinstance(process, dict):
        return str(process)
    arguments = process.get("init_args")
    name = str(process.get("class_path", "a hidden Markov process")).rsplit(".", 1)[-1]
    inside = ", ".join(f"{key}={value}" for key, value in arguments.items()) if isinstance(arguments, dict) else ""
    return f"{name}({inside})"


def _top(results: Results, frame: pd.DataFrame) -> Markup:
    question = (
        f"Networks trained to predict the next token of {_process(results)}: do their states hold the belief over the"
        " hidden state of the process linearly, beyond what every control explains, and what did each answer cost?"
    )
    return element(
        "header",
        element("h1", "Belief geometry and its price"),
        element("p", question, kind="lead"),
        element("p", element("strong", verdicts.answer(results, frame)), kind="lead"),
        *(element("p", warning, kind="warn") for warning in [*_unfinished(results), *verdicts.warnings(results)]),
        tables.summary_table(frame),
        element("p", verdicts.seeds(frame), kind="soft"),
    )


def _unfinished(results: Results) -> list[str]:
    expected = ["training", "probes", "verdicts", "excess", "cost"] + ["inference", "checks"] * bool(
        run.iterative(results)
    )
    missing = [f"{name}.csv" for name in expected if not len(getattr(results, name))]
    missing += ["geometry/truth.npz"] * (run.truth(results) is None)
    return [f"Not there yet: {', '.join(missing)}. What depends on them is left out below."] if missing else []


def _models(results: Results, frame: pd.DataFrame) -> Markup:
    cards = [
        element("article", element("h3", model), element("p", verdicts.card(results, model, row)))
        for model, row in frame.iterrows()
    ]
    body = element("div", *cards, kind="verdicts") if cards else element("p", "No model has left a result yet.")
    return element("section", element("h2", "Model by model"), body)


def _figures(results: Results, drawn: list[plots.Drawn]) -> Markup:
    return element("div", *(_figure(results, one) for one in drawn))


def _figure(results: Results, drawn: plots.Drawn) -> Markup:
    title, caption = TITLES[drawn.name], CAPTIONS[drawn.name]
    truth = run.truth(results) if drawn.name == "simplex" else None
    if truth is not None and truth["beliefs"].shape[1] != 3:
        caption += " " + PROJECTION.format(states=truth["beliefs"].shape[1])
    body = image(drawn.png, title, caption) if drawn.png else element("p", ABSENT[drawn.name], kind="soft")
    return element("section", element("h2", title), body)


def _details(results: Results) -> Markup:
    config = element("details", element("summary", "config.yaml"), element("pre", results.config or "not there yet"))
    return element(
        "div",
        _section("Controls", tables.controls(results), tables.sites(results), tables.lengths(results)),
        _section("Inference health", tables.inference(results)),
        _section("Checks", tables.checks(results)),
        _section("Cost", tables.cost(results)),
        _section("Method", element("p", METHOD)),
        _section("Config", config),
    )


def _section(title: str, *body: Markup) -> Markup:
    return element("section", element("h2", title), *body)
