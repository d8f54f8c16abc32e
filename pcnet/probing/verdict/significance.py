"""Could chance have done it? Permutations within strata, ranks in a bank, and corrections for asking more than once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pcnet.probing.regression.moments import Design
from pcnet.probing.regression.protocol import Protocol, held_out_fits
from pcnet.probing.regression.scoring import Mass, squared_errors
from pcnet.probing.rows.dataset import equal_weights

TIE = 1e-12
"""Statistics that differ by less, relative to the largest, are equal: rounding must not decide a test."""
AT_ONCE = 256
"""Replicates that share one pass over the rows."""


@dataclass(frozen=True, eq=False)
class Ruler:
    """Measures held-out squared errors: which words are dealt to which fold, and how much each counts.

    The words count equally within their length and lengths equally, when fitted and when scored. So what a permutation
    within a length does to a target leaves its total unchanged.

    Args:
        lengths: of the words.
        protocol: its folds, its penalties and what always trains; of its fold seeds the first.
    """

    lengths: Int[np.ndarray, " N"]
    protocol: Protocol

    @property
    def mass(self) -> Float[np.ndarray, " N"]:
        """How much each word counts in a score; zero for those that are never held out."""
        held_out = self.lengths > self.protocol.always_training_length
        return np.where(held_out, equal_weights(self.lengths), 0.0)

    def errors(
        self, features: Float[np.ndarray, "N D"], targets: Float[np.ndarray, "N T"], order: Int[np.ndarray, "N R"]
    ) -> Float[np.ndarray, " R"]:
        """Summed held-out squared error of an affine probe, for each order of the targets, penalties chosen inside.

        Args:
            features: what the probe sees.
            targets: what it should say.
            order: row i of replicate r has the targets of row ``order[i, r]``.
        """
        labels = self.protocol.folds(self.lengths, self.protocol.fold_seeds[0])
        parts = []
        for start in range(0, order.shape[1], AT_ONCE):
            design = Design(features, targets, order[:, start : start + AT_ONCE])
            (fits,) = held_out_fits(design, self.lengths, labels, self.protocol, (True,))
            parts.append(squared_errors(fits, design, labels, Mass.single(self.mass))[0])
        return np.concatenate(parts)

    def total(self, values: Float[np.ndarray, "N T"]) -> float:
        """Summed square of the held-out words' values, columns together."""
        return float(self.mass @ (values**2).sum(axis=1))

    def variance(self, targets: Float[np.ndarray, "N T"]) -> float:
        """What an R2 divides by: the summed square of the held-out words' targets about their mean."""
        mean = np.average(targets, axis=0, weights=self.mass)
        return self.total(targets - mean)


def strata_orders(
    strata: Int[np.ndarray, " N"], num_orders: int, generator: np.random.Generator
) -> Int[np.ndarray, "N R"]:
    """Random orders that exchange rows of one stratum only, each such order being equally likely.

    Args:
        strata: a number for each row.
        num_orders: R, at least 1.
        generator: source of every draw.
    """
    home = np.argsort(strata, kind="stable")
    numbers = np.unique(strata, return_inverse=True)[1].ravel()
    drawn = np.argsort(numbers + generator.random((num_orders, len(strata))), axis=1).T
    orders = np.empty_like(drawn)
    orders[home] = drawn
    return orders


def rank_p_value(observed: float, others: Float[np.ndarray, " m"]) -> float:
    """How often something as large turns up among equals: (1 + number of others >= observed) / (1 + m).

    At most a with probability a at most, whenever the observed statistic and the others are exchangeable. Ties count
    against the observed one, so a statistic that no permutation changes has p = 1.

    Args:
        observed: statistic of what is examined.
        others: those of permutations, or of a bank's members; at least one.

    Raises:
        ValueError: if there are no others or one of the statistics isn't finite.

    Reference: Phipson and Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9, 39.
    """
    statistics = np.append(np.asarray(others, dtype=np.float64), observed)
    if len(statistics) < 2:
        raise ValueError("others: none given; a rank needs at least one other statistic")
    if not np.all(np.isfinite(statistics)):
        place = int(np.flatnonzero(~np.isfinite(statistics))[0])
        raise ValueError(f"statistic {place} of {len(statistics)} is {statistics[place]}; each must be finite")
    tie = TIE * np.abs(statistics).max()
    return float(np.count_nonzero(statistics >= observed - tie)) / len(statistics)


def holm(p_values: Sequence[float]) -> Float[np.ndarray, " m"]:
    r"""P values corrected for asking m questions at once: the chance that any of the true nulls is rejected stays below a.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1)\, p_{(j)})

    for sorted p values. No assumption about how the questions depend on each other.

    Args:
        p_values: one per question, each in [0, 1].

    Returns:
        The corrected values, in the order given.

    Raises:
        ValueError: if one of them isn't in [0, 1].

    Reference: Holm (1979), Scand. J. Stat. 6, 65.
    """
    values = np.asarray(p_values, dtype=np.float64)
    illegal = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(illegal):
        raise ValueError(f"p_values[{illegal[0]}]={values[illegal[0]]}: each must lie in [0, 1]")
    ascending = np.argsort(values, kind="stable")
    stepped = np.minimum(values[ascending] * np.arange(len(values), 0, -1), 1.0)
    corrected = np.empty_like(values)
    corrected[ascending] = np.maximum.accumulate(stepped)
    return corrected


def rejected(p_values: Sequence[float], level: float) -> Bool[np.ndarray, " m"]:
    """Which questions are answered yes at this level, after ``holm``."""
    return holm(p_values) <= level + TIE
