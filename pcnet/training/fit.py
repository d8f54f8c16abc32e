"""Training one model of a comparison to its end, from wherever its checkpoint stands."""

import logging
import warnings
from collections.abc import Callable, Mapping
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


def fit(
    predictor: Predictor,
    process: HiddenMarkovModel,
    training: Training,
    *,
    context: int,
    seed: int,
    checkpoint: Path,
    checkpoint_every: int,
    snapshots: Mapping[int, Path],
    log_every: int,
    device: str,
    report: Callable[[int, int, float | None], None],
) -> list[CurvePoint]:
    """Train `predictor` in place; returns its learning curve. A checkpoint that exists is gone on from.

    Args:
        predictor: freshly initialised.
        process: what the sequences come from.
        training: rule, optimiser, schedule and sizes.
        context: longest context.
        seed: of the stream of sequences.
        checkpoint: where to keep what is needed to go on.
        checkpoint_every: steps between checkpoints.
        snapshots: where to keep the weights as they were after so many steps.
        log_every: steps per point of the learning curve.
        device: cpu or cuda.
        report: told the progress.
    """
    _quiet()
    task = NextToken(predictor, training.rule, training.optimizer, training.peak_at)
    curve = LearningCurve(log_every)
    watchers = [curve, Progress(report, max(1, training.steps // 200)), InferenceDiagnostics(log_every)]
    trainer = Trainer(
        accelerator="cpu" if device == "cpu" else "gpu",
        devices=1,
        max_steps=training.steps,
        gradient_clip_val=training.clip,
        callbacks=[*watchers, Snapshots(snapshots), Checkpoints(checkpoint, checkpoint_every)],
        logger=_loggers(checkpoint.parent),
        plugins=[SafeCheckpoints()],
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = SequenceData(process, context + 1, training.batch_size, seed)
    trainer.fit(task, datamodule=data, ckpt_path=checkpoint if checkpoint.is_file() else None, weights_only=True)
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
