"""The verdict: do states encode the belief beyond what every control explains, or can this process not tell?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from pcnet.probing.controls.banks import ControlBank, ScoredControlBank, as_features, least_members
from pcnet.probing.controls.tested import ControlTest, softmax_test
from pcnet.probing.regression.protocol import Protocol
from pcnet.probing.rows.dataset import Array, ProbeData, effective_sample_size
from pcnet.probing.rows.subject import Subject
from pcnet.probing.rows.unique import unique_words
from pcnet.probing.verdict.answers import Answer, Comparison, SiteVerdict, Verdict
from pcnet.probing.verdict.examination import VERDICT_PROTOCOL, Examination
from pcnet.probing.verdict.gain import DECIDABLE_BELOW
from pcnet.probing.verdict.significance import holm


def judge(
    sites: Mapping[str, Float[Array, "N D"]],
    subject: Subject,
    banks: Sequence[ControlBank | ScoredControlBank] = (),
    level: float = 0.05,
    num_permutations: int = 199,
    seed: int = 0,
    protocol: Protocol = VERDICT_PROTOCOL,
) -> Verdict:
    """Whether the sites of a model encode the targets (the belief) beyond every control.

    Three kinds of control, each a test of its own. Those that partition the words (next-token law, last k tokens): the
    features must gain more than any function of the cell could, residuals exchanged within the cell. Those that are
    features (additive history, constrained belief, the model's softmax): more than after exchanging what the control
    leaves, within a length. Banks (untrained networks of matched width, beliefs of other processes, untrained copies): a
    greater gain over all other controls than nearly every member. The largest p value counts (intersection-union), so a
    null that one control describes is rejected with a chance of at most `level`, whatever the others say; Holm's
    correction then allows for the number of sites. Where a control alone explains .95 of the targets, nothing is
    fitted: the answer is "not decidable here", never yes.

    Rows that repeat a word (sampled sequences) are joined first, with their mean features and summed probability:
    copies of a row aren't exchangeable with others and would stand on both sides of a fold.

    Args:
        sites: features of each site, one row per word of the subject; named in the config before training, not the
            best of many.
        subject: process, words, targets, and logits if the model's softmax is to be a control.
        banks: from ``default_banks``, with the width of the site, or of a model's untrained copies; without any, no
            reservoir is ruled out.
        level: chance of a false yes for any site, in (0, 1).
        num_permutations: at least ``sites / level - 1``.
        seed: of the permutations and of their deal to folds.
        protocol: folds and penalties; its first fold seed deals the words for the banks.

    Returns:
        An answer for each site, with every control's gain, p value and population R2.

    Raises:
        ValueError: if there are no sites; if permutations or members are too few for a yes; if features don't match
            the words or aren't finite; if the targets don't vary.

    Reference: Berger (1982), Technometrics 24, 295 (intersection-union); Freedman and Lane (1983), J. Bus. Econ. Stat.
        1, 292 (exchanging residuals).
    """
    _require_answerable(len(sites), banks, level, num_permutations)
    unique, join = unique_words(subject)
    checked = {name: join(_checked(features, subject)) for name, features in sites.items()}
    joined = [
        bank if isinstance(bank, ScoredControlBank) else ControlBank(bank.name, [*map(join, bank.members)])
        for bank in banks
    ]
    examination = Examination.of(unique, joined, protocol)
    extra = () if unique.logits is None else (softmax_test(replace(unique, targets=examination.subject.targets)),)
    return examine(examination, checked, extra, level, num_permutations, seed)


def examine(
    examination: Examination,
    sites: Mapping[str, Float[np.ndarray, "N D"]],
    extra: Sequence[ControlTest] = (),
    level: float = 0.05,
    num_permutations: int = 199,
    seed: int = 0,
) -> Verdict:
    """``judge`` where rows and banks have been prepared.

    Args:
        examination: of these rows.
        sites: features of each, one row per word.
        extra: controls that depend on the model.
        level, num_permutations, seed: as in ``judge``.
    """
    controls = (*examination.controls, *extra)
    if all(control.population_r2 < DECIDABLE_BELOW for control in controls):
        found = [examination.compare(each, controls, num_permutations, seed) for each in sites.values()]
        worst = holm([max(each.p_value for each in comparisons) for comparisons in found])
        answers = [Answer.YES if p <= level else Answer.NO for p in worst]
    else:
        nan = float("nan")
        nothing = tuple(Comparison(control.name, nan, nan, control.population_r2) for control in controls)
        found, worst, answers = [nothing] * len(sites), [nan] * len(sites), [Answer.UNDECIDABLE] * len(sites)
    mass = examination.ruler.mass
    return Verdict(
        sites=tuple(
            SiteVerdict(site, answer, float(p), comparisons)
            for site, answer, p, comparisons in zip(sites, answers, worst, found, strict=True)
        ),
        level=level,
        rows=int(np.count_nonzero(mass)),
        n_eff=effective_sample_size(mass),
        features=tuple(each.shape[1] for each in sites.values()),
        num_permutations=num_permutations,
        departures=examination.protocol.departures,
    )


def _checked(features: Float[Array, "N D"], subject: Subject) -> Float[np.ndarray, "N D"]:
    words = subject.words
    return as_features(ProbeData.checked(features, subject.targets, words.lengths, words.probabilities).features)


def _require_answerable(
    num_sites: int, banks: Sequence[ControlBank | ScoredControlBank], level: float, num_permutations: int
) -> None:
    """ValueError unless a yes is possible."""
    if not num_sites:
        raise ValueError("sites={}: give the features of at least one site")
    if not 0 < level < 1:
        raise ValueError(f"level={level}: it must lie in (0, 1)")
    least = least_members(num_sites, level)
    needed = f"{num_sites} sites at level {level:g} need at least {least}, or no answer could be yes"
    if num_permutations < least:
        raise ValueError(f"num_permutations={num_permutations}: {needed}")
    for bank in banks:
        members = len(bank.gains if isinstance(bank, ScoredControlBank) else bank.members)
        if members < least:
            raise ValueError(f"banks: {bank.name!r} has {members} members; {needed}")
