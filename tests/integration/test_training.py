"""Streams that can be taken up anywhere, training that goes on as if never interrupted, files that are whole or absent."""

import itertools
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from pcnet.baselines import GRU
from pcnet.data import SequenceData, SequenceStream
from pcnet.data.sequences import optimal_loss, stream_seed
from pcnet.inference import Euler, Inference
from pcnet.learning import Backprop, Implicit, LearningRule, Local, Nudged, Unrolled
from pcnet.learning.training import Training
from pcnet.networks import TemporalPC
from pcnet.predictor import Predictor
from pcnet.processes import mess3, myopic_entropies, rrxor
from pcnet.training import (
    Checkpoints,
    CurvePoint,
    InferenceDiagnostics,
    LearningCurve,
    NextToken,
    Progress,
    SafeCheckpoints,
    Session,
    fit,
    load,
)

# Lightning's own: what torch has deprecated beneath it, and advice on workers and log intervals that does not apply here.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
]

# --- the stream -------------------------------------------------------------------------------------------------------


def test_a_batch_depends_on_seed_and_number_only() -> None:
    stream = SequenceStream(mess3(), length=6, batch_size=4, seed=3)
    forwards = [stream.batch(index).tokens for index in range(4)]
    torch.manual_seed(99)  # the global generator has no say
    backwards = [SequenceStream(mess3(), 6, 4, seed=3).batch(index).tokens for index in (3, 2, 1, 0)]
    assert all(torch.equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    others = [SequenceStream(mess3(), 6, 4, seed=4).batch(index).tokens for index in range(4)]
    for a, b in itertools.combinations(forwards + others, 2):
        assert not torch.equal(a, b)


def test_iteration_goes_on_from_the_batch_asked_for() -> None:
    stream = SequenceStream(mess3(), 6, 4, seed=3, first=lambda: 5)
    for index, batch in zip(range(5, 8), stream, strict=False):
        assert torch.equal(batch.tokens, stream.batch(index).tokens)
    assert torch.equal(next(iter(stream)).tokens, stream.batch(5).tokens)


def test_seeds_of_neighbouring_batches_are_unrelated() -> None:
    """No two of 10,000 agree, and the lowest bits of neighbours differ about half of the time."""
    seeds = [stream_seed(seed, index) for seed in range(10) for index in range(1000)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    changed = [(a ^ b).bit_count() / 63 for a, b in itertools.pairwise(seeds)]
    assert np.mean(changed) == pytest.approx(0.5, abs=4 * 0.5 / (63 * len(changed)) ** 0.5)


def test_seeds_mix_as_published() -> None:
    """splitmix64 from state 1234567: first outputs from the reference implementation (Vigna, prng.di.unimi.it)."""
    published = (6457827717110365317, 3203168211198807973, 9817491932198370423)
    gamma = 0x9E3779B97F4A7C15

    def reference(state: int) -> int:
        z = (state + gamma) % 2**64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return z ^ (z >> 31)

    assert tuple(reference((1234567 + k * gamma) % 2**64) for k in range(3)) == published
    for seed, index in ((0, 0), (0, 1), (7, 3)):
        assert stream_seed(seed, index) == reference((seed * gamma + index + 1 - gamma) % 2**64) >> 1


@pytest.mark.parametrize("process", [mess3(), rrxor()], ids=["mess3", "rrxor"])
def test_optimal_loss_is_the_mean_surprise_over_all_hidden_paths(process) -> None:
    """-log P(x_t | x_<t), with the probability of a word as a product of matrices, over tokens 1..L-1."""
    tokens = SequenceStream(process, length=5, batch_size=8, seed=0).batch(0).tokens
    matrices, stationary = process.transition_matrices.numpy(), process.stationary_distribution.numpy()

    def probability(word: list[int]) -> float:
        return float(np.linalg.multi_dot([stationary, *matrices[word], np.ones(len(stationary))]))

    surprises = [
        math.log(probability(row[:t])) - math.log(probability(row[: t + 1]))
        for row in tokens.tolist()
        for t in range(1, 5)
    ]
    assert optimal_loss(process, tokens).item() == pytest.approx(np.mean(surprises), rel=1e-12)


def test_optimal_loss_falls_to_the_floor() -> None:
    """Its expectation is the mean of the myopic entropies h(1)..h(L-1); 4 standard errors of 20,000 sequences."""
    batch = SequenceStream(mess3(), length=4, batch_size=20_000, seed=1).batch(0)
    assert batch.optimal_loss.item() == pytest.approx(myopic_entropies(mess3(), 3)[1:].mean().item(), abs=0.008)


@pytest.mark.parametrize(("name", "value", "least"), [("length", 1, 2), ("batch_size", 0, 1)])
def test_impossible_streams_are_refused_by_name(name: str, value: int, least: int) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be at least {least}, got {value}"):
        SequenceData(mess3(), **({"length": 5, "batch_size": 4} | {name: value}))


# --- training ---------------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    """What a test throws into training."""


class Interruption(Callback):
    """Raises in the middle of a run: before the optimiser step with this number."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer, task, optimizer) -> None:
        if trainer.global_step == self.step:
            raise Interrupted


def adam(parameters) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01)


def temporal_pc() -> TemporalPC:
    return TemporalPC(3, 5, learn_precision=True, inference=Inference(max_steps=20))


def run(
    predictor: Predictor, rule: LearningRule, folder: Path, steps: int, *callbacks: Callback, resume: Path | None = None
) -> tuple[dict[str, torch.Tensor], list[CurvePoint]]:
    """The parameters and the learning curve of a short training run."""
    curve = LearningCurve(every=2)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        callbacks=[*callbacks, curve, Checkpoints(folder / "last.ckpt", every=3)],
        plugins=[SafeCheckpoints()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    task, data = NextToken(predictor, rule, adam, peak_at=0.5), SequenceData(mess3(), length=5, batch_size=4, seed=1)
    trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True)
    return {name: parameter.detach().clone() for name, parameter in predictor.named_parameters()}, curve.points


@pytest.mark.parametrize(
    ("make", "rule"),
    [(lambda: GRU(3, 5), Backprop()), (temporal_pc, Implicit()), (temporal_pc, Local()), (temporal_pc, Nudged())],
    ids=["GRU Backprop", "TemporalPC Implicit", "TemporalPC Local", "TemporalPC Nudged"],
)
def test_resumed_is_uninterrupted_bit_for_bit(make, rule: LearningRule, tmp_path: Path) -> None:
    """Thrown out at step 5 after a checkpoint at step 3, with half a point of the curve collected; taken up by new objects."""
    torch.manual_seed(0)
    start = make().state_dict()

    def fresh() -> Predictor:
        predictor = make()
        predictor.load_state_dict(start)
        return predictor

    parameters, curve = run(fresh(), rule, tmp_path / "whole", 9)
    with pytest.raises(Interrupted):
        run(fresh(), rule, tmp_path / "halves", 9, Interruption(5))
    torch.manual_seed(123)  # another process has another global state
    resumed, resumed_curve = run(make(), rule, tmp_path / "halves", 9, resume=tmp_path / "halves" / "last.ckpt")
    assert resumed.keys() == parameters.keys()
    assert [name for name in parameters if not torch.equal(parameters[name], resumed[name])] == []
    assert [point.step for point in curve] == [2, 4, 6, 8, 9]
    assert resumed_curve == curve
    assert any(not torch.equal(parameters[name], start[name]) for name in parameters)


def test_training_is_the_optimiser_on_the_rule_and_the_stream(tmp_path: Path) -> None:
    """The same three steps by hand, and the curve's numbers from them."""
    torch.manual_seed(0)
    trained, by_hand = GRU(3, 5), GRU(3, 5)
    by_hand.load_state_dict(trained.state_dict())
    parameters, curve = run(trained, Backprop(), tmp_path, 3)
    optimizer, stream = adam(by_hand.parameters()), SequenceStream(mess3(), 5, 4, seed=1)
    losses, excesses = [], []
    # One cycle of three steps that peaks after one half of them, in cosines: from 1/25 at 0 to 1 at .5, to 1/250,000 at 2.
    for index, rate in enumerate((0.0004, 0.00750002, 4e-8)):
        batch = stream.batch(index)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            by_hand(batch.tokens[:, :-1]).flatten(0, 1), batch.tokens[:, 1:].flatten()
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        excesses.append(loss.item() - batch.optimal_loss.item())
    for name, parameter in by_hand.named_parameters():
        torch.testing.assert_close(parameters[name], parameter.detach(), rtol=0, atol=1e-7, msg=name)
    expected = [(2, 2 * 20, sum(losses[:2]) / 2, sum(excesses[:2]) / 2), (3, 3 * 20, losses[2], excesses[2])]
    assert [tuple(point) for point in curve] == [pytest.approx(point, abs=1e-6) for point in expected]


def test_progress_is_told(tmp_path: Path) -> None:
    told = []
    _, curve = run(GRU(3, 5), Backprop(), tmp_path, 5, Progress(lambda *news: told.append(news), every=2))
    assert [news[:2] for news in told] == [(0, 5), (2, 5), (4, 5), (5, 5)]
    assert told[0][2] is None
    assert told[-1][2] == pytest.approx(curve[-1].loss)  # the fifth step stands alone in its point


def test_inference_diagnostics_are_logged(tmp_path: Path) -> None:
    """Euler is cut off after 3 steps of a tolerance that no token reaches: every token unconverged, 3 steps each."""
    logged = {}

    class Listener(Callback):
        def on_train_end(self, trainer, task) -> None:
            logged.update(trainer.callback_metrics)

    network = TemporalPC(3, 5, inference=Inference(Euler(0.01), atol=1e-12, max_steps=3))
    run(network, Local(), tmp_path, 4, InferenceDiagnostics(every=2), Listener())
    assert {name: float(logged[f"inference/{name}"]) for name in ("steps", "diverged", "unconverged")} == {
        "steps": 3.0,
        "diverged": 0.0,
        "unconverged": 1.0,
    }
    assert sum(len(module._forward_hooks) for module in network.modules()) == 0


def test_inference_diagnostics_have_nothing_to_say_of_a_rule_without_a_solve(tmp_path: Path) -> None:
    """`Unrolled` takes its fixed steps by itself: training goes on, and nothing is logged about convergence."""
    _, curve = run(temporal_pc(), Unrolled(steps=2), tmp_path, 4, InferenceDiagnostics(every=2))
    assert curve[-1].step == 4


def test_inference_diagnostics_unhook_after_an_exception(tmp_path: Path) -> None:
    network = temporal_pc()
    with pytest.raises(Interrupted):
        run(network, Local(), tmp_path, 4, InferenceDiagnostics(every=2), Interruption(1))
    assert sum(len(module._forward_hooks) for module in network.modules()) == 0


class NotANumber(LearningRule):
    """A loss whose gradient is NaN in the recurrent weights only."""

    def loss(self, predictor, tokens):
        weight = predictor.cells[0].recurrence.weight_hh_l0
        return Backprop().loss(predictor, tokens) + (weight * 0).sum() * torch.tensor(float("nan"))


def test_a_gradient_that_is_not_finite_stops_training_before_it_spoils_anything(tmp_path: Path) -> None:
    model = GRU(3, 5)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with pytest.raises(
        FloatingPointError, match=r"gradient of cells\.0\.recurrence\.weight_hh_l0 is not finite at step 0"
    ):
        run(model, NotANumber(), tmp_path, 3)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert not (tmp_path / "last.ckpt").exists()


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_loads_without_unpickling_objects(tmp_path: Path) -> None:
    torch.manual_seed(0)
    parameters, curve = run(temporal_pc(), Local(), tmp_path, 3)
    loaded = torch.load(tmp_path / "last.ckpt", weights_only=True)
    for name, parameter in parameters.items():
        assert torch.equal(loaded["state_dict"][f"predictor.{name}"], parameter)
    assert loaded["global_step"] == 3
    assert curve[-1].step == 3
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


class Explosive:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "trap": Explosive()}, tmp_path / "trap.ckpt")
    for wish in (None, True, False):
        with pytest.raises(pickle.UnpicklingError):
            SafeCheckpoints().load_checkpoint(tmp_path / "trap.ckpt", weights_only=wish)
    assert not Path("exploded").exists()
    with pytest.raises(pickle.UnpicklingError):
        run(GRU(3, 5), Backprop(), tmp_path, 3, resume=tmp_path / "trap.ckpt")
    assert not Path("exploded").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_write_that_breaks_off_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    path, checkpoints, whole_save = tmp_path / "deeper" / "last.ckpt", SafeCheckpoints(), torch.save
    checkpoints.save_checkpoint({"step": torch.tensor(1)}, path)

    def broken_save(checkpoint, target) -> None:
        whole_save(checkpoint, target)
        written = Path(target).read_bytes()
        Path(target).write_bytes(written[: len(written) // 2])
        raise error

    monkeypatch.setattr(torch, "save", broken_save)
    with pytest.raises(error):
        checkpoints.save_checkpoint({"step": torch.tensor(2)}, path)
    monkeypatch.setattr(torch, "save", whole_save)
    assert checkpoints.load_checkpoint(path) == {"step": torch.tensor(1)}
    checkpoints.save_checkpoint({"step": torch.tensor(3)}, path)
    assert checkpoints.load_checkpoint(path) == {"step": torch.tensor(3)}
    checkpoints.remove_checkpoint(path)
    checkpoints.remove_checkpoint(path)  # what is gone may be removed
    assert not path.exists()


# --- the entry point that experiments use -----------------------------------------------------------------------------


def test_fit_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """The same numbers whether or not the watcher threw in the middle; a finished run is not trained again."""

    def go(folder: str, model: Predictor, report) -> list[CurvePoint]:
        training = Training(Local(), adam, steps=7, batch_size=4)
        checkpoint = tmp_path / folder / "last.ckpt"
        snapshots = {step: checkpoint.with_name(f"step{step}.ckpt") for step in (0, 2, 4, 7)}
        return fit(model, mess3(), training, 4, 1, Session(checkpoint, 3, snapshots, 2, report=report))

    def throw(step: int, steps: int, loss: float | None) -> None:
        if step == 5:
            raise Interrupted

    torch.manual_seed(0)
    whole, halves, start = temporal_pc(), temporal_pc(), temporal_pc()
    for copy in (halves, start):
        copy.load_state_dict(whole.state_dict())
    curve = go("whole", whole, lambda *news: None)
    with pytest.raises(Interrupted):
        go("halves", halves, throw)
    again = temporal_pc()
    assert go("halves", again, lambda *news: None) == curve
    told = []
    assert go("halves", temporal_pc(), lambda *news: told.append(news)) == curve
    assert [news[0] for news in told] in ([], [7]), "finished: not one step more"
    for checkpoint, model in ((tmp_path / "whole" / "last.ckpt", whole), (tmp_path / "halves" / "last.ckpt", again)):
        loaded = load(temporal_pc(), checkpoint)
        for name, parameter in whole.named_parameters():
            assert torch.equal(parameter, dict(model.named_parameters())[name]), name
            assert torch.equal(parameter, dict(loaded.named_parameters())[name]), name
    for step, model in ((0, start), (2, None), (4, None), (7, whole)):
        one, other = (load(temporal_pc(), tmp_path / folder / f"step{step}.ckpt") for folder in ("whole", "halves"))
        kept, expected = (dict(each.named_parameters()) for each in (one, other if model is None else model))
        assert all(torch.equal(value, expected[name]) for name, value in kept.items()), f"snapshot of step {step}"
