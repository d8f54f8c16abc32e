"""Learning rules: what a network's weights do about one batch of tokens.

A rule returns a scalar whose *value* is the loss that every model is judged by (mean surprise at the next token, in nats)
and whose *backward* is the rule's update. So optimisers, clipping, schedulers and checkpoints work as usual, and curves of
different rules can be laid over each other.

The rules differ in objective. `Implicit` and `Unrolled` descend the next-token loss through the equilibrium and through
time. `Nudged` does so within one token only. `Local` descends the energy of the observed sequence: every weight sees its
own prediction error and presynaptic activity, nothing else.
"""

import abc
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from pcnet.inference import Euler, Inference, Solution, Solver, Status, conjugate_gradients, unroll
from pcnet.inference.equilibrium import zeros_like
from pcnet.networks.temporal import TemporalPC, TokenClamp, Trajectory
from pcnet.networks.token_problem import NudgedProblem, TokenProblem
from pcnet.predictor import Predictor, check_sizes
from pcnet.typing import State


class LearningRule(abc.ABC):
    """A loss whose value is the next-token loss and whose backward is the rule's update."""

    @abc.abstractmethod
    def loss(self, predictor: Predictor, tokens: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
        """Mean surprise at tokens 1..L-1 given those before, in nats.

        Raises:
            TypeError: the rule is not for this kind of predictor.
        """


@dataclass(frozen=True)
class Backprop(LearningRule):
    """The gradient of the next-token loss by reverse-mode differentiation, for models whose `forward` is differentiable."""

    def loss(self, predictor: Predictor, tokens: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
        _check_kind(self, not isinstance(predictor, TemporalPC), predictor)
        return next_token_loss(predictor(tokens[:, :-1]), tokens[:, 1:])


@dataclass(frozen=True)
class Implicit(LearningRule):
    """The exact gradient of the next-token loss through every equilibrium and back through time.

    With g_t(x_t, x_(t-1)) = dF_t/dx_t = 0 at every token, the adjoint runs backwards in time,

        H_t lam_t = dloss/dx_t - (dg_(t+1)/dx_t)^T lam_(t+1),      dloss/dtheta = partial - sum_t lam_t^T dg_t/dtheta,

    each system solved by conjugate gradients with the Gauss-Newton inverse as preconditioner. Memory does not grow with the
    number of inference iterations. Costs about as much again as the inference.

    Args:
        rtol: relative tolerance of the linear systems.
        max_steps: conjugate-gradient steps per token at most.
        inference: how values relax while training; None is the network's own way.
    """

    rtol: float = 1e-3
    max_steps: int = 50
    inference: Inference | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rtol < 1:
            raise ValueError(f"rtol must be in [0, 1), got {self.rtol}")
        check_sizes(max_steps=self.max_steps)

    def loss(self, predictor: TemporalPC, tokens: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
        _check_kind(self, isinstance(predictor, TemporalPC), predictor)
        tokens, trajectory = _infer(predictor, tokens, self.inference)
        values = tuple(group.requires_grad_() for group in trajectory.values)
        loss = next_token_loss(predictor.forecast(values), tokens[:, 1:])
        sent = torch.autograd.grad(loss, values, retain_graph=True)
        adjoint = self._adjoint(predictor, tokens, trajectory, sent)
        residual = _all_tokens(predictor, tokens, trajectory).at(_rows(trajectory.values)).residual
        constraint = sum((lam * g).sum() for lam, g in zip(_rows(adjoint), residual, strict=True))
        return _valued(loss, loss - constraint)

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


@dataclass(frozen=True)
class Unrolled(LearningRule):
    """The gradient of the next-token loss through a fixed number of solver steps per token and back through time.

    The check on `Implicit`: equal to it when the steps converge (8 truncated steps differ by 60-100 %). Memory grows with
    the number of steps.

    Args:
        steps: solver steps per token.
        solver: a differentiable solver.
    """

    steps: int = 8
    solver: Solver = field(default_factory=Euler)

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps must be at least 0, got {self.steps}")

    def loss(self, predictor: TemporalPC, tokens: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
        _check_kind(self, isinstance(predictor, TemporalPC), predictor)
        past, logits = predictor.start(tokens.shape[0]), []
        for token in tokens[:, :-1].unbind(1):
            clamped = TokenClamp(token, past)
            past = unroll(predictor.problem(clamped), predictor.initial_values(clamped), self.solver, steps=self.steps)
            logits.append(predictor.forecast(past))
        return next_token_loss(torch.stack(logits, 1), tokens[:, 1:])


@dataclass(frozen=True)
class Local(LearningRule):
    """Each weight changes by its own prediction error and its presynaptic activity.

        dR_l = Pi_l eps_l a_l(t-1)^T,  dW_l = Pi_l eps_l a_(l+1)^T,  dC = (token - softmax) a_1^T,

    the gradient of the energy at fixed values (envelope theorem): no derivative through time, through inference or through
    other levels. Precisions descend -1/2 log|Pi| with it. Nothing in it asks that values remember what later tokens need.

    Args:
        readout_on_expectation: whether C learns from its error at the next token, before inference (the prediction that
            is scored), instead of its error at the equilibrium, where inference has already explained most of the token
            away. On Mess3 this decides whether the rule predicts at all (excess .0105 against .137 nats).
        inference: how values relax while training; None is the network's own way.
    """

    readout_on_expectation: bool = True
    inference: Inference | None = None

    def loss(self, predictor: TemporalPC, tokens: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
        _check_kind(self, isinstance(predictor, TemporalPC), predictor)
        tokens, trajectory = _infer(predictor, tokens, self.inference)
        weights = predictor.weights
        with torch.no_grad():
            expected = weights.settle(weights.bases(trajectory.values))
        surprise = next_token_loss(weights.logits(expected), tokens[:, 1:])
        point = _all_tokens(predictor, tokens, trajectory).at(_rows(trajectory.values))
        if not self.readout_on_expectation:
            return _valued(surprise, point.energy.mean())
        mismatch = sum(level.energy(error).mean() for level, error in zip(predictor.levels, point.errors, strict=True))
        return _valued(surprise, mismatch + surprise)


@dataclass(frozen=True)
class Nudged(LearningRule):
    """The difference of the energy's weight gradients between two equilibria, the next prediction nudged by +beta and -beta.

        F_beta = F_t + beta * surprise at token t+1,      update = [dF_beta/dtheta(x at +beta) - dF_-beta/dtheta(x at -beta)] / (2 beta)

    Local in time: the values of the token before are held. For small beta this is the gradient of the next-token loss
    carried through the equilibrium of the same token only (centred equilibrium propagation, Laborieux et al. 2021). All
    tokens and both signs are relaxed in one batch, from the free equilibria.

    Args:
        beta: strength of the nudge. The centred difference errs by a term in beta squared: on a trained Mess3 network
            15, 4.0, 1.0 and .16 % of the gradient at .2, .1, .05 and .02.
        nudged: how values relax under the nudge; tokens that diverge either way are left out of the update. A
            difference over 2 beta asks for a tight tolerance: 1e-4 adds up to 10 % of noise to the recurrent weights'
            gradients, and their norms then grow until inference is hard.
        inference: how values relax while training; None is the network's own way.
    """

    beta: float = 0.05
    nudged: Inference = field(default_factory=lambda: Inference(atol=1e-5, max_steps=20))
    inference: Inference | None = None

    def __post_init__(self) -> None:
        if not 0 < self.beta < float("inf"):
            raise ValueError(f"beta must be a finite number > 0, got {self.beta}")

    def loss(self, predictor: TemporalPC, tokens: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
        _check_kind(self, isinstance(predictor, TemporalPC), predictor)
        tokens, trajectory = _infer(predictor, tokens, self.inference)
        with torch.no_grad():
            loss = next_token_loss(predictor.forecast(trajectory.values), tokens[:, 1:])
        free, past = _rows(trajectory.values), _rows(trajectory.past)
        now, later = tokens[:, :-1].flatten(), tokens[:, 1:].flatten()
        nudge = torch.full_like(free[0][:, 0], self.beta)
        pulled, pushed = (self._relaxed(predictor, now, past, later, sign * nudge, free) for sign in (1, -1))
        good = ((pulled.status != Status.DIVERGED) & (pushed.status != Status.DIVERGED)).nonzero().squeeze(-1)
        clamp = TokenClamp(now[good], tuple(group[good] for group in past))
        energies = [
            NudgedProblem(predictor.problem(clamp), later[good], sign * nudge[good])
            .at(tuple(group[good] for group in solution.values))
            .energy.sum()
            for sign, solution in ((1, pulled), (-1, pushed))
        ]
        return _valued(loss, (energies[0] - energies[1]) / (2 * self.beta * len(now)))

    @torch.no_grad()
    def _relaxed(
        self, network: TemporalPC, now: Tensor, past: State, later: Tensor, nudge: Tensor, free: State
    ) -> Solution:
        """The equilibria of all tokens under a nudge, from the free ones."""
        return self.nudged.run(NudgedProblem(network.problem(TokenClamp(now, past)), later, nudge), free)


def next_token_loss(logits: Float[Tensor, "B L V"], targets: Int[Tensor, "B L"]) -> Float[Tensor, ""]:
    """Mean surprise, in nats."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _valued(value: Tensor, gradient_of: Tensor) -> Tensor:
    """A scalar with the value of one and the gradient of the other."""
    return value.detach() + gradient_of - gradient_of.detach()


def _infer(network: TemporalPC, tokens: Tensor, inference: Inference | None) -> tuple[Tensor, Trajectory]:
    """Equilibria of all tokens but the last; sequences in which inference diverged are left out of the update."""
    trajectory = network.infer(tokens[:, :-1], inference)
    good = (trajectory.status != Status.DIVERGED).all(-1)
    if good.all():
        return tokens, trajectory
    if not good.any():
        raise FloatingPointError("inference diverged in every sequence of the batch; lower the step size or the gain")
    return tokens[good], trajectory.rows(good)


def _rows(state: State) -> State:
    """Every token a row."""
    return tuple(group.detach().flatten(0, 1) for group in state)


def _all_tokens(network: TemporalPC, tokens: Tensor, trajectory: Trajectory) -> TokenProblem:
    return network.problem(TokenClamp(tokens[:, :-1].flatten(), _rows(trajectory.past)))


def _check_kind(rule: LearningRule, fits: bool, predictor: Predictor) -> None:
    if not fits:
        raise TypeError(f"the rule {type(rule).__name__} is not for a {type(predictor).__name__}")
