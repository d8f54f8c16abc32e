"""What else a site says, where beliefs are decoded: their calibration, and how a product's factors share the site."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float

from pcnet.cli.probe.question import Question
from pcnet.probing import equal_weights, factor_overlaps, reliability
from pcnet.probing.regression.protocol import DEFAULT_PROTOCOL

COLUMNS = ("site", "measure", "value", "chance", "meaning")
CALIBRATION = {
    "calibration_error": "calibration error: mean distance of decoded probabilities from the exact ones, 0 at best",
    "off_simplex": "off the simplex: root mean square distance to the nearest law, 0 at best",
    "divergence": "divergence: of the decoded law from the exact one in nats, 0 at best",
}
"""Measures of ``Reliability``, and what each means."""
OVERLAP = (
    "overlap: mean squared cosine between the factors' subspaces, 0 at right angles; chance is that of random ones"
)


def readings_of(
    question: Question,
    sites: Mapping[str, Float[np.ndarray, "N D"]],
    decoded: Mapping[str, Float[np.ndarray, "N S"] | None],
) -> pd.DataFrame:
    """A row per site and measure, in ``COLUMNS``; held-out rows, equally weighted within a length.

    Args:
        question: what was decoded.
        sites: features of each.
        decoded: beliefs of each, held out; None where none are decoded.
    """
    lines = []
    for site, beliefs in decoded.items():
        if beliefs is not None:
            lines += [(site, *line) for line in _calibration(question, beliefs)]
            lines += [(site, *line) for line in _overlaps(question, sites[site])]
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _calibration(question: Question, decoded: Float[np.ndarray, "N S"]) -> list[tuple[str, float, float, str]]:
    lengths = question.rows.lengths.numpy()
    scored = DEFAULT_PROTOCOL.scored(lengths)
    found = reliability(question.targets[scored], decoded[scored], equal_weights(lengths)[scored])
    return [(name, getattr(found, name), np.nan, meaning) for name, meaning in CALIBRATION.items()]


def _overlaps(question: Question, features: Float[np.ndarray, "N D"]) -> list[tuple[str, float, float, str]]:
    """Of every pair of a product's factors, from one row of each word."""
    if question.process.composition is None:
        return []
    first = question.rows.repeats.first
    parts = question.process.composition.split(question.targets[first])
    factors = {name: part for name, part in parts.items() if name.startswith("factor.") and name.count(".") == 1}
    if len(factors) < 2:
        return []
    table = factor_overlaps(features[first], factors, equal_weights(question.rows.lengths.numpy()[first]))
    return [(f"overlap {row.one}, {row.other}", row.overlap, row.chance, OVERLAP) for row in table.itertuples()]
