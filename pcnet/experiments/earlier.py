"""Configurations and run folders of version 0.1, read as those of this one.

Then every run was a belief comparison, and the scale of initial weights was called gain.
"""

import copy
from pathlib import Path
from typing import Any

BELIEFS = "pcnet.experiments.beliefs.BeliefComparison"


def settings(old: dict[str, Any]) -> dict[str, Any]:
    """Settings of this version from those of a configuration that names no experiment."""
    arguments = copy.deepcopy(old)
    arguments.pop("workers", None)  # who does the jobs is no longer part of what a run is
    models = arguments.get("models")
    for spec in models.values() if isinstance(models, dict) else ():
        _rename(spec.get("init_args") if isinstance(spec, dict) else None, "gain", "scale")
    _rename(arguments.get("evaluation"), "untrained_gains", "untrained_scales")
    return {"class_path": BELIEFS, "init_args": arguments}


def rename_files(folder: Path) -> None:
    """Give the untrained copies in a run's folder the names that they have today."""
    for old in [*folder.glob("parts/untrained-*-gain*"), *folder.glob("geometry/*-gain*")]:
        old.rename(old.with_name(old.name.replace("-gain", "-scale")))


def _rename(arguments: Any, old: str, new: str) -> None:
    if isinstance(arguments, dict) and old in arguments:
        arguments[new] = arguments.pop(old)
