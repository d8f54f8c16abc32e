"""What `pcnet probe` measures, writes and says, once a call is known to make sense."""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from pcnet.cli.probe import arrays
from pcnet.cli.probe.account import summary_of, text
from pcnet.cli.probe.judgement import verdict_on
from pcnet.cli.probe.question import Question
from pcnet.cli.probe.readings import readings_of
from pcnet.cli.probe.scores import decoded_beliefs, scores_of
from pcnet.files import replace_file
from pcnet.report.probe_picture import draw_probe

FOLDER = Path("runs/probe")

Sites = dict[str, Float[np.ndarray, "N D"]]


def run(known: argparse.Namespace, rest: list[str], progress: Callable[[str], None]) -> str:
    """Writes the folder, and gives what there is to print.

    Args:
        known: the options.
        rest: the process's own.
        progress: is told what is being done.

    Raises:
        ValueError, TypeError, OSError: naming the option or file that is wrong.
    """
    process = arrays.process_of(known.process, known.matrices, rest, known.seed)
    question = Question.of(process, arrays.opened("--tokens", known.tokens), known.target, known.steps)
    question = question.grouped(known.groups, known.suffix)
    found = arrays.sites(known.activations, known.site, question.rows)
    logits = None if known.logits is None else arrays.logits(known.logits, question.rows)
    folder = known.out or FOLDER / known.activations.stem
    with ExitStack() as stack:
        scratch = stack.enter_context(arrays.scratch(folder))
        sites = {name: stack.enter_context(arrays.floating(each, scratch)) for name, each in found.items()}
        scores = scores_of(question, sites, logits, scratch, known.permutations, known.seed, progress)
        verdict, said = verdict_on(question, sites, logits, known.seed, progress) if known.verdict else (None, "")
        progress("drawing")
        decoded = {name: decoded_beliefs(question, features) for name, features in sites.items()}
        readings = readings_of(question, sites, decoded)
    summary = summary_of(scores)
    tables = {"scores": scores, "summary": summary, "readings": readings}
    _write(folder, tables | ({} if verdict is None else {"verdict": verdict.table()}))
    answers = {} if verdict is None else {each.site: each.answer.value for each in verdict.sites}
    lengths = question.rows.lengths.numpy()
    draw_probe(summary, answers, question.title, lengths, question.shown_beliefs, decoded, folder)
    progress("")
    files = f"Picture and tables: {folder / 'probe.png'}, {folder / 'summary.csv'}"
    return "\n\n".join(filter(None, [text(summary, readings, question), said, files]))


def _write(folder: Path, tables: dict[str, pd.DataFrame]) -> None:
    for name in ("verdict", "readings"):  # an earlier call's
        (folder / f"{name}.csv").unlink(missing_ok=True)
    for name, table in tables.items():
        if len(table):
            replace_file(folder / f"{name}.csv", table.to_csv(index=False).encode())
