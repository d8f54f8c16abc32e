"""Patches of scikit-learn's two photographs: natural images for unsupervised learning."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from sklearn.datasets import load_sample_images
from torch import Tensor

from pcnet.data.images import ImageData, Images
from pcnet.data.sequences import stream_seed


def photographs() -> Float[Tensor, "2 H W"]:
    """A temple in China and a flower, 427 x 640 each, grey (ITU-R 601 luma) from 0 to 1."""
    colours = np.stack(load_sample_images().images) / 255
    return torch.from_numpy(colours @ np.array([0.299, 0.587, 0.114]))


def cut_patches(
    photos: Float[Tensor, "P H W"], count: int, size: int, generator: torch.Generator
) -> Float[Tensor, "N 1 S S"]:
    """Square patches from anywhere in the photographs, all places equally likely.

    Args:
        photos: of one size.
        count: how many patches.
        size: pixels per side.
        generator: of the places.

    Raises:
        ValueError: no patches, or larger ones than the photographs.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if not 1 <= size <= min(photos.shape[1:]):
        raise ValueError(f"size must be in [1, {min(photos.shape[1:])}], got {size}")
    windows = photos.unfold(1, size, 1).unfold(2, size, 1)
    places = (torch.randint(n, (count,), generator=generator) for n in windows.shape[:3])
    return windows[tuple(places)].unsqueeze(1)


@dataclass(frozen=True)
class Whitening:
    """x -> (x - mean) C^-1/2: patches whose pixels have unit variance and no correlation, as close as possible to the patches.

    Attributes:
        mean: of every pixel.
        matrix: symmetric (ZCA: Bell & Sejnowski 1997).
    """

    mean: Float[Tensor, " D"]
    matrix: Float[Tensor, "D D"]

    @classmethod
    def fit(cls, patches: Float[Tensor, "N 1 S S"], floor: float = 1e-2) -> "Whitening":
        """From the covariance of patches.

        Args:
            patches: to measure.
            floor: share of the mean variance that is added to every direction's, so that those which hardly vary (the
                finest ones, mostly noise) are not blown up; at least 0.

        Raises:
            ValueError: the floor is negative, or 0 where some direction does not vary at all.
        """
        if not 0 <= floor < float("inf"):
            raise ValueError(f"floor must be a finite number >= 0, got {floor}")
        flat = patches.flatten(1)
        covariance = torch.cov(flat.T, correction=0)
        variances, directions = torch.linalg.eigh(covariance)
        variances = variances + floor * variances.mean()
        if variances.min() <= 1e-12 * variances.max():
            raise ValueError(f"floor must be above 0: there are directions without variance among {len(flat)} patches")
        return cls(flat.mean(0), (directions * variances.rsqrt()) @ directions.T)

    def __call__(self, patches: Float[Tensor, "N 1 S S"]) -> Float[Tensor, "N 1 S S"]:
        return ((patches.flatten(1) - self.mean) @ self.matrix).view_as(patches)


class PatchData(ImageData):
    """Random patches of photographs, without labels.

    Every patch is brought to mean 0 by itself: brightness is not what is to be learned. Test patches come from other places,
    of the same two photographs; they may overlap with training patches.

    Args:
        size: pixels per side.
        train: how many to learn from, those held out for validation included.
        test: how many more.
        batch_size: patches per process and step.
        validation: how many of the first are held out to choose settings by.
        seed: of places, of that choice, and of the order in training.
        whiten: whether pixels are decorrelated, as measured on the patches to learn from.
        standardise: whether pixels are brought to mean 0 and standard deviation 1 over those patches.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        size: int = 16,
        train: int = 10_000,
        test: int = 1_000,
        batch_size: int = 128,
        validation: int = 0,
        seed: int = 0,
        whiten: bool = False,
        standardise: bool = True,
    ) -> None:
        super().__init__(batch_size, validation, seed, standardise)
        self.size, self.train, self.test, self.whiten = size, train, test, whiten

    def read(self) -> tuple[Images, Images]:
        generator = torch.Generator().manual_seed(stream_seed(self.seed, -2))
        photos = photographs()
        parts = [cut_patches(photos, count, self.size, generator) for count in (self.train, self.test)]
        parts = [part - part.mean((2, 3), keepdim=True) for part in parts]
        if self.whiten:
            whitening = Whitening.fit(parts[0])
            parts = [whitening(part) for part in parts]
        return Images(parts[0].float()), Images(parts[1].float())
