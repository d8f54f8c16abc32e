"""The exact gradient of a task loss through the equilibrium, without differentiating through inference."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.inference import Relaxation, conjugate_gradients
from pcnet.inference.equilibrium import zeros_like
from pcnet.learning.example import Example
from pcnet.learning.relaxed import for_rows, kept, relax
from pcnet.learning.rule import EquilibriumRule, next_token_loss, valued, with_weight_prior
from pcnet.learning.task import OutputTask
from pcnet.learning.tokens import as_rows, every_token, infer_tokens
from pcnet.networks import GraphNetwork, GraphPoint, GraphProblem, TemporalPC
from pcnet.networks.time.temporal import TokenClamp, Trajectory
from pcnet.predictor import check_sizes
from pcnet.typing import State


@dataclass(frozen=True)
class Implicit(EquilibriumRule):
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

    def example_loss(self, network: GraphNetwork, example: Example) -> Float[Tensor, ""]:
        task = OutputTask(network, example)
        end = relax(network, task.problem, self.inference)
        rows = kept(network, [end])
        problem, point = for_rows(task.problem, end.point, rows)
        task = task if rows is None else task.rows(rows)
        values = tuple(group.detach().requires_grad_() for group in point.values)
        loss = task.energy(problem.nodes(values)).mean()
        if not values:
            return with_weight_prior(network, loss)
        sent = torch.autograd.grad(loss, values, retain_graph=True, materialize_grads=True)
        adjoint = self._solved(problem, point, sent)
        residual = problem.at(point.values).residual
        constraint = sum((v * g).sum() for v, g in zip(adjoint, residual, strict=True))
        return with_weight_prior(network, valued(loss, loss - constraint))

    @torch.no_grad()
    def _solved(self, problem: GraphProblem, point: GraphPoint, sent: State) -> State:
        """H^-1 sent, in the units that can move."""

        def preconditioned(r: State) -> State:
            return problem.push_forward(point, metric.solve(problem.pull_back(point, r)))

        metric = problem.gauss_newton(point)
        moving = (point.movable.get(name) for name in problem.names)
        sent = tuple(g if mask is None else g * mask for g, mask in zip(sent, moving, strict=True))
        return conjugate_gradients(
            lambda v: problem.hessian_product(point, v),
            sent,
            preconditioned,
            rtol=self.rtol,
            max_steps=self.max_steps,
        )

    def token_loss(self, network: TemporalPC, tokens: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
        tokens, trajectory = infer_tokens(network, tokens, self.inference)
        values = tuple(group.requires_grad_() for group in trajectory.values)
        loss = next_token_loss(network.forecast(values), tokens[:, 1:])
        sent = torch.autograd.grad(loss, values, retain_graph=True)
        adjoint = self._adjoint(network, tokens, trajectory, sent)
        residual = every_token(network, tokens, trajectory).at(as_rows(trajectory.values)).residual
        constraint = sum((lam * g).sum() for lam, g in zip(as_rows(adjoint), residual, strict=True))
        return valued(loss, loss - constraint)

    @torch.no_grad()
    def _adjoint(self, network: TemporalPC, tokens: Tensor, trajectory: Trajectory, sent: State) -> State:
        weights = network.weights
        later = tuple(group[:, 0] for group in zeros_like(sent))
        adjoints = []
        for t in reversed(range(tokens.shape[1] - 1)):
            values, past, push = (
                tuple(group[:, t] for group in state) for state in (trajectory.values, trajectory.past, sent)
            )
            problem = network.problem(TokenClamp(tokens[:, t], past), weights)
            point = problem.at(values)
            metric = problem.gauss_newton(point)
            adjoint = conjugate_gradients(
                lambda x, problem=problem, point=point: problem.hessian_product(point, x),
                tuple(
                    v + D * (back @ R)
                    for v, D, back, R in zip(push, point.slopes, later, weights.recurrent, strict=True)
                ),
                lambda r, problem=problem, point=point, metric=metric: problem.push_forward(
                    point, metric.solve(problem.pull_back(point, r))
                ),
                rtol=self.rtol,
                max_steps=self.max_steps,
            )
            later = problem.past_product(point, adjoint)
            adjoints.append(adjoint)
        return tuple(torch.stack(groups[::-1], 1) for groups in zip(*adjoints, strict=True))
