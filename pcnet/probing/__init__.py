"""One probing layer for every architecture: do activations linearly encode the beliefs of the process?"""

from pcnet.probing.answers import Answer, Comparison, SiteVerdict, Verdict
from pcnet.probing.banks import Bank, ScoredBank, default_banks, other_belief, reservoir
from pcnet.probing.clusters import ClusterFits, cluster_fits
from pcnet.probing.controls import (
    AdditiveHistory,
    ConstrainedBelief,
    Control,
    FeatureControl,
    LastToken,
    LastTokensTable,
    MarkovApproximation,
    ModelSoftmax,
    NextTokenLaw,
    RandomSubspace,
)
from pcnet.probing.dataset import effective_sample_size, equal_weights, probability_weights
from pcnet.probing.decoded import Decoded, Reliability, decoded_scores, reliability
from pcnet.probing.distances import distance_r2, prefix_counts
from pcnet.probing.edits import (
    Ablation,
    Edit,
    Encoding,
    LeastEdit,
    PatternEdit,
    PseudoinverseEdit,
    RandomAblation,
    RandomEdit,
)
from pcnet.probing.examination import VERDICT_PROTOCOL, Examination
from pcnet.probing.futures import (
    EditedFutures,
    edited_futures,
    exact_futures,
    model_futures,
    next_tokens,
    token_ahead,
)
from pcnet.probing.gain import Gain, gain_over, summarise
from pcnet.probing.geometry import CorrelationDimension, correlation_dimension, procrustes_residual, simplex_projection
from pcnet.probing.groups import Groups
from pcnet.probing.intervals import Interval, NoInterval, bootstrap_interval, seed_interval
from pcnet.probing.interventions import Agreement, Pairs, agreement, divergence
from pcnet.probing.nonlinear import NonlinearProbe
from pcnet.probing.paired import PairedTest, paired_rows, paired_seeds
from pcnet.probing.places import (
    AllValues,
    ClampedLevel,
    HiddenUnits,
    Moment,
    NotSettledError,
    Place,
    ResidualHistory,
    ResidualStream,
)
from pcnet.probing.presence import Presence, PresenceCheck, Reading, check_presence, probe_with
from pcnet.probing.probes import CutProbe, LinearProbe
from pcnet.probing.protocol import Protocol, decode, population_r2, probe
from pcnet.probing.rows import Rows
from pcnet.probing.separation import Separation, separation
from pcnet.probing.shuffles import (
    Shuffled,
    ShuffledBeliefs,
    ShuffledEverywhere,
    ShuffledKeepingLastToken,
    scores_of_shuffles,
)
from pcnet.probing.significance import holm, rank_p_value
from pcnet.probing.steering import steer_to_belief, steer_to_law
from pcnet.probing.subject import Subject
from pcnet.probing.subspaces import (
    dimensions_for,
    encoding_directions,
    factor_overlaps,
    factored_share,
    participation_ratio,
    principal_angles,
    subspace_overlap,
)
from pcnet.probing.targets import (
    affinely_invisible_belief,
    belief_beyond_next_token_law,
    belief_part,
    constrained_belief,
    filtered_belief,
    future_beyond_next_token,
    future_law,
    hidden_state,
    log_belief,
    next_token_law,
    predicted_belief,
)
from pcnet.probing.unsupervised import PredictiveGeometry, observed_futures, own_futures, predictive_geometry
from pcnet.probing.untrained import Untrained, UntrainedCopies, UntrainedNetwork
from pcnet.probing.verdict import examine, verdict
from pcnet.probing.where import SiteState, at_a_glance, site_states, where

__all__ = [
    "VERDICT_PROTOCOL",
    "Ablation",
    "AdditiveHistory",
    "Agreement",
    "AllValues",
    "Answer",
    "Bank",
    "ClampedLevel",
    "ClusterFits",
    "Comparison",
    "ConstrainedBelief",
    "Control",
    "CorrelationDimension",
    "CutProbe",
    "Decoded",
    "Edit",
    "EditedFutures",
    "Encoding",
    "Examination",
    "FeatureControl",
    "Gain",
    "Groups",
    "HiddenUnits",
    "Interval",
    "LastToken",
    "LastTokensTable",
    "LeastEdit",
    "LinearProbe",
    "MarkovApproximation",
    "ModelSoftmax",
    "Moment",
    "NextTokenLaw",
    "NoInterval",
    "NonlinearProbe",
    "NotSettledError",
    "PairedTest",
    "Pairs",
    "PatternEdit",
    "Place",
    "PredictiveGeometry",
    "Presence",
    "PresenceCheck",
    "Protocol",
    "PseudoinverseEdit",
    "RandomAblation",
    "RandomEdit",
    "RandomSubspace",
    "Reading",
    "Reliability",
    "ResidualHistory",
    "ResidualStream",
    "Rows",
    "ScoredBank",
    "Separation",
    "Shuffled",
    "ShuffledBeliefs",
    "ShuffledEverywhere",
    "ShuffledKeepingLastToken",
    "SiteState",
    "SiteVerdict",
    "Subject",
    "Untrained",
    "UntrainedCopies",
    "UntrainedNetwork",
    "Verdict",
    "affinely_invisible_belief",
    "agreement",
    "at_a_glance",
    "belief_beyond_next_token_law",
    "belief_part",
    "bootstrap_interval",
    "check_presence",
    "cluster_fits",
    "constrained_belief",
    "correlation_dimension",
    "decode",
    "decoded_scores",
    "default_banks",
    "dimensions_for",
    "distance_r2",
    "divergence",
    "edited_futures",
    "effective_sample_size",
    "encoding_directions",
    "equal_weights",
    "exact_futures",
    "examine",
    "factor_overlaps",
    "factored_share",
    "filtered_belief",
    "future_beyond_next_token",
    "future_law",
    "gain_over",
    "hidden_state",
    "holm",
    "log_belief",
    "model_futures",
    "next_token_law",
    "next_tokens",
    "observed_futures",
    "other_belief",
    "own_futures",
    "paired_rows",
    "paired_seeds",
    "participation_ratio",
    "population_r2",
    "predicted_belief",
    "predictive_geometry",
    "prefix_counts",
    "principal_angles",
    "probability_weights",
    "probe",
    "probe_with",
    "procrustes_residual",
    "rank_p_value",
    "reliability",
    "reservoir",
    "scores_of_shuffles",
    "seed_interval",
    "separation",
    "simplex_projection",
    "site_states",
    "steer_to_belief",
    "steer_to_law",
    "subspace_overlap",
    "summarise",
    "token_ahead",
    "verdict",
    "where",
]
