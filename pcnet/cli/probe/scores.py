"""Held-out scores of every site, and of everything that it must be compared with."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from pcnet.cli.probe.arrays import Scratch
from pcnet.cli.probe.controls import beside, of_tokens, untrained_networks
from pcnet.cli.probe.question import Question
from pcnet.probing import (
    Control,
    ModelSoftmax,
    RandomSubspace,
    Shuffled,
    ShuffledBeliefs,
    ShuffledEverywhere,
    ShuffledKeepingLastToken,
    Subject,
    decode,
    score_control,
)
from pcnet.probing.controls.scoring import percentiles, permutation_scores
from pcnet.probing.regression.protocol import DEFAULT_PROTOCOL, probe_rows
from pcnet.probing.rows.dataset import require_varying

SUBSPACES = 3
"""Random subspaces of which the best counts."""
ALL_TOGETHER = "next_token + site"
SHUFFLES = (ShuffledBeliefs, ShuffledKeepingLastToken, ShuffledEverywhere)
MOST_ORDERS = 2**24
"""Row numbers of permutations that are held at once."""


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
        scratch: where features are kept that aren't in a file of the user's.
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
        softmax = ModelSoftmax()
        tables.append(_scored(softmax, question.subject(logits=logits)).assign(site="", control=softmax.name))
    untrained: dict[int, pd.DataFrame] = {}
    for name, features in sites.items():
        width = features.shape[1]
        if width not in untrained:
            progress(f"untrained networks of {width} units")
            networks = untrained_networks(question, width, seed, scratch)
            untrained[width] = _best(_score(question, states) for states in networks)
        tables.append(untrained[width].assign(site=name, control="untrained_network"))
        tables += _of_site(question, name, features, scratch, permutations, seed, progress)
    return pd.concat(tables, ignore_index=True)


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
    subspaces = (RandomSubspace(seed + number) for number in range(SUBSPACES))
    tables.append(_best(_scored(each, subject) for each in subspaces).assign(control=RandomSubspace.name))
    progress(f"{name}: {permutations} permutations of three kinds")
    for control, table in shuffled_scores(subject, permutations, seed).items():
        tables.append(table.assign(control=control))
    return [table.assign(site=name) for table in tables]


def _score(question: Question, features: Float[np.ndarray, "N D"]) -> pd.DataFrame:
    return probe_rows(question.subject().data(features), DEFAULT_PROTOCOL, (True,))


def _scored(control: Control, subject: Subject) -> pd.DataFrame:
    return score_control(control, subject, DEFAULT_PROTOCOL, (True,))


def shuffled_scores(subject: Subject, permutations: int, seed: int) -> dict[str, pd.DataFrame]:
    """The 95th percentile over permutations of three kinds, by name; one deal to folds.

    Args:
        subject: with the site's features.
        permutations: of each kind.
        seed: of the permutations.
    """
    once = replace(DEFAULT_PROTOCOL, fold_seeds=DEFAULT_PROTOCOL.fold_seeds[:1])
    found: dict[str, list[pd.DataFrame]] = {kind.name: [] for kind in SHUFFLES}
    for part in _parts(permutations, seed, subject.words.num_words):
        for name, scores in permutation_scores(part, subject, once, (True,)).items():
            found[name].append(scores)
    return {name: percentiles(pd.concat(tables)) for name, tables in found.items()}


def _parts(permutations: int, seed: int, num_rows: int) -> Iterator[Sequence[Shuffled]]:
    """As many permutations at once as memory allows, and as many more times as it takes."""
    most = max(1, MOST_ORDERS // (len(SHUFFLES) * num_rows))
    for number, start in enumerate(range(0, permutations, most)):
        drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        yield [kind(min(most, permutations - start), drawn) for kind in SHUFFLES]


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
    return decode(features, question.targets, rows, groups=question.groups)
