"""Every word once: rows that repeat a word joined into one."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pcnet.probing.rows.dataset import Array, as_numpy
from pcnet.probing.rows.subject import Subject


@dataclass(frozen=True, eq=False)
class UniqueWords:
    """Words that stand once each, in the attributes of ``pcnet.processes.Words``."""

    tokens: Int[Tensor, "N L"]
    lengths: Int[Tensor, " N"]
    last_tokens: Int[Tensor, " N"]
    probabilities: Float[Tensor, " N"]
    predicted: Float[Tensor, "N S"]
    filtered: Float[Tensor, "N S"]
    next_token_laws: Float[Tensor, "N V"]


def unique_words(subject: Subject) -> tuple[Subject, Callable[[Array], Array]]:
    """The subject with every word once, and what joins the rows of any other array in the same way.

    A word's probability is the sum of its rows', everything else their mean. Nothing changes where every word stands
    once already.

    Args:
        subject: rows with or without repeated words.
    """
    words = subject.words
    found = np.unique(words.tokens.numpy(), axis=0, return_index=True, return_inverse=True, return_counts=True)
    _, first, group, counts = found
    if len(first) == len(group):
        return subject, as_numpy
    group = group.ravel()

    def join(values: Array) -> Float[np.ndarray, "n D"]:
        array = as_numpy(values)
        if len(array) != len(group):
            raise ValueError(f"features have {len(array)} rows; the words are {len(group)}, so give one for each")
        sums = np.zeros((len(first), *array.shape[1:]))
        np.add.at(sums, group, array)
        return sums / counts.reshape(-1, *[1] * (array.ndim - 1))

    exact = (words.tokens, words.lengths, words.last_tokens)
    means = (words.predicted, words.filtered, words.next_token_laws)
    joined = UniqueWords(
        *(part[torch.as_tensor(first)] for part in exact),
        torch.as_tensor(join(words.probabilities) * counts),
        *(torch.as_tensor(join(part)) for part in means),
    )
    arrays = {"features": subject.features, "logits": subject.logits}
    present = {name: join(array) for name, array in arrays.items() if array is not None}
    return replace(subject, words=joined, targets=join(subject.targets), **present), join
