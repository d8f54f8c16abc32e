"""Analytic costs against what torch's dispatcher sees executed, and clocks and memory against calls of known cost."""

import time
from collections.abc import Callable
from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn

from pcnet.baselines import GRU, LSTM, RNN, Transformer
from pcnet.efficiency import Cost, count_flops, latency, measure, measure_depth, memory, peak_memory
from pcnet.inference import Euler, GaussNewton, Inference, Momentum, Solver
from pcnet.networks import TemporalPC
from pcnet.networks.fast.token_problem import LowRankMetric
from pcnet.predictor import Predictor
from pcnet.processes import mess3, rrxor, sample
from pcnet.report.schema import SCHEMA

MEGABYTE = 10**6
SOLVERS = [Euler(0.1), Momentum(0.1, 0.7), GaussNewton()]
"""Those whose cost `TemporalPC` knows."""

solvers = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
levels = pytest.mark.parametrize("levels", [1, 2, 3])
baselines = pytest.mark.parametrize(
    "model",
    [
        Transformer(3),
        Transformer(2, context=7, layers=2, width=12, heads=3, head_width=5, mlp_width=20),
        *(kind(3, width=7, layers=layers) for kind in (RNN, GRU, LSTM) for layers in (1, 3)),
    ],
    ids=lambda model: f"{type(model).__name__}-{model.num_parameters}",
)


def draw(length: int, vocab_size: int = 3, rows: int = 1) -> Tensor:
    return torch.randint(vocab_size, (rows, length), generator=torch.Generator().manual_seed(0))


def token_by_token(model: Predictor, tokens: Tensor) -> Tensor:
    """The last logits; a recurrent layer doesn't wait for the whole sequence of the layer below."""
    memory = model.start(len(tokens))
    for token in tokens.unbind(1):
        logits, memory = model.step(memory, token)
    return logits


def network(solver: Solver, levels: int, width: int = 5, vocab_size: int = 3, **inference: float) -> TemporalPC:
    torch.manual_seed(levels)
    return TemporalPC(vocab_size, width, levels, scale=0.7, inference=Inference(solver, **inference))


def answer(model: TemporalPC, tokens: Tensor) -> Tensor:
    """What `forward` returns, without what it computes for whoever looks at its sites."""
    return model.forecast(model.infer(tokens).values)


@pytest.fixture
def visible_products(monkeypatch):
    """The metric's solution in matrix products, which torch's counter can see, instead of multiplications and sums."""

    def solve(metric: LowRankMetric, gradient: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        scaled = [g / h for g, h in zip(gradient, metric.diagonal, strict=True)]
        projected = sum(G @ g.unsqueeze(-1) for G, g in zip(metric.factors, scaled, strict=True))
        weights = torch.linalg.solve_ex(metric.capacitance, projected).result
        back = [(G.mT @ weights).squeeze(-1) / h for G, h in zip(metric.factors, metric.diagonal, strict=True)]
        return tuple(g - b for g, b in zip(scaled, back, strict=True))

    torch.manual_seed(0)
    factors = torch.randn(2, 4, 3, 5)  # level, row, vocabulary, width
    diagonal = torch.rand(2, 4, 5) + 0.5
    system = torch.eye(3) + sum((G / h.unsqueeze(-2)) @ G.mT for G, h in zip(factors, diagonal, strict=True))
    metric, gradient = LowRankMetric(tuple(diagonal), tuple(factors), system), tuple(torch.randn(2, 4, 5))
    torch.testing.assert_close(solve(metric, gradient), metric.solve(gradient))
    monkeypatch.setattr(LowRankMetric, "solve", solve)


# The counters themselves


def test_counted_flops_of_known_products():
    a, b, system = torch.ones(2, 3), torch.ones(3, 5), 2 * torch.eye(6).repeat(4, 1, 1)
    assert count_flops(lambda: a @ b) == 2 * 2 * 3 * 5
    assert count_flops(lambda: a * a + torch.tanh(a)) == 0
    assert count_flops(lambda: torch.linalg.solve(system, torch.ones(4, 6, 2))) == 4 * (2 * 6**3 / 3 + 2 * 6**2 * 2)
    assert count_flops(lambda: torch.linalg.solve(system, torch.ones(4, 6))) == 4 * (2 * 6**3 / 3 + 2 * 6**2)


def written_into_a_view(a: Tensor) -> Tensor:
    base = torch.zeros(2, 4, 4)
    base[0].add_(a @ a @ a)
    return base[1] @ a


def written_in_a_list(a: Tensor) -> Tensor:
    sums = [torch.zeros(4, 4)]
    torch._foreach_add_(sums, [a @ a])
    return sums[0]


def decided_by_a_product(a: Tensor) -> Tensor:
    return a @ a if (a @ a @ a).sum() > 0 else a


@pytest.mark.parametrize(
    ("call", "depth"),
    [
        (lambda a: a + 1, 0),
        (lambda a: a @ a + a @ a + a @ a, 1),
        (lambda a: torch.tanh((a @ a).T[:2]) @ a, 2),
        (lambda a: (a @ a @ a, a @ a)[1], 1),
        (lambda a: torch.linalg.solve(a @ a + torch.eye(4), a) @ a, 3),
        (lambda a: torch.cat([a @ a @ a, a]).unbind(0)[-1], 2),
        (written_into_a_view, 3),
        (written_in_a_list, 1),
        (decided_by_a_product, 3),
    ],
)
def test_measured_depth_of_known_chains(call, depth):
    a = torch.ones(4, 4)
    assert measure_depth(lambda: call(a)) == depth


def test_depth_needs_an_answer():
    with pytest.raises(ValueError, match="must return tensors"):
        measure_depth(lambda: None)


# Analytic counts


@baselines
@pytest.mark.parametrize("length", [1, 6])
@torch.no_grad()
def test_flops_of_baselines_are_those_executed(model, length):
    tokens = draw(length, model.vocab_size)
    assert model.flops(length, float("nan")) == count_flops(lambda: model(tokens))


@baselines
@pytest.mark.parametrize("length", [1, 6])
@torch.no_grad()
def test_depth_of_baselines_is_that_of_the_executed_graph(model, length):
    tokens = draw(length, model.vocab_size)
    assert model.sequential_depth(length, float("nan")) == measure_depth(lambda: token_by_token(model, tokens))


@solvers
@levels
@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_flops_of_temporal_pc_are_those_executed_for_a_fixed_number_of_iterations(
    solver, levels, iterations, visible_products
):
    model = network(solver, levels, vocab_size=4, atol=0.0, max_steps=iterations)
    counted = count_flops(lambda: answer(model, draw(3, 4)))
    assert model.flops(3, iterations) == pytest.approx(counted, rel=1e-12)


@solvers
@levels
@torch.no_grad()
def test_costs_of_temporal_pc_at_equilibrium_are_those_executed(solver, levels, visible_products):
    model, tokens = network(solver, levels, atol=1e-2, max_steps=1000), draw(3)
    trajectory = model.infer(tokens)
    assert (trajectory.status == 0).all() and (trajectory.steps > 0).all()
    torch.testing.assert_close(answer(model, tokens), model(tokens))
    iterations = trajectory.steps.double().mean().item()
    assert model.flops(3, iterations) == pytest.approx(count_flops(lambda: answer(model, tokens)), rel=1e-12)
    assert model.sequential_depth(3, iterations) == pytest.approx(measure_depth(lambda: token_by_token(model, tokens)))
    assert model.sequential_depth(3, iterations) == pytest.approx(measure_depth(lambda: answer(model, tokens)))


# Clocks


class Sleeper(nn.Module):
    """Takes one of the given times in turn."""

    def __init__(self, *seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.calls = 0
        self.threads: set[int] = set()
        self.shapes: set[torch.Size] = set()

    def forward(self, tokens: Tensor) -> None:
        time.sleep(self.seconds[self.calls % len(self.seconds)])
        self.calls += 1
        self.threads.add(torch.get_num_threads())
        self.shapes.add(tokens.shape)


def timed(model: nn.Module, **settings: float):
    settings = {"batch": 2, "length": 5, "threads": 1, "min_runs": 20, "min_seconds": 0.0} | settings
    return latency(model, mess3(), generator=torch.Generator().manual_seed(0), **settings)


def test_latency_sees_single_calls():
    """Three calls in ten are slow: the median doesn't know, the 90th percentile does, an average would be in between."""
    result = timed(Sleeper(*[0.004] * 7, *[0.03] * 3))
    assert 4 <= result.p50_ms < 10  # a sleep is never shorter, and a little longer on a busy machine
    assert 30 <= result.p90_ms < 50
    assert result.runs == 20


def test_latency_goes_on_for_the_time_it_has():
    result = timed(Sleeper(0.005), min_runs=2, min_seconds=0.15)
    assert 3 < result.runs <= 30


def test_latency_calls_with_the_batch_and_the_threads_and_restores_them():
    before, model = torch.get_num_threads(), Sleeper(0.0)
    timed(model, threads=before + 1)
    assert (model.shapes, model.threads) == ({(2, 5)}, {before + 1})
    assert torch.get_num_threads() == before

    def fail(tokens: Tensor) -> None:
        raise RuntimeError("interrupted")

    model.forward = fail
    with pytest.raises(RuntimeError, match="interrupted"):
        timed(model, threads=before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    "name, value", [("batch", 0), ("length", 0), ("threads", 0), ("min_runs", 0), ("min_seconds", float("nan"))]
)
def test_latency_names_what_is_wrong(name, value):
    with pytest.raises(ValueError, match=name):
        timed(Sleeper(0.0), **{name: value})


# Memory


def needs(megabytes: float) -> Callable[[], None]:
    def call() -> None:
        torch.ones(int(megabytes * MEGABYTE / 4))

    return call


def test_peak_memory_is_what_a_call_needs_for_a_while():
    needs(200)()  # freed again, and no store that the call may be served from
    assert peak_memory(needs(64)) == pytest.approx(64 * MEGABYTE, rel=0.2)
    assert peak_memory(needs(64)) == pytest.approx(64 * MEGABYTE, rel=0.2)
    assert peak_memory(lambda: None) < MEGABYTE


def test_peak_memory_where_the_peak_cannot_be_reset(monkeypatch, tmp_path):
    peak_memory(lambda: None)  # brings the highest peak down to what is resident now
    monkeypatch.setattr(memory, "PROC", tmp_path / "missing")
    assert peak_memory(needs(64)) == pytest.approx(64 * MEGABYTE, rel=0.2)
    assert peak_memory(needs(32)) < 8 * MEGABYTE  # its stated limit: less than the highest peak so far


def test_peak_memory_is_nan_where_nothing_tells():
    assert torch.tensor(peak_memory(lambda: None, "meta")).isnan()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_peak_memory_of_the_allocator():
    call = lambda: torch.ones(2**24, device="cuda")  # noqa: E731
    assert peak_memory(call, "cuda") - torch.cuda.memory_allocated() == pytest.approx(2**26, rel=0.01)


# The bill


def test_bill_of_temporal_pc():
    model = TemporalPC(3, width=6, levels=2, learn_precision=True)
    rows = measure("pc", model, mess3(), length=4, batch_sizes=(1, 3), seed=7, min_seconds=0.0)
    steps = model.infer(sample(mess3(), 256, 4, torch.Generator().manual_seed(7))).steps.double()
    assert [field.name for field in fields(Cost)] == list(SCHEMA["cost"])
    assert [(row.model, row.device, row.threads, row.batch, row.length) for row in rows] == [
        ("pc", "cpu", 1, n, 4) for n in (1, 3)
    ]
    for row in rows:
        assert (row.tolerance, row.parameters) == (1e-4, sum(p.numel() for p in model.parameters()))
        assert row.flops == pytest.approx(model.flops(4, steps.mean().item()))
        assert row.sequential_depth == pytest.approx(model.sequential_depth(4, steps.mean().item()))
        assert (row.iterations_p50, row.iterations_p90) == pytest.approx(
            steps.quantile(torch.tensor([0.5, 0.9]).double()).tolist()
        )
        assert 0 < row.latency_p50_ms <= row.latency_p90_ms
        assert row.peak_bytes >= 0


def test_bill_of_a_model_that_does_not_infer():
    model = GRU(2, width=6)
    (row,) = measure("gru", model, rrxor(), length=4, batch_sizes=[2], min_seconds=0.0)
    assert torch.tensor([row.tolerance, row.iterations_p50, row.iterations_p90]).isnan().all()
    assert (row.flops, row.sequential_depth) == (model.flops(4, 0), 5)


def test_measuring_leaves_the_model_and_the_threads_alone():
    before, model = torch.get_num_threads(), GRU(3, width=6).train()
    (row,) = measure("gru", model, mess3(), length=4, batch_sizes=[2], threads=before + 1, min_seconds=0.0)
    assert row.threads == before + 1
    assert torch.get_num_threads() == before
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    "name, value",
    [
        ("length", 0),
        ("batch_sizes", ()),
        ("batch_sizes", (4, 0)),
        ("threads", 0),
        ("min_seconds", -1.0),
        ("process", rrxor()),
    ],
)
def test_bill_names_what_is_wrong(name, value):
    settings = {"process": mess3(), "length": 3, "batch_sizes": [1], "threads": 1, "min_seconds": 0.0} | {name: value}
    with pytest.raises(ValueError, match=name):
        measure("gru", GRU(3, width=2), settings.pop("process"), **settings)
