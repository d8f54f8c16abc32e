"""The matrices of a process as a picture, where there are too many arrows to draw or no states to draw them between."""

import math

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pcnet.report.plots.style import GREY, INK

MOST_BLOCKS, MOST_CELLS, MOST_NUMBERS = 16, 4096, 130
GAP = 1
"""Empty cells between two matrices."""


def draw_matrices(axes: Axes, matrices: Float[NDArray, "V S S"]) -> None:
    """Show every token's matrix, or their sum if there are too many cells; with numbers where they can be read."""
    tokens, states, _ = matrices.shape
    whole = tokens <= MOST_BLOCKS and matrices.size <= MOST_CELLS
    blocks = matrices if whole else matrices.sum(0, keepdims=True)
    columns = math.ceil(math.sqrt(len(blocks)))
    rows = math.ceil(len(blocks) / columns)
    pitch = states + GAP
    canvas = np.full((rows * pitch - GAP, columns * pitch - GAP), np.nan)
    for token, block in enumerate(blocks):
        top, left = pitch * (token // columns), pitch * (token % columns)
        canvas[top : top + states, left : left + states] = block
        title = f"token {token}" if whole else f"sum over {tokens} tokens"
        axes.text(left + (states - 1) / 2, top - 0.62, title, ha="center", va="bottom", fontsize=9)
    _show(axes, canvas, signed=bool((blocks < 0).any()))
    if whole and matrices.size <= MOST_NUMBERS:
        _write_numbers(axes, canvas)


def _show(axes: Axes, canvas: Float[NDArray, "rows columns"], signed: bool) -> None:
    top = float(np.nanmax(np.abs(canvas)))
    image = axes.imshow(canvas, cmap="PuOr" if signed else "Blues", vmin=-top if signed else 0, vmax=top)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_xlabel("to" if not signed else "column", color=GREY)
    axes.set_ylabel("from" if not signed else "row", color=GREY)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.7, aspect=25, pad=0.02)
    bar.set_label("entry" if signed else "probability")
    bar.outline.set_visible(False)


def _write_numbers(axes: Axes, canvas: Float[NDArray, "rows columns"]) -> None:
    top = float(np.nanmax(np.abs(canvas)))
    size = max(5.5, min(9.0, 110 / max(canvas.shape)))
    for (row, column), value in np.ndenumerate(canvas):
        if np.isfinite(value) and value != 0:
            text = f"{value:.3f}".rstrip("0").rstrip(".").replace("0.", ".", 1) if abs(value) < 10 else f"{value:.3g}"
            colour = "white" if abs(value) > 0.62 * top else INK
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
