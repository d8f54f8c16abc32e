"""The one place that scores controls: held out, under the model's own protocol, and on the whole population."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pcnet.probing.controls.known import Control
from pcnet.probing.controls.shuffles import Shuffled
from pcnet.probing.regression.protocol import (
    COLUMNS,
    DEFAULT_PROTOCOL,
    MEASURED,
    Protocol,
    no_scores,
    population_r2,
    probe_replicates,
)
from pcnet.probing.rows.subject import Subject

QUANTILE = 0.95
"""Which of the scores of a control that is scored many times is reported."""


def score_control(
    control: Control,
    subject: Subject,
    protocol: Protocol = DEFAULT_PROTOCOL,
    offsets: Sequence[bool] = (True, False),
) -> pd.DataFrame:
    """Held-out scores in the columns of ``probe``; no rows for a control that has none.

    Args:
        control: what takes the place of the model's features, or of the targets.
        subject: process, words and targets, and what the control needs of the model.
        protocol, offsets: the same as for the model.

    Raises:
        ValueError: if the subject lacks what the control looks at; otherwise as in ``probe``.
    """
    if not control.held_out:
        return no_scores()
    order = control.orders(subject.words)
    scores = probe_replicates(subject.data(control.features(subject)), order, protocol, offsets)
    return scores.drop(columns="replicate") if order.shape[1] == 1 else percentiles(scores)


def control_population_r2(control: Control, subject: Subject) -> float:
    """What a control explains of the targets if the whole population is known; NaN where that means nothing."""
    if not control.has_population:
        return float("nan")
    return population_r2(control.features(subject), subject.targets, subject.words)


def permutation_scores(
    shuffles: Sequence[Shuffled],
    subject: Subject,
    protocol: Protocol = DEFAULT_PROTOCOL,
    offsets: Sequence[bool] = (True, False),
) -> dict[str, pd.DataFrame]:
    """Every permutation's scores by the shuffle's name, in the columns of ``probe`` and a number as ``replicate``.

    All permutations are fitted at once: what depends on the features alone is computed once.

    Args:
        shuffles: of different names.
        subject, protocol, offsets: as in ``score_control``.
    """
    order = np.concatenate([each.orders(subject.words) for each in shuffles], axis=1)
    scores = probe_replicates(subject.data(subject.model_features()), order, protocol, offsets)
    kind = np.repeat(np.arange(len(shuffles)), [each.num_permutations for each in shuffles])[scores["replicate"]]
    return {each.name: scores[kind == number] for number, each in enumerate(shuffles)}


def percentiles(scores: pd.DataFrame) -> pd.DataFrame:
    """The columns of ``probe``, each score the 95th percentile over permutations, from those of all permutations."""
    groups = scores.groupby([name for name in COLUMNS if name not in MEASURED], sort=False)
    summary = pd.concat(
        [
            groups["r2"].quantile(QUANTILE),
            groups["rmse"].quantile(1 - QUANTILE),
            groups["alpha"].median(),
            groups["alpha_at_edge"].any(),
        ],
        axis=1,
    )
    return summary.reset_index()[list(COLUMNS)]
