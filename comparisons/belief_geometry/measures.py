"""How much of the belief is read at every site, and what the set that is read looks like."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from torch import Tensor

from comparisons.every_site import ITERATIONS, ONE_DEAL, Case, held_out, present, whole
from pcnet.predictor import Predictor
from pcnet.probing import (
    ShuffledBeliefs,
    Subject,
    at_a_glance,
    belief_beyond_next_token_law,
    correlation_dimension,
    decode,
    dimensions_for,
    distance_r2,
    own_futures,
    participation_ratio,
    population_r2,
    predictive_geometry,
    prefix_counts,
    procrustes_residual,
    score_control,
    site_states,
    where,
)
from pcnet.processes import Words, words
from pcnet.sites import Iterates

SITES = ("blocks.*.resid_post", "cells.*.hidden", "layers.[1-9].value", "layers.[1-9].error")
"""The sites that are judged by the belief after the token."""
EXPECTING = "layers.[1-9].prediction"
"""The sites that are judged by the belief before it."""
PROBE, TRUTHLESS, NOTHING = "probe", "without truth", "without truth, futures shuffled"
"""The decoders."""
SHAPE = ("decoder", "rank", "r2", "distance_r2", "procrustes", "dimensions", "correlation_dimension", "participation")
"""What is kept of each."""
PAIRS = 300_000
"""Random pairs for distances, where there are more than 2,000 words."""
ENDLESS = 1000
"""More different beliefs than this are taken for a set that doesn't close."""


def targets_of(rows: Words) -> dict[str, np.ndarray | Tensor]:
    """What is decoded everywhere: the belief and, where there is any, its part beyond the next-token law."""
    rest = belief_beyond_next_token_law(rows)
    return {"belief": rows.filtered} | ({"beyond the law": rest} if np.abs(rest).max() > 1e-9 else {})


def scores(case: Case) -> pd.DataFrame:
    """R2 at every site and, of a network that infers, after every number of iterations."""
    predictor, rows = case.predictor, case.rows
    sites, targets, expected = present(predictor, SITES), targets_of(rows), {"belief": rows.predicted}
    tables = [where(predictor, rows, sites, targets, (), ONE_DEAL)]
    if isinstance(predictor, Iterates):
        with case.iterating():
            on_the_way = [
                where(predictor, rows, sites, targets, ITERATIONS, ONE_DEAL),
                where(predictor, rows, EXPECTING, expected, ITERATIONS, ONE_DEAL),
            ]
        tables += [table[table["iteration"] != "equilibrium"] for table in on_the_way]
        tables.append(where(predictor, rows, EXPECTING, expected, (), ONE_DEAL))
    return with_headline(at_a_glance(pd.concat(tables)).drop(columns="checkpoint"))


def learning(case: Case, checkpoints: Mapping[int, Predictor]) -> pd.DataFrame:
    """R2 at every site after so many optimiser steps."""
    named = {str(step): predictor for step, predictor in checkpoints.items()}
    table = where(named, case.rows, present(case.predictor, SITES), targets_of(case.rows), (), ONE_DEAL)
    return with_headline(at_a_glance(table).rename(columns={"checkpoint": "step"}))


def headline(sites: Iterable[str]) -> str:
    """The site that was fixed before training: all values, the last residual stream, all hidden states."""
    names = list(sites)
    single = [name for name in names if not (name.startswith("all ") or name.endswith((".error", ".prediction")))]
    return "all value" if "all value" in names else single[-1]


def with_headline(table: pd.DataFrame) -> pd.DataFrame:
    """Says of every row whether it is the headline site's."""
    return table.assign(headline=table["site"] == headline(table["site"].unique()))


def headline_features(case: Case) -> Tensor:
    """What the headline site holds after every word, at the equilibrium."""
    found = {state.site: state for state in site_states(case.predictor, case.rows, present(case.predictor, SITES))}
    return found[headline(found)].features


def shapes(case: Case, ahead: int) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Of what the probe reads at the headline site, and of what is found there without ground truth.

    Args:
        case: a model.
        ahead: tokens that the decoder without ground truth looks ahead.

    Returns:
        A line for each decoder, and arrays to draw: exact beliefs, and what is found without ground truth.
    """
    rows, features = case.rows, headline_features(case).double().numpy()
    read = decode(features, rows.filtered.numpy(), rows)
    lines = [{"decoder": PROBE} | shape(read, rows) | {"participation": participation_ratio(features)}]
    few = words(case.comparison.process, len(rows.levels) - ahead + 1)
    inside = (rows.lengths <= len(few.levels)).numpy()
    futures = own_futures(case.predictor, few, ahead)
    order = np.random.default_rng(0).permutation(len(futures))
    blind, nothing = (
        predictive_geometry(features[inside], laws, few, tolerance=0.002) for laws in (futures, futures[order])
    )
    lines += [
        {"decoder": decoder} | blind_line(found.coordinates, found.rank, few)
        for decoder, found in ((TRUTHLESS, blind), (NOTHING, nothing))
    ]
    return pd.DataFrame(lines, columns=list(SHAPE)), {"beliefs": few.filtered.numpy(), "blind": blind.coordinates}


def blind_line(coordinates: np.ndarray, rank: int, rows: Words) -> dict[str, float]:
    """Coordinates that were found without beliefs, judged by them."""
    if rank == 0:
        return {"rank": 0, "r2": 0.0}
    return {"rank": rank, "r2": held_out(coordinates, rows.filtered, rows)} | shape(coordinates, rows)


def shape(points: np.ndarray, rows: Words) -> dict[str, float]:
    """How the decoded set compares with the exact one."""
    beliefs = rows.filtered.numpy()
    return {
        "distance_r2": distances(points, beliefs, rows),
        "procrustes": procrustes_residual(points, beliefs),
        "dimensions": dimensions_for(points, 0.95),
        "correlation_dimension": fractal(points, beliefs),
    }


def distances(points: np.ndarray, truth: np.ndarray, rows: Words) -> float:
    """Distance R2 over all positions of the longest words, of random pairs where they are many."""
    return distance_r2(points, truth, prefix_counts(rows), pairs=PAIRS if len(points) > 2000 else None)


def fractal(points: np.ndarray, beliefs: np.ndarray) -> float:
    """Correlation dimension of points that stand for more different beliefs than a finite set of states gives."""
    if len(np.unique(beliefs.round(9), axis=0)) < ENDLESS:
        return float("nan")
    return correlation_dimension(points).dimension


def references(case: Case) -> dict[str, float]:
    """Scores of the process: those of the exact law, and of shuffled beliefs at one model's headline site."""
    rows, beliefs, laws = case.rows, case.rows.filtered, case.rows.next_token_laws
    subject = Subject(case.comparison.process, rows, beliefs, headline_features(case))
    return {
        "next-token law, R2": held_out(laws, beliefs, rows),
        "next-token law, population R2": population_r2(laws, beliefs, rows),
        "shuffled beliefs, R2": whole(score_control(ShuffledBeliefs(20), subject, ONE_DEAL, (True,))).max(),
        "correlation dimension of the beliefs": fractal(beliefs.numpy(), beliefs.numpy()),
        "distance R2 of beliefs to the law": distances(beliefs.numpy(), laws.numpy(), rows),
        "words": float(rows.num_words),
    }
