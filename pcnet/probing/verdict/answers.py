"""What can be said of a model's sites, with all that it rests on."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
import pandas as pd

from pcnet.probing.verdict.gain import DECIDABLE_BELOW


class Answer(Enum):
    """What can be said of a site."""

    YES = "yes"
    NO = "no"
    UNDECIDABLE = "not decidable here"


@dataclass(frozen=True)
class Comparison:
    """A site against one control.

    Args:
        control: its name.
        gain: held-out R2 of [control + features] over [control], words equally weighted within a length; over a bank,
            the gain over all other controls minus the median of the bank's members. NaN where nothing was fitted.
        p_value: that of the gain, before the correction over sites. NaN where nothing was fitted.
        population_r2: what the control explains if the whole population is known. NaN for a bank, of which each
            member would explain something else.
    """

    control: str
    gain: float
    p_value: float
    population_r2: float

    @property
    def decides(self) -> bool:
        """Whether the control leaves enough of the targets for an answer."""
        return not self.population_r2 >= DECIDABLE_BELOW


@dataclass(frozen=True)
class SiteVerdict:
    """The answer for one site, with all that it rests on.

    Args:
        site: its name.
        answer: yes, no or not decidable here.
        p_value: the largest over the controls, corrected over the sites; NaN where nothing was fitted.
        comparisons: one for each control.
    """

    site: str
    answer: Answer
    p_value: float
    comparisons: tuple[Comparison, ...]

    @property
    def strongest(self) -> Comparison:
        """The control that it is hardest to beat here; where nothing can be decided, the one that explains most."""
        if self.answer is Answer.UNDECIDABLE:
            return max(self.comparisons, key=lambda each: np.nan_to_num(each.population_r2, nan=-np.inf))
        return max(self.comparisons, key=lambda each: (each.p_value, -each.gain))

    def __str__(self) -> str:
        hardest = self.strongest
        if self.answer is Answer.UNDECIDABLE:
            return f"{self.site}: {self.answer.value}; {hardest.control} alone explains {hardest.population_r2:.3f}"
        return (
            f"{self.site}: {self.answer.value} (p = {self.p_value:.3g}); hardest to beat: {hardest.control}, "
            f"gain {hardest.gain:+.3f}, p = {hardest.p_value:.3g}"
        )


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

    def table(self) -> pd.DataFrame:
        """One row per site and control: answer, gain, p_value, population_r2, and rows, n_eff, features and departures."""
        return pd.DataFrame(
            [
                {
                    **{"site": site.site, "answer": site.answer.value, "control": each.control, "gain": each.gain},
                    **{"p_value": each.p_value, "population_r2": each.population_r2},
                    **{"rows": self.rows, "n_eff": self.n_eff, "features": features},
                    "departures": ", ".join(self.departures),
                }
                for site, features in zip(self.sites, self.features, strict=True)
                for each in site.comparisons
            ]
        )

    def __str__(self) -> str:
        lines = [
            f"Encodes the belief beyond its controls? (level {self.level:g}, {self.rows} words held out, "
            f"effectively {self.n_eff:.0f}; "
            f"{', '.join([f'{self.num_permutations} permutations', *self.departures])})"
        ]
        for site in self.sites:
            lines.append(str(site))
            for each in site.comparisons:
                known = "" if np.isnan(each.population_r2) else f"  explains {each.population_r2:.3f} by itself"
                tested = "" if np.isnan(each.p_value) else f"  gain {each.gain:+.3f}  p = {each.p_value:<6.3g}"
                lines.append(f"    {each.control:<18}{tested}{known}")
        return "\n".join(lines)
