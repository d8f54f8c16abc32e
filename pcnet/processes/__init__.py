"""Processes that emit tokens and of which everything is known: beliefs, word probabilities, entropies, loss floors.

A process has hidden states and, for each token, a matrix ``T[x, i, j] = P(emit x, go to j | in i)``. An observer who sees
the tokens has a belief, a law of the hidden state: `predicted` before token t, `filtered` after it. Here beliefs are
computed exactly, so that one can ask whether a network's states encode them::

    process = mess3()  # or HiddenMarkovModel(matrices)
    seen = observe(process, 64, 10, torch.Generator().manual_seed(0))  # tokens, states, beliefs, next-token laws
    print(seen.tokens.shape, seen.filtered.shape)  # (64, 10), (64, 10, 3)
    print(words(process, 10).num_words)  # every possible word of up to 10 tokens, with its belief: 88572
    print(entropy_rate(process), excess_entropy(process))  # nats, with bounds where they aren't exact

The rooms, each of which uses only those above it (beliefs and machines stand side by side):

* `models`: what a process is (`HiddenMarkovModel`, `GeneralizedHiddenMarkovModel`), and processes made of others (`mixture`,
  `product`, `noisy_channel`, `relabel`, `block`, `time_reversal`), whose `composition` splits a belief into its parts.
* `beliefs`: samples (`sample`, `observe`), beliefs along sequences (`filter_beliefs`, `filter_beliefs_parallel`,
  `smooth_beliefs`) and of all words (`words`).
* `machines`: a process in its smallest predictive form (`mixed_state_presentation`, `epsilon_machine`, `reconstruct` from
  samples), and whether two processes are the same (`same_process`).
* `information`: entropies, memory, orders, spectrum and dimension, as a `Quantity` where bounds belong to the answer.
* `zoo`: the processes of the literature (`mess3`, `rrxor`, `zrr`, ...) and random ones.

Functions take a process or, for a hidden Markov model, its matrices as an array. They compute in float64 on the CPU; every
random draw takes a generator; what has no answer raises an `UndefinedError` that says why.
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
