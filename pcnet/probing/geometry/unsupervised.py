"""A decoder without ground truth: coordinates of belief from activations and the model's own outputs alone."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pcnet.predictor import Predictor
from pcnet.probing.interventions.futures import continued
from pcnet.probing.regression.moments import Design
from pcnet.probing.regression.protocol import DEFAULT_PROTOCOL, Protocol, held_out_fits
from pcnet.probing.rows.dataset import Array, ProbeData, equal_weights
from pcnet.processes import Words


@torch.no_grad()
def own_futures(model: Predictor, rows: Words, tokens: int, chunk: int = 1024) -> Float[Tensor, "N F"]:
    """The law that the model itself gives to the next tokens after each word: no process is asked.

    Column f is the probability of the f-th continuation in lexicographic order, F = V^tokens, in float64. Each word is
    run anew, and then every continuation: N V^tokens steps.

    Args:
        model: any predictor.
        rows: the words: ``tokens`` (padded on the right with negative numbers) and ``lengths`` are used.
        tokens: how many tokens ahead, at least 1. A model with a bounded context may be asked no further than it reaches.
        chunk: words per batch.

    Raises:
        ValueError: if ``tokens`` isn't positive.
    """
    if tokens < 1:
        raise ValueError(f"tokens={tokens}: it must be at least 1")
    laws = torch.empty(len(rows.lengths), model.vocab_size**tokens, dtype=torch.float64)
    for length in rows.lengths.unique().tolist():
        for part in torch.nonzero(rows.lengths == length).flatten().split(chunk):
            memory, logits = model.start(len(part)), None
            for token in rows.tokens[part, :length].unbind(1):
                logits, memory = model.step(memory, token)
            laws[part] = continued(model.step, memory, logits, tokens)
    return laws


def observed_futures(tokens: Float[Array, "B L"], positions: int, ahead: int, vocab_size: int) -> Float[Array, "N F"]:
    """One-hot continuations of sampled sequences, for models whose law cannot be asked.

    Args:
        tokens: sequences.
        positions: futures are taken after the first 1..positions tokens of each sequence, sequence by sequence.
        ahead: tokens per future; the columns are those of ``own_futures``.
        vocab_size: distinct tokens.

    Raises:
        ValueError: if the sequences are too short.
    """
    tokens = np.asarray(tokens)
    if tokens.shape[1] < positions + ahead:
        raise ValueError(f"tokens has length {tokens.shape[1]}; positions={positions} and ahead={ahead} need their sum")
    names = {word: column for column, word in enumerate(product(range(vocab_size), repeat=ahead))}
    columns = [names[tuple(row[t : t + ahead].tolist())] for row in tokens for t in range(1, positions + 1)]
    return np.eye(len(names))[columns]


@dataclass(frozen=True, eq=False)
class PredictiveGeometry:
    """What the activations know about the future, in as few coordinates as predict it.

    Attributes:
        coordinates: of each word, decoded by a fit that didn't see it (but for the shortest words).
        rank: number of coordinates; 0 if the activations predict nothing.
        r2: held-out share of the futures' variance that each rank explains, ranks 0, 1, 2, ...
    """

    coordinates: Float[np.ndarray, "N r"]
    rank: int
    r2: Float[np.ndarray, " R"]


def predictive_geometry(
    features: Float[Array, "N D"],
    futures: Float[Array, "N F"],
    rows: Words,
    protocol: Protocol = DEFAULT_PROTOCOL,
    fold_seed: int = 0,
    tolerance: float = 0.005,
) -> PredictiveGeometry:
    r"""Reduced-rank regression of futures on activations; neither the process nor its beliefs are looked at.

    .. math:: \hat F = (X W) V_r V_r^T, \qquad z = (X W - \bar f) V_r

    A belief's laws of the future are linear in it, so in a model that holds the belief linearly, and predicts well, the
    predictable part of the future spans an affine image of the belief: of its dimension, but stretched. X W is ridge
    regression under the protocol (the activations are whitened by it: large directions that predict nothing don't
    count); V_r are the top directions of the fitted futures. The rank is the smallest that explains, on held-out words,
    the best rank's share less ``tolerance``.

    Beliefs that no future of so many tokens tells apart can't be found, nor directions that hardly change it: what
    comes out is the geometry of predictions ``tokens`` ahead, at most that of the belief.

    Args:
        features: activations, one row per word.
        futures: ``own_futures``, or ``observed_futures`` on sampled rows.
        rows: the words: ``lengths`` and ``probabilities`` are used.
        protocol: folds, penalties and which words always train.
        fold_seed: which deal of the words to folds.
        tolerance: share of the futures' variance that is not worth a coordinate.

    Raises:
        ValueError: as in ``probe``, or if the tolerance is not in [0, 1).

    Reference: Izenman 1975, Reduced-rank regression for the multivariate linear model.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance={tolerance}: it must be at least 0 and below 1")
    data = ProbeData.checked(features, futures, rows.lengths, rows.probabilities)
    labels, weights = protocol.folds(data.lengths, fold_seed), equal_weights(data.lengths)
    design = Design.single(data.features, data.targets)
    (fits,) = held_out_fits(design, data.lengths, labels, protocol, (True,))
    most = min(data.targets.shape[1], data.features.shape[1])
    decoded, errors = np.empty_like(data.targets), np.zeros(most + 1)
    for fold, fit in enumerate(fits):
        train = labels != fold
        fitted = fit.predict(data.features)
        held = np.flatnonzero(~train)
        mean, basis = _directions(fitted[train], weights[train])
        residual = data.targets[held] - mean
        errors += _errors_by_rank(residual, (fitted[held] - mean) @ basis.T, basis, weights[held])[: most + 1]
        chosen = ~train | ((labels < 0) & (fold == 0))
        decoded[chosen] = fitted[chosen]
    scored = labels >= 0
    centre = np.average(data.targets[scored], axis=0, weights=weights[scored])
    total = np.sum(weights[scored, None] * (data.targets[scored] - centre) ** 2)
    if not total > 0:
        raise ValueError("futures: all rows are equal; there is nothing to predict")
    r2 = 1 - errors / total
    rank = int(np.argmax(r2 >= r2.max() - tolerance))
    mean, basis = _directions(decoded, weights)
    return PredictiveGeometry((decoded - mean) @ basis[:rank].T, rank, r2)


def _directions(
    fitted: Float[np.ndarray, "n F"], weights: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " F"], Float[np.ndarray, "F F"]]:
    """Weighted mean, and the principal directions, strongest first."""
    mean = np.average(fitted, axis=0, weights=weights)
    centred = fitted - mean
    return mean, np.linalg.eigh(centred.T @ (weights[:, None] * centred))[1][:, ::-1].T


def _errors_by_rank(
    residual: Float[np.ndarray, "n F"],
    scores: Float[np.ndarray, "n F"],
    basis: Float[np.ndarray, "F F"],
    weights: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " R"]:
    """Weighted squared error with 0, 1, 2, ... directions: each turns the residual along it into its error."""
    along = residual @ basis.T
    gains = weights @ (along**2 - (along - scores) ** 2)
    return np.sum(weights[:, None] * residual**2) - np.concatenate([[0.0], np.cumsum(gains)])
