"""What `pcnet probe` reads: arrays saved by numpy, opened and not loaded, and the process that made the tokens."""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pcnet.card import Entry, catalogue
from pcnet.probing import Rows
from pcnet.processes import HiddenMarkovModel, Process, product

PIECE = 2**22
"""Numbers that are made at once."""


def process_of(name: str | None, matrices: Path | None, rest: list[str], seed: int) -> Process:
    """The process that is named, with the parameters that follow, or the one whose matrices are given.

    Args:
        name: of the catalogue, or None; several with commas between them run side by side, a product.
        matrices: a file with (V, S, S) instead of it, or None.
        rest: what is left of the command line: ``--parameter value``.
        seed: of processes that are drawn at random.

    Raises:
        ValueError: naming the option, what it says and what is legal.
    """
    if (name is None) == (matrices is None):
        raise ValueError("give either --process NAME or --matrices FILE.npy")
    if matrices is not None:
        if rest:
            raise ValueError(f"--matrices takes the place of a process and its parameters; {rest[0]} makes no sense")
        return HiddenMarkovModel(opened("--matrices", matrices))
    entries, names = catalogue(), name.split(",")
    for each in names:
        if each not in entries:
            raise ValueError(f"--process: none is called {each!r}; there are {', '.join(entries)}")
    if len(names) == 1:
        return entries[name].make(_parameters(entries[name], rest), seed)
    if rest:
        raise ValueError(f"--process {name} takes the factors as they are; {rest[0]} makes no sense")
    return product([entries[each].make({}, seed) for each in names])


def _parameters(entry: Entry, rest: list[str]) -> dict:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in entry.parameters:
        parser.add_argument(*dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]))
    try:
        given, unknown = parser.parse_known_args(rest)
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from None
    if unknown:
        options = ", ".join(f"--{name}" for name in entry.parameters) or "none"
        raise ValueError(f"there is no option {unknown[0]}; parameters of {entry.name}: {options}")
    return {name: entry.parameters[name].parse(text) for name, text in vars(given).items() if text is not None}


def opened(option: str, path: Path) -> np.ndarray:
    """An array saved by numpy, opened and not read.

    Args:
        option: that named it, for messages.
        path: of the file.

    Raises:
        ValueError: if there is no such file, or if it holds no array.
    """
    if not path.is_file():
        raise ValueError(f"{option}: there is no file {path}")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        raise ValueError(f"{option}: {path} holds no array saved by numpy.save") from None


@dataclass(eq=False)
class Scratch:
    """Features that need not fit the memory: files in a folder that is gone afterwards.

    Args:
        folder: theirs, empty.
    """

    folder: Path
    _number: Iterator[int] = field(default_factory=count, repr=False)

    @contextmanager
    def matrix(
        self,
        shape: tuple[int, int],
        make: Callable[[slice], np.ndarray],
        dtype: type[np.floating] | np.dtype = np.float32,
    ) -> Iterator[Float[np.ndarray, "N D"]]:
        """A matrix made a few rows at a time, kept in a file for as long as the context lasts.

        Args:
            shape: rows and columns.
            make: the numbers of the rows that a slice names.
            dtype: of what is kept.
        """
        path = self.folder / f"{next(self._number)}.npy"
        kept = np.lib.format.open_memmap(path, "w+", dtype=dtype, shape=shape)
        step = max(1, PIECE // max(1, shape[1]))
        for start in range(0, shape[0], step):
            rows = slice(start, min(start + step, shape[0]))
            kept[rows] = make(rows)
        try:
            yield kept
        finally:
            path.unlink()


@contextmanager
def scratch(folder: Path) -> Iterator[Scratch]:
    """A hidden folder inside this one, which is made if missing and removed again if nothing else came into it."""
    missing = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".scratch-", dir=folder) as name:
            yield Scratch(Path(name))
    finally:
        if missing and not os.listdir(folder):
            folder.rmdir()


def sites(path: Path, wanted: list[str] | None, rows: Rows) -> dict[str, Float[np.ndarray, "N D"]]:
    """Features by site, one row per position of the tokens.

    Args:
        path: of one array without a name, or of an .npz of several.
        wanted: names of those of an .npz; all if None.
        rows: of the tokens.

    Raises:
        ValueError: if there is no such site (those that there are get listed), or if one doesn't match the tokens.
        TypeError: if one doesn't hold real numbers.
    """
    found = opened("--activations", path)
    if path.suffix != ".npz":
        if wanted:
            raise ValueError(f"--site {wanted[0]}: {path} holds one array without a name; sites are those of an .npz")
        return {path.stem: _features(path.stem, found, rows)}
    if missing := [name for name in wanted or () if name not in found]:
        raise ValueError(f"--site: {path} has no {missing[0]!r}; there are {', '.join(found)}")
    return {name: _features(name, found[name], rows) for name in wanted or found}


def logits(path: Path, rows: Rows) -> Float[np.ndarray, "N V"]:
    """Logits, one row per position.

    Args:
        path: of an array (B, L, V).
        rows: of the tokens.

    Raises:
        ValueError: if they don't match the tokens, or aren't finite.
        TypeError: if they aren't real numbers.
    """
    found = _features("--logits", opened("--logits", path), rows)
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f"--logits: {path} holds {found[row, column]} for token {column} at row {row}; it must be finite"
        )
    return found


@contextmanager
def floating(features: np.ndarray, scratch: Scratch) -> Iterator[Float[np.ndarray, "N D"]]:
    """The same in a precision that probes take as it is: half precision and whole numbers are kept anew as float32.

    Args:
        features: one row per position.
        scratch: where they are kept.
    """
    if features.dtype in (np.float32, np.float64):
        yield features
        return
    with scratch.matrix(features.shape, lambda rows: features[rows]) as kept:
        yield kept


def _features(name: str, array: np.ndarray, rows: Rows) -> Float[np.ndarray, "N D"]:
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: it has dtype {array.dtype}; it must hold real numbers")
    try:
        return rows.flatten(array)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
