"""Distinct beliefs with equal next-token law: does a site hold them apart, or has it merged them?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pcnet.probing.geometry.shapes import matrix
from pcnet.probing.rows.dataset import Array, as_numpy, equal_weights
from pcnet.probing.rows.targets import equal_rows, group_means
from pcnet.processes import Words


@dataclass(frozen=True)
class Separation:
    """How far apart a site holds beliefs that predict the next token equally.

    Attributes:
        share: of the features' movement with the belief, how much the next-token law doesn't ask for; the exact belief's
            own share is the reference (``separation`` of ``words.filtered``), 0 a complete merger. Noise can make it
            slightly negative. NaN where the features don't move with the belief at all.
        explained: of the features' variance among words of equal law, how much the belief explains.
        spread: standard deviation of ``share`` over the splits.
        beliefs, laws, words: how many took part.
    """

    share: float
    explained: float
    spread: float
    beliefs: int
    laws: int
    words: int


def separation(
    features: Float[Array, "N D"], rows: Words, splits: int = 20, seed: int = 0, shuffled: bool = False
) -> Separation:
    r"""Variance between beliefs of equal next-token law, estimated from two halves of the words so that noise cancels.

    .. math:: D = \sum_b w_b (m_b^A - m_{g(b)}^A) \cdot (m_b^B - m_{g(b)}^B), \quad
        E = \sum_g w_g (m_g^A - m^A) \cdot (m_g^B - m^B), \quad share = \frac{D}{D + E}

    with m the mean features of a belief b, of a law g and of everything, each from one random half (A or B) of the
    words of every belief. Held out in this sense: what differs between beliefs in one half must differ in the other,
    so a site where they don't differ has 0 on average and not the positive bias of a variance of means. Nothing is
    fitted. Words weigh equally within a length, lengths equally. A belief takes part if at least two words lead to it.

    Any reservoir holds something apart, since equal beliefs have similar recent tokens: set an untrained copy beside it.

    Args:
        features: one row per word.
        rows: the words: ``lengths``, ``filtered`` and ``next_token_laws`` are used.
        splits: random halvings that are averaged, at least 2.
        seed: of the halvings.
        shuffled: draw the features of every word anew, with replacement, from the words of its next-token law, and set
            what then lies between beliefs against the movement of the features as they were: the control that has 0
            on average.

    Raises:
        ValueError: on rows that don't match, or a process where no two beliefs have the same next-token law (Mess3), so
            there is nothing to separate.
    """
    features = matrix("features", features)
    lengths, beliefs, laws = _labels(rows)
    if len(features) != len(lengths):
        raise ValueError(f"features has {len(features)} rows; there are {len(lengths)} words")
    if splits < 2:
        raise ValueError(f"splits={splits}: it must be at least 2")
    generator = np.random.default_rng(seed)
    kept = np.bincount(beliefs)[beliefs] >= 2
    features, beliefs, laws = (part[kept] for part in (features, beliefs, laws))
    weights = equal_weights(lengths)[kept]
    groups = _Groups(*(np.unique(part, return_inverse=True)[1] for part in (beliefs, laws)), weights / weights.sum())
    groups.check()
    moved = np.mean([sum(groups.components(features, generator)) for _ in range(splits)])
    dealt = (features[_drawn_within(groups.laws, generator)] if shuffled else features for _ in range(splits))
    between = np.array([groups.components(each, generator)[0] for each in dealt])
    if not moved > 0:
        moved = np.nan
    within = np.sum(weights[:, None] * (features - group_means(features, groups.laws, weights)) ** 2) / weights.sum()
    return Separation(
        share=float(between.mean() / moved),
        explained=float(between.mean() / within) if within > 0 else 0.0,
        spread=float(np.std(between / moved)),
        beliefs=int(groups.beliefs.max() + 1),
        laws=int(groups.laws.max() + 1),
        words=int(kept.sum()),
    )


@dataclass(frozen=True)
class _Groups:
    beliefs: Int[np.ndarray, " n"]
    laws: Int[np.ndarray, " n"]
    weights: Float[np.ndarray, " n"]

    def check(self) -> None:
        pairs = len(np.unique(np.stack([self.beliefs, self.laws]), axis=1).T) if len(self.beliefs) else 0
        if pairs <= len(np.unique(self.laws)):
            raise ValueError(
                "rows: no two beliefs that recur have the same next-token law; there is nothing to separate"
            )

    def components(self, features: Float[np.ndarray, "n D"], generator: np.random.Generator) -> tuple[float, float]:
        """Variance between beliefs of equal law, and between laws, from one random halving."""
        mass = np.bincount(self.beliefs, self.weights)
        law_of = np.zeros(len(mass), dtype=np.int64)
        law_of[self.beliefs] = self.laws
        halves = _halves(self.beliefs, generator)
        apart, common = [], []
        for half in (0, 1):
            chosen = np.flatnonzero(halves == half)
            means = _means(features[chosen], self.beliefs[chosen], self.weights[chosen])
            by_law = group_means(means, law_of, mass)
            apart.append(means - by_law)
            common.append(by_law - mass @ by_law)
        return tuple(float(mass @ np.sum(one * other, axis=1)) for one, other in (apart, common))


def _labels(rows: Words) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Length, number of the belief and number of the law of each word."""
    beliefs, laws = (equal_rows(as_numpy(part)) for part in (rows.filtered, rows.next_token_laws))
    return as_numpy(rows.lengths), beliefs, laws


def _halves(groups: Int[np.ndarray, " n"], generator: np.random.Generator) -> Int[np.ndarray, " n"]:
    """0 or 1 for each row, both in every group, as evenly as can be."""
    order = np.lexsort((generator.random(len(groups)), groups))
    starts = np.searchsorted(groups[order], np.arange(groups.max() + 1))
    first = generator.integers(2, size=len(starts))
    halves = np.empty(len(groups), dtype=np.int64)
    halves[order] = (np.arange(len(groups)) - starts[groups[order]] + first[groups[order]]) % 2
    return halves


def _means(
    values: Float[np.ndarray, "n D"], groups: Int[np.ndarray, " n"], weights: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "G D"]:
    sums = np.zeros((groups.max() + 1, values.shape[1]))
    np.add.at(sums, groups, weights[:, None] * values)
    return sums / np.bincount(groups, weights)[:, None]


def _drawn_within(groups: Int[np.ndarray, " n"], generator: np.random.Generator) -> Int[np.ndarray, " n"]:
    """For each row a row of its own group, drawn with replacement: draws without it would repel each other."""
    ordered = np.argsort(groups, kind="stable")
    counts = np.bincount(groups)
    first = np.cumsum(counts) - counts
    return ordered[first[groups] + (generator.random(len(groups)) * counts[groups]).astype(np.int64)]
