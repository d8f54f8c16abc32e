"""The exact gradient of a task loss through the equilibrium, without differentiating through inference."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pcnet.inference import Relaxation, conjugate_gradients
from pcnet.inference.equilibrium import CurvedErrorProblem, EnergyPoint
from pcnet.learning.example import Example
from pcnet.learning.explicit import valued
from pcnet.learning.rule import LearningRule, with_weight_prior
from pcnet.learning.settled import settle
from pcnet.networks import GraphPoint
from pcnet.networks.fast.token_problem import TokenProblem
from pcnet.predictor import check_sizes
from pcnet.typing import State


@dataclass(frozen=True)
class Implicit(LearningRule):
    """The exact gradient of the task loss through every equilibrium, by the implicit function theorem.

        H v = dl/dx at the equilibrium,      dl/dtheta = partial l - v^T d2F/(dx dtheta),

    the system solved by conjugate gradients, preconditioned by Gauss-Newton in error coordinates.
    Memory does not grow with the number of inference iterations. Costs about as much again as the inference.

    Of a graph network, inputs are held, targets free, and l is the energy of the targets' predictions. In a discriminative
    network that is backpropagation, for more work; where inference has something to say (a generative network, a
    bidirectional one, priors) it is not.

    Of a temporal network, with g_t(x_t, x_(t-1)) = dF_t/dx_t = 0 at every token, the adjoint runs backwards in time,

        H_t lam_t = dloss/dx_t - (dg_(t+1)/dx_t)^T lam_(t+1),      dloss/dtheta = partial - sum_t lam_t^T dg_t/dtheta.

    Args:
        rtol: relative tolerance of the linear systems.
        max_steps: conjugate-gradient steps at most, per token in a temporal network.
        inference: how values relax while training; None is the network's own way.
    """

    rtol: float = 1e-3
    max_steps: int = 50
    inference: Relaxation | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rtol < 1:
            raise ValueError(f"rtol must be in [0, 1), got {self.rtol}")
        check_sizes(max_steps=self.max_steps)

    def loss(self, network: nn.Module, batch: Float[Tensor, "B L *N"] | Example) -> Float[Tensor, ""]:
        end = settle(self, network, batch, self.inference, targets_held=False)
        values = tuple(group.detach().requires_grad_() for group in end.values)
        loss = end.task.cost(values)
        if not values:
            return with_weight_prior(network, loss)
        sent = torch.autograd.grad(loss, values, retain_graph=True, materialize_grads=True)
        adjoint = end.adjoint(sent, self._solved)
        residual = end.task.problem.at(end.values).residual
        constraint = sum((v * g).sum() for v, g in zip(adjoint, residual, strict=True))
        return with_weight_prior(network, valued(loss, loss - constraint))

    @torch.no_grad()
    def _solved(self, problem: CurvedErrorProblem | TokenProblem, point: EnergyPoint, right: State) -> State:
        """H^-1 times the right side, in the units that can move."""

        def preconditioned(r: State) -> State:
            return problem.push_forward(point, metric.solve(problem.pull_back(point, r)))

        metric = problem.gauss_newton(point)
        if isinstance(point, GraphPoint):
            masks = (point.movable.get(name) for name in problem.names)
            right = tuple(g if mask is None else g * mask for g, mask in zip(right, masks, strict=True))
        return conjugate_gradients(
            lambda v: problem.hessian_product(point, v),
            right,
            preconditioned,
            rtol=self.rtol,
            max_steps=self.max_steps,
        )
