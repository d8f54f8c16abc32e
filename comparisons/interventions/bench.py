"""The moves and their scores at one place."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from comparisons.interventions.lessons import Deal, Learned
from comparisons.interventions.plan import ALL, EQUAL, LEAST, NEXT, RANDOM, SHUFFLED, SUBSPACE, WHOLE, Plan
from pcnet.probing import (
    Ablation,
    ClampedLevel,
    Edit,
    EditedFutures,
    LeastEdit,
    Moment,
    Pairs,
    PatternEdit,
    Place,
    PseudoinverseEdit,
    RandomAblation,
    RandomEdit,
    agreement,
    divergence,
    edited_futures,
    exact_futures,
    model_futures,
    next_tokens,
    steer_to_belief,
    steer_to_law,
)
from pcnet.processes import HiddenMarkovModel, Words

MOST_UNSETTLED = 0.2
"""Share of the rows that may be without an equilibrium after one edit or another; a place with more is left out."""


class LeftOutError(ValueError):
    """Raised where too many edited states have no equilibrium: scores of the others would say little about the place."""


@dataclass(frozen=True, eq=False)
class Bench:
    """Some pairs, what was learned without them, and everything that a move of them is compared with."""

    process: HiddenMarkovModel
    place: Place
    start: Moment
    source: Tensor
    target: Tensor
    learned: list[tuple[Tensor, Learned]]

    def moved(self, edit: Callable[[Learned], Edit], dose: float, source: Tensor, target: Tensor) -> Tensor:
        """What the place holds after such a share of a move from some beliefs (or laws) to others."""
        values = self.start.values.clone()
        for rows, known in self.learned:
            values[rows] = edit(known).dose(values[rows], source[rows], target[rows], dose)
        return values

    def optimised(self) -> Tensor:
        """After steps of natural-gradient descent."""
        values = self.start.values.clone()
        for rows, known in self.learned:
            values[rows] = steer_to_belief(known.belief, values[rows], self.target[rows])
        return values

    def law(self, beliefs: Tensor) -> Tensor:
        """The next token's."""
        return beliefs @ self.process.emission_matrix

    def next_law(self) -> Tensor | None:
        """Values at which the model's next-token law is the other's; none where a relaxation stands in the way of derivatives."""
        clamped = isinstance(self.place, ClampedLevel)
        return None if clamped else steer_to_law(self.place, self.start, self.law(self.target))


def moves(
    bench: Bench, plan: Plan, own: Tensor, generator: torch.Generator
) -> Iterator[tuple[str, int, float, Tensor]]:
    """Every edit with its seed and dose, and the values that it leaves; `own` are those of the other histories."""
    beliefs, laws = (bench.source, bench.target), (bench.law(bench.source), bench.law(bench.target))
    shuffled = bench.target[torch.randperm(len(bench.target), generator=generator)]
    law = bench.next_law()

    def least(known: Learned) -> Edit:
        return LeastEdit(known.belief)

    def random(seed: int, known: Learned) -> Edit:
        return RandomEdit(least(known), known.belief, seed)

    for dose in plan.doses:
        yield LEAST, 0, dose, bench.moved(least, dose, *beliefs)
        yield SHUFFLED, 0, dose, bench.moved(least, dose, bench.source, shuffled)
        yield SUBSPACE, 0, dose, bench.moved(lambda known: LeastEdit(known.law), dose, *laws)
        for seed in range(plan.subspaces if dose == 1.0 else plan.subspaces_by_dose):
            yield RANDOM, seed, dose, bench.moved(partial(random, seed), dose, *beliefs)
        if law is not None:
            yield NEXT, 0, dose, bench.start.values + dose * (law - bench.start.values)
    yield "pattern", 0, 1.0, bench.moved(lambda known: PatternEdit(known.belief), 1.0, *beliefs)
    yield "pseudo-inverse", 0, 1.0, bench.moved(lambda known: PseudoinverseEdit(known.belief), 1.0, *beliefs)
    yield "optimised", 0, 1.0, bench.optimised()
    yield WHOLE, 0, 1.0, own


@torch.no_grad()
def measure_place(process: HiddenMarkovModel, place: Place, population: Words, plan: Plan, seed: int) -> list[dict]:
    """Scores of all moves at one place, for pairs of both halves together."""
    generator = torch.Generator().manual_seed(seed)
    level = population.levels[plan.history - 1]
    deal = Deal.make(place, population, plan, seed)
    rows: list[dict] = []
    for kind, laws in ((ALL, None), (EQUAL, level.next_token_laws)):
        pairs = deal.pairs(level.filtered, laws, generator)
        if len(pairs):
            beliefs = (level.filtered[pairs.source], level.filtered[pairs.target])
            bench = Bench(process, place, deal.moment.rows(pairs.source), *beliefs, list(deal.learned(pairs)))
            own = deal.moment.values[pairs.target]
            found = {tuple(key): values for *key, values in moves(bench, plan, own, generator)}
            rows += [{"pairs": kind} | row for row in scores(bench, found, pairs, plan.horizon)]
    return rows


def scores(bench: Bench, moved: dict[tuple, Tensor], pairs: Pairs, horizon: int) -> Iterator[dict]:
    """A row for each move and horizon (joint laws of the next 1, 2, ... tokens), over the pairs that settle after every move."""
    said = {key: edited_futures(bench.place, bench.start, values, horizon) for key, values in moved.items()}
    settled = settled_always({f"{edit} {number}, dose {dose:g}": found for (edit, number, dose), found in said.items()})
    kept = Pairs(pairs.source[settled], pairs.target[settled])
    before = model_futures(bench.place, bench.start.rows(settled.nonzero().squeeze(-1)), horizon)
    exact = exact_futures(bench.process, (bench.target - bench.source)[settled], horizon)
    words = round(np.mean([known.words for _, known in bench.learned]))
    for (edit, number, dose), found in said.items():
        change = found.futures[settled[found.settled]] - before
        for ahead in range(1, horizon + 1):
            parts = (next_tokens(part, bench.process.vocab_size, ahead) for part in (change, dose * exact))
            score = {name: value for name, value in asdict(agreement(*parts, kept)).items() if name != "pairs"}
            row = {"edit": edit, "number": number, "dose": dose, "horizon": ahead} | score
            yield row | {"count": len(kept), "unsettled": len(pairs) - len(kept), "learned_from": words}


def settled_always(said: dict[str, EditedFutures]) -> Tensor:
    """The rows that have an equilibrium after every one of these edits.

    Raises:
        LeftOutError: too many rows are without one after one edit or another.
    """
    settled = torch.stack([found.settled for found in said.values()]).all(0)
    if float((~settled).double().mean()) > MOST_UNSETTLED:
        worst = min(said, key=lambda name: int(said[name].settled.sum()))
        raise LeftOutError(
            f"{int((~settled).sum())} of {len(settled)} states have no equilibrium after one edit or another "
            f"({int((~said[worst].settled).sum())} after the worst: {worst})"
        )
    return settled


@torch.no_grad()
def ablate_place(process: HiddenMarkovModel, place: Place, population: Words, plan: Plan, seed: int) -> list[dict]:
    """What the law of the next tokens loses, in nats, when a subspace is emptied after the history."""
    level = population.levels[plan.history - 1]
    deal = Deal.make(place, population, plan, seed)
    lost: dict[str, list[tuple[float, int]]] = {}
    for held in deal.halves:
        rows, known = held[: plan.ablated], deal.lessons.without(held).belief
        moment, beliefs = deal.moment.rows(rows), level.filtered[rows]
        left = {"nothing": moment.values, "belief": Ablation(known).move(moment.values, beliefs, beliefs)}
        for number in range(plan.subspaces):
            left[f"{RANDOM} {number}"] = RandomAblation(known, number).move(moment.values, beliefs, beliefs)
        said = {name: edited_futures(place, moment, values, plan.horizon) for name, values in left.items()}
        settled = settled_always({f"{name} ablated": found for name, found in said.items()})
        exact = exact_futures(process, beliefs[settled], plan.horizon)
        for name, found in said.items():
            nats = nats_lost(exact, found.futures[settled[found.settled]])
            lost.setdefault(name, []).append((nats, int(settled.sum())))
    counts = [count for _, count in lost["nothing"]]
    means = {name: float(np.average([nats for nats, _ in parts], weights=counts)) for name, parts in lost.items()}
    return [{"ablated": name, "divergence": mean, "count": sum(counts)} for name, mean in means.items()]


def nats_lost(exact: Tensor, futures: Tensor) -> float:
    """Infinite where the model rules out what can happen."""
    return math.inf if bool(((exact > 0) & ~(futures > 0)).any()) else divergence(exact, futures)
