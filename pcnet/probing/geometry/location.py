"""Where a belief is held: every site, all of them together, at each position, inference iteration and training checkpoint."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pcnet.predictor import Predictor
from pcnet.probing.regression.protocol import DEFAULT_PROTOCOL, Protocol, probe
from pcnet.probing.rows.dataset import Array
from pcnet.probing.rows.prefix_walk import walk
from pcnet.processes import Words
from pcnet.sites import Iterates, select

EQUILIBRIUM = "equilibrium"
"""What the column ``iteration`` says where inference ran to its end, or the model has no inference."""

PARTS = ("value", "prediction", "error")
"""Of a predictive-coding network; they are never put side by side, since value = prediction + error."""


@dataclass(frozen=True, eq=False)
class SiteState:
    """What one site, or several side by side, held after every word.

    Attributes:
        site: its name, or ``all`` and the part, e.g. ``all value``.
        part: ``value``, ``prediction`` or ``error`` of a predictive-coding network, ``activation`` otherwise.
        iteration: how many inference iterations, or ``equilibrium``.
        features: one row per word.
    """

    site: str
    part: str
    iteration: str
    features: Float[Tensor, "N D"]


def site_states(
    model: Predictor, words: Words, sites: str | Sequence[str], iterations: Sequence[int] = (), chunk: int = 4096
) -> list[SiteState]:
    """Every site that matches, then those of each part side by side, at every iteration and at the equilibrium.

    Iterations are those of the last token of each word; the tokens before it were inferred to the end (the
    evaluation's early-stopped networks stop at every token). Takes one walk, and a second one for iterations.

    Args:
        model: any predictor.
        words: all words of lengths 1..n.
        sites: names or patterns, as in ``capture``; sites of diagnostics don't belong here.
        iterations: numbers of inference iterations; predictive-coding networks only.
        chunk: words per batch.

    Raises:
        ValueError: if a pattern matches nothing, or iterations are asked of a model that has none.
    """
    patterns = [sites] if isinstance(sites, str) else list(sites)
    select(model, patterns)
    found = list(_together(walk(model, words, patterns, chunk).sites, EQUILIBRIUM))
    if not iterations:
        return found
    if not isinstance(model, Iterates):
        raise ValueError(
            f"iterations={iterations}: a {type(model).__name__} does not infer by iteration; leave it empty"
        )
    with model.recording(tuple(iterations)):
        traced = walk(model, words, patterns, chunk).sites
    for column, iteration in enumerate(iterations):
        found += _together({name: values[:, column] for name, values in traced.items()}, str(iteration))
    return found


def _together(sites: Mapping[str, Tensor], iteration: str) -> Iterator[SiteState]:
    parts: dict[str, list[Tensor]] = {}
    for name, values in sites.items():
        parts.setdefault(part_of(name), []).append(values)
        yield SiteState(name, part_of(name), iteration, values)
    for part, members in parts.items():
        if len(members) > 1:
            yield SiteState(f"all {part}", part, iteration, torch.cat(members, dim=-1))


def part_of(site: str) -> str:
    """``value``, ``prediction`` or ``error`` where a site's name ends so, else ``activation``."""
    last = site.rsplit(".", 1)[-1]
    return last if last in PARTS else "activation"


def where(
    checkpoints: Mapping[str, Predictor] | Predictor,
    words: Words,
    sites: str | Sequence[str],
    targets: Mapping[str, Float[Array, "N T"]],
    iterations: Sequence[int] = (),
    protocol: Protocol = DEFAULT_PROTOCOL,
) -> pd.DataFrame:
    """The default protocol everywhere: one tidy table of held-out scores by site, iteration, position and checkpoint.

    The best of many sites is not a headline: the site that counts is fixed before training. Values, predictions and
    errors of predictive-coding networks stand apart. Costs a probe per place and target; a single fold seed in the
    protocol makes it five times cheaper.

    Args:
        checkpoints: a model, or models by the name of their training checkpoint.
        words: all words of lengths 1..n.
        sites, iterations: as in ``site_states``.
        targets: what is decoded, by name, e.g. ``{"filtered": words.filtered}``.
        protocol: of the scores.

    Returns:
        The columns of ``probe`` with offset, and checkpoint, site, part, iteration and target before them.

    Raises:
        ValueError: as in ``site_states`` and ``probe``, or without targets.
    """
    if not targets:
        raise ValueError("targets={}: name at least one thing to decode")
    models = {"": checkpoints} if isinstance(checkpoints, nn.Module) else checkpoints
    tables = []
    for checkpoint, model in models.items():
        for place in site_states(model, words, sites, iterations):
            labels = {"checkpoint": checkpoint, "site": place.site, "part": place.part, "iteration": place.iteration}
            for target, values in targets.items():
                scores = probe(place.features, values, words, protocol, (True,))
                tables.append(pd.DataFrame(labels | {"target": target}, index=scores.index).join(scores))
    return pd.concat(tables, ignore_index=True)


def at_a_glance(table: pd.DataFrame) -> pd.DataFrame:
    """Medians over fold seeds, with their range, of a table from ``where``: a row per place, target and weighting.

    Args:
        table: from ``where``, perhaps with further columns of one value each.
    """
    whole = table[table["position"] == "all"]
    keys = ["checkpoint", "site", "part", "iteration", "target", "weights"]
    groups = whole.groupby(keys, sort=False)
    medians = groups[["r2", "rmse", "n_eff", "rows", "features"]].median()
    spread = groups["r2"].agg(r2_low="min", r2_high="max")
    return medians.join(spread).reset_index()
