"""The command `pcnet`: which verb, and nothing more."""

import sys
from collections.abc import Callable, Sequence

DESCRIPTION = """\
usage: pcnet VERB ...

Predictive-coding networks beside transformers and recurrent networks: one question, one bill.

  pcnet compare            train them on a hidden Markov process, ask whether their states hold its belief
                           geometry, measure what an answer costs; ends with a table and a report to look at
  pcnet process mess3      everything that is known exactly about a process, printed and drawn
  pcnet probe              score your own activations: do they encode the beliefs of the process behind the tokens?

Each verb explains itself: pcnet compare --help. pcnet --version prints the version."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(DESCRIPTION)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("pcnet"))
        return 0
    verb = _verb(arguments[0])
    if verb is None:
        print(f"pcnet: there is no verb {arguments[0]!r}; there are compare, process, probe", file=sys.stderr)
        return 2
    return verb(arguments[1:])


def _verb(name: str) -> Callable[[Sequence[str]], int] | None:
    """A verb's own entry point, imported when it is asked for."""
    if name == "compare":
        from pcnet.cli import compare

        return compare.main
    if name == "process":
        from pcnet.cli import process

        return process.main
    if name == "probe":
        from pcnet.cli import probe

        return probe.main
    return None


if __name__ == "__main__":
    sys.exit(main())
