"""The processes that have a name, with their parameters, as their docstrings explain them."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import NoneType, UnionType
from typing import Union, get_args, get_origin, get_type_hints

import torch

from pcnet import processes
from pcnet.processes import Process

Value = bool | int | float | tuple[float, ...] | None
SECTION = re.compile(r"^(\w+):", re.MULTILINE)


@dataclass(frozen=True)
class Parameter:
    """A number, or several, that a process depends on.

    Args:
        name: as in the function's signature.
        kind: bool, int, float, or tuple for several numbers.
        default: what it is if not given; `inspect.Parameter.empty` if it has to be.
        explanation: the docstring's, on one line.
    """

    name: str
    kind: type
    default: object
    explanation: str

    @property
    def required(self) -> bool:
        """Whether it has to be given."""
        return self.default is inspect.Parameter.empty

    @property
    def metavar(self) -> str:
        """Placeholder of its value in a command's help."""
        return {bool: "true|false", int: "INTEGER", float: "NUMBER", tuple: "NUMBERS"}[self.kind]

    def parse(self, text: str) -> Value:
        """Read the value from a text: fractions such as 1/3 are understood, and commas between several numbers.

        Raises:
            ValueError: if the text is no such value.
        """
        try:
            if self.kind is tuple:
                return tuple(_number(part) for part in text.strip("()[] ").replace(",", " ").split())
            if self.kind is bool:
                return {"true": True, "false": False}[text.lower()]
            return int(text) if self.kind is int else _number(text)
        except (ValueError, KeyError, ZeroDivisionError):
            wanted = {bool: "true or false", int: "an integer", float: "a number", tuple: "numbers with commas between"}
            raise ValueError(f"--{self.name} must be {wanted[self.kind]}, got {text!r}") from None


@dataclass(frozen=True)
class Entry:
    """A function that builds a process.

    Args:
        name: of the function.
        build: itself.
        explanation: its docstring.
        parameters: what it takes, by name.
        random: whether it takes a generator.
    """

    name: str
    build: Callable[..., Process]
    explanation: str
    parameters: Mapping[str, Parameter]
    random: bool

    @property
    def summary(self) -> str:
        """First sentence of the docstring, without the verb that it begins with."""
        first = _flow(re.split(r"\.\s", self.explanation + " ", maxsplit=1)[0]).rstrip(".")
        return re.sub(r"^Build (the |a |an )?", "", first)

    @property
    def description(self) -> str:
        """The docstring up to its first section, and the reference."""
        described = SECTION.split(self.explanation, maxsplit=1)[0].strip()
        return f"{described}\n\nReference: {self.reference}" if self.reference else described

    @property
    def reference(self) -> str:
        """Where the process comes from; empty if the docstring doesn't say."""
        return sections(self.explanation).get("Reference", "")

    def make(self, values: Mapping[str, Value], seed: int = 0) -> Process:
        """Build the process; what isn't among the values has its default.

        Raises:
            ValueError: if a value that has no default is missing, or the function refuses one.
            TypeError: if the function refuses the type of one.
        """
        missing = [name for name, parameter in self.parameters.items() if parameter.required and name not in values]
        if missing:
            raise ValueError(f"{self.name} needs {', '.join(f'--{name}' for name in missing)}")
        generator = {"generator": torch.Generator().manual_seed(seed)} if self.random else {}
        return self.build(**values, **generator)


def catalogue() -> dict[str, Entry]:
    """Every public function of `pcnet.processes` that builds a process from numbers, by name."""
    public = {name: getattr(processes, name) for name in processes.__all__}
    entries = {name: _entry(name, value) for name, value in sorted(public.items()) if inspect.isfunction(value)}
    return {name: entry for name, entry in entries.items() if entry is not None}


def sections(explanation: str) -> dict[str, str]:
    """Sections of a docstring in Google's style, by title, each on one line; the text before the first under ''."""
    parts = SECTION.split(inspect.cleandoc(explanation))
    return {title: _flow(body) for title, body in zip(["", *parts[1::2]], parts[::2], strict=True)}


def _entry(name: str, build: Callable[..., object]) -> Entry | None:
    hints = get_type_hints(build)
    made = hints.pop("return", NoneType)
    if not (inspect.isclass(made) and issubclass(made, Process)):
        return None
    random = hints.pop("generator", None) is not None
    kinds = {parameter: _kind(hint) for parameter, hint in hints.items()}
    if None in kinds.values():
        return None
    explained = _arguments(build.__doc__ or "")
    signature = inspect.signature(build).parameters
    parameters = {p: Parameter(p, k, signature[p].default, explained.get(p, "")) for p, k in kinds.items()}
    return Entry(name, build, inspect.cleandoc(build.__doc__ or ""), parameters, random)


def _kind(hint: object) -> type | None:
    """bool, int, float or tuple for what is written so or as a sequence of numbers; None for anything else."""
    if get_origin(hint) in (Union, UnionType):
        kinds = {_kind(option) for option in get_args(hint) if option is not NoneType}
        return kinds.pop() if len(kinds) == 1 else None
    if get_origin(hint) in (tuple, list, Sequence):
        return tuple if {*get_args(hint)} <= {int, float, Ellipsis} else None
    return hint if hint in (bool, int, float) else None


def _arguments(explanation: str) -> dict[str, str]:
    """What a docstring says about each argument."""
    body = re.search(r"^Args:\n((?:[ \t].*\n?|\n)+)", inspect.cleandoc(explanation), re.MULTILINE)
    parts = re.split(r"^    (\w+): ", body[1], flags=re.MULTILINE) if body else [""]
    return {name: _flow(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _number(text: str) -> float:
    return float(Fraction(text.strip())) if "/" in text else float(text)


def _flow(text: str) -> str:
    return " ".join(text.split())
