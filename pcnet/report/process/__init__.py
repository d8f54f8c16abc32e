"""Drawings of a process: its states, its beliefs, its loss floor, its spectrum."""

from pcnet.report.process.figures import draw_card

__all__ = ["draw_card"]
