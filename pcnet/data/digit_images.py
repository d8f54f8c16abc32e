"""scikit-learn's handwritten digits, 1797 of 8 x 8: small enough for cross-validation."""

from functools import cache

import torch
from jaxtyping import Int
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from pcnet.data.images import ImageData, Images


@cache
def digits() -> Images:
    """All 1797 of them, (1797, 1, 8, 8), grey levels of 0 to 16 as numbers from 0 to 1."""
    bunch = load_digits()
    return Images(torch.tensor(bunch.images / 16, dtype=torch.float32).unsqueeze(1), torch.tensor(bunch.target))


def stratified_folds(
    labels: Int[Tensor, " N"], folds: int, seed: int
) -> list[tuple[Int[Tensor, " R"], Int[Tensor, " S"]]]:
    """Train and test indices of every fold; each class is shared out evenly, and every index is tested once.

    For settings that are tuned inside the training folds, split those again.

    Args:
        labels: classes.
        folds: at least 2, and no more than the rarest class has members.
        seed: of the shuffle.

    Raises:
        ValueError: too few or too many folds.
    """
    rarest = int(labels.unique(return_counts=True)[1].min())
    if not 2 <= folds <= rarest:
        raise ValueError(f"folds must be in [2, {rarest}], as many as the rarest class has members, got {folds}")
    split = StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)
    return [(torch.from_numpy(train), torch.from_numpy(test)) for train, test in split]


class DigitsData(ImageData):
    """One fold of the digits: the others are learned from, this one is the test.

    Args:
        fold: which, from 0.
        folds: how many.
        batch_size: images per process and step.
        validation: how many of the training images are held out to choose settings by.
        seed: of folds, of that choice, and of the order in training.
        standardise: whether pixels are brought to mean 0 and standard deviation 1 over the training images; otherwise they
            are between 0 and 1.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        fold: int = 0,
        folds: int = 5,
        batch_size: int = 64,
        validation: int = 0,
        seed: int = 0,
        standardise: bool = False,
    ) -> None:
        super().__init__(batch_size, validation, seed, standardise)
        if not 0 <= fold < folds:
            raise ValueError(f"fold must be in [0, {folds}), got {fold}")
        self.fold, self.folds = fold, folds

    def read(self) -> tuple[Images, Images]:
        every = digits()
        train, test = stratified_folds(every.labels, self.folds, self.seed)[self.fold]
        return every.rows(train), every.rows(test)
