"""Steps whose energy is written by hand: tokens below dense levels of tanh units."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pcnet.energies import Categorical, Gaussian
from pcnet.networks.activations import Tanh
from pcnet.networks.fast.token_problem import NudgedProblem, TokenPoint, TokenProblem, Weights
from pcnet.networks.graph.structure import Prediction
from pcnet.networks.layers import ActiveDense, Layer
from pcnet.networks.time.steps import StepClamp, Steps
from pcnet.typing import State


class TokenSteps(Steps):
    """`TokenProblem` at every step; the memory is the values of all levels.

    Args:
        sense: name of the token node.
        names: of the levels, from the senses upwards.
        predictions: of the tokens and of every level, in this order.
    """

    def __init__(self, sense: str, names: Sequence[str], predictions: Sequence[Prediction]) -> None:
        readout, *levels = predictions
        self.sense, self.names = sense, names
        self.energies = tuple(p.energy for p in levels)
        layers = [tuple(p.layers) for p in levels]
        read = readout.layers[0]
        self.weights = Weights(
            recurrent=tuple(own.weight for own, *_ in layers),
            biases=tuple(own.bias for own, *_ in layers),
            above=tuple(above.weight for _, above in layers[:-1]),
            precisions=tuple(energy.precision for energy in self.energies),
            readout=read.weight,
            readout_bias=read.bias,
        )

    def problem(self, clamped: StepClamp) -> TokenProblem:
        return TokenProblem(self.weights, self.weights.bases(clamped.past), clamped.sense)

    def sweep(self, problem: TokenProblem) -> State:
        return self.weights.sweep(problem.bases)

    def carried(self, values: State) -> State:
        return values

    def before(self, memory: State, expected: State) -> State:
        return memory

    def expected(self, memory: State) -> State:
        return self.weights.sweep(self.weights.bases(memory))

    def read(self, values: State, memory: State) -> Tensor:
        return self.weights.logits(values)

    def surprise(self, prediction: Tensor, sense: Tensor) -> Tensor:
        return functional.cross_entropy(prediction, sense)

    def mismatch(self, problem: TokenProblem, point: TokenPoint) -> Tensor:
        return sum(energy.cost(error).mean() for energy, error in zip(self.energies, point.errors, strict=True))

    def nudged(self, problem: TokenProblem, outcome: Tensor, strength: float) -> NudgedProblem:
        return NudgedProblem(problem, outcome, torch.full_like(problem.bases[0][:, 0], strength))

    def sent_back(self, problem: TokenProblem, point: TokenPoint, adjoint: State, earlier: TokenPoint) -> State:
        sent = zip(earlier.derivatives, problem.past_product(point, adjoint), self.weights.recurrent, strict=True)
        return tuple(D * (back @ R) for D, back, R in sent)

    def reading(self, problem: TokenProblem, values: State) -> dict[str, dict[str, Tensor]]:
        point = problem.at(values)
        law = self.weights.logits(self.sweep(problem)).softmax(-1)
        seen = {self.sense: {"prediction": law, "error": problem.observed - point.law}}
        for index, name in enumerate(self.names):
            prediction = point.values[index] - point.errors[index]
            seen[name] = {"value": point.values[index], "prediction": prediction, "error": point.errors[index]}
        return seen


def token_steps(predictions: Sequence[Prediction], carried: Mapping[str, str], sense: str) -> TokenSteps | None:
    """The program of a graph that has nothing but tokens and dense tanh levels that are all carried on; else none.

    Level l is predicted from its own past and, below the top, from level l+1; level 1 predicts the tokens.

    Args:
        predictions: of the graph, that of the tokens first, then those of the levels upwards.
        carried: name of the held node by the name of its level, in the order of the levels.
        sense: name of the token node.
    """
    names = list(carried)
    readout, *levels = predictions
    sources = [(carried[name], *names[index : index + 1]) for index, name in enumerate(names, 1)]
    fits = (
        [p.target for p in predictions] == [sense, *names]
        and [p.sources for p in predictions] == [(names[0],), *sources]
        and all(p.weight == 1 for p in predictions)
        and type(readout.energy) is Categorical
        and all(type(p.energy) is Gaussian for p in levels)
        and all(_sends_tanh(p.layers[0], bias=True) for p in predictions)
        and all(_sends_tanh(p.layers[1], bias=False) for p in levels[:-1])
    )
    return TokenSteps(sense, names, predictions) if fits else None


def _sends_tanh(layer: Layer, bias: bool) -> bool:
    """Whether a layer is W tanh(x), with or without a bias, and nothing scales it."""
    if type(layer) is not ActiveDense or type(layer.activation) is not Tanh:
        return False
    return layer.scaled(layer.weight) is layer.weight and (layer.bias is not None) == bias
