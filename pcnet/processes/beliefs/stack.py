"""Several small processes, the factors of a product, followed together in as many calls as one process takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from pcnet.processes.beliefs.scan import Fetched, Forward, forward
from pcnet.processes.models.hmm import GeneralizedHiddenMarkovModel, Process


@dataclass(frozen=True, eq=False)
class Stack:
    """Processes whose tokens are numbered one after the other, padded to the greatest number of states.

    Attributes:
        sizes: numbers of states.
        firsts: number of each process's first token.
        starts: beliefs before the first token, a column each.
        measure: right vectors, a column each; None if all are ones.
    """

    kernel: Fetched
    sizes: tuple[int, ...]
    firsts: tuple[int, ...]
    starts: Float[Tensor, "S F"]
    measure: Float[Tensor, "S F"] | None

    @classmethod
    def of(cls, processes: Sequence[Process], dtype: torch.dtype) -> "Stack":
        """Stack processes."""
        sizes = tuple(process.num_states for process in processes)
        missing = [max(sizes) - size for size in sizes]
        pairs = list(zip(processes, missing, strict=True))
        matrices = torch.cat([pad(process.transition_matrices, (0, n, 0, n)) for process, n in pairs])
        starts = torch.stack([pad(process.initial_distribution, (0, n)) for process, n in pairs], 1)
        rights = torch.stack([pad(process.right_vector, (0, n), value=1.0) for process, n in pairs], 1)
        counts = [process.vocab_size for process in processes]
        firsts = tuple(sum(counts[:f]) for f in range(len(counts)))
        plain = not any(isinstance(process, GeneralizedHiddenMarkovModel) for process in processes)
        return cls(Fetched(matrices.to(dtype)), sizes, firsts, starts.to(dtype), None if plain else rights.to(dtype))

    def forward(self, columns: Sequence[Int[Tensor, "L B"]]) -> list[Forward]:
        """Follow the tokens of each process; see `pcnet.processes.beliefs.scan.forward`."""
        batch = columns[0].shape[1]
        numbered = torch.cat([tokens + first for tokens, first in zip(columns, self.firsts, strict=True)], 1)
        measure = None if self.measure is None else self.measure.repeat_interleave(batch, 1)
        most = max(b - a for a, b in zip(self.firsts, (*self.firsts[1:], self.kernel.table.shape[1]), strict=True))
        found = forward(self.kernel, self.starts.repeat_interleave(batch, 1), measure, numbered, most)
        return [
            Forward(beliefs[:, :size], probabilities)
            for size, beliefs, probabilities in zip(
                self.sizes, found.beliefs.split(batch, 2), found.probabilities.split(batch, 1), strict=True
            )
        ]


_STACKS: WeakKeyDictionary[Process, dict[torch.dtype, Stack]] = WeakKeyDictionary()


def stacked(process: Process, factors: Sequence[Process], dtype: torch.dtype) -> Stack:
    """The factors of a process as a stack, made once."""
    made = _STACKS.setdefault(process, {})
    if dtype not in made:
        made[dtype] = Stack.of(factors, dtype)
    return made[dtype]
