"""Every layer: its prediction against plain torch, its derivatives against `torch.func` on that plain torch.

Backwards only: the forward mode of `torch.func` imports what torch itself calls deprecated.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pcnet.networks.activations import Activation, Identity, LeakyReLU, ReLU, Softplus, Tanh
from pcnet.networks.convolutions import convolution, transposed_convolution
from pcnet.networks.layers import ActiveDense, AutogradLayer, Dense, Layer, Skip

ROWS, SOURCES, DIRECTIONS = 3, 12, 4
Reference = Callable[[dict[str, Tensor], Tensor], Tensor]

ACTIVATIONS: dict[str, tuple[Activation, Callable[[Tensor], Tensor]]] = {
    "identity": (Identity(), lambda x: x),
    "tanh": (Tanh(), torch.tanh),
    "relu": (ReLU(), torch.relu),
    "leaky": (LeakyReLU(0.2), lambda x: functional.leaky_relu(x, 0.2)),
    "softplus": (Softplus(), lambda x: (1 + x.exp()).log()),
}


def dense(name: str, bias: bool, scale: float) -> tuple[Callable[[], Layer], Reference]:
    activation, f = ACTIVATIONS[name]
    shift = (lambda p: p["bias"]) if bias else lambda p: 0.0
    return (
        lambda: Dense(SOURCES, 5, activation, bias, scale),
        lambda p, x: scale * f(x @ p["weight"].T + shift(p)),
    )


def active(name: str, bias: bool, scale: float) -> tuple[Callable[[], Layer], Reference]:
    activation, f = ACTIVATIONS[name]
    shift = (lambda p: p["bias"]) if bias else lambda p: 0.0
    return (
        lambda: ActiveDense(SOURCES, 5, activation, bias, scale),
        lambda p, x: scale * (f(x) @ p["weight"].T + shift(p)),
    )


class Squares(nn.Module):
    """Something no library has: sums of squares of neighbours, with a learned exponent of the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return (1 + x.unflatten(-1, (-1, 2)).square().sum(-1)) ** self.power


def pooled(p: dict[str, Tensor], x: Tensor) -> Tensor:
    maps = functional.conv2d(x.reshape(-1, 3, 2, 2), p["module.1.weight"], p["module.1.bias"], padding=1)
    return functional.max_pool2d(torch.tanh(maps), 2).flatten(1)


def unpooled(p: dict[str, Tensor], x: Tensor) -> Tensor:
    maps = functional.conv_transpose2d(x.reshape(-1, 3, 2, 2), p["module.1.weight"], p["module.1.bias"], stride=2)
    return torch.sigmoid(maps).flatten(1)


LAYERS: dict[str, tuple[Callable[[], Layer], Reference]] = {
    "skip": (Skip, lambda p, x: x),
    "dense": dense("identity", True, 1.0),
    "dense scale no bias": dense("identity", False, 0.3),
    "dense tanh": dense("tanh", True, 1.0),
    "dense tanh scale": dense("tanh", False, 1.7),
    "dense relu": dense("relu", True, 1.0),
    "dense leaky": dense("leaky", True, 0.5),
    "dense softplus": dense("softplus", True, 1.0),
    "active": active("identity", True, 2.0),
    "active tanh": active("tanh", True, 1.0),
    "active tanh scale": active("tanh", False, 0.4),
    "active relu": active("relu", False, 1.0),
    "active softplus": active("softplus", True, 0.7),
    "autograd linear": (
        lambda: AutogradLayer(nn.Linear(SOURCES, 5)),
        lambda p, x: x @ p["module.weight"].T + p["module.bias"],
    ),
    "autograd two layers": (
        lambda: AutogradLayer(nn.Sequential(nn.Linear(SOURCES, 4), nn.Tanh(), nn.Linear(4, 3, bias=False))),
        lambda p, x: torch.tanh(x @ p["module.0.weight"].T + p["module.0.bias"]) @ p["module.2.weight"].T,
    ),
    "autograd relu": (
        lambda: AutogradLayer(nn.Sequential(nn.Linear(SOURCES, 5), nn.ReLU())),
        lambda p, x: torch.relu(x @ p["module.0.weight"].T + p["module.0.bias"]),
    ),
    "autograd norm of a row": (
        lambda: AutogradLayer(nn.LayerNorm(SOURCES)),
        lambda p, x: (
            (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() * p["module.weight"]
            + p["module.bias"]
        ),
    ),
    "autograd without weights": (lambda: AutogradLayer(nn.Tanh()), lambda p, x: torch.tanh(x)),
    "one's own": (
        lambda: AutogradLayer(Squares()),
        lambda p, x: (1 + x[..., ::2] ** 2 + x[..., 1::2] ** 2) ** p["module.power"],
    ),
    "convolution and pooling": (lambda: convolution((3, 2, 2), 4, 3, activation=nn.Tanh(), padding=1, pool=2), pooled),
    "transposed convolution": (
        lambda: transposed_convolution((3, 2, 2), 2, 3, activation=nn.Sigmoid(), stride=2),
        unpooled,
    ),
}
LINEAR = {"skip", "dense", "dense scale no bias", "active", "autograd linear"}
each_layer = pytest.mark.parametrize("name", LAYERS)


class Case:
    """A layer with random parameters, its plain torch, and rows, directions and gradients to try."""

    def __init__(self, name: str) -> None:
        make, self.reference = LAYERS[name]
        self.generator = torch.Generator().manual_seed(len(name))
        self.layer = make().double()
        with torch.no_grad():
            for parameter in self.layer.parameters():
                parameter.copy_(self.normal(*parameter.shape) * 0.6)
        self.parameters = {name: p.detach().clone() for name, p in self.layer.named_parameters()}
        self.source = self.normal(ROWS, SOURCES)
        self.targets = self.formula(self.source).shape[-1]

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def formula(self, x: Tensor) -> Tensor:
        return self.reference(self.parameters, x)

    def jacobian(self, source: Tensor | None = None) -> Tensor:
        """(B, M, N), row by row."""
        one = torch.func.jacrev(lambda row: self.formula(row[None])[0])
        return torch.stack([one(row) for row in (self.source if source is None else source)])


@each_layer
def test_prediction_is_the_formula(name: str) -> None:
    case = Case(name)
    expected = case.formula(case.source)
    torch.testing.assert_close(case.layer(case.source), expected, rtol=1e-13, atol=1e-13)
    with torch.no_grad():
        torch.testing.assert_close(case.layer.linearise(case.source).prediction, expected, rtol=1e-13, atol=1e-13)


@each_layer
@pytest.mark.parametrize("learning", [False, True], ids=["inference", "learning"])
def test_push_and_pull_are_the_jacobian(name: str, learning: bool) -> None:
    case = Case(name)
    direction, gradient = case.normal(ROWS, SOURCES), case.normal(ROWS, case.targets)
    jacobian = case.jacobian()
    with torch.set_grad_enabled(learning):
        seen = case.layer.linearise(case.source)
        pushed, pulled = seen.push(direction), seen.pull(gradient)
    torch.testing.assert_close(pushed, torch.einsum("bmn,bn->bm", jacobian, direction))
    torch.testing.assert_close(pulled, torch.einsum("bmn,bm->bn", jacobian, gradient))
    torch.testing.assert_close((pushed * gradient).sum(-1), (pulled * direction).sum(-1))


@each_layer
def test_several_directions_a_row(name: str) -> None:
    case = Case(name)
    directions, gradients = (case.normal(ROWS, DIRECTIONS, width) for width in (SOURCES, case.targets))
    jacobian = case.jacobian()
    with torch.no_grad():
        seen = case.layer.linearise(case.source)
        torch.testing.assert_close(seen.push(directions), torch.einsum("bmn,bkn->bkm", jacobian, directions))
        torch.testing.assert_close(seen.pull(gradients), torch.einsum("bmn,bkm->bkn", jacobian, gradients))


@each_layer
def test_bend_is_the_second_derivative(name: str) -> None:
    case = Case(name)
    direction, gradient = case.normal(ROWS, SOURCES), case.normal(ROWS, case.targets)

    def hessian(row: Tensor, gradient: Tensor) -> Tensor:
        return torch.func.jacrev(torch.func.grad(lambda x: case.formula(x[None])[0] @ gradient))(row)

    expected = torch.stack([hessian(row, g) @ d for row, g, d in zip(case.source, gradient, direction)])
    with torch.no_grad():
        bent = case.layer.linearise(case.source).directional_derivative(gradient, direction)
    torch.testing.assert_close(bent, expected)
    assert (name in LINEAR or "relu" in name or "leaky" in name) == (expected.abs().max() == 0).item()


@each_layer
def test_bend_takes_its_gradient_for_a_constant(name: str) -> None:
    """Under gradients, what is sent back usually comes from the prediction itself."""
    case = Case(name)
    direction, target = case.normal(ROWS, SOURCES), case.normal(ROWS, case.targets)
    with torch.no_grad():
        seen = case.layer.linearise(case.source)
        expected = seen.directional_derivative(seen.prediction - target, direction)
    for source in (case.source, case.source.clone().requires_grad_()):
        seen = case.layer.linearise(source)
        found = seen.directional_derivative(seen.prediction - target, direction)
        torch.testing.assert_close(found.detach(), expected, rtol=1e-12, atol=1e-12)


@each_layer
def test_weight_gradients_are_those_of_autograd(name: str) -> None:
    """Also where the layer was linearised without gradients, which is how inference leaves it."""
    case = Case(name)
    gradient = case.normal(ROWS, case.targets)
    learned = {name: p.requires_grad_() for name, p in case.parameters.items()}
    total = (case.formula(case.source) * gradient).sum()
    expected = dict(zip(learned, torch.autograd.grad(total, list(learned.values())))) if learned else {}
    for learning in (False, True):
        with torch.set_grad_enabled(learning):
            found = case.layer.linearise(case.source).weight_gradients(gradient)
        assert found.keys() == expected.keys() == dict(case.layer.named_parameters()).keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key].detach(), value, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", ["autograd linear", "autograd norm of a row"])
def test_a_frozen_parameter_has_no_gradient_to_give_but_the_others_keep_theirs(name: str) -> None:
    case = Case(name)
    case.layer.module.weight.requires_grad_(False)
    found = case.layer.linearise(case.source).weight_gradients(case.normal(ROWS, case.targets))
    assert found.keys() == {"module.bias"}


@each_layer
def test_linear_layers_say_so(name: str) -> None:
    case = Case(name)
    assert case.layer.linear == (name in LINEAR)


@each_layer
def test_learning_through_inference_sees_the_weights_and_the_source(name: str) -> None:
    """What `unroll` relies on: push and pull are differentiable in the source and in the weights."""
    if name == "autograd norm of a row":
        pytest.skip("torch's LayerNorm takes its mean and scale for constants in third derivatives")
    case = Case(name)
    direction, gradient = case.normal(ROWS, SOURCES), case.normal(ROWS, case.targets)
    theirs = case.source.clone().requires_grad_()
    ours = case.source.clone().requires_grad_()
    seen = case.layer.linearise(ours)
    parameters = {name: p.requires_grad_() for name, p in case.parameters.items()}

    jacobian = case.jacobian(theirs)

    for mine, wanted in (
        (seen.push(direction), torch.einsum("bmn,bn->bm", jacobian, direction)),
        (seen.pull(gradient), torch.einsum("bmn,bm->bn", jacobian, gradient)),
    ):
        if not wanted.requires_grad:
            assert not mine.requires_grad  # a linear layer without weights
            continue
        given = [theirs, *parameters.values()]
        expected = torch.autograd.grad(wanted.square().sum(), given, retain_graph=True, materialize_grads=True)
        given = [ours, *case.layer.parameters()]
        found = torch.autograd.grad(mine.square().sum(), given, retain_graph=True, materialize_grads=True)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


@each_layer
def test_without_gradients_nothing_is_kept_for_them(name: str) -> None:
    case = Case(name)
    with torch.no_grad():
        seen = case.layer.linearise(case.source)
        gradient = case.normal(ROWS, case.targets)
        made = [
            seen.prediction,
            seen.push(case.source),
            seen.pull(gradient),
            seen.directional_derivative(gradient, case.source),
        ]
    assert not any(tensor.requires_grad for tensor in made)


@each_layer
@pytest.mark.parametrize("rows", [0, 1])
def test_rows_stand_alone(name: str, rows: int) -> None:
    """A row's numbers are the same whatever stands beside it; no row at all is a batch too."""
    case = Case(name)
    gradient = case.normal(ROWS, case.targets)
    with torch.no_grad():
        together, alone = case.layer.linearise(case.source), case.layer.linearise(case.source[:rows])
        torch.testing.assert_close(alone.prediction, together.prediction[:rows], rtol=0, atol=1e-13)
        torch.testing.assert_close(alone.pull(gradient[:rows]), together.pull(gradient)[:rows], rtol=0, atol=1e-13)
        torch.testing.assert_close(
            alone.push(case.source[:rows]), together.push(case.source)[:rows], rtol=0, atol=1e-13
        )
        torch.testing.assert_close(
            alone.directional_derivative(gradient[:rows], case.source[:rows]),
            together.directional_derivative(gradient, case.source)[:rows],
            rtol=0,
            atol=1e-13,
        )


@pytest.mark.parametrize("activation, module", [(Tanh(), nn.Tanh()), (Softplus(), nn.Softplus()), (ReLU(), nn.ReLU())])
def test_by_hand_equals_by_autograd(activation: Activation, module: nn.Module) -> None:
    hand = Dense(SOURCES, 5, activation).double()
    wrapped = AutogradLayer(nn.Sequential(nn.Linear(SOURCES, 5), module)).double()
    wrapped.module[0].load_state_dict(hand.state_dict())
    generator = torch.Generator().manual_seed(0)
    x, d, g = (torch.randn(ROWS, w, generator=generator, dtype=torch.float64) for w in (SOURCES, SOURCES, 5))
    with torch.no_grad():
        a, b = hand.linearise(x), wrapped.linearise(x)
        for mine, theirs in (
            (a.prediction, b.prediction),
            (a.push(d), b.push(d)),
            (a.pull(g), b.pull(g)),
            (a.directional_derivative(g, d), b.directional_derivative(g, d)),
            (a.weight_gradients(g)["weight"], b.weight_gradients(g)["module.0.weight"]),
            (a.weight_gradients(g)["bias"], b.weight_gradients(g)["module.0.bias"]),
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)


def test_convolution_by_the_definition() -> None:
    """Sums over channels and kernel positions written out, then the largest of each 2 x 2 window."""
    layer = convolution((2, 6, 5), 3, 3, activation=nn.Tanh(), padding=1, pool=2).double()
    weight, bias = (p.detach() for p in layer.parameters())
    image = torch.randn(2, 2, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    padded = torch.zeros(2, 2, 8, 7, dtype=torch.float64)
    padded[:, :, 1:-1, 1:-1] = image
    maps = torch.empty(2, 3, 6, 5, dtype=torch.float64)
    for row in range(6):
        for column in range(5):
            patch = padded[:, :, row : row + 3, column : column + 3]
            maps[:, :, row, column] = torch.tanh((patch[:, None] * weight).sum((2, 3, 4)) + bias)
    expected = torch.stack(
        [maps[:, :, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].amax((2, 3)) for r in range(3) for c in range(2)], -1
    )
    torch.testing.assert_close(layer(image.flatten(1)), expected.flatten(1))


def test_the_way_down_is_the_transposed_way_up() -> None:
    up = convolution((2, 6, 6), 3, 3, activation=nn.Identity(), stride=1).double()
    down = transposed_convolution((3, 4, 4), 2, 3, activation=nn.Identity()).double()
    with torch.no_grad():
        up.module[1].bias.zero_()
        down.module[1].bias.zero_()
        down.module[1].weight.copy_(up.module[1].weight)
    generator = torch.Generator().manual_seed(2)
    image, maps = (torch.randn(4, n, generator=generator, dtype=torch.float64) for n in (72, 48))
    torch.testing.assert_close((up(image) * maps).sum(-1), (image * down(maps)).sum(-1))


def test_convolutions_without_a_nonlinearity_are_linear() -> None:
    assert convolution((2, 6, 6), 3, 3, activation=nn.Identity()).linear
    assert transposed_convolution((2, 6, 6), 3, 3, activation=nn.Identity()).linear
    assert not convolution((2, 6, 6), 3, 3, activation=nn.Identity(), pool=2).linear
    assert not convolution((2, 6, 6), 3, 3, activation=nn.Tanh()).linear


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_know_their_derivatives(name: str) -> None:
    activation, f = ACTIVATIONS[name]
    x = torch.tensor([-30.0, -3.0, -1.0, -1e-3, 1e-3, 0.5, 2.0, 30.0], dtype=torch.float64)
    slope = torch.func.vmap(torch.func.grad(f))
    torch.testing.assert_close(activation(x), f(x), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(activation.derivative(x, activation(x)), slope(x), rtol=1e-12, atol=1e-13)
    bend = torch.func.vmap(torch.func.grad(torch.func.grad(f)))
    torch.testing.assert_close(activation.second_derivative(x, activation(x)), bend(x), rtol=1e-9, atol=1e-13)


def test_activations_print_compare_and_refuse() -> None:
    assert LeakyReLU(0.1) == LeakyReLU(0.1) != LeakyReLU(0.2)
    assert repr(Tanh()) == "Tanh()"
    for leak in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="leak"):
            LeakyReLU(leak)


@pytest.mark.parametrize("make", [Dense, ActiveDense])
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"sources": 0, "targets": 2}, "sources must be at least 1"),
        ({"sources": 2, "targets": -1}, "targets must be at least 1"),
        ({"sources": 2, "targets": 2, "scale": 0.0}, "scale"),
        ({"sources": 2, "targets": 2, "scale": float("inf")}, "scale"),
        ({"sources": 2, "targets": 2, "scale": float("nan")}, "scale"),
    ],
)
def test_bad_sizes(make: type[Layer], arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(4), nn.SyncBatchNorm(4), nn.LazyBatchNorm1d()])
def test_what_mixes_rows_is_refused(norm: nn.Module) -> None:
    with pytest.raises(ValueError, match=f"{type(norm).__name__}.*mixes the rows"):
        AutogradLayer(nn.Sequential(nn.Linear(4, 4), norm))


def test_starting_weights_keep_the_size_of_what_they_carry() -> None:
    torch.manual_seed(0)
    weight = Dense(400, 300).weight.detach()
    assert weight.std() * 400**0.5 == pytest.approx(1, abs=0.01)
    assert Dense(400, 300).bias.abs().max() == 0
