"""Hidden Markov models that emit on their transitions: the model, its stationary law, and samples from it.

A process is at every moment in one of S states. At each step it emits a token x and moves from state i to state j with
probability ``T[x, i, j]``. A belief is a row vector over states, so a step multiplies it by a matrix from the right.
"""

from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

ROW_SUM_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class HiddenMarkovModel:
    """A stationary process with finitely many hidden states and tokens.

    ``transition_matrices[x, i, j] = P(emit x, go to j | in i)``

    Immutable by convention: the tensors that it hands out are its own, kept on the CPU in float64, where the exact
    answers of `pcnet.processes` are computed.

    Args:
        transition_matrices: numpy array, tensor or nested list. Entries are finite and non-negative; for each state i
            they sum to 1 over tokens and next states, to 1e-9 (so compute them in float64).

    Raises:
        TypeError: if ``transition_matrices`` isn't an array of real numbers.
        ValueError: if it isn't such a law; the message names the entry.
    """

    transition_matrices: Float[Tensor, "V S S"] | ArrayLike

    def __post_init__(self) -> None:
        matrices = _as_float64(self.transition_matrices)
        _require_square(matrices)
        _require_probabilities(matrices)
        _require_stochastic(matrices)
        object.__setattr__(self, "transition_matrices", matrices)

    def __repr__(self) -> str:
        return f"HiddenMarkovModel(vocab_size={self.vocab_size}, num_states={self.num_states})"

    @property
    def vocab_size(self) -> int:
        """Number of tokens V."""
        return self.transition_matrices.shape[0]

    @property
    def num_states(self) -> int:
        """Number of hidden states S."""
        return self.transition_matrices.shape[1]

    @cached_property
    def state_transition_matrix(self) -> Float[Tensor, "S S"]:
        """Law of the next state in each state, ``sum_x T[x]``: the hidden Markov chain without its tokens."""
        return self.transition_matrices.sum(0)

    @cached_property
    def emission_matrix(self) -> Float[Tensor, "S V"]:
        """Law of the next token in each state, ``E[s, x] = sum_j T[x, s, j]``."""
        return self.transition_matrices.sum(2).T.contiguous()

    @cached_property
    def stationary_distribution(self) -> Float[Tensor, " S"]:
        """See the function `stationary_distribution`; computed once."""
        return stationary_distribution(self)

    def advance(
        self, beliefs: Float[Tensor, "N S"], tokens: Int[Tensor, " N"]
    ) -> tuple[Float[Tensor, "N S"], Float[Tensor, " N"]]:
        """Update each belief by one token: a step of the forward algorithm.

        ``P(x | eta) = eta T[x] 1``, ``eta' = eta T[x] / (eta T[x] 1)``

        Costs N S^2. Nothing is checked: a token that is impossible in its belief has probability 0 and the belief NaN.

        Returns:
            The beliefs after the tokens, and the probability of each token in its belief.
        """
        matrices = self.transition_matrices.index_select(0, tokens)
        joint = torch.bmm(beliefs.unsqueeze(1), matrices).squeeze(1)
        probabilities = joint.mv(joint.new_ones(self.num_states))  # for short rows several times faster than sum(1)
        return joint / probabilities.unsqueeze(1), probabilities

    @cached_property
    def _step_sampler(self) -> "_TableSampler":
        joint_laws = self.transition_matrices.transpose(0, 1).reshape(self.num_states, -1)
        return _TableSampler.from_laws(joint_laws)


def stationary_distribution(process: HiddenMarkovModel) -> Float[Tensor, " S"]:
    """Solve for the law of the hidden state that one step leaves unchanged.

    ``pi T = pi``, ``sum(pi) = 1``, with ``T = sum_x T[x]``

    Solved on the recurrent states by elimination without subtraction, so that no probability loses relative accuracy to
    cancellation, however small; transient states get exactly 0. Periodic chains have a stationary law too. Costs S^3.

    Raises:
        ValueError: if the chain has more than one recurrent class: then the law depends on where it starts.

    Reference: Grassmann, Taksar & Heyman (1985), Operations Research 33, 1107.
    """
    chain = process.state_transition_matrix
    states = _recurrent_states(chain)
    law = chain.new_zeros(len(chain))
    law[states] = _eliminate(chain[states][:, states])
    return law


def sample(
    process: HiddenMarkovModel, num_sequences: int, length: int, generator: torch.Generator
) -> Int[Tensor, "B L"]:
    """Draw independent token sequences, each started from the stationary law.

    One uniform number decides a token and the next state together, by inverting the cumulative law over the *possible*
    outcomes of the state; no rounding can produce an impossible one. Costs one table look-up per token, all sequences
    at once.

    Args:
        process: what to sample from.
        num_sequences: B >= 1.
        length: L >= 1.
        generator: source of every draw, on the CPU; equal seeds give equal sequences.

    Returns:
        int64 tokens in ``0..V-1``.

    Raises:
        TypeError: if a size isn't an integer or ``generator`` isn't a `torch.Generator`.
        ValueError: if a size isn't positive, the generator isn't on the CPU, or the stationary law isn't unique.
    """
    require_at_least("num_sequences", num_sequences, 1)
    require_at_least("length", length, 1)
    _require_cpu_generator(generator)
    uniforms = torch.rand(length + 1, num_sequences, dtype=torch.float64, generator=generator)

    start = _TableSampler.from_laws(process.stationary_distribution.unsqueeze(0))
    states = start.draw(torch.zeros(num_sequences, dtype=torch.int64), uniforms[0])
    outcomes = torch.empty(length, num_sequences, dtype=torch.int64)
    for t in range(length):
        outcomes[t] = process._step_sampler.draw(states, uniforms[t + 1])
        states = outcomes[t] % process.num_states
    return (outcomes.T // process.num_states).contiguous()


def require_at_least(name: str, value: int, minimum: int) -> None:
    """Refuse an argument that isn't an integer of at least ``minimum``, by name."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__} {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")


@dataclass(frozen=True, eq=False)
class _TableSampler:
    """Draws from one of several finite laws by inverting its cumulative sum.

    ``thresholds`` holds the inner boundaries of the unit interval's partition into possible outcomes. Those that a law
    doesn't need are infinite, so its last possible outcome takes all the rest of the interval, rounding included.
    """

    thresholds: Float[Tensor, "laws ranks-1"]
    outcomes: Int[Tensor, " laws*ranks"]

    @classmethod
    def from_laws(cls, laws: Float[Tensor, "laws outcomes"]) -> "_TableSampler":
        counts = (laws > 0).sum(1, keepdim=True)
        most = int(counts.max())
        possible_first = torch.argsort((laws > 0).int(), dim=1, descending=True, stable=True)[:, :most]
        thresholds = laws.gather(1, possible_first).cumsum(1)[:, :-1]
        unneeded = torch.arange(most - 1) >= counts - 1
        return cls(thresholds.masked_fill(unneeded, torch.inf), possible_first.flatten())

    def draw(self, rows: Int[Tensor, " B"], uniforms: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
        thresholds = self.thresholds.index_select(0, rows)
        ranks = torch.searchsorted(thresholds, uniforms.unsqueeze(1), right=True).squeeze(1)
        return self.outcomes.index_select(0, rows * (thresholds.shape[1] + 1) + ranks)


def _recurrent_states(chain: Float[Tensor, "S S"]) -> Int[Tensor, " recurrent"]:
    """Find the states of the one recurrent class: those that can be reached back from wherever they lead."""
    reaches = (chain > 0) | torch.eye(len(chain), dtype=torch.bool)
    for _ in range(len(chain).bit_length()):  # each squaring doubles the number of steps covered
        reaches = (reaches.double() @ reaches.double()) > 0
    recurrent = (~reaches | reaches.T).all(1).nonzero().squeeze(1)
    classes = torch.unique(reaches[recurrent].int(), dim=0)
    if len(classes) > 1:
        members = ", ".join(str(row.nonzero().squeeze(1).tolist()) for row in classes.flip(0))
        raise ValueError(
            f"the stationary distribution isn't unique: transition_matrices has {len(classes)} recurrent classes of "
            f"states, {members}, that can't reach each other; exactly one is needed"
        )
    return recurrent


def _eliminate(chain: Float[Tensor, "recurrent recurrent"]) -> Float[Tensor, " recurrent"]:
    """Stationary law of an irreducible chain: drop states from the last to the first, rerouting through them."""
    routed = chain.clone()
    for k in range(len(chain) - 1, 0, -1):
        routed[:k, k] /= routed[k, :k].sum()
        routed[:k, :k] += torch.outer(routed[:k, k], routed[k, :k])
    law = torch.ones(len(chain), dtype=chain.dtype)
    for k in range(1, len(chain)):
        law[k] = law[:k] @ routed[:k, k]
    return law / law.sum()


def _as_float64(matrices: ArrayLike) -> Float[Tensor, "..."]:
    if isinstance(matrices, Tensor):
        matrices = matrices.detach().to("cpu", torch.promote_types(matrices.dtype, torch.float64)).numpy()
    try:
        array = np.asarray(matrices)
    except ValueError as error:
        raise TypeError(f"transition_matrices must be a rectangular array of real numbers: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(
            "transition_matrices must be an array of real numbers with shape (V, S, S), "
            f"got {type(matrices).__name__} with entries of type {array.dtype}"
        )
    return torch.from_numpy(array.astype(np.float64, order="C"))


def _require_square(matrices: Tensor) -> None:
    shape = tuple(matrices.shape)
    if matrices.ndim != 3 or shape[1] != shape[2] or 0 in shape:
        raise ValueError(f"transition_matrices must have a shape (V, S, S) with V, S >= 1, got {shape}")


def _require_probabilities(matrices: Float[Tensor, "V S S"]) -> None:
    wrong = (~(torch.isfinite(matrices) & (matrices >= 0))).nonzero()
    if len(wrong):
        token, i, j = wrong[0].tolist()
        raise ValueError(
            f"transition_matrices[{token}, {i}, {j}] = {matrices[token, i, j].item()!r}, the probability to emit token "
            f"{token} and go from state {i} to state {j}, must be finite and at least 0"
        )


def _require_stochastic(matrices: Float[Tensor, "V S S"]) -> None:
    totals = matrices.sum((0, 2))
    wrong = ((totals - 1).abs() > ROW_SUM_TOLERANCE).nonzero()
    if len(wrong):
        state = wrong[0].item()
        raise ValueError(
            f"transition_matrices[:, {state}, :] sums to {totals[state].item()!r}; over all tokens and next states, "
            f"the probabilities out of state {state} must sum to 1 within {ROW_SUM_TOLERANCE}"
        )


def _require_cpu_generator(generator: torch.Generator) -> None:
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if generator.device.type != "cpu":
        raise ValueError(f"generator must be on the CPU, where processes are sampled, got one on {generator.device}")
