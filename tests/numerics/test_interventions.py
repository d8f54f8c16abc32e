"""Interventions: a model that holds its belief in known directions, brute force over words, closed forms."""

from itertools import product

import numpy as np
import pytest
import torch
from planted_observer import observer
from scipy.optimize import minimize

from pcnet import GRU, LSTM, TemporalPC, Transformer
from pcnet.inference import Inference, Momentum, NewtonCG, Status
from pcnet.networks.time.steps import StepClamp
from pcnet.probing import (
    Ablation,
    AllValues,
    ClampedLevel,
    Encoding,
    HiddenUnits,
    LeastEdit,
    NotSettledError,
    Pairs,
    PatternEdit,
    PseudoinverseEdit,
    RandomAblation,
    RandomEdit,
    ResidualHistory,
    ResidualStream,
    agreement,
    divergence,
    edited_futures,
    exact_futures,
    model_futures,
    next_tokens,
    steer_to_belief,
    steer_to_law,
)
from pcnet.processes import mess3, rrxor, words


def brute_force(process, belief, horizon):
    """P(w | belief) by multiplying out every word, one at a time, in numpy."""
    T = process.transition_matrices.numpy()
    laws = []
    for word in product(range(process.vocab_size), repeat=horizon):
        vector = belief
        for token in word:
            vector = vector @ T[token]
        laws.append(vector.sum())
    return np.array(laws)


@pytest.mark.parametrize("process", [mess3(0.05, 0.85), rrxor()], ids=["mess3", "rrxor"])
def test_exact_futures_are_sums_over_words(process):
    beliefs = words(process, 3).filtered[::3]
    for horizon in (1, 2, 4):
        expected = np.stack([brute_force(process, belief, horizon) for belief in beliefs.numpy()])
        np.testing.assert_allclose(exact_futures(process, beliefs, horizon), expected, atol=1e-15)


def test_shorter_laws_are_marginals():
    process = rrxor()
    beliefs = words(process, 3).filtered
    four = exact_futures(process, beliefs, 4)
    torch.testing.assert_close(next_tokens(four, 2, 2), exact_futures(process, beliefs, 2), rtol=0, atol=1e-15)


def test_futures_of_a_model_multiply_its_next_token_laws():
    torch.manual_seed(0)
    model = GRU(3, width=5).double()
    tokens = torch.tensor([[0, 1, 2], [2, 2, 1]])
    futures = model_futures(HiddenUnits(model), HiddenUnits(model).read(tokens), 3)
    for row, history in enumerate(tokens.tolist()):
        for number, word in enumerate(product(range(3), repeat=3)):
            laws = model(torch.tensor([[*history, *word]])).softmax(-1)[0]
            expected = torch.stack([laws[2 + place, token] for place, token in enumerate(word)]).prod()
            torch.testing.assert_close(futures[row, number], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("process", [mess3(0.05, 0.85), rrxor()], ids=["mess3", "rrxor"])
def test_edit_of_a_planted_belief_is_exact(process):
    """Moved along its belief directions, the observer predicts exactly what the other belief does."""
    place, level = observer(process)
    rest, held = level.tokens[::2], level.tokens[1::2]
    encoding = Encoding.fit(place.read(rest).values, level.filtered[::2])
    start, beliefs = place.read(held), level.filtered[1::2]
    target = beliefs.flip(0)
    exact = exact_futures(process, target, 4)
    torch.testing.assert_close(model_futures(place, start, 4), exact_futures(process, beliefs, 4), rtol=0, atol=1e-12)
    whole = PatternEdit(encoding).move(start.values, beliefs, target)
    torch.testing.assert_close(model_futures(place, place.put(start, whole), 4), exact, rtol=0, atol=1e-12)
    half = PatternEdit(encoding).dose(start.values, beliefs, target, 0.5)
    middle = exact_futures(process, (beliefs + target) / 2, 4)
    torch.testing.assert_close(model_futures(place, place.put(start, half), 4), middle, rtol=0, atol=1e-12)
    least = LeastEdit(encoding).move(start.values, beliefs, target)
    torch.testing.assert_close(least, whole, rtol=0, atol=1e-6)


def noisy(seed=0, rows=4000, width=5):
    """Activations in correlated noise, with beliefs in two known directions."""
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    beliefs = torch.rand(rows, 3, **draw)
    beliefs = beliefs / beliefs.sum(1, keepdim=True)
    mix = torch.randn(width, width, **draw)
    pattern = torch.randn(width, 3, **draw)
    return 0.2 * torch.randn(rows, width, **draw) @ mix.T + beliefs @ pattern.T, beliefs, pattern


def test_least_edit_solves_its_problem():
    """Against scipy's constrained minimiser: least length in the covariance's metric, the probe reads the target."""
    values, beliefs, _ = noisy()
    encoding = Encoding.fit(values, beliefs)
    target = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64)
    start = values[:1]
    moved = LeastEdit(encoding).move(start, beliefs[:1], target)
    torch.testing.assert_close(encoding.decode(moved), target, rtol=0, atol=1e-10)
    metric, decoder = torch.linalg.inv(encoding.covariance).numpy(), encoding.decoder.numpy()
    wanted = (target - encoding.decode(start))[0].numpy()
    limits = {"type": "eq", "fun": lambda d: decoder[:2] @ d - wanted[:2], "jac": lambda d: decoder[:2]}
    found = minimize(
        lambda d: d @ metric @ d,
        np.zeros(5),
        jac=lambda d: 2 * metric @ d,
        constraints=[limits],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose((moved - start)[0].numpy(), found.x, atol=1e-5)


def test_pattern_is_the_encoding_and_not_the_decoder():
    """The pattern is found through correlated noise; the pseudo-inverse of the decoder points elsewhere."""
    values, beliefs, pattern = noisy(rows=200_000)
    encoding = Encoding.fit(values, beliefs)
    change = torch.tensor([[1.0, -1.0, 0.0], [0.5, 0.5, -1.0]], dtype=torch.float64)
    source = beliefs[:2]
    moved = PatternEdit(encoding).move(values[:2], source, source + change) - values[:2]
    torch.testing.assert_close(moved, change @ pattern.T, rtol=0.05, atol=0.02)
    start = values[:2]
    reached = PseudoinverseEdit(encoding).move(start, source, source + change)
    torch.testing.assert_close(encoding.decode(reached), source + change, rtol=0, atol=1e-9)
    assert (reached - start).norm() < (LeastEdit(encoding).move(start, source, source + change) - start).norm()
    assert torch.cosine_similarity((reached - start).flatten(), (change @ pattern.T).flatten(), 0) < 0.9


def test_least_edit_is_the_scaled_pattern():
    """X (X^T C^-1 X)^+ from plain covariances, up to the shrinkage of the probe's penalty."""
    values, beliefs, _ = noisy()
    encoding = Encoding.fit(values, beliefs)
    a, b = (part - part.mean(0) for part in (values, beliefs))
    cross = (a.T @ b / len(a)).numpy()
    covariance = (a.T @ a / len(a)).numpy()
    directions = cross @ np.linalg.pinv(cross.T @ np.linalg.solve(covariance, cross), rcond=1e-9)
    change = np.array([[0.1, -0.3, 0.2]])
    torch.testing.assert_close(
        LeastEdit(encoding).directions @ torch.as_tensor(change).T,
        torch.as_tensor(directions @ change.T),
        rtol=5e-3,
        atol=0,
    )


def test_random_edit_goes_as_far_and_elsewhere():
    values, beliefs, _ = noisy(width=60)
    encoding = Encoding.fit(values, beliefs)
    least = LeastEdit(encoding)
    moved = RandomEdit(least, encoding, 1).move(values, beliefs, beliefs.flip(0)) - values
    torch.testing.assert_close(moved.norm(dim=1), (least.move(values, beliefs, beliefs.flip(0)) - values).norm(dim=1))
    assert torch.linalg.matrix_rank(moved) == encoding.rank == 2


def r2(x, y):
    """Of the least-squares fit with a constant, by numpy."""
    x = np.column_stack([x.numpy(), np.ones(len(x))])
    rest = y.numpy() - x @ np.linalg.lstsq(x, y.numpy(), rcond=None)[0]
    return 1 - (rest**2).sum() / ((y.numpy() - y.numpy().mean(0)) ** 2).sum()


def test_ablation_erases_the_belief_and_a_random_one_leaves_it():
    values, beliefs, _ = noisy(width=40)
    encoding = Encoding.fit(values, beliefs)
    before = r2(values, beliefs)
    emptied = Ablation(encoding).move(values, beliefs, beliefs)
    other = RandomAblation(encoding, 0).move(values, beliefs, beliefs)
    assert r2(emptied, beliefs) < 1e-6
    torch.testing.assert_close(
        encoding.decode(emptied), encoding.mean_belief.expand(len(values), -1), rtol=0, atol=1e-10
    )
    assert before - 0.03 < r2(other, beliefs) <= before + 1e-9
    assert torch.linalg.matrix_rank(other - values) == 2


def test_steering_ends_at_the_least_edit():
    values, beliefs, _ = noisy()
    encoding = Encoding.fit(values, beliefs)
    target = beliefs.flip(0)[:5]
    steered = steer_to_belief(encoding, values[:5], target, steps=3000)
    torch.testing.assert_close(steered, LeastEdit(encoding).move(values[:5], beliefs[:5], target), rtol=0, atol=1e-8)
    assert torch.equal(steer_to_belief(encoding, values[:5], target, steps=0), values[:5])


def seeded(model_class, *sizes, **settings):
    torch.manual_seed(1)
    return model_class(3, *sizes, **settings).double()


def some_places():
    network = seeded(TemporalPC, width=6, inference=Inference(atol=1e-9))
    tight = Inference(Momentum(0.1, 0.8), atol=1e-9, max_steps=5000)
    transformer = seeded(Transformer, context=8, layers=3, width=12, head_width=4, mlp_width=16)
    return {
        "gru": HiddenUnits(seeded(GRU, width=6, layers=2)),
        "lstm": HiddenUnits(seeded(LSTM, width=6)),
        "values": AllValues(network),
        "level 1": ClampedLevel(network, 1, tight),
        "residual": ResidualStream(transformer, 1),
        "history": ResidualHistory(transformer, 1),
    }


PLACES = some_places()
HISTORIES = torch.tensor([[0, 1, 2], [2, 0, 0], [1, 1, 1]])
each_place = pytest.mark.parametrize("name", PLACES)


@each_place
def test_putting_back_what_is_there_changes_nothing(name):
    place = PLACES[name]
    start = place.read(HISTORIES)
    torch.testing.assert_close(start.logits, place.model(HISTORIES)[:, -1], rtol=0, atol=1e-7)
    again = place.put(start, start.values)
    torch.testing.assert_close(model_futures(place, again, 3), model_futures(place, start, 3), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["gru", "lstm", "values", "history"])
def test_patching_the_whole_state_is_running_the_other_history(name):
    place = PLACES[name]
    start = place.read(HISTORIES)
    patched = model_futures(place, place.put(start, start.values.roll(1, 0)), 4)
    other = place.read(HISTORIES.roll(1, 0))
    for row, tokens in enumerate(HISTORIES.roll(1, 0).tolist()):
        law = place.model(torch.tensor([tokens])).softmax(-1)[0, -1]
        torch.testing.assert_close(next_tokens(patched, 3, 1)[row], law, rtol=0, atol=1e-7)
    torch.testing.assert_close(patched, model_futures(place, other, 4), rtol=0, atol=1e-7)


def test_patching_one_position_is_not():
    """Later positions read this one, and earlier ones that were not patched."""
    place = PLACES["residual"]
    start = place.read(HISTORIES)
    patched = model_futures(place, place.put(start, start.values.roll(1, 0)), 3)
    before, other = (model_futures(place, place.read(rows), 3) for rows in (HISTORIES, HISTORIES.roll(1, 0)))
    assert (patched - other).abs().max() > 1e-4
    assert (patched - before).abs().max() > 1e-4


def test_patching_the_last_block_gives_the_other_law_of_the_next_token():
    place = ResidualStream(PLACES["residual"].model, 2)
    start = place.read(HISTORIES)
    patched = place.put(start, start.values.roll(1, 0))
    torch.testing.assert_close(patched.logits, start.logits.roll(1, 0), rtol=0, atol=1e-12)


def test_clamped_level_lets_the_others_relax_to_their_own_minimum():
    """Against scipy's minimiser of the energy over the free level, from another start."""
    place = PLACES["level 1"]
    start = place.read(HISTORIES)
    held = start.values + 0.3
    moment = place.put(start, held)
    assert torch.equal(moment.memory[0], held)
    for row in range(len(HISTORIES)):
        one = start.rows(torch.tensor([row]))
        problem = place.model.problem(StepClamp(one.tokens, one.past))

        def energy(free, problem=problem, row=row):
            with torch.no_grad():
                point = problem.at((held[row : row + 1], torch.as_tensor(free)[None]))
            return float(point.energy), point.residual[1][0].numpy()

        found = minimize(energy, np.zeros(6), jac=True, method="BFGS", options={"gtol": 1e-10})
        np.testing.assert_allclose(moment.memory[1][row].detach().numpy(), found.x, atol=1e-6)


def test_clamped_level_says_when_it_does_not_settle():
    place = ClampedLevel(PLACES["level 1"].model, 1, Inference(Momentum(0.1, 0.8), atol=1e-12, max_steps=2))
    start = place.read(HISTORIES)
    with pytest.raises(NotSettledError, match="3 of 3 rows did not reach equilibrium; raise max_steps") as caught:
        place.put(start, start.values + 1)
    assert not caught.value.settled.any()
    status = torch.tensor([Status.CONVERGED, Status.DIVERGED, Status.UNCONVERGED])
    error = NotSettledError(status)
    assert error.settled.tolist() == [True, False, False]
    assert str(error).startswith(
        "relaxation: 2 of 3 rows did not reach equilibrium (1 of them diverged); raise max_steps"
    )


def stiff():
    """A network whose second level is so strongly tied to the first that descent with the step 0.1 oscillates."""
    network = seeded(TemporalPC, width=6, inference=Inference(atol=1e-9))
    with torch.no_grad():
        network.levels[0].layers[1].weight.mul_(14)
    return network


def test_levels_settle_where_descent_with_a_fixed_step_oscillates():
    """At the minimum of the energy, against scipy's from the same start: curvature above 2 (1 + momentum) / step is the trap."""
    network = stiff()
    place = ClampedLevel(network, 1, Inference(NewtonCG(), atol=1e-9, max_steps=300))
    descent = ClampedLevel(network, 1, Inference(Momentum(0.1, 0.8), atol=1e-5, max_steps=400))
    start = place.read(HISTORIES)
    held = start.values + torch.tensor([[0.0], [0.3], [3.0]]).double()
    with pytest.raises(NotSettledError) as caught:
        descent.put(start, held)
    moment = place.put(start, held)
    for row in range(len(HISTORIES)):
        one = start.rows(torch.tensor([row]))
        problem = network.problem(StepClamp(one.tokens, one.past))

        def energy(free, problem=problem, row=row):
            with torch.no_grad():
                point = problem.at((held[row : row + 1], torch.as_tensor(free)[None]))
            return float(point.energy), point.residual[1][0].numpy()

        found = minimize(energy, one.memory[1][0].numpy(), jac=True, method="BFGS", options={"gtol": 1e-9})
        assert energy(moment.memory[1][row].numpy())[0] == pytest.approx(found.fun, abs=1e-9)
    told = edited_futures(descent, start, held, 2)
    assert torch.equal(told.settled, caught.value.settled)
    assert 0 < int(told.settled.sum()) < 3
    kept = told.settled.nonzero().squeeze(-1)
    exact = model_futures(place, place.put(start.rows(kept), held[kept]), 2)
    torch.testing.assert_close(told.futures, exact, rtol=0, atol=1e-4)
    default = ClampedLevel(network, 1)
    torch.testing.assert_close(edited_futures(default, start, held, 2).futures[kept], exact, rtol=0, atol=1e-4)


def test_a_row_that_diverges_costs_the_others_nothing():
    place, level = observer(rrxor())
    start = place.read(level.tokens[:4])
    values = start.values.clone()
    values[2] = torch.inf
    told = edited_futures(place, start, values, 3)
    assert told.settled.tolist() == [True, True, False, True]
    expected = exact_futures(rrxor(), level.filtered[[0, 1, 3]], 3)
    torch.testing.assert_close(told.futures, expected, rtol=0, atol=1e-12)
    nothing = edited_futures(place, start, torch.full_like(values, torch.nan), 3)
    assert nothing.futures.shape == (0, 8)
    assert not nothing.settled.any()


@pytest.mark.parametrize("name", ["gru", "values", "residual", "history"])
def test_steering_to_a_law_reaches_it(name):
    place = PLACES[name]
    start = place.read(HISTORIES)
    wanted = start.logits.roll(1, 0).softmax(-1)
    reached = place.put(start, steer_to_law(place, start, wanted, steps=30))
    torch.testing.assert_close(reached.logits.softmax(-1), wanted, rtol=0, atol=1e-6)


def test_steering_to_a_law_takes_the_shortest_way_where_the_readout_is_linear():
    """A GRU's logits are C h + c: the shortest change is C^+ of the change of centred logits, in one step."""
    place = PLACES["gru"]
    top = HiddenUnits(seeded(GRU, width=6))
    start = top.read(HISTORIES)
    wanted = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64).expand(3, 3)
    steered = steer_to_law(top, start, wanted, steps=30)
    centre = torch.eye(3, dtype=torch.float64) - 1 / 3
    readout = centre @ top.model.readout.weight.detach()
    shortest = (wanted.log() - start.logits) @ centre.T @ torch.linalg.pinv(readout).T
    assert place is not top
    torch.testing.assert_close(steered - start.values, shortest, rtol=0, atol=1e-6)


def test_agreement_against_plain_sums_and_planted_changes():
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(300, 4, generator=generator, dtype=torch.float64)
    pairs = Pairs(torch.arange(300), torch.arange(300, 600))
    found = agreement(0.5 * exact, exact, pairs)
    assert found.r2 == pytest.approx(0.75, abs=1e-12)
    assert (found.low, found.high) == (pytest.approx(0.75, abs=1e-12), pytest.approx(0.75, abs=1e-12))
    assert found.realised == pytest.approx(0.5, abs=1e-12)
    assert agreement(torch.zeros_like(exact), exact, pairs).r2 == 0.0
    noise = exact + torch.randn(300, 4, generator=generator, dtype=torch.float64)
    assert agreement(noise, exact, pairs).r2 == pytest.approx(
        1 - float((noise - exact).square().sum() / exact.square().sum())
    )
    assert np.isnan(agreement(noise, torch.zeros_like(exact), pairs).r2)


@pytest.mark.slow
def test_interval_covers_the_population_score_where_pairs_share_histories():
    """Changes y_t - y_s with errors e_t - e_s: the population's R2 is 1 - var(e) / var(y) = .75."""
    covered = 0
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        exact = torch.randn(40, 3, generator=generator, dtype=torch.float64)
        error = 0.5 * torch.randn(40, 3, generator=generator, dtype=torch.float64)
        pairs = Pairs.draw(exact, 150, generator)
        changes = (part[pairs.target] - part[pairs.source] for part in (exact + error, exact))
        found = agreement(*changes, pairs, resamples=400)
        covered += found.low <= 0.75 <= found.high
    assert covered >= 180  # nominal 190; conservative for the spread, a little short for the skew of a ratio


def test_pairs_have_different_beliefs_and_where_asked_equal_laws():
    level = words(rrxor(), 6).levels[-1]
    generator = torch.Generator().manual_seed(0)
    every = Pairs.draw(level.filtered, 10**6, generator)
    equal = Pairs.draw(level.filtered, 10**6, generator, level.next_token_laws)
    count = 0
    for i, j in product(range(len(level.tokens)), repeat=2):
        different = (level.filtered[i] - level.filtered[j]).abs().max() > 1e-8
        count += int(different and (level.next_token_laws[i] - level.next_token_laws[j]).abs().max() < 1e-8)
    assert len(equal) == count > 0
    assert len(every) > len(equal)
    assert len(Pairs.draw(words(mess3(0.05, 0.85), 4).levels[-1].filtered, 5, generator)) == 5
    mess3_level = words(mess3(0.05, 0.85), 4).levels[-1]
    assert len(Pairs.draw(mess3_level.filtered, 10, generator, mess3_level.next_token_laws)) == 0


def test_divergence_against_its_definition():
    exact = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], dtype=torch.float64)
    model = torch.tensor([[0.25, 0.5, 0.25], [0.2, 0.3, 0.5]], dtype=torch.float64)
    assert divergence(exact, model) == pytest.approx(0.25 * np.log(2))
    with pytest.raises(ValueError, match="gives probability 0"):
        divergence(exact, exact.flip(1))


def test_bad_input_is_refused_by_name():
    process, place = mess3(0.05, 0.85), PLACES["gru"]
    beliefs = words(process, 2).filtered
    with pytest.raises(ValueError, match="horizon=0"):
        exact_futures(process, beliefs, 0)
    with pytest.raises(ValueError, match="horizon=20"):
        model_futures(place, place.read(HISTORIES), 20)
    with pytest.raises(ValueError, match=r"beliefs must have a shape \(N, 3\), got \(12, 2\)"):
        exact_futures(process, beliefs[:, :2], 1)
    with pytest.raises(ValueError, match="the words are empty"):
        place.read(HISTORIES[:, :0])
    with pytest.raises(ValueError, match=r"tokens must lie in 0\.\.2"):
        place.read(HISTORIES + 5)
    with pytest.raises(ValueError, match=r"block=7: the transformer has blocks 0\.\.2"):
        ResidualStream(PLACES["residual"].model, 7)
    with pytest.raises(ValueError, match=r"level=3: the network has levels 1\.\.2"):
        ClampedLevel(PLACES["values"].model, 3)
    with pytest.raises(ValueError, match="ClampedLevel cannot be differentiated"):
        steer_to_law(PLACES["level 1"], PLACES["level 1"].read(HISTORIES), torch.full((3, 3), 1 / 3).double())
    with pytest.raises(ValueError, match="steps=-1"):
        steer_to_belief(Encoding.fit(*noisy()[:2]), noisy()[0], noisy()[1], steps=-1)
    with pytest.raises(ValueError, match="there is nothing to move along"):
        Encoding.fit(noisy()[0], torch.full((4000, 3), 1 / 3).double())
    with pytest.raises(ValueError, match="limit=0"):
        Pairs.draw(beliefs, 0, torch.Generator())
    with pytest.raises(ValueError, match="one row for each of the 1 pairs"):
        agreement(torch.zeros(2, 3), torch.zeros(2, 3), Pairs(torch.zeros(1).long(), torch.ones(1).long()))
