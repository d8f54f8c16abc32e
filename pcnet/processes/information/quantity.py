"""Numbers with bounds, for what is not known exactly."""

import math


class Quantity(float):
    """A float with bounds and a standard error.

    Args:
        value: the best estimate.
        low: what it can't be less than. None: the value itself.
        high: what it can't be more than. None: the value itself.
        standard_error: of an average over samples; 0 where nothing was drawn. Bounds that aren't known otherwise are
            then four standard errors away.
        exact: whether the value is right up to rounding. None: if the bounds are equal.

    Raises:
        ValueError: if the numbers are out of order or not numbers.
    """

    low: float
    high: float
    standard_error: float
    exact: bool

    def __new__(
        cls,
        value: float,
        low: float | None = None,
        high: float | None = None,
        *,
        standard_error: float = 0.0,
        exact: bool | None = None,
    ) -> "Quantity":
        self = super().__new__(cls, value)
        self.low = float(value if low is None else low)
        self.high = float(value if high is None else high)
        self.standard_error = float(standard_error)
        if not (self.low <= self <= self.high and self.standard_error >= 0):
            raise ValueError(f"low <= value <= high and standard_error >= 0 must hold, got {self!r}")
        self.exact = self.low == self.high and math.isfinite(self.low) if exact is None else exact
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[float, float, float], dict[str, object]]:
        return (float(self), self.low, self.high), {"standard_error": self.standard_error, "exact": self.exact}

    def __repr__(self) -> str:
        if self.low == self.high:
            return f"Quantity({float(self)!r})"
        error = f", standard_error={self.standard_error:.2g}" if self.standard_error else ""
        return f"Quantity({float(self)!r}, low={self.low!r}, high={self.high!r}{error})"


def mixed(weights: list[float], quantities: list[Quantity]) -> Quantity:
    """The weighted sum of quantities, their standard errors independent."""
    bounds = [sum(w * x for w, x in zip(weights, column)) for column in zip(*((q, q.low, q.high) for q in quantities))]
    error = math.hypot(*(w * q.standard_error for w, q in zip(weights, quantities)))
    return bounded(*bounds, standard_error=error, exact=all(q.exact for q in quantities))


def bounded(value: float, low: float, high: float, *, standard_error: float = 0.0, exact: bool = False) -> Quantity:
    """An estimate, put between its bounds."""
    high = max(low, high)
    return Quantity(min(max(value, low), high), low, high, standard_error=standard_error, exact=exact)
