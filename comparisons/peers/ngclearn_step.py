"""One training step in ngc-learn (https://github.com/NACLab/ngc-learn): rate cells, error cells and Hebbian synapses.

A synapse predicts ``W f(x) + b``, not ``f(W x + b)``: a variant of the task, checked against a reference of its own. Wiring
and order of events follow the library's own exhibit of a discriminative network (Whittington & Bogacz 2017).
"""

from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
from ngclearn import Context, MethodProcess
from ngclearn.components import DenseSynapse, GaussianErrorCell, HebbianSynapse, RateCell
from ngclearn.utils.distribution_generator import DistributionGenerator
from ngcsimlib.global_state import stateManager


class Circuit:
    """Cells ``z1 .. zn-1`` between a clamped input and error cells; synapses up (learned), down (their transposes) and for the sweep."""

    def __init__(self, name: str, task: dict[str, np.ndarray], optimizer: str, rate: float):
        widths, batch = task["widths"].tolist(), task["inputs"].shape[1]
        depth, zero = len(widths) - 1, DistributionGenerator.constant(0.0)
        key = jax.random.key(0)
        self.iterations = int(task["iterations"])
        with Context(name):
            self.up = [
                HebbianSynapse(
                    f"W{i}", shape=(widths[i], widths[i + 1]), eta=rate, weight_init=zero, bias_init=zero, w_bound=0.0,
                    optim_type=optimizer, sign_value=-1.0, batch_size=batch, key=key,
                )
                for i in range(depth)
            ]  # fmt: skip
            self.sweep = [
                DenseSynapse(f"Q{i}", shape=shape.shape, weight_init=zero, bias_init=zero, batch_size=batch, key=key)
                for i, shape in enumerate(self.up)
            ]
            self.down = [
                DenseSynapse(f"E{i}", shape=shape.shape[::-1], weight_init=zero, batch_size=batch, key=key)
                for i, shape in enumerate(self.up[1:], 1)
            ]
            self.values = [
                RateCell(
                    f"z{i}", n_units=n, tau_m=1.0 / float(task["step_size"]), act_fx="tanh", batch_size=batch, key=key
                )
                for i, n in enumerate(widths[1:-1], 1)
            ]
            self.swept = [
                RateCell(f"q{i}", n_units=n, tau_m=0.0, act_fx="tanh", batch_size=batch, key=key)
                for i, n in enumerate(widths[1:-1], 1)
            ]
            self.errors = [
                GaussianErrorCell(f"e{i}", n_units=n, batch_size=batch, key=key) for i, n in enumerate(widths[1:], 1)
            ]
            self.output = GaussianErrorCell("eq", n_units=widths[-1], batch_size=batch, key=key)
            self.wire()
            self.schedule()

    def schedule(self) -> None:
        """What happens in a sweep, in an iteration and in learning, in this order."""
        self.project, self.advance, self.learn = map(MethodProcess, ("project", "advance", "learn"))
        for synapse, cell in zip(self.sweep, [*self.swept, self.output]):
            self.project.then(synapse.advance_state).then(cell.advance_state)
        for part in (*self.down, *self.values, *self.up, *self.errors):
            self.advance.then(part.advance_state)
        for synapse in self.up:
            self.learn.then(synapse.evolve)

    def wire(self) -> None:
        for i, error in enumerate(self.errors):
            self.up[i].weights >> self.sweep[i].weights
            self.up[i].biases >> self.sweep[i].biases
            self.up[i].outputs >> error.mu
            error.dmu >> self.up[i].post
            if i:
                self.values[i - 1].zF >> self.up[i].inputs
                self.values[i - 1].zF >> self.up[i].pre
                self.swept[i - 1].zF >> self.sweep[i].inputs
                error.dmu >> self.down[i - 1].inputs
                self.down[i - 1].outputs >> self.values[i - 1].j
        for value, error, swept, synapse in zip(self.values, self.errors, self.swept, self.sweep):
            value.z >> error.target
            error.dtarget >> value.j_td
            synapse.outputs >> swept.j
        self.sweep[-1].outputs >> self.output.mu

    def clamp(self, x: jax.Array, y: jax.Array) -> None:
        self.up[0].inputs.set(x)
        self.up[0].pre.set(x)
        self.sweep[0].inputs.set(x)
        self.errors[-1].target.set(y)
        self.output.target.set(y)

    def train(self, x: jax.Array, y: jax.Array) -> None:
        """Sweep, settle, learn. After the last iteration's values the errors are computed anew: the weights see both."""
        self.clamp(x, y)
        for down, up in zip(self.down, self.up[1:]):
            down.weights.set(up.weights.get().T)
        self.project.run(dt=1.0)
        for value, swept in zip(self.values, self.swept):
            value.z.set(swept.z.get())
        for error in self.errors[:-1]:
            error.dmu.set(jnp.zeros_like(error.dmu.get()))
            error.dtarget.set(jnp.zeros_like(error.dtarget.get()))
        self.errors[-1].dmu.set(self.output.dmu.get())
        self.settle()
        self.learn.run(dt=1.0)

    def settle(self) -> None:
        """All iterations, by the library's own scan: three times as fast as calling the process once an iteration."""

        rows = jnp.array(self.advance.pack_rows(self.iterations, dt=1.0))
        state, _ = self.advance.scan(rows)
        stateManager.set_state(state)


class Step:
    """Training steps of one network from given weights; gradients of the weights are sums over the batch."""

    def __init__(self, task: dict[str, np.ndarray], threads: int):
        self.task = task
        self.batches = [(jnp.asarray(x), jnp.asarray(y)) for x, y in zip(task["inputs"], task["targets"])]
        self.seen = 0
        self.circuit = self.fresh("timed", "adam", float(task["learning_rate"]))

    def fresh(self, name: str, optimizer: str, rate: float) -> Circuit:
        circuit = Circuit(name, self.task, optimizer, rate)
        for i, synapse in enumerate(circuit.up):
            synapse.weights.set(jnp.asarray(self.task[f"weight{i}"].T))
            synapse.biases.set(jnp.asarray(self.task[f"bias{i}"][None]))
        return circuit

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.circuit.train(*self.batches[self.seen % len(self.batches)])
            self.seen += 1
        jax.block_until_ready([synapse.weights.get() for synapse in self.circuit.up])

    def check(self) -> dict[str, np.ndarray]:
        """One step of plain descent (whose change of weight is the gradient times a power of two) and one of Adam."""
        found = {}
        scale, rate = float(self.task["gradient_scale"]), float(self.task["adam_rate"])
        for name, optimizer, size in (("descent", "sgd", scale), ("adam", "adam", rate)):
            circuit = self.fresh(name, optimizer, size)
            circuit.train(*self.batches[0])
            for i, synapse in enumerate(circuit.up):
                found[f"{name}_weight{i}"] = np.asarray(synapse.weights.get()).T
                found[f"{name}_bias{i}"] = np.asarray(synapse.biases.get())[0]
            for i, value in enumerate(circuit.values, 1):
                found[f"value{i}"] = np.asarray(value.z.get())
        return found

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("ngclearn", "ngcsimlib", "jax")}
