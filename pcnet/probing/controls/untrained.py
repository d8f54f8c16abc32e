"""Networks that nobody taught: a recurrent one is a reservoir and scores high, so a trained one must score higher."""

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Float

from pcnet.probing.controls.banks import SPECTRAL_RADII, reservoir
from pcnet.probing.controls.known import Control
from pcnet.probing.regression.protocol import DEFAULT_PROTOCOL, Protocol
from pcnet.probing.rows.dataset import Array
from pcnet.probing.rows.subject import Subject


class Untrained(Control, abc.ABC):
    """The best of several untrained networks is the one to beat."""

    @abc.abstractmethod
    def draws(self, subject: Subject) -> Iterator[Float[Array, "N D"]]:
        """Features of each network, one after the other."""

    def population_r2(self, subject: Subject) -> float:
        """NaN: fitted and scored on the same words, wide random features measure little but their number."""
        return float("nan")

    def score(
        self, subject: Subject, protocol: Protocol = DEFAULT_PROTOCOL, offsets: Sequence[bool] = (True, False)
    ) -> pd.DataFrame:
        """Scores of the network whose median over fold seeds is best: all positions, words equally weighted."""
        return max((subject.probe(features, protocol, offsets) for features in self.draws(subject)), key=_headline)


@dataclass(frozen=True)
class UntrainedNetwork(Untrained):
    """Reservoirs of the model's width: untrained tanh recurrent networks, of several spectral radii.

    Args:
        width: number of units; by default as many as the subject has features.
        spectral_radii: spectral radii of the recurrent weights.
        num_seeds: networks of each radius.
        seed: of all draws.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """

    name: ClassVar[str] = "untrained_network"
    width: int | None = None
    spectral_radii: tuple[float, ...] = SPECTRAL_RADII
    num_seeds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width is not None and self.width < 1:
            raise ValueError(f"width={self.width}: it must be at least 1")
        if not self.spectral_radii or min(self.spectral_radii) <= 0:
            raise ValueError(f"spectral_radii={self.spectral_radii}: give at least one, all positive")
        if self.num_seeds < 1:
            raise ValueError(f"num_seeds={self.num_seeds}: it must be at least 1")

    def draws(self, subject: Subject) -> Iterator[Float[np.ndarray, "N D"]]:
        width = subject.model_features().shape[1] if self.width is None else self.width
        generator = np.random.default_rng(self.seed)
        for radius in self.spectral_radii:
            for _ in range(self.num_seeds):
                yield reservoir(subject.words, width, radius, generator)


@dataclass(frozen=True)
class UntrainedCopies(Untrained):
    """Copies of the model with fresh weights.

    Args:
        activations: features of the copy that an integer draws, one row per word, at the site that is judged: build the
            model with this seed by the initialiser that the trained one started from, and walk the words.
        seeds: one copy for each, at least one.

    Raises:
        ValueError: if there are no seeds.
    """

    name: ClassVar[str] = "untrained_copies"
    activations: Callable[[int], Float[Array, "N D"]]
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("seeds=(): give at least one")

    def draws(self, subject: Subject) -> Iterator[Float[Array, "N D"]]:
        return map(self.activations, self.seeds)


def _headline(scores: pd.DataFrame) -> float:
    chosen = scores[(scores["position"] == "all") & (scores["weights"] == "equal")]
    return float(chosen[chosen["offset"] == chosen["offset"].max()]["r2"].median())
