"""Checks of arguments. Each refuses a wrong one by name, before anything is computed."""

import math
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

SUM_TOLERANCE = 1e-9
"""By how much the sum of probabilities may differ from 1."""


def require_at_least(name: str, value: int, minimum: int) -> None:
    """Refuse an argument that isn't an integer of at least ``minimum``, by name."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__} {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")


def require_number(name: str, value: float) -> None:
    """Refuse an argument that isn't a finite number."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__} {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def require_probability(name: str, value: float, greatest: float = 1) -> None:
    """Refuse an argument that isn't a probability of at most ``greatest``; a percentage is the usual mistake."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number in [0, {greatest}], got {type(value).__name__} {value!r}")
    if not 0 <= value <= greatest:
        raise ValueError(f"{name} must lie in [0, {greatest}] (a probability, not a percentage), got {value}")


def require_tolerance(tolerance: float) -> None:
    """Refuse a tolerance that is negative, infinite or NaN."""
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be finite and at least 0, got {tolerance}")


def require_generator(generator: torch.Generator) -> None:
    """Refuse a source of random numbers that isn't a generator on the CPU."""
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if generator.device.type != "cpu":
        raise ValueError(f"generator must be on the CPU, where processes are sampled, got one on {generator.device}")


def checked_weights(weights: Sequence[float] | Float[Tensor, " count"] | None, count: int) -> list[float]:
    """Probabilities of ``count`` alternatives, which sum to 1; None: all are equal."""
    if weights is None:
        return [1 / count] * count
    if isinstance(weights, Tensor):
        weights = weights.tolist()
    if len(weights) != count:
        raise ValueError(f"weights must have {count} entries, got {len(weights)}")
    for k, weight in enumerate(weights):
        require_probability(f"weights[{k}]", weight)
    values = [float(weight) for weight in weights]
    total = sum(values)
    if abs(total - 1) > SUM_TOLERANCE:
        raise ValueError(f"weights must sum to 1, got {total!r}")
    return [value / total for value in values]


def as_float64(name: str, entries: ArrayLike) -> Float[Tensor, "..."]:
    """Any array of real numbers as a float64 tensor on the CPU."""
    if isinstance(entries, Tensor):
        entries = entries.detach().to("cpu", torch.promote_types(entries.dtype, torch.float64)).numpy()
    try:
        array = np.asarray(entries)
    except ValueError as error:
        raise TypeError(f"{name} must be a rectangular array of real numbers: {error}") from None
    if array.dtype.kind not in "fiub":
        shape = "(V, S, S)" if name == "transition_matrices" else "(S,)"
        raise TypeError(
            f"{name} must be an array of real numbers with shape {shape}, "
            f"got {type(entries).__name__} with entries of type {array.dtype}"
        )
    return torch.from_numpy(array.astype(np.float64, order="C"))


def checked_vector(name: str, entries: ArrayLike, num_states: int) -> Float[Tensor, " S"]:
    """A finite vector with an entry a state."""
    vector = as_float64(name, entries)
    if vector.shape != (num_states,):
        raise ValueError(f"{name} must have a shape ({num_states},), one entry a state, got {tuple(vector.shape)}")
    require_finite(name, vector)
    return vector


def checked_law(initial: ArrayLike, num_states: int) -> Float[Tensor, " S"]:
    """The law of the first state."""
    law = checked_vector("initial", initial, num_states)
    wrong = (law < 0).nonzero()
    if len(wrong):
        state = wrong[0].item()
        raise ValueError(f"initial[{state}] = {law[state].item()!r}, a probability, must be at least 0")
    if abs(float(law.sum()) - 1) > SUM_TOLERANCE:
        raise ValueError(
            f"initial sums to {law.sum().item()!r}; the probabilities of all states must sum to 1 within "
            f"{SUM_TOLERANCE}{_percent(law.sum())}"
        )
    return law


def require_finite(name: str, entries: Tensor) -> None:
    """Refuse entries that are infinite or NaN; the message names the first."""
    wrong = (~torch.isfinite(entries)).nonzero()
    if len(wrong):
        index = wrong[0].tolist()
        raise ValueError(f"{name}{index} = {entries[tuple(index)].item()!r} must be finite")


def checked_matrices(entries: ArrayLike) -> Float[Tensor, "V S S"]:
    """A square matrix for each token."""
    matrices = as_float64("transition_matrices", entries)
    shape = tuple(matrices.shape)
    if matrices.ndim != 3 or shape[1] != shape[2] or 0 in shape:
        raise ValueError(f"transition_matrices must have a shape (V, S, S) with V, S >= 1, got {shape}")
    return matrices


def require_probabilities(matrices: Float[Tensor, "V S S"]) -> None:
    """Refuse entries that are no probabilities."""
    wrong = (~(torch.isfinite(matrices) & (matrices >= 0))).nonzero()
    if len(wrong):
        token, i, j = wrong[0].tolist()
        raise ValueError(
            f"transition_matrices[{token}, {i}, {j}] = {matrices[token, i, j].item()!r}, the probability to emit token "
            f"{token} and go from state {i} to state {j}, must be finite and at least 0"
        )


def require_stochastic(matrices: Float[Tensor, "V S S"]) -> None:
    """Refuse rows that don't sum to 1 over tokens and next states."""
    totals = matrices.sum((0, 2))
    wrong = ((totals - 1).abs() > SUM_TOLERANCE).nonzero()
    if len(wrong):
        state = wrong[0].item()
        raise ValueError(
            f"transition_matrices[:, {state}, :] sums to {totals[state].item()!r}; over all tokens and next states, "
            f"the probabilities out of state {state} must sum to 1 within {SUM_TOLERANCE}{_percent(totals[state])}"
        )


def _percent(total: Tensor) -> str:
    return " (these look like percentages: divide by 100)" if abs(float(total) - 100) < 1e-3 else ""
