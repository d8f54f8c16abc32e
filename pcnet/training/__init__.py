"""Training: Lightning tasks for every learning rule, and what watches and keeps them.

`NextToken` teaches a model of sequences, `Supervised` and `Unsupervised` teach a graph of images; all three take a rule of
`pcnet.learning` and any `torch.optim` optimiser, under any Lightning trainer. Callbacks collect the learning curve, report
progress, keep snapshots and checkpoints, and log how inference fared. `fit` puts them together for one model of a comparison,
`load` reads what it kept.

    trainer = lightning.Trainer(max_steps=2000, plugins=[SafeCheckpoints()])
    trainer.fit(NextToken(model, Implicit(), torch.optim.Adam), SequenceData(mess3(), 11, 256, seed=0))
"""

from pcnet.training.callbacks import Checkpoints, CurvePoint, InferenceDiagnostics, LearningCurve, Progress, Snapshots
from pcnet.training.checkpoint import SafeCheckpoints
from pcnet.training.graph_task import GraphTask
from pcnet.training.next_token import NextToken
from pcnet.training.session import Session, fit, load
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
    "Session",
    "Snapshots",
    "Supervised",
    "Unsupervised",
    "fit",
    "load",
]
