"""The states, the moves and their scores."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from comparisons.checkpoints import trained
from comparisons.kept import load_table, progress, save_table
from pcnet.baselines import Transformer
from pcnet.cli import smoke
from pcnet.networks import TemporalPC
from pcnet.predictor import Predictor
from pcnet.probing import (
    Ablation,
    AllValues,
    ClampedLevel,
    Edit,
    Encoding,
    HiddenUnits,
    LeastEdit,
    Moment,
    NotSettledError,
    Pairs,
    PatternEdit,
    Place,
    PseudoinverseEdit,
    RandomAblation,
    RandomEdit,
    ResidualHistory,
    ResidualStream,
    agreement,
    divergence,
    exact_futures,
    model_futures,
    next_tokens,
    steer_to_belief,
    steer_to_law,
)
from pcnet.processes import HiddenMarkovModel, Words, words

ALL, EQUAL = "all", "equal next-token law"
LEAST, RANDOM, SHUFFLED, NEXT = "belief", "random subspace", "shuffled belief", "next-token law"
LEFT_OUT = "left_out.csv"
WHOLE = "everything the place holds"
"""The place of the other history's own state: the most that moving this place can do."""


@dataclass(frozen=True)
class Plan:
    """How much of what.

    Args:
        history: length of the histories whose state is moved.
        horizon: tokens ahead.
        fit_lengths: shortest and longest words on which directions are learned.
        pairs: of each half of the histories; the other half is learned from.
        doses: shares of the move.
        random_seeds: random subspaces.
        quick: whether models that are missing are trained for a few steps only.
    """

    processes: tuple[str, ...] = ("mess3", "rrxor")
    models: tuple[str, ...] = ("transformer", "gru", "temporal_pc", "temporal_pc_nudged")
    history: int = 6
    horizon: int = 5
    fit_lengths: tuple[int, int] = (3, 8)
    pairs: int = 60
    doses: tuple[float, ...] = (0.25, 0.5, 1.0, 1.5)
    random_seeds: tuple[int, ...] = (0, 1, 2)
    quick: bool = False


SMOKE = Plan(("mess3",), ("transformer", "gru", "temporal_pc"), 3, 2, (1, 4), 6, (0.5, 1.0), (0,), quick=True)


def places(model: Predictor) -> dict[str, Place]:
    """Where a model's state is moved, by name."""
    if isinstance(model, Transformer):
        middle = len(model.blocks) // 2 - 1 if len(model.blocks) > 1 else 0
        return {
            f"all positions to block {middle}": ResidualHistory(model, middle),
            f"last position after block {middle}": ResidualStream(model, middle),
        }
    if isinstance(model, TemporalPC):
        levels = {f"level {level} clamped": ClampedLevel(model, level) for level in range(1, len(model.levels) + 1)}
        return levels | {"all levels clamped": AllValues(model)}
    return {"hidden units": HiddenUnits(model)}


@dataclass(frozen=True, eq=False)
class Half:
    """One half of the histories, whose states are moved, and what was learned without them.

    Attributes:
        rows: of the held-out histories among the words of their length.
        moment: of the model after each of them.
        encoding: of the beliefs, from other words.
    """

    rows: Tensor
    moment: Moment
    encoding: Encoding


def halves(place: Place, population: Words, plan: Plan, seed: int) -> Iterator[Half]:
    """Deals the histories to two halves; each is held out once, with all words that begin with one of them."""
    level = population.levels[plan.history - 1]
    order = torch.randperm(len(level.tokens), generator=torch.Generator().manual_seed(seed))
    for rows in order.tensor_split(2):
        held = torch.zeros(len(order), dtype=torch.bool)
        held[rows] = True
        yield Half(rows, place.read(level.tokens[rows]), learn(place, population, held, plan))


def learn(place: Place, population: Words, held: Tensor, plan: Plan) -> Encoding:
    """How the place holds beliefs, from words that don't begin with a held-out history; lengths count equally."""
    if isinstance(place, ResidualHistory):
        level = population.levels[plan.history - 1]
        return Encoding.fit(place.read(level.tokens[~held]).values, level.filtered[~held])
    first, last = plan.fit_lengths
    values, beliefs, weights = [], [], []
    memory, mine = place.model.start(1), torch.ones(1, dtype=torch.bool)
    for length, level in enumerate(population.levels[:last], 1):
        moment = place.advance(tuple(part[level.parents] for part in memory), level.last_tokens)
        memory, mine = moment.memory, ~held if length == plan.history else mine[level.parents]
        if length >= first:
            values.append(moment.values[mine])
            beliefs.append(level.filtered[mine])
            weights.append(torch.full((len(values[-1]),), 1 / len(values[-1])))
    return Encoding.fit(torch.cat(values), torch.cat(beliefs), torch.cat(weights))


@dataclass(frozen=True, eq=False)
class Bench:
    """A half's pairs, and everything that a move of them is compared with."""

    process: HiddenMarkovModel
    place: Place
    half: Half
    pairs: Pairs
    beliefs: Tensor
    horizon: int

    @property
    def start(self) -> Moment:
        return self.half.moment.rows(self.pairs.source)

    def values(self, edit: Edit, dose: float, shuffled: Tensor | None = None) -> Tensor:
        """What the place is to hold."""
        target = self.pairs.target if shuffled is None else self.pairs.target[shuffled]
        return edit.dose(self.start.values, self.beliefs[self.pairs.source], self.beliefs[target], dose)

    def futures(self, values: Tensor) -> Tensor:
        """What the model then says."""
        return model_futures(self.place, self.place.put(self.start, values), self.horizon)

    def exact(self) -> Tensor:
        """Change of the exact law by the whole move."""
        after, before = (self.beliefs[rows] for rows in (self.pairs.target, self.pairs.source))
        return exact_futures(self.process, after - before, self.horizon)


def moves(bench: Bench, plan: Plan, generator: torch.Generator) -> Iterator[tuple[str, int, float, Tensor]]:
    """Every edit with its seed and dose, and the values that it leaves."""
    encoding, start = bench.half.encoding, bench.start.values
    least = LeastEdit(encoding)
    shuffled = torch.randperm(len(bench.pairs), generator=generator)
    law = next_law(bench)
    for dose in plan.doses:
        yield LEAST, 0, dose, bench.values(least, dose)
        yield SHUFFLED, 0, dose, bench.values(least, dose, shuffled)
        for seed in plan.random_seeds:
            yield RANDOM, seed, dose, bench.values(RandomEdit(least, encoding, seed), dose)
        if law is not None:
            yield NEXT, 0, dose, start + dose * (law - start)
    yield "pattern", 0, 1.0, bench.values(PatternEdit(encoding), 1.0)
    yield "pseudo-inverse", 0, 1.0, bench.values(PseudoinverseEdit(encoding), 1.0)
    yield "optimised", 0, 1.0, steer_to_belief(encoding, start, bench.beliefs[bench.pairs.target])
    yield WHOLE, 0, 1.0, bench.half.moment.rows(bench.pairs.target).values


def next_law(bench: Bench) -> Tensor | None:
    """Values at which the next-token law is the target's; none where a relaxation stands in the way of derivatives."""
    if isinstance(bench.place, ClampedLevel):
        return None
    laws = bench.beliefs[bench.pairs.target] @ bench.process.emission_matrix
    return steer_to_law(bench.place, bench.start, laws)


@torch.no_grad()
def measure_place(process: HiddenMarkovModel, place: Place, population: Words, plan: Plan, seed: int) -> list[dict]:
    """Scores of all moves at one place, for pairs of both halves together."""
    generator = torch.Generator().manual_seed(seed)
    level = population.levels[plan.history - 1]
    changes: dict[tuple, list[tuple[Tensor, Tensor, Pairs]]] = {}
    for half in halves(place, population, plan, seed):
        beliefs = level.filtered[half.rows]
        for kind, laws in ((ALL, None), (EQUAL, level.next_token_laws[half.rows])):
            pairs = Pairs.draw(beliefs, plan.pairs, generator, laws)
            if len(pairs):
                bench = Bench(process, place, half, pairs, beliefs, plan.horizon)
                before, exact = model_futures(place, bench.start, plan.horizon), bench.exact()
                known = Pairs(half.rows[pairs.source], half.rows[pairs.target])
                for edit, number, dose, values in moves(bench, plan, generator):
                    change = bench.futures(values) - before
                    changes.setdefault((kind, edit, number, dose), []).append((change, dose * exact, known))
    return [row for key, parts in changes.items() for row in scores(key, parts, process.vocab_size, plan.horizon)]


def scores(key: tuple, parts: list[tuple[Tensor, Tensor, Pairs]], vocab_size: int, horizon: int) -> Iterator[dict]:
    """A row for each horizon: joint laws of the next 1, 2, ... tokens."""
    model, exact, pairs = zip(*parts, strict=True)
    joined = Pairs(torch.cat([part.source for part in pairs]), torch.cat([part.target for part in pairs]))
    for ahead in range(1, horizon + 1):
        changed, wanted = (next_tokens(torch.cat(part), vocab_size, ahead) for part in (model, exact))
        found = agreement(changed, wanted, joined)
        yield dict(zip(("pairs", "edit", "number", "dose"), key, strict=True)) | {
            "horizon": ahead,
            **{name: value for name, value in asdict(found).items() if name != "pairs"},
            "count": found.pairs,
        }


@torch.no_grad()
def ablate_place(process: HiddenMarkovModel, place: Place, population: Words, plan: Plan, seed: int) -> list[dict]:
    """What the next tokens' law loses, in nats, when a subspace is emptied after the history."""
    level = population.levels[plan.history - 1]
    lost: dict[tuple[str, int], list[float]] = {}
    for half in halves(place, population, plan, seed):
        beliefs, values = level.filtered[half.rows], half.moment.values
        exact = exact_futures(process, beliefs, plan.horizon)
        left = {("nothing", 0): values, ("belief", 0): Ablation(half.encoding).move(values, beliefs, beliefs)}
        for number in plan.random_seeds:
            left[RANDOM, number] = RandomAblation(half.encoding, number).move(values, beliefs, beliefs)
        for key, kept in left.items():
            futures = model_futures(place, place.put(half.moment, kept), plan.horizon)
            lost.setdefault(key, []).append(divergence(exact, futures))
    return [
        {"ablated": name, "number": number, "divergence": float(np.mean(parts))}
        for (name, number), parts in lost.items()
    ]


def measure(plan: Plan, runs: Path, folder: Path, seed: int) -> None:
    """Every place of every model that isn't in the tables yet; they are written after each.

    A place where an edited state has no equilibrium to relax to is left out by name, and the others go on.
    """
    rows, losses, left_out = (load_table(folder / name) for name in ("moves.csv", "ablations.csv", LEFT_OUT))
    done = {(row["process"], row["model"], row["place"]) for row in (*losses, *left_out)}
    with progress("{task.completed}/{task.total}") as bar:
        for config in plan.processes:
            task = bar.add_task(config, total=len(plan.models))
            for model in plan.models:
                found = trained(config, [model], [0], runs, smoke if plan.quick else None)[model, 0]
                process, predictor = found.comparison.process, found.predictor.double()
                population = words(process, plan.fit_lengths[1])
                for name, place in places(predictor).items():
                    what = {"process": config, "model": model, "place": name}
                    if tuple(what.values()) in done:
                        continue
                    try:
                        moved = measure_place(process, place, population, plan, seed)
                        ablated = ablate_place(process, place, population, plan, seed)
                    except NotSettledError as error:
                        left_out.append(what | {"reason": str(error)})
                        save_table(left_out, folder / LEFT_OUT)
                        continue
                    rows += [what | row for row in moved]
                    losses += [what | row for row in ablated]
                    save_table(rows, folder / "moves.csv")
                    save_table(losses, folder / "ablations.csv")
                bar.advance(task)
