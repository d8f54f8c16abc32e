"""Figures of a run folder. Nothing here touches matplotlib's global state or needs a display."""

from pcnet.report.plots.figures import FIGURES, Drawn, draw

__all__ = ["FIGURES", "Drawn", "draw"]
