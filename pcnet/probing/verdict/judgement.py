"""The verdict: do states encode the belief beyond what every control explains, or can this process not tell?"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from pcnet.probing.controls.banks import BankSource, ControlBank, ScoredControlBank, as_features, least_members
from pcnet.probing.controls.tested import ControlTest, softmax_test
from pcnet.probing.rows.dataset import Array, ProbeData, effective_sample_size
from pcnet.probing.rows.repeats import Repeats
from pcnet.probing.rows.subject import Subject
from pcnet.probing.verdict.answers import Answer, Comparison, SiteVerdict, Verdict
from pcnet.probing.verdict.examination import Examination
from pcnet.probing.verdict.presence import PresenceCheck
from pcnet.probing.verdict.significance import holm


def unheard(_message: str) -> None:
    """Takes a message and does nothing with it."""


def judge(
    sites: Mapping[str, Float[Array, "N D"]],
    subject: Subject,
    banks: Sequence[BankSource] = (),
    level: float = 0.05,
    num_permutations: int = 199,
    seed: int = 0,
) -> Verdict:
    """Whether the sites of a model encode the targets (the belief) beyond every control.

    Three kinds of control, each a test of its own. Those that partition the words (next-token law, last k tokens): the
    features must gain more than any function of the cell could, residuals exchanged within the cell. Those that are
    features (additive history, constrained belief, the model's softmax): more than after exchanging what the control
    leaves, within a length. Banks (untrained networks of matched width, beliefs of other processes, untrained copies): a
    greater gain over all other controls than nearly every member. The largest p value counts (intersection-union), so a
    null that one control describes is rejected with a chance of at most `level`, whatever the others say; Holm's
    correction then allows for the number of sites. Where a control alone explains .95 of the targets, nothing is
    fitted and no bank is asked for its members: the answer is "not decidable here", never yes. Where the answer is no, a
    nonlinear probe is asked as well (see ``PresenceCheck``): "present, not linear" if it finds the targets beyond the
    same kinds of control.

    A minute and a half for 350 words and 12 features with ``DefaultBanks``; a no may take as long again.

    Rows that repeat a word (sampled sequences) are joined first, with their mean features and summed probability:
    copies of a row aren't exchangeable with others and would stand on both sides of a fold.

    Args:
        sites: features of each site, one row per word of the subject; named in the config before training, not the
            best of many.
        subject: process, words, targets, and logits if the model's softmax is to be a control.
        banks: ``DefaultBanks()``, ``UntrainedCopies`` of the model, or any ``ControlBank``; without any, no untrained
            network is ruled out.
        level: chance of a false yes for any site, in (0, 1).
        num_permutations: at least ``sites / level - 1``.
        seed: of the permutations and of their deal to folds.

    Returns:
        An answer for each site, with every control's gain, p value and population R2.

    Raises:
        ValueError: if there are no sites; if permutations or members are too few for a yes; if features don't match
            the words or aren't finite; if the targets don't vary.

    Reference: Berger (1982), Technometrics 24, 295 (intersection-union); Freedman and Lane (1983), J. Bus. Econ. Stat.
        1, 292 (exchanging residuals).
    """
    return Judge(subject, banks, level, num_permutations, seed)(sites, subject.logits)


@dataclass(frozen=True, eq=False)
class Judge:
    """``judge`` for many models on the same words: what doesn't depend on a model is computed once.

    Args:
        subject: process, words and targets.
        banks, level, num_permutations, seed: as in ``judge``.
        progress: is told what is being done.
    """

    subject: Subject
    banks: Sequence[BankSource] = ()
    level: float = 0.05
    num_permutations: int = 199
    seed: int = 0
    progress: Callable[[str], None] = unheard
    _scored: dict[Hashable, tuple[ScoredControlBank, ...]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def examination(self) -> Examination:
        """Of the words, each once, beside their controls."""
        words, targets = self._repeats.words(self.subject.words), self._repeats.join(self.subject.targets)
        return Examination.of(Subject(self.subject.process, words, targets))

    @property
    def decidable(self) -> bool:
        """Whether the controls that the process gives by itself leave anything to decide; takes a second."""
        return self.examination.decidable

    def __call__(self, sites: Mapping[str, Float[Array, "N D"]], logits: Float[Array, "N V"] | None = None) -> Verdict:
        """The verdict on one model.

        Args:
            sites: features of each site, one row per word.
            logits: of the model, if its softmax is to be a control.

        Raises:
            ValueError: as in ``judge``.
        """
        self._require_answerable(len(sites))
        features = {name: self._checked(each) for name, each in sites.items()}
        subject = self.examination.subject
        extra = () if logits is None else (softmax_test(replace(subject, logits=self._repeats.join(logits))),)
        controls = (*self.examination.controls, *extra)
        if not all(control.decides for control in controls):
            return undecided(self.examination, features, controls, self.level, self.num_permutations)
        found = []
        for number, (name, each) in enumerate(features.items(), start=1):
            self.progress(f"verdict on {name}, {number} of {len(features)}")
            whole = replace(self.examination, banks=self._banks(name, each.shape[1]))
            found.append(whole.compare(each, controls, self.num_permutations, self.seed))
        verdict = decided(self.examination, features, found, self.level, self.num_permutations)
        return replace(
            verdict, sites=tuple(self._not_linear(each, features[each.site], len(sites)) for each in verdict.sites)
        )

    @cached_property
    def _repeats(self) -> Repeats:
        return Repeats.of(self.subject.words)

    def _checked(self, features: Float[Array, "N D"]) -> Float[np.ndarray, "n D"]:
        data = ProbeData.checked(features, self.subject.targets, self.subject.words)
        return as_features(self._repeats.join(data.features))

    def _drawn(self, source: BankSource, site: str, width: int) -> tuple[ControlBank, ...]:
        """A source's banks, their rows joined where words stand in several."""
        self.progress(f"banks for {site}")
        banks = source.banks(self.subject, site, width)
        return tuple(ControlBank(bank.name, [self._repeats.join(each) for each in bank.members]) for bank in banks)

    def _banks(self, site: str, width: int) -> tuple[ScoredControlBank, ...]:
        found: list[ScoredControlBank] = []
        for number, source in enumerate(self.banks):
            key = number, source.key(site, width)
            if key not in self._scored:
                self._scored[key] = tuple(map(self.examination.score, self._drawn(source, site, width)))
            found += self._scored[key]
        return tuple(found)

    def _not_linear(self, found: SiteVerdict, features: Float[np.ndarray, "n D"], num_sites: int) -> SiteVerdict:
        """The answer of a site, a no looked into with a nonlinear probe."""
        if found.answer is not Answer.NO:
            return found
        self.progress(f"nonlinear probe on {found.site}")
        check = PresenceCheck(self.examination.subject, least_members(num_sites, self.level), self.seed)
        banks = (bank for source in self.banks for bank in self._drawn(source, found.site, features.shape[1]))
        present, comparisons = check.ask(features, banks)
        return replace(found, answer=Answer.NOT_LINEAR if present else Answer.NO, nonlinear=comparisons)

    def _require_answerable(self, num_sites: int) -> None:
        """ValueError unless a yes is possible."""
        if not num_sites:
            raise ValueError("sites={}: give the features of at least one site")
        if not 0 < self.level < 1:
            raise ValueError(f"level={self.level}: it must lie in (0, 1)")
        least = least_members(num_sites, self.level)
        needed = f"{num_sites} sites at level {self.level:g} need at least {least}, or no answer could be yes"
        if self.num_permutations < least:
            raise ValueError(f"num_permutations={self.num_permutations}: {needed}")
        for place, source in enumerate(self.banks):
            if source.fewest_members < least:
                raise ValueError(f"banks[{place}] has {source.fewest_members} members; {needed}")


def examine(
    examination: Examination,
    sites: Mapping[str, Float[np.ndarray, "N D"]],
    extra: Sequence[ControlTest] = (),
    level: float = 0.05,
    num_permutations: int = 199,
    seed: int = 0,
) -> Verdict:
    """The linear part of ``judge`` where rows and banks have been prepared; many features can be judged by the same ones.

    Args:
        examination: of these rows.
        sites: features of each, one row per word.
        extra: controls that depend on the model.
        level, num_permutations, seed: as in ``judge``.
    """
    controls = (*examination.controls, *extra)
    if not all(control.decides for control in controls):
        return undecided(examination, sites, controls, level, num_permutations)
    found = [examination.compare(each, controls, num_permutations, seed) for each in sites.values()]
    return decided(examination, sites, found, level, num_permutations)


def decided(
    examination: Examination,
    sites: Mapping[str, Float[np.ndarray, "N D"]],
    found: Sequence[tuple[Comparison, ...]],
    level: float,
    num_permutations: int,
) -> Verdict:
    """Yes or no for each site: the largest p value over its controls, corrected over the sites."""
    worst = holm([max(each.p_value for each in comparisons) for comparisons in found])
    answers = [Answer.YES if p <= level else Answer.NO for p in worst]
    each = zip(sites, answers, map(float, worst), found, strict=True)
    return _verdict(examination, [SiteVerdict(*parts) for parts in each], sites, level, num_permutations)


def undecided(
    examination: Examination,
    sites: Mapping[str, Float[np.ndarray, "N D"]],
    controls: Sequence[ControlTest],
    level: float,
    num_permutations: int,
) -> Verdict:
    """Not decidable here, for every site: a control determines the targets."""
    nothing = tuple(Comparison(each.name, np.nan, np.nan, each.population_r2) for each in controls)
    answers = [SiteVerdict(site, Answer.UNDECIDABLE, float("nan"), nothing) for site in sites]
    return _verdict(examination, answers, sites, level, num_permutations)


def _verdict(
    examination: Examination,
    answers: Sequence[SiteVerdict],
    sites: Mapping[str, Float[np.ndarray, "N D"]],
    level: float,
    num_permutations: int,
) -> Verdict:
    mass = examination.ruler.mass
    return Verdict(
        sites=tuple(answers),
        level=level,
        rows=int(np.count_nonzero(mass)),
        n_eff=effective_sample_size(mass),
        features=tuple(each.shape[1] for each in sites.values()),
        num_permutations=num_permutations,
        departures=examination.protocol.departures,
    )
