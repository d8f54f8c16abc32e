"""A model's features against every control, with what the rows alone decide computed once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from jaxtyping import Float

from pcnet.probing.controls.banks import ControlBank, ScoredControlBank, as_features
from pcnet.probing.controls.tested import ControlTest, default_control_tests, known_to
from pcnet.probing.regression.principal import principal_coordinates
from pcnet.probing.regression.protocol import Protocol
from pcnet.probing.rows.dataset import as_numpy
from pcnet.probing.rows.subject import Subject
from pcnet.probing.verdict.answers import Comparison
from pcnet.probing.verdict.significance import Ruler, rank_p_value, strata_orders

VERDICT_PROTOCOL = Protocol(fold_seeds=(0,), alphas=(1e-8, 1e-4, 1e-3, 1e-2, 1e-1))
"""The default protocol but for one deal to folds instead of five and a coarser grid of penalties: each of hundreds of
permutations is fitted as the model's own features are."""


@dataclass(frozen=True, eq=False)
class Examination:
    """Everything about a verdict that depends on the rows and not on the model, computed once for many models.

    Args:
        subject: process, unique words and targets, without what a model made of them.
        controls: the controls with known populations.
        banks: those of which the members' scores are known.
        protocol: folds and penalties.
    """

    subject: Subject
    controls: tuple[ControlTest, ...]
    banks: tuple[ScoredControlBank, ...]
    protocol: Protocol

    @classmethod
    def of(cls, subject: Subject, banks: Sequence[ControlBank] = ()) -> Self:
        """Prepares controls and scores the banks, unless nothing can be decided anyway.

        Args:
            subject: process, unique words and targets.
            banks: members have one row per word.

        Raises:
            ValueError: if the targets don't vary.
        """
        targets = principal_coordinates(as_numpy(subject.targets))
        if not targets.any():
            raise ValueError("targets: all rows are equal; there is nothing to encode")
        whole = replace(subject, targets=targets, features=None, logits=None)
        controls = default_control_tests(whole)
        prepared = cls(whole, controls, (), VERDICT_PROTOCOL)
        if not prepared.decidable:
            return prepared
        return replace(prepared, banks=tuple(map(prepared.score, banks)))

    @property
    def decidable(self) -> bool:
        """Whether every control leaves enough of the targets."""
        return all(control.decides for control in self.controls)

    @property
    def ruler(self) -> Ruler:
        """Measures errors in the protocol's first deal, the same for a model and for the members of a bank."""
        return Ruler(self.subject.words.lengths.numpy(), self.protocol)

    @cached_property
    def known(self) -> Float[np.ndarray, "N C"]:
        """All that the controls say of the targets."""
        return known_to(self.controls, as_numpy(self.subject.targets))

    @cached_property
    def known_error(self) -> float:
        """Held-out squared error of a probe that sees what the controls say and nothing else."""
        return self.error(self.known)

    def error(self, features: Float[np.ndarray, "N D"]) -> float:
        """Held-out squared error of a probe that sees these features."""
        targets = as_numpy(self.subject.targets)
        return float(self.ruler.errors(features, targets, np.arange(len(targets))[:, None])[0])

    def gain_over_controls(self, features: Float[np.ndarray, "N D"]) -> float:
        """Held-out R2 that features add to all that the controls say of the targets, side by side."""
        both = self.error(np.concatenate([self.known, features], axis=1))
        return (self.known_error - both) / self.ruler.variance(as_numpy(self.subject.targets))

    def score(self, bank: ControlBank) -> ScoredControlBank:
        """Every member's gain over the controls."""
        return ScoredControlBank(
            bank.name, np.array([self.gain_over_controls(as_features(each)) for each in bank.members])
        )

    def against_banks(self, features: Float[np.ndarray, "N D"]) -> list[Comparison]:
        """The rank of these features in each bank."""
        if not self.banks:
            return []
        own = self.gain_over_controls(features)
        return [
            Comparison(bank.name, own - float(np.median(bank.gains)), rank_p_value(own, bank.gains), float("nan"))
            for bank in self.banks
        ]

    def against_control(
        self, control: ControlTest, features: Float[np.ndarray, "N D"], num_permutations: int, seed: int
    ) -> Comparison:
        """The gain over one control among those after exchanging its residuals within its strata."""
        # for features that are functions of the control's cells it is the deal to folds that is random
        generator = np.random.default_rng(seed)
        ruler = replace(self.ruler, protocol=replace(self.protocol, fold_seeds=(int(generator.integers(2**31)),)))
        orders = strata_orders(control.strata, num_permutations, generator)
        orders = np.concatenate([np.arange(len(features))[:, None], orders], axis=1)
        errors = ruler.errors(np.concatenate([control.explained, features], axis=1), control.residual, orders)
        gain = (ruler.total(control.residual) - errors) / ruler.variance(as_numpy(self.subject.targets))
        return Comparison(control.name, float(gain[0]), rank_p_value(gain[0], gain[1:]), control.population_r2)

    def compare(
        self, features: Float[np.ndarray, "N D"], controls: Sequence[ControlTest], num_permutations: int, seed: int
    ) -> tuple[Comparison, ...]:
        """A site against every control."""
        tested = (self.against_control(control, features, num_permutations, seed) for control in controls)
        return (*tested, *self.against_banks(features))
