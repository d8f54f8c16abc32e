"""One training step in PCX (https://github.com/liukidar/pcx), written as its tutorials write it: everything under one jit."""

from collections.abc import Callable
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pcx
import pcx.functional as pxf
import pcx.nn as pxnn
import pcx.predictive_coding as pxc
import pcx.utils as pxu

VALUES_AND_CACHES = pxu.M(pxc.VodeParam | pxc.VodeParam.Cache).to((None, 0))


class Hierarchy(pxc.EnergyModule):
    """A chain of tanh layers with a linear output; every prediction is a vode, the last is held at the target."""

    def __init__(self, weights: list[np.ndarray], biases: list[np.ndarray]):
        super().__init__()
        self.layers = [pxnn.Linear(w.shape[1], w.shape[0]) for w in weights]
        for layer, weight, bias in zip(self.layers, weights, biases):
            layer.nn.weight.set(jnp.asarray(weight))
            layer.nn.bias.set(jnp.asarray(bias))
        self.vodes = [pxc.Vode() for _ in weights]
        self.vodes[-1].h.frozen = True

    def __call__(self, x: jax.Array, y: jax.Array | None) -> jax.Array:
        for layer, vode in zip(self.layers[:-1], self.vodes[:-1]):
            x = vode(jnp.tanh(layer(x)))
        self.vodes[-1](self.layers[-1](x))
        if y is not None:
            self.vodes[-1].set("h", y)
        return self.vodes[-1].get("u")


@pxf.vmap(VALUES_AND_CACHES, in_axes=(0, 0), out_axes=0)
def forward(x: jax.Array, y: jax.Array, *, model: Hierarchy) -> jax.Array:
    return model(x, y)


@pxf.vmap(VALUES_AND_CACHES, in_axes=(0,), out_axes=(None, 0), axis_name="batch")
def energy(x: jax.Array, *, model: Hierarchy) -> tuple[jax.Array, jax.Array]:
    prediction = model(x, None)
    return jax.lax.psum(model.energy(), "batch"), prediction


FREE_VALUES = pxu.M_hasnot(pxc.VodeParam, frozen=True).to([False, True])
WEIGHTS = pxu.M(pxnn.LayerParam).to([False, True])


@pxf.jit(static_argnums=0)
def train(
    iterations: int, x: jax.Array, y: jax.Array, *, model: Hierarchy, values: pxu.Optim, weights: pxu.Optim
) -> None:
    model.train()
    with pxu.step(model, pxc.STATUS.INIT, clear_params=pxc.VodeParam.Cache):
        forward(x, y, model=model)
    values.init(pxu.M_hasnot(pxc.VodeParam, frozen=True)(model))
    for _ in range(iterations):
        with pxu.step(model, clear_params=pxc.VodeParam.Cache):
            _, gradient = pxf.value_and_grad(FREE_VALUES, has_aux=True)(energy)(x, model=model)
        values.step(model, gradient["model"])
    values.clear()
    with pxu.step(model, clear_params=pxc.VodeParam.Cache):
        _, gradient = pxf.value_and_grad(WEIGHTS, has_aux=True)(energy)(x, model=model)
    weights.step(model, gradient["model"], scale_by=1.0 / x.shape[0])


class Step:
    """Training steps of one network from given weights; gradients of the weights are means over the batch."""

    def __init__(self, task: dict[str, np.ndarray], threads: int):
        self.task = task
        self.batches = [(jnp.asarray(x), jnp.asarray(y)) for x, y in zip(task["inputs"], task["targets"])]
        self.seen = 0
        self.model, self.values, self.weights = self.fresh(lambda: optax.adam(float(task["learning_rate"])))

    def fresh(self, optimizer: Callable[[], optax.GradientTransformation]) -> tuple[Hierarchy, pxu.Optim, pxu.Optim]:
        layers = range(len(self.task["widths"]) - 1)
        model = Hierarchy([self.task[f"weight{i}"] for i in layers], [self.task[f"bias{i}"] for i in layers])
        with pxu.step(model, pxc.STATUS.INIT, clear_params=pxc.VodeParam.Cache):
            forward(*self.batches[0], model=model)
        step_size = float(self.task["step_size"])
        values = pxu.Optim(lambda: optax.sgd(step_size))
        return model, values, pxu.Optim(optimizer, pxu.M(pxnn.LayerParam)(model))

    def once(self, batch: int, state: tuple[Hierarchy, pxu.Optim, pxu.Optim]) -> None:
        model, values, weights = state
        train(int(self.task["iterations"]), *self.batches[batch], model=model, values=values, weights=weights)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.once(self.seen % len(self.batches), (self.model, self.values, self.weights))
            self.seen += 1
        jax.block_until_ready([layer.nn.weight.get() for layer in self.model.layers])

    def check(self) -> dict[str, np.ndarray]:
        """One step of plain descent (whose change of weight is the gradient times a power of two) and one of Adam."""
        found = {}
        scale = float(self.task["gradient_scale"])
        for name, optimizer in (("descent", optax.sgd(scale)), ("adam", optax.adam(float(self.task["adam_rate"])))):
            state = self.fresh(lambda optimizer=optimizer: optimizer)
            self.once(0, state)
            for i, layer in enumerate(state[0].layers):
                found[f"{name}_weight{i}"] = np.asarray(layer.nn.weight.get())
                found[f"{name}_bias{i}"] = np.asarray(layer.nn.bias.get())
            for i, vode in enumerate(state[0].vodes[:-1]):
                found[f"value{i + 1}"] = np.asarray(vode.h.get())
        return found

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("pcx", "jax")}


assert pcx
