"""The in-place chain against the explicit formulas, step by step in float64, and against what it promises to save."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from pcnet.networks.activations import Activation, Identity, LeakyReLU, ReLU, Softplus, Tanh
from pcnet.networks.fast.chain_flow import ChainFlow, FlowResult
from pcnet.typing import State

FUNCTIONS = {
    Tanh(): torch.tanh,
    Identity(): lambda a: a * 1,
    ReLU(): torch.relu,
    LeakyReLU(0.2): lambda a: functional.leaky_relu(a, 0.2),
}
"""Each activation by a function of torch."""


def weight_gradients(result: FlowResult) -> list[tuple[Tensor, Tensor]]:
    """dF/dW_l and dF/db_l, summed over the batch."""
    pairs = zip(result.input_gradients, result.levels[:-1], strict=True)
    return [(gradient.t() @ x, gradient.sum(0)) for gradient, x in pairs]


@dataclass
class Case:
    """A random chain with clamped ends and values to start from, float64."""

    widths: tuple[int, ...]
    activations: list[Activation]
    rows: int = 6
    seed: int = 0
    bias: bool = True

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)

        def normal(*shape: int, scale: float = 1.0) -> Tensor:
            return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

        pairs = list(zip(self.widths, self.widths[1:]))
        self.weights = [normal(n, m, scale=m**-0.5) for m, n in pairs]
        self.biases = [normal(n, scale=0.3) if self.bias else None for _, n in pairs]
        self.inputs, *self.values, self.target = (normal(self.rows, width) for width in self.widths)

    def flow(self) -> ChainFlow:
        return ChainFlow(self.weights, self.biases, self.activations)

    def run(self, given: bool = False, step_size: float = 0.1, steps: int = 20) -> FlowResult:
        values = tuple(self.values) if given else None
        return self.flow().run(self.inputs, self.target, values, step_size=step_size, steps=steps)

    def looked_at(self, values: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """e_l and d_l = e_l act'(a_l), slopes by automatic differentiation."""
        errors, slopes = [], []
        levels = [self.inputs, *values, self.target]
        functions = [*(FUNCTIONS[activation] for activation in self.activations), FUNCTIONS[Identity()]]
        for x, W, b, above, function in zip(levels, self.weights, self.biases, levels[1:], functions):
            a = functional.linear(x, W, b).requires_grad_()
            mu = function(a)
            (slope,) = torch.autograd.grad(mu.sum(), a)
            errors.append(above - mu.detach())
            slopes.append(errors[-1] * slope)
        return errors, slopes

    def feedforward(self) -> list[Tensor]:
        values, x = [], self.inputs
        for W, b, activation in zip(self.weights, self.biases, self.activations):
            x = FUNCTIONS[activation](functional.linear(x, W, b))
            values.append(x)
        return values

    def explicit(self, given: bool, step_size: float, steps: int) -> list[Tensor]:
        """The formulas as they stand."""
        values = list(self.values) if given else self.feedforward()
        for _ in range(steps):
            errors, d = self.looked_at(values)
            pulled = [back @ W for back, W in zip(d[1:], self.weights[1:])]
            values = [x - step_size * (e - p) for x, e, p in zip(values, errors, pulled)]
        return values


def agree(found: State | list[Tensor], wanted: State | list[Tensor], tolerance: float) -> None:
    """To `tolerance`, relative to the largest number among those wanted or to 1."""
    scale = max(1.0, *(group.abs().max().item() for group in wanted))
    for a, b in zip(found, wanted, strict=True):
        assert a.is_contiguous()
        torch.testing.assert_close(a.double(), b, rtol=0, atol=tolerance * scale)


def agrees(case: Case, result: FlowResult, given: bool, step_size: float, steps: int, tolerance: float) -> None:
    values = case.explicit(given, step_size, steps)
    errors, d = case.looked_at(values)
    agree(result.values, values, tolerance)
    agree(result.errors, errors, tolerance)
    levels = [case.inputs, *values, case.target]
    agree(result.predictions, [x - e for x, e in zip(levels[1:], errors)], tolerance)
    agree([result.energy], [sum(0.5 * (e * e).sum(1) for e in errors)], tolerance)
    weight, bias = zip(*weight_gradients(result))
    agree(weight, [-(back.T @ x) for back, x in zip(d, levels)], tolerance)
    agree(bias, [-back.sum(0) for back in d], tolerance)


CHAINS = {
    "folded, 4 free levels": ((7, 9, 5, 6, 8, 3), 20),
    "plain, for a wide second level": ((7, 3, 9, 5, 4), 20),
    "plain, for few rows and steps": ((5, 6, 6, 2), 1),
    "folded, one free level": ((6, 8, 3), 20),
    "fewer steps than levels": ((4, 6, 5, 6, 5, 4, 3), 3),
    "as many steps as free levels": ((4, 6, 5, 6, 5, 4, 3), 5),
    "wide enough to stand upright": ((5, 70, 66, 3, 65), 9),
}


@pytest.mark.parametrize("given", [False, True], ids=["feed-forward", "given values"])
@pytest.mark.parametrize(("widths", "steps"), CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("activation", FUNCTIONS, ids=str)
def test_every_iterate_is_that_of_the_formulas(
    activation: Activation, widths: tuple[int, ...], steps: int, given: bool
) -> None:
    case = Case(widths, [activation] * (len(widths) - 2))
    agrees(case, case.run(given, 0.1, steps), given, 0.1, steps, 1e-12)


@pytest.mark.parametrize("given", [False, True], ids=["feed-forward", "given values"])
@pytest.mark.parametrize("step_size", [0.01, 0.5, 1.0, 1.5])
def test_any_step_size_mixed_activations_and_no_bias(step_size: float, given: bool) -> None:
    case = Case((7, 6, 5, 4, 6, 2), [ReLU(), Tanh(), Identity(), Tanh()], bias=False)
    agrees(case, case.run(given, step_size, 8), given, step_size, 8, 1e-12)


@pytest.mark.parametrize("widths", [(64, 96, 80, 10), (64, 20, 80, 10)], ids=["folded", "plain"])
@pytest.mark.parametrize("given", [False, True], ids=["feed-forward", "given values"])
def test_single_precision(widths: tuple[int, ...], given: bool) -> None:
    case = Case(widths, [Tanh(), Tanh()], rows=32)
    weights, biases = ([tensor.float() for tensor in group] for group in (case.weights, case.biases))
    values = tuple(x.float() for x in case.values) if given else None
    flow = ChainFlow(weights, biases, case.activations)
    result = flow.run(case.inputs.float(), case.target.float(), values, step_size=0.1, steps=50)
    assert {group.dtype for group in (*result.levels, *result.errors, *result.input_gradients)} == {torch.float32}
    agrees(case, result, given, 0.1, 50, 1e-5)


def test_the_hand_case_reaches_its_equilibrium() -> None:
    """x = 1, W = (2, 3), y = 1: hidden 1/2, F 5/4, dF/dW = (-e_2 x_1, -e_1 x_0) = (1.5, .25)."""
    one = torch.ones(1, 1, dtype=torch.float64)
    result = ChainFlow([2 * one, 3 * one], [None, None], [Identity()]).run(one, one, step_size=0.1, steps=100)
    agree(result.values, [0.5 * one], 1e-12)
    agree([result.energy], [1.25 * one[0]], 1e-12)
    agree([weight for weight, _ in weight_gradients(result)], [1.5 * one, 0.25 * one], 1e-12)


def test_a_linear_chain_reaches_the_published_equilibrium() -> None:
    """Worked by hand: S = 6, r = (4, 2), mean F = 5/6."""
    weights = [[[1, 2], [0, -1], [0.5, 0.5]], [[1, 0, -1], [2, 1, 0]], [[1, -1]]]
    flow = ChainFlow([torch.tensor(W, dtype=torch.float64) for W in weights], [None] * 3, [Identity()] * 2)
    inputs, target = (torch.tensor(x, dtype=torch.float64) for x in ([[1, 1], [0, 2]], [[1], [-1]]))
    result = flow.run(inputs, target, step_size=0.2, steps=1500)
    first = torch.tensor([[7, -5, 1], [11, -7, 2]], dtype=torch.float64) / 3
    second = torch.tensor([[8, 7], [10, 14]], dtype=torch.float64) / 3
    agree(result.values, [first, second], 1e-12)
    assert result.energy.mean().item() == pytest.approx(5 / 6, abs=1e-12)


def test_weight_gradients_are_those_of_the_energy() -> None:
    """By automatic differentiation of F at the final values, held."""
    case = Case((7, 9, 5, 6, 3), [Tanh(), ReLU(), Tanh()])
    result = case.run()
    parameters = [tensor.clone().requires_grad_() for tensor in (*case.weights, *case.biases)]
    weights, biases = parameters[: len(case.weights)], parameters[len(case.weights) :]
    functions = [*(FUNCTIONS[activation] for activation in case.activations), FUNCTIONS[Identity()]]
    parts = zip(result.levels, weights, biases, result.levels[1:], functions)
    energy = sum(0.5 * (above - f(functional.linear(x, W, b))).square().sum() for x, W, b, above, f in parts)
    wanted = torch.autograd.grad(energy, parameters)
    weight, bias = zip(*weight_gradients(result))
    agree([*weight, *bias], wanted, 1e-12)
    torch.testing.assert_close(result.energy.sum(), energy.detach(), rtol=1e-13, atol=0)


def test_rows_never_mix() -> None:
    case = Case((7, 9, 5, 6, 3), [Tanh()] * 3)
    whole = case.run()
    for row in range(case.rows):
        alone = case.flow().run(case.inputs[row : row + 1], case.target[row : row + 1], step_size=0.1, steps=20)
        agree(alone.values, [group[row : row + 1] for group in whole.values], 1e-12)


def test_a_row_that_diverges_spoils_no_other() -> None:
    case = Case((7, 9, 5, 6, 3), [Tanh()] * 3)
    before = case.run()
    case.target[2] = torch.inf
    after = case.run()
    others = [0, 1, 3, 4, 5]
    assert not after.energy[2].isfinite()
    agree([group[others] for group in after.values], [group[others] for group in before.values], 1e-13)


def test_runs_in_pieces_are_one_run() -> None:
    case = Case((7, 9, 5, 6, 3), [Tanh()] * 3)
    flow = case.flow()
    part = flow.run(case.inputs, case.target, step_size=0.1, steps=7)
    rest = flow.run(case.inputs, case.target, part.values, step_size=0.1, steps=13)
    agree(rest.values, case.run().values, 1e-12)


def test_what_was_handed_out_stays_and_weights_are_read_anew() -> None:
    case = Case((7, 9, 5, 6, 3), [Identity(), Tanh(), Identity()])
    flow = case.flow()
    first = flow.run(case.inputs, case.target, step_size=0.1, steps=5)
    handed_out = [tensor for group in (first.levels, first.errors, first.input_gradients) for tensor in group]
    kept = [tensor.clone() for tensor in handed_out]
    with torch.no_grad():
        for W in case.weights:
            W.mul_(1.5)
    second = flow.run(case.inputs[:4], case.target[:4], step_size=0.1, steps=5)
    third = flow.run(case.inputs, case.target, step_size=0.1, steps=5)
    for tensor, copy in zip(handed_out, kept):
        assert torch.equal(tensor, copy)
    agrees(case, third, False, 0.1, 5, 1e-12)
    agree(second.values, [group[:4] for group in third.values], 1e-12)


def test_levels_that_no_signal_has_reached_are_at_their_predictions() -> None:
    case = Case((4, 6, 5, 6, 5, 4, 3), [Tanh()] * 5)
    result = case.run(steps=2)
    for error, (weight, bias) in list(zip(result.errors, weight_gradients(result)))[:3]:
        assert not error.any() and not weight.any() and not bias.any()
    assert result.errors[3].any()


class Counted(TorchDispatchMode):
    """Multiplications in matrix products, and operations that return memory of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.multiplications, self.allocating = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__.rstrip("_")
        if name in ("mm", "addmm"):
            left, right = args[-2:]
            self.multiplications += left.shape[0] * left.shape[1] * right.shape[1]
        self.allocating += not func._schema.is_mutable and not func.is_view
        return func(*args, **(kwargs or {}))


def counted(widths: tuple[int, ...], rows: int, steps: int, given: bool = False) -> Counted:
    case = Case(widths, [Tanh()] * (len(widths) - 2), rows=rows)
    flow = case.flow()
    values = tuple(case.values) if given else None
    flow.run(case.inputs, case.target, values, step_size=0.1, steps=1)
    with Counted() as count:
        weight_gradients(flow.run(case.inputs, case.target, values, step_size=0.1, steps=steps))
    return count


def test_no_product_is_computed_that_can_be_spared() -> None:
    """784-256-256-10 at 1/8, 20 steps: the sums of the module's docstring, and less than hoisting alone would need."""
    B, T, N0, N, M = 32, 20, 98, 32, 10
    middle, thin = B * N * N, B * N * M
    once = 2 * B * N0 * N + N**3 + 3 * middle + thin  # mu_1 and dW_1; W W^T; W mu_1, e_1 and dW_2; dW_3
    steps = (T - 1) * middle + (2 * T + 1) * thin  # level 1 stands still in the first step
    assert counted((N0, N, N, M), B, T).multiplications == once + steps
    hoisted = 2 * B * N0 * N + (2 * T + 3) * (middle + thin)
    assert once + steps < 0.7 * hoisted


@pytest.mark.parametrize("given", [False, True], ids=["feed-forward", "given values"])
@pytest.mark.parametrize("widths", [(7, 9, 5, 6, 3), (7, 3, 9, 3)], ids=["folded", "plain"])
def test_steps_allocate_nothing(widths: tuple[int, ...], given: bool) -> None:
    assert counted(widths, 6, 9, given).allocating == counted(widths, 6, 90, given).allocating


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_size": 0.0}, "step_size must be"),
        ({"step_size": float("nan")}, "step_size must be"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"inputs": torch.zeros(6, 8)}, "rows of widths"),
        ({"target": torch.zeros(5, 3)}, "rows of widths"),
        ({"values": (torch.zeros(6, 9),)}, "rows of widths"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    case = Case((7, 9, 5, 3), [Tanh()] * 2)
    fits = {"inputs": case.inputs, "target": case.target, "step_size": 0.1, "steps": 3}
    with pytest.raises(ValueError, match=message):
        case.flow().run(**fits | change)


def test_a_chain_that_cannot_be_is_refused() -> None:
    case = Case((7, 9, 5, 3), [Tanh()] * 2)
    with pytest.raises(TypeError, match="Softplus"):
        ChainFlow(case.weights, case.biases, [Tanh(), Softplus()])
    with pytest.raises(ValueError, match="follow from each other"):
        ChainFlow(case.weights[::-1], case.biases, case.activations)
    with pytest.raises(ValueError, match="got 1, 1 and 0"):
        ChainFlow(case.weights[:1], case.biases[:1], [])
