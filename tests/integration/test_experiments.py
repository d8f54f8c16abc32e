"""The harness of every experiment: parts, resuming, locks, executors, borrowed runs, exit codes."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
import yaml

from pcnet.experiments import (
    Borrowed,
    ConfigError,
    Executor,
    Experiment,
    InThisProcess,
    Job,
    LocalWorkers,
    Report,
    RunFailed,
    RunFolder,
    Schema,
    Tables,
    command,
    run,
)
from pcnet.experiments.executors import Desk
from pcnet.experiments.settings import resolve

SQUARES = f"{__name__}.Squares"
SUMS = f"{__name__}.Sums"
DONE: list[str] = []
"""What jobs in this process have done."""


@dataclass(frozen=True)
class Squares(Experiment):
    """Squares of some numbers, each a job, and their sum, which needs them all.

    Args:
        numbers: to be squared.
        broken: numbers whose job fails.
    """

    numbers: list[int] = field(default_factory=lambda: [1, 2, 3])
    broken: list[int] = field(default_factory=list)

    name: ClassVar[str] = "squares"
    schema = Schema(squares="number square word:text odd:flag", sums="total")
    smoke: ClassVar[dict] = {"numbers": [1]}

    def jobs(self) -> list[Job]:
        return [Job("sum", self.add, tuple(f"square-{n}" for n in self.numbers)), *self.squares(), *self.timed()]

    def squares(self) -> list[Job]:
        return [Job(f"square-{n}", partial(self.square, n)) for n in self.numbers]

    def timed(self) -> list[Job]:
        return [Job("timed", partial(self.square, 0), alone=True)]

    def square(self, number: int, files: Path, told: Report) -> Tables:
        DONE.append(f"square-{number}")
        if number in self.broken:
            raise ArithmeticError(f"{number} has no square today")
        told(1, 1, None)
        (files / f"square-{number}.txt").write_text(str(number**2))
        word = "" if number == 0 else str(number)
        return {
            "squares": pd.DataFrame([{"number": number, "square": number**2, "word": word, "odd": number % 2 == 1}])
        }

    def add(self, files: Path, told: Report) -> Tables:
        return {
            "sums": pd.DataFrame([{"total": sum(int((files / f"square-{n}.txt").read_text()) for n in self.numbers)}])
        }

    def report(self, folder: RunFolder) -> str:
        return f"{len(folder.table('squares'))} squares"


@dataclass(frozen=True)
class Sums(Experiment):
    """Uses the squares of another run.

    Args:
        runs: where that run lies.
    """

    runs: str | None = None

    name: ClassVar[str] = "sums"
    schema = Schema(sums="total")

    def borrowed(self, folder: Path) -> list[Borrowed]:
        return [
            Borrowed(self.where(folder), {"class_path": SQUARES, "init_args": {}}, lambda squares: squares.squares())
        ]

    def where(self, folder: Path) -> Path:
        return Path(self.runs or folder / "runs") / "squares"

    def jobs(self) -> list[Job]:
        return [Job("sum", self.add)]

    def add(self, files: Path, told: Report) -> Tables:
        table = RunFolder(self.where(files), Squares.schema).table("squares")
        return {"sums": pd.DataFrame([{"total": table["square"].sum()}])}

    def report(self, folder: RunFolder) -> str:
        return str(int(folder.table("sums")["total"].sum()))


def settings(class_path: str = SQUARES, **arguments: object) -> dict:
    return resolve({"class_path": class_path, "init_args": arguments})


class OnAnotherDisk(Executor):
    """Does every job in a folder of its own, into which the files of the run are carried, and back."""

    def do(self, jobs: Sequence[Job], desk: Desk) -> list[str]:
        waiting = list(jobs)
        while job := desk.ready(waiting):
            waiting.remove(job)
            with tempfile.TemporaryDirectory() as private:
                for path in desk.folder.path.glob("*.txt"):
                    shutil.copy(path, private)
                tables = job.work(Path(private), lambda *_: None)
                for path in Path(private).iterdir():
                    shutil.copy(path, desk.folder.path)
            desk.keep(job, tables)
        return []


@pytest.mark.parametrize(
    "executor", [InThisProcess(), LocalWorkers(2), OnAnotherDisk()], ids=lambda e: type(e).__name__
)
def test_whoever_does_the_jobs_the_tables_are_the_same(executor: Executor, tmp_path: Path) -> None:
    record = run(settings(), tmp_path, executor)
    assert record.folder.table("sums")["total"].tolist() == [14]
    squares = record.folder.table("squares").sort_values("number")
    assert squares["square"].tolist() == [0, 1, 4, 9]
    assert squares["word"].tolist() == ["", "1", "2", "3"] and squares["odd"].tolist() == [False, True, False, True]
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == settings()
    assert (tmp_path / "squares.md").read_text() == record.text + "\n"


def test_a_finished_job_is_not_done_again(tmp_path: Path) -> None:
    run(settings(), tmp_path, InThisProcess())
    DONE.clear()
    shutil.rmtree(tmp_path / "parts" / "square-2")
    assert run(settings(), tmp_path, InThisProcess()).folder.table("sums")["total"].tolist() == [14]
    assert DONE == ["square-2"]


def test_a_failure_stops_only_what_needs_it(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="square-2") as failure:
        run(settings(broken=[2]), tmp_path, LocalWorkers(2))
    assert "ArithmeticError" in str(failure.value)
    folder = RunFolder(tmp_path, Squares.schema)
    assert sorted(folder.table("squares")["number"]) == [0, 1, 3]
    assert not folder.has("sum")


def test_a_job_that_needs_what_failed_is_named(tmp_path: Path) -> None:
    """Where jobs are done in this process, the error itself comes out, with its traceback."""
    with pytest.raises(ArithmeticError):
        run(settings(broken=[2]), tmp_path, InThisProcess())


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    with RunFolder(tmp_path, Squares.schema).locked(), pytest.raises(ConfigError, match="in use"):
        run(settings(), tmp_path, InThisProcess())


def test_jobs_of_another_run_are_done_in_its_folder_and_kept_there(tmp_path: Path) -> None:
    DONE.clear()
    assert run(settings(SUMS, runs=str(tmp_path / "runs")), tmp_path / "sums", InThisProcess()).text == "14"
    assert run(settings(SUMS, runs=str(tmp_path / "runs")), tmp_path / "again", InThisProcess()).text == "14"
    assert DONE == ["square-1", "square-2", "square-3"]
    record = run(settings(), tmp_path / "runs" / "squares", InThisProcess())  # the run itself goes on from there
    assert record.folder.table("sums")["total"].tolist() == [14] and DONE[3:] == ["square-0"]


@pytest.mark.parametrize(
    ("table", "named"),
    [({"cubes": "number"}, "cubes"), ({"sums": "total more"}, "more"), ({"sums": ""}, "total")],
)
def test_a_table_that_is_not_as_the_schema_says_is_refused(table: dict[str, str], named: str, tmp_path: Path) -> None:
    tables = {name: pd.DataFrame(columns=columns.split()) for name, columns in table.items()}
    with pytest.raises(ValueError, match=named):
        RunFolder(tmp_path, Squares.schema).add("part", tables)
    assert not (tmp_path / "parts").exists()


def test_a_column_is_renamed_only_where_its_table_has_no_such_name(tmp_path: Path) -> None:
    schema = Schema(probes="scale", verdicts="gain")
    for name, column in {"probes": "gain", "verdicts": "gain"}.items():
        pd.DataFrame({column: [0.5]}).to_csv(tmp_path / f"{name}.csv", index=False)
    assert [schema.read(tmp_path / f"{name}.csv", name).iloc[0, 0] for name in schema] == [0.5, 0.5]


def test_a_schema_knows_its_kinds() -> None:
    with pytest.raises(ValueError, match="date"):
        Schema(one="when:date")


@pytest.mark.parametrize("count", [0, -1])
def test_there_is_at_least_one_worker(count: int) -> None:
    with pytest.raises(ValueError, match="count"):
        LocalWorkers(count)


def test_the_number_of_workers_is_that_of_the_processors_this_process_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    monkeypatch.setattr("pcnet.experiments.executors._Pool.__init__", lambda pool, count, desk: counts.append(count))
    monkeypatch.setattr("pcnet.experiments.executors._Pool.do", lambda pool, todo: [])
    run(settings(numbers=[1, 2, 3, 4]), tmp_path, LocalWorkers())
    assert counts == [2, 1]  # and alone what is timed


COMMANDS = {
    "a shortened run": (["--smoke"], 0, "2 squares\n"),
    "settings": (["--numbers", "[4, 5]"], 0, "3 squares\n"),
    "nothing to draw": (["--replot"], 2, "squares"),
    "an unknown setting": (["--nombers", "[4]"], 2, "nombers"),
    "a wrong type": (["--numbers", "many"], 2, "numbers"),
    "no YAML": (["--numbers", "[4"], 2, "--numbers"),
    "no value": (["--numbers"], 2, "--numbers"),
    "a failure": (["--broken", "[2]"], 1, "square-2"),
}


@pytest.mark.parametrize(("arguments", "code", "told"), COMMANDS.values(), ids=COMMANDS)
def test_the_door(
    arguments: list[str],
    code: int,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    workers = [] if code == 1 else ["--workers", "0"]
    assert command(SQUARES, [*arguments, *workers]) == code
    said = capsys.readouterr()
    assert said.out == told if code == 0 else told in said.err
    assert code == 0 or not said.out
    assert code != 2 or (len(said.err.splitlines()) == 1 and not Path("runs").exists())


def test_drawing_again_computes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(SQUARES, ["--workers", "0"]) == 0
    printed, _ = capsys.readouterr(), DONE.clear()
    assert command(SQUARES, ["--replot"]) == 0
    assert capsys.readouterr().out == printed.out and not DONE


def test_help_names_every_setting_and_option(capsys: pytest.CaptureFixture) -> None:
    assert command(SQUARES, ["--help"]) == 0
    told = capsys.readouterr().out
    assert {"--numbers", "--broken", "--out", "--smoke", "--replot", "--workers"} <= set(told.replace("[", " ").split())


@pytest.mark.parametrize(
    "class_path", ["os.system", "pcnet.GRU", "nowhere.Thing", "Thing", "pcnet.experiments.Nothing"]
)
def test_only_experiments_are_run(class_path: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(ConfigError, match="class_path"):
        resolve({"class_path": class_path, "init_args": {}})
