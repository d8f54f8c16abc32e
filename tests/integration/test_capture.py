"""One call records named sites of every architecture and of any torch module, and leaves no trace behind."""

import fnmatch

import pytest
import torch
from torch import nn

from pcnet.baselines import GRU, LSTM, RNN, Transformer
from pcnet.inference import CarriedOver, Euler, GaussNewton, Inference
from pcnet.networks import TemporalPC
from pcnet.sites import capture, hooked

TOKENS = torch.tensor([[0, 2, 1, 1], [2, 2, 0, 1], [1, 0, 0, 2]])
TIGHT = Inference(GaussNewton(), atol=1e-12, max_steps=100)
DIAGNOSTICS = ["diagnostics.status", "diagnostics.steps", "diagnostics.residual"]


def hooks_in(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize(
    ("make", "sites"),
    [
        (
            lambda: Transformer(3, layers=2, width=4),
            [f"blocks.{block}.{part}" for block in range(2) for part in ("resid_pre", "attn", "mlp", "resid_post")],
        ),
        *((lambda kind=kind: kind(3, 4, layers=2), ["cells.0.hidden", "cells.1.hidden"]) for kind in (RNN, GRU, LSTM)),
        (
            lambda: TemporalPC(3, 4, levels=2),
            ["layers.0.prediction", "layers.0.error"]
            + [f"layers.{level}.{part}" for level in (1, 2) for part in ("value", "prediction", "error")]
            + DIAGNOSTICS,
        ),
    ],
    ids=["Transformer", "RNN", "GRU", "LSTM", "TemporalPC"],
)
def test_sites_have_the_names_of_the_vocabulary(make, sites: list[str]) -> None:
    model = make()
    seen = capture(model, TOKENS)
    assert list(seen) == sites  # in the model's own order
    assert len(seen) == len(sites)
    assert all(activation.shape[:2] == TOKENS.shape for activation in seen.values())
    with torch.no_grad():
        assert torch.equal(seen.output, model(TOKENS))


@torch.no_grad()
def test_residual_stream_adds_up() -> None:
    """resid_post = resid_pre + attn + mlp, the next block goes on from there, the first begins at the embeddings."""
    model = Transformer(3, context=4, layers=2, width=4).double()
    seen = capture(model, TOKENS)
    embedded = model.embedding.weight[TOKENS] + model.positions.weight
    torch.testing.assert_close(seen["blocks.0.resid_pre"], embedded, rtol=0, atol=1e-14)
    assert torch.equal(seen["blocks.1.resid_pre"], seen["blocks.0.resid_post"])
    for block in ("blocks.0", "blocks.1"):
        total = seen[f"{block}.resid_pre"] + seen[f"{block}.attn"] + seen[f"{block}.mlp"]
        torch.testing.assert_close(seen[f"{block}.resid_post"], total, rtol=0, atol=1e-14)
    logits = model.readout(model.norm(seen["blocks.1.resid_post"]))
    torch.testing.assert_close(seen.output, logits, rtol=0, atol=1e-14)


@pytest.fixture
def network(small_network) -> TemporalPC:
    return small_network(2, width=4, inference=TIGHT)


@torch.no_grad()
def test_sites_of_a_temporal_network_are_what_they_are_called(network: TemporalPC) -> None:
    """value = prediction + error; predictions from past and above; values are the equilibria; laws sum to 1."""
    seen, trajectory, weights = capture(network, TOKENS), network.infer(TOKENS), network.weights
    for level in (1, 2):
        value, prediction, error = (seen[f"layers.{level}.{part}"] for part in ("value", "prediction", "error"))
        torch.testing.assert_close(value, trajectory.values[level - 1], rtol=0, atol=1e-14)
        torch.testing.assert_close(value, prediction + error, rtol=0, atol=1e-14)
        expected = trajectory.past[level - 1].tanh() @ weights.recurrent[level - 1].T + weights.biases[level - 1]
        if level == 1:
            expected = expected + seen["layers.2.value"].tanh() @ weights.above[0].T
        torch.testing.assert_close(prediction, expected, rtol=0, atol=1e-13)
    law = (seen["layers.1.value"].tanh() @ weights.readout.T + weights.readout_bias).softmax(-1)
    observed = nn.functional.one_hot(TOKENS, 3)
    torch.testing.assert_close(seen["layers.0.error"], observed - law, rtol=0, atol=1e-13)


@torch.no_grad()
def test_the_law_of_a_token_is_shown_as_it_was_before_the_token_was_seen(network: TemporalPC) -> None:
    seen = capture(network, TOKENS, "layers.0.prediction")
    torch.testing.assert_close(seen["layers.0.prediction"][:, 1:], seen.output[:, :-1].softmax(-1), rtol=0, atol=1e-13)
    torch.testing.assert_close(
        seen["layers.0.prediction"][:, 0], network.forecast(network.start(3)).softmax(-1), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("initial", [TIGHT.initial, CarriedOver()], ids=lambda initial: type(initial).__name__)
@torch.no_grad()
def test_sites_by_iteration(small_network, initial) -> None:
    """(B, L, K, D): iteration 0 is where values start, the last the equilibrium, in between the solver's own states."""
    inference = Inference(Euler(0.2), atol=1e-12, max_steps=1000, initial=initial)
    network = small_network(2, width=4, inference=inference)
    at_the_end, trajectory = capture(network, TOKENS), network.infer(TOKENS)
    seen = capture(network, TOKENS, iterations=(0, 1, 3, 1000))
    for site in at_the_end:
        if not site.startswith("diagnostics"):
            assert seen[site].shape == (3, 4, 4, at_the_end[site].shape[-1]), site
            torch.testing.assert_close(seen[site][:, :, -1], at_the_end[site], rtol=0, atol=1e-13, msg=site)
    assert torch.equal(seen.output, at_the_end.output)
    weights = network.weights
    settled = weights.sweep(weights.bases(trajectory.past))
    for level in (1, 2):
        values = seen[f"layers.{level}.value"]
        started = trajectory.past[level - 1] if isinstance(initial, CarriedOver) else settled[level - 1]
        torch.testing.assert_close(values[:, :, 0], started, rtol=0, atol=1e-14)
        torch.testing.assert_close(
            values, seen[f"layers.{level}.prediction"] + seen[f"layers.{level}.error"], rtol=0, atol=1e-13
        )
    # one Euler step by hand, from the sites alone: dF/dx_2 = Pi_2 eps_2 - (1 - a_2^2) W^T Pi_1 eps_1
    first, second = seen["layers.1.error"][:, :, 0], seen["layers.2.error"][:, :, 0]
    start = seen["layers.2.value"][:, :, 0]
    descent = second * weights.precisions[1] - (1 - start.tanh() ** 2) * (
        (first * weights.precisions[0]) @ weights.above[0]
    )
    torch.testing.assert_close(seen["layers.2.value"][:, :, 1], start - 0.2 * descent, rtol=0, atol=1e-13)


@torch.no_grad()
def test_diagnostics_say_how_inference_ended(small_network) -> None:
    unhurried = small_network(2, inference=Inference(Euler(0.3), atol=1e-3, max_steps=1000)).infer(TOKENS)
    enough_for_half = int(unhurried.steps.flatten().median())
    network = small_network(2, inference=Inference(Euler(0.3), atol=1e-3, max_steps=enough_for_half))
    seen, trajectory = capture(network, TOKENS, "diagnostics.*"), network.infer(TOKENS)
    assert seen["diagnostics.status"].squeeze(-1).tolist() == trajectory.status.tolist()
    assert seen["diagnostics.steps"].squeeze(-1).tolist() == trajectory.steps.tolist()
    converged = (seen["diagnostics.residual"] <= 1e-3).all(-1)
    assert converged.tolist() == (trajectory.status == 0).tolist()
    assert 0 < converged.sum() < TOKENS.numel()
    with hooked(network, "diagnostics.*") as in_training:
        network.infer(TOKENS)
    for name in ("status", "steps"):
        assert torch.equal(torch.cat(in_training[f"diagnostics.{name}"], 1), seen[f"diagnostics.{name}"])


@torch.no_grad()
def test_another_inference_is_examined_and_nothing_of_it_stays(network: TemporalPC) -> None:
    """Within the context values relax as if the network had been made so; afterwards as before, exceptions included."""
    before = network(TOKENS)
    once = Inference(Euler(0.2), max_steps=1)
    with network.examining(once):
        assert (network.inference, network.tolerance) == (once, once.atol)
        seen = capture(network, TOKENS, list(network.diagnostic_sites))
    assert set(seen["diagnostics.steps"].flatten().tolist()) == {1}
    for level, values in enumerate(network.infer(TOKENS, once).values, 1):
        with network.examining(once):
            assert torch.equal(capture(network, TOKENS, f"layers.{level}.value")[f"layers.{level}.value"], values)
    with pytest.raises(RuntimeError, match="on purpose"), network.examining(once):
        raise RuntimeError("on purpose")
    assert network.inference is TIGHT
    assert torch.equal(network(TOKENS), before)


def test_patterns_choose_sites(network: TemporalPC) -> None:
    everything = list(capture(network, TOKENS))
    for pattern in ("layers.*.value", "layers.1.*", "layers.[12].error", "*"):
        assert list(capture(network, TOKENS, pattern)) == [
            site for site in everything if fnmatch.fnmatchcase(site, pattern)
        ]
    chosen = ["layers.2.value", "layers.0.error", "layers.2.*"]
    assert list(capture(network, TOKENS, chosen)) == [
        "layers.0.error",
        *(s for s in everything if s.startswith("layers.2.")),
    ]


def test_an_unknown_site_is_refused_with_those_that_exist(network: TemporalPC) -> None:
    with pytest.raises(
        ValueError, match=r"nothing matches 'layers\.3\.value'.*layers\.1\.value, layers\.1\.prediction"
    ):
        capture(network, TOKENS, ["layers.1.value", "layers.3.value"])
    with pytest.raises(KeyError, match=r"layers\.2\.value.*layers\.1\.value"):
        capture(network, TOKENS, "layers.1.value")["layers.2.value"]
    assert hooks_in(network) == 0


def test_iterations_are_refused_where_there_are_none() -> None:
    with pytest.raises(ValueError, match="iterations: a GRU does not infer by iteration"):
        capture(GRU(3, 4), TOKENS, iterations=(0, 1))


def test_any_torch_module() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Sequential(nn.Linear(4, 2), nn.ReLU()))
    x = torch.randn(2, 5, 3)
    seen = capture(model, x)
    assert list(seen) == ["0", "1", "2", "2.0", "2.1"]
    hidden = torch.tanh(x @ model[0].weight.T + model[0].bias)
    torch.testing.assert_close(seen["1"], hidden)
    torch.testing.assert_close(seen["2.0"], hidden @ model[2][0].weight.T + model[2][0].bias)
    assert torch.equal(seen["2"], seen.output)
    assert list(capture(model, x, "2.*")) == ["2.0", "2.1"]


def test_a_submodule_that_is_no_site_is_one_by_its_exact_path() -> None:
    model = Transformer(3, context=4, layers=1, width=4)
    seen = capture(model, TOKENS, ["blocks.0.norm_attention", "norm"])
    assert list(seen) == ["blocks.0.norm_attention", "norm"]
    torch.testing.assert_close(seen["norm"].mean(-1), torch.zeros(3, 4), rtol=0, atol=1e-6)


def test_a_module_with_several_outputs_shows_its_first() -> None:
    model = nn.TransformerEncoderLayer(4, 2, dim_feedforward=5, dropout=0.0, batch_first=True)
    x = torch.randn(2, 3, 4)
    seen = capture(model.train(), x, ["self_attn", "norm2"])  # attention returns (output, weights)
    torch.testing.assert_close(seen["norm2"], seen.output, rtol=0, atol=0)
    expected = model.self_attn(x, x, x)[0]
    torch.testing.assert_close(seen["self_attn"], expected)


def test_what_is_seen_holds_no_graph_and_nothing_stays_behind(network: TemporalPC) -> None:
    for model in (network, Transformer(3, width=4, layers=1), GRU(3, 4)):
        before = model(TOKENS).detach()
        seen = capture(model, TOKENS)
        assert not any(activation.requires_grad for activation in seen.values())
        assert hooks_in(model) == 0
        assert torch.equal(model(TOKENS), before)


def test_nothing_stays_behind_after_an_exception(network: TemporalPC) -> None:
    before = network(TOKENS)
    with pytest.raises(ValueError, match="tokens must lie in"):
        capture(network, TOKENS + 1, iterations=(0, 1))
    assert hooks_in(network) == 0
    assert torch.equal(network(TOKENS), before)
    assert capture(network, TOKENS)["layers.1.value"].ndim == 3, "no longer recording iterations"
    with pytest.raises(RuntimeError, match="on purpose"), hooked(network, "*"):
        raise RuntimeError("on purpose")
    assert hooks_in(network) == 0
