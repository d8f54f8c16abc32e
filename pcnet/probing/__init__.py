"""One probing layer for every architecture: do activations linearly encode the beliefs of the process?"""

from pcnet.probing.controls import (
    AdditiveHistory,
    ConstrainedBelief,
    Control,
    FeatureControl,
    LastToken,
    LastTokensTable,
    ModelSoftmax,
    NextTokenLaw,
    RandomSubspace,
    ShuffledBeliefs,
)
from pcnet.probing.dataset import effective_sample_size, equal_weights, probability_weights
from pcnet.probing.probes import LinearProbe
from pcnet.probing.protocol import Protocol, decode, population_r2, probe
from pcnet.probing.subject import Subject
from pcnet.probing.targets import affinely_invisible_belief, belief_beyond_next_token_law
from pcnet.probing.verdict import Verdict, summarise, verdict

__all__ = [
    "AdditiveHistory",
    "ConstrainedBelief",
    "Control",
    "FeatureControl",
    "LastToken",
    "LastTokensTable",
    "LinearProbe",
    "ModelSoftmax",
    "NextTokenLaw",
    "Protocol",
    "RandomSubspace",
    "ShuffledBeliefs",
    "Subject",
    "Verdict",
    "affinely_invisible_belief",
    "belief_beyond_next_token_law",
    "decode",
    "effective_sample_size",
    "equal_weights",
    "population_r2",
    "probability_weights",
    "probe",
    "summarise",
    "verdict",
]
