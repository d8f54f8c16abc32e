"""How fast beliefs come: filters, observed samples, words, mixed states and streams, beside dynamax and hmmlearn."""

from comparisons.belief_speed.experiment import BeliefSpeed

__all__ = ["BeliefSpeed"]
