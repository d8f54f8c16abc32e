"""Hidden-Markov processes whose beliefs, word probabilities and loss floors are known exactly."""

from pcnet.processes.beliefs import Beliefs, constrained_beliefs, filter_beliefs, next_token_law
from pcnet.processes.hmm import GeneralizedHiddenMarkovModel, HiddenMarkovModel, Process, stationary_distribution
from pcnet.processes.information import myopic_entropies, next_token_sufficient
from pcnet.processes.mixed_state import MixedStatePresentation, mixed_state_presentation
from pcnet.processes.sampling import sample
from pcnet.processes.words import WordLevel, Words, words
from pcnet.processes.zoo import coin, even, golden_mean, mess3, rrxor, z1r

__all__ = [
    "Beliefs",
    "GeneralizedHiddenMarkovModel",
    "HiddenMarkovModel",
    "MixedStatePresentation",
    "Process",
    "WordLevel",
    "Words",
    "coin",
    "constrained_beliefs",
    "even",
    "filter_beliefs",
    "golden_mean",
    "mess3",
    "mixed_state_presentation",
    "myopic_entropies",
    "next_token_law",
    "next_token_sufficient",
    "rrxor",
    "sample",
    "stationary_distribution",
    "words",
    "z1r",
]
