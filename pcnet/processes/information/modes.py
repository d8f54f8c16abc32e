"""Eigenvalues of the mixed states, which say how fast an observer synchronises, and correlations of the tokens."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse import csgraph
from torch import Tensor

from pcnet.processes.machines.causal_process import MAX_STATES, smallest_presentation
from pcnet.processes.machines.mixed_state import MixedStatePresentation
from pcnet.processes.models.arguments import require_at_least
from pcnet.processes.models.hmm import Process, UndefinedError, as_process

SINGULAR = 1e-10
"""Singular values up to which a direction counts as lost."""
DENSE_ROWS = 500
"""Mixed states up to which the index is decided by ranks."""
MOST_ROWS = 3000
"""Greatest part of mixed states that reach each other whose eigenvalues are computed."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues of the transition matrix W of the mixed states, largest modulus first.

    ``h(L) - h`` is a weighted sum of ``lambda^L`` over the transient mixed states' eigenvalues. An eigenvalue 0 contributes
    for finitely many tokens only. Those of the recurrent ones say how fast a synchronised observer's
    forecasts of later tokens approach the average.

    Attributes:
        eigenvalues: each as often as its algebraic multiplicity; those of finite memory are exactly 0.
        transient: which of them belong to the transient mixed states; their moduli are below 1.
        index: tokens after which the transient modes with eigenvalue 0 are gone.
        closed: whether these are all the mixed states, to rounding; otherwise some nearly equal ones count as one.
    """

    eigenvalues: Complex[Tensor, " M"]
    transient: Bool[Tensor, " M"]
    index: int
    closed: bool

    @cached_property
    def slowest(self) -> complex | None:
        """The transient eigenvalue of greatest modulus, which decays last; None if no mixed state is transient."""
        found = self.eigenvalues[self.transient]
        return complex(found[0]) if len(found) else None

    @property
    def depth(self) -> float:
        """Tokens after which the slowest transient mode has fallen to 1/e, ``-1/ln|slowest|``, or `index` if that is 0."""
        if self.slowest is None or self.slowest == 0:
            return float(self.index)
        return -1 / math.log(abs(self.slowest))


def spectrum(process: Process | ArrayLike, *, max_states: int = MAX_STATES) -> Spectrum:
    """Compute the eigenvalues of the mixed-state transition matrix, part by part.

    W is block triangular: one block for each part of mixed states that reach each other. Its eigenvalues are those of the
    blocks, and a state that is never visited again has the eigenvalue 0 exactly.

    The mixed states are those of the smallest presentation of the process in the long run. Costs the third power of the
    greatest part.

    Args:
        process: a process, or the matrices of a hidden Markov model.
        max_states: mixed states to look at.

    Raises:
        TypeError: if ``max_states`` isn't an integer.
        ValueError: if it isn't positive, if the mixed states aren't closed (and don't come to within 1e-9 of each other),
            if over 3000 of them reach each other, or if the stationary law isn't unique.

    Reference: Riechers & Crutchfield (2018), Chaos 28, 033115, arXiv 1705.08042.
    """
    process = as_process(process)
    presentation = smallest_presentation(process, max_states)
    presentation.require_nothing_beyond("the spectrum of the mixed states")
    values, transient, index = _modes(presentation)
    order = np.lexsort((-values.imag, -values.real, -np.round(np.abs(values), 12)))
    return Spectrum(
        torch.from_numpy(values[order]), torch.from_numpy(transient[order]), index, closed=presentation.closed
    )


def autocorrelation(
    process: Process | ArrayLike, max_lag: int, values: Float[Tensor, "V D"] | ArrayLike | None = None
) -> Float[Tensor, " max_lag+1"]:
    """Compute the autocorrelation of the tokens of the stationary process, each taken as a number or a vector.

    ``rho(k) = (E[v(X_0) . v(X_k)] - |E v|^2) / (E |v(X_0)|^2 - |E v|^2)``

    Args:
        process: a process, or the matrices of a hidden Markov model.
        max_lag: greatest distance, at least 0.
        values: number or vector attached to each token. None: one-hot vectors, so that ``rho(k)`` compares
            ``P(X_0 = X_k)`` with chance.

    Returns:
        rho(0) = 1, rho(1), ..., rho(max_lag), without a unit.

    Raises:
        TypeError, ValueError: if ``max_lag`` isn't an integer of at least 0, ``values`` doesn't have one finite entry a
            token, all tokens that occur have one value, or the stationary law isn't unique.
    """
    process = as_process(process)
    require_at_least("max_lag", max_lag, 0)
    vectors = _token_vectors(values, process.vocab_size)
    law = process.stationary_distribution @ process.emission_matrix
    centred = vectors - law @ vectors
    variance = float(law @ centred.square().sum(1))
    if variance <= 1e-15 * float(law @ vectors.square().sum(1)):
        raise ValueError("values: all tokens that this process emits have the same value, so nothing correlates")
    rows = torch.einsum("s,xst,xd->dt", process.stationary_distribution, process.transition_matrices, centred)
    columns = process.emission_matrix @ centred
    found = [1.0]
    for _ in range(max_lag):
        found.append(float((rows * columns.T).sum()) / variance)
        rows = rows @ process.state_transition_matrix
    return torch.tensor(found, dtype=torch.float64)


def _token_vectors(values: ArrayLike | None, vocab_size: int) -> Float[Tensor, "V D"]:
    if values is None:
        return torch.eye(vocab_size, dtype=torch.float64)
    vectors = torch.as_tensor(np.asarray(values), dtype=torch.float64)
    if vectors.ndim not in (1, 2) or len(vectors) != vocab_size:
        raise ValueError(
            f"values must have a number or vector for each of {vocab_size} tokens, got {tuple(vectors.shape)}"
        )
    if not bool(torch.isfinite(vectors).all()):
        raise ValueError(f"values{(~torch.isfinite(vectors)).nonzero()[0].tolist()} must be finite")
    return vectors.view(vocab_size, -1)


def _modes(
    presentation: MixedStatePresentation,
) -> tuple[Complex[NDArray, " M"], Bool[NDArray, " M"], int]:
    """Eigenvalues, which are transient, and the index of the transient zeros."""
    step, recurrent = presentation.sparse_transition, presentation.recurrent.numpy()
    labels = presentation.parts
    sizes = np.bincount(labels)
    if sizes.max() > MOST_ROWS:
        raise UndefinedError(
            f"{sizes.max():,} mixed states reach each other, more than the {MOST_ROWS:,} that are solved for"
        )
    values = np.empty(len(labels), dtype=np.complex128)
    alone = sizes[labels] == 1
    values[alone] = step.diagonal()[alone]
    for part in np.flatnonzero(sizes > 1):
        members = np.flatnonzero(labels == part)
        values[members] = _eigenvalues(step[members][:, members].toarray())
    return values, ~recurrent, _index(step[~recurrent][:, ~recurrent])


def _eigenvalues(block: Float[NDArray, "M M"]) -> Complex[NDArray, " M"]:
    """As many are set to 0 as the rank of the powers says; computed, those of a Jordan block would be roots of rounding."""
    values = np.linalg.eigvals(block).astype(np.complex128)
    zeros = len(block) - _ranks(block)[-1]
    values[np.argsort(np.abs(values))[:zeros]] = 0
    return values


def _ranks(block: Float[NDArray, "M M"]) -> list[int]:
    """Ranks of the powers of a matrix, until they fall no more; each is taken on the images of the powers before it."""
    ranks, images = [len(block)], np.eye(len(block))
    while True:
        left, sizes, _ = np.linalg.svd(block @ images, full_matrices=False)
        found = int((sizes > SINGULAR).sum())
        if found == ranks[-1]:
            return ranks
        ranks.append(found)
        images = left[:, :found]


def _index(transient: sparse.csr_array) -> int:
    """Steps after which the nilpotent part is gone.

    Among states that are never met again, it lasts as long as the longest path; other parts, in which zeros may hide, are
    decided by the rank of the powers, if they are small enough to, and lengthen the path by their size if not.
    """
    if transient.shape[0] <= DENSE_ROWS:
        return len(_ranks(transient.toarray())) - 1
    count, labels = csgraph.connected_components(transient, connection="strong")
    lengths = np.bincount(labels, minlength=count)
    rows, columns = transient.nonzero()
    looping = np.unique(labels[rows[rows == columns]])
    lengths[looping] -= lengths[looping] == 1  # a lone state with a loop has a mode of its own
    starts, ends = labels[rows], labels[columns]
    total = lengths.copy()
    while True:
        longer = total.copy()
        np.maximum.at(longer, starts, lengths[starts] + np.where(starts == ends, 0, total[ends]))
        if (longer == total).all():
            return int(total.max(initial=0))
        total = longer
