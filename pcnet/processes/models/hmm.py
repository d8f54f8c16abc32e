"""Processes that emit tokens: hidden Markov models, which emit on their transitions, and generalised ones.

A process keeps a belief, a row vector over its S states. A token x multiplies the belief by a matrix ``T[x]`` from the
right, and what remains of it, measured by a column vector r, is the token's probability.
"""

import abc
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from pcnet.processes.models.arguments import (
    SUM_TOLERANCE,
    checked_law,
    checked_matrices,
    checked_vector,
    require_finite,
    require_probabilities,
    require_stochastic,
)
from pcnet.processes.models.composition import Composition
from pcnet.processes.models.stationary import long_run_average, stationary_law

TRIED_WORDS = 2000
"""Words of a generalised process whose probabilities are checked."""


class Process(abc.ABC):
    """What a `HiddenMarkovModel` and a `GeneralizedHiddenMarkovModel` have in common.

    ``P(x_1 ... x_n) = eta_0 T[x_1] ... T[x_n] r``

    Immutable by convention: the tensors that it hands out are its own, kept on the CPU in float64, where the exact
    answers of `pcnet.processes` are computed.

    Attributes:
        transition_matrices: one for each token.
        initial: belief before the first token as it was given; None: the stationary one.
        composition: what the process was composed of, and so what its beliefs split into; None if nothing.
    """

    transition_matrices: Float[Tensor, "V S S"]
    initial: Float[Tensor, " S"] | None
    composition: Composition | None

    @property
    @abc.abstractmethod
    def right_vector(self) -> Float[Tensor, " S"]:
        """What measures a belief, r: ``T r = r``, and a belief has ``eta r = 1``. Ones for a hidden Markov model."""

    @property
    @abc.abstractmethod
    def stationary_distribution(self) -> Float[Tensor, " S"]:
        """Average belief of an observer who sees nothing, over all of time: ``pi T = pi``, ``pi r = 1``."""

    @property
    def initial_distribution(self) -> Float[Tensor, " S"]:
        """Belief before the first token, eta_0."""
        return self.stationary_distribution if self.initial is None else self.initial

    @property
    def vocab_size(self) -> int:
        """Number of tokens V."""
        return self.transition_matrices.shape[0]

    @property
    def num_states(self) -> int:
        """Number of states S, the length of a belief."""
        return self.transition_matrices.shape[1]

    @cached_property
    def state_transition_matrix(self) -> Float[Tensor, "S S"]:
        """``T = sum_x T[x]``: the belief of an observer who doesn't look at the token; a Markov chain if S are states."""
        return self.transition_matrices.sum(0)

    @cached_property
    def emission_matrix(self) -> Float[Tensor, "S V"]:
        """``E[s, x] = (T[x] r)[s]``, so that ``eta E`` is the law of the next token."""
        return (self.transition_matrices @ self.right_vector).T.contiguous()

    def advance(
        self, beliefs: Float[Tensor, "N S"], tokens: Int[Tensor, " N"]
    ) -> tuple[Float[Tensor, "N S"], Float[Tensor, " N"]]:
        """Update each belief by one token: a step of the forward algorithm.

        ``P(x | eta) = eta T[x] r``, ``eta' = eta T[x] / (eta T[x] r)``

        Costs N S^2. Nothing is checked: a token that is impossible in its belief has probability 0 and the belief NaN.

        Returns:
            The beliefs after the tokens, and the probability of each token in its belief.
        """
        matrices = self.transition_matrices.index_select(0, tokens)
        joint = torch.bmm(beliefs.unsqueeze(1), matrices).squeeze(1)
        probabilities = joint.mv(self.right_vector)  # for short rows several times faster than sum(1)
        return joint / probabilities.unsqueeze(1), probabilities

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, num_states={self.num_states})"


@dataclass(frozen=True, eq=False, repr=False)
class HiddenMarkovModel(Process):
    """A process with finitely many hidden states and tokens.

    ``transition_matrices[x, i, j] = P(emit x, go to j | in i)``

    Args:
        transition_matrices: numpy array, tensor or nested list. Entries are finite and non-negative; for each state i
            they sum to 1 over tokens and next states, to 1e-9 (so compute them in float64).
        initial: law of the first state. None: the stationary law, which then must be unique. Any other one makes the
            process non-stationary, unless it is a stationary law itself (of one of several, say).
        composition: what it was composed of, set by `mixture`, `product` and their like.

    Raises:
        TypeError: if an argument isn't an array of real numbers.
        ValueError: if it isn't such a law; the message names the entry.
    """

    transition_matrices: Float[Tensor, "V S S"] | ArrayLike
    initial: Float[Tensor, " S"] | ArrayLike | None = None
    composition: Composition | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        matrices = checked_matrices(self.transition_matrices)
        require_probabilities(matrices)
        require_stochastic(matrices)
        object.__setattr__(self, "transition_matrices", matrices)
        if self.initial is not None:
            object.__setattr__(self, "initial", checked_law(self.initial, len(matrices[0])))

    @cached_property
    def right_vector(self) -> Float[Tensor, " S"]:
        return self.transition_matrices.new_ones(self.num_states)

    @cached_property
    def stationary_distribution(self) -> Float[Tensor, " S"]:
        """Law of the hidden state that one step leaves unchanged: ``pi T = pi``, ``sum(pi) = 1``. Costs S^3.

        Where several classes of states can't reach each other, `initial` decides how probable each of them is.

        Raises:
            ValueError: if there are several recurrent classes and no `initial` law.
        """
        return stationary_law(self.state_transition_matrix, self.initial)


@dataclass(frozen=True, eq=False, repr=False)
class GeneralizedHiddenMarkovModel(Process):
    """A process whose word probabilities are products of matrices, which may have negative entries.

    ``P(x_1 ... x_n) = initial T[x_1] ... T[x_n] right``

    It has no hidden states: its "beliefs" are points of a linear space, known up to a change of basis. They don't sum to 1
    and have no entropy. Meaningful is what is the same in every basis: word probabilities, the law of the next token, the
    spectrum, ranks and linear maps.

    Args:
        transition_matrices: real numbers; ``sum_x T[x] right = right``, to 1e-9.
        right: what measures a belief.
        initial: belief before the first token; ``initial right = 1``. None: the stationary one, if it is unique.
        composition: as for `HiddenMarkovModel`.

    Raises:
        TypeError: if an argument isn't an array of real numbers.
        ValueError: if shapes or the two conditions are broken, or a short word has a negative probability (longer
            ones aren't checked).

    Reference: Upper (1997), Theory and Algorithms for Hidden Markov Models and Generalized Hidden Markov Models, thesis.
    """

    transition_matrices: Float[Tensor, "V S S"] | ArrayLike
    right: Float[Tensor, " S"] | ArrayLike
    initial: Float[Tensor, " S"] | ArrayLike | None = None
    composition: Composition | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        matrices = checked_matrices(self.transition_matrices)
        require_finite("transition_matrices", matrices)
        right = checked_vector("right", self.right, len(matrices[0]))
        moved = matrices.sum(0) @ right
        wrong = ((moved - right).abs() > SUM_TOLERANCE * right.abs().max().clamp(min=1)).nonzero()
        if len(wrong):
            row = wrong[0].item()
            raise ValueError(
                f"sum_x transition_matrices[x] must leave right unchanged, but entry {row} becomes "
                f"{moved[row].item()!r} from {right[row].item()!r}"
            )
        object.__setattr__(self, "transition_matrices", matrices)
        object.__setattr__(self, "right", right)
        if self.initial is not None:
            initial = checked_vector("initial", self.initial, len(right))
            if abs(float(initial @ right) - 1) > SUM_TOLERANCE:
                raise ValueError(f"initial right must be 1, got {float(initial @ right)!r}")
            object.__setattr__(self, "initial", initial)
        _require_positive_words(self)

    @property
    def right_vector(self) -> Float[Tensor, " S"]:
        return self.right

    @cached_property
    def stationary_distribution(self) -> Float[Tensor, " S"]:
        return long_run_average(self.state_transition_matrix, self.right, self.initial)


class UndefinedError(ValueError):
    """A process has no such quantity, or none can be found; the message says why."""


def as_process(process: Process | ArrayLike) -> Process:
    """A process as it is; the matrices of a hidden Markov model, in numpy, torch or lists, as that model."""
    return process if isinstance(process, Process) else HiddenMarkovModel(process)


def started_at(process: Process, initial: Float[Tensor, " S"] | ArrayLike) -> Process:
    """The same process with another belief before the first token; what it was composed of is dropped."""
    if isinstance(process, HiddenMarkovModel):
        return HiddenMarkovModel(process.transition_matrices, initial)
    return GeneralizedHiddenMarkovModel(process.transition_matrices, process.right_vector, initial)


def require_states(process: Process, what: str) -> HiddenMarkovModel:
    """Refuse a generalised process where hidden states are needed, and say why."""
    if not isinstance(process, HiddenMarkovModel):
        raise TypeError(
            f"{what} needs a HiddenMarkovModel, got {type(process).__name__}: its beliefs are defined up to a change of "
            "basis only, so they are no probabilities of states"
        )
    return process


def _require_positive_words(process: GeneralizedHiddenMarkovModel) -> None:
    """Refuse negative probabilities of words, up to the length at which there are too many."""
    rows, matrices, words = process.initial_distribution.unsqueeze(0), process.transition_matrices, [()]
    while len(words) * process.vocab_size <= TRIED_WORDS:
        rows = (rows.unsqueeze(1) @ matrices.unsqueeze(1)).squeeze(2).transpose(0, 1).flatten(0, 1)
        words = [(*word, token) for word in words for token in range(process.vocab_size)]
        if process.vocab_size == 1 and len(words[0]) > 10:
            return
        probabilities = rows @ process.right
        wrong = (probabilities < -1e-9).nonzero()
        if len(wrong):
            k = wrong[0].item()
            raise ValueError(
                f"the word {words[k]} has probability {probabilities[k].item():.3g}: these matrices are no process"
            )
