"""How often the interval of a sample holds what the same fits score on a million fresh rows."""

from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from comparisons.calibration.cases import material
from comparisons.calibration.plants import beside_controls
from pcnet.probing import Protocol, bootstrap_interval, cluster_fits
from pcnet.processes import Words

PROTOCOL = Protocol(alphas=(1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1))
FRESH_ROWS = 1_000_000
SHORTEST = 4
"""Positions up to the third are fitted and never scored, as in the default protocol."""
BATCH = 25


@dataclass(frozen=True)
class Sample:
    """Where intervals are tried.

    Args:
        process, length: sequences of this length, every position a row.
        width: features; the planted belief beside its controls, the same numbers whenever a word turns up.
        strength: belief over noise, in variances.
        sequences: in the sample.
    """

    process: str
    length: int
    width: int
    strength: float
    sequences: int


SAMPLES = (
    Sample("rrxor", 10, 16, 4.0, 60),
    Sample("rrxor", 10, 16, 4.0, 240),
    Sample("rrxor", 10, 32, 0.5, 120),
    Sample("zrr", 10, 16, 1.0, 120),
    Sample("mess3", 8, 16, 16.0, 120),
)


@dataclass(frozen=True, eq=False)
class Population:
    """Words, features and a million fresh rows as counts of words."""

    targets: Float[np.ndarray, "N S"]
    features: Float[np.ndarray, "N D"]
    prefixes: Int[np.ndarray, "M L"]
    probabilities: Float[np.ndarray, " M"]
    scored: np.ndarray
    fresh: Float[np.ndarray, " N"]

    def draw(self, sequences: int, generator: np.random.Generator) -> Int[np.ndarray, "G L"]:
        """The row of every prefix of random sequences."""
        return self.prefixes[generator.choice(len(self.probabilities), sequences, p=self.probabilities)]

    def fresh_r2(self, errors: Float[np.ndarray, " N"]) -> float:
        """Score on the fresh rows, from each word's error."""
        mean = self.fresh @ self.targets / self.fresh.sum()
        return 1 - (self.fresh @ errors) / (self.fresh @ ((self.targets - mean) ** 2).sum(axis=1))


@cache
def population(sample: Sample, seed: int) -> Population:
    """What samples are drawn from."""
    _, every = material(sample.process, sample.length)
    generator = np.random.default_rng([seed, 7, sample.length, sample.width])
    targets = every.filtered.numpy()
    features = beside_controls(targets, every, sample.width, sample.strength, generator)
    longest = every.lengths.numpy() == sample.length
    probabilities = every.probabilities.numpy()[longest]
    prefixes, scored = prefix_rows(every, sample.length), every.lengths.numpy() >= SHORTEST
    each = sample.length - SHORTEST + 1
    drawn = generator.multinomial(-(-FRESH_ROWS // each), probabilities / probabilities.sum())
    fresh = np.zeros(len(targets))
    np.add.at(fresh, prefixes[:, SHORTEST - 1 :], np.broadcast_to(drawn[:, None], (len(drawn), each)))
    return Population(targets, features, prefixes, probabilities / probabilities.sum(), scored, fresh)


def prefix_rows(every: Words, length: int) -> Int[np.ndarray, "M L"]:
    """Row of each prefix of each longest word."""
    rows = {tuple(word[:n]): row for row, (word, n) in enumerate(zip(every.tokens.tolist(), every.lengths.tolist()))}
    longest = [word for word in every.tokens.tolist() if -1 not in word]
    return np.array([[rows[tuple(word[:n])] for n in range(1, length + 1)] for word in longest])


def try_intervals(sample: Sample, batch: int, seed: int) -> list[dict]:
    """Samples, their intervals, and what the same fits score on the fresh rows."""
    whole, generator = population(sample, seed), np.random.default_rng([seed, 11, batch])
    rows = []
    for number in range(batch * BATCH, (batch + 1) * BATCH):
        drawn = whole.draw(sample.sequences, generator)
        row, group = drawn.ravel(), np.repeat(np.arange(len(drawn)), drawn.shape[1])
        fits = cluster_fits(whole.features[row], whole.targets[row], group, PROTOCOL)
        kept = whole.scored[row]
        interval = bootstrap_interval(
            fits.errors[kept], whole.targets[row][kept], group[kept], seed=int(generator.integers(2**31))
        )
        truth = whole.fresh_r2(fits.fresh_errors(whole.features, whole.targets))
        ends = {"estimate": interval.estimate, "low": interval.low, "high": interval.high, "fresh": truth}
        rows.append({"number": number} | asdict(sample) | ends)
    return rows
