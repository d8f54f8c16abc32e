"""The command that moves the states of trained models to other beliefs."""

import numpy as np
import pandas as pd
import pytest
import torch
from planted_observer import ObserverState, observer

from comparisons.interventions import Interventions
from comparisons.interventions.bench import LeftOutError, ablate_place, measure_place
from comparisons.interventions.lessons import Deal
from comparisons.interventions.plan import LEAST, RANDOM, SHUFFLED, SUBSPACE, WHOLE, Plan
from comparisons.model_pictures import spread
from pcnet.experiments import command
from pcnet.inference import Status
from pcnet.probing import NotSettledError
from pcnet.processes import mess3, rrxor, words

NAME = "comparisons.interventions.Interventions"
SMALL = Plan(history=5, horizon=3, shortest=2, pairs=15, doses=(0.5, 1.0), subspaces=4, subspaces_by_dose=2)


class Stubborn(ObserverState):
    """The observer, but some states leave nothing to settle around them once they are moved."""

    def __init__(self, model, refused):
        super().__init__(model)
        self.refused = refused

    def put(self, moment, values):
        """Refuses states that began as one of the refused and were moved, if not by a search that differentiates."""
        if values.requires_grad:
            return super().put(moment, values)
        began = (moment.values[:, None] - self.refused).abs().amax(-1).amin(-1) < 1e-9
        moved = (values - moment.values).abs().amax(-1) > 1e-9
        if bool((began & moved).any()):
            raise NotSettledError(torch.where(began & moved, Status.DIVERGED.value, Status.CONVERGED.value))
        return super().put(moment, values)


def measured(place, process, plan=SMALL):
    return pd.DataFrame(measure_place(process, place, words(process, 6), plan, 0))


def score(rows, edit, horizon, dose=1.0, pairs="all"):
    chosen = (rows.edit == edit) & (rows.horizon == horizon) & (rows.dose == dose) & (rows.pairs == pairs)
    return rows[chosen].r2.to_numpy()


@pytest.fixture(scope="module")
def planted():
    """Scores of the ideal observer of rrxor, whose few histories are left out pair by pair."""
    return measured(observer(rrxor())[0], rrxor())


def test_planted_belief_moves_all_futures_and_its_controls_do_not(planted):
    assert SMALL.enough > len(words(rrxor(), 5).levels[-1].tokens)
    for horizon in (1, 2, 3):
        for edit in (LEAST, WHOLE, "pattern"):
            assert score(planted, edit, horizon) == pytest.approx(1.0, abs=1e-6)
        assert score(planted, LEAST, horizon, 0.5) == pytest.approx(1.0, abs=1e-6)
    assert score(planted, SHUFFLED, 3).max() < 0.5
    assert len(score(planted, RANDOM, 3)) == 4
    assert len(score(planted, RANDOM, 3, 0.5)) == 2
    assert np.median(score(planted, RANDOM, 3)) < 0.2


def test_next_token_subspace_is_right_about_the_next_token_alone(planted):
    """A linear state moved until its law is the other's: exact for one token, short of it for three."""
    assert score(planted, SUBSPACE, 1) == pytest.approx(1.0, abs=1e-6)
    assert score(planted, SUBSPACE, 3).max() < 0.7
    assert np.isnan(score(planted, LEAST, 1, pairs="equal next-token law"))
    assert score(planted, LEAST, 3, pairs="equal next-token law") == pytest.approx(1.0, abs=1e-6)
    assert score(planted, SUBSPACE, 3, pairs="equal next-token law") == pytest.approx(0.0, abs=1e-6)


def test_next_token_subspace_of_mess3_is_the_beliefs_own():
    """There the law determines the belief affinely, so that the two moves are one."""
    rows = measured(observer(mess3(0.05, 0.85))[0], mess3(0.05, 0.85))
    for horizon in (1, 3):
        assert score(rows, SUBSPACE, horizon) == pytest.approx(score(rows, LEAST, horizon), abs=1e-6)


def test_pairs_that_do_not_settle_are_dropped_from_every_move_and_counted(planted):
    place, level = observer(rrxor())
    pairs = Deal.make(place, words(rrxor(), 6), SMALL, 0).pairs(level.filtered, None, torch.Generator().manual_seed(0))
    refused = pairs.source[:1]
    missed = int((level.filtered[pairs.source] - level.filtered[refused]).abs().amax(-1).lt(1e-9).sum())
    stubborn = Stubborn(place.model, place.read(level.tokens[refused]).values)
    rows = measured(stubborn, rrxor())
    whole = rows[rows.pairs == "all"]
    assert set(whole.unsettled) == {missed}
    assert 0 < missed < 0.2 * len(pairs)
    assert set(whole["count"]) == {len(pairs) - missed}
    assert score(rows, LEAST, 3) == pytest.approx(1.0, abs=1e-6)
    assert score(rows, SHUFFLED, 3) != pytest.approx(score(planted, SHUFFLED, 3), abs=1e-9)


def test_a_place_where_many_do_not_settle_is_left_out_by_name():
    place, level = observer(rrxor())
    stubborn = Stubborn(place.model, place.read(level.tokens).values)
    with pytest.raises(
        LeftOutError, match=r"30 of 30 states have no equilibrium .*\(30 after the worst: belief 0, dose 0.5\)"
    ):
        measured(stubborn, rrxor())


def test_ablating_the_planted_belief_costs_the_information_it_gives():
    """Left with the mean belief, the observer loses the mean divergence of the exact laws from that belief's, to rounding."""
    process = rrxor()
    place, level = observer(process)
    deal = Deal.make(place, words(process, 6), SMALL, 0)
    lost = pd.DataFrame(ablate_place(process, place, words(process, 6), SMALL, 0)).set_index("ablated")
    T = process.transition_matrices
    futures = torch.stack(
        [T[a] @ T[b] @ T[c] @ process.right_vector for a in (0, 1) for b in (0, 1) for c in (0, 1)], 1
    )
    nats = []
    for rows in deal.halves:
        mean = deal.lessons.without(rows).belief.mean_belief
        law, own = mean @ futures, level.filtered[rows] @ futures
        nats += torch.xlogy(own, own / law).sum(-1).tolist()
    assert lost.divergence["belief"] == pytest.approx(np.mean(nats), abs=1e-6)
    assert lost.divergence["nothing"] == pytest.approx(0.0, abs=1e-9)
    assert set(lost["count"]) == {len(level.tokens)}


@pytest.mark.parametrize("enough", [2, 200], ids=["by half", "pair by pair"])
def test_nothing_is_learned_from_words_that_begin_with_a_held_out_history(enough):
    """Against a table of words: what was read of words without the histories, and of no other, shapes the encoding."""
    process = rrxor()
    place, level = observer(process)
    population = words(process, 6)
    deal = Deal.make(place, population, Plan(history=5, shortest=2, pairs=4, enough=enough), 0)
    pairs = deal.pairs(level.filtered, None, torch.Generator().manual_seed(1))
    seen = torch.zeros(len(pairs), dtype=torch.long)
    for rows, known in deal.learned(pairs):
        seen[rows] += 1
        histories = {*pairs.source[rows].tolist(), *pairs.target[rows].tolist()}
        if enough == 2:
            half = next(half for half in deal.halves if int(pairs.source[rows[0]]) in half.tolist())
            assert histories <= set(half.tolist())
            histories = set(half.tolist())
        banned = {tuple(level.tokens[row].tolist()) for row in histories}
        kept = [
            (length, tuple(word))
            for length, part in enumerate(population.levels, 1)
            for word in part.tokens.tolist()
            if length >= 2 and tuple(word[:5]) not in banned
        ]
        assert known.words == len(kept)
        counts = np.bincount([length for length, _ in kept])
        mean = np.zeros(process.num_states)
        for length, word in kept:
            vector = process.initial_distribution
            for token in word:
                vector = vector @ process.transition_matrices[token]
            mean += (vector / vector.sum()).numpy() / counts[length] / (counts > 0).sum()
        np.testing.assert_allclose(known.belief.mean_belief, mean, atol=1e-12)
    assert (seen == 1).all()


def test_random_subspaces_are_told_by_median_and_ends():
    values = pd.Series(np.random.default_rng(0).normal(size=20))
    ordered = np.sort(values)
    assert spread(values) == f"{(ordered[9] + ordered[10]) / 2:.3f} ({ordered[0]:.3f} to {ordered[-1]:.3f})"


@pytest.mark.slow
def test_smoke_run_is_resumed_and_drawn_again(tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = ["--smoke", "--out", str(folder), "--workers", "0"]
    assert command(NAME, arguments) == 0
    moves = pd.read_csv(folder / "moves.csv")
    assert set(moves.model) == {"transformer", "gru", "temporal_pc"}
    assert set(moves.horizon) == {1, 2}
    random = moves[moves.edit == RANDOM]
    assert set(random.dose) == set(Interventions.smoke["plan"]["doses"])
    assert "| mess3 | gru | hidden units |" in capsys.readouterr().out
    parts = {path: path.stat().st_mtime_ns for path in folder.glob("parts/*")}
    made = {name: (folder / name).read_bytes() for name in ("moves.csv", "ablations.csv", "interventions.md")}
    assert command(NAME, arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("parts/*")} == parts  # nothing was missing
    (folder / "interventions.png").unlink()
    assert command(NAME, [*arguments, "--replot"]) == 0
    assert (folder / "interventions.png").stat().st_size > 0
    assert {name: (folder / name).read_bytes() for name in made} == made


def test_replot_of_nothing_is_refused(tmp_path):
    assert command(NAME, ["--replot", "--out", str(tmp_path)]) == 2
