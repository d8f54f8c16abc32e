"""Places where a model's state can be read, replaced and run on from."""

import abc
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pcnet.baselines import Transformer
from pcnet.baselines.recurrent import Recurrent
from pcnet.inference import CurvedProblem, Inference, NewtonCG, Status
from pcnet.networks import TemporalPC
from pcnet.networks.fast.token_problem import TokenPoint, TokenProblem
from pcnet.networks.time.steps import StepClamp
from pcnet.predictor import Predictor
from pcnet.typing import State


class NotSettledError(ValueError):
    """Raised where values don't reach equilibrium around what is held, so there is no state to go on from.

    Args:
        status: how the relaxation of each row ended, a `pcnet.inference.Status`.

    Attributes:
        settled: which rows did.
    """

    def __init__(self, status: Int[Tensor, " B"]) -> None:
        self.settled: Bool[Tensor, " B"] = status == Status.CONVERGED
        missed, diverged = int((~self.settled).sum()), int((status == Status.DIVERGED).sum())
        which = f" ({diverged} of them diverged)" if diverged else ""
        super().__init__(
            f"relaxation: {missed} of {len(self.settled)} rows did not reach equilibrium{which}; "
            "raise max_steps or take another solver"
        )


@dataclass(frozen=True)
class Moment:
    """A model right after a token.

    Attributes:
        past: what it remembered before that token.
        tokens: the token.
        memory: what it remembers now.
        logits: for the next token.
        values: what the place holds.
    """

    past: State
    tokens: Int[Tensor, " B"]
    memory: State
    logits: Float[Tensor, "B V"]
    values: Float[Tensor, "B D"]

    def rows(self, index: Int[Tensor, " R"]) -> "Moment":
        """These rows, in this order."""
        past, memory = (tuple(part[index] for part in state) for state in (self.past, self.memory))
        return Moment(past, self.tokens[index], memory, self.logits[index], self.values[index])


class Place(abc.ABC):
    """Somewhere in a model that holds a vector after every token, and can be made to hold another."""

    def __init__(self, model: Predictor) -> None:
        self.model = model

    @abc.abstractmethod
    def advance(self, memory: State, tokens: Int[Tensor, " B"]) -> Moment:
        """One token further."""

    @abc.abstractmethod
    def put(self, moment: Moment, values: Float[Tensor, "B D"]) -> Moment:
        """The same moment with these values in the place, and everything that depends on them made anew."""

    @torch.no_grad()
    def read(self, tokens: Int[Tensor, "B L"]) -> Moment:
        """The moment after these words, which have one length, at least 1."""
        self._check(tokens)
        return self._read(tokens)

    @abc.abstractmethod
    def _read(self, tokens: Int[Tensor, "B L"]) -> Moment: ...

    def _walk(self, tokens: Int[Tensor, "B L"]) -> Moment:
        """Token by token."""
        memory = self.model.start(len(tokens))
        for column in tokens.unbind(1):
            moment = self.advance(memory, column)
            memory = moment.memory
        return moment

    def _check(self, tokens: Int[Tensor, "B L"]) -> None:
        self.model.check_tokens(tokens)
        if tokens.shape[1] == 0:
            raise ValueError("tokens: the words are empty; a state is read after at least one token")


class Carried(Place, abc.ABC):
    """All that a model carries from one token to the next, side by side."""

    def _read(self, tokens: Int[Tensor, "B L"]) -> Moment:
        return self._walk(tokens)

    def advance(self, memory: State, tokens: Int[Tensor, " B"]) -> Moment:
        logits, after = self.model.step(memory, tokens)
        return Moment(memory, tokens, after, logits, torch.cat(after, -1))

    def put(self, moment: Moment, values: Float[Tensor, "B D"]) -> Moment:
        memory = values.split(self.model.width, -1)
        return replace(moment, memory=memory, logits=self._logits(memory), values=values)

    @abc.abstractmethod
    def _logits(self, memory: State) -> Float[Tensor, "B V"]:
        """What the model says of the next token."""


class HiddenUnits(Carried):
    """Everything that a recurrent network carries: the hidden units of all its layers (and an LSTM's cell states)."""

    def __init__(self, model: Recurrent) -> None:
        super().__init__(model)

    def _logits(self, memory: State) -> Float[Tensor, "B V"]:
        return self.model.readout(memory[-self.model.parts])


class ResidualStream(Place):
    """The residual stream after a block of a transformer, at the position of the last token.

    Values that are put there are what later blocks read at this position, now and (through their cached keys and values)
    at all positions to come. Keys and values of this block and earlier ones stay what the tokens made them.
    """

    def __init__(self, model: Transformer, block: int) -> None:
        super().__init__(model)
        if not 0 <= block < len(model.blocks):
            raise ValueError(f"block={block}: the transformer has blocks 0..{len(model.blocks) - 1}")
        self.site = model.blocks[block].resid_post

    def _read(self, tokens: Int[Tensor, "B L"]) -> Moment:
        return self._walk(tokens)

    def advance(self, memory: State, tokens: Int[Tensor, " B"]) -> Moment:
        seen: list[Tensor] = []
        handle = self.site.register_forward_hook(lambda module, inputs, output: seen.append(output))
        try:
            logits, after = self.model.step(memory, tokens)
        finally:
            handle.remove()
        return Moment(memory, tokens, after, logits, seen[0].squeeze(1))

    def put(self, moment: Moment, values: Float[Tensor, "B D"]) -> Moment:
        handle = self.site.register_forward_hook(lambda module, inputs, output: values.unsqueeze(1))
        try:
            logits, memory = self.model.step(moment.past, moment.tokens)
        finally:
            handle.remove()
        return replace(moment, memory=memory, logits=logits, values=values)


class ResidualHistory(Place):
    """All that a transformer has made of a word up to a block: the residual stream after it at every position, and the
    keys and values of this block and earlier ones that tokens to come will read.

    Later blocks are run anew on the residual stream that is put there, so that nothing which depends on it stays what it
    was. The width grows with the word: only words of one length can be compared.
    """

    def __init__(self, model: Transformer, block: int) -> None:
        super().__init__(model)
        if not 0 <= block < len(model.blocks):
            raise ValueError(f"block={block}: the transformer has blocks 0..{len(model.blocks) - 1}")
        self.block = block

    def _read(self, tokens: Int[Tensor, "B L"]) -> Moment:
        stream, memory = self._early(tokens)
        logits, late = self._late(stream)
        values = torch.cat([part.flatten(1) for part in (stream, *memory)], -1)
        return Moment((), tokens[:, -1], memory + late, logits, values)

    def advance(self, memory: State, tokens: Int[Tensor, " B"]) -> Moment:
        """Reads on; the place of the longer word is not made, for its values have another width."""
        logits, after = self.model.step(memory, tokens)
        return Moment(memory, tokens, after, logits, logits.new_empty(len(tokens), 0))

    def put(self, moment: Moment, values: Float[Tensor, "B D"]) -> Moment:
        early = moment.memory[: 2 * (self.block + 1)]
        length, width = early[0].shape[1], self.model.readout.in_features
        sizes = [length * width, *(part[0].numel() for part in early)]
        stream, *memory = values.split(sizes, -1)
        logits, late = self._late(stream.unflatten(1, (length, width)))
        kept = tuple(part.reshape(like.shape) for part, like in zip(memory, early, strict=True))
        return replace(moment, memory=kept + late, logits=logits, values=values)

    def _early(self, tokens: Int[Tensor, "B L"]) -> tuple[Float[Tensor, "B L W"], State]:
        """The stream after the block, and the keys and values up to it."""
        x = self.model.embedding(tokens) + self.model.positions.weight[: tokens.shape[1]]
        return self._run(x, self.model.blocks[: self.block + 1])

    def _late(self, stream: Float[Tensor, "B L W"]) -> tuple[Float[Tensor, "B V"], State]:
        x, memory = self._run(stream, self.model.blocks[self.block + 1 :])
        return self.model.readout(self.model.norm(x[:, -1])), memory

    def _run(self, x: Float[Tensor, "B L W"], blocks: nn.ModuleList) -> tuple[Float[Tensor, "B L W"], State]:
        caches: list[Tensor] = []
        empty = self.model.start(len(x))[0]
        for block in blocks:
            x, *cache = block(x, empty, empty)
            caches += cache
        return x, tuple(caches)


class AllValues(Carried):
    """The values of all levels of a temporal predictive-coding network at the equilibrium of the last token."""

    def __init__(self, model: TemporalPC) -> None:
        super().__init__(model)

    def _logits(self, memory: State) -> Float[Tensor, "B V"]:
        return self.model.forecast(memory)


class ClampedLevel(Place):
    """The values of one level of a temporal predictive-coding network; the other levels relax again when it is held.

    Past and token stay clamped as they were, so the others settle between what these say and what the held level says.

    Args:
        model: the network.
        level: held, from 1 next to the senses.
        relaxation: of the others. By default Newton's method in a trust region: it starts from the values that the others
            had, and settles where descent with a fixed step oscillates, as it does around levels held far from any history.
    """

    def __init__(self, model: TemporalPC, level: int, relaxation: Inference | None = None) -> None:
        super().__init__(model)
        if not 1 <= level <= len(model.levels):
            raise ValueError(f"level={level}: the network has levels 1..{len(model.levels)}")
        self.level = level
        self.relaxation = relaxation or Inference(NewtonCG(), atol=1e-5, max_steps=300)

    def _read(self, tokens: Int[Tensor, "B L"]) -> Moment:
        return self._walk(tokens)

    def advance(self, memory: State, tokens: Int[Tensor, " B"]) -> Moment:
        logits, after = self.model.step(memory, tokens)
        return Moment(memory, tokens, after, logits, after[self.level - 1])

    def put(self, moment: Moment, values: Float[Tensor, "B D"]) -> Moment:
        problem = HeldLevel(self.model.problem(StepClamp(moment.tokens, moment.past)), self.level)
        start = tuple(values if n == self.level else part for n, part in enumerate(moment.memory, 1))
        with torch.no_grad():
            solution = self.relaxation.run(problem, start)
        if not bool((solution.status == Status.CONVERGED).all()):
            raise NotSettledError(solution.status)
        memory = solution.values
        return replace(moment, memory=memory, logits=self.model.forecast(memory), values=values)


class HeldLevel(CurvedProblem):
    """The energy of a token with one level clamped, whose residual the solver sees as zero."""

    def __init__(self, problem: TokenProblem, level: int) -> None:
        self.problem, self.level = problem, level
        self.names, self.widths = problem.names, problem.widths

    def rows(self, index: Int[Tensor, " R"]) -> "HeldLevel":
        return HeldLevel(self.problem.rows(index), self.level)

    def at(self, x: State) -> TokenPoint:
        point = self.problem.at(x)
        return replace(point, residual=self._free(point.residual))

    def hessian_product(self, point: TokenPoint, direction: State) -> State:
        return self._free(self.problem.hessian_product(point, self._free(direction)))

    def _free(self, state: State) -> State:
        """Nothing where the level is held."""
        return tuple(torch.zeros_like(part) if n == self.level else part for n, part in enumerate(state, 1))
