"""A model that holds the exact belief in known directions and predicts from it: the right answer to every intervention."""

import torch

from pcnet.predictor import Predictor
from pcnet.probing import Moment, Place
from pcnet.processes import words

WIDTH = 6


class Observer(Predictor):
    """An ideal observer that holds its belief as basis @ belief, beside the last token in other directions."""

    def __init__(self, process, basis):
        super().__init__(process.vocab_size)
        self.process, self.basis, self.reader = process, basis, torch.linalg.pinv(basis)

    def start(self, batch_size):
        return ((self.process.initial_distribution @ self.basis.T).expand(batch_size, -1),)

    def belief(self, state):
        return state @ self.reader.T

    def forecast(self, state):
        return (self.belief(state) @ self.process.emission_matrix).clamp(min=1e-300).log()

    def step(self, memory, tokens):
        after, _ = self.process.advance(self.belief(memory[0]), tokens)
        after = torch.nan_to_num(after, nan=1 / self.process.num_states)
        state = after @ self.basis.T
        return self.forecast(state), (state,)

    def forward(self, tokens):
        raise NotImplementedError

    def flops(self, length, iterations):
        return 0.0

    def sequential_depth(self, length, iterations):
        return 0.0


class ObserverState(Place):
    """What the observer carries."""

    def advance(self, memory, tokens):
        logits, after = self.model.step(memory, tokens)
        return Moment(memory, tokens, after, logits, after[0])

    def put(self, moment, values):
        return Moment(moment.past, moment.tokens, (values,), self.model.forecast(values), values)

    def _read(self, tokens):
        return self._walk(tokens)


def observer(process, seed=0):
    """Its place, the words of length 5, and their beliefs."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(WIDTH, process.num_states, generator=generator, dtype=torch.float64)
    level = words(process, 5).levels[-1]
    return ObserverState(Observer(process, basis)), level
