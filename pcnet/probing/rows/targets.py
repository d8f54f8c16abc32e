"""What a state may encode, row by row: beliefs of several kinds, laws of the future, the hidden state itself, and the parts
of a belief that next-token prediction doesn't ask for.

Targets of one row each, float64, for rows with the attributes of `pcnet.processes.Words`.
"""

import numpy as np
import torch
from jaxtyping import Float, Int

from pcnet.probing.interventions.futures import exact_futures
from pcnet.probing.rows.dataset import Array, as_numpy, probability_weights
from pcnet.probing.rows.history import tokens_by_lag
from pcnet.processes import HiddenMarkovModel, Process, Words

TOLERANCE = 1e-10
"""Laws closer than this are equal, and directions in which nothing moves further than this don't exist."""
LOG_FLOOR = 1e-6
"""Probability below which a log-belief stops falling."""


def filtered_belief(process: Process, rows: Words) -> Float[np.ndarray, "N S"]:
    """What is known of the hidden state after the word: the headline target.

    Args:
        process: of the rows.
        rows: words with their beliefs.
    """
    return _beliefs("filtered", rows.filtered, process)


def predicted_belief(process: Process, rows: Words) -> Float[np.ndarray, "N S"]:
    """What is known of the hidden state before the word's last token: what a prediction of the state should equal.

    Args:
        process: of the rows.
        rows: words with their beliefs.
    """
    return _beliefs("predicted", rows.predicted, process)


def next_token_law(process: Process, rows: Words) -> Float[np.ndarray, "N V"]:
    """Exact law of the token after the word.

    Args:
        process: of the rows.
        rows: words with their laws.
    """
    laws = as_numpy(rows.next_token_laws).astype(np.float64)
    if laws.ndim != 2 or laws.shape[1] != process.vocab_size:
        raise ValueError(f"rows.next_token_laws has shape {laws.shape}; the process has {process.vocab_size} tokens")
    return laws


def constrained_belief(process: Process, rows: Words) -> Float[np.ndarray, "N S"]:
    r"""The belief that attention alone can form, from the tokens of each row.

    .. math:: r_d = \pi + \sum_{s \le d} (\pi T|_{z_s} - \pi)\, T^{d - s}, \qquad
        \pi T|_z = \pi T[z] / (\pi T[z]\, r)

    Equal to `pcnet.processes.constrained_beliefs`, for any rows and for generalised processes too.

    Args:
        process: of the rows.
        rows: words, of which ``tokens`` and ``lengths`` are looked at.

    Reference: Piotrowski et al. (2025), arXiv 2502.01954.
    """
    start = process.initial_distribution
    after = start @ process.transition_matrices
    mass = after @ process.right_vector
    shifts = after / mass.where(mass > 0, 1.0).unsqueeze(1) - start
    history = torch.as_tensor(tokens_by_lag(rows))
    found = start.repeat(len(history), 1)
    for tokens in history.T:
        found += shifts[tokens.clamp_min(0)] * (tokens >= 0).unsqueeze(1)
        shifts = shifts @ process.state_transition_matrix
    return found.numpy()


def belief_part(process: Process, rows: Words, part: str) -> Float[np.ndarray, "N s"]:
    """What the filtered belief says of one part of a composed process.

    Args:
        process: made by `mixture`, `product`, or of such a one by a channel or blocks.
        rows: words with their beliefs.
        part: a name of ``process.composition.sizes``: ``component``, ``component.0``, ``factor.1``, ...

    Raises:
        ValueError: if the process isn't composed or has no such part; the message lists those that it has.
    """
    if process.composition is None:
        raise ValueError(f"part={part!r}: the process isn't composed of any; it needs a mixture or a product")
    if part not in process.composition.sizes:
        raise ValueError(f"part={part!r}: there are {', '.join(process.composition.sizes)}")
    return process.composition.split(filtered_belief(process, rows))[part].numpy()


def hidden_state(process: Process, states: Int[Array, " N"]) -> Float[np.ndarray, "N S"]:
    r"""The state in which the generator really was, one-hot: a target for sampled rows, which no model can know fully.

    .. math:: E[1_{s} \mid \text{word}] = \eta_s

    so the best any state can score is the belief's share of the variance, var(belief) / var(one-hot).

    Args:
        process: with hidden states.
        states: after the last token of each row: ``observe(...).states[:, 1:]`` at the rows' positions.

    Raises:
        TypeError: if the process is generalised: it has beliefs and no hidden states.
        ValueError: if a state isn't one of the process's.
    """
    _require_probabilities(process, "hidden_state")
    numbers = as_numpy(states)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise ValueError(f"states has shape {numbers.shape} and dtype {numbers.dtype}; give one whole number per row")
    bad = np.flatnonzero((numbers < 0) | (numbers >= process.num_states))
    if len(bad):
        raise ValueError(f"states holds {numbers[bad[0]]} at row {bad[0]}; legal are 0..{process.num_states - 1}")
    return np.eye(process.num_states)[numbers]


def future_law(process: Process, rows: Words, horizon: int) -> Float[np.ndarray, "N futures"]:
    r"""Joint law of the next `horizon` tokens, over all V^horizon continuations in lexicographic order.

    .. math:: P(w_1 \dots w_k \mid \eta) = \eta\, T[w_1] \cdots T[w_k]\, r

    Args:
        process: of the rows.
        rows: words with their beliefs.
        horizon: k, at least 1; 1 gives the next-token law.

    Raises:
        ValueError: if the horizon is less than 1 or has too many continuations.
    """
    return exact_futures(process, torch.as_tensor(filtered_belief(process, rows)), horizon).numpy()


def future_beyond_next_token(process: Process, rows: Words, horizon: int) -> Float[np.ndarray, "N futures"]:
    r"""The law of the next `horizon` tokens minus what the next-token law says of it, by a function of any shape.

    .. math:: P(w_1 \dots w_k \mid \eta) - E[P(w_1 \dots w_k \mid \eta) \mid P(w_1 \mid \eta)]

    Words are grouped by equal next-token law and weighted by probability, each length with the same mass. Zero
    throughout (then there is nothing to score) where the law determines the future, as on Mess3, and at horizon 1.

    Args:
        process: of the rows.
        rows: words with their beliefs, laws and probabilities.
        horizon: k, at least 1.

    Raises:
        ValueError: as in ``future_law``.
    """
    laws = future_law(process, rows, horizon)
    weights = probability_weights(as_numpy(rows.lengths), as_numpy(rows.probabilities))
    rest = laws - group_means(laws, equal_rows(next_token_law(process, rows)), weights)
    return np.where(np.abs(rest) > 1e-12, rest, 0.0)


def log_belief(process: Process, rows: Words, floor: float = LOG_FLOOR) -> Float[np.ndarray, "N S"]:
    r"""Logarithms of the filtered belief, in nats: what a softmax would read out.

    .. math:: \log \max(\eta, \text{floor})

    The floor keeps ruled-out states finite and sets how much they weigh: compare floors before believing a score.

    Args:
        process: with hidden states.
        rows: words with their beliefs.
        floor: in (0, 1).

    Raises:
        TypeError: if the process is generalised: its beliefs have negative entries, which have no logarithm.
        ValueError: if the floor isn't in (0, 1).
    """
    _require_probabilities(process, "log_belief")
    if not 0 < floor < 1:
        raise ValueError(f"floor={floor}: it must lie in (0, 1)")
    return np.log(np.maximum(filtered_belief(process, rows), floor))


def belief_beyond_next_token_law(words: Words) -> Float[np.ndarray, "N S"]:
    r"""What no function of the next-token law explains of the filtered belief.

    .. math:: \eta - E[\eta \mid P(x \mid \eta)]

    Words are grouped by equal law; the expectation weights them by probability, each length with the same mass. Zero
    throughout (then there is nothing to score) where the law determines the belief, as on Mess3. The law alone,
    through a function of any shape, explains .446 of the belief on rrxor and .926 on z1r (words up to length 10).

    Args:
        words: from ``pcnet.processes.beliefs.word_tree``.
    """
    beliefs = words.filtered.numpy()
    groups = equal_rows(words.next_token_laws.numpy())
    weights = probability_weights(words.lengths.numpy(), words.probabilities.numpy())
    rest = beliefs - group_means(beliefs, groups, weights)
    return np.where(np.abs(rest) > TOLERANCE, rest, 0.0)


def affinely_invisible_belief(process: HiddenMarkovModel, words: Words) -> Float[np.ndarray, "N S"]:
    r"""The component of the filtered belief that can change without changing the next-token law.

    .. math:: \eta\, Q^T Q, \qquad \text{rows of } Q \text{ a basis of } \{v \in U : v E = 0\}, \quad
        E_{sx} = \sum_j T[x, s, j]

    with U spanned by the differences between beliefs: the beliefs live in an affine space, and only directions inside
    it count. The rest of the belief is an affine function of the law. A statistical trace may remain, since what is
    invisible can correlate with what is seen: the law's population R2 for this component is 0 on rrxor and .001 on
    z1r. Zero throughout where the law determines the belief affinely, as on Mess3.

    Args:
        process: the process of the words.
        words: from ``pcnet.processes.beliefs.word_tree``.
    """
    beliefs = words.filtered.numpy()
    basis = _directions(beliefs - beliefs.mean(axis=0))
    invisible = _left_null_space(basis @ process.emission_matrix.numpy()) @ basis
    return beliefs @ invisible.T @ invisible


def equal_rows(rows: Float[np.ndarray, "N D"]) -> Int[np.ndarray, " N"]:
    """Numbers the groups of equal rows; equal means that each column agrees to ``TOLERANCE``."""
    # steps between neighbours in sorted order, not rounding: equal values may lie on both sides of a rounding edge
    order = np.argsort(rows, axis=0)
    new = np.diff(np.take_along_axis(rows, order, axis=0), axis=0) > TOLERANCE
    numbers = np.zeros(rows.shape, dtype=np.int64)
    np.put_along_axis(numbers, order[1:], np.cumsum(new, axis=0), axis=0)
    return np.unique(numbers, axis=0, return_inverse=True)[1].ravel()


def group_means(
    values: Float[np.ndarray, "N D"], groups: Int[np.ndarray, " N"], weights: Float[np.ndarray, " N"]
) -> Float[np.ndarray, "N D"]:
    """The weighted mean of each row's group."""
    sums = np.zeros((groups.max() + 1, values.shape[1]))
    np.add.at(sums, groups, weights[:, None] * values)
    return (sums / np.bincount(groups, weights)[:, None])[groups]


def _directions(differences: Float[np.ndarray, "N S"]) -> Float[np.ndarray, "r S"]:
    """Orthonormal basis of the space that the rows span."""
    _, sizes, basis = np.linalg.svd(differences / np.sqrt(len(differences)), full_matrices=False)
    return basis[sizes > TOLERANCE]


def _left_null_space(matrix: Float[np.ndarray, "r V"]) -> Float[np.ndarray, "k r"]:
    """Orthonormal basis of the vectors v with v matrix = 0."""
    basis, sizes, _ = np.linalg.svd(matrix)
    return basis[:, np.count_nonzero(sizes > TOLERANCE) :].T


def _beliefs(name: str, values: Array, process: Process) -> Float[np.ndarray, "N S"]:
    beliefs = as_numpy(values).astype(np.float64)
    if beliefs.ndim != 2 or beliefs.shape[1] != process.num_states:
        raise ValueError(f"rows.{name} has shape {beliefs.shape}; the process has {process.num_states} states")
    return beliefs


def _require_probabilities(process: Process, target: str) -> None:
    if not isinstance(process, HiddenMarkovModel):
        raise TypeError(
            f"process: {target} needs a HiddenMarkovModel, got {type(process).__name__}, whose beliefs aren't "
            "probabilities of states (entries may be negative); use the filtered belief"
        )
