"""What `pcnet process` answers: the list of processes, or the card of one."""

import argparse
import difflib
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pcnet.card import Card, Entry, card_json, catalogue, make_card, render_card
from pcnet.card.listing import Value
from pcnet.files import replace_file
from pcnet.processes import HiddenMarkovModel

FOLDER = Path("runs/process")


def answer(
    known: argparse.Namespace,
    rest: Sequence[str],
    arguments: list[str],
    make_parser: Callable[[str], argparse.ArgumentParser],
) -> int:
    """List the processes, explain one of them, or print and draw its card.

    Args:
        known: options that every call has.
        rest: what else was given.
        arguments: all of it.
        make_parser: understands the options that every call has; its argument is the command.

    Returns:
        The exit code.

    Raises:
        ValueError: if the call makes no sense; the message names the option.
    """
    if known.length < 0:
        raise ValueError(f"--length must be at least 0, got {known.length}")
    if known.matrices is not None:
        return _show(_own(known, rest), known.out or FOLDER / known.matrices.stem, known.json)
    if rest and (known.name is None or rest[0] == arguments[0]):
        raise ValueError(f"{rest[0]} needs the NAME of a process before it")
    if known.name is None:
        print(_listing())
        return 0
    entry = _entry(known.name)
    parser = _with_options_of(entry, make_parser(f"pcnet process {entry.name}"))
    if known.help:
        parser.print_help()
        return 0
    values, seed = _given(entry, parser, arguments)
    return _show(
        _named(entry, values, seed, known.length), known.out or FOLDER / _folder(entry, values, seed), known.json
    )


def _listing() -> str:
    """A line for each process."""
    entries = catalogue().values()
    wide = max(len(entry.name) for entry in entries) + 2
    lines = [
        textwrap.wrap(f"{entry.name:{wide}}{entry.summary}", 118, subsequent_indent=" " * wide) for entry in entries
    ]
    return "\n".join([line for part in lines for line in part] + ["", "pcnet process NAME shows one of them."])


def _entry(name: str) -> Entry:
    """The process of that name.

    Raises:
        ValueError: if there is none; the message names the closest.
    """
    entries = catalogue()
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=3, cutoff=0.5)
        there = f"did you mean {' or '.join(close)}?" if close else "`pcnet process` lists those that there are"
        raise ValueError(f"no process is called {name!r}; {there}")
    return entries[name]


def _with_options_of(entry: Entry, parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """A parser that also understands the parameters of one process."""
    parser.description, parser.epilog = entry.description, None
    own = parser.add_argument_group(f"parameters of {entry.name}")
    for parameter in entry.parameters.values():
        default = "" if parameter.required else f" (default: {_written(parameter.default)})"
        explanation = (parameter.explanation + default).replace("%", "%%")
        flags = dict.fromkeys([f"--{parameter.name}", f"--{parameter.name.replace('_', '-')}"])
        own.add_argument(*flags, metavar=parameter.metavar, help=explanation)
    if entry.random:
        own.add_argument("--seed", type=int, default=0, metavar="INTEGER", help="of every draw (default: 0)")
    parser.add_argument("name", metavar=entry.name, help=argparse.SUPPRESS)
    parser.add_argument("--help", "-h", action="store_true", help="show this text")
    return parser


def _given(entry: Entry, parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[dict[str, Value], int]:
    """Parameters and seed as given on the command line."""
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        options = ", ".join(f"--{name}" for name in entry.parameters) or "none"
        raise ValueError(f"{entry.name} has no parameter {unknown[0]}; its parameters: {options}")
    found = vars(known)
    given = {name: found[name] for name in entry.parameters if found[name] is not None}
    return {name: entry.parameters[name].parse(text) for name, text in given.items()}, found.get("seed", 0)


def _named(entry: Entry, values: Mapping[str, Value], seed: int, max_length: int) -> Card:
    """The card of a process that has a name."""
    process = entry.make(values, seed)
    if sys.stderr.isatty():
        print(f"{entry.name}: computing ...", file=sys.stderr)
    parameters = {name: values.get(name, parameter.default) for name, parameter in entry.parameters.items()}
    parameters |= {"seed": seed} if entry.random else {}
    return make_card(
        process, entry.name, parameters, summary=entry.summary, reference=entry.reference, max_length=max_length
    )


def _folder(entry: Entry, values: Mapping[str, Value], seed: int) -> str:
    changed = dict(values) | ({"seed": seed} if seed else {})
    return "-".join([entry.name, *(f"{name}={_written(value).replace(',', '_')}" for name, value in changed.items())])


def _own(known: argparse.Namespace, rest: Sequence[str]) -> Card:
    """The card of the user's own matrices."""
    if known.name is not None or rest:
        extra = rest[0] if known.name is None else known.name
        raise ValueError(f"--matrices takes the place of a name and its parameters; {extra} makes no sense beside it")
    if not known.matrices.is_file():
        raise ValueError(f"--matrices: there is no file {known.matrices}")
    try:
        matrices = np.load(known.matrices, allow_pickle=False)
    except (ValueError, EOFError):
        raise ValueError(f"--matrices: {known.matrices} holds no array saved by numpy.save") from None
    return make_card(HiddenMarkovModel(matrices), known.matrices.stem, max_length=known.length)


def _show(card: Card, folder: Path, as_json: bool) -> int:
    """Print the card, draw it, and say where."""
    from pcnet.report.process import draw_card  # matplotlib takes a second to import

    print(card_json(card) if as_json else render_card(card), flush=True)
    replace_file(folder / "card.txt", (render_card(card) + "\n").encode())
    replace_file(folder / "card.json", (card_json(card) + "\n").encode())
    drawings = draw_card(card, folder)
    print(f"{'' if as_json else chr(10)}Drawings: {drawings[0]}", file=sys.stderr if as_json else sys.stdout)
    return 0


def _written(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ",".join(map(_written, value)) if isinstance(value, tuple | list) else str(value)
