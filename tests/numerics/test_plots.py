"""The mathematics of the figures: projections, colours, axes and labels against closed forms."""

import matplotlib.colors
import numpy as np
import pytest

from pcnet.report.plots.scale import score_scale
from pcnet.report.plots.simplex import ANCHORS, belief_colours, plane, thinned
from pcnet.report.plots.style import spread, wrapped


def test_triangle_is_equilateral_and_other_simplices_keep_the_most_variance():
    corners = plane(np.eye(3)).corners
    assert [np.linalg.norm(corners[i] - corners[j]) for i, j in ((0, 1), (1, 2), (0, 2))] == pytest.approx([1, 1, 1])
    beliefs = np.random.default_rng(0).dirichlet(np.ones(5), 200)
    eigenvalues = np.linalg.eigvalsh(np.cov(beliefs.T))[::-1]
    assert plane(beliefs).place(beliefs).var(0, ddof=1) == pytest.approx(eigenvalues[:2])


@pytest.mark.parametrize("states", [1, 2, 3, 5, 9])
def test_pure_states_have_their_anchor_colours(states: int):
    anchors = [matplotlib.colors.to_rgb(ANCHORS[s % len(ANCHORS)]) for s in range(states)]
    assert belief_colours(np.eye(states)) == pytest.approx(np.array(anchors), abs=2e-3)
    assert plane(np.eye(states)).corners.shape == (states, 2)


def test_thinning_keeps_short_words():
    lengths = np.repeat(np.arange(1, 8), 3 ** np.arange(1, 8))
    rows = thinned(lengths, 1000)
    counts = np.bincount(lengths[rows])[1:]
    assert len(set(rows)) == len(rows) == 1000
    assert list(counts[:5]) == [3, 9, 27, 81, 243] and abs(counts[5] - counts[6]) <= 1


def test_score_axis_is_logarithmic_in_what_is_unexplained():
    scale = score_scale([0.2, 0.9985, -0.4])
    assert scale.place(0.99) - scale.place(0.9) == pytest.approx(1)
    assert scale.place(-3.0) == 0 == scale.place(0.0)
    assert scale.place(1.0) == scale.place(scale.ticks[-1]) > scale.place(0.9985)


def test_labels_move_as_little_as_they_must():
    assert spread([0.5, 0.5], 0.1, 0, 1) == pytest.approx([0.45, 0.55])
    assert spread([0.9, 0.1, 0.5], 0.1, 0, 1) == pytest.approx([0.9, 0.1, 0.5])
    assert spread([1.0, 1.0, 0.0], 0.2, 0, 1) == pytest.approx([0.8, 1.0, 0.0])
    assert wrapped("temporal_pc_nudged", 15).split("\n") == ["temporal_pc_", "nudged"]
