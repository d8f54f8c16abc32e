"""Which rows a probe sees: words, their weights when fitting and when scoring, and the folds they are dealt to."""

import os
import typing
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.probing.rows.groups import Groups

Array = np.ndarray | Tensor

CHECKED_ROWS = 4096
"""Rows that are looked at together, so that a file of activations need not fit the memory."""
GRAM_MATRICES = 16
"""About how many matrices of features by features a probe holds at once: those of its folds, their sums and a copy."""


def equal_weights(lengths: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Each length has mass 1, shared equally by its words."""
    return 1.0 / np.bincount(lengths)[lengths]


def probability_weights(
    lengths: Int[np.ndarray, " N"], probabilities: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Each length has mass 1, shared by its words in proportion to their probability."""
    return probabilities / np.bincount(lengths, weights=probabilities)[lengths]


def effective_sample_size(weights: Float[np.ndarray, " N"]) -> float:
    """How many equally weighted rows would tell as much: (sum of w)^2 / sum of w^2."""
    return float(weights.sum() ** 2 / (weights**2).sum())


class Weighted(typing.Protocol):
    """What a score looks at in rows beside features and targets: ``pcnet.processes.Words``, ``Rows``, ``WeightedRows``."""

    @property
    def lengths(self) -> Int[Array, " N"]: ...

    @property
    def probabilities(self) -> Float[Array, " N"]: ...


class WeightedRows(NamedTuple):
    """Rows of which nothing is known but length and probability.

    Args:
        lengths: word lengths, at least 1.
        probabilities: of each word among those of its length; only their ratios within a length matter.
    """

    lengths: Int[Array, " N"]
    probabilities: Float[Array, " N"]


@dataclass(frozen=True, eq=False)
class ProbeData:
    """Features and targets of rows, checked once: what every function of this layer works on.

    Args:
        features: float32 or float64, kept as they come.
        targets: float64.
        lengths, probabilities: of the words, as in ``WeightedRows``.
        groups: rows that stay together when they are dealt to folds.
        departures: how these rows depart from the default protocol, for the column of that name.
    """

    features: Float[np.ndarray, "N D"]
    targets: Float[np.ndarray, "N T"]
    lengths: Int[np.ndarray, " N"]
    probabilities: Float[np.ndarray, " N"]
    groups: Groups | None = None
    departures: tuple[str, ...] = ()

    @classmethod
    def checked(
        cls,
        features: Float[Array, "N D"],
        targets: Float[Array, "N T"],
        rows: Weighted,
        groups: Groups | None = None,
        departures: tuple[str, ...] = (),
    ) -> Self:
        """From torch or numpy; no copy is made of floating features.

        Args:
            features, targets: one row per word.
            rows: the words.
            groups, departures: kept as they are.

        Raises:
            ValueError: naming the argument, what it holds and what it may hold.
        """
        data = cls(
            _matrix("features", features, keep=(np.float32, np.float64)),
            _matrix("targets", targets, keep=(np.float64,)),
            _lengths(rows.lengths),
            as_numpy(rows.probabilities).astype(np.float64),
            groups,
            departures,
        )
        data._check_rows()
        require_affordable_width(data.features.shape[1])
        _refuse_rows("probabilities", data.probabilities, data.probabilities >= 0, "finite and not negative")
        mass = np.bincount(data.lengths, weights=data.probabilities)
        if empty := [int(length) for length in np.unique(data.lengths) if not mass[length] > 0]:
            raise ValueError(f"probabilities: those of length {empty[0]} add up to 0; each length needs a likely word")
        return data

    def _check_rows(self) -> None:
        rows = len(self.features)
        for name, array in (
            ("targets", self.targets),
            ("lengths", self.lengths),
            ("probabilities", self.probabilities),
        ):
            if array.shape[:1] != (rows,) or (array.ndim != 1 and name != "targets"):
                raise ValueError(f"{name} has shape {array.shape}; features have {rows} rows, so it needs {rows} too")

    def score_weights(self) -> dict[str, Float[np.ndarray, " N"]]:
        """The two ways in which words count when a probe is scored, by their name in ``probes.csv``."""
        return {
            "probability": probability_weights(self.lengths, self.probabilities),
            "equal": equal_weights(self.lengths),
        }


def as_numpy(values: Array) -> np.ndarray:
    """The same numbers as a numpy array, sharing memory where possible."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def _matrix(name: str, values: Array, keep: tuple[type, ...]) -> np.ndarray:
    matrix = as_numpy(values)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"{name} has shape {matrix.shape}; it must be a matrix with one row per word")
    matrix = matrix if matrix.dtype in keep else matrix.astype(np.float64)
    for start in range(0, len(matrix), CHECKED_ROWS):
        part = matrix[start : start + CHECKED_ROWS]
        _refuse_rows(name, part, np.isfinite(part), "finite", start)
    return matrix


def require_affordable_width(num_features: int) -> None:
    """Refuse more features than a probe can hold the second moments of.

    Raises:
        ValueError: if these take more than the machine's memory.
    """
    needed, there = 8 * GRAM_MATRICES * num_features**2, machine_memory()
    if needed > there:
        most = int((there / 8 / GRAM_MATRICES) ** 0.5)
        raise ValueError(
            f"features: {num_features:,} of them need about {needed / 2**30:,.0f} GiB of second moments; this machine has "
            f"{there / 2**30:,.0f} GiB, enough for {most:,}: probe fewer sites at once, or project them first"
        )


def require_varying(features: Float[Array, "N D"]) -> None:
    """Refuse features that say nothing because none of them varies.

    Raises:
        ValueError: if every column is constant.
    """
    matrix = as_numpy(features)
    if matrix.ndim == 2 and all(
        np.array_equal(matrix[start : start + CHECKED_ROWS], np.broadcast_to(matrix[0], part_shape))
        for start, part_shape in _parts(matrix)
    ):
        raise ValueError(f"features: all {matrix.shape[1]} columns are constant; there is nothing to decode from")


def machine_memory() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _parts(matrix: np.ndarray) -> list[tuple[int, tuple[int, int]]]:
    """First row and shape of each piece."""
    rows, width = matrix.shape
    return [(start, (min(CHECKED_ROWS, rows - start), width)) for start in range(0, rows, CHECKED_ROWS)]


def _lengths(values: Array) -> np.ndarray:
    lengths = as_numpy(values)
    if lengths.dtype.kind not in "iu":
        raise ValueError(f"lengths has dtype {lengths.dtype}; it must hold whole numbers")
    _refuse_rows("lengths", lengths, lengths >= 1, "at least 1")
    return lengths.astype(np.int64)


def _refuse_rows(name: str, values: np.ndarray, legal: np.ndarray, must_be: str, first_row: int = 0) -> None:
    """Names the first entry that isn't legal; a NaN or an infinity never is."""
    bad = np.argwhere(~(legal & np.isfinite(values)))
    if len(bad):
        place = ", ".join(
            f"{axis} {index}"
            for axis, index in zip(("row", "column"), (bad[0][0] + first_row, *bad[0][1:]), strict=False)
        )
        raise ValueError(f"{name} holds {values[tuple(bad[0])]} at {place}; every entry must be {must_be}")
