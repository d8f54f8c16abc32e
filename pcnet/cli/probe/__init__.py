"""The verb `pcnet probe`: your own activations, scored beside their controls."""

from pcnet.cli.probe.verb import main

__all__ = ["main"]
