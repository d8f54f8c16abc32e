"""What a run is: typed settings, read from YAML, overridden from the command line, refused by name.

The YAML lists constructor arguments in LightningCLI's dialect (`class_path`, `init_args`); jsonargparse checks them against
the constructors' types before anything is built.
"""

import copy
import importlib.resources
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings
from torch.optim import Optimizer

from pcnet.inference import Euler, Momentum, Solver
from pcnet.learning import LearningRule
from pcnet.predictor import Predictor
from pcnet.processes import HiddenMarkovModel

set_parsing_settings(subclasses_enabled=[HiddenMarkovModel])


class ConfigError(ValueError):
    """A configuration that cannot be run; the message is one line."""


@dataclass(frozen=True)
class Training:
    """How one model is trained.

    Args:
        rule: the learning rule.
        optimizer: class and arguments of a `torch.optim` optimiser.
        steps: optimiser steps.
        batch_size: sequences per step.
        clip: largest norm of the gradient; null does not clip.
        peak_at: share of the steps after which the learning rate is at its highest (`OneCycleLR`: it rises from a 25th and
            falls to nearly zero along cosines); null keeps it constant.
    """

    rule: LearningRule
    optimizer: Callable[[Iterable], Optimizer]
    steps: int = 2000
    batch_size: int = 256
    clip: float | None = 1.0
    peak_at: float | None = 0.1


@dataclass(frozen=True)
class Sites:
    """Where one model is probed; patterns as in `capture`, all sites that match a pattern side by side.

    Args:
        headline: the site that counts, fixed before training; judged against the filtered belief.
        filtered: further sites judged against the filtered belief (after the token).
        predicted: further sites judged against the predicted belief (before the token).
    """

    headline: str
    filtered: list[str] = field(default_factory=list)
    predicted: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """What is asked of trained models, and of what they are compared with.

    Args:
        untrained_gains: gains of the untrained copies.
        untrained_seeds: seeds of the untrained copies.
        permutations: shuffled beliefs; the 95th percentile of their scores is the one to beat.
        iterations: numbers of inference iterations after which a predictive-coding network is scored as well.
        iteration_solver: the solver whose iterations these are.
        robust: models whose numbers are repeated with another solver, other initial values and in float64.
        robust_solver: the other solver.
        batch_sizes: sequences per call when latency is measured.
        timing_seconds: how long each latency is measured.
    """

    untrained_gains: list[float] = field(default_factory=lambda: [0.5, 0.9, 1.2])
    untrained_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    permutations: int = 100
    iterations: list[int] = field(default_factory=lambda: [0, 1, 2, 4, 8, 16, 32])
    iteration_solver: Solver = field(default_factory=Euler)
    robust: list[str] = field(default_factory=list)
    robust_solver: Solver = field(default_factory=Momentum)
    batch_sizes: list[int] = field(default_factory=lambda: [1, 64])
    timing_seconds: float = 1.0


@dataclass(frozen=True)
class Comparison:
    """Models trained on the same process, asked the same question, billed for the answer.

    Args:
        name: of the run; names its folder.
        process: class and arguments of a process, e.g. `pcnet.processes.mess3`.
        context: longest word that models are trained and scored on.
        seeds: training seeds; every model is trained with each.
        models: the predictors by name.
        training: how each is trained.
        sites: where each is probed.
        evaluation: what is asked.
        device: where models are trained, e.g. cpu or cuda.
        workers: jobs done side by side, one thread each; null is one per core, 0 does them in the calling process.
        checkpoint_every: optimiser steps between checkpoints.
        snapshots: optimiser steps after which the weights are kept as well, to see how something was learned; 0 is the start.
        log_every: optimiser steps per point of the learning curve.
    """

    name: str
    process: HiddenMarkovModel
    context: int
    seeds: list[int]
    models: dict[str, Predictor]
    training: dict[str, Training]
    sites: dict[str, Sites]
    evaluation: Evaluation = field(default_factory=Evaluation)
    device: str = "cpu"
    workers: int | None = None
    checkpoint_every: int = 100
    snapshots: list[int] = field(default_factory=list)
    log_every: int = 20

    def __post_init__(self) -> None:
        for part in ("training", "sites"):
            odd = set(self.models) ^ set(getattr(self, part))
            if odd:
                raise ConfigError(
                    f"{part}.{sorted(odd)[0]}: every model needs exactly one entry here; models are {', '.join(self.models)}"
                )
        for name, model in self.models.items():
            if model.vocab_size != self.process.vocab_size:
                raise ConfigError(
                    f"models.{name}.init_args.vocab_size is {model.vocab_size}, the process emits {self.process.vocab_size} tokens"
                )
        for name in self.evaluation.robust:
            if name not in self.models:
                raise ConfigError(f"evaluation.robust names {name!r}; models are {', '.join(self.models)}")
        self._check_sizes()

    def _check_sizes(self) -> None:
        sizes = {"context": self.context, "checkpoint_every": self.checkpoint_every, "log_every": self.log_every}
        sizes |= {f"training.{name}.steps": part.steps for name, part in self.training.items()}
        sizes |= {f"training.{name}.batch_size": part.batch_size for name, part in self.training.items()}
        for name, size in sizes.items():
            if size < 1:
                raise ConfigError(f"{name} must be at least 1, got {size}")
        if any(step < 0 for step in self.snapshots):
            raise ConfigError(f"snapshots must be at least 0, got {min(self.snapshots)}")
        for name, some in (("seeds", self.seeds), ("models", self.models)):
            if not some:
                raise ConfigError(f"{name} must name at least one")


Settings = dict[str, Any]
"""A configuration as plain dictionaries, lists and scalars, as YAML has it."""


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
    """A YAML file as settings."""
    try:
        settings = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {_one_line(error)}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, got {type(settings).__name__}")
    return settings


def override(settings: Settings, overrides: dict[str, str]) -> Settings:
    """Settings with some values replaced; keys are dotted paths, values YAML."""
    settings = copy.deepcopy(settings)
    for path, text in overrides.items():
        *parents, last = path.split(".")
        place = settings
        for key in parents:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--{path}: {key} is a value, it has no settings inside")
        place[last] = yaml.safe_load(text)
    return settings


def resolve(settings: Settings) -> Settings:
    """Check settings against the constructors and fill in every default, without building anything.

    Raises:
        ConfigError: an unknown key, a wrong type or a missing value, named.
    """
    _check_entries(settings)
    parser = _parser(Comparison)
    return yaml.safe_load(parser.dump(_parsed(parser, settings, ""), skip_unset=False))


def build(settings: Settings, model: str | None = None) -> Comparison:
    """The objects that resolved settings describe.

    Random numbers are drawn by the models' constructors: seed first.

    Args:
        settings: resolved.
        model: build no model but this one.

    Raises:
        ConfigError: a constructor refused its arguments, or parts do not fit each other.
    """
    if model is not None:
        settings = settings | {part: {model: settings[part][model]} for part in ("models", "training", "sites")}
        settings["evaluation"] = settings["evaluation"] | {
            "robust": [n for n in settings["evaluation"]["robust"] if n == model]
        }
    parser = _parser(Comparison)
    try:
        return Comparison(**vars(parser.instantiate(_parsed(parser, settings, ""))))
    except (TypeError, ValueError) as error:
        raise ConfigError(_one_line(error)) from None


def differences(left: Settings, right: Settings, prefix: str = "") -> list[str]:
    """Dotted paths at which two settings differ."""
    if not isinstance(left, dict) or not isinstance(right, dict):
        return [] if left == right else [prefix]
    found = []
    for key in [*left, *(key for key in right if key not in left)]:
        path = f"{prefix}.{key}" if prefix else str(key)
        found += differences(left.get(key), right.get(key), path) if key in left and key in right else [path]
    return found


def _check_entries(settings: Settings) -> None:
    """Named entries of the same kind are checked one by one, so that an error names the entry and the key."""
    for part, kind in (("training", Training), ("sites", Sites)):
        entries = settings.get(part)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            _parsed(_parser(kind), entry, f"{part}.{name}: ")


def _parser(kind: type) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, fail_untyped=True)
    return parser


def _parsed(parser: ArgumentParser, settings: Any, where: str) -> Any:
    if not isinstance(settings, dict):
        raise ConfigError(f"{where}expected a mapping of settings, got {settings!r}")
    try:
        return parser.parse_object(copy.deepcopy(settings))  # it fills in what it is given
    except Exception as error:  # jsonargparse raises argparse's errors, and passes on what constructors' checks raise
        raise ConfigError(where + _one_line(error)) from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
