"""Every place of every model, measured once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from comparisons.checkpoints import trained
from comparisons.interventions.bench import LeftOutError, ablate_place, measure_place
from comparisons.interventions.plan import DRAWN, Plan, places
from comparisons.kept import load_table, progress, save_table
from pcnet.cli.verbs import smoke
from pcnet.networks import TemporalPC
from pcnet.predictor import Predictor
from pcnet.probing import Place
from pcnet.processes import HiddenMarkovModel, Words, words

MOVES, ABLATIONS, LEFT_OUT = "moves.csv", "ablations.csv", "left_out.csv"


def measure(plan: Plan, runs: Path, folder: Path, seed: int) -> None:
    """Every place of every model that isn't in the tables yet; they are written after each.

    A place where too many edited states have no equilibrium is left out by name, and the others go on.
    """
    rows, losses, left_out = (load_table(folder / name) for name in (MOVES, ABLATIONS, LEFT_OUT))
    done = {(row["process"], row["model"], row["place"]) for row in (*losses, *left_out)}
    rows = [row for row in rows if (row["process"], row["model"], row["place"]) in done]
    with progress("{task.completed}/{task.total}") as bar:
        for config in plan.processes:
            task = bar.add_task(config, total=len(plan.models))
            for model in plan.models:
                process, population, known = subjects(config, model, plan, runs)
                for name, place in known:
                    what = {"process": config, "model": model, "place": name}
                    if tuple(what.values()) in done:
                        continue
                    try:
                        moved = measure_place(process, place, population, doses_at(name, plan), seed)
                        ablated = ablate_place(process, place, population, plan, seed)
                    except LeftOutError as error:
                        left_out.append(what | {"reason": str(error)})
                        save_table(left_out, folder / LEFT_OUT)
                        continue
                    rows += [what | row for row in moved]
                    losses += [what | row for row in ablated]
                    save_table(rows, folder / MOVES)
                    save_table(losses, folder / ABLATIONS)
                bar.advance(task)


def doses_at(place: str, plan: Plan) -> Plan:
    """Dose-response curves where they are drawn, the whole move alone elsewhere."""
    return plan if place.startswith(DRAWN) else replace(plan, doses=(1.0,))


def subjects(
    config: str, model: str, plan: Plan, runs: Path
) -> tuple[HiddenMarkovModel, Words, Iterator[tuple[str, Place]]]:
    """A trained model's places, its process and the words, in double precision."""
    found = trained(config, [model], [0], runs, smoke if plan.quick else None)[model, 0]
    predictor = quick(found.predictor.double())
    process = found.comparison.process
    return process, words(process, plan.fit_lengths[1]), iter(places(predictor).items())


def quick(predictor: Predictor) -> Predictor:
    """A predictive-coding network computes on the rows that still move alone: the same values to rounding, in a third of the time."""
    if isinstance(predictor, TemporalPC):
        predictor.inference = replace(predictor.inference, compact=True)
    return predictor
