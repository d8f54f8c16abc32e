"""One task for every predictor and every learning rule."""

from collections.abc import Callable, Iterable

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from pcnet.data import SequenceBatch
from pcnet.learning import LearningRule
from pcnet.predictor import Predictor


class NextToken(LightningModule):
    """Learn to predict the next token: the rule's loss is optimised automatically, whatever the rule.

    Args:
        predictor: what learns.
        rule: how.
        optimizer: makes the optimiser from the parameters.
        peak_at: share of the steps after which the learning rate peaks (`OneCycleLR`); None keeps it constant.
    """

    def __init__(
        self,
        predictor: Predictor,
        rule: LearningRule,
        optimizer: Callable[[Iterable], Optimizer],
        peak_at: float | None = None,
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self.rule = rule
        self.make_optimizer = optimizer
        self.peak_at = peak_at

    def training_step(self, batch: SequenceBatch, batch_index: int) -> dict[str, Tensor]:
        loss = self.rule.loss(self.predictor, batch.tokens)
        return {"loss": loss, "excess": loss.detach() - batch.optimal_loss}

    def configure_optimizers(self) -> dict:
        optimizer = self.make_optimizer(self.predictor.parameters())
        if self.peak_at is None:
            return {"optimizer": optimizer}
        rate = optimizer.param_groups[0]["lr"]
        schedule = OneCycleLR(
            optimizer, rate, total_steps=self.trainer.max_steps, pct_start=self.peak_at, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """A gradient that is not finite would spoil weights and optimiser state for good: stop, and say where."""
        bad = [
            name
            for name, p in self.predictor.named_parameters()
            if p.grad is not None and not torch.isfinite(p.grad).all()
        ]
        if bad:
            raise FloatingPointError(
                f"the gradient of {bad[0]} is not finite at step {self.global_step}; lower the learning rate"
            )
