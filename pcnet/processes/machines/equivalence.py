"""Whether two processes are the same, decided for words of every length by linear algebra."""

from collections import deque
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from pcnet.processes.models.hmm import Process, as_process

INDEPENDENT = 1e-11
"""Part of a unit vector outside the span so far that makes it a direction of its own."""
IMPOSSIBLE = 1e-12
"""Probability, given the word before, up to which a token counts as impossible in both processes."""


def same_process(left: Process | ArrayLike, right: Process | ArrayLike, tolerance: float = 1e-9) -> bool:
    """Decide whether two processes, each from its initial distribution on, give every word the same probability.

    ``eta_1 T_1[w] r_1 = eta_2 T_2[w] r_2`` for all words w

    A hidden Markov model and a generalised one may be compared, with any numbers of states; a token that only one of
    them has must be impossible there. Costs what `distinguishing_word` does.

    Args:
        left: a process, or the matrices of a hidden Markov model.
        right: another.
        tolerance: greatest relative difference between the two probabilities of a word; near 1e-9 for exact matrices,
            and some standard errors where one of them was estimated.

    Raises:
        ValueError: if ``tolerance`` isn't in [0, 1).
    """
    return distinguishing_word(left, right, tolerance) is None


def distinguishing_word(
    left: Process | ArrayLike, right: Process | ArrayLike, tolerance: float = 1e-9
) -> tuple[int, ...] | None:
    """Find a shortest word that two processes give different probabilities, or None if there is none.

    ``(eta_1, eta_2) diag(T_1[w], T_2[w])`` for all w spans at most ``S_1 + S_2`` dimensions, and ``(r_1, -r_2)`` must
    vanish on it

    Words are followed breadth first, and continued only where their vector leaves the span of those before it: if two
    processes differ at all, they do on a word shorter than ``S_1 + S_2``. Costs V (S_1 + S_2)^3.

    Args:
        left: a process, or the matrices of a hidden Markov model.
        right: another.
        tolerance: as for `same_process`.

    Returns:
        Tokens; which of several shortest words isn't defined.

    Raises:
        ValueError: if ``tolerance`` isn't in [0, 1).

    Reference: Balasubramanian (1993), Equivalence and reduction of hidden Markov models, MIT AI-TR 1370; Tzeng (1992),
        SIAM Journal on Computing 21, 216; for probabilistic automata already Paz (1971).
    """
    left, right = as_process(left), as_process(right)
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be in [0, 1), got {tolerance}")
    both = _Pair.of(left, right)
    span = Span(both.start)
    queue: deque[tuple[tuple[int, ...], Float[NDArray, " S"]]] = deque([((), both.start)])
    while queue:
        word, vector = queue.popleft()
        for token, matrix in enumerate(both.matrices):
            image = vector @ matrix
            first, second = (image @ both.measures).tolist()
            if max(first, second) <= both.negligible:
                continue
            if abs(first - second) > tolerance * max(first, second):
                return (*word, token)
            image = image / (0.5 * (first + second))
            if span.grows_by(image):
                queue.append(((*word, token), image))
    return None


class _Pair(NamedTuple):
    """Two processes side by side; their beliefs are concatenated.

    Attributes:
        matrices: of both processes, block diagonal, for each token that one of them has.
        start: belief before the first token.
        measures: right vector of each process, a column each.
        negligible: probability, given the word before, up to which a token counts as impossible.
    """

    matrices: Float[NDArray, "V S S"]
    start: Float[NDArray, " S"]
    measures: Float[NDArray, "S 2"]
    negligible: float

    @classmethod
    def of(cls, left: Process, right: Process) -> "_Pair":
        size, first = left.num_states + right.num_states, 0
        matrices = np.zeros((max(left.vocab_size, right.vocab_size), size, size))
        measures = np.zeros((size, 2))
        for k, process in enumerate((left, right)):
            own = slice(first, first + process.num_states)
            matrices[: process.vocab_size, own, own] = process.transition_matrices
            measures[own, k] = process.right_vector
            first += process.num_states
        start = np.concatenate([left.initial_distribution, right.initial_distribution])
        # Where no entry is negative nothing cancels, and what is impossible has probability 0 exactly.
        return cls(matrices, start, measures, IMPOSSIBLE if (matrices < 0).any() else 0.0)


class Span:
    """Orthonormal rows, grown one at a time."""

    def __init__(self, first: Float[NDArray, " S"]) -> None:
        self.rows = np.empty((len(first), len(first)))
        self.rows[0] = first / np.linalg.norm(first)
        self.count = 1

    def grows_by(self, vector: Float[NDArray, " S"]) -> bool:
        """Whether a vector was outside; if so, it is inside from now on."""
        rest = vector / np.linalg.norm(vector)
        for _ in range(2):  # once more, as the first time leaves rounding
            rest = rest - self.rows[: self.count].T @ (self.rows[: self.count] @ rest)
        size = np.linalg.norm(rest)
        if size <= INDEPENDENT or self.count == len(self.rows):
            return False
        self.rows[self.count] = rest / size
        self.count += 1
        return True
