"""``python -m comparisons.calibration``"""

import sys

from pcnet.experiments import command

if __name__ == "__main__":
    sys.exit(command("comparisons.calibration.Calibration"))
