"""Samples of a process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import pad

from pcnet.processes.beliefs.scan import IMPOSSIBLE, empty_beliefs, kernel_of
from pcnet.processes.models.arguments import require_at_least, require_generator
from pcnet.processes.models.hmm import HiddenMarkovModel, Process, as_process
from pcnet.processes.models.parts import joined, leaves

GUIDES = 2**18
"""Entries of a table of guides, at most."""


def sample(
    process: Process | ArrayLike, num_sequences: int, length: int, generator: torch.Generator
) -> Int[Tensor, "B L"]:
    """Draw independent token sequences, each started from the initial law.

    One uniform number decides a token and the next state together, by inverting the cumulative law over the *possible*
    outcomes of the state; no rounding can produce an impossible one. Costs one table look-up per token, all sequences
    at once. A product is drawn factor by factor; a generalised process from the law of the next token in its belief,
    which costs S^2 + V S more a token.

    Args:
        process: what to sample from.
        num_sequences: B >= 1.
        length: L >= 1.
        generator: source of every draw, on the CPU; equal seeds give equal sequences.

    Returns:
        int64 tokens in ``0..V-1``.

    Raises:
        TypeError, ValueError: if a size isn't a positive integer, ``generator`` isn't a `torch.Generator` on the CPU, or the
            stationary law isn't unique.
    """
    return sample_batches(process, num_sequences, length, [generator])


def sample_batches(
    process: Process | ArrayLike, num_sequences: int, length: int, generators: Sequence[torch.Generator]
) -> Int[Tensor, "G*B L"]:
    """Draw what `sample` draws from each of several generators, all of it at once.

    Raises:
        TypeError, ValueError: as `sample` does.
    """
    process = as_process(process)
    for generator in generators:
        require_draws(num_sequences, length, generator)
    factors = leaves(process)
    drawn = draw_factors(process, factors, num_sequences, length, generators)
    return joined([factor.vocab_size for factor in factors], [part.tokens for part in drawn]).T.contiguous()


class Drawn(NamedTuple):
    """Sequences side by side.

    Attributes:
        tokens: one sequence a column.
        states: hidden states, before every token and after the last; None of a generalised process, which has none.
    """

    tokens: Int[Tensor, "L B"]
    states: Int[Tensor, "L+1 B"] | None


def draw_factors(
    process: Process,
    factors: Sequence[Process],
    num_sequences: int,
    length: int,
    generators: Sequence[torch.Generator],
) -> list[Drawn]:
    """Draw sequences of a process, each factor's by itself; those of every generator follow each other."""
    shape = (length + 1, len(factors), num_sequences)
    drawn = [torch.rand(shape, dtype=torch.float64, generator=generator) for generator in generators]
    uniforms = drawn[0] if len(drawn) == 1 else torch.cat(drawn, 2)
    stateful = [f for f, factor in enumerate(factors) if isinstance(factor, HiddenMarkovModel)]
    if stateful and process not in _PATHS:
        _PATHS[process] = PathTable.of([factors[f] for f in stateful])
    walked = iter(_PATHS[process].draw(uniforms[:, stateful] if len(factors) > 1 else uniforms) if stateful else ())
    return [
        next(walked) if f in stateful else draw_by_beliefs(factor, uniforms[1:, f]) for f, factor in enumerate(factors)
    ]


@dataclass(frozen=True, eq=False)
class PathTable:
    """What leads from a hidden state to the next one, for several processes next to each other.

    Attributes:
        starts: draws the first state of process f in row f.
        steps: draws a token and the next state; a row for each state of each process.
        states: next state at each of a sampler's places, counted within its process.
        rows: the row of that state, at places of either sampler.
        tokens: token at each place of `steps`.
    """

    starts: "TableSampler"
    steps: "TableSampler"
    first_states: Int[Tensor, " places"]
    first_rows: Int[Tensor, " places"]
    states: Int[Tensor, " places"]
    rows: Int[Tensor, " places"]
    tokens: Int[Tensor, " places"]

    @classmethod
    def of(cls, factors: Sequence[Process]) -> "PathTable":
        sizes = torch.tensor([factor.num_states for factor in factors])
        starts = TableSampler.from_laws([factor.initial_distribution.unsqueeze(0) for factor in factors])
        steps = TableSampler.from_laws(
            [factor.transition_matrices.transpose(0, 1).flatten(1) for factor in factors]  # outcome: x S + j
        )
        firsts = sizes.cumsum(0) - sizes
        owner = torch.arange(len(factors)).repeat_interleave(sizes)
        per_row = sizes[owner].repeat_interleave(steps.ranks)
        states = steps.outcomes % per_row
        return cls(
            starts=starts,
            steps=steps,
            first_states=starts.outcomes,
            first_rows=starts.outcomes + firsts.repeat_interleave(starts.ranks),
            states=states,
            rows=states + firsts[owner].repeat_interleave(steps.ranks),
            tokens=steps.outcomes // per_row,
        )

    def draw(self, uniforms: Float[Tensor, "L+1 F B"]) -> list[Drawn]:
        """Turn numbers in [0, 1) into sequences of every process."""
        steps, count, batch = uniforms.shape
        uniforms = uniforms.reshape(steps, -1)
        firsts = torch.arange(count).repeat_interleave(batch)
        start = self.starts.follow(firsts, uniforms[:1], self.first_rows)[0]
        places = self.steps.follow(self.first_rows[start], uniforms[1:], self.rows)
        tokens = self.tokens.index_select(0, places.flatten()).view(steps - 1, count, batch)
        states = torch.empty(steps, count * batch, dtype=torch.int64)
        torch.index_select(self.first_states, 0, start, out=states[0])
        torch.index_select(self.states, 0, places.flatten(), out=states[1:].view(-1))
        states = states.view(steps, count, batch)
        return [Drawn(tokens[:, f], states[:, f]) for f in range(count)]


_PATHS: WeakKeyDictionary[Process, PathTable] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class TableSampler:
    """Draws from one of several finite laws by inverting its cumulative sum.

    A law's thresholds are the inner boundaries of the unit interval's partition into possible outcomes; its last possible
    outcome takes all the rest of the interval, rounding included. A place is a law's row times the number of ranks, plus
    the outcome's rank.

    Attributes:
        outcomes: what each place stands for.
        laws: number of laws.
        search: finds a number among the thresholds of its own law.
        common: finds a number among the thresholds of all laws; None where there are too many.
        places: with `common`, the place for each law and each rank among all thresholds.
    """

    outcomes: Int[Tensor, " laws*ranks"]
    laws: int
    search: "Guide"
    common: "Guide | None"
    places: Int[Tensor, " laws*common"]

    @property
    def ranks(self) -> int:
        """Outcomes of a law, at most."""
        return len(self.outcomes) // self.laws

    @classmethod
    def from_laws(cls, groups: list[Float[Tensor, "laws outcomes"]]) -> "TableSampler":
        """Tables of laws, which may come in groups of different numbers of outcomes."""
        widest = max(group.shape[1] for group in groups)
        laws = torch.cat([pad(group, (0, widest - group.shape[1])) for group in groups])
        counts = (laws > 0).sum(1, keepdim=True)
        most = int(counts.max())
        possible_first = torch.argsort((laws > 0).int(), dim=1, descending=True, stable=True)[:, :most]
        thresholds = laws.gather(1, possible_first).cumsum(1)
        thresholds.masked_fill_(torch.arange(most) >= counts - 1, torch.inf)
        every = torch.cat([thresholds.unique(), thresholds.new_full((1,), torch.inf)]).unique().unsqueeze(0)
        small = len(thresholds) * every.shape[1] <= GUIDES
        lower = torch.cat([thresholds.new_full((1, 1), -1.0), every[:, :-1]], 1).repeat(len(laws), 1)
        places = torch.searchsorted(thresholds, lower, right=True) + most * torch.arange(len(laws)).unsqueeze(1)
        common = Guide.to(every) if small else None
        return cls(possible_first.flatten(), len(laws), Guide.to(thresholds), common, places.flatten())

    def follow(
        self, rows: Int[Tensor, " B"], uniforms: Float[Tensor, "L B"], next_rows: Int[Tensor, " laws*ranks"]
    ) -> Int[Tensor, "L B"]:
        """Draw step by step; each outcome determines the law of the next draw.

        Args:
            rows: laws of the first draws.
            uniforms: numbers in [0, 1), one for each draw.
            next_rows: the law that follows each place.

        Returns:
            Places.
        """
        if self.common is None:
            return self._searched(rows, uniforms, next_rows)
        # A number's rank among the thresholds of all laws and the law together determine the place.
        ranks = self.common.thresholds.shape[1]
        following = next_rows[self.places] * ranks
        found, base = self.common.places(self.common.buckets(uniforms), uniforms), rows * ranks
        for index in found.unbind():
            torch.index_select(following, 0, index.add_(base), out=base)
        return self.places.index_select(0, found.flatten()).view(uniforms.shape)

    def _searched(
        self, rows: Int[Tensor, " B"], uniforms: Float[Tensor, "L B"], next_rows: Int[Tensor, " laws*ranks"]
    ) -> Int[Tensor, "L B"]:
        buckets = self.search.guides.shape[1]
        wanted, bases, base = self.search.buckets(uniforms), next_rows * buckets, rows * buckets
        places = torch.empty_like(wanted)
        for uniform, index, place in zip(uniforms.unbind(), wanted.unbind(), places.unbind(), strict=True):
            place.copy_(self.search.places(index.add_(base), uniform))
            torch.index_select(bases, 0, place, out=base)
        return places


@dataclass(frozen=True, eq=False)
class Guide:
    """Finds numbers between thresholds: a guide to where to begin, then one comparison after the other.

    Attributes:
        thresholds: rising in each row, the last infinite.
        guides: for each row and each of equally long buckets of the unit interval, the place of the bucket's lower edge.
        reach: thresholds that lie within one bucket, at most.
    """

    thresholds: Float[Tensor, "rows ranks"]
    guides: Int[Tensor, "rows buckets"]
    reach: int

    @classmethod
    def to(cls, thresholds: Float[Tensor, "rows ranks"]) -> "Guide":
        """A guide whose buckets hold one threshold at most, or as fine a one as is allowed."""
        rows, ranks = thresholds.shape
        buckets = 16
        while True:
            edges = (torch.arange(buckets + 1, dtype=torch.float64) / buckets).repeat(rows, 1)
            at = torch.searchsorted(thresholds, edges, right=True)
            reach = int((torch.searchsorted(thresholds, edges)[:, 1:] - at[:, :-1]).max())
            if reach <= 1 or 2 * buckets * rows > GUIDES:
                return cls(thresholds, at[:, :-1] + ranks * torch.arange(rows).unsqueeze(1), reach)
            buckets *= 2

    def buckets(self, uniforms: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The bucket of each number; exact, as their number is a power of two."""
        return (uniforms * self.guides.shape[1]).long()

    def places(self, indices: Int[Tensor, "*shape"], uniforms: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The place of each number, from its bucket in its row."""
        guides, thresholds = self.guides.flatten(), self.thresholds.flatten()
        places = guides.index_select(0, indices.flatten())
        for _ in range(self.reach):
            places.add_(thresholds.index_select(0, places) <= uniforms.flatten())
        return places.view(indices.shape)


def draw_by_beliefs(process: Process, uniforms: Float[Tensor, "L B"]) -> Drawn:
    """Draw every token from its law in the belief that the tokens before it leave."""
    tokens = torch.empty(uniforms.shape, dtype=torch.int64)
    kernel, emission = kernel_of(process, torch.float64), process.emission_matrix.T
    start = process.initial_distribution.unsqueeze(1)
    block = empty_beliefs(start, 2, uniforms.shape[1])
    block[0] = start
    for t, uniform in enumerate(uniforms):
        laws = emission @ block[0]
        laws.masked_fill_(laws <= IMPOSSIBLE[torch.float64], 0)
        bounds = laws.cumsum_(0)
        # Bounds around an impossible token coincide, so that none is chosen; the last one is above every number.
        torch.sum(bounds <= uniform * bounds[-1], 0, out=tokens[t])
        kernel.advance(block, tokens[t : t + 1])
        torch.div(block[1], process.right_vector @ block[1], out=block[0])
    return Drawn(tokens, None)


def require_draws(num_sequences: int, length: int, generator: torch.Generator) -> None:
    """Refuse sizes that aren't positive integers and what isn't a generator on the CPU."""
    require_at_least("num_sequences", num_sequences, 1)
    require_at_least("length", length, 1)
    require_generator(generator)
