"""Machines in which each token leads from a state to at most one other, and partitions of their states."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

NOWHERE = -1
"""Successor by a token that is impossible, or that leads beyond the states that were found."""


class Unifilar(NamedTuple):
    """States, the law of the next token in each, and which state each token leads to; not yet minimal."""

    successors: Int[NDArray, "M V"]
    probabilities: Float[NDArray, "M V"]
    weights: Float[NDArray, " M"]


def machine_matrices(successors: Int[Tensor, "M V"], probabilities: Float[Tensor, "M V"]) -> Float[Tensor, "V M M"]:
    """One transition matrix for each token; there is at most one entry in each row."""
    matrices = torch.zeros(successors.shape[1], len(successors), len(successors), dtype=torch.float64)
    states, tokens = (successors != NOWHERE).nonzero(as_tuple=True)
    matrices[tokens, states, successors[states, tokens]] = probabilities[states, tokens]
    return matrices


def tolerance_ranks(columns: Float[NDArray, "M K"], tolerance: float) -> Int[NDArray, "M K"]:
    """Number the entries of every column from the smallest on; neighbours that differ by no more have one number."""
    order = np.argsort(columns, axis=0)
    steps = np.diff(np.take_along_axis(columns, order, 0), axis=0) > tolerance
    numbers = np.concatenate([np.zeros((1, columns.shape[1]), dtype=np.int64), np.cumsum(steps, axis=0)])
    ranks = np.empty_like(numbers)
    np.put_along_axis(ranks, order, numbers, 0)
    return ranks


def distinct(rows: Int[NDArray, "M K"]) -> Int[NDArray, " M"]:
    """Number of each row among the distinct ones in lexicographic order."""
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def refine(labels: Int[NDArray, " M"], successors: Int[NDArray, "M V"]) -> Int[NDArray, " M"]:
    """Coarsest partition, finer than a given one, whose parts lead to one part each by every token.

    Parts keep the order of the given labels, and are ordered inside of them by the labels of their successors. Costs
    M V log M per round, at most M rounds.

    Reference: Moore (1956), Gedanken-experiments on sequential machines, Annals of Mathematics Studies 34, 129.
    """
    while True:
        follow = np.where(successors == NOWHERE, NOWHERE, labels[successors])
        finer = distinct(np.column_stack([labels, follow]))
        if finer.max() == labels.max():
            return finer
        labels = finer


def components(successors: Int[NDArray, "M V"]) -> Int[NDArray, " M"]:
    """Strongly connected part of each state, numbered by first members."""
    rows, tokens = (successors != NOWHERE).nonzero()
    entries = np.ones(len(rows)), (rows, successors[rows, tokens])
    graph = sparse.coo_array(entries, shape=(len(successors), len(successors)))
    _, labels = sparse.csgraph.connected_components(graph, connection="strong")
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse.reshape(-1)]


def closed_parts(successors: Int[NDArray, "M V"]) -> Bool[NDArray, " M"]:
    """Which states no token leads away from for good: those of a part that all lead into itself."""
    labels = components(successors)
    rows, tokens = (successors != NOWHERE).nonzero()
    outward = labels[rows] != labels[successors[rows, tokens]]
    return ~np.isin(labels, labels[rows[outward]])
