"""The decoder without ground truth on planted activations, and the table of places."""

import numpy as np
import pytest
import torch

from pcnet.baselines import GRU, Transformer
from pcnet.networks import TemporalPC
from pcnet.probing import Protocol, probe
from pcnet.probing.geometry.distances import distance_r2
from pcnet.probing.geometry.location import at_a_glance, site_states, where
from pcnet.probing.geometry.shapes import procrustes_residual
from pcnet.probing.geometry.unsupervised import predictive_geometry
from pcnet.probing.interventions.futures import own_futures
from pcnet.probing.rows.prefix_walk import walk
from pcnet.processes import mess3, rrxor, words

ONE = Protocol(fold_seeds=(0,))


def exact_futures(process, rows, ahead: int) -> np.ndarray:
    """The law of the next tokens by multiplying transition matrices."""
    states = np.ones((process.num_states, 1))
    for _ in range(ahead):
        states = np.concatenate([T @ states for T in process.transition_matrices.numpy()], axis=1)
    return rows.filtered.numpy() @ states


def r2(features, targets, rows) -> float:
    table = probe(features, targets, rows, ONE, (True,))
    return float(table[(table.position == "all") & (table.weights == "equal")].r2.iloc[0])


def planted(rows, size: float, seed: int = 0) -> np.ndarray:
    """Beliefs turned into 40 dimensions beside nuisance a hundred times as large."""
    generator = np.random.default_rng(seed)
    axes = np.linalg.qr(generator.normal(size=(40, 40)))[0]
    beliefs = rows.filtered.numpy()
    nuisance = 20 * generator.normal(size=(len(beliefs), 12))
    return (
        size * beliefs @ axes[: beliefs.shape[1]]
        + nuisance @ axes[10:22]
        + 1e-3 * generator.normal(size=(len(beliefs), 40))
    )


@pytest.mark.parametrize(
    ("process", "length", "ahead", "rank"), [(rrxor(0.5, 0.5), 10, 4, 4), (mess3(0.05, 0.85), 7, 2, 2)]
)
def test_planted_beliefs_are_recovered_beside_large_nuisance(process, length: int, ahead: int, rank: int) -> None:
    rows = words(process, length)
    futures = exact_futures(process, rows, ahead)
    features = planted(rows, 1.0)
    found = predictive_geometry(features, futures, rows)
    assert found.rank == rank == found.coordinates.shape[1]
    assert r2(found.coordinates, rows.filtered, rows) > 0.98
    # what the largest directions hold, as principal components would show them, is nothing
    centred = features - features.mean(axis=0)
    principal = centred @ np.linalg.svd(centred, full_matrices=False)[2][:rank].T
    assert r2(principal, rows.filtered, rows) < 0.05
    assert distance_r2(found.coordinates, rows.filtered) > 0.6 > 0.1 > distance_r2(principal, rows.filtered)


def test_no_beliefs_no_geometry() -> None:
    rows = words(rrxor(0.5, 0.5), 10)
    futures = exact_futures(rrxor(0.5, 0.5), rows, 4)
    found = predictive_geometry(planted(rows, 0.0), futures, rows)
    assert found.rank == 0 and found.coordinates.shape == (1046, 0) and found.r2.max() < 0.01
    # shuffled futures: the beliefs are there, but nothing to find them by
    order = np.random.default_rng(1).permutation(len(futures))
    assert predictive_geometry(planted(rows, 1.0), futures[order], rows).rank == 0


def test_one_token_ahead_finds_what_the_next_token_law_holds_and_no_more() -> None:
    rows = words(rrxor(0.5, 0.5), 10)
    near = predictive_geometry(planted(rows, 1.0), exact_futures(rrxor(0.5, 0.5), rows, 1), rows)
    assert near.rank == 1
    law = r2(rows.next_token_laws, rows.filtered, rows)
    assert r2(near.coordinates, rows.filtered, rows) == pytest.approx(law, abs=0.02) and law < 0.35


def test_mess3_is_recovered_as_a_triangle() -> None:
    """Two tokens ahead, Mess3's symmetry makes the predictive image an undistorted one."""
    rows = words(mess3(0.05, 0.85), 7)
    found = predictive_geometry(planted(rows, 1.0), exact_futures(mess3(0.05, 0.85), rows, 2), rows)
    assert procrustes_residual(found.coordinates, rows.filtered) < 0.02


@pytest.mark.parametrize(
    "model", [GRU(2, width=5), Transformer(2, context=6, layers=1, width=8), TemporalPC(2, width=4)]
)
def test_model_futures_are_products_of_its_own_laws(model) -> None:
    rows = words(rrxor(0.5, 0.5), 3)
    laws = own_futures(model.eval(), rows, 3, chunk=3)
    assert torch.allclose(laws.sum(-1), torch.ones(len(laws), dtype=torch.float64))
    for row in (0, 5, 9):
        word = rows.tokens[row, : rows.lengths[row]]
        for column in range(8):
            future = torch.tensor([column >> 2 & 1, column >> 1 & 1, column & 1])
            with torch.no_grad():
                chances = model(torch.cat([word, future])[None]).double().softmax(-1)[0]
            steps = torch.arange(3) + len(word) - 1
            assert chances[steps, future].prod() == pytest.approx(float(laws[row, column]), rel=1e-3)


def test_bad_input_is_one_clear_error() -> None:
    rows = words(rrxor(0.5, 0.5), 4)
    with pytest.raises(ValueError, match="horizon=0"):
        own_futures(GRU(2, width=3), rows, 0)
    with pytest.raises(ValueError, match="tolerance=2"):
        predictive_geometry(rows.filtered, rows.filtered, rows, tolerance=2)
    with pytest.raises(ValueError, match="futures: all rows are equal"):
        predictive_geometry(rows.filtered, torch.ones(rows.num_words, 2), rows)
    with pytest.raises(ValueError, match="does not infer by iteration"):
        site_states(GRU(2, width=3), rows, "*", iterations=(1,))
    with pytest.raises(ValueError, match="nothing matches 'blocks"):
        site_states(GRU(2, width=3), rows, "blocks.0")
    with pytest.raises(ValueError, match="targets"):
        where(GRU(2, width=3), rows, "*", {})


def test_where_gives_the_protocols_scores_site_by_site() -> None:
    torch.manual_seed(0)
    rows = words(rrxor(0.5, 0.5), 7)
    models = {"0": TemporalPC(2, width=6), "100": TemporalPC(2, width=6)}
    sites, targets = (
        ["layers.[12].value", "layers.[12].error"],
        {"filtered": rows.filtered, "law": rows.next_token_laws},
    )
    table = where(models, rows, sites, targets, iterations=(0, 3), protocol=ONE)
    places_of_model = 2 * (2 + 1)  # two levels and both together, values and errors apart
    whole = table[(table.position == "all") & (table.weights == "equal")]
    assert len(whole) == 2 * 2 * places_of_model * 3
    assert set(whole.site) == {f"layers.{n}.{part}" for n in (1, 2) for part in ("value", "error")} | {
        "all value",
        "all error",
    }
    seen = walk(models["100"], rows, ["layers.1.value", "layers.2.value"])
    both = probe(seen.features("*"), rows.filtered, rows, ONE, (True,))
    mine = table[(table.checkpoint == "100") & (table.site == "all value") & (table.target == "filtered")]
    mine = mine[mine.iteration == "equilibrium"]
    assert np.allclose(mine.r2, both.r2, equal_nan=True) and list(mine.position) == list(both.position)
    glance = at_a_glance(table)
    assert len(glance) == 2 * len(whole) and (glance.r2_low <= glance.r2_high).all()


def test_iterations_end_where_the_equilibrium_is() -> None:
    torch.manual_seed(1)
    model, rows = TemporalPC(2, width=6), words(rrxor(0.5, 0.5), 5)
    found = {(p.site, p.iteration): p.features for p in site_states(model, rows, "layers.*.value", iterations=(0, 100))}
    assert torch.equal(found["all value", "100"], found["all value", "equilibrium"])
    assert not torch.allclose(found["all value", "0"], found["all value", "equilibrium"], atol=1e-3)
