"""What every sequence model promises: causal, the same token by token, rows apart, an honest count of itself."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pcnet.baselines import GRU, LSTM, RNN, Transformer
from pcnet.inference import Euler, GaussNewton, Inference, Momentum
from pcnet.networks import TemporalPC
from pcnet.networks.time.steps import StepClamp
from pcnet.predictor import Predictor

V, D, LENGTH = 3, 6, 5
TIGHT = Inference(GaussNewton(), atol=1e-12, max_steps=200)

MODELS: dict[str, Callable[[], Predictor]] = {
    "Transformer": lambda: Transformer(V, context=LENGTH, layers=2, width=D, heads=2, head_width=5, mlp_width=9),
    "RNN": lambda: RNN(V, D, layers=2),
    "GRU": lambda: GRU(V, D, layers=2),
    "LSTM": lambda: LSTM(V, D, layers=2),
    **{
        f"TemporalPC-{levels}": lambda levels=levels: TemporalPC(
            V, D, levels, memory=0.3, learn_precision=True, inference=TIGHT
        )
        for levels in (1, 2, 3)
    },
}

PARAMETERS = {
    # embedding, positions, 2 blocks (2 norms; q, k, v; output; feedforward), norm, read-out
    "Transformer": V * D
    + LENGTH * D
    + 2 * (2 * 2 * D + (D + 1) * 30 + (10 + 1) * D + (D + 1) * 9 + (9 + 1) * D)
    + 2 * D
    + (D + 1) * V,
    # torch keeps two biases per gate
    "RNN": D * V + D * D + 2 * D + 2 * D * D + 2 * D + (D + 1) * V,
    "GRU": 3 * (D * V + D * D + 2 * D + 2 * D * D + 2 * D) + (D + 1) * V,
    "LSTM": 4 * (D * V + D * D + 2 * D + 2 * D * D + 2 * D) + (D + 1) * V,
    # R and b, W, log-precisions, C and c
    "TemporalPC-1": D * D + D + D + (D + 1) * V,
    "TemporalPC-2": 2 * (D * D + D) + D * D + 2 * D + (D + 1) * V,
    "TemporalPC-3": 3 * (D * D + D) + 2 * D * D + 3 * D + (D + 1) * V,
}


@pytest.fixture(params=MODELS)
def model(request) -> Predictor:
    torch.manual_seed(0)
    predictor = MODELS[request.param]().double()
    with torch.no_grad():  # biases and precisions start at nothing, where a mistake in them would not show
        for parameter in predictor.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, dtype=torch.float64))
    predictor.label = request.param
    return predictor


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(V, (5, LENGTH), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_a_later_token_changes_no_earlier_logits(model: Predictor, tokens: torch.Tensor) -> None:
    before = model(tokens)
    for changed in range(LENGTH):
        other = tokens.clone()
        other[:, changed] = (other[:, changed] + 1) % V
        after = model(other)
        torch.testing.assert_close(after[:, :changed], before[:, :changed], rtol=0, atol=1e-12)
        assert (after[:, changed] - before[:, changed]).abs().amax(-1).gt(1e-6).all(), "the newest token must count"


@torch.no_grad()
def test_old_tokens_are_remembered(model: Predictor, tokens: torch.Tensor) -> None:
    other = tokens.clone()
    other[:, 0] = (other[:, 0] + 1) % V
    assert (model(other)[:, 3] - model(tokens)[:, 3]).abs().amax(-1).gt(1e-9).all()


@torch.no_grad()
def test_a_prefix_is_judged_as_in_the_whole(model: Predictor, tokens: torch.Tensor) -> None:
    torch.testing.assert_close(model(tokens[:, :3]), model(tokens)[:, :3], rtol=0, atol=1e-12)


@torch.no_grad()
def test_step_by_step_equals_forward(model: Predictor, tokens: torch.Tensor) -> None:
    memory, steps = model.start(5), []
    for token in tokens.unbind(1):
        logits, memory = model.step(memory, token)
        assert all(len(part) == 5 for part in memory), "memory is batch first"
        steps.append(logits)
    torch.testing.assert_close(torch.stack(steps, 1), model(tokens), rtol=0, atol=1e-11)


@torch.no_grad()
def test_rows_of_a_batch_do_not_see_each_other(model: Predictor, tokens: torch.Tensor) -> None:
    together = model(tokens)
    for row in range(5):
        torch.testing.assert_close(model(tokens[row : row + 1])[0], together[row], rtol=0, atol=1e-11)


@torch.no_grad()
def test_the_order_of_rows_is_kept(model: Predictor, tokens: torch.Tensor) -> None:
    torch.testing.assert_close(model(tokens.flip(0)), model(tokens).flip(0), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(torch.tensor([[0, 1, V]]), id="beyond the vocabulary"),
        pytest.param(torch.tensor([[0, -1, 1]]), id="negative"),
        pytest.param(torch.tensor([0, 1, 1]), id="one-dimensional"),
        pytest.param(torch.tensor([[[0], [1]]]), id="three-dimensional"),
        pytest.param(torch.tensor([[0.0, 1.0]]), id="floating"),
    ],
)
def test_wrong_tokens_are_refused_by_name(model: Predictor, wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"^tokens must"):
        model(wrong)


def test_parameters_are_counted(model: Predictor) -> None:
    assert model.num_parameters == PARAMETERS[model.label]


def test_a_precision_that_stays_one_is_no_parameter() -> None:
    free, fixed = (TemporalPC(V, D, levels=2, learn_precision=learned) for learned in (True, False))
    assert free.num_parameters - fixed.num_parameters == 2 * D


def counted(run: Callable[[], object]) -> int:
    """What torch's counter sees, attention through a kernel that it knows."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("label", ["Transformer", "RNN", "GRU", "LSTM"])
def test_flops_of_the_baselines_are_those_of_torch(label: str, tokens: torch.Tensor) -> None:
    predictor = MODELS[label]().double()  # in float32 the counter does not know the kernel of LSTM cells
    for length in (1, 3, LENGTH):
        assert predictor.flops(length, iterations=3) == counted(lambda: predictor(tokens[:1, :length]))  # noqa: B023


def test_flops_of_attention_by_hand(tokens: torch.Tensor) -> None:
    """Scores and mixture of 5 tokens by 5 in 2 heads of 5 and 2 blocks: 2 (multiply and add) x 2 x 5 x 5 x 10 x 2."""
    predictor = MODELS["Transformer"]()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        predictor(tokens[:1])
    linear_layers = sum(count for op, count in counter.get_flop_counts()["Global"].items() if "addmm" in str(op))
    assert predictor.flops(LENGTH, 0) - linear_layers == 2 * 2 * 5 * 5 * 10 * 2


@pytest.mark.parametrize(
    "solver", [GaussNewton(), Euler(0.1), Momentum(0.1, 0.7)], ids=lambda solver: type(solver).__name__
)
@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("iterations", [0, 1, 5])
def test_flops_of_inference_are_those_of_torch(levels: int, iterations: int, solver, tokens: torch.Tensor) -> None:
    """Beside torch's count (matrix products) stand those of the V x V system's solution, which are written elementwise."""
    inference = Inference(solver, atol=0, max_steps=iterations)
    predictor = TemporalPC(V, D, levels, inference=inference)
    products = counted(lambda: predictor.forecast(predictor.infer(tokens[:1]).values))
    by_element = 2 * levels * (2 * V * D) + 2 * V**3 / 3 + 2 * V**2 if isinstance(solver, GaussNewton) else 0
    assert predictor.flops(LENGTH, iterations) == pytest.approx(products + LENGTH * iterations * by_element, rel=1e-12)


def test_sequential_depth_by_hand() -> None:
    """Transformer: q, scores, mixture, output, two of the feedforward, per block, and the read-out. Recurrent: the input,
    one recurrent product per further token, one per further layer, the read-out."""
    assert MODELS["Transformer"]().sequential_depth(LENGTH, 0) == 2 * 6 + 1
    for label in ("RNN", "GRU", "LSTM"):
        assert MODELS[label]().sequential_depth(LENGTH, 0) == 1 + (LENGTH - 1) + 1 + 1
    # One level: R, C, its way back; per iteration C and back (Gauss-Newton: law C, G G^T, the system, G^T w besides); the
    # last forecast R and C.
    for solver, per_iteration in ((Euler(0.1), 2), (GaussNewton(), 6)):
        network = TemporalPC(V, D, levels=1, inference=Inference(solver))
        for iterations in (0, 1, 4):
            assert network.sequential_depth(LENGTH, iterations) == LENGTH * (3 + per_iteration * iterations) + 2


def test_a_transformer_refuses_more_than_its_context(tokens: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"^tokens: 6 are more than the context of 5"):
        MODELS["Transformer"]()(tokens[:1, [0, *range(LENGTH)]])


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (Transformer, ("vocab_size", "context", "layers", "width", "heads", "head_width", "mlp_width")),
        *((kind, ("vocab_size", "width", "layers")) for kind in (RNN, GRU, LSTM)),
        (TemporalPC, ("vocab_size", "width", "levels")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_impossible_sizes_are_refused_by_name(make: type[Predictor], sizes: tuple[str, ...]) -> None:
    for name in sizes:
        with pytest.raises(ValueError, match=f"^{name} must be at least 1, got 0"):
            make(**({"vocab_size": V} | {name: 0}))


@torch.no_grad()
def test_initial_weights_have_the_deviation_that_scale_says() -> None:
    """scale / sqrt(fan-in) in every matrix, zero biases; recurrent weights of temporal networks keep scale * memory besides."""
    torch.manual_seed(0)
    for predictor in (
        TemporalPC(V, 200, scale=0.7),
        GRU(200, 200, scale=0.7),
        Transformer(V, width=200, mlp_width=400, scale=0.7),
    ):
        for name, parameter in predictor.named_parameters():
            if parameter.ndim == 2 and "embedding" not in name and "positions" not in name:
                spread = parameter.square().mean().sqrt() * parameter.shape[1] ** 0.5
                assert spread.item() == pytest.approx(0.7, abs=4 * 0.7 / (2 * parameter.numel()) ** 0.5), name
            elif name.endswith("bias"):
                assert not parameter.any(), name
    remembering = TemporalPC(V, 200, scale=0.5, memory=0.8).levels[0].layers[0].weight
    assert remembering.diagonal().mean().item() == pytest.approx(0.4, abs=4 * 0.5 / 200)
    assert (remembering - torch.diag(remembering.diagonal())).mean().item() == pytest.approx(
        0.0, abs=4 * 0.5 / 200**1.5
    )


@torch.no_grad()
def test_the_forecast_of_a_temporal_network_is_the_law_at_zero_error() -> None:
    """Each level at its prediction, from the top down; read before the token is seen, so no token enters."""
    torch.manual_seed(3)
    network = TemporalPC(V, D, levels=3, inference=TIGHT).double()
    values = [np.random.default_rng(level).standard_normal(D) for level in range(3)]
    weight = {name: parameter.numpy() for name, parameter in network.named_parameters()}
    expected = None
    for level in (3, 2, 1):
        own = (
            weight[f"predictions.{level}.layers.0.weight"] @ np.tanh(values[level - 1])
            + weight[f"predictions.{level}.layers.0.bias"]
        )
        expected = own if expected is None else own + weight[f"predictions.{level}.layers.1.weight"] @ np.tanh(expected)
    logits = weight["predictions.0.layers.0.weight"] @ np.tanh(expected) + weight["predictions.0.layers.0.bias"]
    found = network.forecast(tuple(torch.from_numpy(value)[None] for value in values))
    np.testing.assert_allclose(found[0].numpy(), logits, rtol=1e-12)


@torch.no_grad()
def test_a_temporal_network_forecasts_from_the_equilibria_of_the_tokens_before(tokens: torch.Tensor) -> None:
    """Logits at t are the forecast from the values at t; those minimise the energy given the values at t-1."""
    torch.manual_seed(4)
    network = TemporalPC(V, D, levels=2, inference=TIGHT).double()
    trajectory, logits = network.infer(tokens), network(tokens)
    assert (trajectory.status == 0).all()
    for t in range(LENGTH):
        values, past = (tuple(group[:, t] for group in state) for state in (trajectory.values, trajectory.past))
        torch.testing.assert_close(logits[:, t], network.forecast(values), rtol=0, atol=1e-13)
        before = network.start(5) if t == 0 else tuple(group[:, t - 1] for group in trajectory.values)
        assert all(torch.equal(a, b) for a, b in zip(past, before, strict=True))
        energy = network.problem(StepClamp(tokens[:, t], before))
        assert max(group.abs().max().item() for group in energy.at(values).residual) < 1e-11
