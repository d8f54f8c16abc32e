"""The tokens of words, seen from where each word ends."""

import numpy as np
from jaxtyping import Float, Int

from pcnet.processes import Words


def tokens_by_lag(words: Words) -> Int[np.ndarray, "N L"]:
    """Tokens counted back from the newest; -1 before the start of a word."""
    tokens, lengths = words.tokens.numpy(), words.lengths.numpy()
    place = lengths[:, None] - 1 - np.arange(tokens.shape[1])
    return np.where(place >= 0, np.take_along_axis(tokens, np.maximum(place, 0), axis=1), -1)


def one_hot(symbols: Int[np.ndarray, "N L"], num_symbols: int) -> Float[np.ndarray, "N D"]:
    """One indicator for each column and each symbol 0..num_symbols-1; D = L num_symbols."""
    return (symbols[:, :, None] == np.arange(num_symbols)).reshape(len(symbols), -1).astype(np.float32)
