"""Tasks on images: say the label, or explain the image."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from pcnet.learning import Example
from pcnet.networks.graph.network import has_class_law
from pcnet.training.graph_task import Batch, GraphTask


class Supervised(GraphTask):
    """Learn to say the labels of (images, labels) batches; see `GraphTask` for the arguments.

    Images are held at the network's input node and labels are the targets of its output node: classes (B,), or (B, width)
    of numbers. In validation and test the labels only score what `network(images)` says; they are never clamped. Logged:
    `train_loss` (what that is depends on the rule), and per epoch `val_loss` (surprise at the class, in nats, where the
    output is categorical, 1/2 squared error summed over units elsewhere) and, of classes, `val_accuracy`.
    """

    def example(self, batch: Batch) -> Example:
        images, labels = _pair(batch)
        return Example({self.network.inputs: images}, {self.network.outputs: labels})

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._score(batch, "val")

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self._score(batch, "test")

    def _score(self, batch: Batch, stage: str) -> None:
        images, labels = _pair(batch)
        with torch.inference_mode(False):  # layers by automatic differentiation need their graph to infer
            answer = self.network(images.clone())
        # The labels in the form in which they would be held, and checked; they are not held.
        wanted = self.network.clamp({self.network.outputs: labels}).values[self.network.outputs]
        scores = {f"{stage}_loss": self._loss(answer, wanted)}
        if not labels.is_floating_point():
            scores[f"{stage}_accuracy"] = (answer.argmax(-1) == wanted.argmax(-1)).double().mean()
        self.log_dict(scores, batch_size=len(images), on_epoch=True, sync_dist=True)

    def _loss(self, answer: Float[Tensor, "B D"], wanted: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        if has_class_law(self.network):
            tiny = torch.finfo(answer.dtype).tiny
            return -(wanted * answer.clamp(min=tiny).log()).sum(-1).mean()
        return 0.5 * functional.mse_loss(answer, wanted, reduction="none").sum(-1).mean()


class Unsupervised(GraphTask):
    """Learn to explain images; see `GraphTask` for the arguments.

    Batches are images, or (images, labels) of which the labels are left alone. Images are held at the network's input node
    and all others are free. Logged: `train_loss`, and per epoch `val_energy`, the mean energy at the equilibrium in nats.
    """

    def example(self, batch: Batch) -> Example:
        return Example({self.network.inputs: _images(batch)})

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._score(batch, "val")

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self._score(batch, "test")

    def _score(self, batch: Batch, stage: str) -> None:
        images = _images(batch)
        with torch.inference_mode(False):
            solution = self.network.infer(self.network.clamp({self.network.inputs: images.clone()}))
        self.log(
            f"{stage}_energy",
            solution.point.energy.double().mean(),
            batch_size=len(images),
            on_epoch=True,
            sync_dist=True,
        )


def _images(batch: Batch) -> Tensor:
    return batch if isinstance(batch, Tensor) else batch[0]


def _pair(batch: Batch) -> tuple[Tensor, Tensor]:
    if isinstance(batch, Tensor) or len(batch) != 2:
        what = "a tensor" if isinstance(batch, Tensor) else f"{len(batch)} parts"
        raise TypeError(f"a supervised batch must be (images, labels), got {what}")
    return batch[0], batch[1]
