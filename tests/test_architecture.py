"""Which way imports point, what public names owe their readers, and how long a module may be."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import pcnet

ROOT = Path(pcnet.__file__).parent


def layers(*lines: str) -> tuple[frozenset[str], ...]:
    """The bottom first; names in one line stand side by side."""
    return tuple(frozenset(line.split()) for line in lines)


LAYERS = layers(
    "typing files tables",
    "predictor",
    "energies processes inference",
    "sites",
    "networks baselines",
    "learning",
    "probing efficiency diagnostics card",
    "data",
    "training report",
    "experiments",
    "cli",
)
"""Modules and packages of pcnet: each may import from the lines above its own, and from no other."""

ROOMS = {
    "processes": layers("models", "beliefs machines", "information", "zoo"),
    "probing": layers("rows", "regression", "interventions", "uncertainty", "controls", "geometry", "verdict"),
    "networks": layers("activations second_order", "layers base", "convolutions fast", "graph", "time"),
}
"""The same for the modules and packages of a package, by its path below pcnet."""

ALLOWED = {
    "lightning": ("data", "training"),
    "matplotlib": ("report",),
    "sklearn": ("probing", "data"),
    "rich": ("experiments",),
    "jsonargparse": ("experiments",),
}
"""Where a library may be imported."""

HEAVY = {"torch", "numpy", "pandas", "scipy", "sklearn", "lightning", "matplotlib", "torchvision"}
"""What `pcnet --help` must not wait for."""

MAX_LINES = 400
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "manager", "misc"}
DICTATED = {"probing/regression/probes.py": "scikit-learn clones an estimator by its constructor's bare parameters"}
"""Modules of which not every parameter is annotated, and why."""

MODULES = sorted(ROOT.rglob("*.py"))
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def unit(path: Path) -> str:
    """The module or package directly below pcnet that a file belongs to; empty for pcnet itself."""
    name = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if name == "__init__" else name


def imported(path: Path, nodes: Iterator[ast.AST]) -> set[str]:
    """Full names of what these nodes import: of modules, and of names that may be modules."""
    package = ["pcnet", *path.relative_to(ROOT).parts[:-1]]
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [] if not node.level else package[: len(package) - node.level + 1]
            base += [node.module] if node.module else []
            names |= {".".join([*base, alias.name]) for alias in node.names}
    return names


def at_import_time(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: everything but the bodies of functions and `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_import_time(child)


def neighbours(path: Path) -> set[str]:
    """Other modules and packages of pcnet that a file imports, at any time."""
    inside = {name.split(".")[1] for name in imported(path, ast.walk(tree(path))) if name.startswith("pcnet.")}
    return inside - {unit(path)}


def submodules(folder: Path) -> set[str]:
    """Names of the modules and packages directly inside a package."""
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return modules | {path.parent.name for path in folder.glob("*/__init__.py")}


def full_name(path: Path) -> str:
    return ".".join(["pcnet", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


def test_every_module_has_its_layer() -> None:
    listed = [name for layer in LAYERS for name in layer]
    assert len(listed) == len(set(listed))
    assert {unit(path) for path in MODULES} - {""} == set(listed), "every module needs a place in LAYERS"


@each_module
def test_imports_point_down(path: Path) -> None:
    rank = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
    own = rank.get(unit(path), len(LAYERS))
    assert [name for name in neighbours(path) if rank[name] >= own] == []


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_has_its_place(package: str) -> None:
    listed = [name for layer in ROOMS[package] for name in layer]
    assert sorted(listed) == sorted(submodules(ROOT / package))


@pytest.mark.parametrize("package", ROOMS)
def test_imports_between_rooms_point_down(package: str) -> None:
    rank = {name: rank for rank, layer in enumerate(ROOMS[package]) for name in layer}
    prefix = ["pcnet", *package.split("/")]
    wrong = []
    for path in (
        path for path in MODULES if (ROOT / package) in path.parents and path != ROOT / package / "__init__.py"
    ):
        own = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        parts = [name.split(".") for name in imported(path, ast.walk(tree(path)))]
        others = {name[len(prefix)] for name in parts if name[: len(prefix)] == prefix and len(name) > len(prefix)}
        wrong += [(path.stem, other) for other in others & rank.keys() - {own} if rank[other] >= rank[own]]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Counted are imports inside functions as well."""
    modules = {full_name(path): path for path in MODULES}
    graph = {}
    for module, path in modules.items():
        names = [name.split(".") for name in imported(path, ast.walk(tree(path)))]
        begun = [[".".join(name[:n]) for n in range(len(name), 0, -1)] for name in names]
        graph[module] = {next((name for name in starts if name in modules), "") for starts in begun} - {module, ""}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@each_module
def test_libraries_stay_where_they_belong(path: Path) -> None:
    used = {name.split(".")[0] for name in imported(path, ast.walk(tree(path)))} & ALLOWED.keys()
    assert {library for library in used if unit(path) not in ALLOWED[library]} == set()


def test_help_waits_for_nothing_heavy() -> None:
    """From the command line, following every import that runs when a module is imported, through packages as well."""
    todo, seen, heavy = ["pcnet.cli.verbs"], {"pcnet"}, {}
    while todo:
        name = todo.pop()
        parts = name.split(".")
        todo += [parent for parent in (".".join(parts[:n]) for n in range(1, len(parts))) if parent not in seen]
        base = ROOT.joinpath(*parts[1:])
        path = next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)
        if name in seen or path is None:  # a name inside a module whose parent is followed
            continue
        seen.add(name)
        for target in imported(path, at_import_time(tree(path))):
            if target.split(".")[0] == "pcnet":
                todo.append(target)
            elif target.split(".")[0] in HEAVY:
                heavy[name] = target
    assert heavy == {}


@each_module
def test_a_module_is_short_and_named_for_what_it_does(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
    assert not {part.removesuffix(".py") for part in path.relative_to(ROOT).parts} & BANNED_NAMES


@each_module
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree(path)) or not path.read_text().strip()


@each_module
def test_every_parameter_is_annotated(path: Path) -> None:
    bare = []
    for function in ast.walk(tree(path)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            signature = function.args
            parameters = [
                *signature.posonlyargs,
                *signature.args,
                *signature.kwonlyargs,
                signature.vararg,
                signature.kwarg,
            ]
            bare += [
                f"{function.name}({parameter.arg})"
                for parameter in parameters
                if parameter is not None and parameter.annotation is None and parameter.arg not in ("self", "cls")
            ]
    assert bare == [] or path.relative_to(ROOT).as_posix() in DICTATED


@each_module
def test_nobody_asks_what_an_object_happens_to_have(path: Path) -> None:
    """Structure is promised by types: no `hasattr`."""
    calls = [
        node.func.id for node in ast.walk(tree(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert "hasattr" not in calls


PACKAGES = sorted(
    path.parent.relative_to(ROOT.parent).as_posix().replace("/", ".") for path in ROOT.rglob("__init__.py")
)


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_exist_and_are_documented(package: str) -> None:
    """A docstring of its own, not one that dataclass or NamedTuple made up from the fields."""
    module = importlib.import_module(package)
    public = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
    documented = {name: value for name, value in public.items() if inspect.isclass(value) or inspect.isroutine(value)}
    made_up = {name for name, value in documented.items() if (value.__doc__ or "").startswith(f"{name}(")}
    assert {name for name, value in documented.items() if not value.__doc__} | made_up == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_shares_its_name_with_a_function_that_its_package_exports(package: str) -> None:
    """Which of the two `package.name` is would depend on what was imported before."""
    module = importlib.import_module(package)
    inside = submodules(ROOT.parent.joinpath(*package.split(".")))
    assert inside & set(getattr(module, "__all__", ())) == set()


@each_module
def test_a_package_exports_in_one_block(path: Path) -> None:
    """An `__init__.py` imports and lists; it computes nothing."""
    if path.name == "__init__.py":
        allowed = ast.Import | ast.ImportFrom | ast.Assign | ast.Expr
        assert [ast.unparse(node) for node in tree(path).body if not isinstance(node, allowed)] == []


MOST_PARAMETERS = 7
MANY = {
    "inference/loop.py solve": "every one a setting of the only loop",
    "baselines/transformer.py __init__": "a transformer's sizes, which configurations name one by one",
    "data/patches.py __init__": "what is cut, how and how many, as configurations name it",
}
"""Functions with more parameters than that, and why."""


@each_module
def test_what_always_travels_together_is_an_object(path: Path) -> None:
    """scikit-learn's estimators have bare parameters; everything else at most seven."""
    name, many = path.relative_to(ROOT).as_posix(), []
    for function in ast.walk(tree(path)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and name not in DICTATED:
            signature = function.args
            parameters = [*signature.posonlyargs, *signature.args, *signature.kwonlyargs]
            count = len([each for each in parameters if each.arg not in ("self", "cls")])
            many += [function.name] * (count > MOST_PARAMETERS and f"{name} {function.name}" not in MANY)
    assert many == []


@each_module
def test_nobody_outside_asks_whether_a_model_is_one_particular_network(path: Path) -> None:
    """What a run asks of a model that infers goes through `Iterates`."""
    if unit(path) not in ("networks", "learning"):
        asked = [
            ast.unparse(node)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call)
            and ast.unparse(node.func) == "isinstance"
            and "TemporalPC" in ast.unparse(node)
        ]
        assert asked == []
