"""Pictures and tables as comparisons write them."""

from pathlib import Path

import matplotlib
import pandas as pd

from pcnet.files import whole

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure


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
