"""One probing layer for every architecture: do activations linearly encode the beliefs of the process?

Its rooms, each of which imports only what stands before it: `rows` (which words a probe sees, and what they may encode),
`regression` (held-out scores of linear and nonlinear maps), `interventions` (states moved to another belief), `uncertainty`
(intervals and tests over sequences and training seeds), `controls` (features and targets that know less than a model might), `geometry` (shapes, distances
and subspaces of what is decoded) and `verdict`, which puts scores and controls together to one calibrated answer::

    rows = words(rrxor(), 8)  # every word of up to 8 tokens, with its exact belief
    states = walk(model, rows, "cells.0.hidden").features("cells.0.hidden")  # any causal module that takes (B, L) tokens
    probe(states, rows.filtered, rows)  # held-out R2, a table
    subject = Subject(rrxor(), rows, rows.filtered)
    print(judge({"hidden": states}, subject, [DefaultBanks()]))  # yes, no, not decidable here, or present, not linear
"""

from pcnet.probing.controls.banks import (
    ControlBank,
    DefaultBanks,
    ScoredControlBank,
    UntrainedCopies,
    other_belief,
    reservoir,
)
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
    PartitionControl,
    RandomSubspace,
)
from pcnet.probing.controls.scoring import control_population_r2, permutation_scores, score_control
from pcnet.probing.controls.shuffles import Shuffled, ShuffledBeliefs, ShuffledEverywhere, ShuffledKeepingLastToken
from pcnet.probing.geometry.calibration import reliability
from pcnet.probing.geometry.distances import distance_r2, prefix_counts
from pcnet.probing.geometry.location import SiteState, at_a_glance, site_states, where
from pcnet.probing.geometry.merging import separation
from pcnet.probing.geometry.shapes import (
    correlation_dimension,
    procrustes_residual,
)
from pcnet.probing.geometry.subspaces import dimensions_for, factor_overlaps, participation_ratio
from pcnet.probing.geometry.unsupervised import predictive_geometry
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
from pcnet.probing.interventions.futures import EditedFutures, edited_futures, model_futures, next_tokens, own_futures
from pcnet.probing.interventions.outcomes import Pairs, agreement, divergence
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
from pcnet.probing.rows.dataset import WeightedRows, effective_sample_size, equal_weights, probability_weights
from pcnet.probing.rows.groups import Groups
from pcnet.probing.rows.prefix_walk import walk
from pcnet.probing.rows.sources import Rows
from pcnet.probing.rows.subject import Subject
from pcnet.probing.rows.targets import (
    affinely_invisible_belief,
    belief_beyond_next_token_law,
    exact_futures,
    filtered_belief,
    future_law,
    next_token_law,
    predicted_belief,
)
from pcnet.probing.uncertainty.clusters import cluster_fits
from pcnet.probing.uncertainty.intervals import Interval, bootstrap_interval, seed_interval
from pcnet.probing.uncertainty.paired import paired_seeds
from pcnet.probing.verdict.answers import Answer, Verdict
from pcnet.probing.verdict.examination import VERDICT_PROTOCOL, Examination
from pcnet.probing.verdict.judgement import Judge, examine, judge
from pcnet.probing.verdict.presence import PresenceCheck
from pcnet.probing.verdict.significance import holm, rank_p_value

__all__ = [
    "VERDICT_PROTOCOL",
    "Ablation",
    "AdditiveHistory",
    "AllValues",
    "Answer",
    "ClampedLevel",
    "ConstrainedBelief",
    "Control",
    "ControlBank",
    "DefaultBanks",
    "Edit",
    "EditedFutures",
    "Encoding",
    "Examination",
    "FeatureControl",
    "Groups",
    "HiddenUnits",
    "Interval",
    "Judge",
    "LastToken",
    "LastTokensTable",
    "LeastEdit",
    "LinearProbe",
    "MarkovApproximation",
    "ModelSoftmax",
    "Moment",
    "NextTokenLaw",
    "NonlinearProbe",
    "NotSettledError",
    "Pairs",
    "PartitionControl",
    "PatternEdit",
    "Place",
    "PresenceCheck",
    "PrincipalComponentProbe",
    "Protocol",
    "PseudoinverseEdit",
    "RandomAblation",
    "RandomEdit",
    "RandomSubspace",
    "ResidualHistory",
    "ResidualStream",
    "Rows",
    "ScoredControlBank",
    "Shuffled",
    "ShuffledBeliefs",
    "ShuffledEverywhere",
    "ShuffledKeepingLastToken",
    "SiteState",
    "Subject",
    "UntrainedCopies",
    "Verdict",
    "WeightedRows",
    "affinely_invisible_belief",
    "agreement",
    "at_a_glance",
    "belief_beyond_next_token_law",
    "bootstrap_interval",
    "cluster_fits",
    "control_population_r2",
    "correlation_dimension",
    "decode",
    "dimensions_for",
    "distance_r2",
    "divergence",
    "edited_futures",
    "effective_sample_size",
    "equal_weights",
    "exact_futures",
    "examine",
    "factor_overlaps",
    "filtered_belief",
    "future_law",
    "holm",
    "judge",
    "model_futures",
    "next_token_law",
    "next_tokens",
    "other_belief",
    "own_futures",
    "paired_seeds",
    "participation_ratio",
    "permutation_scores",
    "population_r2",
    "predicted_belief",
    "predictive_geometry",
    "prefix_counts",
    "probability_weights",
    "probe",
    "procrustes_residual",
    "rank_p_value",
    "reliability",
    "reservoir",
    "score_control",
    "seed_interval",
    "separation",
    "site_states",
    "steer_to_belief",
    "steer_to_law",
    "walk",
    "where",
]
