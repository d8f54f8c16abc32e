"""Files that appear under their name only when complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file to write to; it takes its name when the block ends without an error.

    Args:
        path: the final name; missing parent folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")  # the same suffix: some writers look at it
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes | str) -> Path:
    """Write a whole file; text is written as UTF-8."""
    with whole(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def save_arrays(path: Path, **arrays: np.ndarray) -> Path:
    """Write arrays by name as one compressed ``.npz`` file."""
    with whole(path) as temporary:
        np.savez_compressed(temporary, **arrays)
    return path
