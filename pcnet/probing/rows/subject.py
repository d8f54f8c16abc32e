"""What is under examination, for controls and verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from jaxtyping import Float

from pcnet.probing.regression.protocol import Protocol, population_r2, probe
from pcnet.probing.rows.dataset import Array
from pcnet.probing.rows.groups import Groups
from pcnet.probing.rows.sources import Rows
from pcnet.processes import HiddenMarkovModel, Words


@dataclass(frozen=True, eq=False)
class Subject:
    """What is under examination: a process, its words, what should be decoded, and what a model made of the words.

    Args:
        process: the process that the words come from.
        words: from ``pcnet.processes.beliefs.word_tree``, or other ``Rows``.
        targets: one row per word, e.g. ``words.filtered``.
        features: the model's activations; needed by the controls that look at them.
        logits: the model's next-token logits; needed by ``ModelSoftmax``.
        groups: rows that must stay together when they are dealt to folds.
    """

    process: HiddenMarkovModel
    words: Words | Rows
    targets: Float[Array, "N T"]
    features: Float[Array, "N D"] | None = None
    logits: Float[Array, "N V"] | None = None
    groups: Groups | None = None

    def population_r2(self, features: Float[Array, "N D"]) -> float:
        """``population_r2`` of these features for this subject's targets."""
        return population_r2(features, self.targets, self.words.lengths, self.words.probabilities)

    def probe(self, features: Float[Array, "N D"], protocol: Protocol, offsets: Sequence[bool]) -> pd.DataFrame:
        """``probe`` of these features for this subject's targets."""
        words = self.words
        return probe(features, self.targets, words.lengths, words.probabilities, protocol, offsets, self.groups)

    def model_features(self) -> Float[Array, "N D"]:
        """The model's activations; ValueError if there are none."""
        if self.features is None:
            raise ValueError("features=None: this control looks at the model's features; give them to the subject")
        return self.features

    def model_logits(self) -> Float[Array, "N V"]:
        """The model's logits; ValueError if there are none."""
        if self.logits is None:
            raise ValueError("logits=None: this control looks at the model's logits; give them to the subject")
        return self.logits
