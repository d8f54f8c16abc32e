"""Do beliefs move predictions? ``python -m comparisons.interventions``"""

from comparisons.interventions.experiment import Interventions

__all__ = ["Interventions"]
