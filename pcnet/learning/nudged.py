"""Learning by nudging: what a little push on the outcome changes at the equilibrium."""

import enum
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pcnet.inference import Inference, Relaxation
from pcnet.learning.example import Example
from pcnet.learning.relaxed import for_rows, kept, relax
from pcnet.learning.rule import LearningRule, with_weight_prior
from pcnet.learning.settled import settle


class Side(enum.Enum):
    """Which two equilibria are compared: signs of the nudge, the upper one first."""

    POSITIVE = (1, 0)
    """Pulled towards the outcome against free; errs by a term in beta."""
    NEGATIVE = (0, -1)
    """Free against pushed away from it; errs by the same term with the other sign."""
    CENTRED = (1, -1)
    """Pulled against pushed; errs by a term in beta squared."""


@dataclass(frozen=True)
class Nudged(LearningRule):
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

    def loss(self, network: nn.Module, batch: Float[Tensor, "B L *N"] | Example) -> Float[Tensor, ""]:
        end = settle(self, network, batch, self.inference, targets_held=False)
        task, free = end.task, end.values
        strengths = [sign * self.beta for sign in self.side.value]
        with torch.no_grad():
            problems = [task.nudged(strength) for strength in strengths]
            ends = [relax(network, problem, self.nudged, free) for problem in problems]
            rows = kept(network, ends)
            if rows is not None:
                task, free = task.rows(rows), tuple(group[rows] for group in free)
            value = task.cost(free)
        found = [for_rows(problem, nudged.point, rows) for problem, nudged in zip(problems, ends)]
        return with_weight_prior(network, task.nudge_loss(value, strengths, found, self._distance))
