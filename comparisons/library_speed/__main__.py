"""The command: ``python -m comparisons.library_speed``."""

import sys

from pcnet.experiments import command

if __name__ == "__main__":
    sys.exit(command("comparisons.library_speed.LibrarySpeed"))
