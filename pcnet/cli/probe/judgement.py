"""The calibrated answer for sampled rows: on all words up to the length at which none is missing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from pcnet.cli.probe.question import Question
from pcnet.probing import VERDICT_PROTOCOL, DefaultBanks, Judge, Subject, Verdict
from pcnet.probing.controls.banks import least_members
from pcnet.probing.rows.repeats import Repeats
from pcnet.processes import Words, words

LEVEL = 0.05
PERMUTATIONS, MEMBERS = 199, 39
"""At least; more sites need more of both for a yes to be possible."""
LEAST_WORDS, MOST_WORDS = 50, 5000
"""Words that are held out at least, and words at most: beyond these a verdict takes many minutes."""
EQUAL = 1e-3
"""Difference between two rows of one word, relative to the greatest activation, that is rounding."""
CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Ground:
    """Words that a verdict can be based on.

    Args:
        words: all that the process can emit, up to a length.
        rows: a row that has seen each.
        stop: why longer ones aren't among them; empty if there are none.
    """

    words: Words
    rows: Int[np.ndarray, " n"]
    stop: str


class NoVerdict(Exception):
    """There is none; the message says why."""


def verdict_on(
    question: Question,
    sites: Mapping[str, Float[np.ndarray, "N D"]],
    logits: Float[np.ndarray, "N V"] | None,
    seed: int,
    progress: Callable[[str], None],
) -> tuple[Verdict | None, str]:
    """What `pcnet.probing.judge` answers for every site, Holm's correction over sites included; and what to print.

    Args:
        question: whose rows hold all words up to some length.
        sites: features of each.
        logits: of the model, if its softmax is to be a control.
        seed: of permutations and banks.
        progress: is told what is being done.

    Returns:
        No verdict, and the reason, where too many words are missing or equal words have different activations.
    """
    try:
        repeats = question.rows.repeats
        for name, features in [*sites.items(), *([] if logits is None else [("--logits", logits)])]:
            _require_one_each(name, features, repeats, question)
        ground = _ground(question, repeats)
    except NoVerdict as reason:
        return None, f"no verdict: {reason}"
    least, every = least_members(len(sites), LEVEL), ground.words
    banks = [DefaultBanks(max(MEMBERS, least), seed)]
    subject = Subject(question.process, every, every.filtered)
    ask = Judge(subject, banks, LEVEL, max(PERMUTATIONS, least), seed, progress)
    mine = {name: features[ground.rows] for name, features in sites.items()}
    verdict = ask(mine, None if logits is None else logits[ground.rows])
    length = len(every.levels)
    return verdict, f"On all {ground.words.num_words:,} words of up to {length} tokens{ground.stop}:\n{verdict}"


def _ground(question: Question, repeats: Repeats) -> Ground:
    """The longest words of which none is missing, as far as a verdict on them is affordable."""
    lengths = question.rows.lengths.numpy()[repeats.first]
    there = np.bincount(lengths)
    possible = _possible(question, repeats, len(there))
    length, stop = _longest(there, possible)
    short = VERDICT_PROTOCOL.always_training_length
    scored = there[short + 1 : length + 1].sum()
    if scored < LEAST_WORDS:
        raise NoVerdict(
            f"every word of up to {length} tokens is there{stop}; it takes all words up to a length, {LEAST_WORDS} of them "
            f"longer than {short} tokens, and {scored} are"
        )
    return Ground(words(question.process, length), repeats.first[lengths <= length], stop)


def _longest(there: Int[np.ndarray, " lengths"], possible: Int[np.ndarray, " lengths"]) -> tuple[int, str]:
    """How long the words may be, and why not longer."""
    affordable = int(np.flatnonzero(np.cumsum(there) <= MOST_WORDS)[-1])
    missing = np.flatnonzero(there != possible)
    if len(missing) and missing[0] <= affordable + 1:
        first = int(missing[0])
        lost, all_of_them = possible[first] - there[first], possible[first]
        return first - 1, f" ({lost:,} of the {all_of_them:,} of length {first} are missing)"
    return affordable, "" if affordable == len(there) - 1 else f" (longer ones make it more than {MOST_WORDS:,})"


def _possible(question: Question, repeats: Repeats, num_lengths: int) -> Int[np.ndarray, " lengths"]:
    """How many words of each length continue those of the length before; every prefix of a row is a row too."""
    process, rows = question.process, question.rows
    lengths = rows.lengths.numpy()[repeats.first]
    branches = torch.count_nonzero(rows.next_token_laws[repeats.first], dim=1).numpy()
    found = np.bincount(lengths + 1, weights=branches, minlength=num_lengths + 1)[:num_lengths]
    found[:2] = 0, torch.count_nonzero(process.initial_distribution @ process.emission_matrix)
    return found.astype(np.int64)


def _require_one_each(name: str, features: Float[np.ndarray, "N D"], repeats: Repeats, question: Question) -> None:
    """NoVerdict unless rows that have seen the same word hold the same."""
    largest, difference, where = 0.0, 0.0, 0
    for start in range(0, len(features), CHUNK):
        part = features[start : start + CHUNK].astype(np.float64)
        like = features[repeats.first[repeats.word[start : start + CHUNK]]]
        apart = np.abs(part - like).max(axis=1)
        largest = max(largest, np.abs(part).max())
        if apart.max() > difference:
            difference, where = apart.max(), start + int(apart.argmax())
    if difference > EQUAL * largest:
        length = question.rows.sequences.shape[1]
        (one, at), other = divmod(where, length), repeats.first[repeats.word[where]] // length
        raise NoVerdict(
            f"{name} differs by {difference:.3g} after equal tokens (sequences {other} and {one}, position {at}): the "
            "model isn't deterministic, or sees what follows"
        )
