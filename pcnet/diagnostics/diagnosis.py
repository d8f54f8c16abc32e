"""A report on one inference: what happened, how hard it was, and what the weights would learn from where it stopped."""

from dataclasses import dataclass

import pandas as pd

from pcnet.diagnostics.condition import conditioning
from pcnet.diagnostics.descent import course
from pcnet.diagnostics.regime import Standing, standing
from pcnet.inference import Relaxation, Solution
from pcnet.networks import GraphNetwork
from pcnet.networks.graph.structure import Clamped
from pcnet.networks.graph.trivial import warn_if_trivial

RECORDED = (0, 1, 2, 3, 5, 8, 13, 20, 30, 50, 80, 130, 200, 300, 500, 800, 1300, 2000, 3000, 5000)
"""Iterations that a diagnosis looks at."""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What `diagnose` found; print it.

    Attributes:
        solution: where inference ended.
        course: per recorded iteration, row and node, see `course`; iterations after the last step are left out.
        conditioning: per row and coordinates, see `conditioning`.
        standing: between backpropagation and equilibrium, see `standing`.
    """

    solution: Solution
    course: pd.DataFrame
    conditioning: pd.DataFrame
    standing: Standing

    def __str__(self) -> str:
        return "\n\n".join((self.solution.report(), str(self.standing), self._nodes(), self._curvature()))

    def _nodes(self) -> str:
        """Start and end of the course."""
        means = self.course.drop(columns="row").groupby(["node", "iteration"], sort=False).mean().unstack("iteration")
        ends = self.course["iteration"].min(), self.course["iteration"].max()
        table = means.loc[:, [(kind, k) for kind in ("energy", "error", "residual") for k in dict.fromkeys(ends)]]
        table.columns = [f"{kind} at {k}" for kind, k in table.columns]
        return f"nodes, means over rows\n{_printed(table)}"

    def _curvature(self) -> str:
        columns = ["smallest", "largest", "condition"]
        table = self.conditioning.groupby("coordinates", sort=False)[columns].median()
        table["largest stable step"] = 2 / table["largest"]
        vague = (self.conditioning["smallest_error"] > 0.1 * self.conditioning["smallest"].abs()).any()
        note = "\nnot every smallest curvature is resolved to 10 %; raise steps" if vague else ""
        return f"curvature where inference stopped, medians over rows\n{_printed(table)}{note}"


def diagnose(
    network: GraphNetwork,
    clamped: Clamped,
    inference: Relaxation | None = None,
    *,
    reference: Relaxation | None = None,
    steps: int = 100,
) -> Diagnosis:
    """Relax what is free, and report on it.

    Args:
        network: any graph.
        clamped: what is held: inputs, and targets as the weights would learn from them.
        inference: how values relax; None is the network's own way.
        reference: finds the equilibrium to compare with, see `standing`.
        steps: of Lanczos, see `conditioning`; that many directions of all values are kept.

    Raises:
        ValueError: everything is held, so that there is nothing to infer.

    Warns:
        InferenceIsTrivial: the output is free and the feedforward sweep is the equilibrium.
    """
    warn_if_trivial(network, clamped, stacklevel=2)
    problem = network.problem(clamped)
    if not problem.names:
        raise ValueError(f"clamped holds every node ({', '.join(clamped.values)}): there is nothing to infer")
    solution = network.infer(clamped, inference, record=RECORDED)
    last = int(solution.steps.max())
    trace = {k: values for k, values in solution.trace.items() if k < last} | {last: solution.values}
    return Diagnosis(
        solution,
        course(problem, trace),
        conditioning(problem, solution.values, steps=steps),
        standing(network, clamped, solution.trace[0], solution, reference),
    )


def _printed(table: pd.DataFrame) -> str:
    return table.rename_axis(None).to_string(float_format=lambda x: f"{x:.3g}", na_rep="")
