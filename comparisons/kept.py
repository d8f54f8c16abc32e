"""What every comparison keeps: tables and pictures that are there whole or not at all, and a bar with the time left."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import pandas as pd
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file to write to, which takes its name once it is complete."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_table(rows: Sequence[dict], path: Path) -> None:
    """Rows as comma-separated values."""
    with whole(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def load_table(path: Path) -> list[dict]:
    """The rows again; none where there is no file."""
    return pd.read_csv(path).to_dict("records") if path.is_file() else []


def save_picture(figure: Figure, path: Path, dpi: int = 160) -> None:
    """A figure, closed afterwards."""
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    pyplot.close(figure)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown."""
    cells = table.astype(object).where(table.notna(), "").astype(str).to_numpy().tolist()
    lines = [list(table.columns), ["---"] * len(table.columns), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def progress(*texts: str) -> Progress:
    """A bar with these texts (rich's) before the time left; silent where nobody watches."""
    columns = (TextColumn("{task.description}"), BarColumn(), *map(TextColumn, texts), TimeRemainingColumn())
    return Progress(*columns, disable=not sys.stderr.isatty())
