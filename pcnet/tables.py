"""What a run's tables are: their columns, which of them are text or flags, and how they are read back."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

Tables = Mapping[str, pd.DataFrame]

EARLIER = {"gain": "scale"}
"""Columns that had another name in version 0.1."""

KINDS = {"text": str, "flag": "boolean", "number": None}


class Schema(dict[str, dict[str, str]]):
    """Columns of every table that an experiment writes, in order, each with its kind.

    Args:
        tables: by name, columns as one line of words; a word is ``name`` of a number, ``name:text`` or ``name:flag``.

    Raises:
        ValueError: a kind is none of these.
    """

    def __init__(self, **tables: str) -> None:
        super().__init__({name: dict(map(_column, words.split())) for name, words in tables.items()})

    def check(self, tables: Tables) -> None:
        """Raise a ValueError unless every table is one of these, with exactly its columns."""
        for name, table in tables.items():
            if name not in self:
                raise ValueError(f"table {name!r} is not in the schema, which has {', '.join(self)}")
            odd = set(table.columns) ^ set(self[name])
            if odd:
                raise ValueError(
                    f"table {name!r}: column {min(map(str, odd))!r} is in the table or the schema, not in both"
                )

    def read(self, path: Path, name: str) -> pd.DataFrame:
        """A table as it was written: an empty text is a text, an empty number or flag is missing."""
        kinds = self[name]
        types = {column: KINDS[kind] for column, kind in kinds.items() if KINDS[kind] is not None}
        table = self.named(name, pd.read_csv(path, dtype=types))
        return table.fillna({column: "" for column, kind in kinds.items() if kind == "text"})

    def named(self, name: str, table: pd.DataFrame) -> pd.DataFrame:
        """A table with its columns in order, some of which may have had another name in version 0.1."""
        earlier = {old: new for old, new in EARLIER.items() if old not in self[name]}
        return table.rename(columns=earlier).reindex(columns=list(self[name]))

    def empty(self, name: str) -> pd.DataFrame:
        """The table without rows."""
        return pd.DataFrame(columns=list(self[name]))


def _column(word: str) -> tuple[str, str]:
    name, _, kind = word.partition(":")
    if kind and kind not in KINDS:
        raise ValueError(f"column {word!r}: its kind must be one of {', '.join(KINDS)}")
    return name, kind or "number"
