"""The two READMEs: their commands run, their Python runs and is typed, and what they point at exists."""

import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from pcnet.cli import verbs as cli

ROOT = Path(__file__).parents[2]
README, RESULTS = ROOT / "README.md", ROOT / "comparisons" / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)

TYPED = """\
import torch
from typing import assert_type

import pcnet
from pcnet.probing import Subject, Verdict

network, tokens = pcnet.TemporalPC(vocab_size=3, width=4, levels=2), torch.zeros(1, 2, dtype=torch.long)
states = pcnet.capture(network, tokens, "layers.*.value")["layers.1.value"]
rows = pcnet.words(pcnet.zrr(), 3)
subject = Subject(pcnet.zrr(), rows, rows.filtered)
assert_type(states, torch.Tensor)
assert_type(pcnet.mess3(), pcnet.HiddenMarkovModel)
assert_type(pcnet.HierarchicalPC([2, 1]), pcnet.HierarchicalPC)
assert_type(pcnet.judge({"site": states}, subject), Verdict)
"""
"""What a checker must find right."""

WRONG = {
    "a network's widths": "pcnet.HierarchicalPC('wide')",
    "a setting that is not there": "pcnet.TemporalPC(vocab_size=3, widht=4)",
    "a rule's batch": "pcnet.Local().loss(pcnet.HierarchicalPC([2, 1]), 3, 4)",
    "what was captured": "pcnet.capture(torch.nn.Linear(2, 1), torch.zeros(2), '*')['layers.1.value'].vaule",
    "a process": "pcnet.mess3().number_of_states",
    "a verdict's sites": "pcnet.judge(3, 4)",
    "what is observed": "pcnet.observe(pcnet.mess3(), 8, 8).belief",
}
"""What a checker must refuse; where a name is Any it refuses nothing."""


def errors(*files: Path) -> list[dict]:
    """What the type checker has against some files, as their writer's own checker would see pcnet."""
    command = [sys.executable, "-m", "pyrefly", "check", "--output-format", "json", "--preset", "default"]
    paths = ["--python-interpreter-path", sys.executable, "--search-path", str(ROOT)]
    done = subprocess.run([*command, *paths, *map(str, files)], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode in (0, 1), done.stderr
    return [each for each in json.loads(done.stdout)["errors"] if each["severity"] == "error"]


def written(folder: Path, texts: dict[str, str]) -> list[Path]:
    """Python files of these texts."""
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def test_every_command_to_compare_runs_shortened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = re.findall(r"^(?:.*&& )?pcnet (compare.*)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert commands, "the README shows no command"
    ran = []

    def note(settings: dict, out: Path, *_: object) -> SimpleNamespace:
        ran.append((settings, out))
        return SimpleNamespace(text="")

    monkeypatch.setattr("pcnet.experiments.harness.run", note)
    monkeypatch.chdir(tmp_path)
    for command in dict.fromkeys(commands):
        words = shlex.split(command, comments=True)
        if "--replot" not in words:
            assert cli.main([*words, "--smoke"]) == 0, command
    assert len(ran) >= 2


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block {number}" for number in range(len(BLOCKS))])
def test_the_python_runs(block: str, capsys: pytest.CaptureFixture) -> None:
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_python_is_typed(tmp_path: Path) -> None:
    texts = {f"block_{number}.py": block for number, block in enumerate(BLOCKS)} | {"typed.py": TYPED}
    assert not errors(*written(tmp_path, texts))
    assert (ROOT / "pcnet" / "py.typed").is_file(), "checkers look for annotations only where this file is"


def test_no_public_name_is_any(tmp_path: Path) -> None:
    texts = {
        f"wrong_{number}.py": f"import torch\nimport pcnet\n\n{line}\n" for number, line in enumerate(WRONG.values())
    }
    refused = {Path(each["path"]).name for each in errors(*written(tmp_path, texts))}
    assert [what for what, name in zip(WRONG, texts) if name not in refused] == []


@pytest.mark.parametrize("page", [README, RESULTS], ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_pointed_at_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    modules = set(re.findall(r"python -m (comparisons\.[a-z_]+)", text))
    assert [module for module in modules if find_spec(module) is None] == []
    headings = {_anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    links = set(re.findall(r"\]\(([^)\s]+)\)", text))
    here = {link for link in links if not link.startswith("http")}
    assert {link[1:] for link in here if link.startswith("#")} <= headings
    assert [
        link for link in here if not link.startswith("#") and not (page.parent / link.partition("#")[0]).exists()
    ] == []


def test_every_figure_stands_on_a_page() -> None:
    drawn = {figure.name for figure in (ROOT / "comparisons" / "figures").glob("*.png")}
    pages = README.read_text(encoding="utf-8") + RESULTS.read_text(encoding="utf-8")
    assert drawn == set(re.findall(r"figures/([\w-]+\.png)\)", pages))


def _anchor(heading: str) -> str:
    """The name that a heading gets on a page: lower case, hyphens for spaces, no punctuation."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
