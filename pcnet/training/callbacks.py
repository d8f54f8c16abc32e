"""What watches training: the learning curve, progress, checkpoints, and how inference fared."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pcnet.inference import Status
from pcnet.sites import Iterates, hooked
from pcnet.training.checkpoint import SafeCheckpoints


class CurvePoint(NamedTuple):
    """Averages over the optimiser steps since the point before; loss and excess in nats per token."""

    step: int
    tokens: int
    loss: float
    excess: float


class LearningCurve(Callback):
    """Collects the learning curve; it is part of the checkpoint, so a resumed run has the whole of it.

    Args:
        every: optimiser steps per point.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.points: list[CurvePoint] = []
        self._sums = torch.zeros(3, dtype=torch.float64)
        self._tokens = 0

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss, excess = outputs["loss"].detach(), outputs["excess"].detach()
        self._sums = self._sums + torch.stack([loss, excess, torch.ones_like(loss)]).double().cpu()
        self._tokens += batch.tokens.numel()
        if trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps:
            loss_sum, excess_sum, count = self._sums.tolist()
            point = CurvePoint(trainer.global_step, self._tokens, loss_sum / count, excess_sum / count)
            self.points.append(point)
            self._sums = torch.zeros_like(self._sums)
            task.log_dict({"loss": point.loss, "excess": point.excess}, batch_size=1)

    def state_dict(self) -> dict[str, Any]:
        return {"points": [list(point) for point in self.points], "sums": self._sums, "tokens": self._tokens}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = [CurvePoint(*point) for point in state_dict["points"]]
        self._sums = state_dict["sums"]
        self._tokens = state_dict["tokens"]


def is_last_batch(trainer: Trainer) -> bool:
    """Whether training ends after this batch, by its steps or by its epochs."""
    if trainer.max_steps >= 0:
        return trainer.global_step >= trainer.max_steps
    return trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs


class Progress(Callback):
    """Reports how far training is: in optimiser steps where their number is given, otherwise in batches.

    Args:
        report: called with (step, steps, latest loss or None).
        every: steps between calls.
    """

    def __init__(self, report: Callable[[int, int, float | None], None], every: int) -> None:
        self.report = report
        self.every = every

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        self.report(*self._position(trainer), None)

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, steps = self._position(trainer)
        if step % self.every == 0 or is_last_batch(trainer):
            self.report(step, steps, float(outputs["loss"]))

    @staticmethod
    def _position(trainer: Trainer) -> tuple[int, int]:
        if trainer.max_steps >= 0:
            return trainer.global_step, trainer.max_steps
        return trainer.fit_loop.epoch_loop.batch_progress.total.ready, int(trainer.estimated_stepping_batches)


class Checkpoints(Callback):
    """Writes everything that is needed to go on, every so many steps and at the end.

    Args:
        path: the file, replaced each time.
        every: optimiser steps between checkpoints.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self.every = every
        self._before = 0

    def on_train_batch_start(self, trainer: Trainer, task: LightningModule, batch: Any, batch_idx: int) -> None:
        self._before = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # A batch may take several steps, and step over a multiple.
        if trainer.global_step // self.every > self._before // self.every or is_last_batch(trainer):
            trainer.save_checkpoint(self.path)


class Snapshots(Callback):
    """Keeps the weights as they were after some optimiser steps, for looking at how something was learned.

    Args:
        paths: where, by the step; 0 is before the first. One that a batch steps over is taken right after that batch.
    """

    def __init__(self, paths: Mapping[int, Path]) -> None:
        self.paths = paths
        self._before = -1

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        self._before = trainer.global_step - (trainer.global_step == 0)
        self._keep(trainer, task)

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._keep(trainer, task)

    def _keep(self, trainer: Trainer, task: LightningModule) -> None:
        now = trainer.global_step
        for step, path in self.paths.items():
            if self._before < step <= now:
                SafeCheckpoints().save_checkpoint({"state_dict": task.state_dict()}, path)
        self._before = now


class InferenceDiagnostics(Callback):
    """Logs how inference fared in training: mean steps per token, and how many tokens diverged or did not converge.

    Args:
        every: optimiser steps per report.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._hooks = ExitStack()
        self._seen: dict[str, list[Tensor]] = {}

    def on_train_batch_start(self, trainer: Trainer, task: LightningModule, batch: Any, batch_idx: int) -> None:
        if (trainer.global_step + 1) % self.every == 0 and isinstance(task.predictor, Iterates):
            self._seen = self._hooks.enter_context(hooked(task.predictor, list(task.predictor.diagnostic_sites)))

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._hooks.close()
        if self._seen.get("diagnostics.status"):  # a rule that does not go through `infer` shows nothing
            status, steps = self._seen["diagnostics.status"], self._seen["diagnostics.steps"]
            task.log_dict(summarise_inference(status, steps), batch_size=1)
        self._seen = {}

    def on_exception(self, trainer: Trainer, task: LightningModule, exception: BaseException) -> None:
        self._hooks.close()


def summarise_inference(status: list[Tensor], steps: list[Tensor]) -> dict[str, float]:
    """Shares of diverged and unconverged token problems, and mean steps."""
    all_status, all_steps = (torch.cat([part.flatten() for part in parts]) for parts in (status, steps))
    return {
        "inference/steps": all_steps.double().mean().item(),
        "inference/diverged": (all_status == Status.DIVERGED).double().mean().item(),
        "inference/unconverged": (all_status == Status.UNCONVERGED).double().mean().item(),
    }
