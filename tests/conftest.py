"""What several test files build: random token energies and small networks, float64, the same for the same seed."""

import numpy as np
import pytest
import scipy.linalg  # noqa: F401  loaded before threads are limited
import torch
from threadpoolctl import threadpool_limits

from pcnet.inference import GaussNewton, Inference
from pcnet.networks import TemporalPC
from pcnet.networks.fast.token_problem import TokenProblem, Weights

# The tests are thousands of small operations: a second thread only gets in the way, on a busy machine by a factor of ten.
torch.set_num_threads(1)
threadpool_limits(1)

WIDTHS = (5, 4, 6)
"""Of the levels of a random token energy: all different, and different from the vocabulary, so that no transposition fits."""
VOCAB_SIZE = 3


class TokenCase:
    """One random token energy with everything that went into it: weights, past, tokens and some values, 4 rows.

    Args:
        levels: how many.
        seed: of every draw.
        gain: standard deviation of the weights times the root of their fan-in.
    """

    def __init__(self, levels: int, seed: int = 0, gain: float = 0.8) -> None:
        rng = np.random.default_rng(seed)
        widths = WIDTHS[:levels]

        def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
            return torch.from_numpy(scale * rng.standard_normal(shape))

        self.weights = Weights(
            recurrent=tuple(normal(width, width, scale=gain / width**0.5) for width in widths),
            biases=tuple(normal(width, scale=0.3) for width in widths),
            above=tuple(normal(a, b, scale=gain / b**0.5) for a, b in zip(widths, widths[1:], strict=False)),
            precisions=tuple(normal(width, scale=0.5).exp() for width in widths),
            readout=normal(VOCAB_SIZE, widths[0], scale=2 * gain / widths[0] ** 0.5),
            readout_bias=normal(VOCAB_SIZE, scale=0.5),
        )
        self.past = tuple(normal(4, width) for width in widths)
        self.values = tuple(normal(4, width) for width in widths)
        self.direction = tuple(normal(4, width) for width in widths)
        self.tokens = torch.tensor([0, 2, 1, 2])
        self.next_tokens = torch.tensor([1, 2, 0, 0])
        self.problem = TokenProblem(self.weights, self.weights.bases(self.past), self.tokens)


@pytest.fixture
def token_case() -> type[TokenCase]:
    return TokenCase


@pytest.fixture
def small_network():
    """A function that makes a float64 `TemporalPC` with precisions that differ from 1 and biases that differ from 0."""

    def make(
        levels: int = 2,
        width: int = 3,
        vocab_size: int = 3,
        seed: int = 0,
        scale: float = 0.7,
        learn_precision: bool = True,
        inference: Inference | None = None,
    ) -> TemporalPC:
        inference = inference or Inference(GaussNewton(), atol=1e-13, max_steps=200)
        network = TemporalPC(
            vocab_size, width, levels, scale, learn_precision=learn_precision, inference=inference
        ).double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.requires_grad:
                    spread = scale / parameter.shape[1] ** 0.5 if parameter.ndim == 2 else 0.3
                    parameter.copy_(spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        return network

    return make
