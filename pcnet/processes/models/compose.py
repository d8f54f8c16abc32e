"""Processes made of others: mixtures, products, and processes whose tokens are renamed, blurred or read in blocks.

All of them nest and take hidden Markov models and generalised ones. `Process.composition` says what a process is made of,
so that a belief about the whole can be split into beliefs about its parts.
"""

import math
from collections.abc import Sequence
from numbers import Real

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from pcnet.processes.models.arguments import SUM_TOLERANCE, checked_weights, require_at_least
from pcnet.processes.models.composition import Composition
from pcnet.processes.models.hmm import GeneralizedHiddenMarkovModel, HiddenMarkovModel, Process, as_process
from pcnet.processes.models.parts import Blocks, Channel, Mixture, Product

GIB = 2**30


def mixture(
    processes: Sequence[Process | ArrayLike], weights: Sequence[float] | None = None, *, max_gib: float = 4.0
) -> Process:
    """Choose one of several processes at random at the start and stay with it.

    ``T[x] = blockdiag(T_1[x], T_2[x], ...)``, ``eta_0 = (w_1 eta_1, w_2 eta_2, ...)``, ``P(w) = sum_k w_k P_k(w)``

    Not ergodic: in the long run the belief settles on one of the components. Generalised if a component
    is.

    Args:
        processes: components with one vocabulary; `relabel` brings others to it.
        weights: probability of each. None: even.
        max_gib: greatest size of the matrices, V (S_1 + S_2 + ...)^2 numbers of 8 bytes, in GiB.

    Raises:
        TypeError: if ``processes`` isn't a sequence of processes.
        ValueError: if there are none, the vocabularies differ, the weights aren't probabilities that sum to 1, or the
            matrices would be too large.
    """
    parts = _as_processes(processes)
    law = checked_weights(weights, len(parts))
    vocab_size = parts[0].vocab_size
    for k, part in enumerate(parts):
        if part.vocab_size != vocab_size:
            raise ValueError(
                f"the processes of a mixture must share a vocabulary, but processes[0] has {vocab_size} tokens and "
                f"processes[{k}] has {part.vocab_size}; relabel(process, tokens, vocab_size) brings them to one"
            )
    sizes = [part.num_states for part in parts]
    _require_memory("the mixture", vocab_size, sum(sizes), max_gib)
    matrices = torch.zeros(vocab_size, sum(sizes), sum(sizes), dtype=torch.float64)
    first = 0
    for part, size in zip(parts, sizes, strict=True):
        matrices[:, first : first + size, first : first + size] = part.transition_matrices
        first += size
    initial = torch.cat([weight * part.initial_distribution for weight, part in zip(law, parts, strict=True)])
    right = torch.cat([part.right_vector for part in parts])
    return _like(parts, matrices, right, initial, Mixture(parts, tuple(law)))


def product(processes: Sequence[Process | ArrayLike], *, max_gib: float = 4.0) -> Process:
    """Run several processes side by side, independent of each other; each token stands for one token of every factor.

    ``T[(x_1, x_2, ...)] = kron(T_1[x_1], T_2[x_2], ...)``, ``eta = kron(eta_1, eta_2, ...)``

    States and tokens count those of the factors like digits, the last factor's running fastest: of two factors, token
    ``x_1 V_2 + x_2``. Samples and beliefs are computed factor by factor. Generalised if a factor is.

    Args:
        processes: factors, with any vocabularies.
        max_gib: greatest size of the matrices, ``prod(V_k) prod(S_k)^2`` numbers of 8 bytes, in GiB; for a moment it
            takes three to four times as much to build them.

    Raises:
        TypeError: if ``processes`` isn't a sequence of processes.
        ValueError: if there are none, or the matrices would be too large; the message says how many tokens, states and
            GiB.
    """
    parts = _as_processes(processes)
    vocab_size = math.prod(part.vocab_size for part in parts)
    num_states = math.prod(part.num_states for part in parts)
    _require_memory("the product", vocab_size, num_states, max_gib)
    matrices, initial, right = parts[0].transition_matrices, parts[0].initial_distribution, parts[0].right_vector
    for part in parts[1:]:
        matrices = torch.kron(matrices, part.transition_matrices)  # tokens are digits like states
        initial = torch.kron(initial, part.initial_distribution)
        right = torch.kron(right, part.right_vector)
    return _like(parts, matrices, right, initial, Product(parts))


def noisy_channel(
    process: Process | ArrayLike, noise: float | Float[Tensor, "V received"] | ArrayLike, *, max_gib: float = 4.0
) -> Process:
    """Send every token through a channel without memory; the hidden states stay as they are.

    ``T'[y] = sum_x T[x] C[x, y]``, with ``C[x, y] = (1 - e) delta_xy + e/V`` if the noise is a number e

    Args:
        process: what sends.
        noise: e in [0, 1], probability that a token is replaced by one drawn evenly from all V, itself included. Or C, with
            the law of the received token for each sent one as rows; it may have another number of columns.
        max_gib: greatest size of the matrices, in GiB.

    Raises:
        TypeError, ValueError: if ``noise`` is neither a number in [0, 1] nor V rows of probabilities that sum to 1, or the
            matrices would be too large.
    """
    process = as_process(process)
    matrix = _channel_matrix(noise, process.vocab_size)
    _require_memory("the received process", matrix.shape[1], process.num_states, max_gib)
    received = torch.tensordot(matrix, process.transition_matrices, dims=([0], [0]))
    return _with_tokens(process, received, Channel(process, matrix))


def relabel(
    process: Process | ArrayLike, tokens: Sequence[int], vocab_size: int | None = None, *, max_gib: float = 4.0
) -> Process:
    """Give the tokens other names; tokens that get the same name become one.

    ``T'[y] = sum of T[x] over all x with tokens[x] = y``

    The hidden states stay as they are. A permutation is the same process in another vocabulary.

    Args:
        process: whose tokens.
        tokens: new name of each token, integers from 0 on.
        vocab_size: number of tokens of the new vocabulary; those that get no name in it never occur. None: the greatest
            new name plus 1.
        max_gib: greatest size of the matrices, in GiB.

    Raises:
        TypeError, ValueError: if ``tokens`` isn't an integer of the new vocabulary for each token, or the matrices would be
            too large.
    """
    process = as_process(process)
    for position, name in enumerate(tokens):
        require_at_least(f"tokens[{position}]", name, 0)
    names = [int(name) for name in tokens]
    if len(names) != process.vocab_size:
        raise ValueError(f"tokens must name all {process.vocab_size} tokens of the process, got {len(names)} names")
    size = max(names) + 1 if vocab_size is None else vocab_size
    require_at_least("vocab_size", size, 1)
    if max(names) >= size:
        position = names.index(max(names))
        raise ValueError(f"tokens[{position}] = {max(names)} must be in the new vocabulary, 0..{size - 1}")
    _require_memory("the relabelled process", size, process.num_states, max_gib)
    matrix = torch.zeros(process.vocab_size, size, dtype=torch.float64)
    matrix[torch.arange(len(names)), names] = 1
    merged = torch.zeros(size, *process.transition_matrices.shape[1:], dtype=torch.float64)
    merged.index_add_(0, torch.tensor(names), process.transition_matrices)
    return _with_tokens(process, merged, Channel(process, matrix))


def block(process: Process | ArrayLike, length: int, *, max_gib: float = 4.0) -> Process:
    """Read words of a given length as single tokens.

    ``T'[(x_1, ..., x_k)] = T[x_1] ... T[x_k]``

    All ``V^k`` words are tokens, impossible ones too, in lexicographic order: word (x_1, ..., x_k) is the number with
    these digits in base V. The belief after a block is that after its last token.

    Args:
        process: of single tokens.
        length: k, at least 1.
        max_gib: greatest size of the matrices, ``V^k S^2`` numbers of 8 bytes, in GiB.

    Raises:
        TypeError, ValueError: if ``length`` isn't a positive integer, or the matrices would be too large.
    """
    process = as_process(process)
    require_at_least("length", length, 1)
    _require_memory("the process of blocks", process.vocab_size**length, process.num_states, max_gib)
    single = words = process.transition_matrices
    for _ in range(length - 1):
        words = (words.unsqueeze(1) @ single).flatten(0, 1)
    return _with_tokens(process, words, Blocks(process, length))


def _as_processes(processes: Sequence[Process | ArrayLike]) -> tuple[Process, ...]:
    if isinstance(processes, Process):
        raise TypeError(f"processes must be a sequence of processes, got a single {type(processes).__name__}")
    parts = tuple(as_process(process) for process in processes)
    if not parts:
        raise ValueError("processes must have at least one entry, got none")
    return parts


def _like(
    parts: Sequence[Process],
    matrices: Float[Tensor, "V S S"],
    right: Float[Tensor, " S"],
    initial: Float[Tensor, " S"],
    composition: Composition,
) -> Process:
    """A hidden Markov model if all parts are."""
    if all(isinstance(part, HiddenMarkovModel) for part in parts):
        return HiddenMarkovModel(matrices, initial, composition=composition)
    return GeneralizedHiddenMarkovModel(matrices, right, initial, composition=composition)


def _with_tokens(process: Process, matrices: Float[Tensor, "V S S"], composition: Composition) -> Process:
    """The process with other tokens."""
    return _like([process], matrices, process.right_vector, process.initial_distribution, composition)


def _require_memory(what: str, vocab_size: int, num_states: int, max_gib: float) -> None:
    """Refuse matrices that are too large, before they are made."""
    if not max_gib > 0:
        raise ValueError(f"max_gib must be positive, got {max_gib}")
    gib = vocab_size * num_states**2 * 8 / GIB
    if gib > max_gib:
        raise ValueError(
            f"{what} has {vocab_size:,} tokens and {num_states:,} states: its matrices would take {gib:,.3g} GiB, "
            f"more than max_gib={max_gib:g}"
        )


def _channel_matrix(noise: float | ArrayLike, vocab_size: int) -> Float[Tensor, "V received"]:
    if isinstance(noise, Real):
        if not 0 <= noise <= 1:
            raise ValueError(f"noise must lie in [0, 1] (a probability, not a percentage), got {noise}")
        return torch.full((vocab_size, vocab_size), noise / vocab_size, dtype=torch.float64).diagonal_scatter(
            torch.full((vocab_size,), 1 - noise + noise / vocab_size, dtype=torch.float64)
        )
    try:
        matrix = torch.as_tensor(noise, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"noise must be a number or an array of numbers, got {type(noise).__name__}") from None
    if matrix.ndim != 2 or matrix.shape[0] != vocab_size or matrix.shape[1] == 0:
        raise ValueError(f"noise must be a number or have a shape ({vocab_size}, received), got {tuple(matrix.shape)}")
    for sent, row in enumerate(matrix):
        if not (bool((row >= 0).all()) and abs(float(row.sum()) - 1) <= SUM_TOLERANCE):
            raise ValueError(f"noise[{sent}] must be probabilities that sum to 1, got {row.tolist()}")
    return matrix
