"""Lightning tasks and what watches them."""

from pcnet.training.callbacks import Checkpoints, CurvePoint, InferenceDiagnostics, LearningCurve, Progress, Snapshots
from pcnet.training.checkpoint import SafeCheckpoints
from pcnet.training.graph_task import GraphTask
from pcnet.training.next_token import NextToken
from pcnet.training.supervised import Supervised, Unsupervised

__all__ = [
    "Checkpoints",
    "CurvePoint",
    "GraphTask",
    "InferenceDiagnostics",
    "LearningCurve",
    "NextToken",
    "Progress",
    "SafeCheckpoints",
    "Snapshots",
    "Supervised",
    "Unsupervised",
]
