"""What a person asks of a predictive-coding network: what inference did, how hard it was, what weights learn from it."""

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
