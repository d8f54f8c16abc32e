"""Every seeded defect is caught."""

import pytest
from mutants import MUTANTS, Mutant, survivors


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_still_about_a_line_that_exists(mutant: Mutant) -> None:
    mutant.check()
    assert mutant.line != mutant.defect


def test_names_tell_mutants_apart() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20


@pytest.mark.slow
def test_no_mutant_survives() -> None:
    assert survivors(MUTANTS) == []
