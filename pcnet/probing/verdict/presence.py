"""Where a linear probe finds nothing: are the targets there in a way that only a nonlinear one reads?"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from pcnet.probing.controls.banks import ControlBank
from pcnet.probing.controls.known import AdditiveHistory
from pcnet.probing.controls.shuffles import ShuffledBeliefs
from pcnet.probing.regression.nonlinear import NonlinearProbe, held_out_r2
from pcnet.probing.regression.probes import FoldedRegressor, LinearProbe
from pcnet.probing.regression.protocol import Protocol
from pcnet.probing.rows.dataset import Array, as_numpy
from pcnet.probing.rows.subject import Subject
from pcnet.probing.verdict.answers import Comparison
from pcnet.probing.verdict.significance import rank_p_value

ONE_DEAL = Protocol(fold_seeds=(0,))
"""The default protocol with one deal of the words to folds: what the nonlinear probe can afford."""
MARGIN = 0.1
"""R2 by which the nonlinear probe must be ahead of the linear one."""


@dataclass(frozen=True, eq=False)
class PresenceCheck:
    """Asks whether features hold the targets in a way that a linear probe misses.

    A flexible probe reads anything from features that name the word, and any untrained recurrent network remembers words.
    So the answer is yes only if the nonlinear probe is ahead of the linear one by ``MARGIN``, and ahead of the same
    nonlinear probe on the tokens themselves, on every member of every bank, and on every permutation of the targets
    within their length: by chance that happens at most once in 1 + ``num_others`` times for each of them.

    Costs two cross-validations if the nonlinear probe isn't ahead; else up to 2 + others x (1 + banks), each about a
    second for 350 words of 12 features on one core. It stops at the first control that does as well.

    Args:
        subject: unique words and targets.
        num_others: members of each bank, and permutations; at least 19 for a level of .05.
        seed: of the permutations.
        protocol: rows, weights and folds; of its fold seeds the first.
        estimator: the nonlinear probe.
    """

    subject: Subject
    num_others: int = 19
    seed: int = 0
    protocol: Protocol = ONE_DEAL
    estimator: FoldedRegressor = field(default_factory=NonlinearProbe)

    def ask(
        self, features: Float[Array, "N D"], banks: Iterable[ControlBank] = ()
    ) -> tuple[bool, tuple[Comparison, ...]]:
        """Whether it is so, and what that rests on, up to the first control that does as well.

        Args:
            features: one row per word.
            banks: each with at least ``num_others`` members.

        Raises:
            ValueError: as in ``probe``.
        """
        own, found = self._r2(features), []
        linear = self._r2(features, estimator=LinearProbe(self.protocol.alphas))
        found.append(Comparison("linear probe", own - linear))
        if not own > max(linear + MARGIN, 0.0):
            return False, tuple(found)
        for name, others in self._others(features, banks):
            scores: list[float] = []
            for other in others:
                scores.append(other)
                if not own > other:
                    break
            p_value = rank_p_value(own, np.array(scores)) if len(scores) > 1 else float("nan")
            found.append(Comparison(name, own - max(scores), p_value))
            if not own > max(scores):
                return False, tuple(found)
        return True, tuple(found)

    def _others(self, features: Array, banks: Iterable[ControlBank]) -> Iterator[tuple[str, Iterator[float]]]:
        """Scores of each control, made when asked for."""
        yield "additive_history", iter([self._r2(AdditiveHistory().features(self.subject))])
        for bank in banks:
            yield bank.name, (self._r2(member) for member in bank.members[: self.num_others])
        orders = ShuffledBeliefs(self.num_others, self.seed).orders(self.subject.words).T
        targets = as_numpy(self.subject.targets)
        yield "shuffled", (self._r2(features, replace(self.subject, targets=targets[order])) for order in orders)

    def _r2(self, features: Array, subject: Subject | None = None, estimator: FoldedRegressor | None = None) -> float:
        data = (subject or self.subject).data(features)
        return held_out_r2(estimator or self.estimator, data, self.protocol)
