"""Learning rules: what a network's weights do about one batch.

A rule returns a scalar whose *value* is a loss that models can be judged by and whose *backward* is the rule's update. So
optimisers, clipping, schedulers and checkpoints work as usual, and curves of different rules can be laid over each other.
Only `Incremental` moves weights while values relax; it hands out one such loss per iteration.

The rules differ in objective. `Implicit` and `Unrolled` descend a task loss through the equilibrium, of a temporal network
through time as well. `Nudged` does so by comparing two equilibria, within one token only. `Local` and `Incremental` descend
the energy of what is held: every weight sees its own prediction error and presynaptic activity, nothing else. `Backprop`
descends the task loss of a model without inference. `ZeroDivergence` and `FixedPrediction` are schedules of predictive coding
that do the same.
"""

from pcnet.learning.backprop import Backprop
from pcnet.learning.equivalences import FixedPrediction, ZeroDivergence
from pcnet.learning.example import Example
from pcnet.learning.implicit import Implicit
from pcnet.learning.incremental import Incremental
from pcnet.learning.local import Local
from pcnet.learning.nudged import Nudged, Side
from pcnet.learning.rule import LearningRule, SteppedRule, next_token_loss
from pcnet.learning.unrolled import Unrolled

__all__ = [
    "Backprop",
    "Example",
    "FixedPrediction",
    "Implicit",
    "Incremental",
    "LearningRule",
    "Local",
    "Nudged",
    "Side",
    "SteppedRule",
    "Unrolled",
    "ZeroDivergence",
    "next_token_loss",
]
