"""Temporal predictive coding on tokens: every value is predicted from its own past and from the level above."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from pcnet.energies import Gaussian
from pcnet.inference import GaussNewton, Inference, Solution
from pcnet.networks.base import PCNetwork
from pcnet.networks.fast.token_problem import TokenProblem, Weights
from pcnet.predictor import Predictor, check_sizes
from pcnet.sites import Site
from pcnet.typing import State


class TokenClamp(NamedTuple):
    """What is held while one token is inferred: the token, and the values of the token before."""

    tokens: Int[Tensor, " B"]
    past: State


@dataclass(frozen=True)
class Trajectory:
    """The values of whole sequences, every token at its own equilibrium.

    Attributes:
        values: per level (B, L, D).
        past: the same one token earlier, zeros before the first.
        status: a `pcnet.inference.Status` per token problem.
        steps: solver steps per token problem.
    """

    values: State
    past: State
    status: Int[Tensor, "B L"]
    steps: Int[Tensor, "B L"]

    def rows(self, chosen: Tensor) -> "Trajectory":
        """The chosen sequences only."""
        values, past = (tuple(group[chosen] for group in state) for state in (self.values, self.past))
        return Trajectory(values, past, self.status[chosen], self.steps[chosen])


class Senses(nn.Module):
    """Layer 0: the token, predicted from the first level through C tanh(x_1) + c."""

    def __init__(self, width: int, vocab_size: int) -> None:
        super().__init__()
        self.readout = nn.Linear(width, vocab_size)
        self.prediction = Site()
        self.error = Site()


class Level(nn.Module):
    """Value nodes of one level, with the weights that predict them: R from their own past, W from the level above."""

    def __init__(self, width: int, above: int | None, learn_precision: bool) -> None:
        super().__init__()
        self.recurrent = nn.Linear(width, width)
        self.above = None if above is None else nn.Linear(above, width, bias=False)
        self.energy = Gaussian(width, learn_precision)
        self.value = Site()
        self.prediction = Site()
        self.error = Site()


class TemporalPC(Predictor, PCNetwork):
    """L levels of value nodes per token, relaxed at every token until the stopping rule holds.

        F_t = sum_l 1/2 eps_l^T Pi_l eps_l - 1/2 log|Pi_l| - log softmax(C tanh(x_1) + c)[token_t],
        eps_l = x_l - R_l tanh(x_l at t-1) - b_l - W_l tanh(x_(l+1)).

    The prediction of token t+1 is read from the values at zero error given x_t, before the token is seen, so the model is
    causal by construction. Each x_t minimises its own F_t with the past held: filtering, which is not the minimum of one
    energy over all time.

    Sites: `layers.1.value|prediction|error` (level 1 is next to the senses), `layers.0.prediction` (law of the token
    before it is seen) and `layers.0.error` (token minus softmax at the equilibrium), `diagnostics.status|steps|residual`.

    Args:
        vocab_size: distinct tokens.
        width: value nodes per level.
        levels: number of levels.
        scale: weights start as normal noise of standard deviation scale / sqrt(fan-in).
        memory: recurrent weights start at scale * memory times the identity, plus the noise.
        learn_precision: whether each level learns its diagonal precision; otherwise it stays 1.
        inference: how values relax.
    """

    diagnostic_sites = ("diagnostics.*",)

    def __init__(
        self,
        vocab_size: int,
        width: int = 64,
        levels: int = 2,
        scale: float = 0.5,
        memory: float = 0.0,
        learn_precision: bool = False,
        inference: Inference | None = None,
    ) -> None:
        super().__init__(vocab_size)
        check_sizes(width=width, levels=levels)
        self.width = width
        self.inference = inference or Inference()
        stack = [Level(width, width if level < levels else None, learn_precision) for level in range(1, levels + 1)]
        self.layers = nn.ModuleList([Senses(width, vocab_size), *stack])
        self.diagnostics = nn.ModuleDict({name: Site() for name in ("status", "steps", "residual")})
        self._initialise(scale, memory)

    @torch.no_grad()
    def _initialise(self, scale: float, memory: float) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                parameter.normal_(0.0, scale / parameter.shape[1] ** 0.5)
            elif name.endswith("bias"):
                parameter.zero_()
        for level in self.layers[1:]:
            level.recurrent.weight.diagonal().add_(scale * memory)

    @property
    def levels(self) -> list[Level]:
        """From the one next to the senses to the top."""
        return list(self.layers[1:])

    @property
    def weights(self) -> Weights:
        levels = self.levels
        return Weights(
            recurrent=tuple(level.recurrent.weight for level in levels),
            biases=tuple(level.recurrent.bias for level in levels),
            above=tuple(level.above.weight for level in levels[:-1]),
            precisions=tuple(level.energy.precision for level in levels),
            readout=self.layers[0].readout.weight,
            readout_bias=self.layers[0].readout.bias,
        )

    def problem(self, clamped: TokenClamp, weights: Weights | None = None) -> TokenProblem:
        """The energy of one token; pass `weights` where many tokens share them, to gather them once."""
        weights = weights or self.weights
        return TokenProblem(weights, weights.bases(clamped.past), clamped.tokens)

    def initial_values(self, clamped: TokenClamp) -> State:
        weights = self.weights
        return self.inference.initial(weights.settle(weights.bases(clamped.past)), clamped.past)

    def forecast(self, values: State) -> Float[Tensor, "*B V"]:
        """Logits for the next token after these values: read at zero error, before the token is seen."""
        weights = self.weights
        return weights.logits(weights.settle(weights.bases(values)))

    def start(self, batch_size: int) -> State:
        reference = self.layers[0].readout.weight
        return tuple(reference.new_zeros(batch_size, self.width) for _ in self.levels)

    @torch.no_grad()
    def step(self, memory: State, tokens: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B V"], State]:
        problem = self.problem(TokenClamp(tokens, memory))
        solution = self._relax(problem, memory, self.inference)
        self._show(solution, problem)
        return self.forecast(solution.values), solution.values

    def forward(self, tokens: Int[Tensor, "B L"]) -> Float[Tensor, "B L V"]:
        """Logits for the next token, every token inferred to its equilibrium; not differentiable (see `pcnet.learning`)."""
        self.check_tokens(tokens)
        memory, logits = self.start(tokens.shape[0]), []
        for token in tokens.unbind(1):
            current, memory = self.step(memory, token)
            logits.append(current)
        return torch.stack(logits, dim=1)

    @torch.no_grad()
    def infer(self, tokens: Int[Tensor, "B L"], inference: Inference | None = None) -> Trajectory:
        """The values of every token at its equilibrium."""
        past, weights = self.start(tokens.shape[0]), self.weights
        solutions = []
        for token in tokens.unbind(1):
            solution = self._relax(self.problem(TokenClamp(token, past), weights), past, inference or self.inference)
            past = solution.values
            solutions.append(solution)
        values = tuple(torch.stack(groups, 1) for groups in zip(*(s.values for s in solutions), strict=True))
        earlier = tuple(functional.pad(group, (0, 0, 1, 0))[:, :-1] for group in values)
        status, steps = torch.stack([s.status for s in solutions], 1), torch.stack([s.steps for s in solutions], 1)
        self.diagnostics["status"](status.unsqueeze(-1))
        self.diagnostics["steps"](steps.unsqueeze(-1))
        return Trajectory(values, earlier, status, steps)

    def _relax(self, problem: TokenProblem, past: State, inference: Inference) -> Solution:
        initial = inference.initial(problem.weights.settle(problem.bases), past)
        return inference.run(problem, initial, self.recorded)

    def _show(self, solution: Solution, problem: TokenProblem) -> None:
        """Pass one token's inference through the sites that are watched, each (B, 1, D), or (B, 1, K, D) while recording."""
        if not self.watched:
            return
        points = [problem.at(values) for values in self.shown(solution)]

        def show(site: Site, groups: list[Tensor]) -> None:
            site(torch.stack(groups, 1).unsqueeze(1) if self.recorded else groups[0].unsqueeze(1))

        for index, level in enumerate(self.levels):
            show(level.value, [point.values[index] for point in points])
            show(level.error, [point.errors[index] for point in points])
            show(level.prediction, [point.values[index] - point.errors[index] for point in points])
        show(self.layers[0].error, [problem.observed - point.law for point in points])
        expected = problem.weights.logits(problem.weights.settle(problem.bases)).softmax(-1)
        show(self.layers[0].prediction, [expected] * len(points))
        self.diagnostics["status"](solution.status[:, None, None])
        self.diagnostics["steps"](solution.steps[:, None, None])
        self.diagnostics["residual"](solution.residual.unsqueeze(1))

    def flops(self, length: int, iterations: float) -> float:
        """Of what one sequence alone executes; sites that are only looked at are left out.

        A token costs its expectation (own past, then down the levels) twice, to infer from and to forecast; one evaluation
        more than iterations; and for every step of Gauss-Newton the gradient in errors, the V x V metric and its solution.
        Included: the products of `LowRankMetric.solve`, which are written elementwise.
        """
        levels, D, V = len(self.levels), self.width, self.vocab_size
        down, read = 2 * D * D * (levels - 1), 2 * V * D  # through every W once; through C once
        expectation = 2 * D * D * levels + down
        inference = expectation + (iterations + 1) * 2 * (down + read)  # predictions down, errors up
        if isinstance(self.inference.solver, GaussNewton):
            metric = read + V * down + levels * V * read  # centred read-out, G, and G G^T
            solution = 2 * levels * read + 2 * V**3 / 3 + 2 * V**2  # G g, the system, G^T w
            inference += down + iterations * (down + metric + solution)  # `down`: initial errors; gradient in errors
        return length * (inference + expectation + read)

    def sequential_depth(self, length: int, iterations: float) -> float:
        """Links of the longest chain, the decision to stop included: nothing later starts before the residual is known.

        From the past: own past 1, down the levels L-1, read-out 1, its error back 1. From then on an iteration is, on the
        values, errors 1 and their way back 1; in Gauss-Newton law @ C 1, G up the levels L-1, G G^T 1, the system 1,
        G^T w 1, and the evaluation down the levels L-1, read-out 1, error back 1. The last forecast: L+1 once more.
        Exact for values that start at the expectation; other starts are no deeper.
        """
        levels = len(self.levels)
        iteration = 2 * levels + 4 if isinstance(self.inference.solver, GaussNewton) else 2
        return length * (levels + 2 + iterations * iteration) + levels + 1
