"""Endless fresh sequences of a process, the same for the same seed wherever one starts."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from lightning.pytorch import LightningDataModule
from torch import Tensor

from pcnet.processes import Process, token_log_probabilities
from pcnet.processes.beliefs.sampling import sample_batches

AHEAD = 2**15
"""Tokens that are drawn at once: a few calls for many small batches instead of as many for each."""


class SequenceBatch(NamedTuple):
    """Attributes: tokens; optimal_loss, what the exact Bayesian observer loses on tokens 1..L-1, mean in nats."""

    tokens: Int[Tensor, "B L"]
    optimal_loss: Float[Tensor, ""]


class SequenceStream:
    """Batch i comes from a generator seeded by (seed, i), so a run can be taken up anywhere.

    Args:
        process: what emits the tokens.
        length: tokens per sequence.
        batch_size: sequences per batch.
        seed: of the stream.
        first: number of the batch to begin with, asked whenever iteration begins.
    """

    def __init__(
        self, process: Process, length: int, batch_size: int, seed: int, first: Callable[[], int] = lambda: 0
    ) -> None:
        self.process = process
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.first = first

    def __iter__(self) -> Iterator[SequenceBatch]:
        count = max(1, AHEAD // (self.batch_size * self.length))
        group, skipped = divmod(self.first(), count)  # groups are the same wherever one starts, to the last bit
        while True:
            yield from self.batches(group * count, count)[skipped:]
            group, skipped = group + 1, 0

    def batch(self, index: int) -> SequenceBatch:
        """Batch number `index`."""
        return self.batches(index, 1)[0]

    def batches(self, first: int, count: int) -> list[SequenceBatch]:
        """So many batches from number `first` on; each is what it is by itself."""
        generators = [torch.Generator().manual_seed(stream_seed(self.seed, first + k)) for k in range(count)]
        tokens = sample_batches(self.process, self.batch_size, self.length, generators)
        losses = -token_log_probabilities(self.process, tokens)[:, 1:]
        groups = zip(tokens.split(self.batch_size), losses.split(self.batch_size), strict=True)
        return [SequenceBatch(own.clone(), loss.mean()) for own, loss in groups]


class SequenceData(LightningDataModule):
    """Lightning's view of a `SequenceStream`: training goes on at the batch after the last optimiser step.

    Args:
        process: what emits the tokens.
        length: tokens per sequence, one more than the context that a model sees.
        batch_size: sequences per batch.
        seed: of the stream.
    """

    def __init__(self, process: Process, length: int, batch_size: int, seed: int = 0) -> None:
        super().__init__()
        for name, value, least in (("length", length, 2), ("batch_size", batch_size, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.stream = SequenceStream(process, length, batch_size, seed, lambda: self.trainer.global_step)

    def train_dataloader(self) -> SequenceStream:
        return self.stream


def stream_seed(seed: int, index: int) -> int:
    """One 63-bit seed per (seed, index); neighbours are unrelated (splitmix64, Steele et al. 2014)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + index + 1) & (2**64 - 1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & (2**64 - 1)
    return (mixed ^ (mixed >> 31)) >> 1


def optimal_loss(process: Process, tokens: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
    """Mean surprise of the exact observer at tokens 1..L-1, in nats: a model's loss minus this is its excess, with far less
    noise than its loss minus the entropy."""
    return -token_log_probabilities(process, tokens)[:, 1:].mean()
