"""Hidden-Markov processes whose beliefs, word probabilities and loss floors are known exactly.

The literature's are in `zoo`, `word_zoo`, `modular` and `generalized_zoo`, random ones in `random_machines`; `compose` and
`reversal` make new ones of them.
"""

from pcnet.processes.beliefs.constrained import constrained_beliefs
from pcnet.processes.beliefs.filtering import Beliefs, filter_beliefs, next_token_law, token_log_probabilities
from pcnet.processes.beliefs.observation import Observed, observe
from pcnet.processes.beliefs.parallel import filter_beliefs_parallel
from pcnet.processes.beliefs.sampling import sample
from pcnet.processes.beliefs.smoothing import smooth_beliefs
from pcnet.processes.beliefs.sufficiency import next_token_sufficient
from pcnet.processes.beliefs.word_tree import WordLevel, Words, words
from pcnet.processes.information.complexity import crypticity, statistical_complexity, synchronization_information
from pcnet.processes.information.dimension import lyapunov_exponents, mixed_state_dimension
from pcnet.processes.information.entropies import entropy_rate, myopic_entropies
from pcnet.processes.information.excess import excess_entropy, transient_information
from pcnet.processes.information.modes import Spectrum, autocorrelation, spectrum
from pcnet.processes.information.orders import cryptic_order, markov_order
from pcnet.processes.information.quantity import Quantity
from pcnet.processes.machines.causal_states import EpsilonMachine, epsilon_machine
from pcnet.processes.machines.equivalence import distinguishing_word, same_process
from pcnet.processes.machines.mixed_state import MixedStatePresentation, NotClosedError, mixed_state_presentation
from pcnet.processes.machines.reconstruction import ReconstructedMachine, reconstruct
from pcnet.processes.models.compose import block, mixture, noisy_channel, product, relabel
from pcnet.processes.models.composition import Composition
from pcnet.processes.models.hmm import GeneralizedHiddenMarkovModel, HiddenMarkovModel, Process, UndefinedError
from pcnet.processes.models.parts import Blocks, Channel, Mixture, Product
from pcnet.processes.models.reversal import time_reversal
from pcnet.processes.zoo.generalized import bloch_walk, frdn, moon
from pcnet.processes.zoo.literature import (
    coin,
    even,
    golden_mean,
    leaky_rrxor,
    mess,
    mess3,
    rrxor,
    simple_nonunifilar_source,
    z1r,
    zrr,
)
from pcnet.processes.zoo.modular import modular_addition, modular_walk
from pcnet.processes.zoo.random_machines import random_epsilon_machine, random_hmm
from pcnet.processes.zoo.texts import days_of_week, matching_parentheses, mr_name

__all__ = [
    "Beliefs",
    "Blocks",
    "Channel",
    "Composition",
    "EpsilonMachine",
    "GeneralizedHiddenMarkovModel",
    "HiddenMarkovModel",
    "MixedStatePresentation",
    "Mixture",
    "NotClosedError",
    "Observed",
    "Process",
    "Product",
    "Quantity",
    "ReconstructedMachine",
    "Spectrum",
    "UndefinedError",
    "WordLevel",
    "Words",
    "autocorrelation",
    "bloch_walk",
    "block",
    "coin",
    "constrained_beliefs",
    "cryptic_order",
    "crypticity",
    "days_of_week",
    "distinguishing_word",
    "entropy_rate",
    "epsilon_machine",
    "even",
    "excess_entropy",
    "filter_beliefs",
    "filter_beliefs_parallel",
    "frdn",
    "golden_mean",
    "leaky_rrxor",
    "lyapunov_exponents",
    "markov_order",
    "matching_parentheses",
    "mess",
    "mess3",
    "mixed_state_dimension",
    "mixed_state_presentation",
    "mixture",
    "modular_addition",
    "modular_walk",
    "moon",
    "mr_name",
    "myopic_entropies",
    "next_token_law",
    "next_token_sufficient",
    "noisy_channel",
    "observe",
    "product",
    "random_epsilon_machine",
    "random_hmm",
    "reconstruct",
    "relabel",
    "rrxor",
    "same_process",
    "sample",
    "simple_nonunifilar_source",
    "smooth_beliefs",
    "spectrum",
    "statistical_complexity",
    "synchronization_information",
    "time_reversal",
    "token_log_probabilities",
    "transient_information",
    "words",
    "z1r",
    "zrr",
]
