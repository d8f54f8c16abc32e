"""MNIST, FashionMNIST and CIFAR-10, read by torchvision from files on this machine."""

import abc
import gzip
import shutil
from pathlib import Path

import torch
from torchvision import datasets

from pcnet.data.images import ImageData, Images


class BenchmarkData(ImageData, abc.ABC):
    """An image set that torchvision reads.

    Args:
        root: folder in which torchvision looks, and into which it downloads.
        batch_size: images per process and step.
        validation: how many of the training images are held out to choose settings by.
        seed: of that choice and of the order in training.
        standardise: whether pixels are brought to mean 0 and standard deviation 1 over the training images; otherwise they
            are between 0 and 1.
        download: whether files that are absent are fetched.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 128,
        validation: int = 5000,
        seed: int = 0,
        standardise: bool = False,
        download: bool = False,
    ) -> None:
        super().__init__(batch_size, validation, seed, standardise)
        self.root, self.download = Path(root), download

    @property
    @abc.abstractmethod
    def folder(self) -> Path:
        """Where the files are."""

    @abc.abstractmethod
    def part(self, train: bool, download: bool) -> Images:
        """Training or test images, as torchvision reads them."""

    def prepare_data(self) -> None:
        if self.download:
            for train in (True, False):
                self.part(train, download=True)

    def read(self) -> tuple[Images, Images]:
        name, folder = type(self).__name__.removesuffix("Data"), self.folder.resolve()
        try:
            return self.part(True, download=False), self.part(False, download=False)
        except (RuntimeError, ValueError, AssertionError, EOFError, FileNotFoundError) as error:
            if isinstance(error, FileNotFoundError) or "not found" in str(error):  # all that torchvision says
                what = f"the files of {name} are not all in {folder}; put them there or pass download=True ({error})"
                raise FileNotFoundError(what) from error
            raise ValueError(f"the files of {name} in {folder} are not whole: {error}") from error


class MNISTData(BenchmarkData):
    """Handwritten digits, 60,000 and 10,000 of 28 x 28: files `root/MNIST/raw/train-images-idx3-ubyte` and so on, or the same
    with .gz, which are unpacked beside themselves. For the arguments see `BenchmarkData`.
    """

    @property
    def folder(self) -> Path:
        return self.root / "MNIST" / "raw"

    def part(self, train: bool, download: bool) -> Images:
        unpack(self.folder)
        return _grey(datasets.MNIST(self.root, train, download=download))


class FashionMNISTData(BenchmarkData):
    """Articles of clothing in MNIST's format, in `root/FashionMNIST/raw`. For the arguments see `BenchmarkData`."""

    @property
    def folder(self) -> Path:
        return self.root / "FashionMNIST" / "raw"

    def part(self, train: bool, download: bool) -> Images:
        unpack(self.folder)
        return _grey(datasets.FashionMNIST(self.root, train, download=download))


class CIFAR10Data(BenchmarkData):
    """Photographs of ten classes, 50,000 and 10,000 of 3 x 32 x 32: `root/cifar-10-batches-py/data_batch_1` and so on. For
    the arguments see `BenchmarkData`.
    """

    @property
    def folder(self) -> Path:
        return self.root / datasets.CIFAR10.base_folder

    def part(self, train: bool, download: bool) -> Images:
        read = datasets.CIFAR10(self.root, train, download=download)
        return Images(torch.from_numpy(read.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(read.targets))


def _grey(read: datasets.MNIST) -> Images:
    return Images(read.data.unsqueeze(1), read.targets)


def unpack(folder: Path) -> None:
    """Unpack every .gz of a folder whose contents do not lie beside it yet."""
    for packed in sorted(folder.glob("*-ubyte.gz")):
        target = packed.with_suffix("")
        if not target.exists():
            part = target.with_name(f".{target.name}.part")
            with gzip.open(packed) as source, part.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            part.replace(target)
