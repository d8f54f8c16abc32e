"""What a run is: an experiment's class and its arguments, read from YAML, overridden from the command line, refused by name.

The YAML lists constructor arguments in LightningCLI's dialect (`class_path`, `init_args`); jsonargparse checks them against
the constructors' types before anything is built.
"""

import copy
import importlib
import importlib.resources
import re
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings

from pcnet.experiments import earlier
from pcnet.experiments.errors import ConfigError
from pcnet.experiments.experiment import Experiment
from pcnet.processes import HiddenMarkovModel

set_parsing_settings(subclasses_enabled=[HiddenMarkovModel])

Settings = dict[str, Any]
"""A configuration as plain dictionaries, lists and scalars: `class_path` of an experiment and its `init_args`."""


def find(name: str | Path) -> Path:
    """A YAML file by path, or one of the configurations that come with pcnet by name (`mess3`, `configs/mess3.yaml`).

    Raises:
        ConfigError: there is no such file.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = shipped_configs()
    found = shipped / f"{Path(name).stem}.yaml"
    if Path(name).parent.name in ("", "configs") and found.is_file():
        return found
    known = ", ".join(sorted(path.stem for path in shipped.glob("*.yaml")))
    raise ConfigError(f"no configuration {str(name)!r}: neither a file nor one of those that come with pcnet ({known})")


def shipped_configs() -> Path:
    """Inside an installed package, or beside it in a checkout."""
    package = Path(str(importlib.resources.files("pcnet")))
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def read(path: Path) -> Settings:
    """A YAML file as settings.

    Raises:
        ConfigError: it is not YAML, or no mapping.
    """
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {_one_line(error)}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, got {type(settings).__name__}")
    return settings if "class_path" in settings else earlier.settings(settings)


def override(settings: Settings, overrides: dict[str, str]) -> Settings:
    """Settings with some arguments of the experiment replaced; keys are dotted paths, values YAML.

    Raises:
        ConfigError: a path leads into a value, or a value is not YAML.
    """
    settings = copy.deepcopy(settings)
    for path, text in overrides.items():
        *parents, last = path.split(".")
        place = settings.setdefault("init_args", {})
        for key in parents:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--{path}: {key} is a value, it has no settings inside")
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--{path}: {text!r} is not YAML: {_one_line(error)}") from None
    return settings


def resolve(settings: Settings) -> Settings:
    """Check settings against the constructors and fill in every default, without building anything.

    Raises:
        ConfigError: an unknown key, a wrong type or a missing value, named.
    """
    kind = experiment_class(settings)
    parser = _parser(kind)
    parsed = _parsed(parser, settings.get("init_args") or {})
    return {"class_path": settings["class_path"], "init_args": yaml.safe_load(parser.dump(parsed, skip_unset=False))}


def build(settings: Settings) -> Experiment:
    """The experiment that resolved settings describe.

    Raises:
        ConfigError: a constructor refused its arguments, or parts do not fit each other.
    """
    kind = experiment_class(settings)
    parser = _parser(kind)
    try:
        return kind(**vars(parser.instantiate(_parsed(parser, settings["init_args"]))))
    except (TypeError, ValueError) as error:
        raise ConfigError(_one_line(error)) from None


def experiment_class(settings: Settings) -> type[Experiment]:
    """The class that settings name.

    Raises:
        ConfigError: there is no such class, or it is no `Experiment`.
    """
    module, _, name = str(settings.get("class_path")).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None) if module else None
    except ImportError as error:
        raise ConfigError(f"class_path {settings['class_path']!r}: {_one_line(error)}") from None
    if not (isinstance(found, type) and issubclass(found, Experiment)):
        raise ConfigError(f"class_path must name an Experiment, got {settings.get('class_path')!r}")
    return found


def differences(left: Settings, right: Settings, prefix: str = "") -> list[str]:
    """Dotted paths at which two settings differ."""
    if not isinstance(left, dict) or not isinstance(right, dict):
        return [] if left == right else [prefix]
    found = []
    for key in [*left, *(key for key in right if key not in left)]:
        path = f"{prefix}.{key}" if prefix else str(key)
        found += differences(left.get(key), right.get(key), path) if key in left and key in right else [path]
    return found


def help_text(kind: type[Experiment]) -> str:
    """The arguments of an experiment with types, defaults and what their docstring says, for a command's ``--help``."""
    parser = ArgumentParser(add_help=False, usage="")
    parser.add_class_arguments(kind, fail_untyped=True)
    lines = parser.format_help().partition("\n\n")[2].strip().splitlines()
    return "\n".join(
        [
            "settings, each as --SETTING VALUE with VALUE in YAML:",
            *(re.sub(r", --\w+\+ \S+", "", line) for line in lines[1:]),
        ]
    )


def _parser(kind: type[Experiment]) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, fail_untyped=True)
    return parser


def _parsed(parser: ArgumentParser, settings: Any) -> Any:
    if not isinstance(settings, dict):
        raise ConfigError(f"init_args must be a mapping of settings, got {settings!r}")
    try:
        return parser.parse_object(copy.deepcopy(settings))  # it fills in what it is given
    except Exception as error:  # jsonargparse raises argparse's errors, and passes on what constructors' checks raise
        raise ConfigError(_one_line(error)) from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
