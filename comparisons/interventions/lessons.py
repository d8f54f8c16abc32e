"""Words from which it is learned how a place holds beliefs and next-token laws."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from comparisons.interventions.plan import Plan
from pcnet.probing import Encoding, Moment, Pairs, Place, ResidualHistory
from pcnet.processes import Words

NO_HISTORY = -1


@dataclass(frozen=True, eq=False)
class Lessons:
    """What a place holds after words of several lengths.

    Attributes:
        values: that it holds.
        beliefs: exact.
        laws: exact, of the next token.
        lengths: of the words.
        histories: with which of the histories that are moved each begins; -1 for shorter words.
    """

    values: Tensor
    beliefs: Tensor
    laws: Tensor
    lengths: Tensor
    histories: Tensor

    @classmethod
    def read(cls, place: Place, population: Words, plan: Plan) -> Self:
        """All words that are not too short; those of one length alone where the place is as wide as the word is long."""
        if isinstance(place, ResidualHistory):
            level = population.levels[plan.history - 1]
            number = torch.arange(len(level.tokens))
            values = place.read(level.tokens).values
            return cls(values, level.filtered, level.next_token_laws, torch.full_like(number, plan.history), number)
        parts: list[tuple[Tensor, ...]] = []
        memory, histories = place.model.start(1), torch.tensor([NO_HISTORY])
        for length, level in enumerate(population.levels, 1):
            moment = place.advance(tuple(part[level.parents] for part in memory), level.last_tokens)
            number = torch.arange(len(level.tokens))
            memory, histories = moment.memory, number if length == plan.history else histories[level.parents]
            if length >= plan.shortest:
                lengths = torch.full_like(number, length)
                parts.append((moment.values, level.filtered, level.next_token_laws, lengths, histories))
        return cls(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

    def without(self, held: Tensor) -> "Learned":
        """Learned from the words that begin with none of these histories; lengths count equally."""
        rows = ~torch.isin(self.histories, held)
        lengths = self.lengths[rows]
        weights = 1.0 / torch.bincount(lengths)[lengths].double()
        targets = (self.beliefs, self.laws)
        belief, law = (Encoding.fit(self.values[rows], target[rows], weights) for target in targets)
        return Learned(belief, law, len(lengths))


@dataclass(frozen=True, eq=False)
class Learned:
    """How a place holds beliefs, and how next-token laws, from so many words."""

    belief: Encoding
    law: Encoding
    words: int


@dataclass(frozen=True, eq=False)
class Deal:
    """The histories, dealt to two halves; a pair never has one of each.

    Attributes:
        moment: of the model after every history.
        halves: which histories are in each.
        lessons: words to learn from.
        plan: of the whole.
    """

    moment: Moment
    halves: tuple[Tensor, ...]
    lessons: Lessons
    plan: Plan

    @classmethod
    def make(cls, place: Place, population: Words, plan: Plan, seed: int) -> Self:
        tokens = population.levels[plan.history - 1].tokens
        order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))
        return cls(place.read(tokens), order.tensor_split(2), Lessons.read(place, population, plan), plan)

    def pairs(self, beliefs: Tensor, laws: Tensor | None, generator: torch.Generator) -> Pairs:
        """Of histories of one half, so many from each; with equal laws, if these are given."""
        found = []
        for rows in self.halves:
            chosen = Pairs.draw(beliefs[rows], self.plan.pairs, generator, None if laws is None else laws[rows])
            found.append((rows[chosen.source], rows[chosen.target]))
        return Pairs(*(torch.cat(columns) for columns in zip(*found, strict=True)))

    def learned(self, pairs: Pairs) -> Iterator[tuple[Tensor, Learned]]:
        """Which pairs, and what was learned without the words of their histories: by half, or one by one where words are few."""
        if len(self.moment.tokens) >= self.plan.enough:
            for rows in self.halves:
                yield torch.isin(pairs.source, rows).nonzero().squeeze(-1), self.lessons.without(rows)
            return
        both = torch.stack([pairs.source, pairs.target], 1).sort(1).values
        for held in both.unique(dim=0):
            yield (both == held).all(1).nonzero().squeeze(-1), self.lessons.without(held)
