"""One probing layer for every architecture: do activations linearly encode the beliefs of the process?"""

from pcnet.probing.controls.banks import ControlBank, ScoredControlBank, default_banks, other_belief, reservoir
from pcnet.probing.controls.known import (
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
from pcnet.probing.controls.shuffles import (
    Shuffled,
    ShuffledBeliefs,
    ShuffledEverywhere,
    ShuffledKeepingLastToken,
    scores_of_shuffles,
)
from pcnet.probing.controls.untrained import Untrained, UntrainedCopies, UntrainedNetwork
from pcnet.probing.geometry.decoded import Decoded, Reliability, decoded_scores, reliability
from pcnet.probing.geometry.distances import distance_r2, prefix_counts
from pcnet.probing.geometry.location import SiteState, at_a_glance, site_states, where
from pcnet.probing.geometry.merging import Separation, separation
from pcnet.probing.geometry.shapes import (
    CorrelationDimension,
    correlation_dimension,
    procrustes_residual,
    simplex_projection,
)
from pcnet.probing.geometry.subspaces import (
    dimensions_for,
    encoding_directions,
    factor_overlaps,
    factored_share,
    participation_ratio,
    principal_angles,
    subspace_overlap,
)
from pcnet.probing.geometry.unsupervised import PredictiveGeometry, observed_futures, own_futures, predictive_geometry
from pcnet.probing.interventions.edits import (
    Ablation,
    Edit,
    Encoding,
    LeastEdit,
    PatternEdit,
    PseudoinverseEdit,
    RandomAblation,
    RandomEdit,
)
from pcnet.probing.interventions.futures import (
    EditedFutures,
    edited_futures,
    exact_futures,
    model_futures,
    next_tokens,
    token_ahead,
)
from pcnet.probing.interventions.outcomes import Agreement, Pairs, agreement, divergence
from pcnet.probing.interventions.places import (
    AllValues,
    ClampedLevel,
    HiddenUnits,
    Moment,
    NotSettledError,
    Place,
    ResidualHistory,
    ResidualStream,
)
from pcnet.probing.interventions.steering import steer_to_belief, steer_to_law
from pcnet.probing.regression.nonlinear import NonlinearProbe
from pcnet.probing.regression.probes import LinearProbe, PrincipalComponentProbe
from pcnet.probing.regression.protocol import Protocol, decode, population_r2, probe
from pcnet.probing.rows.dataset import effective_sample_size, equal_weights, probability_weights
from pcnet.probing.rows.groups import Groups
from pcnet.probing.rows.sources import Rows
from pcnet.probing.rows.subject import Subject
from pcnet.probing.rows.targets import (
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
from pcnet.probing.uncertainty.clusters import ClusterFits, cluster_fits
from pcnet.probing.uncertainty.intervals import Interval, NoInterval, bootstrap_interval, seed_interval
from pcnet.probing.uncertainty.paired import PairedTest, paired_rows, paired_seeds
from pcnet.probing.verdict.answers import Answer, Comparison, SiteVerdict, Verdict
from pcnet.probing.verdict.examination import VERDICT_PROTOCOL, Examination
from pcnet.probing.verdict.gain import Gain, gain_over, summarise
from pcnet.probing.verdict.judgement import examine, judge
from pcnet.probing.verdict.presence import Presence, PresenceCheck, Reading, check_presence, probe_with
from pcnet.probing.verdict.significance import holm, rank_p_value

__all__ = [
    "VERDICT_PROTOCOL",
    "Ablation",
    "AdditiveHistory",
    "Agreement",
    "AllValues",
    "Answer",
    "ClampedLevel",
    "ClusterFits",
    "Comparison",
    "ConstrainedBelief",
    "Control",
    "ControlBank",
    "CorrelationDimension",
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
    "PrincipalComponentProbe",
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
    "ScoredControlBank",
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
    "judge",
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
    "where",
]
