"""Belief geometry, layer by layer and iteration by iteration. ``python -m comparisons.belief_geometry``

The models of `pcnet compare` on zrr, rrxor and Mess3: at every residual stream, hidden state, level and inference iteration,
how much of the belief a linear probe reads on held-out words, beside untrained copies, shuffled beliefs and the next-token
law; when in training it came; distances, Procrustes residual and dimension of what it decodes; and how much of it is
recovered from activations and the model's own predictions without knowing the process.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from comparisons.belief_geometry_figures import draw, draw_learning, draw_shapes
from comparisons.belief_geometry_tables import differences, summary
from comparisons.checkpoints import Trained, snapshots, trained, untrained
from comparisons.kept import markdown, progress, save_table, whole
from pcnet import HiddenMarkovModel, TemporalPC, Transformer, processes
from pcnet.cli.verbs import smoke
from pcnet.probing import (
    Protocol,
    ShuffledBeliefs,
    Subject,
    belief_beyond_next_token_law,
    decode,
    population_r2,
    probe,
    score_control,
)
from pcnet.probing.geometry.distances import distance_r2, prefix_counts
from pcnet.probing.geometry.location import SiteState, at_a_glance, site_states, where
from pcnet.probing.geometry.shapes import correlation_dimension, procrustes_residual
from pcnet.probing.geometry.subspaces import dimensions_for, participation_ratio
from pcnet.probing.geometry.unsupervised import predictive_geometry
from pcnet.probing.interventions.futures import own_futures
from pcnet.processes import Words

ONE_DEAL = Protocol(fold_seeds=(0,))
"""A departure from the default protocol: one fold seed, since some thousand places are compared with each other."""
PAIRS = 300_000
"""Random pairs for distances, where there are more than 2,000 words."""
ENDLESS = 1000
"""More different beliefs than this are taken for a set that doesn't close."""
COPIES = 3
"""Untrained copies of each model: same initialiser and gain, seeds 0, 1, 2."""
ITERATIONS = (0, 1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Case:
    """A process, the words that are probed, and the seeds of its models.

    Args:
        config: of `pcnet compare`.
        length: longest word that is probed.
        ahead: tokens that the decoder without ground truth looks ahead.
        seeds: of training.
    """

    config: str
    length: int
    ahead: int
    seeds: tuple[int, ...]


CASES = (Case("zrr", 10, 4, (0, 1, 2)), Case("rrxor", 10, 4, (0, 1, 2)), Case("mess3", 7, 2, (0, 1, 2)))
MODELS = ("transformer", "gru", "temporal_pc", "temporal_pc_nudged", "temporal_pc_local")


def patterns(predictor: torch.nn.Module) -> list[str]:
    """The sites of a model that are judged by the filtered belief, in the order in which it computes them."""
    if isinstance(predictor, TemporalPC):
        return ["layers.[1-9].value", "layers.[1-9].error"]
    return ["blocks.*.resid_post"] if isinstance(predictor, Transformer) else ["cells.*.hidden"]


def headline(found: Sequence[SiteState]) -> SiteState:
    """The site that was fixed before training: all values, the last residual stream, all hidden states; at equilibrium."""
    ended = [place for place in found if place.iteration == "equilibrium" and place.part in ("value", "activation")]
    values = [place for place in ended if place.site == "all value"]
    streams = [place for place in ended if not place.site.startswith("all")]
    return values[0] if values else streams[-1]


@contextmanager
def patient(model: Trained) -> Iterator[tuple[int, ...]]:
    """While this lasts, a network that infers does so by the solver whose iterations are looked at; says which of them."""
    if not isinstance(model.predictor, TemporalPC):
        yield ()
        return
    before, solver = model.predictor.inference, model.comparison.evaluation.iteration_solver
    model.predictor.inference = replace(before, solver=solver, max_steps=max(ITERATIONS))
    try:
        yield ITERATIONS
    finally:
        model.predictor.inference = before


def targets_of(rows: Words) -> dict[str, np.ndarray | torch.Tensor]:
    """What is decoded everywhere."""
    rest = belief_beyond_next_token_law(rows)
    return {"belief": rows.filtered} | ({"beyond the law": rest} if np.abs(rest).max() > 1e-9 else {})


def learning(case: Case, name: str, seed: int, model: Trained, runs: Path, rows: Words) -> pd.DataFrame:
    """R2 at every site after so many optimiser steps, as far as weights were kept."""
    kept = snapshots(case.config, name, seed, runs) | {model.comparison.training[name].steps: model}
    predictors = {str(step): one.predictor for step, one in kept.items()}
    table = where(predictors, rows, patterns(model.predictor), targets_of(rows), (), ONE_DEAL)
    return at_a_glance(table).rename(columns={"checkpoint": "step"})


def scores(model: Trained, rows: Words) -> pd.DataFrame:
    """R2 at every place for the belief and, where there is any, for its part beyond the next-token law.

    Predictions are judged by the belief before the token, everything else by the one after it.
    """
    predictor, targets = model.predictor, targets_of(rows)
    tables = [where(predictor, rows, patterns(predictor), targets, (), ONE_DEAL)]
    with patient(model) as iterations:
        if iterations:
            on_the_way = [where(predictor, rows, patterns(predictor), targets, iterations, ONE_DEAL)]
            expected = {"belief": rows.predicted}
            on_the_way.append(where(predictor, rows, "layers.[1-9].prediction", expected, iterations, ONE_DEAL))
            tables += [table[table["iteration"] != "equilibrium"] for table in on_the_way]
    if isinstance(predictor, TemporalPC):
        tables.append(where(predictor, rows, "layers.[1-9].prediction", {"belief": rows.predicted}, (), ONE_DEAL))
    return at_a_glance(pd.concat(tables))


def distances(points: np.ndarray, truth: np.ndarray, rows: Words) -> float:
    """Distance R2 over all positions of the longest words, of random pairs where they are many."""
    return distance_r2(points, truth, prefix_counts(rows), pairs=PAIRS if len(points) > 2000 else None)


def shape(points: np.ndarray, rows: Words) -> dict[str, float]:
    """How the decoded set compares with the exact one."""
    beliefs = rows.filtered.numpy()
    return {
        "distance_r2": distances(points, beliefs, rows),
        "procrustes": procrustes_residual(points, beliefs),
        "dimensions": dimensions_for(points, 0.95),
        "correlation_dimension": fractal(points, beliefs),
    }


def fractal(points: np.ndarray, beliefs: np.ndarray) -> float:
    """Correlation dimension of points that stand for more different beliefs than a finite set of states gives."""
    if len(np.unique(beliefs.round(9), axis=0)) < ENDLESS:
        return float("nan")
    return correlation_dimension(points).dimension


def shapes(model: Trained, rows: Words, case: Case) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Of what the probe reads at the headline site, and of what is found there without ground truth."""
    beliefs, place = rows.filtered.numpy(), headline(site_states(model.predictor, rows, patterns(model.predictor)))
    features = place.features.double().numpy()
    read = decode(features, beliefs, rows)
    spread = {"participation": participation_ratio(features)}
    lines = [{"decoder": "probe"} | shape(read, rows) | spread]
    short = processes.words(model.comparison.process, case.length - case.ahead + 1)
    inside = (rows.lengths <= len(short.levels)).numpy()
    futures = own_futures(model.predictor, short, case.ahead)
    blind = predictive_geometry(features[inside], futures, short, tolerance=0.002)
    lines.append({"decoder": "without truth"} | blind_line(blind.coordinates, blind.rank, short))
    order = np.random.default_rng(0).permutation(len(futures))
    nothing = predictive_geometry(features[inside], futures[order], short, tolerance=0.002)
    lines.append({"decoder": "without truth, futures shuffled"} | blind_line(nothing.coordinates, nothing.rank, short))
    return lines, {"beliefs": short.filtered.numpy(), "blind": blind.coordinates, "read": read[inside]}


def blind_line(coordinates: np.ndarray, rank: int, rows: Words) -> dict[str, float]:
    """Coordinates that were found without beliefs, judged by them."""
    if rank == 0:
        return {"rank": 0, "r2": 0.0}
    table = probe(coordinates, rows.filtered, rows, ONE_DEAL, (True,))
    affine = table[(table["position"] == "all") & (table["weights"] == "equal")]["r2"].iloc[0]
    return {"rank": rank, "r2": float(affine)} | shape(coordinates, rows)


def one_model(case: Case, name: str, seed: int, model: Trained, runs: Path, rows: Words, folder: Path) -> None:
    """Everything about one trained model and its untrained copies, kept as a part of the run."""
    tables, lines = [scores(model, rows).assign(copy="trained")], []
    for copy in ["trained", *(f"untrained {number}" for number in range(COPIES))]:
        number = copy.split()[-1]
        one = model if copy == "trained" else untrained(case.config, name, int(number), runs)
        if copy != "trained":
            tables.append(scores(one, rows).assign(copy=copy))
        found, arrays = shapes(one, rows, case)
        lines += [{"copy": copy} | line for line in found]
        if copy in ("trained", "untrained 0"):
            with whole(folder / f"{case.config}-{name}-{seed}-{copy.split()[0]}.npz") as path, path.open("wb") as file:
                np.savez_compressed(file, **arrays)
    labels = {"process": case.config, "model": name, "seed": seed}
    learned = learning(case, name, seed, model, runs, rows).assign(**labels)
    save_table(learned.to_dict("records"), folder / f"{part(case, name, seed)}-learning.csv")
    save_table(pd.DataFrame(lines).assign(**labels).to_dict("records"), folder / f"{part(case, name, seed)}-shapes.csv")
    save_table(pd.concat(tables).assign(**labels).to_dict("records"), folder / f"{part(case, name, seed)}.csv")


def references(case: Case, process: HiddenMarkovModel, rows: Words, place: SiteState) -> list[dict]:
    """Scores that need no model: the exact law, in sample of the whole population; and shuffled beliefs at one place."""
    beliefs, laws = rows.filtered, rows.next_token_laws
    shuffled = score_control(ShuffledBeliefs(20), Subject(process, rows, beliefs, place.features), ONE_DEAL, (True,))
    top = shuffled[(shuffled["position"] == "all") & (shuffled["weights"] == "equal")]["r2"].max()
    law = probe(laws, beliefs, rows, ONE_DEAL, (True,))
    law = law[(law["position"] == "all") & (law["weights"] == "equal")]["r2"].iloc[0]
    values = {
        "next-token law, R2": law,
        "next-token law, population R2": population_r2(laws, beliefs, rows),
        "shuffled beliefs, R2": top,
        "correlation dimension of the beliefs": fractal(beliefs.numpy(), beliefs.numpy()),
        "distance R2 of beliefs to the law": distances(beliefs.numpy(), laws.numpy(), rows),
        "words": rows.num_words,
    }
    return [{"process": case.config, "reference": name, "value": float(value)} for name, value in values.items()]


def part(case: Case, model: str, seed: int) -> str:
    return f"{case.config}-{model}-{seed}"


def measure(case: Case, models: Sequence[str], runs: Path, folder: Path, small: bool) -> Iterator[str]:
    """Do what is missing, a model at a time; says what was done."""
    wanted = [(name, seed) for name in models for seed in case.seeds]
    missing = [pair for pair in wanted if not (folder / f"{part(case, *pair)}.csv").is_file()]
    if not missing and (folder / f"{case.config}-references.csv").is_file():
        return
    ready = trained(case.config, models, case.seeds, runs, smoke if small else None)
    process = next(iter(ready.values())).comparison.process
    rows = processes.words(process, case.length)
    if not (folder / f"{case.config}-references.csv").is_file():
        first = next(iter(ready.values())).predictor
        place = headline(site_states(first, rows, patterns(first)))
        save_table(references(case, process, rows, place), folder / f"{case.config}-references.csv")
    for name, seed in missing:
        one_model(case, name, seed, ready[name, seed], runs, rows, folder)
        yield part(case, name, seed)


def gathered(folder: Path, ending: str) -> pd.DataFrame:
    """All parts of one kind."""
    kinds = ("-shapes", "-references", "-learning")
    paths = [path for path in sorted(folder.glob(f"*{ending}.csv")) if ending or not path.stem.endswith(kinds)]
    return pd.concat([pd.read_csv(path, dtype={"iteration": str}) for path in paths], ignore_index=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and probe what is missing, then write and print the table and draw the figures."""
    parser = argparse.ArgumentParser("python -m comparisons.belief_geometry", description=__doc__.split("\n\n")[1])
    parser.add_argument("--out", type=Path, default=Path("runs/belief_geometry"), help="default runs/belief_geometry")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs of pcnet compare lie; default runs")
    parser.add_argument("--processes", nargs="+", choices=[case.config for case in CASES], help="default all")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default all")
    parser.add_argument("--seeds", nargs="+", type=int, help="of training; default 0 1 2")
    parser.add_argument("--smoke", action="store_true", help="hardly trained models, short words")
    parser.add_argument("--replot", action="store_true", help="table and figures anew; nothing is computed")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = options.out / "smoke" if options.smoke else options.out
    runs = folder / "runs" if options.smoke else options.runs
    folder.mkdir(parents=True, exist_ok=True)
    cases = [case for case in CASES if not options.processes or case.config in options.processes]
    cases = [replace(case, seeds=tuple(options.seeds or case.seeds)) for case in cases]
    if options.smoke:
        cases = [replace(case, length=5, ahead=2, seeds=(0,)) for case in cases if case.config == "rrxor"]
    if options.replot:
        if not list(folder.glob("*-references.csv")):
            parser.error(f"nothing has been measured in {folder}")
    else:
        with progress("{task.fields[done]}") as bar:
            task = bar.add_task("models", total=sum(len(options.models) * len(case.seeds) for case in cases), done="")
            for case in cases:
                for done in measure(case, options.models, runs, folder, options.smoke):
                    bar.update(task, advance=1, done=done)
    table, outlines, known = (gathered(folder, ending) for ending in ("", "-shapes", "-references"))
    tables = [summary(table, outlines), differences(table), known.round(4)]
    text = "\n".join(markdown(one) for one in tables if len(one))
    with whole(folder / "belief_geometry.md") as path:
        path.write_text(text)
    draw(table, known, folder / "belief_geometry.png")
    draw_learning(gathered(folder, "-learning"), known, folder / "learning.png")
    draw_shapes(folder, folder / "without_truth.png")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
