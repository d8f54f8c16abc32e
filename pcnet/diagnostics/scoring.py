"""Scores of a network on labelled batches; the labels never reach the network."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pcnet.networks import GraphNetwork
from pcnet.networks.graph.network import has_class_law


@dataclass(frozen=True)
class Scores:
    """How well answers fit targets.

    Attributes:
        rows: scored.
        accuracy: share of rows in which the largest output is the label's; NaN for targets that are no labels.
        surprise: mean -log of the probability given to the label, in nats; NaN for outputs that are no class law.
        squared_error: mean over rows of the squared distance between output and target (one-hot for a label).
        broken: rows whose answer is not finite: inference diverged. They count as wrong, and make means infinite or NaN.
    """

    rows: int
    accuracy: float
    surprise: float
    squared_error: float
    broken: int


@torch.no_grad()
def evaluate(network: GraphNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Scores:
    """Score what the network answers to inputs alone.

    All that is asked of the network is `network(inputs)`, which holds the input node and nothing else: relaxing test images
    with their labels held would leak the label (a published 99.92 % on CIFAR-10 is such a leak).

    Args:
        network: answers (batch, outputs); its mode (training or not) is put back.
        batches: pairs of inputs and targets: labels (B,), or values (B, outputs).

    Raises:
        ValueError: there are no rows, numbers of rows differ, labels are out of range, or shapes don't fit the output.
    """
    was_training = network.training
    network.eval()
    try:
        parts = [_measured(network(inputs), targets) for inputs, targets in batches]
    finally:
        network.train(was_training)
    if not parts or not sum(len(part) for part in parts):
        raise ValueError("batches must hold at least one row")
    hits, surprises, distances, broken = torch.cat(parts).T
    surprise = float(surprises.mean()) if has_class_law(network) else float("nan")
    return Scores(len(hits), float(hits.mean()), surprise, float(distances.mean()), int(broken.sum()))


def _measured(answers: Tensor, targets: Tensor) -> Tensor:
    """Per row: hit, surprise, squared distance, whether the answer is broken; float64."""
    if len(answers) != len(targets):
        raise ValueError(f"batches: {len(answers)} inputs with {len(targets)} targets")
    answers = answers.double()
    width = answers.shape[-1]
    broken = ~answers.isfinite().all(-1)
    nothing = torch.full_like(answers[:, 0], torch.nan)
    hits = surprises = nothing
    if targets.dim() == 1 and not targets.is_floating_point():
        labels = targets.to(answers.device).long()
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < width:
            raise ValueError(f"labels must be in [0, {width}), got {int(labels.min())} to {int(labels.max())}")
        hits = ((answers.argmax(-1) == labels) & ~broken).double()
        surprises = -answers.gather(-1, labels.unsqueeze(-1)).squeeze(-1).log()
        targets = functional.one_hot(labels, width)
    targets = targets.to(answers).reshape(len(answers), targets[:1].numel() if len(targets) else width)
    if targets.shape != answers.shape:
        raise ValueError(f"targets of shape {tuple(targets.shape)} do not fit outputs of shape {tuple(answers.shape)}")
    distances = (answers - targets).square().sum(-1)
    return torch.stack((hits, surprises, distances, broken.double()), -1)
