"""What is asked of every site: which target, on which rows, dealt how."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from jaxtyping import Float, Int

from pcnet.probing import (
    Groups,
    Rows,
    Subject,
    belief_beyond_next_token_law,
    filtered_belief,
    future_law,
    next_token_law,
    predicted_belief,
)
from pcnet.probing.rows.targets import TOLERANCE
from pcnet.processes import HiddenMarkovModel, Process


@dataclass(frozen=True, eq=False)
class Question:
    """What is to be decoded.

    Args:
        process: that made the tokens.
        rows: every position of the sequences.
        target: filtered, predicted, beyond, next_token or future.
        title: the target in words.
        targets: one row per position.
        groups: rows that stay together when they are dealt to folds.
    """

    process: Process
    rows: Rows
    target: str
    title: str
    targets: Float[np.ndarray, "N T"]
    groups: Groups

    @classmethod
    def of(cls, process: Process, tokens: Int[np.ndarray, "B L"], target: str, steps: int) -> Self:
        """Rows dealt by word.

        Args:
            process: that made the tokens.
            tokens: sequences from the initial law on.
            target: as above.
            steps: tokens that "future" looks ahead, at least 1.

        Raises:
            ValueError, TypeError: on tokens that the process can't emit, as in ``Rows.of_sequences``; on steps that are
                too few or have too many continuations; if the targets don't vary.
        """
        rows = Rows.of_sequences(tokens, process)
        title, targets = {
            "filtered": ("the filtered belief", lambda: filtered_belief(process, rows)),
            "predicted": ("the predicted belief", lambda: predicted_belief(process, rows)),
            "beyond": ("the belief beyond the next-token law", lambda: belief_beyond_next_token_law(rows)),
            "next_token": ("the next-token law", lambda: next_token_law(process, rows)),
            "future": (f"the law of the next {steps} tokens", lambda: future_law(process, rows, steps)),
        }[target]
        values = targets()
        if not np.ptp(values, axis=0).max() > TOLERANCE:
            raise ValueError(f"--target {target}: {title} is the same at all rows; there is nothing to decode")
        return cls(process, rows, target, title, values, rows.by_word())

    def grouped(self, groups: str, suffix: int) -> Self:
        """The same, dealt to folds in other groups.

        Args:
            groups: word, sequence, belief or suffix.
            suffix: how many tokens the latter has.
        """
        rows = self.rows
        makers = {
            "word": lambda: self.groups,
            "sequence": rows.by_sequence,
            "belief": rows.by_belief,
            "suffix": lambda: rows.by_suffix(suffix),
        }
        return replace(self, groups=makers[groups]())

    def subject(
        self, features: Float[np.ndarray, "N D"] | None = None, logits: Float[np.ndarray, "N V"] | None = None
    ) -> Subject:
        """For the controls of the library."""
        return Subject(self.process, self.rows, self.targets, features, logits, self.groups)

    @property
    def shown_beliefs(self) -> Float[np.ndarray, "N S"] | None:
        """Beliefs to draw beside decoded ones; None if something else is decoded or they are no laws of a state."""
        laws = isinstance(self.process, HiddenMarkovModel) and self.process.num_states > 1
        return self.targets if laws and self.target in ("filtered", "predicted") else None
