"""Float64 equilibria of a problem, and how far values are from the nearest."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcnet import EnergyProblem, Inference

GOAL = 1e-4
"""Distance to an equilibrium, in every node group (rms), at which a row has arrived."""
ANOTHER = 100 * GOAL
"""Distance from all equilibria known, in some node group, above which an equilibrium is another one."""
POLISH = Inference(atol=1e-11, max_steps=2000, compact=True)
"""How an equilibrium is found in float64; which solver does it decides only which of several is the reference."""


class Minima:
    """The equilibria known of every row: the reference, and others that solvers have been seen to settle in.

    Args:
        problem: in float64.
        start: where the search for the reference begins.
        polish: how an equilibrium is found.
    """

    def __init__(self, problem: EnergyProblem, start: Sequence[Tensor], polish: Inference = POLISH) -> None:
        self.problem, self.polish = problem, polish
        found = polish.run(problem, tuple(group.double() for group in start))
        if not found.converged.all():
            raise RuntimeError(f"no reference equilibrium: {found.report()}")
        widths = torch.tensor([group.shape[-1] for group in start])
        self.known = [torch.cat(found.values, -1).float()]
        self.share = torch.zeros(int(widths.sum()), len(widths))
        self.share[torch.arange(len(self.share)), torch.arange(len(widths)).repeat_interleave(widths)] = 1.0
        self.share /= widths

    def distances(self, values: Sequence[Tensor]) -> Tensor:
        """From every equilibrium known to these values: the largest rms over node groups, (equilibria, rows)."""
        packed = torch.cat(tuple(values), -1)
        return torch.stack([((packed - one).square() @ self.share).amax(-1).sqrt() for one in self.known])

    def distance(self, values: Sequence[Tensor]) -> Tensor:
        """To the nearest, per row; infinite where values are not finite."""
        return self.distances(values).amin(0).nan_to_num(torch.inf)

    def elsewhere(self, values: Sequence[Tensor]) -> int:
        """Rows that have arrived at another equilibrium than the reference."""
        distances = self.distances(values)
        return int(((distances.amin(0) <= GOAL) & (distances[0] > ANOTHER)).sum())

    @torch.no_grad()
    def explore(self, values: Sequence[Tensor], rows: Tensor) -> None:
        """Go down in float64 from where these rows are; what they end in is known from then on, if it is another one."""
        found = self.polish.run(self.problem.rows(rows), tuple(group[rows].double() for group in values))
        packed = torch.cat(found.values, -1).float()
        known = torch.stack([((packed - one[rows]).square() @ self.share).amax(-1).sqrt() for one in self.known])
        new = found.converged & (known.amin(0) > ANOTHER)
        for row, values in zip(rows[new].tolist(), packed[new]):
            self._keep(row, values)

    def _keep(self, row: int, values: Tensor) -> None:
        """In the first of the states known whose row is only the reference again."""
        for one in self.known[1:]:
            if torch.equal(one[row], self.known[0][row]):
                break
        else:
            one = self.known[0].clone()
            self.known.append(one)
        one[row] = values
