"""Images in memory, in batches whose order depends on a seed and nothing else."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from lightning.pytorch import LightningDataModule
from torch import Tensor

from pcnet.data.sequences import stream_seed


@dataclass(frozen=True)
class Images:
    """A set of images.

    Args:
        pixels: (N, C, H, W), as bytes from 0 to 255 or as floating-point numbers.
        labels: classes, or None.

    Raises:
        ValueError: shapes that do not fit, or pixels that are not finite.
    """

    pixels: Tensor
    labels: Int[Tensor, " N"] | None = None

    def __post_init__(self) -> None:
        if self.pixels.dim() != 4:
            raise ValueError(f"pixels must be (images, channels, height, width), got {tuple(self.pixels.shape)}")
        if self.labels is not None and self.labels.shape != self.pixels.shape[:1]:
            raise ValueError(f"labels must be ({len(self.pixels)},), got {tuple(self.labels.shape)}")
        if self.pixels.is_floating_point() and not torch.isfinite(self.pixels).all():
            raise ValueError("pixels must be finite")

    def __len__(self) -> int:
        return len(self.pixels)

    def rows(self, index: Int[Tensor, " R"]) -> "Images":
        """Some of them, in this order."""
        return Images(self.pixels[index], None if self.labels is None else self.labels[index])

    @property
    def values(self) -> Float[Tensor, "N C H W"]:
        """Pixels as floating-point numbers: bytes are divided by 255."""
        return self.pixels if self.pixels.is_floating_point() else self.pixels.float().div_(255)


@dataclass(frozen=True)
class Scaling:
    """values -> (values - shift) / scale, the same for every pixel."""

    shift: float = 0.0
    scale: float = 1.0

    @classmethod
    def standardising(cls, images: Images) -> "Scaling":
        """To mean 0 and standard deviation 1 over all pixels of these images.

        Raises:
            ValueError: all pixels are the same.
        """
        deviation, mean = torch.std_mean(images.values.double(), correction=0)
        if deviation == 0:
            raise ValueError("images whose pixels are all the same cannot be standardised")
        return cls(float(mean), float(deviation))

    def __call__(self, values: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        return values if self == Scaling() else (values - self.shift) / self.scale


class Loader(abc.ABC):
    """Batches of images, (images, labels) or images alone where there are no labels.

    Args:
        images: all of them.
        batch_size: images per batch.
        scaling: of the pixels.
    """

    def __init__(self, images: Images, batch_size: int, scaling: Scaling | None = None) -> None:
        self.images, self.batch_size, self.scaling = images, batch_size, scaling or Scaling()

    @abc.abstractmethod
    def __len__(self) -> int:
        """How many batches there are in an epoch."""

    @abc.abstractmethod
    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        """One epoch."""

    def batch(self, index: Int[Tensor, " R"]) -> Tensor | tuple[Tensor, Tensor]:
        """The batch of these images."""
        chosen = self.images.rows(index)
        values = self.scaling(chosen.values)
        return values if chosen.labels is None else (values, chosen.labels)


class Batches(Loader):
    """Every image once, in their order; the last batch may be smaller: what validation and tests go through."""

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        for index in torch.arange(len(self.images)).split(self.batch_size):
            yield self.batch(index)


class ShuffledBatches(Loader):
    """Batches in a new random order every epoch, taken up where they were left.

    The order of epoch e comes from a generator seeded by (seed, e). With several processes each takes its share of every
    batch, so that together they see what one process with a batch as large as theirs together would see. What is left over
    at the end of an epoch is dropped.

    Args:
        images: all of them.
        batch_size: images per process and step.
        seed: of the orders.
        scaling: of the pixels.
        process: number of this process.
        processes: how many there are.

    Raises:
        ValueError: there are fewer images than one step takes.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        seed: int,
        scaling: Scaling | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        super().__init__(images, batch_size, scaling)
        self.seed, self.process, self.processes = seed, process, processes
        self.epoch, self.done = 0, 0
        if not len(self):
            raise ValueError(f"a step takes {batch_size * processes} images, there are {len(images)}")

    def __len__(self) -> int:
        return len(self.images) // (self.batch_size * self.processes)

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        if self.done == len(self):
            self.epoch, self.done = self.epoch + 1, 0
        order = self.order(self.epoch).split(self.batch_size * self.processes)
        for index in order[self.done : len(self)]:
            self.done += 1
            yield self.batch(index.split(self.batch_size)[self.process])

    def order(self, epoch: int) -> Int[Tensor, " N"]:
        """In which the images come in one epoch."""
        generator = torch.Generator().manual_seed(stream_seed(self.seed, epoch))
        return torch.randperm(len(self.images), generator=generator)

    def state_dict(self) -> dict[str, int]:
        """Where it stands; Lightning keeps it in checkpoints."""
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.epoch, self.done = state["epoch"], state["done"]


@dataclass(frozen=True)
class Split:
    """What a data module works with.

    Attributes:
        train: images to learn from.
        validation: images to choose settings by; may be none.
        test: images that are looked at once.
    """

    train: Images
    validation: Images
    test: Images


class ImageData(LightningDataModule, abc.ABC):
    """Images for Lightning: shuffled for training, in order for validation and test.

    Args:
        batch_size: images per process and step.
        validation: how many images are taken out of the training set, at random, to choose settings by.
        seed: of that choice and of the order in training.
        standardise: whether pixels are brought to mean 0 and standard deviation 1, as measured on the training images;
            otherwise they are as they are read, bytes divided by 255.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(self, batch_size: int, validation: int, seed: int, standardise: bool) -> None:
        super().__init__()
        for name, value, least in (("batch_size", batch_size, 1), ("validation", validation, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.batch_size, self.held_out, self.seed, self.standardise = batch_size, validation, seed, standardise
        self._split: Split | None = None
        self._scaling = Scaling()

    @abc.abstractmethod
    def read(self) -> tuple[Images, Images]:
        """Training and test images.

        Raises:
            FileNotFoundError: files are absent; the message names the folder.
        """

    def setup(self, stage: str | None = None) -> None:
        if self._split is None:
            train, test = self.read()
            self._split = Split(*hold_out(train, self.held_out, self.seed), test)
            self._scaling = Scaling.standardising(self._split.train) if self.standardise else Scaling()

    @property
    def split(self) -> Split:
        """The images, read when they are first asked for."""
        self.setup()
        return self._split

    def train_dataloader(self) -> ShuffledBatches:
        process, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return ShuffledBatches(self.split.train, self.batch_size, self.seed, self._scaling, process, processes)

    def val_dataloader(self) -> Batches | list:
        held_out = self.split.validation
        return Batches(held_out, self.batch_size, self._scaling) if len(held_out) else []

    def test_dataloader(self) -> Batches:
        return Batches(self.split.test, self.batch_size, self._scaling)


def hold_out(images: Images, count: int, seed: int) -> tuple[Images, Images]:
    """All but `count` of the images, and those, drawn at random.

    Raises:
        ValueError: nothing would be left.
    """
    if count >= len(images):
        raise ValueError(f"validation must be less than the number of training images, {len(images)}, got {count}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(stream_seed(seed, -1)))
    return images.rows(order[count:].sort().values), images.rows(order[:count].sort().values)
