"""Generalised processes from the literature: their beliefs span a space of finite dimension, but no finite hidden Markov
model emits the same words.

Their beliefs are points of a linear space, known up to a change of basis.
"""

import math

import numpy as np
import torch

from pcnet.processes.models.arguments import require_number
from pcnet.processes.models.hmm import GeneralizedHiddenMarkovModel


def bloch_walk(alpha: float = 1.0, beta: float = math.sqrt(51)) -> GeneralizedHiddenMarkovModel:
    """Build the Bloch walk: repeated measurements of a quantum bit, whose beliefs fill a disc.

    With ``g = 1/(4 (alpha^2 + beta^2))``, ``m = (alpha^2 - beta^2) g`` and ``o = 2 alpha beta g``, a token multiplies
    (1, u, v), which lies in the unit disc, by ``[[1/4, 0, +-o], [0, m, 0], [+-o, 0, 1/4]]`` (tokens 0 and 1) or by
    ``[[1/4, +-o, 0], [+-o, 1/4, 0], [0, 0, m]]`` (2 and 3).

    The first token is uniform over all four; the eigenvalues of the sum are 1 and ``1/2 + 2 m`` twice. The next-token law
    ``1/4 +- o v``, ``1/4 +- o u`` determines the belief affinely, if o isn't 0.

    Args:
        alpha: in the literature 1. Only its ratio to ``beta`` matters.
        beta: in the literature the root of 51.

    Raises:
        TypeError, ValueError: if an argument isn't a finite number, or both are 0.

    Reference: Riechers, Elliott & Shai (2025), arXiv 2507.07432.
    """
    require_number("alpha", alpha)
    require_number("beta", beta)
    size = math.hypot(alpha, beta)
    if not 0 < size < math.inf:
        raise ValueError(f"alpha and beta must not both be 0, nor too large to be squared, got {alpha} and {beta}")
    first, second = alpha / size, beta / size
    m, o = (first**2 - second**2) / 4, first * second / 2
    up = [[[0.25, 0, s], [0, m, 0], [s, 0, 0.25]] for s in (o, -o)]
    aside = [[[0.25, s, 0], [s, 0.25, 0], [0, 0, m]] for s in (o, -o)]
    return GeneralizedHiddenMarkovModel(up + aside, right=[1, 0, 0], initial=[1, 0, 0])


def moon(alpha: float = math.e, beta: float = 0.5) -> GeneralizedHiddenMarkovModel:
    """Build the moon process, which neither a finite hidden Markov model nor a finite quantum system can emit.

    ``T_a = nu [1, 1, 0]^T [1, -1, -1]``, ``T_b = nu [[alpha, 0, 0], [0, 1, 0], [0, ln alpha, 1]]``, T_c the same with beta

    Token 0, a, forgets everything before it. What is between two of them, n times b and m times c in any order, has
    probability ``nu^(n + m + 1) (e^t - 1 - t)`` with ``t = n ln alpha + m ln beta``: never negative. The next-token law
    determines the belief affinely.

    Args:
        alpha: greater than 1.
        beta: in (0, 1); ``alpha + beta`` isn't 2.

    Raises:
        TypeError, ValueError: if an argument isn't a number in its range.

    Reference: Riechers, Elliott & Shai (2025), arXiv 2507.07432.
    """
    require_number("alpha", alpha)
    require_number("beta", beta)
    if not (alpha > 1 > beta > 0):
        raise ValueError(f"alpha and beta must fulfil alpha > 1 > beta > 0, got {alpha} and {beta}")
    if alpha + beta == 2:
        raise ValueError(f"alpha + beta must not be 2, got {alpha} and {beta}")
    forget = np.outer([1, 1, 0], [1, -1, -1])
    matrices = np.stack([forget, *(_sheared(scale) for scale in (alpha, beta))])
    eigenvalues, vectors = np.linalg.eig(matrices.sum(0))
    leading = np.argmax(np.abs(eigenvalues))
    right = vectors[:, leading].real
    return GeneralizedHiddenMarkovModel(matrices / eigenvalues[leading].real, right=right / right[0])


def frdn(alpha: float = 2000.0, lam: float = 0.49) -> GeneralizedHiddenMarkovModel:
    """Build the process of Fox, Rubin, Dharmadhikari and Nadkarni: renewals whose probabilities oscillate without a period.

    ``T_a = w pi_0`` and ``T_b = lam blockdiag(0, 1, Rot(alpha))``: after token 0, a, exactly n >= 1 times b come before the
    next one with probability ``lam^n (1 - cos(n alpha))/2``, that is ``lam^n sin^2(n alpha/2)``; with none, the rest. If
    ``alpha/pi`` is irrational, no hidden Markov model with finitely many states makes it. The next-token law does *not*
    determine the belief.

    Args:
        alpha: angle in radians; in the literature 2000.
        lam: in (0, 1/2]; in the literature .49.

    Raises:
        TypeError, ValueError: if an argument isn't a number in its range.

    Reference: Fox & Rubin (1968), Annals of Mathematical Statistics 39, 938; Dharmadhikari & Nadkarni (1970), ibid. 41,
        207; Riechers, Elliott & Shai (2025), arXiv 2507.07432.
    """
    require_number("alpha", alpha)
    require_number("lam", lam)
    if not 0 < lam <= 0.5:
        raise ValueError(f"lam must lie in (0, 0.5], got {lam}")
    cos, sin = math.cos(alpha), math.sin(alpha)
    size = 1 - 2 * lam * cos + lam**2
    plus, minus = ((1 - lam * cos + sign * lam * sin) / size for sign in (1, -1))
    after = [1 - (2 / (1 - lam) - plus - minus) / 4, 1 / (2 * (1 - lam)), -plus / 4, -minus / 4]
    ends = [1, 1 - lam, 1 + lam * (sin - cos), 1 - lam * (sin + cos)]
    goes_on = lam * torch.block_diag(
        torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    )
    return GeneralizedHiddenMarkovModel(np.stack([np.outer(ends, after), goes_on.numpy()]), right=np.ones(4))


def _sheared(scale: float) -> np.ndarray:
    return np.array([[scale, 0, 0], [0, 1, 0], [0, math.log(scale), 1]])
