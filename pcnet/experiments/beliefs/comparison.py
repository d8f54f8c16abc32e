"""Sequence models trained on the same process, asked the same question, billed for the answer: the jobs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from pcnet import report
from pcnet.experiments.beliefs import examination
from pcnet.experiments.beliefs.examination import Examination
from pcnet.experiments.beliefs.questions import Evaluation, Sites
from pcnet.experiments.errors import ConfigError
from pcnet.experiments.experiment import Experiment, Job, Report
from pcnet.experiments.run_folder import RunFolder
from pcnet.files import save_arrays
from pcnet.learning.training import Training
from pcnet.predictor import Predictor, check_sizes
from pcnet.processes import HiddenMarkovModel, myopic_entropies
from pcnet.report.schema import SCHEMA
from pcnet.sites import Iterates
from pcnet.tables import Tables

TIMING_SEED = 0


@dataclass(frozen=True)
class BeliefComparison(Experiment):
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
        checkpoint_every: optimiser steps between checkpoints.
        snapshots: optimiser steps after which the weights are kept as well, to see how something was learned; 0 is the start.
        log_every: optimiser steps per point of the learning curve.
    """

    name: str
    process: HiddenMarkovModel
    context: int
    seeds: list[int]
    models: dict[str, Callable[[], Predictor]]
    training: dict[str, Training]
    sites: dict[str, Sites]
    evaluation: Evaluation = field(default_factory=Evaluation)
    device: str = "cpu"
    checkpoint_every: int = 100
    snapshots: list[int] = field(default_factory=list)
    log_every: int = 20

    schema = SCHEMA

    def __post_init__(self) -> None:
        names = ", ".join(self.models)
        for part in ("training", "sites"):
            odd = set(self.models) ^ set(getattr(self, part))
            if odd:
                raise ConfigError(f"{part}.{min(odd)}: every model needs exactly one entry here; models are {names}")
        check_sizes(context=self.context, checkpoint_every=self.checkpoint_every, log_every=self.log_every)
        for name, training in self.training.items():
            sizes = {"steps": training.steps, "batch_size": training.batch_size}
            check_sizes(**{f"training.{name}.{what}": size for what, size in sizes.items()})
        for name in self.evaluation.robust:
            if name not in self.models:
                raise ConfigError(f"evaluation.robust names {name!r}; models are {names}")
        if any(step < 0 for step in self.snapshots):
            raise ConfigError(f"snapshots must be at least 0, got {min(self.snapshots)}")
        for part in ("seeds", "models"):
            if not getattr(self, part):
                raise ConfigError(f"{part} must name at least one")
        for name, model in self.samples().items():
            if model.vocab_size != self.process.vocab_size:
                raise ConfigError(
                    f"models.{name}.init_args.vocab_size is {model.vocab_size}, "
                    f"the process emits {self.process.vocab_size} tokens"
                )

    # --- models -------------------------------------------------------------------------------------------------------

    def fresh(self, model: str, seed: int, **changes: Any) -> Predictor:
        """A model as its seed initialises it.

        Args:
            model: its name.
            seed: of its weights.
            changes: other values of its constructor's arguments, such as the `scale` of an untrained copy.
        """
        torch.manual_seed(seed)
        return self.models[model](**changes)

    def trained(self, model: str, seed: int, files: Path) -> Predictor:
        """A model with the weights of its checkpoint, in evaluation mode."""
        from pcnet.training import load

        return load(self.fresh(model, seed), checkpoint(files, model, seed))

    def kept_snapshots(self, model: str, seed: int, files: Path) -> dict[int, Predictor]:
        """A model as it was while it was trained, by optimiser step; those of `snapshots` that are there."""
        from pcnet.training import load

        paths = {step: _snapshot(files, model, seed, step) for step in sorted(self.snapshots)}
        return {step: load(self.fresh(model, seed), path) for step, path in paths.items() if path.is_file()}

    def samples(self) -> dict[str, Predictor]:
        """Every model once, for what its class and sizes say; the weights count for nothing."""
        return {name: make() for name, make in self.models.items()}

    @cached_property
    def floor(self) -> float:
        """The loss of the exact observer, mean over context lengths 1..context, in nats per token."""
        return float(myopic_entropies(self.process, self.context)[1:].mean())

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        pairs = [(name, seed) for seed in self.seeds for name in self.models]
        asked, samples = self.evaluation, self.samples()
        inferring = [pair for pair in pairs if isinstance(samples[pair[0]], Iterates) and asked.iterations]
        longest_first = sorted(pairs, key=lambda pair: self._work(pair[0], samples[pair[0]]), reverse=True)
        copies = [
            Job(f"untrained-{alike[0]}-scale{scale}-seed{seed}", partial(self.untrained, alike, scale, seed))
            for alike in self.alike
            for scale in asked.untrained_scales
            for seed in asked.untrained_seeds
        ]
        return [
            *(self.training_job(*pair) for pair in longest_first),
            *(self._job("examine", self.examine, pair) for pair in pairs),
            Job("controls", self.process_controls),
            *copies,
            *self.judgements(),
            *(self._job("robustness", self.robustness, pair) for pair in pairs if pair[0] in asked.robust),
            *(self._job("iterations", self.iterations, pair) for pair in inferring),
            *(self._job("cost", self.cost, (name, self.seeds[0]), alone=True) for name in self.models),
        ]

    def judgements(self) -> list[Job]:
        """One for each model, of all its training seeds: they are ranked among the same untrained copies."""
        names = self.models if self.evaluation.verdict_copies else ()
        return [
            Job(f"judge-{name}", partial(self.judge, name), tuple(self.training_job(name, s).part for s in self.seeds))
            for name in names
        ]

    def training_job(self, model: str, seed: int) -> Job:
        """The training of one model; the seed need not be one of the configuration's."""
        return Job(f"train-{model}-seed{seed}", partial(self.train, model, seed))

    def _job(self, kind: str, work: Callable[..., Tables], pair: tuple[str, int], alone: bool = False) -> Job:
        """A job about a trained model."""
        model, seed = pair
        return Job(f"{kind}-{model}-seed{seed}", partial(work, *pair), (self.training_job(*pair).part,), alone)

    def _work(self, name: str, model: Predictor) -> float:
        """A rough measure of how long a training takes; inference costs far more than its arithmetic."""
        training, slowdown = self.training[name], model.slowdown if isinstance(model, Iterates) else 1
        return slowdown * training.steps * training.batch_size * model.flops(self.context, 3.0)

    @cached_property
    def alike(self) -> list[tuple[str, ...]]:
        """Models grouped by what their untrained copies are: the same constructor, arguments and headline site."""
        groups: dict[str, list[str]] = {}
        for name, make in self.models.items():
            groups.setdefault(repr((make, self.sites[name].headline)), []).append(name)
        return [tuple(names) for names in groups.values()]

    def train(self, model: str, seed: int, files: Path, told: Report) -> Tables:
        """Train the model; an interrupted training goes on from its last checkpoint."""
        from pcnet.training import Session, fit

        session = Session(
            checkpoint(files, model, seed),
            self.checkpoint_every,
            {step: _snapshot(files, model, seed, step) for step in self.snapshots},
            self.log_every,
            self.device,
            told,
        )
        points = fit(self.fresh(model, seed), self.process, self.training[model], self.context, seed, session)
        return {"training": _named(pd.DataFrame(points), model, seed).assign(floor=self.floor)}

    def examine(self, model: str, seed: int, files: Path, told: Report) -> Tables:
        """Score the trained model at its equilibrium."""
        predictor = self.trained(model, seed, files)
        permutations = self.evaluation.permutations
        tables, geometry = examination.trained(self._exam(), predictor, self.sites[model], seed, permutations)
        for kind, decoded in geometry.items():
            save_arrays(geometry_file(files, f"{model}-seed{seed}-{kind}"), decoded=decoded)
        return {name: _named(table, model, seed) for name, table in tables.items()}

    def iterations(self, model: str, seed: int, files: Path, told: Report) -> Tables:
        """Score a network that infers, stopped early at every token."""
        predictor, exam, asked = self.trained(model, seed, files), self._exam(), self.evaluation
        inference, site = replace(predictor.inference, solver=asked.iteration_solver), self.sites[model].headline
        parts = []
        for done, count in enumerate(asked.iterations):
            told(done, len(asked.iterations), None)
            tables, decoded = examination.after_iterations(exam, predictor, site, count, inference)
            save_arrays(geometry_file(files, f"{model}-seed{seed}-iteration{count}"), decoded=decoded)
            parts.append(tables)
        return {
            name: _named(pd.concat([part[name] for part in parts], ignore_index=True), model, seed)
            for name in ("probes", "excess")
        }

    def robustness(self, model: str, seed: int, files: Path, told: Report) -> Tables:
        """Repeat the reported numbers with another solver, other initial values and in float64."""
        predictor = self.trained(model, seed, files)
        reported = predictor.inference
        other = replace(reported, solver=self.evaluation.robust_solver, max_steps=10 * reported.max_steps)
        checks = examination.robustness(self._exam(), predictor, self.sites[model].headline, other)
        return {"checks": _named(checks, model, seed)}

    def cost(self, model: str, seed: int, files: Path, told: Report) -> Tables:
        """Measure what an answer costs; nothing else should run meanwhile."""
        from pcnet.efficiency import Bench, measure

        asked, predictor = self.evaluation, self.trained(model, seed, files)
        bench = Bench(torch.get_num_threads(), self.device, TIMING_SEED, min_seconds=asked.timing_seconds)
        costs = measure(model, predictor, self.process, self.context, asked.batch_sizes, bench)
        return {"cost": pd.DataFrame(costs)}

    def untrained(self, models: tuple[str, ...], scale: float, seed: int, files: Path, told: Report) -> Tables:
        """Score an untrained copy, for all models that start from the same initialiser."""
        predictor = self.fresh(models[0], seed, scale=scale).eval()
        rows, decoded = examination.untrained(self._exam(), predictor, self.sites[models[0]].headline)
        for model in models:
            save_arrays(geometry_file(files, f"{model}-scale{scale}-seed{seed}-untrained"), decoded=decoded)
        return {
            "probes": pd.concat([_named(rows, model, seed) for model in models], ignore_index=True).assign(scale=scale)
        }

    def judge(self, model: str, files: Path, told: Report) -> Tables:
        """Ask whether the headline site encodes the belief beyond every control."""
        asked = self.evaluation
        exam = Examination.of(self.process, min(asked.verdict_length or self.context, self.context))
        return {"verdicts": self.verdicts(model, self.seeds, files, exam, asked.verdict_copies)}

    def verdicts(
        self, model: str, seeds: Sequence[int], files: Path, exam: Examination, copies: int, random_state: int = 0
    ) -> pd.DataFrame:
        """Whether a model's headline site encodes the belief beyond every control, for each training seed.

        Args:
            model: its name.
            seeds: of training.
            files: of the run, with the checkpoints.
            exam: the words.
            copies: untrained copies that it is ranked among.
            random_state: of permutations and of the other untrained networks.
        """
        site = self.sites[model].headline

        def copy(seed: int) -> dict[str, Tensor]:
            return {site: exam.seen(self.fresh(model, seed).eval(), site).features(site)}

        judge, tables = exam.judge(copy, copies, random_state), []
        for seed in seeds:
            seen = exam.seen(self.trained(model, seed, files), site)
            verdict = judge({site: seen.features(site)}, seen.logits)
            tables.append(_named(verdict.table(), model, seed))
        return pd.concat(tables, ignore_index=True)

    def process_controls(self, files: Path, told: Report) -> Tables:
        """Score what belongs to the process: the exact next-token law, the last tokens, the history."""
        exam = self._exam()
        truth = {name: getattr(exam.words, name).numpy() for name in ("lengths", "probabilities")}
        save_arrays(geometry_file(files, "truth"), beliefs=exam.words.filtered.numpy(), **truth)
        return examination.process_controls(exam)

    def _exam(self) -> Examination:
        return Examination.of(self.process, self.context)

    # --- what is told -------------------------------------------------------------------------------------------------

    def headline(self) -> str:
        return f"loss floor {self.floor:.5f} nats"

    def said(self, part: str, tables: Tables) -> str:
        if "training" in tables:
            last = tables["training"].iloc[-1]
            trained = f"{last.model} (seed {last.seed}) trained on {last.tokens:,} tokens"
            return f"{trained}: loss {last.loss:.4f}, floor {last.floor:.4f}"
        if "verdicts" in tables:
            answers = tables["verdicts"].groupby("seed")["answer"].first()
            return f"{tables['verdicts']['model'].iloc[0]}: beyond every control? {', '.join(answers)}"
        if not part.startswith("examine"):
            return ""
        excess, rows = tables["excess"].iloc[0], tables["probes"]
        own = rows["headline"].eq(True) & rows["control"].eq("") & rows["target"].eq("filtered")
        own &= rows["offset"].eq(True) & rows["position"].eq("all")
        r2 = rows[own].groupby("weights")["r2"].median()
        scores = f"R2 {r2['probability']:.4f} / {r2['equal']:.4f} (probability / equal)"
        return f"{excess.model} (seed {excess.seed}): excess {excess.excess:.5f} nats, {scores}"

    def report(self, folder: RunFolder) -> str:
        page = report.write(folder.path)
        return f"{report.render_summary(report.summary(folder.path))}\n\nReport: {page}"

    @classmethod
    def shortened(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A few steps and short words."""
        training = {name: entry | {"steps": 4, "batch_size": 8} for name, entry in arguments["training"].items()}
        asked = (arguments.get("evaluation") or {}) | {
            "permutations": 100,
            "iterations": [0, 1],
            "timing_seconds": 0.01,
        }
        asked |= {"untrained_scales": [0.9], "untrained_seeds": [0], "batch_sizes": [1]}
        asked |= {"verdict_copies": 19, "verdict_length": 4}
        sizes = {"context": 5, "log_every": 1, "checkpoint_every": 2}
        return {**arguments, "training": training, "evaluation": asked, **sizes}


def checkpoint(files: Path, model: str, seed: int) -> Path:
    """Where a run keeps a model's last weights."""
    return files / "checkpoints" / model / f"seed{seed}" / "last.ckpt"


def _snapshot(files: Path, model: str, seed: int, step: int) -> Path:
    return checkpoint(files, model, seed).with_name(f"step{step}.ckpt")


def geometry_file(files: Path, name: str) -> Path:
    """Where a run keeps what its figures of belief geometry are drawn from."""
    return files / "geometry" / f"{name}.npz"


def _named(table: pd.DataFrame, model: str, seed: int) -> pd.DataFrame:
    return table.assign(model=model, seed=seed)
