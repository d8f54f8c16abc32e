"""Does the verdict on belief geometry err as rarely as it says? Planted answers, and intervals against fresh rows."""

from comparisons.calibration.experiment import Calibration

__all__ = ["Calibration"]
