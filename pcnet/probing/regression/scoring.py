"""What held-out errors are measured against: groups of words, their weights, and the variance of their targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from pcnet.probing.regression.moments import Design, chunks
from pcnet.probing.regression.ridge import Ridge
from pcnet.probing.regression.side_by_side import side_by_side
from pcnet.probing.rows.dataset import ProbeData


@dataclass(frozen=True)
class Mass:
    """Weight of each row in each group, made a few rows at a time.

    A group (G = W (P + 1) of them) is one weighting together with one place or with all places.

    Args:
        weights: one column per weighting.
        place: number of each row's place; -1 for rows in no group.
        num_places: P.
    """

    weights: Float[np.ndarray, "N W"]
    place: Int[np.ndarray, " N"]
    num_places: int

    @classmethod
    def single(cls, weights: Float[np.ndarray, " N"]) -> Self:
        """One group that all rows belong to."""
        return cls(weights[:, None], np.zeros(len(weights), dtype=np.int64), 0)

    @property
    def num_groups(self) -> int:
        """One per weighting and place, and one per weighting for all places together."""
        return self.weights.shape[1] * (self.num_places + 1)

    def of(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n G"]:
        """Of the chosen rows; zero outside a row's groups."""
        place = self.place[rows]
        inside = np.concatenate([place[:, None] >= 0, place[:, None] == np.arange(self.num_places)], axis=1)
        return (self.weights[rows][:, :, None] * inside[:, None, :]).reshape(len(rows), -1)

    def total(self, power: int = 1) -> Float[np.ndarray, " G"]:
        """Sum over all rows of their mass to this power."""
        return sum((self.of(rows) ** power).sum(axis=0) for rows in chunks(np.arange(len(self.place))))


@dataclass(frozen=True)
class Yardstick:
    """Everything about a score that depends neither on the fit nor on the folds.

    A group (G of them) is one weighting together with one position, where "all" is a position too.

    Args:
        weights, position: the names of each group.
        mass: weight of each word in each group.
        total: summed variance of the targets in each group, for every replicate.
        rows, n_eff: words in each group, and their effective number.
        enough: whether a group has enough words to be scored.
    """

    weights: tuple[str, ...]
    position: tuple[str, ...]
    mass: Mass
    total: Float[np.ndarray, "G R"]
    rows: Int[np.ndarray, " G"]
    n_eff: Float[np.ndarray, " G"]
    enough: Bool[np.ndarray, " G"]

    @classmethod
    def of(cls, design: Design, data: ProbeData, scored: Int[np.ndarray, " n"], min_words: int) -> Self:
        """Groups for both weightings and for the scored words at all positions and at each.

        Args:
            design: the targets and their replicates.
            data: lengths and probabilities.
            scored: rows that are held out at some time.
            min_words: a single position with fewer words isn't enough.
        """
        numbers, place = np.unique(data.lengths[scored], return_inverse=True)
        at = np.full(len(data.lengths), -1)
        at[scored] = place
        weights = data.score_weights()
        mass = Mass(np.stack(list(weights.values()), axis=1), at, len(numbers))
        names = [(name, position) for name in weights for position in ("all", *map(str, numbers))]
        rows = np.tile([len(scored), *np.bincount(place)], len(weights))
        return cls(
            weights=tuple(name for name, _ in names),
            position=tuple(position for _, position in names),
            mass=mass,
            total=total_variance(design, mass),
            rows=rows,
            n_eff=mass.total() ** 2 / mass.total(power=2),
            enough=(rows >= min_words) | np.array([position == "all" for _, position in names]),
        )

    def table(self, errors: Float[np.ndarray, "G R"], num_targets: int) -> pd.DataFrame:
        """Scores from summed squared errors: one row per group and replicate, group by group."""
        num_groups, num_replicates = errors.shape
        mean = errors / (self.mass.total()[:, None] * num_targets)
        unscored = np.where(self.enough, 0.0, np.nan)[:, None]
        group = np.repeat(np.arange(num_groups), num_replicates)
        return pd.DataFrame(
            {
                "position": np.array(self.position, dtype=object)[group],
                "weights": np.array(self.weights, dtype=object)[group],
                "r2": (explained(errors, self.total) + unscored).ravel(),
                "rmse": (np.sqrt(mean) + unscored).ravel(),
                "rows": self.rows[group],
                "n_eff": self.n_eff[group],
                "replicate": np.tile(np.arange(num_replicates), num_groups),
            }
        )


def explained(errors: Float[np.ndarray, "*G"], variance: Float[np.ndarray, "*G"]) -> Float[np.ndarray, "*G"]:
    """1 - errors / variance; NaN where the targets don't vary."""
    varies = variance > 0
    return np.where(varies, 1 - errors / np.where(varies, variance, 1.0), np.nan)


def total_variance(design: Design, mass: Mass) -> Float[np.ndarray, "G R"]:
    """Weighted squared distance of the targets from their weighted mean, all targets together.

    Exactly zero where it is nothing but the rounding of targets that are all the same.
    """
    centre = design.centre()[1]
    first, second = np.zeros((2, mass.num_groups, len(centre)))
    for rows in chunks(np.arange(len(design.order))):
        targets, share = design.targets_of(rows) - centre, mass.of(rows).T
        first += share @ targets
        second += share @ targets**2
    weight = mass.total()[:, None]
    variance = over_targets(second - first**2 / weight, design)
    size = over_targets(second + weight * centre**2, design)
    return np.where(variance > 1e-24 * size, variance, 0.0)


def squared_errors(
    fits: Sequence[Ridge], design: Design, labels: Int[np.ndarray, " N"], mass: Mass
) -> Float[np.ndarray, "G R"]:
    """Weighted squared error of each fold's words under the fit that never saw them, in every group."""

    def of_fold(fold: int) -> Float[np.ndarray, "G Q"]:
        errors = np.zeros((mass.num_groups, design.order.shape[1] * design.targets.shape[1]))
        for rows in chunks(np.flatnonzero(labels == fold)):
            features, residual = design.block(rows)
            residual -= fits[fold].predict(features)
            errors += mass.of(rows).T @ residual**2
        return errors

    return over_targets(sum(side_by_side(of_fold, range(len(fits)), design.is_wide)), design)


def over_targets(values: Float[np.ndarray, "G Q"], design: Design) -> Float[np.ndarray, "G R"]:
    """Sums the targets of each replicate."""
    return values.reshape(len(values), design.num_replicates, -1).sum(axis=-1)
