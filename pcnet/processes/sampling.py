"""Samples of a process."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.processes.hmm import HiddenMarkovModel, require_at_least


def sample(
    process: HiddenMarkovModel, num_sequences: int, length: int, generator: torch.Generator
) -> Int[Tensor, "B L"]:
    """Draw independent token sequences, each started from its initial law.

    One uniform number decides a token and the next state together, by inverting the cumulative law over the *possible*
    outcomes of the state; no rounding can produce an impossible one. Costs one table look-up per token, all sequences
    at once.

    Args:
        process: what to sample from.
        num_sequences: B >= 1.
        length: L >= 1.
        generator: source of every draw, on the CPU; equal seeds give equal sequences.

    Returns:
        int64 tokens in ``0..V-1``.

    Raises:
        TypeError: if a size isn't an integer or ``generator`` isn't a `torch.Generator`.
        ValueError: if a size isn't positive, the generator isn't on the CPU, or the stationary law isn't unique.
    """
    require_at_least("num_sequences", num_sequences, 1)
    require_at_least("length", length, 1)
    _require_cpu_generator(generator)
    uniforms = torch.rand(length + 1, num_sequences, dtype=torch.float64, generator=generator)

    steps = TableSampler.from_laws(process.transition_matrices.transpose(0, 1).reshape(process.num_states, -1))
    start = TableSampler.from_laws(process.initial_distribution.unsqueeze(0))
    states = start.draw(torch.zeros(num_sequences, dtype=torch.int64), uniforms[0])
    outcomes = torch.empty(length, num_sequences, dtype=torch.int64)
    for t in range(length):
        outcomes[t] = steps.draw(states, uniforms[t + 1])
        states = outcomes[t] % process.num_states
    return (outcomes.T // process.num_states).contiguous()


@dataclass(frozen=True, eq=False)
class TableSampler:
    """Draws from one of several finite laws by inverting its cumulative sum.

    ``thresholds`` holds the inner boundaries of the unit interval's partition into possible outcomes. Those that a law
    doesn't need are infinite, so its last possible outcome takes all the rest of the interval, rounding included.
    """

    thresholds: Float[Tensor, "laws ranks-1"]
    outcomes: Int[Tensor, " laws*ranks"]

    @classmethod
    def from_laws(cls, laws: Float[Tensor, "laws outcomes"]) -> "TableSampler":
        counts = (laws > 0).sum(1, keepdim=True)
        most = int(counts.max())
        possible_first = torch.argsort((laws > 0).int(), dim=1, descending=True, stable=True)[:, :most]
        thresholds = laws.gather(1, possible_first).cumsum(1)[:, :-1]
        unneeded = torch.arange(most - 1) >= counts - 1
        return cls(thresholds.masked_fill(unneeded, torch.inf), possible_first.flatten())

    def draw(self, rows: Int[Tensor, " B"], uniforms: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
        thresholds = self.thresholds.index_select(0, rows)
        ranks = torch.searchsorted(thresholds, uniforms.unsqueeze(1), right=True).squeeze(1)
        return self.outcomes.index_select(0, rows * (thresholds.shape[1] + 1) + ranks)


def _require_cpu_generator(generator: torch.Generator) -> None:
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if generator.device.type != "cpu":
        raise ValueError(f"generator must be on the CPU, where processes are sampled, got one on {generator.device}")
