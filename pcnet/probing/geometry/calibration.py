"""Calibration: can decoded beliefs be taken at their word once they are moved to the simplex?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from pcnet.probing.geometry.shapes import matrix, row_weights, simplex_projection
from pcnet.probing.rows.dataset import Array


@dataclass(frozen=True, eq=False)
class Reliability:
    """Whether decoded beliefs, moved to the nearest point of the simplex, can be taken at their word.

    Attributes:
        table: per state and bin of decoded probability: ``state``, ``bin``, ``mass``, mean ``decoded`` and ``outcome``.
        calibration_error: mean distance of decoded from outcome over bins, weighted by mass, averaged over states.
        off_simplex: root mean square distance that the decoded points had to be moved.
        divergence: mean KL(outcome || decoded) in nats, decoded probabilities mixed with a share of the uniform law. Against
            exact beliefs it is 0 at best; against hidden states at best the states' entropy given the words.
    """

    table: pd.DataFrame
    calibration_error: float
    off_simplex: float
    divergence: float


def reliability(
    outcomes: Float[Array, "N S"],
    decoded: Float[Array, "N S"],
    weights: Float[Array, " N"] | None = None,
    bins: Sequence[float] = tuple(np.linspace(0, 1, 11)),
    uniform_share: float = 1e-3,
) -> Reliability:
    """Calibration of held-out decoded beliefs, against the generator's hidden states or the exact beliefs.

    Args:
        outcomes: exact beliefs, or the generator's states one-hot; points of the simplex.
        decoded: from ``decode``; anywhere.
        weights: how much each row counts; all the same if None.
        bins: ascending edges from 0 to 1.
        uniform_share: of the uniform law that keeps the divergence finite, in (0, 1).

    Raises:
        ValueError: if arguments don't match, outcomes leave the simplex, or edges or share aren't legal.
    """
    true, read, mass = matrix("outcomes", outcomes), matrix("decoded", decoded), row_weights(weights, len(outcomes))
    if read.shape != true.shape:
        raise ValueError(f"decoded has shape {read.shape}, outcomes have {true.shape}; they must be the same")
    edges = np.asarray(bins, dtype=np.float64)
    if len(edges) < 2 or edges[0] != 0 or edges[-1] != 1 or np.any(np.diff(edges) <= 0):
        raise ValueError(f"bins={tuple(bins)}: give ascending edges from 0 to 1")
    if not 0 < uniform_share < 1:
        raise ValueError(f"uniform_share={uniform_share}: it must lie in (0, 1)")
    if true.min() < -1e-9 or np.abs(true.sum(axis=1) - 1).max() > 1e-6:
        raise ValueError("outcomes must be points of the simplex: exact beliefs or one-hot states")
    true, read, mass = (part[mass > 0] for part in (true, read, mass))
    found = simplex_projection(read)
    table = _reliability_table(true, found, mass, edges)
    gaps = (table["mass"] * (table["decoded"] - table["outcome"]).abs()).sum() / true.shape[1]
    law = (1 - uniform_share) * found + uniform_share / found.shape[1]
    possible = np.maximum(true, 0)
    divergence = (possible * (np.log(np.where(possible > 0, possible, 1.0)) - np.log(law))).sum(axis=1)
    moved = ((read - found) ** 2).sum(axis=1)
    return Reliability(table, float(gaps), float(np.sqrt(mass @ moved)), float(mass @ divergence))


def _reliability_table(
    outcomes: Float[np.ndarray, "N S"],
    decoded: Float[np.ndarray, "N S"],
    mass: Float[np.ndarray, " N"],
    edges: Float[np.ndarray, " bins"],
) -> pd.DataFrame:
    """One line per state and bin that holds any row."""
    places = np.clip(np.searchsorted(edges, decoded, side="right") - 1, 0, len(edges) - 2)
    lines = []
    for state in range(decoded.shape[1]):
        for place in np.unique(places[:, state]):
            inside = places[:, state] == place
            share = mass[inside].sum()
            means = (mass[inside] @ values[inside, state] / share for values in (decoded, outcomes))
            lines.append((state, place, share, *means))
    return pd.DataFrame(lines, columns=["state", "bin", "mass", "decoded", "outcome"])
