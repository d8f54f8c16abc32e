"""The Lightning task of graph networks: the rule under the optimiser and nothing else, resumed, clipped, skipped, shared out."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, StepLR

from pcnet.baselines import GRU
from pcnet.data import Batches, Images, ShuffledBatches
from pcnet.energies import Categorical, Gaussian, GaussianPrior
from pcnet.inference import Euler, FixedSteps, Inference
from pcnet.learning import (
    Backprop,
    Example,
    Implicit,
    Incremental,
    LearningRule,
    Local,
    Nudged,
    SteppedRule,
    ZeroDivergence,
)
from pcnet.networks import Dense, GraphNetwork, HierarchicalPC, convolution, hierarchy
from pcnet.training import Checkpoints, GraphTask, Progress, SafeCheckpoints, Supervised, Unsupervised

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]

RULES = [Local(), Local(inference=FixedSteps(0.1, 5)), Nudged(), Backprop(), Incremental(steps=3)]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{type(rule).__name__}")


def labelled_images(count: int = 24, seed: int = 0) -> Images:
    """2 x 2 images of three classes, each with a mean of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    means = 2 * torch.randn(3, 1, 2, 2, generator=generator)
    return Images(means[labels] + 0.3 * torch.randn(count, 1, 2, 2, generator=generator), labels)


def network(seed: int = 0, **settings) -> GraphNetwork:
    torch.manual_seed(seed)
    return HierarchicalPC([4, 5, 3], **{"energies": {2: Categorical()}} | settings)


def momentum(parameters) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def halving(optimizer: torch.optim.Optimizer) -> LRScheduler:
    return StepLR(optimizer, step_size=2, gamma=0.5)


def trainer(*callbacks: Callback, **settings) -> Trainer:
    return Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        plugins=[SafeCheckpoints()],
        **{
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "max_epochs": 2,
        }
        | settings,
    )


def fit(task: GraphTask, *callbacks: Callback, resume: Path | None = None, **settings) -> dict[str, Tensor]:
    """The parameters after two epochs of three batches of eight images."""
    batches = ShuffledBatches(labelled_images(), 8, seed=3)
    trainer(*callbacks, **settings).fit(task, batches, ckpt_path=resume, weights_only=True)
    return parameters(task.network)


def parameters(model: GraphNetwork) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor], atol: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], rtol=0, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


def losses(rule: LearningRule | SteppedRule, model: GraphNetwork, example: Example) -> Iterator[Tensor]:
    if isinstance(rule, SteppedRule):
        yield from rule.updates(model, example)
    else:
        yield rule.loss(model, example)


# --- what it does --------------------------------------------------------------------------------------------------------


@each_rule
@pytest.mark.parametrize("clip", [None, 0.2])
def test_training_is_the_optimiser_on_the_rule_and_the_batches(
    rule: LearningRule | SteppedRule, clip: float | None
) -> None:
    """The same epochs by a plain loop: clipped by the norm of all gradients, the learning rate halved after every second
    batch, by the same bits."""
    found = fit(Supervised(network(), rule, momentum, halving, clip=clip))
    model, rate = network(), 0.05
    optimizer = momentum(model.parameters())
    batches = ShuffledBatches(labelled_images(), 8, seed=3)
    for count, (images, labels) in enumerate([*batches, *batches]):
        optimizer.param_groups[0]["lr"] = rate * 0.5 ** (count // 2)
        for loss in losses(rule, model, Example({"0": images}, {"2": labels})):
            optimizer.zero_grad()
            loss.backward()
            if clip is not None:
                learned = [p for p in model.parameters() if p.grad is not None]
                norm = torch.cat([p.grad.flatten() for p in learned]).norm()
                assert norm > clip
                for p in learned:
                    p.grad.mul_(clip / norm)
            optimizer.step()
    assert_same(found, parameters(model), atol=0.0 if clip is None else 1e-6)
    assert any(not torch.equal(found[name], p) for name, p in network().named_parameters())


def test_an_optimiser_that_asks_several_times_is_answered() -> None:
    """L-BFGS evaluates the loss again and again in one step."""

    def lbfgs(weights) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(weights, max_iter=4, line_search_fn="strong_wolfe")

    model = network()
    images, labels = Batches(labelled_images(), 24).batch(torch.arange(24))
    before = Backprop().loss(model, Example({"0": images}, {"2": labels})).item()
    fit(Supervised(model, ZeroDivergence(), lbfgs))
    assert Backprop().loss(model, Example({"0": images}, {"2": labels})).item() < 0.5 * before


class OneBatch:
    """The same batch in every epoch."""

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        self.batch = images, targets

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.batch


def test_labels_may_be_numbers() -> None:
    """A regression by one layer: twenty steps of the delta rule."""
    design = labelled_images().values.flatten(1).double()
    targets = design @ torch.tensor([[1.0, -2, 0.5, 0]]).double().T + 0.7
    model = HierarchicalPC([4, 1]).double()
    layer = model.predictions[0].layers[0]
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    task = Supervised(model, Local(), lambda p: torch.optim.SGD(p, lr=0.05))
    trainer(max_epochs=20).fit(task, OneBatch(design, targets))
    for _ in range(20):
        error = targets - design @ weight.T - bias
        weight, bias = weight + 0.05 * error.T @ design / 24, bias + 0.05 * error.mean(0)
    torch.testing.assert_close(layer.weight.detach(), weight, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.bias.detach(), bias, rtol=0, atol=1e-12)


class Metrics(Callback):
    """What was logged in the end."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def on_train_end(self, trainer, task) -> None:
        self.found = {name: float(value) for name, value in trainer.callback_metrics.items()}

    on_validation_end = on_train_end


@pytest.mark.parametrize("convolutional", [False, True], ids=["dense", "convolution"])
def test_validation_scores_the_answer_and_holds_no_label(convolutional: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy and surprise by counting, from `network(images)`; what is held while it infers is the image alone."""
    if convolutional:
        layers = [convolution((1, 2, 2), 3, 2, activation=torch.nn.Tanh()), Dense(3, 3)]
        model = hierarchy([4, 3, 3], up=layers, energies={2: Categorical()})
    else:
        model = network()
    images = labelled_images(10, seed=5)
    laws = model(images.values)
    surprise = -laws[torch.arange(10), images.labels].log().mean().item()
    accuracy = (laws.argmax(-1) == images.labels).double().mean().item()
    inferred, whole = [], GraphNetwork.infer
    monkeypatch.setattr(
        GraphNetwork,
        "infer",
        lambda self, clamped, *args, **kw: inferred.append(set(clamped.values)) or whole(self, clamped, *args, **kw),
    )
    task, metrics = Supervised(model, Backprop(), momentum), Metrics()
    trainer(metrics).validate(task, Batches(images, 4), verbose=False)  # inside Lightning's inference mode
    assert metrics.found == {"val_loss": pytest.approx(surprise, rel=1e-5), "val_accuracy": pytest.approx(accuracy)}
    assert inferred == [{"0"}] * 3


def test_an_answer_in_numbers_is_scored_by_squared_error() -> None:
    model, metrics = network(energies={2: Gaussian(3)}), Metrics()
    images = labelled_images(10, seed=5)
    wanted = torch.eye(3)[images.labels]
    expected = 0.5 * (model(images.values) - wanted).square().sum(-1).mean().item()
    trainer(metrics).validate(Supervised(model, Local(), momentum), Batches(images, 10), verbose=False)
    assert metrics.found["val_loss"] == pytest.approx(expected, rel=1e-5)
    assert 0 <= metrics.found["val_accuracy"] <= 1


def test_images_alone_are_explained() -> None:
    """A generative network: the labels that come along make no difference, and the energy of held-out images falls."""

    def explain(batches) -> tuple[dict[str, Tensor], float, float]:
        torch.manual_seed(0)
        inference = FixedSteps(0.2, 15)
        model = HierarchicalPC([4, 5, 2], 0.0, 1.0, priors={2: GaussianPrior()}, inference=inference)
        task, metrics = Unsupervised(model, Local(), lambda p: torch.optim.Adam(p, lr=0.02)), Metrics()
        held_out = Batches(Images(labelled_images(12, seed=0).pixels), 5)
        energy = model.infer(model.clamp({"0": held_out.images.pixels})).point.energy.mean().item()
        trainer(metrics, max_epochs=10).fit(task, batches, held_out)
        return parameters(model), energy, metrics.found["val_energy"]

    images = labelled_images()
    with_labels, before, after = explain(ShuffledBatches(images, 8, seed=0))
    without, *_ = explain(ShuffledBatches(Images(images.pixels), 8, seed=0))
    assert_same(with_labels, without)
    assert after < 0.7 * before


# --- interrupted -----------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    """What a test throws into training."""


class Interruption(Callback):
    """Raises at the beginning of a batch, counted over all epochs."""

    def __init__(self, batch: int) -> None:
        self.batch, self.seen = batch, 0

    def on_train_batch_start(self, trainer, task, batch, batch_idx) -> None:
        if self.seen == self.batch:
            raise Interrupted
        self.seen += 1


@pytest.mark.parametrize("rule", [Local(), Incremental(steps=3)], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("at", [2, 3, 4], ids=lambda at: f"batch {at} of 6")
def test_resumed_is_uninterrupted_bit_for_bit(rule: LearningRule | SteppedRule, at: int, tmp_path: Path) -> None:
    """Thrown out in the first epoch, between the two and in the second; taken up by new objects in another global state."""
    steps = 3 if isinstance(rule, SteppedRule) else 1
    whole = fit(Supervised(network(), rule, momentum, halving))
    path = tmp_path / "last.ckpt"
    with pytest.raises(Interrupted):
        fit(Supervised(network(), rule, momentum, halving), Checkpoints(path, steps), Interruption(at))
    torch.manual_seed(99)
    resumed = fit(Supervised(network(seed=7), rule, momentum, halving), resume=path)
    assert_same(resumed, whole)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    whole = fit(Supervised(network(), Local(), momentum), Checkpoints(path, 100))
    assert_same(fit(Supervised(network(seed=7), Local(), momentum), resume=path), whole)


def test_progress_is_told_in_batches_where_epochs_are_counted() -> None:
    told = []
    fit(Supervised(network(), Incremental(steps=3), momentum), Progress(lambda *news: told.append(news), every=2))
    assert [news[:2] for news in told] == [(0, 6), (2, 6), (4, 6), (6, 6)]
    assert told[0][2] is None
    assert all(news[2] > 0 for news in told[1:])


# --- diverged ------------------------------------------------------------------------------------------------------------


class Failing(LearningRule):
    """Says that the second batch diverged."""

    def __init__(self, after: LearningRule) -> None:
        self.after, self.calls = after, 0

    def loss(self, network, batch):
        self.calls += 1
        if self.calls == 2:
            raise FloatingPointError("inference diverged in every row of the batch")
        return self.after.loss(network, batch)


class FailingGradient(Failing):
    """Has a gradient that is not finite in the second batch."""

    def loss(self, network, batch):
        self.calls += 1
        loss = self.after.loss(network, batch)
        return loss * torch.inf if self.calls == 2 else loss


class FailingStep(SteppedRule):
    """Diverges in the second iteration of the second batch."""

    def __init__(self) -> None:
        self.calls = 0

    def updates(self, network, example):
        self.calls += 1
        for index, loss in enumerate(Incremental(steps=3).updates(network, example)):
            if self.calls == 2 and index == 1:
                raise FloatingPointError("inference has diverged in every row")
            yield loss


def adam(weights) -> torch.optim.Optimizer:
    return torch.optim.AdamW(weights, lr=0.05, weight_decay=0.1)


class Watch(Callback):
    """Parameters and optimiser state at the end of every batch, and the losses."""

    def __init__(self) -> None:
        self.states, self.losses = [], []

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx) -> None:
        memory = [t.clone() for state in trainer.optimizers[0].state.values() for t in state.values()]
        self.states.append([*(p.detach().clone() for p in task.network.parameters()), *memory])
        self.losses.append(float(outputs["loss"]))


@pytest.mark.parametrize("kind", [Failing, FailingGradient], ids=["rule", "gradient"])
def test_a_batch_that_diverged_is_skipped_and_leaves_no_trace(kind: type[Failing]) -> None:
    """Momenta, step counts and weight decay included; the batches after it are learned as if it had never been."""
    task, watch = Supervised(network(), kind(Local()), adam, skip_diverged=True), Watch()
    fit(task, watch)
    assert all(torch.equal(a, b) for a, b in zip(watch.states[0], watch.states[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(watch.states[1], watch.states[2], strict=True))
    assert int(task.skipped) == 1
    assert [index for index, loss in enumerate(watch.losses) if not 0 < loss < 10] == [1]
    model = network()
    optimizer, batches = adam(model.parameters()), ShuffledBatches(labelled_images(), 8, seed=3)
    for index, (images, labels) in enumerate([*batches, *batches]):
        if index != 1:
            optimizer.zero_grad()
            Local().loss(model, Example({"0": images}, {"2": labels})).backward()
            optimizer.step()
    assert_same(parameters(task.network), parameters(model))


def test_an_iteration_that_diverged_ends_its_batch() -> None:
    task, watch = Supervised(network(), FailingStep(), adam, skip_diverged=True), Watch()
    fit(task, watch)
    model = network()
    optimizer, batches = adam(model.parameters()), ShuffledBatches(labelled_images(), 8, seed=3)
    for index, (images, labels) in enumerate([*batches, *batches]):
        for step, loss in enumerate(Incremental(steps=3).updates(model, Example({"0": images}, {"2": labels}))):
            if index == 1 and step == 1:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert_same(parameters(task.network), parameters(model))
    assert int(task.skipped) == 1


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda: Failing(Local()), "diverged in every row of the batch"),
        (
            lambda: FailingGradient(Local()),
            r"the gradient of predictions\.0\.layers\.0\.weight is not finite at step 1",
        ),
        (FailingStep, "has diverged in every row"),
    ],
    ids=["rule", "gradient", "iteration"],
)
def test_training_stops_before_anything_is_spoiled_unless_told_otherwise(rule: Callable, message: str) -> None:
    task, watch = Supervised(network(), rule(), adam), Watch()
    with pytest.raises(FloatingPointError, match=message):
        fit(task, watch)
    assert len(watch.states) == 1
    assert all(p.isfinite().all() for p in task.network.parameters())
    if not isinstance(task.rule, FailingStep):  # which had made one good step of its batch
        for p, before in zip(task.network.parameters(), watch.states[0]):
            assert torch.equal(p, before)


def test_inference_that_really_diverges_stops_with_the_rows_that_did() -> None:
    task = Supervised(network(), Local(inference=Inference(Euler(1e5), max_steps=200)), momentum)
    with pytest.raises(FloatingPointError, match=r"(?s)diverged in every row of the batch.*row 0 diverged after"):
        fit(task)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_supervised_batch_without_labels_is_refused() -> None:
    images = labelled_images()
    with pytest.raises(TypeError, match=r"a supervised batch must be \(images, labels\), got a tensor"):
        trainer().fit(Supervised(network(), Local(), momentum), ShuffledBatches(Images(images.pixels), 8, seed=0))


def test_labels_out_of_range_are_refused_in_training_and_in_validation() -> None:
    wrong = Images(labelled_images().pixels, torch.arange(24))
    task = Supervised(network(), Local(), momentum)
    with pytest.raises(ValueError, match=r"labels of node '2' must be in \[0, 3\)"):
        trainer().fit(task, ShuffledBatches(wrong, 24, seed=0))
    with pytest.raises(ValueError, match=r"labels of node '2' must be in \[0, 3\), got 3"):
        trainer().validate(task, Batches(wrong, 8), verbose=False)


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan")])
def test_an_impossible_clip_is_refused(clip: float) -> None:
    with pytest.raises(ValueError, match="clip must be a finite number > 0"):
        Supervised(network(), Local(), momentum, clip=clip)


def test_a_rule_for_other_networks_is_refused() -> None:
    with pytest.raises(TypeError, match="the rule Incremental is not for a GRU"):
        next(Incremental().updates(GRU(3, 4), Example({"0": torch.zeros(1, 4)})))


# --- several processes ---------------------------------------------------------------------------------------------------

SHARED = """
import sys
import torch
from lightning.pytorch.strategies import DDPStrategy
sys.path[:0] = {path!r}
import test_supervised as case

if __name__ == "__main__":
    torch.set_num_threads(1)
    case.train_in_processes(sys.argv[1], int(sys.argv[2]))
"""


def shared_rules() -> dict[str, tuple[LearningRule | SteppedRule, Callable]]:
    """Rules with what they are compared by; the last one diverges in one of the processes only."""
    return {
        "Local": (Local(), momentum),
        "Nudged": (Nudged(), adam),
        "Implicit": (Implicit(), momentum),
        "Incremental": (Incremental(steps=3), momentum),
        "one fails": (Failing(Local()), adam),
    }


def train_in_processes(folder: str, processes: int) -> None:
    """Every rule on batches of eight images in all, shared by so many processes; rank 0 writes the weights."""
    import warnings

    from lightning.pytorch.strategies import DDPStrategy

    warnings.simplefilter("ignore")
    for name, (rule, optimizer) in shared_rules().items():
        strategy = DDPStrategy(process_group_backend="gloo", start_method="popen") if processes > 1 else "auto"
        task = Supervised(network().double(), rule, optimizer, clip=0.5, skip_diverged=True)
        run = trainer(devices=processes, strategy=strategy)
        if isinstance(rule, Failing) and run.global_rank:
            task.rule = rule.after  # the other processes notice nothing by themselves
        batches = ShuffledBatches(
            Images(labelled_images().pixels.double(), labelled_images().labels),
            8 // processes,
            seed=3,
            process=run.global_rank,
            processes=processes,
        )
        run.fit(task, batches)
        if run.is_global_zero:
            torch.save(task.network.state_dict() | {"skipped": task.skipped}, Path(folder) / f"{name} {processes}.pt")


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_their_batches_together(tmp_path: Path) -> None:
    """Data-parallel over gloo on the CPU, with clipping; a batch that diverges in one process is skipped in both."""
    here = Path(__file__).resolve().parent
    script = tmp_path / "shared.py"
    script.write_text(SHARED.format(path=[str(here), str(here.parent)]))
    for processes in (1, 2):
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path), str(processes)], capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, done.stderr[-3000:]
    for name in shared_rules():
        one, two = (torch.load(tmp_path / f"{name} {n}.pt", weights_only=True) for n in (1, 2))
        assert_same(two, one, atol=1e-12)
        assert int(two["skipped"]) == (name == "one fails")
        assert any(not torch.equal(two[key], p.double()) for key, p in network().named_parameters())
