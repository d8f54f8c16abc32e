"""The baselines against their equations, written out in numpy."""

import numpy as np
import pytest
import torch

from pcnet.baselines import GRU, LSTM, RNN, Transformer
from pcnet.sites import capture

V, LENGTH = 3, 5
TOKENS = torch.tensor([[0, 2, 1, 1, 0], [2, 2, 0, 1, 2]])

Parameters = dict[str, np.ndarray]


def with_random_parameters(model: torch.nn.Module) -> tuple[torch.nn.Module, Parameters]:
    """Every parameter drawn anew: biases and norms do not start where a mistake in them would not show."""
    generator = torch.Generator().manual_seed(0)
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model, {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def layer_norm(x: np.ndarray, p: Parameters, name: str) -> np.ndarray:
    standardised = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return standardised * p[f"{name}.weight"] + p[f"{name}.bias"]


def linear(x: np.ndarray, p: Parameters, name: str) -> np.ndarray:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def attention(x: np.ndarray, p: Parameters, name: str, heads: int, head_width: int) -> np.ndarray:
    """softmax(q k^T / sqrt(d)) v over the tokens up to the query's own, head by head and query by query."""
    queries, keys, values = np.split(linear(x, p, f"{name}.queries_keys_values"), 3, axis=-1)
    mixed = np.zeros_like(queries)
    for head in range(heads):
        own = slice(head * head_width, (head + 1) * head_width)
        for t in range(len(x)):
            scores = keys[: t + 1, own] @ queries[t, own] / np.sqrt(head_width)
            mixed[t, own] = softmax(scores) @ values[: t + 1, own]
    return linear(mixed, p, f"{name}.output")


def transformer(
    tokens: np.ndarray, p: Parameters, layers: int, heads: int, head_width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and the last residual stream."""
    x = p["embedding.weight"][tokens] + p["positions.weight"][: len(tokens)]
    for block in (f"blocks.{index}" for index in range(layers)):
        x = x + attention(layer_norm(x, p, f"{block}.norm_attention"), p, f"{block}.attention", heads, head_width)
        hidden = np.maximum(linear(layer_norm(x, p, f"{block}.norm_feedforward"), p, f"{block}.feedforward.0"), 0)
        x = x + linear(hidden, p, f"{block}.feedforward.2")
    return linear(layer_norm(x, p, "norm"), p, "readout"), x


@pytest.mark.parametrize(("layers", "heads", "head_width"), [(1, 1, 4), (2, 3, 5)])
def test_transformer_is_its_formula(layers: int, heads: int, head_width: int) -> None:
    model, p = with_random_parameters(
        Transformer(V, LENGTH, layers, width=6, heads=heads, head_width=head_width, mlp_width=7)
    )
    seen = capture(model, TOKENS, "blocks.*.resid_post")
    for row in range(2):
        logits, stream = transformer(TOKENS[row].numpy(), p, layers, heads, head_width)
        np.testing.assert_allclose(seen.output[row].numpy(), logits, rtol=0, atol=1e-12)
        np.testing.assert_allclose(seen[f"blocks.{layers - 1}.resid_post"][row].numpy(), stream, rtol=0, atol=1e-12)


def cell_parameters(p: Parameters, layer: int) -> tuple[np.ndarray, ...]:
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return tuple(p[f"cells.{layer}.recurrence.{name}"] for name in names)


def rnn_cell(x: np.ndarray, state: tuple, p: Parameters, layer: int) -> tuple[np.ndarray, ...]:
    """h = tanh(W x + b + R h + c)"""
    W, R, b, c = cell_parameters(p, layer)
    return (np.tanh(W @ x + b + R @ state[0] + c),)


def gru_cell(x: np.ndarray, state: tuple, p: Parameters, layer: int) -> tuple[np.ndarray, ...]:
    """Cho et al. 2014, with the reset gate after the recurrent product, as in cuDNN."""
    W, R, b, c = cell_parameters(p, layer)
    (reset_x, update_x, new_x), (reset_h, update_h, new_h) = np.split(W @ x + b, 3), np.split(R @ state[0] + c, 3)
    update = sigmoid(update_x + update_h)
    new = np.tanh(new_x + sigmoid(reset_x + reset_h) * new_h)
    return ((1 - update) * new + update * state[0],)


def lstm_cell(x: np.ndarray, state: tuple, p: Parameters, layer: int) -> tuple[np.ndarray, ...]:
    """Hochreiter & Schmidhuber 1997, with forget gate: c = f c + i g, h = o tanh(c)."""
    W, R, b, c = cell_parameters(p, layer)
    enter, forget, new, leave = np.split(W @ x + b + R @ state[0] + c, 4)
    cell = sigmoid(forget) * state[1] + sigmoid(enter) * np.tanh(new)
    return sigmoid(leave) * np.tanh(cell), cell


@pytest.mark.parametrize(("kind", "cell", "parts"), [(RNN, rnn_cell, 1), (GRU, gru_cell, 1), (LSTM, lstm_cell, 2)])
def test_recurrent_networks_are_their_equations(kind, cell, parts: int) -> None:
    model, p = with_random_parameters(kind(V, width=4, layers=2))
    seen = capture(model, TOKENS)
    for row in range(2):
        states = [tuple(np.zeros(4) for _ in range(parts)) for _ in range(2)]
        for t in range(LENGTH):
            x = np.eye(V)[TOKENS[row, t]]
            for layer in range(2):
                states[layer] = cell(x, states[layer], p, layer)
                x = states[layer][0]
                np.testing.assert_allclose(seen[f"cells.{layer}.hidden"][row, t].numpy(), x, rtol=0, atol=1e-13)
            np.testing.assert_allclose(seen.output[row, t].numpy(), linear(x, p, "readout"), rtol=0, atol=1e-13)
