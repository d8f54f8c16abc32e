"""Pieces of one self-contained HTML page: no scripts, no links out, light and dark, wide and narrow."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from pcnet.report.plots.style import DPI

READABLE = 680  # pixels; on a narrower screen a figure scrolls sideways within its plate
STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1f; --soft: #5c5c61; --paper: #ffffff; --line: #dcdce0; --card: #f6f6f8;
  --warn: #8a3b00; --warn-paper: #fff3e6; --good: #00623f; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececee; --soft: #a4a4ab; --paper: #17181a; --line: #3a3b40;
  --card: #202226; --warn: #ffb877; --warn-paper: #35240f; --good: #6fd3a8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; overflow-wrap: break-word; }
main { max-width: 1240px; margin: 0 auto; padding: 2.2rem 1.4rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .6rem; padding-top: .7rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 .2rem; }
p { max-width: 80ch; }
figcaption { max-width: 100ch; }
.lead { font-size: 1.1rem; }
.soft, figcaption, caption { color: var(--soft); }
.warn { border-left: 4px solid var(--warn); background: var(--warn-paper); color: var(--warn); padding: .7rem 1rem;
  margin: 1rem 0; max-width: 84ch; }
.scroll { overflow-x: auto; margin: 1rem 0; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: .88rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
caption { text-align: left; caption-side: bottom; padding: .5rem 0 0; font-size: .85rem;
  max-width: min(95ch, calc(100vw - 2.8rem)); }
th, td { padding: .34rem .55rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { border-bottom: 2px solid var(--soft); vertical-align: bottom; white-space: normal; font-weight: 600; }
th:first-child, .text { text-align: left; }
th:first-child { padding-left: 0; }
tbody th { font-weight: 600; position: sticky; left: 0; background: var(--paper); }
thead th:first-child { position: sticky; left: 0; background: var(--paper); }
td.bad { color: var(--warn); font-weight: 700; }
td.good { color: var(--good); }
figure { margin: 1.2rem 0 0; }
.plate { background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: .6rem; overflow-x: auto; }
.plate img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { font-size: .92rem; margin-top: .6rem; }
.verdicts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 32rem), 1fr)); gap: .9rem;
  margin: 1rem 0; }
.verdicts article { background: var(--card); border-radius: 6px; padding: .8rem 1rem; font-size: .94rem; }
.verdicts p { margin: 0; }
details { margin: 1rem 0; }
summary { cursor: pointer; font-weight: 600; }
pre { background: var(--card); padding: 1rem; border-radius: 6px; overflow-x: auto; font-size: .84rem;
  line-height: 1.45; }
@media (max-width: 600px) { main { padding: 1.2rem .9rem 3rem; } h1 { font-size: 1.4rem; } .lead { font-size: 1.02rem; }
  tbody th { white-space: normal; min-width: 7.5rem; } th, td { padding: .34rem .5rem; } }
@media print { .plate, .verdicts article { break-inside: avoid; } }
"""


class Markup(str):
    """Text that is HTML already; every plain ``str`` is escaped where it enters the page."""


def text(content: str) -> Markup:
    """Content as HTML: escaped, unless it is markup already."""
    return content if isinstance(content, Markup) else Markup(html.escape(str(content)))


def element(tag: str, *content: str, kind: str = "") -> Markup:
    """One element around its contents; ``kind`` is its CSS class."""
    label = f' class="{html.escape(kind)}"' if kind else ""
    return Markup(f"<{tag}{label}>{''.join(text(part) for part in content)}</{tag}>")


def number(value: float, shown: str) -> Markup:
    """A number as shown, with the full value as the machine-readable one."""
    return Markup(f'<data value="{html.escape(repr(float(value)))}">{text(shown)}</data>')


def table(headers: Sequence[str], rows: Sequence[Sequence[Markup]], caption: str, words: int = 0) -> Markup:
    """A table that scrolls sideways within itself; the first cell of a row is its heading.

    Args:
        headers: one a column.
        rows: complete cells (``td`` or ``th`` elements).
        caption: what the columns mean.
        words: how many columns after the first hold words; they are aligned at the left.
    """
    kinds = [""] + ["text"] * words + [""] * len(headers)
    head = element("thead", element("tr", *(element("th", header, kind=kind) for header, kind in zip(headers, kinds))))
    body = element("tbody", *(element("tr", *row) for row in rows))
    return element("div", element("table", element("caption", caption), head, body), kind="scroll")


def image(path: Path, alternative: str, caption: str) -> Markup:
    """A figure with the PNG inside the page."""
    png = path.read_bytes()
    width = int.from_bytes(png[16:20], "big") * 96 // DPI  # never larger than drawn
    size = f"width:{width}px;min-width:{min(width, READABLE)}px"
    source = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
    tag = Markup(f'<img alt="{html.escape(alternative)}" style="{size}" src="{source}">')
    return element("figure", element("div", tag, kind="plate"), element("figcaption", caption))


def document(title: str, *sections: str) -> str:
    """The whole page."""
    head = f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    body = element("main", *sections)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{meta}{head}</head>\n<body>{body}</body></html>\n'
