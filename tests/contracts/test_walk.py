"""Down the prefix tree: every word once, and the same as running its sequence from the start."""

import math

import pytest
import torch

from pcnet import capture
from pcnet.baselines import GRU, LSTM, RNN, Transformer
from pcnet.networks import TemporalPC
from pcnet.predictor import Predictor
from pcnet.probing.rows.prefix_walk import excess_loss, walk
from pcnet.processes import rrxor, words, z1r

MODELS = {
    "transformer": (
        lambda: Transformer(2, context=5, layers=2, width=8, head_width=4, mlp_width=8),
        "blocks.*.resid_post",
    ),
    "rnn": (lambda: RNN(2, width=5, layers=2), "cells.*.hidden"),
    "gru": (lambda: GRU(2, width=5), "cells.*.hidden"),
    "lstm": (lambda: LSTM(2, width=5, layers=2), "cells.*.hidden"),
    "temporal_pc": (lambda: TemporalPC(2, width=5, levels=2), "layers.*.value"),
}


@pytest.mark.parametrize(("make", "sites"), MODELS.values(), ids=MODELS)
def test_a_word_leaves_what_its_sequence_leaves(make, sites: str) -> None:
    torch.manual_seed(0)
    model: Predictor = make().double().eval()
    all_words = words(rrxor(), 5)
    seen = walk(model, all_words, sites, chunk=7)
    start = 0
    for level in all_words.levels:
        whole = capture(model, level.tokens, sites)
        rows = slice(start, start + len(level.tokens))
        torch.testing.assert_close(seen.logits[rows], whole.output[:, -1].detach(), rtol=0, atol=1e-10)
        for site in whole:
            torch.testing.assert_close(seen.sites[site][rows], whole[site][:, -1], rtol=0, atol=1e-10)
        start = rows.stop
    assert start == all_words.num_words == len(seen.logits)


def test_every_prefix_is_computed_once() -> None:
    model = GRU(2, width=3)
    rows = []
    step = model.step
    model.step = lambda memory, tokens: (rows.append(len(tokens)), step(memory, tokens))[1]
    all_words = words(z1r(), 6)
    walk(model, all_words, "cells.*.hidden")
    assert sum(rows) == all_words.num_words


def test_features_stand_side_by_side_in_the_models_order() -> None:
    torch.manual_seed(0)
    seen = walk(RNN(2, width=3, layers=2), words(rrxor(), 3), "cells.*.hidden")
    both = torch.cat([seen.sites["cells.0.hidden"], seen.sites["cells.1.hidden"]], dim=1)
    assert torch.equal(seen.features("cells.*.hidden"), both)
    assert torch.equal(seen.features("cells.1.hidden", "cells.*.hidden"), both[:, [3, 4, 5, 0, 1, 2]])


def test_the_exact_law_has_no_excess() -> None:
    all_words = words(rrxor(), 6)
    logits = all_words.next_token_laws.clamp_min(1e-300).log()
    torch.testing.assert_close(excess_loss(all_words, logits), torch.zeros(6).double(), rtol=0, atol=1e-12)


def test_excess_is_the_surprise_beyond_the_observers_summed_by_hand() -> None:
    all_words = words(rrxor(), 4)
    logits = torch.randn(all_words.num_words, 2, generator=torch.Generator().manual_seed(0))
    excess = [0.0] * 4
    for row in range(all_words.num_words):
        mass = [math.exp(float(x)) for x in logits[row]]
        for token in range(2):
            p = float(all_words.next_token_laws[row, token])
            if p:
                q = mass[token] / sum(mass)
                excess[int(all_words.lengths[row]) - 1] += float(all_words.probabilities[row]) * p * math.log(p / q)
    assert excess_loss(all_words, logits).tolist() == pytest.approx(excess, abs=1e-6)
