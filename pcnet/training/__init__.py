"""Lightning tasks and what watches them."""

from pcnet.training.callbacks import Checkpoints, CurvePoint, InferenceDiagnostics, LearningCurve, Progress
from pcnet.training.checkpoint import SafeCheckpoints
from pcnet.training.next_token import NextToken

__all__ = [
    "Checkpoints",
    "CurvePoint",
    "InferenceDiagnostics",
    "LearningCurve",
    "NextToken",
    "Progress",
    "SafeCheckpoints",
]
