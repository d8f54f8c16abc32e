"""Learning by local errors: the gradient of the energy at the equilibrium, values held."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.inference import Relaxation
from pcnet.learning.example import Example
from pcnet.learning.explicit import energy_gradients, handed
from pcnet.learning.relaxed import for_rows, kept, relax
from pcnet.learning.rule import EquilibriumRule, next_token_loss, valued, with_weight_prior
from pcnet.learning.tokens import as_rows, every_token, infer_tokens
from pcnet.networks import GraphNetwork, TemporalPC
from pcnet.networks.graph.trivial import warn_if_trivial


@dataclass(frozen=True)
class Local(EquilibriumRule):
    """Each weight changes by its own prediction error and its presynaptic activity.

        dF*/dtheta = dF/dtheta at the equilibrium's values (envelope theorem); of a dense layer, sum of Pi eps f' a^T,

    with no derivative through inference, through other levels or through time. Precisions descend -1/2 log|Pi| with it.

    Of a graph network, inputs and targets are held and the loss is the mean energy at the equilibrium. Gradients are
    explicit; memory does not grow with the number of inference iterations.

    Of a temporal network, the value of the loss is the mean surprise at the next token, and the backward

        dR_l = Pi_l eps_l a_l(t-1)^T,  dW_l = Pi_l eps_l a_(l+1)^T,  dC = (token - softmax) a_1^T.

    Nothing in it asks that values remember what later tokens need.

    Args:
        readout_on_expectation: of a temporal network, whether C learns from its error at the next token, before inference
            (the prediction that is scored), instead of its error at the equilibrium, where inference has already explained
            most of the token away. On Mess3 this decides whether the rule predicts at all (excess .0105 against .137 nats).
        inference: how values relax while training; None is the network's own way.
    """

    readout_on_expectation: bool = True
    inference: Relaxation | None = None

    def example_loss(self, network: GraphNetwork, example: Example) -> Float[Tensor, ""]:
        clamped = example.whole(network)
        if not example.targets:
            warn_if_trivial(network, clamped)
        problem = network.problem(clamped)
        end = relax(network, problem, self.inference)
        problem, point = for_rows(problem, end.point, kept(network, [end]))
        gradients = energy_gradients(problem.structure, point)
        return with_weight_prior(network, handed(point.energy.mean(), gradients, 1 / len(point.energy)))

    def token_loss(self, network: TemporalPC, tokens: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
        tokens, trajectory = infer_tokens(network, tokens, self.inference)
        weights = network.weights
        with torch.no_grad():
            expected = weights.settle(weights.bases(trajectory.values))
        surprise = next_token_loss(weights.logits(expected), tokens[:, 1:])
        point = every_token(network, tokens, trajectory).at(as_rows(trajectory.values))
        if not self.readout_on_expectation:
            return valued(surprise, point.energy.mean())
        errors = zip(network.levels, point.errors, strict=True)
        mismatch = sum(level.energy.cost(error).mean() for level, error in errors)
        return valued(surprise, mismatch + surprise)
