"""What energies and priors refuse: numbers out of range, and shapes that do not belong together."""

import math

from torch import Tensor


def check_positive(name: str, value: float) -> float:
    """`value`, if it is a finite number above 0.

    Raises:
        ValueError: it is not; the message names it.
    """
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number > 0, got {value}")
    return float(value)


def check_not_negative(name: str, value: float) -> float:
    """`value`, if it is a finite number of at least 0.

    Raises:
        ValueError: it is not; the message names it.
    """
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number >= 0, got {value}")
    return float(value)


def check_widths(value: Tensor, prediction: Tensor, per_unit: int = 1) -> None:
    """Whether a prediction has `per_unit` numbers for every unit of every row of the values.

    Raises:
        ValueError: it has not; the message names both shapes.
    """
    wanted = value.shape if per_unit == 1 else (*value.shape[:-1], per_unit * value.shape[-1])
    if prediction.shape != wanted:
        needs = "a prediction of the same shape" if per_unit == 1 else f"{per_unit} predicted numbers per unit"
        raise ValueError(f"values of shape {tuple(value.shape)} need {needs}, got {tuple(prediction.shape)}")
