"""What is asked of a model once it is trained: its excess loss, its geometry, its inference, and the same of its copies."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from pcnet.config import Comparison, Sites
from pcnet.inference import CarriedOver, Inference, RandomValues, Status
from pcnet.networks import TemporalPC
from pcnet.predictor import Predictor
from pcnet.probing import (
    AdditiveHistory,
    ConstrainedBelief,
    Control,
    LastToken,
    LastTokensTable,
    ModelSoftmax,
    NextTokenLaw,
    Protocol,
    RandomSubspace,
    ShuffledBeliefs,
    Subject,
    affinely_invisible_belief,
    belief_beyond_next_token_law,
    control_population_r2,
    decode,
    probe,
    score_control,
)
from pcnet.probing.rows.prefix_walk import Walk, excess_loss, walk
from pcnet.processes import HiddenMarkovModel, Words, words
from pcnet.records import Tables
from pcnet.tables import COLUMNS, EQUILIBRIUM

ONE_DEAL = Protocol(fold_seeds=(0,))
"""The default protocol with one fold seed, where scores are compared with each other and not with a bar."""


BESIDE_LAW = "next_token+site"
"""Name of the score that the exact next-token law and a model's site reach together; beside the law's own, a gain."""


@dataclass(frozen=True, eq=False)
class Examination:
    """A process and all its words up to the context, as every model is examined on them."""

    process: HiddenMarkovModel
    words: Words

    @classmethod
    def of(cls, comparison: Comparison) -> "Examination":
        return cls(comparison.process, words(comparison.process, comparison.context))

    def probe(
        self, features: torch.Tensor, targets: torch.Tensor, protocol: Protocol, offsets: tuple[bool, ...]
    ) -> pd.DataFrame:
        return probe(features, targets, self.words, protocol, offsets)

    def decode(self, features: torch.Tensor, targets: torch.Tensor | None = None) -> np.ndarray:
        targets = self.words.filtered if targets is None else targets
        return decode(features, targets, self.words).astype(np.float32)

    def shuffled(self, seed: int) -> torch.Tensor:
        """Beliefs dealt out anew within each length."""
        generator = torch.Generator().manual_seed(seed)
        sizes = [len(level.last_tokens) for level in self.words.levels]
        starts = np.cumsum([0, *sizes[:-1]])
        order = torch.cat(
            [start + torch.randperm(size, generator=generator) for start, size in zip(starts, sizes, strict=True)]
        )
        return self.words.filtered[order]


def process_controls(exam: Examination, protocol: Protocol) -> Tables:
    """Controls that belong to the process and to no model, each with its full-population value."""
    controls = [
        NextTokenLaw(),
        LastToken(),
        AdditiveHistory(),
        ConstrainedBelief(),
        *(LastTokensTable(k) for k in (1, 2, 3, 4)),
    ]
    subject = Subject(exam.process, exam.words, exam.words.filtered)
    return {
        "probes": _rows(pd.concat([_controlled(control, subject, protocol) for control in controls], ignore_index=True))
    }


def trained(
    exam: Examination, model: Predictor, sites: Sites, seed: int, permutations: int, protocol: Protocol
) -> tuple[Tables, dict[str, np.ndarray]]:
    """Everything about one trained model at equilibrium: its tables, and its decoded beliefs for the figures."""
    seen = walk(model, exam.words, [sites.headline, *sites.filtered, *sites.predicted, *_diagnostics(model)])
    headline = seen.features(sites.headline)
    parts = [
        exam.probe(headline, exam.words.filtered, protocol, (True, False)).assign(site=sites.headline, headline=True),
        *(_site(exam, seen, site, "filtered", exam.words.filtered, protocol) for site in sites.filtered),
        *(_site(exam, seen, site, "predicted", exam.words.predicted, protocol) for site in sites.predicted),
        *_beyond_predictions(exam, headline, sites.headline, protocol),
        _model_controls(exam, headline, seen.logits, permutations, protocol).assign(site=sites.headline, headline=True),
    ]
    tables = {
        "probes": _rows(pd.concat(parts, ignore_index=True)).assign(trained=True, seed=seed),
        "excess": _excess(exam, seen, EQUILIBRIUM).assign(seed=seed),
    }
    if _diagnostics(model):
        tables["inference"] = inference_health(seen).assign(seed=seed)
    geometry = {"trained": exam.decode(headline), "shuffled": exam.decode(headline, exam.shuffled(seed))}
    return tables, geometry


def untrained(exam: Examination, model: Predictor, site: str, protocol: Protocol) -> tuple[pd.DataFrame, np.ndarray]:
    """An untrained copy at the headline site, and its decoded beliefs."""
    features = walk(model, exam.words, site).features(site)
    rows = [
        exam.probe(features, exam.words.filtered, protocol, (True, False)).assign(site=site, headline=True),
        *_beyond_predictions(exam, features, site, protocol),
    ]
    return _rows(pd.concat(rows, ignore_index=True)).assign(trained=False), exam.decode(features)


def after_iterations(
    exam: Examination, model: TemporalPC, site: str, iterations: int, inference: Inference
) -> tuple[Tables, np.ndarray]:
    """Scores of the network that takes so many inference iterations at every token and no more."""
    features, seen = _with(model, replace(inference, max_steps=iterations), exam, site)
    rows = exam.probe(features, exam.words.filtered, ONE_DEAL, (True,)).assign(
        site=site, headline=True, iteration=str(iterations)
    )
    rows = rows[rows["position"] == "all"]
    return {"probes": _rows(rows).assign(trained=True), "excess": _excess(exam, seen, str(iterations))}, exam.decode(
        features
    )


def robustness(exam: Examination, model: TemporalPC, site: str, solver: Inference) -> pd.DataFrame:
    """R2 and excess again with another solver, from other initial values and in float64, beside what was reported."""
    reported = model.inference
    precise = replace(reported, atol=reported.atol * 1e-4)
    variants = {
        f"solver {type(solver.solver).__name__}": (model, solver),
        "initial values carried over": (model, replace(reported, initial=CarriedOver())),
        "initial values random": (model, replace(reported, initial=RandomValues(scale=0.5))),
        "float64": (_double(model), precise),
    }
    reference = _numbers(exam, model, site, reported)
    return pd.concat(
        [
            _compare(name, _numbers(exam, copy, site, inference), reference)
            for name, (copy, inference) in variants.items()
        ],
        ignore_index=True,
    )


def inference_health(seen: Walk) -> pd.DataFrame:
    """How many token problems converged, and in how many iterations."""
    status, steps = seen.sites["diagnostics.status"].flatten(), seen.sites["diagnostics.steps"].flatten().double()
    return pd.DataFrame(
        {
            "tokens": [len(status)],
            "converged": [int((status == Status.CONVERGED).sum())],
            "diverged": [int((status == Status.DIVERGED).sum())],
            "unconverged": [int((status == Status.UNCONVERGED).sum())],
            "residual_max": [float(seen.sites["diagnostics.residual"].max())],
            "iterations_p50": [float(steps.quantile(0.5))],
            "iterations_p90": [float(steps.quantile(0.9))],
        }
    )


def _diagnostics(model: Predictor) -> list[str]:
    return ["diagnostics.*"] if isinstance(model, TemporalPC) else []


def _site(
    exam: Examination, seen: Walk, site: str, target: str, beliefs: torch.Tensor, protocol: Protocol
) -> pd.DataFrame:
    return exam.probe(seen.features(site), beliefs, protocol, (True,)).assign(site=site, target=target)


def _beyond_predictions(exam: Examination, features: torch.Tensor, site: str, protocol: Protocol) -> list[pd.DataFrame]:
    """The parts of the belief that predictions do not give away, where the process has any."""
    targets = {
        "residual": belief_beyond_next_token_law(exam.words),
        "invisible": affinely_invisible_belief(exam.process, exam.words),
    }
    return [
        exam.probe(features, part, protocol, (True,)).assign(site=site, headline=True, target=name)
        for name, part in targets.items()
        if np.abs(np.asarray(part)).max() > 1e-9
    ]


def _model_controls(
    exam: Examination, features: torch.Tensor, logits: torch.Tensor, permutations: int, protocol: Protocol
) -> pd.DataFrame:
    subject = Subject(exam.process, exam.words, exam.words.filtered, features, logits)
    controls = [ModelSoftmax(), RandomSubspace(), ShuffledBeliefs(permutations)]
    joined = torch.cat([exam.words.next_token_laws.to(features.dtype), features], dim=-1)
    together = exam.probe(joined, exam.words.filtered, protocol, (True,)).assign(control=BESIDE_LAW)
    return pd.concat([*(_controlled(control, subject, protocol) for control in controls), together], ignore_index=True)


def _controlled(control: Control, subject: Subject, protocol: Protocol) -> pd.DataFrame:
    held_out = score_control(control, subject, protocol, (True,))
    population = pd.DataFrame(
        {
            "offset": [True],
            "position": ["all"],
            "weights": ["population"],
            "r2": [control_population_r2(control, subject)],
        }
    )
    return pd.concat([held_out, population.dropna(subset="r2")], ignore_index=True).assign(control=control.name)


def _excess(exam: Examination, seen: Walk, iteration: str) -> pd.DataFrame:
    return pd.DataFrame({"iteration": [iteration], "excess": [float(excess_loss(exam.words, seen.logits).mean())]})


def _with(model: TemporalPC, inference: Inference, exam: Examination, site: str) -> tuple[torch.Tensor, Walk]:
    """A walk with other inference settings."""
    before, model.inference = model.inference, inference
    try:
        seen = walk(model, exam.words, [site, "diagnostics.*"])
    finally:
        model.inference = before
    return seen.features(site), seen


def _double(model: TemporalPC) -> TemporalPC:
    return copy.deepcopy(model).double()


def _numbers(exam: Examination, model: TemporalPC, site: str, inference: Inference) -> dict[str, float]:
    features, seen = _with(model, inference, exam, site)
    rows = exam.probe(features, exam.words.filtered, ONE_DEAL, (True,))
    scores = rows[rows["position"] == "all"].set_index("weights")["r2"]
    status = seen.sites["diagnostics.status"]
    return {
        "r2 probability": scores["probability"],
        "r2 equal": scores["equal"],
        "excess": float(excess_loss(exam.words, seen.logits).mean()),
        "converged": float((status == Status.CONVERGED).double().mean()),
    }


BOUNDS = {"r2 probability": 1e-3, "r2 equal": 1e-3, "excess": 1e-4, "converged": 1e-3}


def _compare(name: str, numbers: dict[str, float], reference: dict[str, float]) -> pd.DataFrame:
    table = pd.DataFrame({"value": numbers, "reference": reference, "bound": BOUNDS}).rename_axis("check").reset_index()
    table["check"] = name + ": " + table["check"]
    table["difference"] = (table["value"] - table["reference"]).abs()
    return table.assign(passed=table["difference"] <= table["bound"])


def _rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of probes.csv: what a part does not say has its neutral value."""
    neutral = {"model": "", "trained": "", "gain": "", "seed": "", "site": "", "headline": False, "target": "filtered"}
    neutral |= {"control": "", "iteration": EQUILIBRIUM}
    said = {column: table.get(column, pd.Series(pd.NA, table.index)).astype(object) for column in neutral}
    filled = {column: said[column].where(said[column].notna(), value) for column, value in neutral.items()}
    return table.assign(**filled).reindex(columns=COLUMNS["probes"])
