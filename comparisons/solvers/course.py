"""One solver on its way: step by step, with the clock stopped while its distance is measured."""

import time

import numpy as np
import torch
from torch import Tensor

from comparisons.solvers.minima import GOAL, Minima
from comparisons.solvers.points import Task
from pcnet import Solver

SETTLED = 2e-5
"""Largest entry of a row's gradient below which it is asked which equilibrium it is coming to."""


class Course:
    """How far a solver is from the equilibrium, and how long it has taken: all of it, from the problem to the last step.

    Args:
        solver: from the feedforward sweep on.
        task: what is solved.
        minima: of the task.

    Attributes:
        distance: after every step, to the nearest equilibrium known then; worst row and node group.
        seconds: that the steps have taken.
        arrived: whether every row is within the goal.
    """

    def __init__(self, solver: Solver, task: Task, minima: Minima) -> None:
        self.solver, self.minima = solver, minima
        self.distance: list[float] = []
        self.seconds: list[float] = []
        with torch.no_grad():
            start = time.perf_counter()
            problem = task.problem()
            self.view = solver.view(problem)
            self.state = self.view.coordinates(task.net.sweep(problem))
            self.point = self.view.at(self.state)
            self.carry = solver.init(self.view, self.point)
            spent = time.perf_counter() - start
            self.asked = torch.full((len(task.x),), torch.inf)
            self._look(spent)

    @property
    def spent(self) -> float:
        return self.seconds[-1]

    @property
    def failed(self) -> bool:
        """Whether values are no longer finite."""
        return not np.isfinite(self.distance[-1])

    @property
    def elsewhere(self) -> int:
        """Rows in another equilibrium than the reference."""
        return self.minima.elsewhere(self.point.values)

    @torch.no_grad()
    def follow(self, limit: float) -> "Course":
        """Until all rows have arrived, or so many seconds have been spent in all."""
        while not (self.arrived or self.failed or self.spent > limit):
            start = time.perf_counter()
            increment, self.carry = self.solver.step(self.view, self.point, self.carry)
            self.state = self.view.retract(self.state, increment)
            self.point = self.view.at(self.state)
            self._look(self.spent + time.perf_counter() - start)
        return self

    def _look(self, spent: float) -> None:
        distance = self.minima.distance(self.point.values)
        rows = self._settling(distance)
        if len(rows):
            self.minima.explore(self.point.values, rows)
            distance = self.minima.distance(self.point.values)
        self.distance.append(float(distance.max()))
        self.seconds.append(spent)
        self.arrived = bool((distance <= GOAL).all())

    def _settling(self, distance: Tensor) -> Tensor:
        """Once all rows have a small gradient: those that are nowhere known, in another minimum or on a long flat way.

        Small alone says little (with curvatures of 1e-3 and below a row can be 1e-2 away), so the minimum is looked up; a row
        that was on its way is asked again when its gradient has fallen a hundred times further.
        """
        gradient = torch.stack([group.abs().amax(-1) for group in self.point.residual]).amax(0)
        away = distance > GOAL
        wanted = away & (gradient < 0.01 * self.asked)
        if (away & (gradient >= SETTLED)).any() or not wanted.any():
            return wanted[:0].nonzero().squeeze(-1)
        self.asked = torch.where(wanted, gradient, self.asked)
        return wanted.nonzero().squeeze(-1)

    def expected(self) -> float:
        """When it will have arrived, going on as over the second half of its time."""
        if self.arrived or self.failed:
            return self.spent if self.arrived else np.inf
        seconds, height = np.array(self.seconds), np.log(np.array(self.distance) / GOAL)
        middle, late = (height[seconds >= share * self.spent] for share in (0.45, 0.9))
        middle = middle[: max(1, len(middle) // 5)]
        pace = (middle.max() - late.max()) / (0.5 * self.spent)
        return self.spent + late.max() / pace if pace > 0 else np.inf
