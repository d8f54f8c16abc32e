"""Training one model of a comparison to its end, from wherever its checkpoint stands."""

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from pcnet.data import SequenceData
from pcnet.learning.training import Training
from pcnet.predictor import Predictor
from pcnet.processes import HiddenMarkovModel
from pcnet.training.callbacks import Checkpoints, CurvePoint, InferenceDiagnostics, LearningCurve, Progress, Snapshots
from pcnet.training.checkpoint import SafeCheckpoints
from pcnet.training.next_token import NextToken


@dataclass(frozen=True)
class Session:
    """Where a training runs, what it keeps, and whom it tells.

    Attributes:
        checkpoint: file with what is needed to go on; logs go beside it.
        checkpoint_every: optimiser steps between checkpoints.
        snapshots: where to keep the weights as they were after so many steps.
        log_every: steps per point of the learning curve.
        device: cpu or cuda.
        report: told (step, steps, latest loss or None) as training goes on.
    """

    checkpoint: Path
    checkpoint_every: int = 1000
    snapshots: Mapping[int, Path] = field(default_factory=dict)
    log_every: int = 20
    device: str = "cpu"
    report: Callable[[int, int, float | None], None] = lambda *news: None


def fit(
    predictor: Predictor, process: HiddenMarkovModel, training: Training, context: int, seed: int, session: Session
) -> list[CurvePoint]:
    """Train `predictor` in place; returns its learning curve. A checkpoint that exists is gone on from.

    Args:
        predictor: freshly initialised.
        process: what the sequences come from.
        training: rule, optimiser, schedule and sizes.
        context: longest context.
        seed: of the stream of sequences.
        session: where to train and what to keep.
    """
    _quiet()
    task = NextToken(predictor, training.rule, training.optimizer, training.peak_at)
    curve = LearningCurve(session.log_every)
    watchers = [
        curve,
        Progress(session.report, max(1, training.steps // 200)),
        InferenceDiagnostics(session.log_every),
        Snapshots(session.snapshots),
        Checkpoints(session.checkpoint, session.checkpoint_every),
    ]
    trainer = Trainer(
        accelerator="cpu" if session.device == "cpu" else "gpu",
        devices=1,
        max_steps=training.steps,
        gradient_clip_val=training.clip,
        callbacks=watchers,
        logger=_loggers(session.checkpoint.parent),
        plugins=[SafeCheckpoints()],
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = SequenceData(process, context + 1, training.batch_size, seed)
    known = session.checkpoint if session.checkpoint.is_file() else None
    trainer.fit(task, datamodule=data, ckpt_path=known, weights_only=True)
    return curve.points


def load(predictor: Predictor, checkpoint: Path) -> Predictor:
    """Put a checkpoint's weights into a predictor; nothing but tensors is unpickled."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "predictor."
    predictor.load_state_dict(
        {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    )
    return predictor.eval()


def _loggers(folder: Path) -> list:
    """A fresh folder for every attempt: Lightning's CSV logger would delete what the attempt before has written."""
    logs = folder / "logs"
    attempt = f"attempt{len(list(logs.glob('attempt*')))}"
    return [CSVLogger(logs, name="", version=attempt), TensorBoardLogger(logs, name="", version=attempt)]


def _quiet() -> None:
    """Keep Lightning's notices about hardware, workers and resumed epochs out of the user's terminal."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
