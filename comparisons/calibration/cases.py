"""What is planted where, and what the verdict says of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache

import numpy as np
import pandas as pd

from comparisons.calibration.plants import BEYOND, NEGATIVES, beside_controls
from pcnet.experiments import Tables
from pcnet.probing import DefaultBanks, Examination, ScoredControlBank, Subject, examine
from pcnet.processes import HiddenMarkovModel, Words, even, leaky_rrxor, mess3, rrxor, words, zrr

PROCESSES = {
    "rrxor": rrxor,
    "rrxor .3 .6": lambda: rrxor(0.3, 0.6),
    "zrr": zrr,
    "leaky rrxor": leaky_rrxor,
    "mess3": mess3,
    "mess3 .1 .7": lambda: mess3(0.1, 0.7),
    "mess3 .02 .9": lambda: mess3(0.02, 0.9),
    "even": even,
}
SETTINGS = (
    ("rrxor", 8, 8),
    ("rrxor", 8, 32),
    ("rrxor", 10, 8),
    ("rrxor", 10, 16),
    ("rrxor", 10, 32),
    ("rrxor", 10, 64),
    ("rrxor .3 .6", 9, 16),
    ("rrxor .3 .6", 9, 32),
    ("zrr", 10, 16),
    ("zrr", 10, 64),
    ("leaky rrxor", 9, 16),
    ("leaky rrxor", 9, 32),
)
"""Process, greatest word length and width of the features: 350 to 1046 words, 8 to 64 features."""
UNDECIDABLE = (("mess3", 6, 16), ("mess3 .1 .7", 6, 16), ("mess3 .02 .9", 6, 16), ("even", 9, 16))
"""Here a control determines the belief."""
STRENGTHS = (16.0, 32.0, 64.0)
"""Ratio of variances, belief over noise, at which power is asked."""
WEAKER = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Where it is only shown."""
MEMBERS = 39
"""Of each bank, in one verdict."""
PERMUTATIONS = 59


Setting = tuple[str, int, int]
"""Process, greatest word length and width of the features."""


@dataclass(frozen=True)
class Plan:
    """How many cases.

    Args:
        negatives: of the six stated classes together.
        positives: at the stated strengths together.
        weaker: for each weaker strength.
        beyond: for each of the two harder classes.
        undecidable: beliefs on processes where a control determines them.
        pool: members of each bank, of which every verdict draws its own.
        settings: where.
    """

    negatives: int = 500
    positives: int = 500
    weaker: int = 36
    beyond: int = 60
    undecidable: int = 24
    pool: int = 50
    settings: list[Setting] = field(default_factory=lambda: list(SETTINGS))

    def cases(self) -> list["Case"]:
        """All of them, dealt evenly to the settings."""
        planned: list[tuple[str, str, float]] = []
        planned += [("negative", name, np.nan) for name in take(tuple(NEGATIVES), self.negatives)]
        planned += [("positive", "belief", strength) for strength in take(STRENGTHS, self.positives)]
        planned += [("weaker", "belief", strength) for strength in WEAKER for _ in range(self.weaker)]
        planned += [("beyond", name, np.nan) for name in BEYOND for _ in range(self.beyond)]
        dealt: dict[tuple[str, str, float], int] = {}
        cases = []
        for number, (group, kind, strength) in enumerate(planned):
            key = (group, kind, str(strength))
            dealt[key] = dealt.get(key, -1) + 1
            cases.append(Case(number, group, kind, strength, *self.settings[dealt[key] % len(self.settings)]))
        for number in range(self.undecidable):
            setting = UNDECIDABLE[number % len(UNDECIDABLE)]
            cases.append(Case(len(planned) + number, "undecidable", "belief", STRENGTHS[-1], *setting))
        return cases


@dataclass(frozen=True)
class Case:
    """One planted answer.

    Args:
        number: of the case, and part of its seed.
        group: negative, positive, weaker, beyond or undecidable.
        kind: its class.
        strength: belief over noise, in variances; NaN where there is none.
        process, length, width: the setting.
    """

    number: int
    group: str
    kind: str
    strength: float
    process: str
    length: int
    width: int

    @property
    def setting(self) -> Setting:
        return self.process, self.length, self.width

    def features(self, process: HiddenMarkovModel, population: Words, generator: np.random.Generator) -> np.ndarray:
        """What is planted."""
        if self.kind == "belief":
            belief = population.filtered.numpy()
            return beside_controls(belief, population, self.width, self.strength, generator)
        return (NEGATIVES | BEYOND)[self.kind](process, population, self.width, generator)


def take(kinds: Sequence, count: int) -> list:
    """`count` of them in turn."""
    return [kinds[number % len(kinds)] for number in range(count)]


@cache
def material(name: str, length: int) -> tuple[HiddenMarkovModel, Words]:
    """A process and its words."""
    process = PROCESSES[name]()
    return process, words(process, length)


@cache
def prepare(setting: Setting, pool: int, seed: int) -> Examination:
    """The setting's controls, and a large pool for each of its banks, scored; once in a process."""
    name, length, width = setting
    process, population = material(name, length)
    subject = Subject(process, population, population.filtered)
    return Examination.of(subject, DefaultBanks(pool, seed).banks(subject, "", width))


def judge(cases: Sequence[Case], examination: Examination, seed: int) -> Tables:
    """What the verdict says of each case, the control that decided it, and the p value of every control's test."""
    rows, tests = [], []
    for case in cases:
        generator = np.random.default_rng([seed, case.number])
        features = case.features(*material(case.process, case.length), generator)
        banks = [ScoredControlBank(bank.name, generator.permuted(bank.gains)[:MEMBERS]) for bank in examination.banks]
        answer = examine(
            replace(examination, banks=tuple(banks)),
            {"planted": features},
            num_permutations=PERMUTATIONS,
            seed=int(generator.integers(2**31)),
        )["planted"]
        hardest = answer.strongest
        found = {"answer": answer.answer.value, "p_value": answer.p_value, "hardest": hardest.control}
        rows.append(asdict(case) | found | {"gain_over_hardest": hardest.gain})
        tests += [{"number": case.number, "control": one.control, "p_value": one.p_value} for one in answer.comparisons]
    return {"cases": pd.DataFrame(rows), "tests": pd.DataFrame(tests, columns=["number", "control", "p_value"])}
