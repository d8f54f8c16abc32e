"""From scores to sentences: medians over fold seeds, and what features add to one control."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pcnet.probing.controls.known import FeatureControl
from pcnet.probing.regression.protocol import DEFAULT_PROTOCOL, MEASURED, Protocol
from pcnet.probing.rows.dataset import as_numpy
from pcnet.probing.rows.subject import Subject

DECIDABLE_BELOW = 0.95
"""A control that explains this much of the targets leaves too little to show anything beyond it."""


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Medians and ranges over fold seeds.

    The range shows what the deal of words to folds does to a score. It is not an interval for a model: that takes
    several training seeds.

    Args:
        scores: rows of ``probe``, and any columns beside them (model, site, control, ...); rows that agree in
            everything but fold seed and measured values are one group.

    Returns:
        One row per group, in order of appearance: r2 (median), r2_min, r2_max, rmse (median), alpha (median),
        alpha_at_edge (any) and fold_seeds (how many).
    """
    keys = [name for name in scores.columns if name not in (*MEASURED, "fold_seed")]
    groups = scores.groupby(keys, sort=False, dropna=False)
    return groups.agg(
        r2=("r2", "median"),
        r2_min=("r2", "min"),
        r2_max=("r2", "max"),
        rmse=("rmse", "median"),
        alpha=("alpha", "median"),
        alpha_at_edge=("alpha_at_edge", "any"),
        fold_seeds=("fold_seed", "nunique"),
    ).reset_index()


@dataclass(frozen=True)
class Gain:
    """What a model's features add to one control, as far as the process can tell.

    Args:
        control: its name.
        population_r2: what the control explains of the targets on the whole population.
        gains: held-out R2 of control and features together less that of the control alone, one per fold seed; empty
            if nothing can be decided.
    """

    control: str
    population_r2: float
    gains: tuple[float, ...]

    @property
    def decidable(self) -> bool:
        """Whether the control leaves enough unexplained."""
        return self.population_r2 < DECIDABLE_BELOW

    @property
    def gain(self) -> float:
        """Median over fold seeds; NaN if nothing can be decided."""
        return float(np.median(self.gains)) if self.decidable and self.gains else float("nan")

    def __str__(self) -> str:
        if not self.decidable:
            return f"not decidable on this process: {self.control} alone explains {self.population_r2:.3f}"
        spread = f"{min(self.gains):+.3f} to {max(self.gains):+.3f} over {len(self.gains)} fold seeds"
        return f"gain over {self.control} {self.gain:+.3f} ({spread}); it alone can explain {self.population_r2:.3f}"


def gain_over(
    control: FeatureControl,
    subject: Subject,
    protocol: Protocol = DEFAULT_PROTOCOL,
    offset: bool = True,
) -> dict[str, Gain]:
    """What the subject's features add to a control: the gain of [control + features] over [control].

    A number without a test, on processes where the control's population R2 is below .95; elsewhere nothing is fitted.
    ``judge`` asks whether chance or any other control would gain as much. Costs two runs of ``probe``.

    Args:
        control: whose features the model's must beat.
        subject: with the model's features.
        protocol: the same as for the scores beside it.
        offset: whether the fits have a constant.

    Returns:
        The gain for each weighting of the scored words, "probability" and "equal", at all positions together.

    Raises:
        ValueError: if the subject has no features; otherwise as in ``probe``.
    """
    alone = as_numpy(control.features(subject))
    both = np.concatenate([alone, as_numpy(subject.model_features())], axis=1)
    known = subject.population_r2(alone)
    gains: dict[str, tuple[float, ...]] = {"probability": (), "equal": ()}
    if known < DECIDABLE_BELOW:
        before, after = (subject.probe(features, protocol, (offset,)) for features in (alone, both))
        gain = (after["r2"] - before["r2"])[after["position"] == "all"]
        gains = {weights: tuple(gain[after["weights"] == weights]) for weights in gains}
    return {weights: Gain(control.name, known, values) for weights, values in gains.items()}
