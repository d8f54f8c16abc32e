"""``python -m comparisons.belief_speed``"""

import sys

from pcnet.experiments import command

if __name__ == "__main__":
    sys.exit(command("comparisons.belief_speed.BeliefSpeed"))
