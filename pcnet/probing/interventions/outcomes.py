"""Did the model's prediction change as the theory of beliefs says? Pairs of histories, scores and their intervals."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcnet.probing.rows.targets import equal_rows

NO_CHANGE = 1e-20
"""Mean squared change below which the exact law counts as unchanged."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Ordered pairs of histories: whose state is moved, and to whose belief.

    Attributes:
        source, target: rows in a table of histories.
    """

    source: Int[Tensor, " P"]
    target: Int[Tensor, " P"]

    @classmethod
    def draw(
        cls,
        beliefs: Float[Tensor, "N S"],
        limit: int,
        generator: torch.Generator,
        laws: Float[Tensor, "N V"] | None = None,
    ) -> "Pairs":
        """Pairs with different beliefs, without replacement among all of them.

        Args:
            beliefs: of the histories.
            limit: most pairs.
            generator: of the draw.
            laws: if given, only pairs whose rows of this are equal (to 1e-10).

        Returns:
            No pairs where there are none.
        """
        if limit < 1:
            raise ValueError(f"limit={limit}: it must be at least 1")
        legal = ~_equal(beliefs) if laws is None else ~_equal(beliefs) & _equal(laws)
        every = legal.nonzero()
        chosen = every[torch.randperm(len(every), generator=generator)[:limit]]
        return cls(chosen[:, 0], chosen[:, 1])

    def __len__(self) -> int:
        return len(self.source)


def _equal(rows: Float[Tensor, "N K"]) -> Bool[Tensor, "N N"]:
    groups = torch.as_tensor(equal_rows(rows.numpy()))
    return groups[:, None] == groups


@dataclass(frozen=True)
class Agreement:
    """How a change of prediction compares with the exact one.

    Attributes:
        r2: 1 - sum |model - exact|^2 / sum |exact|^2 over pairs and outcomes: 1 for the exact change, 0 for none. NaN where
            the exact law doesn't change, so that there is nothing to agree with.
        low, high: 95 % interval of r2.
        realised: share of the exact change that the model makes, sum model exact / sum |exact|^2.
        pairs: how many.
    """

    r2: float
    low: float
    high: float
    realised: float
    pairs: int


def agreement(
    model: Float[Tensor, "P W"], exact: Float[Tensor, "P W"], pairs: Pairs, resamples: int = 1000, seed: int = 0
) -> Agreement:
    """Compare changes of laws, pair by pair.

    The interval resamples histories, not pairs, for pairs share them: a pair counts as often as its source was drawn times
    its target (pigeonhole bootstrap). It is conservative, and says nothing about other training seeds.

    Args:
        model: change of the model's law.
        exact: change of the exact law.
        pairs: of these rows.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: if shapes don't match, there are no pairs or a change isn't finite.

    Reference: Owen (2007), The pigeonhole bootstrap, Ann. Appl. Stat. 1, 386.
    """
    if model.shape != exact.shape or len(model) != len(pairs) or len(pairs) == 0:
        raise ValueError(
            f"model has shape {tuple(model.shape)}, exact {tuple(exact.shape)}; both need one row for each of the "
            f"{len(pairs)} pairs, of which there must be one at least"
        )
    if not bool(model.isfinite().all() and exact.isfinite().all()):
        raise ValueError("model and exact: every change of a law must be finite")
    error, size = (part.square().sum(-1).numpy() for part in (model - exact, exact))
    if size.mean() < NO_CHANGE:
        return Agreement(np.nan, np.nan, np.nan, np.nan, len(pairs))
    low, high = _interval(error, size, pairs, resamples, seed)
    realised = float((model * exact).sum() / size.sum())
    return Agreement(float(1 - error.sum() / size.sum()), low, high, realised, len(pairs))


def _interval(
    error: Float[np.ndarray, " P"], size: Float[np.ndarray, " P"], pairs: Pairs, resamples: int, seed: int
) -> tuple[float, float]:
    histories, numbers = np.unique(torch.cat([pairs.source, pairs.target]).numpy(), return_inverse=True)
    source, target = np.split(numbers, 2)
    count = len(histories)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    weights = draws[:, source] * draws[:, target]
    total = weights @ size
    scores = 1 - (weights @ error)[total > 0] / total[total > 0]
    low, high = np.quantile(scores, [0.025, 0.975]) if len(scores) else (np.nan, np.nan)
    return float(low), float(high)


def divergence(exact: Float[Tensor, "N W"], model: Float[Tensor, "N W"]) -> float:
    """Mean Kullback-Leibler divergence of a model's law from the exact one, in nats; not negative.

    Args:
        exact: laws; zeros are allowed.
        model: laws, positive wherever the exact one is.

    Raises:
        ValueError: if the model rules out what is possible.
    """
    if bool(((exact > 0) & ~(model > 0)).any()):
        raise ValueError(
            "model: it gives probability 0 (or NaN) to something that can happen; the divergence is infinite"
        )
    return float((torch.xlogy(exact, exact) - torch.where(exact > 0, exact * model.log(), 0.0)).sum(-1).mean())
