"""The verb `pcnet process`: the card of a process, printed and drawn."""

from pcnet.cli.process.verb import main

__all__ = ["main"]
