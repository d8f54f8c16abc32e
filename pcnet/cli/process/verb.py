"""What `pcnet process` is told; nothing heavy is imported before it is asked for a process."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

DESCRIPTION = """\
Print everything that is known exactly about a process and draw it: its matrices and states, entropies, loss floor and
spectrum, and whether its next-token law determines the belief.

  pcnet process                             all processes that have a name
  pcnet process mess3                       one of them, as in the literature
  pcnet process mess3 --x 0.15 --a 0.6      with parameters of its own
  pcnet process mess3 --help                what its parameters are
  pcnet process --matrices mine.npy         your own: T[x, i, j] = P(emit x, go to j | in i), saved by numpy"""
EPILOG = """\
the folder then holds card.png (everything on one page), states, beliefs, floor, spectrum and, where there are few of
them, mixed_states; each as .png and .svg; card.txt and card.json

exit codes: 0 done, 2 something was wrong with the call, 130 interrupted"""


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
        from pcnet.cli.process.cards import answer

        return answer(known, rest, list(arguments), _parser)
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
