"""The comparison with other libraries: what it calls right, what it counts, how it times, and what becomes of failures."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from comparisons.library_speed import LibrarySpeed, environments, table
from comparisons.library_speed.environments import InstallError, interpreter
from comparisons.library_speed.reference import Variant, differences, reference
from comparisons.library_speed.roster import PEERS, Peer
from comparisons.library_speed.task import LARGE, SMALL, SMOKE, Task
from comparisons.library_speed.workers import Separate, WorkerError
from comparisons.peers import pcnet_step, torch_loops, worker
from pcnet.experiments import InThisProcess, RunFolder, command, run
from pcnet.experiments.settings import resolve

CLASS = "comparisons.library_speed.LibrarySpeed"
VARIANTS = {"as stated": Variant(), "activation first, summed": Variant(activation_first=True, summed=True)}


def by_hand(task: dict[str, np.ndarray], variant: Variant, lag: bool = False) -> tuple[list, list, list]:
    """Values and gradients by adjoints written out in numpy; with `lag`, errors of the iteration before the last."""
    depth = len(task["widths"]) - 1
    weights = [task[f"weight{i}"].astype(float) for i in range(depth)]
    biases = [task[f"bias{i}"].astype(float) for i in range(depth)]
    values = [task["inputs"][0].astype(float)]
    y = task["targets"][0].astype(float)

    def seen(i: int, x: np.ndarray) -> np.ndarray:  # what the weights of level i + 1 are multiplied with
        return np.tanh(x) if variant.activation_first and i else x

    def predicted(i: int, x: np.ndarray) -> np.ndarray:
        drive = seen(i, x) @ weights[i].T + biases[i]
        return drive if variant.activation_first or i == depth - 1 else np.tanh(drive)

    def sent(levels: list[np.ndarray]) -> list[np.ndarray]:  # dF/d(drive), negated
        found = []
        for i in range(depth):
            mu = predicted(i, levels[i])
            slope = 1 if variant.activation_first or i == depth - 1 else 1 - mu**2
            found.append((levels[i + 1] - mu) * slope)
        return found

    for i in range(depth - 1):
        values.append(predicted(i, values[-1]))
    values.append(y)
    for _ in range(int(task["iterations"])):
        back, before = sent(values), values
        moved = [values[0]]
        for i in range(1, depth):
            slope = 1 - np.tanh(values[i]) ** 2 if variant.activation_first else 1
            pull = (back[i] @ weights[i]) * slope - (values[i] - predicted(i - 1, values[i - 1]))
            moved.append(values[i] + float(task["step_size"]) * pull)
        values = [*moved, y]
    at = before if lag else values
    rows = 1 if variant.summed else len(y)
    back = sent(at)
    return (
        values[1:-1],
        [-(b.T @ seen(i, at[i])) / rows for i, b in enumerate(back)],
        [-b.sum(0) / rows for b in back],
    )


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_the_reference_is_the_formula(variant: Variant) -> None:
    task = SMOKE.arrays()
    expected = reference(task, variant)
    values, weights, biases = by_hand(task, variant)
    for found, wanted in zip(
        (*expected.values, *expected.weights, *expected.biases), (*values, *weights, *biases), strict=True
    ):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-11, atol=1e-13)


def written(task: dict[str, np.ndarray], weights: list, biases: list, values: list) -> dict[str, np.ndarray]:
    """What a worker's check writes if these are its gradients and values."""
    found = {f"value{i}": value for i, value in enumerate(values, 1)}
    for kind, gradients in (("weight", weights), ("bias", biases)):
        for i, gradient in enumerate(gradients):
            found[f"descent_{kind}{i}"] = task[f"{kind}{i}"] - float(task["gradient_scale"]) * gradient
            found[f"adam_{kind}{i}"] = task[f"{kind}{i}"] - float(task["adam_rate"]) * gradient / (
                np.abs(gradient) + 1e-8
            )
    return found


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_differences_see_every_kind_of_mistake(variant: Variant) -> None:
    task = SMOKE.arrays()
    expected = reference(task, variant)
    values, weights, biases = by_hand(task, variant)
    right = written(task, weights, biases, values)
    assert max(differences(task, right, expected).values()) < 1e-10
    off = right | {"value2": 1.001 * values[1]}
    assert differences(task, off, expected)["values"] == pytest.approx(1e-3)
    off = written(task, [weights[0], 1.001 * weights[1], weights[2]], biases, values)
    assert differences(task, off, expected)["gradients"] == pytest.approx(1e-3)
    off = right | {"adam_bias0": task["bias0"] + 1.001 * (right["adam_bias0"] - task["bias0"])}
    assert differences(task, off, expected)["adam"] == pytest.approx(1e-3)
    _, lagged, lagged_biases = by_hand(task, variant, lag=True)  # a mistake that libraries make
    assert differences(task, written(task, lagged, lagged_biases, values), expected)["gradients"] > 1e-2
    for other in VARIANTS.values():
        assert other == variant or max(differences(task, right, reference(task, other)).values()) > 1e-2


@pytest.mark.parametrize(
    "task", [SMOKE, Task("odd", (7, 5, 6, 4, 3), 3, rounds=1, batch=2)], ids=lambda task: task.name
)
def test_operations_are_those_of_the_loop(task: Task) -> None:
    """Counted by torch while the loop runs."""
    arrays = task.arrays()
    depth = len(task.widths) - 1
    weights, biases = ([torch.tensor(arrays[f"{kind}{i}"]) for i in range(depth)] for kind in ("weight", "bias"))
    with FlopCounterMode(display=False) as counter:
        torch_loops.settle(task.iterations, task.step_size)(
            weights, biases, torch.tensor(arrays["inputs"][0]), torch.tensor(arrays["targets"][0])
        )
    assert counter.get_total_flops() == task.operations


def test_operations_of_the_published_tasks() -> None:
    assert round(SMALL.operations / 1e9, 2) == 1.70
    assert round(LARGE.operations / 1e9, 1) == 112.0


def test_ratios_are_taken_within_a_round() -> None:
    """The machine is slow in every other round, for everyone: ratios don't see it, and the rate is that of the best burst."""
    rows = []
    for k in range(10):
        slow = 1 + k % 2
        for name, wall in (("pcnet", 20.0), ("pcx", 25.0), ("matrix256", 0.4)):
            rows.append({"implementation": name, "round": k, "wall_ms": wall * slow, "cpu_ms": wall})
    rounds = pd.DataFrame(rows).assign(task="small", threads=1, steps=1)
    status = pd.DataFrame(
        {"implementation": ["pcnet", "pcx", "jpc"], "label": ["pcnet", "PCX", "JPC"], "status": "timed"}
    )
    summary = table.summarise(status.assign(task="small", threads=1), rounds)
    pcx = summary.set_index("implementation").loc["pcx"]
    np.testing.assert_allclose([pcx.ratio, pcx.ratio_low, pcx.ratio_high, pcx.ratio_min], 1.25)
    assert pcx.pcnet_takes == pytest.approx(0.8)
    rate = 2 * 256**3 / 0.4e-3
    assert pcx.share_min == pytest.approx(SMALL.operations / 25e-3 / rate)
    assert summary.set_index("implementation").median_ms.isna().loc["jpc"]
    lines = table.verdicts(summary)
    assert any("0.80 of PCX" in line and line.endswith(": met") for line in lines)
    assert any("of the matrix rate" in line and line.endswith("NOT met") for line in lines) == (
        SMALL.operations / 20e-3 / rate < 0.8
    )


def timed(folder: Path, **settings: object) -> pd.DataFrame:
    """The summary, by implementation, of a shortened run in this process."""
    settings = {**LibrarySpeed.smoke, "environments": str(folder / "environments"), **settings}
    run(resolve({"class_path": CLASS, "init_args": settings}), folder, InThisProcess())
    return LibrarySpeed(**settings).summary(RunFolder(folder, LibrarySpeed.schema)).set_index("implementation")


def test_smoke_checks_times_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--smoke", "--out", str(tmp_path), "--workers", "0"]
    assert command(CLASS, arguments) == 0
    printed = capsys.readouterr().out
    short = LibrarySpeed(**LibrarySpeed.smoke)
    summary = short.summary(RunFolder(tmp_path, short.schema)).set_index("implementation")
    assert list(summary.index) == ["pcnet", *short.peers]
    assert (summary.status == "timed").all()
    assert (summary.filter(like="error_") < 1e-5).all(axis=None)
    assert (summary[["min_ms", "median_ms", "min_cpu_ms", "matrix256_gflops", "matrix1024_gflops"]] > 0).all(axis=None)
    assert (summary.min_ms <= summary.median_ms).all()
    assert summary.ratio["pcnet"] == 1 and (summary.rounds == SMOKE.rounds).all()
    figure = tmp_path / "library_speed.png"
    drawn = figure.read_bytes()
    figure.unlink()
    assert command(CLASS, [*arguments, "--replot"]) == 0
    assert capsys.readouterr().out == printed
    assert figure.read_bytes() == drawn and drawn.startswith(b"\x89PNG")


def test_what_computes_something_else_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch_loops.energy
    monkeypatch.setattr(torch_loops, "energy", lambda *arguments: 1.01 * right(*arguments))
    summary = timed(tmp_path)
    assert summary.error_gradients["torch_states"] > 0.01
    assert (summary.status == "timed").to_dict() == {"pcnet": True, "torch_states": False, "torch_tutorial": False}
    assert summary.median_ms.isna().tolist() == (summary.status != "timed").tolist()


def test_what_cannot_be_installed_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(home: Path, *rest: object) -> None:
        raise InstallError("No matching distribution found")

    monkeypatch.setattr(environments, "make", refuse)
    summary = timed(tmp_path, peers=["pcx", "torch_states"])
    assert summary.status["pcx"].endswith("No matching distribution found")
    assert np.isnan(summary.ratio["pcx"]) and summary.ratio["torch_states"] > 0
    assert summary.status["pcx"] in (tmp_path / "library_speed.md").read_text()


def test_a_peer_that_stops_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, calls = torch_loops.Step.run, []

    def stop(step: torch_loops.Step, steps: int) -> None:
        calls.append(type(step))
        if (
            isinstance(step, torch_loops.Tutorial) and calls.count(torch_loops.Tutorial) == 5
        ):  # three to warm up, a round
            raise MemoryError("no more")
        right(step, steps)

    monkeypatch.setattr(torch_loops.Step, "run", stop)
    summary = timed(tmp_path)
    assert summary.status["torch_tutorial"] == "stopped in round 2: MemoryError: no more"
    assert np.isnan(summary.median_ms["torch_tutorial"]) and summary.rounds["torch_states"] == 3


def test_without_pcnet_the_others_are_still_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AttributeError("not there yet")

    monkeypatch.setattr(pcnet_step.Step, "given", refuse)
    summary = timed(tmp_path)
    assert summary.status["pcnet"] == "AttributeError: not there yet"
    assert summary.median_ms["torch_states"] > 0
    assert summary.status["pcnet"] in (tmp_path / "library_speed.md").read_text()


def test_a_failed_command_says_why(tmp_path: Path) -> None:
    script = "print('ERROR: No matching distribution found for nothing'); print('a hint'); raise SystemExit(1)"
    with pytest.raises(InstallError, match=r"^No matching distribution found for nothing$"):
        environments.call([sys.executable, "-c", script], tmp_path / "log")
    with pytest.raises(InstallError, match="no-such-command"):
        environments.call([str(tmp_path / "no-such-command")], tmp_path / "log")


def test_an_interrupted_environment_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make(home: Path, python: Path, *rest: object) -> None:
        made.append(home)
        python.parent.mkdir(parents=True, exist_ok=True)
        python.symlink_to(sys.executable) if not python.exists() else None
        if len(made) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(environments, "make", make)
    with pytest.raises(KeyboardInterrupt):
        interpreter(PEERS["pcx"], tmp_path)
    assert interpreter(PEERS["pcx"], tmp_path) == interpreter(PEERS["pcx"], tmp_path)
    assert len(made) == 2
    other = Peer("pcx", "", "", (("pcx==0.6.2",),))
    interpreter(other, tmp_path)
    assert len(made) == 3 and made[2] != made[1]


STUB = """
import os, time
import numpy as np
class Step:
    def __init__(self, task, threads):
        print("a library that talks")
        if float(task["broken"]): raise RuntimeError("cannot start\\nsecond line")
    def run(self, steps):
        if steps > 100: os._exit(3)
        print("still talking"); time.sleep(0.01 * steps)
    def check(self): return {"answer": np.arange(3)}
    def versions(self): return {"threads": os.environ["OMP_NUM_THREADS"], "cores": len(os.sched_getaffinity(0))}
"""


def start(folder: Path, broken: float = 0.0) -> Separate:
    (folder / "stub.py").write_text(STUB)
    np.savez(folder / "task.npz", broken=broken)
    return Separate(Path(sys.executable), "stub:Step", folder / "task.npz", 1, folder / "log", (folder,))


@pytest.mark.skipif(not worker.CAN_PIN, reason="processes cannot be pinned here")
def test_a_worker_answers_in_turns(tmp_path: Path) -> None:
    with start(tmp_path) as stub:
        assert stub.about["versions"] == {"threads": "1", "cores": 1}
        assert stub.check(tmp_path / "found.npz")["answer"].tolist() == [0, 1, 2]
        taken = stub.run(5)
        assert taken["wall"] >= 0.05 > taken["cpu"]
    assert stub.process.poll() == 0
    assert "still talking" in (tmp_path / "log").read_text()


@pytest.mark.skipif(not worker.CAN_PIN, reason="processes cannot be pinned here")
def test_a_worker_that_fails_says_why_and_is_gone(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"^RuntimeError: cannot start$"):
        start(tmp_path, broken=1.0)
    with start(tmp_path) as stub:
        with pytest.raises(WorkerError):
            stub.run(101)
        assert stub.process.poll() == 3


@pytest.mark.parametrize(
    ("setting", "value"),
    [("peers", ("nobody",)), ("tasks", ("huge",)), ("rounds", 0), ("threads", (0,)), ("burst", -1.0)],
)
def test_settings_are_checked(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=setting):
        LibrarySpeed(**{setting: value})


@pytest.mark.slow
def test_the_command_in_a_process_of_its_own(tmp_path: Path) -> None:
    """As a person calls it, with a real environment that cannot be filled."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "comparisons.library_speed", "--smoke", "--out", str(tmp_path / "run")],
        cwd=Path(table.__file__).parents[2],
        check=True,
        capture_output=True,
    )
    assert time.perf_counter() - began < 60
    nothing = Peer("nothing", "", "", (("--no-index", "no-such-distribution-of-that-name"),))
    with pytest.raises(InstallError, match="No matching distribution"):
        interpreter(nothing, tmp_path / "environments")
