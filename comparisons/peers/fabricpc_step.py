"""One training step in FabricPC (https://pypi.org/project/fabricpc): its own jitted train step on a chain of Linear nodes."""

from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import optax
from fabricpc.core.activations import IdentityActivation, TanhActivation
from fabricpc.core.inference import InferenceSGD
from fabricpc.core.topology import Edge
from fabricpc.core.types import GraphParams, NodeParams
from fabricpc.graph_assembly import TaskMap, graph
from fabricpc.graph_initialization import initialize_params
from fabricpc.nodes import IdentityNode, Linear
from fabricpc.training import make_train_step


class Step:
    """Training steps of one network from given weights; gradients of the weights are means over the batch."""

    def __init__(self, task: dict[str, np.ndarray], threads: int):
        self.task = task
        widths = task["widths"].tolist()
        nodes = [IdentityNode(shape=(widths[0],), name="layer0")]
        for i, width in enumerate(widths[1:], 1):
            activation = IdentityActivation() if i == len(widths) - 1 else TanhActivation()
            nodes.append(Linear(shape=(width,), name=f"layer{i}", activation=activation))
        self.structure = graph(
            nodes=nodes,
            edges=[Edge(source=below, target=above) for below, above in zip(nodes, nodes[1:])],
            task_map=TaskMap(x=nodes[0], y=nodes[-1]),
            inference=InferenceSGD(eta_infer=float(task["step_size"]), infer_steps=int(task["iterations"])),
        )
        self.batches = [{"x": jnp.asarray(x), "y": jnp.asarray(y)} for x, y in zip(task["inputs"], task["targets"])]
        self.key = jax.random.key(0)
        self.seen = 0
        optimizer = optax.adam(float(task["learning_rate"]))
        self.step = make_train_step(self.structure, optimizer)
        self.params = self.given()
        self.state = optimizer.init(self.params)

    def given(self) -> GraphParams:
        """The task's weights in this library's containers; its matrices are the transposes."""
        drawn = initialize_params(self.structure, self.key)
        nodes = {"layer0": drawn.nodes["layer0"]}
        for i in range(len(self.task["widths"]) - 1):
            (edge,) = drawn.nodes[f"layer{i + 1}"].weights
            weight, bias = jnp.asarray(self.task[f"weight{i}"].T), jnp.asarray(self.task[f"bias{i}"][None])
            nodes[f"layer{i + 1}"] = NodeParams(weights={edge: weight}, biases={"b": bias})
        return GraphParams(nodes=nodes)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            batch = self.batches[self.seen % len(self.batches)]
            self.params, self.state, _, _ = self.step(self.params, self.state, batch, self.key)
            self.seen += 1
        jax.block_until_ready(self.params)

    def check(self) -> dict[str, np.ndarray]:
        """One step of plain descent (whose change of weight is the gradient times a power of two) and one of Adam."""
        found = {}
        scale, rate = float(self.task["gradient_scale"]), float(self.task["adam_rate"])
        for name, optimizer in (("descent", optax.sgd(scale)), ("adam", optax.adam(rate))):
            given = self.given()
            step = make_train_step(self.structure, optimizer)
            params, _, _, final = step(given, optimizer.init(given), self.batches[0], self.key)
            for i in range(len(self.task["widths"]) - 1):
                node = params.nodes[f"layer{i + 1}"]
                (weight,) = node.weights.values()
                found[f"{name}_weight{i}"] = np.asarray(weight).T
                found[f"{name}_bias{i}"] = np.asarray(node.biases["b"])[0]
                if i + 2 < len(self.task["widths"]):
                    found[f"value{i + 1}"] = np.asarray(final.nodes[f"layer{i + 1}"].z_latent)
        return found

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("fabricpc", "jax")}
