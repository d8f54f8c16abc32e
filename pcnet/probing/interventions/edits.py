r"""Moving a state to another belief: which directions, and how far.

A place holds a, a linear probe reads the belief y = W a + c. Many changes of a make the probe read b'. The one that is
smallest where activations vary, min d^T C^-1 d under W d = b' - y with C their covariance, is d = C W^T (W C W^T)^+ (b' - y).
With the probe of least squares, W = X^T C^-1 and X = Cov(a, b), it is d = X (X^T C^-1 X)^+ (b' - y): a move along the
*pattern* X, the directions in which activations go when the belief does, scaled so that the probe reads exactly b'; where
the belief is linear in a without error it is the regression of activations on beliefs, X Cov(b)^+ (b' - b). The probe's
pseudo-inverse W^+ (b' - y) has the least Euclidean length instead and runs along directions of which the probe makes much
because activations hardly vary there: it leaves the distribution. Patterns and filters: Haufe et al. (2014), NeuroImage 87,
96; the same metric erases a concept with the least change in Belrose et al. (2023), arXiv 2306.03819.
"""

import abc
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.probing.regression.probes import LinearProbe

CUT = 1e-9
"""Directions whose singular value is smaller than this times the greatest don't exist."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """How a place holds beliefs, from words on which both are known.

    Attributes:
        decoder: W, what reads the belief.
        intercept: c.
        covariance: C of the activations.
        pattern: regression of activations on beliefs.
        mean: of the activations.
        mean_belief: of the beliefs.
    """

    decoder: Float[Tensor, "S D"]
    intercept: Float[Tensor, " S"]
    covariance: Float[Tensor, "D D"]
    pattern: Float[Tensor, "D S"]
    mean: Float[Tensor, " D"]
    mean_belief: Float[Tensor, " S"]

    @classmethod
    def fit(
        cls, values: Float[Tensor, "N D"], beliefs: Float[Tensor, "N S"], weights: Float[Tensor, " N"] | None = None
    ) -> Self:
        """By `LinearProbe` and weighted moments, in float64.

        Args:
            values: what the place holds after each word.
            beliefs: of the same words; another target can be moved in the same way.
            weights: of the words, not negative; equal by default.

        Raises:
            ValueError: if rows don't match, aren't finite or are too few, or the beliefs don't vary.
        """
        a, b = values.double(), beliefs.double()
        w = torch.ones(len(a), dtype=torch.float64) if weights is None else weights.double()
        probe = LinearProbe().fit(a.numpy(), b.numpy(), sample_weight=w.numpy())
        w = w / w.sum()
        mean, mean_belief = w @ a, w @ b
        a, b = a - mean, b - mean_belief
        spread = b.T @ (w[:, None] * b)
        if float(spread.trace()) <= CUT**2:
            raise ValueError("beliefs: they are the same in all rows; there is nothing to move along")
        pattern = a.T @ (w[:, None] * b) @ torch.linalg.pinv(spread, rtol=CUT, hermitian=True)
        decoder, intercept = (torch.as_tensor(np.asarray(part)) for part in (probe.coef_, probe.intercept_))
        return cls(decoder, intercept, a.T @ (w[:, None] * a), pattern, mean, mean_belief)

    @property
    def rank(self) -> int:
        """Dimension of the set of decoded beliefs."""
        return int(torch.linalg.matrix_rank(self.decoder @ self.covariance @ self.decoder.T, hermitian=True, rtol=CUT))

    def decode(self, values: Float[Tensor, "B D"]) -> Float[Tensor, "B S"]:
        """The belief that the probe reads."""
        return values.double() @ self.decoder.T + self.intercept


class Edit(abc.ABC):
    """A rule that moves activations from one belief to another."""

    @abc.abstractmethod
    def move(
        self, values: Float[Tensor, "B D"], source: Float[Tensor, "B S"], target: Float[Tensor, "B S"]
    ) -> Float[Tensor, "B D"]:
        """Values after the whole move.

        Args:
            values: to be moved.
            source: the exact beliefs of the histories that made them.
            target: the beliefs to move to.
        """

    def dose(
        self, values: Float[Tensor, "B D"], source: Float[Tensor, "B S"], target: Float[Tensor, "B S"], dose: float
    ) -> Float[Tensor, "B D"]:
        """Values after a part of the move; 0 leaves them, 1 is the whole, more goes beyond."""
        return values + dose * (self.move(values, source, target) - values)


class LeastEdit(Edit):
    """The smallest change in the metric of the activations' covariance after which the probe reads the target exactly."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        reach = encoding.covariance @ encoding.decoder.T
        self.directions = reach @ torch.linalg.pinv(encoding.decoder @ reach, rtol=CUT, hermitian=True)  # (D, S)

    def move(self, values: Tensor, source: Tensor, target: Tensor) -> Tensor:
        change = (target.double() - self.encoding.decode(values)) @ self.directions.T
        return values + change.to(values.dtype)


class PatternEdit(Edit):
    """By as much as the mean activation changes when the exact belief does."""

    def __init__(self, encoding: Encoding) -> None:
        self.directions = encoding.pattern

    def move(self, values: Tensor, source: Tensor, target: Tensor) -> Tensor:
        return values + ((target - source).double() @ self.directions.T).to(values.dtype)


class PseudoinverseEdit(Edit):
    """The change of least Euclidean length after which the probe reads the target exactly."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self.directions = torch.linalg.pinv(encoding.decoder, rtol=CUT)

    def move(self, values: Tensor, source: Tensor, target: Tensor) -> Tensor:
        change = (target.double() - self.encoding.decode(values)) @ self.directions.T
        return values + change.to(values.dtype)


class RandomEdit(Edit):
    """As far as another edit goes, row by row, in a random subspace of the belief's dimension.

    Args:
        like: gives the Euclidean length of every move.
        encoding: gives the dimension.
        seed: of the subspace and of the map from beliefs into it.
    """

    def __init__(self, like: Edit, encoding: Encoding, seed: int) -> None:
        self.like = like
        generator = torch.Generator().manual_seed(seed)
        draw = {"generator": generator, "dtype": torch.float64}
        states, width = encoding.decoder.shape
        basis = torch.linalg.qr(torch.randn(width, encoding.rank, **draw)).Q
        self.directions = basis @ torch.randn(encoding.rank, states, **draw)

    def move(self, values: Tensor, source: Tensor, target: Tensor) -> Tensor:
        length = (self.like.move(values, source, target) - values).norm(dim=-1, keepdim=True)
        change = ((target - source).double() @ self.directions.T).to(values.dtype)
        size = change.norm(dim=-1, keepdim=True)
        return values + change * torch.where(size > 0, length / size.clamp(min=1e-300), 0.0)


class Ablation(Edit):
    """Nothing that a linear probe can read of the belief is left: every state goes to the mean belief."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding, self.least = encoding, LeastEdit(encoding)

    def move(self, values: Tensor, source: Tensor, target: Tensor) -> Tensor:
        mean = self.encoding.mean_belief.expand(len(values), -1)
        return self.least.move(values, mean, mean)


class RandomAblation(Edit):
    """A random subspace of the belief's dimension is put at its mean.

    Args:
        encoding: gives dimension and mean.
        seed: of the subspace.
    """

    def __init__(self, encoding: Encoding, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        width = encoding.decoder.shape[1]
        self.mean = encoding.mean
        self.basis = torch.linalg.qr(torch.randn(width, encoding.rank, generator=generator, dtype=torch.float64)).Q

    def move(self, values: Tensor, source: Tensor, target: Tensor) -> Tensor:
        return values - ((values.double() - self.mean) @ self.basis @ self.basis.T).to(values.dtype)
