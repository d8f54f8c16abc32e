"""Held-out scores of every site, and of everything that it must be compared with."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float

from pcnet.cli.probe.arrays import Scratch
from pcnet.cli.probe.controls import beside, of_tokens, untrained_networks
from pcnet.cli.probe.exchange import shuffled_scores
from pcnet.cli.probe.question import Question
from pcnet.probing import ModelSoftmax, RandomSubspace, Subject, decode
from pcnet.probing.regression.protocol import DEFAULT_PROTOCOL
from pcnet.probing.rows.dataset import require_varying

SUBSPACES = 3
"""Random subspaces of which the best counts."""
ALL_TOGETHER = "next_token + site"


def scores_of(
    question: Question,
    sites: Mapping[str, Float[np.ndarray, "N D"]],
    logits: Float[np.ndarray, "N V"] | None,
    scratch: Scratch,
    permutations: int,
    seed: int,
    progress: Callable[[str], None],
) -> pd.DataFrame:
    """Scores in the columns of ``probe``, with ``site`` and ``control``.

    A control that looks at nothing of a site's stands there once, with an empty site; a site's own score has no control.

    Args:
        question: what to decode, from which rows.
        sites: features of each.
        logits: the model's, if its softmax is to be a control.
        scratch: where features are kept that aren't somebody's file.
        permutations: of each kind of shuffled targets.
        seed: of permutations, networks and subspaces.
        progress: is told what is being done.

    Raises:
        ValueError: as in ``probe``, with the site's name, and if no feature of a site varies.
    """
    tables = []
    for name, features in sites.items():
        progress(f"{name}: its own score")
        tables.append(_own(question, name, features).assign(site=name, control=""))
    for name, features in of_tokens(question, scratch):
        progress(f"control {name}")
        tables.append(_score(question, features).assign(site="", control=name))
    if logits is not None:
        softmax = ModelSoftmax().features(Subject(question.process, question.rows, question.targets, logits=logits))
        tables.append(_score(question, softmax).assign(site="", control="softmax"))
    untrained: dict[int, pd.DataFrame] = {}
    for name, features in sites.items():
        width = features.shape[1]
        if width not in untrained:
            progress(f"untrained networks of {width} units")
            networks = untrained_networks(question, width, seed, scratch)
            untrained[width] = _best(_score(question, states) for states in networks)
        tables.append(untrained[width].assign(site=name, control="untrained_network"))
        tables += _of_site(question, name, features, scratch, permutations, seed, progress)
    found = pd.concat(tables, ignore_index=True)
    return found.assign(departures=[", ".join((*question.rows.departures, text)) for text in found["departures"]])


def _own(question: Question, name: str, features: Float[np.ndarray, "N D"]) -> pd.DataFrame:
    try:
        require_varying(features)
        return _score(question, features)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _of_site(
    question: Question,
    name: str,
    features: Float[np.ndarray, "N D"],
    scratch: Scratch,
    permutations: int,
    seed: int,
    progress: Callable[[str], None],
) -> list[pd.DataFrame]:
    """The controls that look at a site's features."""
    tables = []
    if question.target != "next_token":
        progress(f"{name}: with the next-token law")
        with beside(question.rows.next_token_laws.numpy(), features, scratch) as both:
            tables.append(_score(question, both).assign(control=ALL_TOGETHER))
    subject = question.subject(features)
    subspaces = (RandomSubspace(seed + number).features(subject) for number in range(SUBSPACES))
    tables.append(_best(_score(question, seen) for seen in subspaces).assign(control="random_subspace"))
    progress(f"{name}: {permutations} permutations of three kinds")
    for control, table in shuffled_scores(question, features, permutations, seed).items():
        tables.append(table.assign(control=control))
    return [table.assign(site=name) for table in tables]


def _score(question: Question, features: Float[np.ndarray, "N D"]) -> pd.DataFrame:
    return question.subject().probe(features, DEFAULT_PROTOCOL, (True,))


def _best(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The one with the highest score of the summary."""
    return max(tables, key=lambda table: headline_rows(table)["r2"].median())


def headline_rows(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows of all positions together, weighted equally within a length."""
    return scores[(scores["position"] == "all") & (scores["weights"] == "equal")]


def decoded_beliefs(question: Question, features: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N S"] | None:
    """What the probe reads out at each row, by a fit that didn't see it; None where there are no beliefs to draw.

    Args:
        question: what to decode.
        features: of a site.
    """
    if question.shown_beliefs is None:
        return None
    rows = question.rows
    return decode(features, question.targets, rows.lengths, rows.probabilities, groups=question.groups)
