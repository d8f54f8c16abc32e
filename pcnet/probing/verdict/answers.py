"""What can be said of a model's sites, with all that it rests on."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
import pandas as pd

COLUMNS = {
    "site": "name of the site",
    "answer": "of the site: yes, no, not decidable here, or present, not linear",
    "probe": "linear, or nonlinear where that was asked because the linear answer is no",
    "control": "name of the control",
    "gain": "held-out R2 that the site has beyond the control; see Comparison",
    "p_value": "of the gain, before the correction over sites",
    "population_r2": "what the control explains by itself if the whole population is known",
    "rows": "words that were held out",
    "n_eff": "their effective number under the weights of the score",
    "features": "of the site",
    "departures": "from the default protocol",
}
"""Columns of ``Verdict.table``, in order, and what each says."""


class Answer(Enum):
    """What can be said of a site."""

    YES = "yes"
    NO = "no"
    UNDECIDABLE = "not decidable here"
    NOT_LINEAR = "present, not linear"


@dataclass(frozen=True)
class Comparison:
    """A site against one control.

    Args:
        control: its name.
        gain: of a linear probe: held-out R2 of [control + features] over [control], words equally weighted within a
            length; over a bank, the gain over all other controls minus the median of the bank's members. Of a nonlinear
            probe: its held-out R2 minus the control's, the best of those that were asked. NaN where nothing was fitted.
        p_value: that of the gain, before the correction over sites. NaN where nothing was fitted, or where a nonlinear
            probe has only one control to compare with.
        population_r2: what the control explains if the whole population is known. NaN for a bank, of which each
            member would explain something else.
    """

    control: str
    gain: float
    p_value: float = float("nan")
    population_r2: float = float("nan")

    def __str__(self) -> str:
        known = "" if np.isnan(self.population_r2) else f"  explains {self.population_r2:.3f} by itself"
        tested = "" if np.isnan(self.p_value) else f"  p = {self.p_value:<6.3g}"
        gained = "" if np.isnan(self.gain) else f"  gain {self.gain:+.3f}"
        return f"{self.control:<18}{gained}{tested}{known}"


@dataclass(frozen=True)
class SiteVerdict:
    """The answer for one site, with all that it rests on.

    Args:
        site: its name.
        answer: yes, no, not decidable here, or present and not linear.
        p_value: the largest over the controls of the linear probe, corrected over the sites; NaN where nothing was fitted.
        comparisons: of the linear probe, one for each control.
        nonlinear: of the nonlinear probe, where it was asked: the linear one first, then controls up to the first that
            does as well.
    """

    site: str
    answer: Answer
    p_value: float
    comparisons: tuple[Comparison, ...]
    nonlinear: tuple[Comparison, ...] = ()

    @property
    def strongest(self) -> Comparison:
        """The control that it is hardest to beat here; where nothing can be decided, the one that explains most."""
        if self.answer is Answer.UNDECIDABLE:
            return max(self.comparisons, key=lambda each: np.nan_to_num(each.population_r2, nan=-np.inf))
        return max(self.comparisons, key=lambda each: (each.p_value, -each.gain))

    @property
    def sentence(self) -> str:
        """The answer and what it rests on, for a reader."""
        hardest, tested = self.strongest, f"p = {self.p_value:.3g}"
        if self.answer is Answer.UNDECIDABLE:
            said = f"{hardest.control} alone explains {hardest.population_r2:.3f} of the targets, so nothing can be shown beyond it"
        elif self.answer is Answer.YES:
            said = f"it encodes the targets linearly beyond every control ({tested})"
        elif self.answer is Answer.NOT_LINEAR:
            ahead = self.nonlinear[0].gain
            said = f"a nonlinear probe finds the targets beyond every control, {ahead:+.3f} ahead of a linear one ({tested})"
        else:
            said = f"beside {hardest.control} its gain is {hardest.gain:+.3f} ({tested})"
        return f"{self.site}: {self.answer.value}; {said}"

    def __str__(self) -> str:
        bent = [f"    nonlinear: {each}" for each in self.nonlinear]
        return "\n".join([self.sentence, *(f"    {each}" for each in self.comparisons), *bent])


@dataclass(frozen=True)
class Verdict:
    """Which sites of a model encode the targets beyond their controls.

    Args:
        sites: one answer each.
        level: chance of any false yes that was accepted.
        rows, n_eff: words that were held out, and their effective number under the weights of the score.
        features: of each site.
        num_permutations: behind each p value but those of the banks.
        departures: of its folds and penalties from the default protocol, by name.
    """

    sites: tuple[SiteVerdict, ...]
    level: float
    rows: int
    n_eff: float
    features: tuple[int, ...]
    num_permutations: int
    departures: tuple[str, ...]

    def __getitem__(self, site: str) -> SiteVerdict:
        for each in self.sites:
            if each.site == site:
                return each
        raise KeyError(f"no site {site!r}; there are {', '.join(each.site for each in self.sites)}")

    @property
    def answer(self) -> Answer:
        """The answer, where one site was asked about; ValueError if there are several."""
        if len(self.sites) != 1:
            raise ValueError(f"sites: {len(self.sites)} were asked about, each has its own answer")
        return self.sites[0].answer

    @property
    def sentence(self) -> str:
        """A plain sentence for each site, one a line."""
        return "\n".join(each.sentence for each in self.sites)

    def table(self) -> pd.DataFrame:
        """One row per site, probe and control, in ``COLUMNS``."""
        lines = []
        for site, features in zip(self.sites, self.features, strict=True):
            whole = {"rows": self.rows, "n_eff": self.n_eff, "features": features}
            for probe, comparisons in (("linear", site.comparisons), ("nonlinear", site.nonlinear)):
                asked = {"site": site.site, "answer": site.answer.value, "probe": probe}
                lines += [asked | vars(each) | whole for each in comparisons]
        return pd.DataFrame(lines).assign(departures=", ".join(self.departures))[list(COLUMNS)]

    def __str__(self) -> str:
        settings = ", ".join([f"{self.num_permutations} permutations", *self.departures])
        asked = f"level {self.level:g}, {self.rows} words held out, effectively {self.n_eff:.0f}; {settings}"
        return "\n".join([f"Encodes the belief beyond its controls? ({asked})", *map(str, self.sites)])
