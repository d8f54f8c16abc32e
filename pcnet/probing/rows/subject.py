"""What is under examination, for controls and verdicts."""

from dataclasses import dataclass

from jaxtyping import Float

from pcnet.probing.rows.dataset import Array, ProbeData
from pcnet.probing.rows.groups import Groups
from pcnet.probing.rows.sources import Rows, probe_data
from pcnet.processes import HiddenMarkovModel, Words


@dataclass(frozen=True, eq=False)
class Subject:
    """What is under examination: a process, its words, what should be decoded, and what a model made of the words.

    Args:
        process: the process that the words come from.
        words: from ``pcnet.processes.words``, or other ``Rows``.
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

    def data(self, features: Float[Array, "N D"]) -> ProbeData:
        """This subject's targets beside these features; ValueError as in ``probe_data``."""
        return probe_data(features, self.targets, self.words, self.groups)

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
