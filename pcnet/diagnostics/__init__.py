"""What one inference of a predictive-coding network did, how hard it was, and what its weights learn from it.

`diagnose` makes the report; its parts can be had alone: `course` (energy, error and residual of every node by iteration),
`conditioning` (extreme curvatures, in values and in errors) and `standing` (is the local gradient backpropagation's, or that of
the equilibrium?). `inference_is_trivial` says whether there was anything to infer. `evaluate` scores a network's answers.
"""

from pcnet.diagnostics.condition import conditioning
from pcnet.diagnostics.descent import course
from pcnet.diagnostics.diagnosis import Diagnosis, diagnose
from pcnet.diagnostics.regime import Regime, Standing, standing
from pcnet.networks.graph.trivial import InferenceIsTrivial, inference_is_trivial, warn_if_trivial

__all__ = [
    "Diagnosis",
    "InferenceIsTrivial",
    "Regime",
    "Standing",
    "conditioning",
    "course",
    "diagnose",
    "inference_is_trivial",
    "standing",
    "warn_if_trivial",
]
