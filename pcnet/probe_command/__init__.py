"""The verb `pcnet probe`: your own activations, scored beside their controls."""

from pcnet.probe_command.verb import main

__all__ = ["main"]
