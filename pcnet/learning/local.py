"""Learning by local errors: the gradient of the energy at the equilibrium, values held."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from pcnet.inference import Relaxation
from pcnet.learning.example import Example
from pcnet.learning.explicit import valued
from pcnet.learning.rule import LearningRule, with_weight_prior
from pcnet.learning.settled import SettledSequences, settle


@dataclass(frozen=True)
class Local(LearningRule):
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

    def loss(self, network: nn.Module, batch: Float[Tensor, "B L *N"] | Example) -> Float[Tensor, ""]:
        end = settle(self, network, batch, self.inference, targets_held=True)
        return with_weight_prior(network, self._foreseeing(end) if isinstance(end, SettledSequences) else end.energy())

    def _foreseeing(self, end: SettledSequences) -> Float[Tensor, ""]:
        """Of sequences, whose outcomes no step holds."""
        surprise, mismatch = end.task.local(end.values)
        return valued(surprise, mismatch + surprise if self.readout_on_expectation else end.energy())
