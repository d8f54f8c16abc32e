"""A run's folder: tables and figures that appear under their final name only when complete, and parts that are never lost.

Every job (a model trained, a copy probed) leaves one part, a folder of tables, by renaming it into place. The run's tables
are the parts laid together, so they grow while the run goes on and an interrupted run has all that was finished.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from filelock import FileLock, Timeout

from pcnet.config import ConfigError, Settings, differences, read, resolve
from pcnet.tables import COLUMNS, replace_file

Tables = dict[str, pd.DataFrame]


class RunFolder:
    """Where one run keeps what it has.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    def checkpoint(self, model: str, seed: int) -> Path:
        return self.path / "checkpoints" / model / f"seed{seed}" / "last.ckpt"

    def snapshot(self, model: str, seed: int, step: int) -> Path:
        return self.checkpoint(model, seed).with_name(f"step{step}.ckpt")

    def open(self, settings: Settings) -> None:
        """Make the folder for these settings, or check that it was made for them.

        Raises:
            ConfigError: it was made by another configuration, or is somebody else's folder.
        """
        if self.config.is_file():
            odd = differences(resolve(read(self.config)), settings)  # settings that came since had their defaults
            if odd:
                raise ConfigError(f"{self.path} was made with another {odd[0]}; name another folder with --out")
            return
        if self.path.is_dir() and any(name for name in os.listdir(self.path) if name != ".lock"):
            raise ConfigError(f"{self.path} holds files but no config.yaml; name another folder with --out")
        replace_file(self.config, yaml.safe_dump(settings, sort_keys=False).encode())

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
        return (self.path / "parts" / part).is_dir()

    def add(self, part: str, tables: Tables) -> None:
        """Keep a finished job's tables, all or none."""
        final = self.path / "parts" / part
        temporary = final.with_name(f".{part}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, table in tables.items():
            table.to_csv(temporary / f"{name}.csv", index=False)
        os.replace(temporary, final)

    def part(self, part: str, table: str) -> pd.DataFrame:
        return _read(self.path / "parts" / part / f"{table}.csv")

    def table(self, name: str) -> pd.DataFrame:
        """All parts' rows of one table."""
        pieces = [_read(path) for path in sorted((self.path / "parts").glob(f"[!.]*/{name}.csv"))]
        if not pieces:
            return pd.DataFrame(columns=COLUMNS[name])
        return pd.concat(pieces, ignore_index=True)[COLUMNS[name]]

    def write_tables(self) -> None:
        """Lay the parts together into the run's tables."""
        for name in COLUMNS:
            table = self.table(name)
            if len(table):
                replace_file(self.path / f"{name}.csv", table.to_csv(index=False).encode())

    def add_geometry(self, name: str, **arrays: np.ndarray) -> None:
        """Keep what the figures of belief geometry are drawn from."""
        path = self.path / "geometry" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{name}.{os.getpid()}.npz")
        np.savez_compressed(temporary, **arrays)
        os.replace(temporary, path)


TEXT = ("model", "site", "target", "control", "position", "iteration", "weights", "device", "check")

FLAGS = ("trained", "headline", "offset", "alpha_at_edge", "passed")


def _read(path: Path) -> pd.DataFrame:
    """A part's table as it was written: an empty text is a text, an empty number or flag is missing."""
    table = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str) | dict.fromkeys(FLAGS, "boolean"))
    return table.fillna({column: "" for column in TEXT if column in table})
