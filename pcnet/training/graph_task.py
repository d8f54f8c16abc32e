"""What every task of a graph network does: one rule, one optimiser, and nothing spoiled by a batch that diverged."""

import abc
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pcnet.learning import Example, LearningRule, SteppedRule
from pcnet.networks import GraphNetwork

Batch = Tensor | tuple[Tensor, Tensor] | list[Tensor]


class GraphTask(LightningModule, abc.ABC):
    """Teach a graph network by a rule, under any `torch.optim` optimiser.

    A `LearningRule` is optimised automatically. A `SteppedRule` is optimised by hand, one step of the optimiser per inference
    iteration (`trainer.global_step` counts those); clipping, schedule and the care for divergence are the same.

    A batch has diverged when the rule says so (`FloatingPointError`) or when a gradient is not finite. Weights and optimiser
    are left alone, on every process if there are several, and training stops with the error or goes on with the next batch.
    What was skipped is counted in `skipped` and logged; the loss of a skipped batch is NaN.

    Args:
        network: what learns.
        rule: how.
        optimizer: makes the optimiser from the parameters.
        scheduler: makes a learning-rate schedule from the optimiser; it steps once per batch. None keeps the rate constant.
        clip: norm above which the gradient of all parameters together is scaled down to it; None does not clip.
        skip_diverged: whether a batch that diverged is skipped instead of ending training.

    Raises:
        ValueError: `clip` is not positive.
    """

    def __init__(
        self,
        network: GraphNetwork,
        rule: LearningRule | SteppedRule,
        optimizer: Callable[[Iterable], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        clip: float | None = None,
        skip_diverged: bool = False,
    ) -> None:
        super().__init__()
        if clip is not None and not 0 < clip < float("inf"):
            raise ValueError(f"clip must be a finite number > 0, got {clip}")
        self.network = network
        self.rule = rule
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.clip = clip
        self.skip_diverged = skip_diverged
        self.automatic_optimization = isinstance(rule, LearningRule)
        self.register_buffer("skipped", torch.zeros((), dtype=torch.long))
        self._failure: FloatingPointError | None = None
        self._left_out = False

    @abc.abstractmethod
    def example(self, batch: Batch) -> Example:
        """What of a batch is held, and what is to be learned.

        Raises:
            TypeError: the batch is not of the form that the task needs.
        """

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.make_optimizer([p for p in self.network.parameters() if p.requires_grad])
        if self.make_scheduler is None:
            return {"optimizer": optimizer}
        schedule = {"scheduler": self.make_scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        example = self.example(batch)
        rule = self.rule
        loss = (
            self._attempt(lambda: rule.loss(self.network, example))
            if self.automatic_optimization
            else self._stepped(example)
        )
        self.log("train_loss", loss.detach(), batch_size=1)
        return {"loss": loss}

    def _attempt(self, compute: Callable[[], Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """The loss; if that fails, NaN with a gradient of zero, so that no other process waits for this one."""
        try:
            return compute()
        except FloatingPointError as error:
            self._failure = error
            return sum((0 * p).sum() for p in self.network.parameters() if p.requires_grad) + torch.nan

    def _stepped(self, example: Example) -> Float[Tensor, ""]:
        """One optimiser step per iteration, until they are done or one is skipped; the loss of the last one."""
        optimizer, losses, last = self.optimizers(), self.rule.updates(self.network, example), None
        while (loss := self._attempt(lambda: next(losses, None))) is not None:
            last = loss
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            if self._left_out:
                break
        if self.make_scheduler is not None:
            self.lr_schedulers().step()
        return last.detach()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stop or skip where something diverged; clip otherwise."""
        failure, self._failure = self._failure or self._broken_gradient(), None
        self._left_out = self._anywhere(failure is not None)
        if self._left_out:
            failure = failure or FloatingPointError("inference diverged in every row of another process's batch")
            if not self.skip_diverged:
                raise failure
            self.skipped += 1
            self.log("skipped", self.skipped.float(), batch_size=1)
            for p in self.network.parameters():
                p.grad = None  # every optimiser leaves such parameters, and what it remembers of them, alone
        elif self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)

    def _broken_gradient(self) -> FloatingPointError | None:
        for name, p in self.network.named_parameters():
            if p.grad is not None and not torch.isfinite(p.grad).all():
                return FloatingPointError(
                    f"the gradient of {name} is not finite at step {self.global_step}; lower the learning rate"
                )
        return None

    def _anywhere(self, failed: bool) -> bool:
        """Whether it failed in any process."""
        if self.trainer.world_size == 1:
            return failed
        return bool(self.all_gather(torch.tensor(failed, device=self.device)).any())
