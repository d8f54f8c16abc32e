"""Which solver reaches the equilibrium first? ``python -m comparisons.solvers``"""

from comparisons.solvers.experiment import Solvers

__all__ = ["Solvers"]
