"""How good decoded targets are: R2 in every sense, root mean square error, cosine, and calibration on the simplex."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from pcnet.probing.geometry.shapes import simplex_projection
from pcnet.probing.regression.protocol import DEFAULT_PROTOCOL, Protocol, decode
from pcnet.probing.regression.scoring import explained
from pcnet.probing.rows.dataset import Array, ProbeData, as_numpy, effective_sample_size
from pcnet.probing.rows.groups import Groups

RANK_TOLERANCE = 1e-10
"""Directions of the targets with less than this share of the largest variance don't exist."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """Targets beside what was read out of the features by fits that didn't see them.

    Args:
        targets: what is true.
        decoded: what was read out.
        weights: how much each row counts; zero for rows that aren't scored.
    """

    targets: Float[np.ndarray, "N T"]
    decoded: Float[np.ndarray, "N T"]
    weights: Float[np.ndarray, " N"]

    @classmethod
    def checked(
        cls, targets: Float[Array, "N T"], decoded: Float[Array, "N T"], weights: Float[Array, " N"] | None = None
    ) -> Self:
        """From torch or numpy; rows of weight zero are dropped.

        Raises:
            ValueError: naming the argument that doesn't match, isn't finite or isn't legal.
        """
        y, found = (as_numpy(values).astype(np.float64) for values in (targets, decoded))
        w = np.ones(len(y)) if weights is None else as_numpy(weights).astype(np.float64)
        if y.ndim != 2 or found.shape != y.shape or w.shape != y.shape[:1]:
            raise ValueError(
                f"targets {y.shape}, decoded {found.shape} and weights {w.shape} must have the shapes (N, T), (N, T), (N,)"
            )
        for name, values in {"targets": y, "decoded": found, "weights": w}.items():
            bad = np.argwhere(~np.isfinite(values) | (values < 0 if name == "weights" else False))
            if len(bad):
                raise ValueError(
                    f"{name} holds {values[tuple(bad[0])]} at row {bad[0][0]}; it must be finite or above 0"
                )
        if not w.sum() > 0:
            raise ValueError("weights add up to 0; at least one row must count")
        kept = w > 0
        return cls(y[kept], found[kept], w[kept])

    def _spread(self) -> Float[np.ndarray, "N T"]:
        return self.targets - np.average(self.targets, axis=0, weights=self.weights)

    def r2(self) -> float:
        """One minus summed squared error over summed variance, all coordinates together; NaN if nothing varies."""
        error, spread = self.weights @ (self.targets - self.decoded) ** 2, self.weights @ self._spread() ** 2
        varies = spread.sum() > 1e-24 * (self.weights @ self.targets**2).sum()
        return float(1 - error.sum() / spread.sum()) if varies else float("nan")

    def coordinate_r2(self) -> Float[np.ndarray, " T"]:
        """R2 of each coordinate by itself; NaN for one that doesn't vary."""
        error, spread = self.weights @ (self.targets - self.decoded) ** 2, self.weights @ self._spread() ** 2
        varies = spread > 1e-24 * (self.weights @ self.targets**2)
        return explained(error, np.where(varies, spread, 0.0))

    def basis_free_r2(self) -> float:
        r"""R2 that no change of basis of the targets moves, as generalised processes need: their states have no basis.

        .. math:: 1 - tr(S_Y^+ S_{res}) / rank(S_Y)

        with the covariance of the targets and the second moment of the residuals. Every direction in which the targets
        vary counts the same, be it ever so small. NaN if nothing varies.
        """
        mass = (self.weights / self.weights.sum())[:, None]
        spread, residual = self._spread(), self.targets - self.decoded
        values, vectors = np.linalg.eigh(spread.T @ (mass * spread))
        kept = values > max(RANK_TOLERANCE * values[-1], 1e-24 * (mass * self.targets**2).sum())
        if not kept.any():
            return float("nan")
        along = (mass * (residual @ vectors[:, kept]) ** 2).sum(axis=0)
        return float(1 - np.mean(along / values[kept]))

    def rmse(self) -> float:
        """Root of the mean squared error, per target entry and in its units."""
        error = self.weights @ ((self.targets - self.decoded) ** 2).mean(axis=1)
        return float(np.sqrt(error / self.weights.sum()))

    def cosine(self) -> float:
        """Cosine between all targets and all decoded ones, both seen from the mean target; NaN if either stays there."""
        centre = np.average(self.targets, axis=0, weights=self.weights)
        true, found = self.targets - centre, self.decoded - centre
        size = np.sqrt((self.weights @ true**2).sum() * (self.weights @ found**2).sum())
        return float((self.weights @ (true * found)).sum() / size) if size > 0 else float("nan")

    def scores(self) -> dict[str, float]:
        """All of these by name, coordinates as ``r2_0``, ``r2_1``, ..."""
        every = {f"r2_{place}": float(value) for place, value in enumerate(self.coordinate_r2())}
        whole = {"r2": self.r2(), "r2_basis_free": self.basis_free_r2(), "rmse": self.rmse(), "cosine": self.cosine()}
        return whole | every


def decoded_scores(
    features: Float[Array, "N D"],
    targets: Float[Array, "N T"],
    lengths: Int[Array, " N"],
    probabilities: Float[Array, " N"],
    protocol: Protocol = DEFAULT_PROTOCOL,
    fit_intercept: bool = True,
    groups: Groups | None = None,
) -> pd.DataFrame:
    """Every held-out score of the default protocol's probe, where ``probe`` has only R2 and RMSE.

    Words up to ``always_training_length`` aren't scored.

    Args:
        features, targets, lengths, probabilities, protocol: as in ``probe``.
        fit_intercept: whether the fits have a constant.
        groups: rows that must stay together.

    Returns:
        One row per fold seed and weighting: fold_seed, weights, rows, n_eff, features, and those of ``Decoded.scores``.

    Raises:
        ValueError: as in ``probe``.
    """
    data = ProbeData.checked(features, targets, lengths, probabilities)
    rows = protocol.scored(data.lengths)
    table = []
    for seed in protocol.fold_seeds:
        found = decode(
            features,
            targets,
            lengths,
            probabilities,
            protocol,
            fold_seed=seed,
            fit_intercept=fit_intercept,
            groups=groups,
        )
        for name, weights in data.score_weights().items():
            scored = Decoded.checked(data.targets[rows], found[rows], weights[rows])
            size = {
                "rows": len(rows),
                "n_eff": effective_sample_size(weights[rows]),
                "features": data.features.shape[1],
            }
            table.append({"fold_seed": seed, "weights": name} | size | scored.scores())
    return pd.DataFrame(table)


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
        outcomes: ``hidden_state`` of sampled rows, or exact beliefs; points of the simplex.
        decoded: from ``decode``; anywhere.
        weights: how much each row counts; all the same if None.
        bins: ascending edges from 0 to 1.
        uniform_share: of the uniform law that keeps the divergence finite, in (0, 1).

    Raises:
        ValueError: if arguments don't match, outcomes leave the simplex, or edges or share aren't legal.
    """
    pair = Decoded.checked(outcomes, decoded, weights)
    edges = np.asarray(bins, dtype=np.float64)
    if len(edges) < 2 or edges[0] != 0 or edges[-1] != 1 or np.any(np.diff(edges) <= 0):
        raise ValueError(f"bins={tuple(bins)}: give ascending edges from 0 to 1")
    if not 0 < uniform_share < 1:
        raise ValueError(f"uniform_share={uniform_share}: it must lie in (0, 1)")
    if pair.targets.min() < -1e-9 or np.abs(pair.targets.sum(axis=1) - 1).max() > 1e-6:
        raise ValueError("outcomes must be points of the simplex: exact beliefs or one-hot states")
    mass, found = pair.weights / pair.weights.sum(), simplex_projection(pair.decoded)
    table = _reliability_table(pair.targets, found, mass, edges)
    gaps = (table["mass"] * (table["decoded"] - table["outcome"]).abs()).sum() / pair.targets.shape[1]
    law = (1 - uniform_share) * found + uniform_share / found.shape[1]
    true = np.maximum(pair.targets, 0)
    divergence = (true * (np.log(np.where(true > 0, true, 1.0)) - np.log(law))).sum(axis=1)
    moved = ((pair.decoded - found) ** 2).sum(axis=1)
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
