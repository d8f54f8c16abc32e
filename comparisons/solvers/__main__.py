"""The command: ``python -m comparisons.solvers``."""

import sys

from pcnet.experiments import command

if __name__ == "__main__":
    sys.exit(command("comparisons.solvers.Solvers"))
