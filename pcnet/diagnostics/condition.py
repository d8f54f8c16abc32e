"""How hard an inference is: extreme curvatures and condition numbers of its energy, in values and in errors."""

import numpy as np
import pandas as pd
import torch

from pcnet.inference import CurvedProblem, EnergyPoint, ErrorProblem, extremes
from pcnet.inference.error_coordinates import CurvedLandscape
from pcnet.typing import State

COLUMNS = "row coordinates smallest largest condition smallest_error largest_error".split()


@torch.no_grad()
def conditioning(problem: CurvedProblem, values: State, *, steps: int = 100) -> pd.DataFrame:
    """Smallest and largest curvature of the energy, per row, in values and (where the problem has them) in errors.

    Descent is stable for step sizes below 2 / largest; at its best it takes about condition / 2 steps per factor e, and with
    the best momentum root(condition) / 2. The condition number of a chain grows in values about as its depth squared;
    in errors the curvature is Pi plus what the held output adds.

    Args:
        problem: whose energy.
        values: where; in errors the curvature is exact at an equilibrium only (see `CurvedLandscape`).
        steps: Hessian products at most (Lanczos): exact from the number of distinct eigenvalues on.

    Returns:
        Columns `row`, `coordinates` ("values", "errors"), `smallest`, `largest`, `condition` (infinite where the energy is
        not convex) and `smallest_error`, `largest_error`: an eigenvalue lies within that of what is shown. The condition
        number is estimated from below.
    """
    point = problem.at(values)
    tables = [_table("values", problem, point, steps)]
    if isinstance(problem, ErrorProblem):
        landscape = CurvedLandscape(problem)
        tables.append(_table("errors", landscape, landscape.point(problem.errors(values), point), steps))
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def _table(coordinates: str, problem: CurvedProblem, point: EnergyPoint, steps: int) -> pd.DataFrame:
    found = extremes(problem, point, steps=steps)
    columns = {
        "smallest": found.smallest,
        "largest": found.largest,
        "condition": found.condition_number,
        "smallest_error": found.smallest_error,
        "largest_error": found.largest_error,
    }
    numbers = {name: column.cpu().numpy() for name, column in columns.items()}
    return pd.DataFrame({"row": np.arange(len(found.largest)), "coordinates": coordinates} | numbers)
