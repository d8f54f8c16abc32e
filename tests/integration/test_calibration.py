"""The calibration: small and end to end, with a lost part found again, and plants that are what they are called."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from comparisons.calibration import cases, coverage, plants, tables
from pcnet.experiments import command
from pcnet.experiments.settings import build, resolve
from pcnet.processes import rrxor, words


@pytest.fixture(scope="module")
def population():
    return rrxor(), words(rrxor(), 8)


def test_smoke_judges_once_and_draws_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--smoke", "--out", str(tmp_path), "--workers", "0"]
    assert command("comparisons.calibration.Calibration", arguments) == 0
    text = (tmp_path / "calibration.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert (tmp_path / "calibration.png").read_bytes().startswith(b"\x89PNG")
    rows, samples = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("cases", "samples"))
    assert sorted(rows.number) == list(range(18)) and len(samples) == 25
    assert set(rows[rows.group == "undecidable"].answer) == {"not decidable here"}
    assert set(rows[rows.group.isin(["negative", "beyond"])].answer) == {"no"}
    assert set(rows[rows.group == "positive"].answer) == {"yes"}
    # what is missing comes out as before, and can be missing in a report
    shutil.rmtree(next(tmp_path.glob("parts/cases-*")))
    for again in (["--replot"], []):
        assert command("comparisons.calibration.Calibration", [*arguments, *again]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "cases.csv"), rows)
    assert (tmp_path / "calibration.md").read_text() == text


def test_the_plan_is_what_was_asked_for() -> None:
    planned = cases.Plan().cases()
    assert Counter(case.group for case in planned)["negative"] == 500
    assert Counter(case.group for case in planned)["positive"] == 500
    assert Counter(case.group for case in planned)["undecidable"] >= 20
    classes = Counter(case.kind for case in planned if case.group == "negative")
    assert len(classes) == 6 and set(classes.values()) == {83, 84}
    for name in classes:
        assert len({case.setting for case in planned if case.kind == name}) == len(cases.SETTINGS)
    assert len({case.number for case in planned}) == len(planned)


def test_jobs_share_out_every_case_and_sample_once() -> None:
    experiment = build(resolve({"class_path": "comparisons.calibration.Calibration", "init_args": {}}))
    jobs = experiment.jobs()
    assert len({job.part for job in jobs}) == len(jobs)
    cases = [case for job in jobs if job.part.startswith("cases") for case in job.work.args[0]]
    assert sorted(case.number for case in cases) == list(range(len(experiment.plan.cases())))
    starts = Counter(job.work.args[0] for job in jobs if job.part.startswith("samples"))
    assert starts == dict.fromkeys(coverage.SAMPLES, 24 // 6)


@pytest.mark.parametrize("seed", range(4))
def test_functions_are_constant_where_what_they_know_is(population, seed: int) -> None:
    process, every = population
    laws = every.next_token_laws.numpy().round(9)
    tokens, lengths = every.tokens.numpy(), every.lengths.numpy()
    last = [tuple(word[max(0, n - 4) : n]) for word, n in zip(tokens, lengths, strict=True)]
    for plant, known in ((plants.of_law, [tuple(law) for law in laws]), (plants.of_last_tokens, last)):
        features = plant(process, every, 6, np.random.default_rng(seed))
        first = {key: features[row] for row, key in reversed(list(enumerate(known)))}
        np.testing.assert_allclose(features, [first[key] for key in known], atol=1e-9)
        assert len(np.unique(features.round(9), axis=0)) > 1


def test_a_planted_belief_has_the_strength_it_says(population) -> None:
    # noise of variance 1 / s in orthonormal directions: the best decoder has R2 s / (1 + s), if the controls beside it
    # don't help, as they can't where the "belief" is drawn at random
    every = population[1]
    scores = []
    for seed in range(30):
        belief = np.linalg.qr(np.random.default_rng(100 + seed).standard_normal((every.num_words, 4)))[0]
        features = plants.beside_controls(belief, every, 32, 4.0, np.random.default_rng(seed))
        scores.append(LinearRegression().fit(features, belief).score(features, belief))
    # 32 regressors explain about 32 / 350 of what is noise
    assert np.mean(scores) == pytest.approx(0.8 + 0.2 * 32 / every.num_words, abs=0.01)


def test_a_shuffled_belief_is_still_the_same_set_of_beliefs(population) -> None:
    process, every = population
    kinds = set()
    for seed in range(12):
        features = plants.shuffled(process, every, 8, np.random.default_rng(seed))
        assert features.var() > 0
        generator = np.random.default_rng(seed)
        kinds.add(int(generator.integers(3)))
        score = LinearRegression().fit(features, every.filtered).score(features, every.filtered)
        assert score < 0.5
    assert kinds == {0, 1, 2}


def test_a_belief_under_a_sign_is_there_and_not_linear(population) -> None:
    process, every = population
    belief = plants.spread(every.filtered.numpy())
    features = plants.under_a_sign(process, every, 8, np.random.default_rng(0))
    assert LinearRegression().fit(features, belief).score(features, belief) < 0.1
    products = (features[:, :, None] * features[:, None, :]).reshape(len(features), -1)
    assert LinearRegression().fit(products, belief).score(products, belief) > 0.999


def test_the_excess_is_that_of_a_one_sided_binomial_test() -> None:
    for hits, count in ((0, 84), (7, 83), (475, 500)):
        expected = stats.binomtest(hits, count, 0.05, alternative="greater").pvalue
        assert tables.excess_p(hits, count) == pytest.approx(expected)


def test_broken_bounds_are_called_broken() -> None:
    rows = pd.DataFrame(
        [{"group": "negative", "kind": "random features", "answer": "yes", "p shuffled": 0.01, "strength": np.nan}] * 10
        + [{"group": "positive", "kind": "belief", "answer": "no", "p shuffled": 0.5, "strength": 16.0}] * 10
        + [{"group": "undecidable", "kind": "belief", "answer": "yes", "strength": 16.0}] * 2
    )
    keys = {"process": "rrxor", "length": 10, "width": 8, "strength": 4.0, "sequences": 60}
    samples = pd.DataFrame([keys | {"estimate": 0.5, "low": 0.4, "high": 0.6, "fresh": 0.7}] * 10)
    assert not any(bound.kept for bound in tables.bounds(rows, samples))
    samples["fresh"] = [0.5] * 9 + [0.7]
    assert tables.coverage(samples)["share"].tolist() == [0.9, 0.9]


def test_fresh_rows_are_a_million_and_follow_the_process() -> None:
    sample = coverage.SAMPLES[0]
    whole = coverage.population(sample, 0)
    assert 1_000_000 <= whole.fresh.sum() <= 1_000_010
    every = words(rrxor(), sample.length)
    expected = every.probabilities.numpy() * (every.lengths.numpy() >= 4) / 7
    assert np.abs(whole.fresh / whole.fresh.sum() - expected).max() < 5 * np.sqrt(expected.max() / 1e6 * 7)
    rows = whole.draw(3, np.random.default_rng(0))
    for sequence in rows:
        longest = every.tokens[sequence[-1]]
        for n, row in enumerate(sequence, start=1):
            assert every.lengths[row] == n and every.tokens[row, :n].equal(longest[:n])
