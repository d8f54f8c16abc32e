"""The default protocol: held-out scores that mean something, for any architecture's activations on words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from pcnet.probing.regression.moments import Design, Moments, chunks, measure
from pcnet.probing.regression.principal import principal_coordinates
from pcnet.probing.regression.ridge import ALPHAS, Ridge, check_alphas, crossfit, ridge_path
from pcnet.probing.regression.scoring import Mass, Yardstick, explained, squared_errors, total_variance
from pcnet.probing.regression.side_by_side import side_by_side
from pcnet.probing.rows.dataset import Array, ProbeData, Weighted, equal_weights, probability_weights
from pcnet.probing.rows.groups import Groups
from pcnet.probing.rows.sources import probe_data

DTYPES = {
    **{"offset": "bool", "position": "str", "weights": "str", "fold_seed": "int64", "r2": "float64", "rmse": "float64"},
    **{"rows": "int64", "n_eff": "float64", "features": "int64", "alpha": "float64", "alpha_at_edge": "bool"},
    "departures": "str",
}
"""Columns of ``probe``, in order."""
ALWAYS = -1
"""The fold of words that train every fit."""
COLUMNS = tuple(DTYPES)
MEASURED = ("r2", "rmse", "alpha", "alpha_at_edge")
"""Those that differ between fits; the others say what was fitted and scored."""


@dataclass(frozen=True)
class Protocol:
    """The numbers of the default protocol; see ``probe`` for what they mean.

    Args:
        always_training_length: words up to this length train every fit and are never scored.
        num_folds: parts that the longer words are dealt to; one is held out, the others choose the penalty. At least 3.
        fold_seeds: one complete cross-validation for each, with its own random deal.
        alphas: ridge penalties, ascending, relative to the top eigenvalue of the standardised Gram matrix.
        min_position_words: a single position with fewer words gets no score.
        fit_by_probability: whether fits, too, weight words by probability. With short words held out (an
            ``always_training_length`` of 0) the score depends on the deal: a few likely words decide it.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """

    always_training_length: int = 3
    num_folds: int = 5
    fold_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    alphas: tuple[float, ...] = ALPHAS
    min_position_words: int = 50
    fit_by_probability: bool = False

    def __post_init__(self) -> None:
        check_alphas(self.alphas)
        for name, least in (("always_training_length", 0), ("num_folds", 3), ("min_position_words", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least {least}")
        if not self.fold_seeds:
            raise ValueError("fold_seeds=(): give at least one seed")

    @property
    def departures(self) -> tuple[str, ...]:
        """Every setting that isn't the default protocol's, by name and value."""
        settings = [field for field in fields(self) if getattr(self, field.name) != field.default]
        return tuple(f"{field.name}={_written(getattr(self, field.name))}" for field in settings)

    def fit_weights(self, data: ProbeData) -> Float[np.ndarray, " N"]:
        """How much each word counts when a probe is fitted."""
        if self.fit_by_probability:
            return probability_weights(data.lengths, data.probabilities)
        return equal_weights(data.lengths)

    def scored(self, lengths: Int[np.ndarray, " N"]) -> Int[np.ndarray, " n"]:
        """The rows that are ever held out.

        Raises:
            ValueError: if they are fewer than the folds.
        """
        rows = np.flatnonzero(lengths > self.always_training_length)
        if len(rows) < self.num_folds:
            raise ValueError(
                f"lengths: {len(rows)} words are longer than always_training_length={self.always_training_length}; "
                f"num_folds={self.num_folds} needs at least as many"
            )
        return rows

    def folds(
        self, lengths: Int[np.ndarray, " N"], fold_seed: int, groups: Groups | None = None
    ) -> Int[np.ndarray, " N"]:
        """Fold of each word, dealt at random; -1 for the words that always train.

        The deal depends on nothing but lengths, seed and groups, so the scores of two models are paired. With groups,
        whole groups are dealt, and a short word goes with its group.

        Raises:
            ValueError: if there are fewer words, or groups, than folds, or if groups don't match the words.
        """
        rows = self.scored(lengths)
        if groups is not None:
            if len(groups.labels) != len(lengths):
                raise ValueError(f"groups: {len(groups.labels)} labels for {len(lengths)} rows; give one for each")
            name = f"always_training_length={self.always_training_length}"
            return groups.folds(rows, self.num_folds, fold_seed, name)
        labels = np.full(len(lengths), ALWAYS)
        labels[rows] = np.random.default_rng(fold_seed).permutation(len(rows)) % self.num_folds
        return labels


def _written(value: object) -> str:
    if isinstance(value, tuple) and len(value) > 5:
        return f"{len(value)} from {value[0]:g} to {value[-1]:g}"
    return " ".join(f"{entry:g}" for entry in value) if isinstance(value, tuple) else str(value)


DEFAULT_PROTOCOL = Protocol()


def no_scores() -> pd.DataFrame:
    """A table like that of ``probe`` without rows."""
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in DTYPES.items()})


def probe(
    features: Float[Array, "N D"],
    targets: Float[Array, "N T"],
    rows: Weighted,
    protocol: Protocol = DEFAULT_PROTOCOL,
    offsets: Sequence[bool] = (True, False),
    groups: Groups | None = None,
) -> pd.DataFrame:
    r"""Scores how well a linear map decodes targets from features, on words that it was not fitted to.

    .. math:: R^2 = 1 - \frac{\sum_i w_i |y_i - \hat y_i|^2}{\sum_i w_i |y_i - \bar y|^2}

    Fit: words weighted equally within a length, lengths equally; words of length <= 3 always in training and never
    scored; 5 folds x 5 fold seeds over the rest; features standardised on the training part, ridge relative to the
    top eigenvalue of the Gram matrix, chosen inside the training part, on its own folds. Score: the held-out words of
    all folds together, once weighted by probability and once equally, each length with mass 1. The denominator is the
    variance of the scored words about their mean under the scoring weights, the same with and without offset. Single
    positions: fitted on all, scored each.

    Args:
        features: activations, one row per word.
        targets: what they should encode, usually ``words(...).filtered``.
        rows: all words of lengths 1..context once each, ``Rows`` of another source, or ``WeightedRows``.
        protocol: its numbers.
        offsets: whether to fit a constant; each choice gives its own lines.
        groups: rows that must stay together, a departure from the default protocol. Sampled ``Rows`` are dealt by word
            unless groups are given.

    Returns:
        One row per offset, fold seed, weighting and position ("all", or the word length as text), with r2, rmse (per
        target entry), rows and n_eff (of the scored words), features (their number), alpha (median of the folds'
        choices), alpha_at_edge (whether any fold chose an end of the grid) and departures (from the default protocol,
        by name; empty if there are none). r2 and rmse are NaN where a position has too few words; r2 also where the
        targets don't vary.

    Raises:
        ValueError: on arguments that don't match, aren't finite or leave too few words to hold out.
    """
    return probe_rows(probe_data(features, targets, rows, groups), protocol, offsets)


def probe_rows(
    data: ProbeData, protocol: Protocol = DEFAULT_PROTOCOL, offsets: Sequence[bool] = (True, False)
) -> pd.DataFrame:
    """``probe`` of rows that have been checked."""
    once = np.arange(len(data.lengths))[:, None]
    return probe_replicates(data, once, protocol, offsets).drop(columns="replicate")


def probe_replicates(
    data: ProbeData,
    order: Int[np.ndarray, "N R"],
    protocol: Protocol,
    offsets: Sequence[bool],
) -> pd.DataFrame:
    """The same as ``probe`` for R orders of the targets at once; each chooses its own penalty.

    Args:
        data: features, targets and groups.
        order: row i of replicate r has the targets of row ``order[i, r]``.
        protocol: its numbers.
        offsets: whether to fit a constant.

    Returns:
        The rows of ``probe``, R times, with their number in the column ``replicate``.
    """
    if not offsets:
        raise ValueError(f"offsets={offsets!r}: give True, False or both")
    # many orders of one set of targets: no column more than they vary in
    targets = data.targets if order.shape[1] == 1 else principal_coordinates(data.targets, centred=all(offsets))
    design = Design(data.features, targets, order)
    yardstick = Yardstick.of(design, data, protocol.scored(data.lengths), protocol.min_position_words)
    tables = []
    for fold_seed in protocol.fold_seeds:
        labels = protocol.folds(data.lengths, fold_seed, data.groups)
        held_out = held_out_fits(design, data.lengths, labels, protocol, offsets, protocol.fit_weights(data))
        for offset, fits in zip(offsets, held_out, strict=True):
            table = yardstick.table(squared_errors(fits, design, labels, yardstick.mass), data.targets.shape[1])
            table = table.assign(offset=offset, fold_seed=fold_seed, features=data.features.shape[1])
            tables.append(table.assign(**_penalties(fits, table["replicate"].to_numpy())))
    dealt = [] if data.groups is None else [f"groups={data.groups.name}"]
    named = [*data.departures, *protocol.departures, *dealt]
    return pd.concat(tables, ignore_index=True).assign(departures=", ".join(named))[[*COLUMNS, "replicate"]]


def _penalties(fits: Sequence[Ridge], replicate: Int[np.ndarray, " rows"]) -> dict[str, np.ndarray]:
    """What the folds' fits chose, for the replicate in each row of a table."""
    return {
        "alpha": np.median([fit.alpha for fit in fits], axis=0)[replicate],
        "alpha_at_edge": np.any([fit.at_edge for fit in fits], axis=0)[replicate],
    }


def held_out_fits(
    design: Design,
    lengths: Int[np.ndarray, " N"],
    labels: Int[np.ndarray, " N"],
    protocol: Protocol,
    offsets: Sequence[bool],
    weights: Float[np.ndarray, " N"] | None = None,
) -> Iterator[list[Ridge]]:
    """For each offset, one fit per fold: on all the others, its penalty chosen inside them.

    Args:
        design: features, targets and their replicates.
        lengths: word lengths.
        labels: fold of each word; negative for words that always train.
        protocol: its numbers.
        offsets: whether to fit a constant.
        weights: of each word; equal within a length, lengths equal, if None.
    """
    weights, centre = equal_weights(lengths) if weights is None else weights, design.centre()

    def moments(fold: int) -> Moments:
        return measure(design, weights, np.flatnonzero(np.maximum(labels, ALWAYS) == fold), centre)

    always, *folds = side_by_side(moments, range(ALWAYS, protocol.num_folds), wide=design.is_wide)
    for offset in offsets:
        yield crossfit(always, folds, protocol.alphas, offset, design.num_replicates)


def decode(
    features: Float[Array, "N D"],
    targets: Float[Array, "N T"],
    rows: Weighted,
    protocol: Protocol = DEFAULT_PROTOCOL,
    fold_seed: int = 0,
    fit_intercept: bool = True,
    groups: Groups | None = None,
) -> Float[np.ndarray, "N T"]:
    """What the probe of the default protocol reads out at each word, for a picture of the decoded beliefs.

    Every word is decoded by the fit that didn't see it, except the shortest (up to ``always_training_length``), which
    train every fit and are never scored: they are decoded by the fit that leaves out the first fold.

    Args:
        features, targets, rows, protocol: as in ``probe``.
        fold_seed: which deal of the words to folds.
        fit_intercept: whether the fits have a constant.
        groups: rows that must stay together.

    Raises:
        ValueError: as in ``probe``.
    """
    data = probe_data(features, targets, rows, groups)
    labels = protocol.folds(data.lengths, fold_seed, data.groups)
    design = Design.single(data.features, data.targets)
    (fits,) = held_out_fits(design, data.lengths, labels, protocol, (fit_intercept,), protocol.fit_weights(data))
    decoded = np.empty_like(data.targets)
    for part in chunks(np.arange(len(labels))):
        block = design.block(part)[0]
        for fold, fit in enumerate(fits):
            chosen = np.maximum(labels[part], 0) == fold
            decoded[part[chosen]] = fit.predict(block[chosen])
    return decoded


def population_r2(features: Float[Array, "N D"], targets: Float[Array, "N T"], rows: Weighted) -> float:
    """Variance-weighted R2 of the best affine map, fitted and scored on all words weighted by probability.

    An oracle value, to set beside held-out scores: what the features explain if the whole population is known. Each
    length has the same mass. With many features and few words it is no evidence at all (shuffled beliefs score high).

    Args:
        features, targets, rows: as in ``probe``.

    Returns:
        At most 1; NaN if the targets don't vary.

    Raises:
        ValueError: as in ``probe``.
    """
    data = ProbeData.checked(features, targets, rows)
    design = Design.single(data.features, data.targets)
    weights = data.score_weights()["probability"]
    moments = measure(design, weights, np.arange(len(weights)), design.centre())
    errors = ridge_path(moments, (0.0,), fit_intercept=True).squared_errors(moments).sum()
    return float(explained(errors, total_variance(design, Mass.single(weights))[0, 0]))
