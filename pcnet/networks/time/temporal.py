"""Temporal predictive coding on tokens: every value is predicted from its own past and from the level above."""

import re
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from pcnet.energies import Categorical, Gaussian
from pcnet.inference import GaussNewton, Inference
from pcnet.networks.activations import Tanh
from pcnet.networks.fast.token_problem import Weights
from pcnet.networks.graph.network import Node, PCGraph
from pcnet.networks.graph.structure import Prediction
from pcnet.networks.layers import ActiveDense
from pcnet.networks.time.network import TemporalNetwork
from pcnet.predictor import Predictor, check_sizes


class TemporalPC(TemporalNetwork, Predictor):
    """L levels of value nodes per token, relaxed at every token until the stopping rule holds.

        F_t = sum_l 1/2 eps_l^T Pi_l eps_l - 1/2 log|Pi_l| - log softmax(C tanh(x_1) + c)[token_t],
        eps_l = x_l - R_l tanh(x_l at t-1) - b_l - W_l tanh(x_(l+1)).

    A `TemporalNetwork` whose levels are all carried on. Sites: `layers.1.value|prediction|error` (level 1 is next to the
    senses), `layers.0.prediction` (law of the token before it is seen) and `layers.0.error` (token minus softmax at the
    equilibrium), `diagnostics.status|steps|residual`.

    Args:
        vocab_size: distinct tokens.
        width: value nodes per level.
        levels: number of levels.
        scale: weights start as normal noise of standard deviation scale / sqrt(fan-in).
        memory: recurrent weights start at scale * memory times the identity, plus the noise.
        learn_precision: whether each level learns its diagonal precision; otherwise it stays 1.
        inference: how values relax.
    """

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
        check_sizes(vocab_size=vocab_size, width=width, levels=levels)
        with torch.random.fork_rng(devices=[]):
            graph = _graph(vocab_size, width, levels, learn_precision)
        TemporalNetwork.__init__(self, graph, {str(n): _past(n) for n in range(1, levels + 1)}, "0", inference)
        self.vocab_size = vocab_size
        self.width = width
        self._initialise(scale, memory)
        self.register_load_state_dict_pre_hook(_rename)

    @torch.no_grad()
    def _initialise(self, scale: float, memory: float) -> None:
        self._draw_as_ever()
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                parameter.normal_(0.0, scale / parameter.shape[1] ** 0.5)
            elif name.endswith("bias"):
                parameter.zero_()
        for level in self.levels:
            level.layers[0].weight.diagonal().add_(scale * memory)

    def _draw_as_ever(self) -> None:
        """Draw the numbers that `nn.Linear` drew here in the first version, so that a seed still gives the same weights."""
        for _ in self.levels[:-1]:
            nn.Linear(self.width, self.width), nn.Linear(self.width, self.width, bias=False)
        nn.Linear(self.width, self.width), nn.Linear(self.width, self.vocab_size)

    @property
    def levels(self) -> list[Prediction]:
        """What predicts each level, from its own past and from the level above: from the one next to the senses to the top."""
        return list(self.predictions)[1:]

    @property
    def weights(self) -> Weights:
        """All weights by what they do."""
        return self.steps().weights

    def check(self, senses: Int[Tensor, "B L"]) -> None:
        self.check_tokens(senses)

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


def _past(level: int) -> str:
    return f"past {level}"


def _graph(vocab_size: int, width: int, levels: int, learn_precision: bool) -> PCGraph:
    """Tokens "0", levels "1" .. "L", and "past 1" .. "past L"."""
    numbers = range(1, levels + 1)
    nodes = [Node("0", vocab_size)]
    nodes += [Node(name, width) for level in numbers for name in (str(level), _past(level))]
    predictions = [Prediction("0", [("1", ActiveDense(width, vocab_size, Tanh()))], Categorical())]
    for level in numbers:
        terms = [(_past(level), ActiveDense(width, width, Tanh()))]
        if level < levels:
            terms.append((str(level + 1), ActiveDense(width, width, Tanh(), bias=False)))
        predictions.append(Prediction(str(level), terms, Gaussian(width, learn_precision)))
    return PCGraph(nodes, predictions, inputs="0", outputs="1")


RENAMED = (
    (r"layers\.0\.readout\.(\w+)", r"predictions.0.layers.0.\1"),
    (r"layers\.(\d+)\.recurrent\.(\w+)", r"predictions.\1.layers.0.\2"),
    (r"layers\.(\d+)\.above\.(\w+)", r"predictions.\1.layers.1.\2"),
    (r"layers\.(\d+)\.energy\.(\w+)", r"predictions.\1.energy.\2"),
)
"""What checkpoints of the first version call their tensors, and what these are called now."""


def _rename(network: TemporalPC, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name in list(state):
        for before, now in RENAMED:
            if found := re.fullmatch(re.escape(prefix) + before, name):
                state[prefix + found.expand(now)] = state.pop(name)
