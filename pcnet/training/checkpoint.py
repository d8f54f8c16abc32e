"""Checkpoints that are whole or absent, and that load without running code that is in them."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO


class SafeCheckpoints(CheckpointIO):
    """Written under a temporary name beside the file, then renamed; read with `weights_only=True`, which unpickles tensors and
    plain containers and refuses any other object."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")  # one writer at a time: what a killed one left is overwritten
        torch.save(checkpoint, temporary)
        os.replace(temporary, path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return torch.load(path, map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)
