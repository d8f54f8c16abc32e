"""A run's folder: tables and figures that appear under their final name only when complete, and parts that are never lost.

Every job leaves one part, a folder of tables, by renaming it into place. The run's tables are the parts laid together, so they
grow while the run goes on and an interrupted run has all that was finished.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from pcnet.experiments.errors import ConfigError
from pcnet.files import replace_file
from pcnet.tables import Schema, Tables


class RunFolder:
    """Where one run keeps what it has.

    Args:
        path: the folder.
        schema: of its tables.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self.schema = schema

    @property
    def config(self) -> Path:
        """Every setting as it was used."""
        return self.path / "config.yaml"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Held while a run writes here, and let go by the system when it dies.

        Raises:
            ConfigError: another process is writing here.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file, not a folder")
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ConfigError(f"{self.path} is in use by another run") from None
        try:
            yield
        finally:
            lock.release()

    def has(self, part: str) -> bool:
        """Whether a job has left its part."""
        return (self.path / "parts" / part).is_dir()

    def add(self, part: str, tables: Tables) -> None:
        """Keep a finished job's tables, all or none.

        Raises:
            ValueError: a table is not as the schema says.
        """
        self.schema.check(tables)
        final = self.path / "parts" / part
        temporary = final.with_name(f".{part}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, table in tables.items():
            table.to_csv(temporary / f"{name}.csv", index=False)
        os.replace(temporary, final)

    def part(self, part: str, table: str) -> pd.DataFrame:
        """One job's rows of one table."""
        return self.schema.read(self.path / "parts" / part / f"{table}.csv", table)

    def table(self, name: str) -> pd.DataFrame:
        """All parts' rows of one table; without rows where there is no part yet."""
        paths = sorted((self.path / "parts").glob(f"[!.]*/{name}.csv"))
        pieces = [self.schema.read(path, name) for path in paths]
        return pd.concat(pieces, ignore_index=True) if pieces else self.schema.empty(name)

    def write_tables(self) -> None:
        """Lay the parts together into the run's tables."""
        for name in self.schema:
            table = self.table(name)
            if len(table):
                replace_file(self.path / f"{name}.csv", table.to_csv(index=False))
