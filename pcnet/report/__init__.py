"""The report of a run, finished or not: one self-contained page, the answer first, then figures, controls and cost."""

from pcnet.report.document import summary, write
from pcnet.report.headlines import markdown_summary, render_summary

__all__ = ["markdown_summary", "render_summary", "summary", "write"]
