"""The verb `pcnet process`: the card of a process, printed and drawn."""

import argparse
import difflib
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcnet.card import Card, Entry
    from pcnet.card.listing import Value

DESCRIPTION = """\
Print everything that is known exactly about a process and draw it: its matrices and states, entropies, loss floor and
spectrum, and whether its next-token law gives the belief away.

  pcnet process                             all processes that have a name
  pcnet process mess3                       one of them, as in the literature
  pcnet process mess3 --x 0.15 --a 0.6      with parameters of its own
  pcnet process mess3 --help                what its parameters are
  pcnet process --matrices mine.npy         your own: T[x, i, j] = P(emit x, go to j | in i), saved by numpy"""
EPILOG = """\
the folder then holds card.png (everything on one page), states, beliefs, floor, spectrum and, where there are few of
them, mixed_states; each as .png and .svg; card.txt and card.json

exit codes: 0 done, 2 something was wrong with the call, 130 interrupted"""
FOLDER = Path("runs/process")


def main(arguments: Sequence[str]) -> int:
    """Run the verb.

    Args:
        arguments: what follows it on the command line.

    Returns:
        The exit code.
    """
    general = _parser("pcnet process")
    general.add_argument("name", nargs="?", metavar="NAME", help="of a process; its own parameters follow it")
    general.add_argument("--help", "-h", action="store_true", help="explain the process named, or this verb")
    known, rest = general.parse_known_args(arguments)
    if known.help and known.name is None:
        general.print_help()
        return 0
    try:
        return _answer(known, rest, list(arguments))
    except (ValueError, TypeError, OSError) as error:
        print(f"pcnet process: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def _parser(command: str) -> argparse.ArgumentParser:
    """Options that every call has."""
    parser = argparse.ArgumentParser(
        command,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where drawings go (default: runs/process/NAME, with what was given)"
    )
    parser.add_argument("--length", type=int, default=10, metavar="N", help="longest context of the loss floor (10)")
    parser.add_argument("--matrices", type=Path, metavar="FILE.npy", help="an array (V, S, S) instead of NAME")
    parser.add_argument("--json", action="store_true", help="print the card as JSON")
    return parser


def _answer(known: argparse.Namespace, rest: Sequence[str], arguments: list[str]) -> int:
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
    parser = _entry_parser(entry)
    if known.help:
        parser.print_help()
        return 0
    values, seed = _given(entry, parser, arguments)
    return _show(
        _named(entry, values, seed, known.length), known.out or FOLDER / _folder(entry, values, seed), known.json
    )


def _listing() -> str:
    """A line for each process."""
    from pcnet.card import catalogue

    entries = catalogue().values()
    wide = max(len(entry.name) for entry in entries) + 2
    lines = [
        textwrap.wrap(f"{entry.name:{wide}}{entry.summary}", 118, subsequent_indent=" " * wide) for entry in entries
    ]
    return "\n".join([line for part in lines for line in part] + ["", "pcnet process NAME shows one of them."])


def _entry(name: str) -> "Entry":
    """The process of that name.

    Raises:
        ValueError: if there is none; the message names the closest.
    """
    from pcnet.card import catalogue

    entries = catalogue()
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=3, cutoff=0.5)
        there = f"did you mean {' or '.join(close)}?" if close else "`pcnet process` lists those that there are"
        raise ValueError(f"no process is called {name!r}; {there}")
    return entries[name]


def _entry_parser(entry: "Entry") -> argparse.ArgumentParser:
    """Options of one process beside those that every call has."""
    parser = _parser(f"pcnet process {entry.name}")
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


def _given(entry: "Entry", parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[dict[str, "Value"], int]:
    """Parameters and seed as given on the command line."""
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        options = ", ".join(f"--{name}" for name in entry.parameters) or "none"
        raise ValueError(f"{entry.name} has no parameter {unknown[0]}; its parameters: {options}")
    found = vars(known)
    given = {name: found[name] for name in entry.parameters if found[name] is not None}
    return {name: entry.parameters[name].parse(text) for name, text in given.items()}, found.get("seed", 0)


def _named(entry: "Entry", values: Mapping[str, "Value"], seed: int, max_length: int) -> "Card":
    """The card of a process that has a name."""
    from pcnet.card import make_card

    process = entry.make(values, seed)
    if sys.stderr.isatty():
        print(f"{entry.name}: computing ...", file=sys.stderr)
    parameters = {name: values.get(name, parameter.default) for name, parameter in entry.parameters.items()}
    parameters |= {"seed": seed} if entry.random else {}
    return make_card(
        process, entry.name, parameters, summary=entry.summary, reference=entry.reference, max_length=max_length
    )


def _folder(entry: "Entry", values: Mapping[str, "Value"], seed: int) -> str:
    changed = dict(values) | ({"seed": seed} if seed else {})
    return "-".join([entry.name, *(f"{name}={_written(value).replace(',', '_')}" for name, value in changed.items())])


def _own(known: argparse.Namespace, rest: Sequence[str]) -> "Card":
    """The card of the user's own matrices."""
    import numpy as np

    from pcnet.card import make_card
    from pcnet.processes import HiddenMarkovModel

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


def _show(card: "Card", folder: Path, as_json: bool) -> int:
    """Print the card, draw it, and say where."""
    from pcnet.card import card_json, render_card
    from pcnet.files import replace_file
    from pcnet.report.process import draw_card

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
