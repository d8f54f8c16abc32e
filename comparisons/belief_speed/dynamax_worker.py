"""dynamax: its filter and sampler under jit and vmap, once for all sequences."""

import jax
import jax.numpy as jnp
import numpy as np
from dynamax.hidden_markov_model import CategoricalHMM
from dynamax.hidden_markov_model.inference import hmm_filter


class Model:
    """dynamax emits a token from a state; tokens that depend on the state they lead to are the same, one step later."""

    dtype = jnp.float32

    def __init__(self, task: dict[str, np.ndarray], threads: int) -> None:
        if self.dtype is jnp.float64:
            jax.config.update("jax_enable_x64", True)
        self.initial = jnp.asarray(task["initial"] @ task["chain"], self.dtype)
        self.chain = jnp.asarray(task["chain"], self.dtype)
        self.emission = jnp.asarray(task["emission"], self.dtype)
        self.tokens = jnp.asarray(task["tokens"])
        self.prepare()

    def versions(self) -> dict[str, str]:
        import importlib.metadata

        return {name: importlib.metadata.version(name) for name in ("dynamax", "jax")}


class Filter(Model):
    """Beliefs of given sequences."""

    def prepare(self) -> None:
        logs = jnp.log(self.emission).T
        self.compiled = jax.jit(jax.vmap(lambda tokens: hmm_filter(self.initial, self.chain, logs[tokens])))

    def run(self, steps: int) -> None:
        for _ in range(steps):
            jax.block_until_ready(self.compiled(self.tokens))

    def check(self) -> dict[str, np.ndarray]:
        return answer(self.tokens, self.compiled(self.tokens))


class FilterDouble(Filter):
    """The same in float64."""

    dtype = jnp.float64


class Observe(Model):
    """Sequences, then their beliefs: two compiled calls."""

    def prepare(self) -> None:
        batch, length = self.tokens.shape
        model = CategoricalHMM(len(self.chain), 1, self.emission.shape[1])
        parameters, _ = model.initialize(
            jax.random.PRNGKey(0),
            initial_probs=self.initial,
            transition_matrix=self.chain,
            emission_probs=self.emission[:, None],
        )
        self.draw = jax.jit(
            lambda key: jax.vmap(lambda own: model.sample(parameters, own, length))(jax.random.split(key, batch))
        )
        self.follow = jax.jit(jax.vmap(lambda tokens: model.filter(parameters, tokens)))
        self.key = jax.random.PRNGKey(1)

    def once(self) -> tuple:
        self.key, own = jax.random.split(self.key)
        _, tokens = self.draw(own)
        return tokens, self.follow(tokens)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            jax.block_until_ready(self.once())

    def check(self) -> dict[str, np.ndarray]:
        tokens, found = self.once()
        return answer(tokens[..., 0], found)


class ObserveFused(Observe):
    """Both in one compiled call."""

    def prepare(self) -> None:
        super().prepare()
        draw, follow = self.draw, self.follow

        def both(key: jax.Array) -> tuple:
            _, tokens = draw(key)
            return tokens, follow(tokens)

        self.both = jax.jit(both)

    def once(self) -> tuple:
        self.key, own = jax.random.split(self.key)
        return self.both(own)


def answer(tokens: jax.Array, found: tuple) -> dict[str, np.ndarray]:
    """For the check."""
    return {
        "tokens": np.asarray(tokens),
        "filtered": np.asarray(found.filtered_probs),
        "log_likelihood": np.asarray(found.marginal_loglik),
    }
