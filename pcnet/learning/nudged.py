"""Learning by nudging: what a little push on the outcome changes at the equilibrium."""

import enum
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.inference import Inference, Relaxation, Solution, Status
from pcnet.learning.example import Example
from pcnet.learning.explicit import difference, energy_gradients, handed
from pcnet.learning.pushed import PushedGraph, nudged_problem
from pcnet.learning.relaxed import Relaxed, for_rows, kept, relax
from pcnet.learning.rule import EquilibriumRule, next_token_loss, valued, with_weight_prior
from pcnet.learning.task import OutputTask
from pcnet.learning.tokens import as_rows, infer_tokens
from pcnet.networks import GraphNetwork, GraphProblem, TemporalPC
from pcnet.networks.fast.token_problem import NudgedProblem
from pcnet.networks.time.temporal import TokenClamp
from pcnet.typing import State


class Side(enum.Enum):
    """Which two equilibria are compared: signs of the nudge, the upper one first."""

    POSITIVE = (1, 0)
    """Pulled towards the outcome against free; errs by a term in beta."""
    NEGATIVE = (0, -1)
    """Free against pushed away from it; errs by the same term with the other sign."""
    CENTRED = (1, -1)
    """Pulled against pushed; errs by a term in beta squared."""


@dataclass(frozen=True)
class Nudged(EquilibriumRule):
    """The difference of the energy's weight gradients between two equilibria with the outcome nudged by +beta and -beta.

        F_beta = F + beta * l,      update = [dF_beta/dtheta(x at +beta) - dF_-beta/dtheta(x at -beta)] / (2 beta)

    For small beta this is the gradient of l at the free equilibrium (equilibrium propagation), and every part of it is
    local. All rows are relaxed in one batch per sign, from the free equilibrium; rows that diverge under either sign are
    left out. The value of the loss is l at the free equilibrium.

    Of a graph network, l is the energy of the targets' predictions, inputs held and targets free. The free equilibrium of a
    discriminative network is its feedforward sweep, and the rule tends to backpropagation for small beta. Of a temporal
    network, l is the surprise at the token to come; the values of the token before are held, so that the gradient is carried
    through the equilibrium of one token only.

    Args:
        beta: strength of the nudge. The centred difference errs by a term in beta squared: on a trained Mess3 network
            15, 4.0, 1.0 and .16 % of the gradient at .2, .1, .05 and .02. Strong negative nudges have no equilibrium.
        nudged: how values relax under the nudge. A difference over 2 beta asks for a tight tolerance: 1e-4 adds up to 10 % of
            noise to a temporal network's recurrent gradients, and their norms then grow until inference is hard.
        inference: how values relax to the free equilibrium; None is the network's own way.
        side: which equilibria are compared.

    Reference: Scellier & Bengio 2017; centred: Laborieux et al. 2021, arXiv 2006.03824.
    """

    beta: float = 0.05
    nudged: Relaxation = field(default_factory=lambda: Inference(atol=1e-5, max_steps=20))
    inference: Relaxation | None = None
    side: Side = Side.CENTRED

    def __post_init__(self) -> None:
        if not 0 < self.beta < float("inf"):
            raise ValueError(f"beta must be a finite number > 0, got {self.beta}")

    @property
    def _distance(self) -> float:
        """In beta, between the two equilibria."""
        upper, lower = self.side.value
        return (upper - lower) * self.beta

    def example_loss(self, network: GraphNetwork, example: Example) -> Float[Tensor, ""]:
        task = OutputTask(network, example)
        free = relax(network, task.problem, self.inference)
        problems = [nudged_problem(task, sign * self.beta) for sign in self.side.value]
        ends = [self._relaxed_graph(network, problem, free) for problem in problems]
        rows = kept(network, [free, *ends])
        upper, lower = (
            energy_gradients(problem.structure, for_rows(problem, end.point, rows)[1])
            for problem, end in zip(problems, ends)
        )
        with torch.no_grad():
            cost = task.energy(task.problem.nodes(free.point.values))
        cost = cost if rows is None else cost[rows]
        loss = handed(cost.mean(), difference(upper, lower), 1 / (self._distance * len(cost)))
        return with_weight_prior(network, loss)

    @torch.no_grad()
    def _relaxed_graph(self, network: GraphNetwork, problem: GraphProblem | PushedGraph, free: Relaxed) -> Relaxed:
        """The equilibria under a nudge, from the free ones, which are those of no nudge."""
        return relax(network, problem, self.nudged, free.point.values)

    def token_loss(self, network: TemporalPC, tokens: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
        tokens, trajectory = infer_tokens(network, tokens, self.inference)
        with torch.no_grad():
            loss = next_token_loss(network.forecast(trajectory.values), tokens[:, 1:])
        free, past = as_rows(trajectory.values), as_rows(trajectory.past)
        now, later = tokens[:, :-1].flatten(), tokens[:, 1:].flatten()
        nudge = torch.full_like(free[0][:, 0], self.beta)
        signs = self.side.value
        ends = [self._relaxed_tokens(network, now, past, later, sign * nudge, free) for sign in signs]
        good = torch.stack([end.status != Status.DIVERGED for end in ends]).all(0).nonzero().squeeze(-1)
        clamp = TokenClamp(now[good], tuple(group[good] for group in past))
        energies = [
            NudgedProblem(network.problem(clamp), later[good], sign * nudge[good])
            .at(tuple(group[good] for group in end.values))
            .energy.sum()
            for sign, end in zip(signs, ends, strict=True)
        ]
        return valued(loss, (energies[0] - energies[1]) / (self._distance * len(now)))

    @torch.no_grad()
    def _relaxed_tokens(
        self, network: TemporalPC, now: Tensor, past: State, later: Tensor, nudge: Tensor, free: State
    ) -> Solution:
        """The equilibria of all tokens under a nudge, from the free ones."""
        return self.nudged.run(NudgedProblem(network.problem(TokenClamp(now, past)), later, nudge), free)
