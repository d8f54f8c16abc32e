"""What is asked of a model once it is trained: its excess loss, its geometry, its inference, and the same of its copies."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pcnet.experiments.beliefs.questions import Sites
from pcnet.inference import CarriedOver, Inference, RandomValues, Status
from pcnet.predictor import Predictor
from pcnet.probing import (
    AdditiveHistory,
    ConstrainedBelief,
    Control,
    DefaultBanks,
    Judge,
    LastToken,
    LastTokensTable,
    ModelSoftmax,
    NextTokenLaw,
    Protocol,
    RandomSubspace,
    ShuffledBeliefs,
    Subject,
    UntrainedCopies,
    affinely_invisible_belief,
    belief_beyond_next_token_law,
    control_population_r2,
    decode,
    probe,
    score_control,
)
from pcnet.probing.rows.prefix_walk import Walk, excess_loss, walk
from pcnet.processes import HiddenMarkovModel, Words, words
from pcnet.report.schema import EQUILIBRIUM, SCHEMA
from pcnet.sites import Iterates
from pcnet.tables import Tables

PROTOCOL = Protocol()
ONE_DEAL = Protocol(fold_seeds=(0,))
"""The default protocol with one fold seed, where scores are compared with each other and not with a bar."""

FIRST_COPY = 100
"""Seed of the first untrained copy of a verdict: no training seed, and none of the copies that are scored."""

BESIDE_LAW = "next_token+site"
"""Name of the score that the exact next-token law and a model's site reach together; beside the law's own, a gain."""


@dataclass(frozen=True, eq=False)
class Examination:
    """A process and all its words up to the context, as every model is examined on them."""

    process: HiddenMarkovModel
    words: Words

    @classmethod
    def of(cls, process: HiddenMarkovModel, context: int) -> "Examination":
        return cls(process, words(process, context))

    def probe(
        self,
        features: Tensor,
        targets: Tensor | None = None,
        protocol: Protocol = PROTOCOL,
        offsets: tuple[bool, ...] = (True,),
    ) -> pd.DataFrame:
        """Held-out scores of a probe on every word, against the filtered belief unless told otherwise."""
        targets = self.words.filtered if targets is None else targets
        return probe(features, targets, self.words, protocol, offsets)

    def decode(self, features: Tensor, targets: Tensor | None = None) -> np.ndarray:
        """Beliefs read from features, for figures."""
        targets = self.words.filtered if targets is None else targets
        return decode(features, targets, self.words).astype(np.float32)

    def shuffled(self, seed: int) -> Tensor:
        """Beliefs dealt out anew within each length."""
        generator = torch.Generator().manual_seed(seed)
        sizes = [len(level.last_tokens) for level in self.words.levels]
        starts = np.cumsum([0, *sizes[:-1]])
        order = [start + torch.randperm(size, generator=generator) for start, size in zip(starts, sizes, strict=True)]
        return self.words.filtered[torch.cat(order)]

    def seen(self, model: Predictor, *sites: str) -> Walk:
        """All words through a model."""
        return walk(model, self.words, list(sites))

    def judge(self, copy: Callable[[int], Mapping[str, Tensor]], num_copies: int) -> Judge:
        """What answers, for each of a model's training seeds, whether a site encodes the belief beyond every control.

        Args:
            copy: features by site of the untrained copy with this seed; called only where anything can be decided.
            num_copies: of them, and members of every other bank.
        """
        copies = UntrainedCopies(copy, range(FIRST_COPY, FIRST_COPY + num_copies))
        return Judge(Subject(self.process, self.words, self.words.filtered), (DefaultBanks(num_copies), copies))

    def excess(self, seen: Walk) -> float:
        """Exact excess loss over the Bayesian observer, nats per token."""
        return float(excess_loss(self.words, seen.logits).mean())

    def beyond_predictions(self, features: Tensor) -> list[pd.DataFrame]:
        """Scores against the parts of the belief that predictions do not give away, where the process has any."""
        targets = {
            "residual": belief_beyond_next_token_law(self.words),
            "invisible": affinely_invisible_belief(self.process, self.words),
        }
        present = {name: part for name, part in targets.items() if np.abs(np.asarray(part)).max() > 1e-9}
        return [self.probe(features, part).assign(target=name) for name, part in present.items()]


def process_controls(exam: Examination) -> Tables:
    """Controls that belong to the process and to no model, each with its full-population value."""
    tables = (LastTokensTable(k) for k in (1, 2, 3, 4))
    controls = [NextTokenLaw(), LastToken(), AdditiveHistory(), ConstrainedBelief(), *tables]
    subject = Subject(exam.process, exam.words, exam.words.filtered)
    return {"probes": _rows([_controlled(control, subject) for control in controls])}


def trained(
    exam: Examination, model: Predictor, sites: Sites, seed: int, permutations: int
) -> tuple[dict[str, pd.DataFrame], dict[str, np.ndarray]]:
    """Everything about one trained model at equilibrium: its tables, and its decoded beliefs for the figures."""
    watched = model.diagnostic_sites if isinstance(model, Iterates) else ()
    seen = walk(model, exam.words, [sites.headline, *sites.filtered, *sites.predicted, *watched])
    features = seen.features(sites.headline)
    own = [
        exam.probe(features, offsets=(True, False)),
        *exam.beyond_predictions(features),
        *_model_controls(exam, features, seen.logits, permutations),
    ]
    more = [(site, "filtered", exam.words.filtered) for site in sites.filtered]
    more += [(site, "predicted", exam.words.predicted) for site in sites.predicted]
    tables = {
        "probes": _rows(
            [
                *(rows.assign(site=sites.headline, headline=True) for rows in own),
                *(
                    exam.probe(seen.features(site), wanted).assign(site=site, target=name)
                    for site, name, wanted in more
                ),
            ]
        ).assign(trained=True),
        "excess": _excess(exam, seen, EQUILIBRIUM),
    }
    if watched:
        tables["inference"] = inference_health(seen)
    geometry = {"trained": exam.decode(features), "shuffled": exam.decode(features, exam.shuffled(seed))}
    return tables, geometry


def untrained(exam: Examination, model: Predictor, site: str) -> tuple[pd.DataFrame, np.ndarray]:
    """An untrained copy at the headline site, and its decoded beliefs."""
    features = walk(model, exam.words, site).features(site)
    rows = [exam.probe(features, offsets=(True, False)), *exam.beyond_predictions(features)]
    rows = _rows([part.assign(site=site, headline=True) for part in rows])
    return rows.assign(trained=False), exam.decode(features)


def after_iterations(
    exam: Examination, model: Predictor, site: str, iterations: int, inference: Inference
) -> tuple[Tables, np.ndarray]:
    """Scores of the network that takes so many inference iterations at every token and no more."""
    seen = _walked(exam, model, site, replace(inference, max_steps=iterations))
    features = seen.features(site)
    rows = exam.probe(features, protocol=ONE_DEAL).assign(site=site, headline=True, iteration=str(iterations))
    rows = _rows([rows[rows["position"] == "all"]]).assign(trained=True)
    return {"probes": rows, "excess": _excess(exam, seen, str(iterations))}, exam.decode(features)


def robustness(exam: Examination, model: Predictor, site: str, other: Inference) -> pd.DataFrame:
    """R2 and excess again with another solver, from other initial values and in float64, beside what was reported."""
    reported = model.inference
    precise = replace(reported, atol=reported.atol * 1e-4)
    variants = {
        f"solver {type(other.solver).__name__}": (model, other),
        "initial values carried over": (model, replace(reported, initial=CarriedOver())),
        "initial values random": (model, replace(reported, initial=RandomValues(scale=0.5))),
        "float64": (copy.deepcopy(model).double(), precise),
    }
    reference = _numbers(exam, model, site, reported)
    checks = [_check(name, _numbers(exam, one, site, how), reference) for name, (one, how) in variants.items()]
    return pd.concat(checks, ignore_index=True)


def inference_health(seen: Walk) -> pd.DataFrame:
    """How many token problems converged, and in how many iterations."""
    status, steps = seen.sites["diagnostics.status"].flatten(), seen.sites["diagnostics.steps"].flatten().double()
    row = {
        "tokens": len(status),
        "converged": int((status == Status.CONVERGED).sum()),
        "diverged": int((status == Status.DIVERGED).sum()),
        "unconverged": int((status == Status.UNCONVERGED).sum()),
        "residual_max": float(seen.sites["diagnostics.residual"].max()),
        "iterations_p50": float(steps.quantile(0.5)),
        "iterations_p90": float(steps.quantile(0.9)),
    }
    return pd.DataFrame([row])


def _model_controls(exam: Examination, features: Tensor, logits: Tensor, permutations: int) -> list[pd.DataFrame]:
    """Controls made of the model itself, and its site beside the exact next-token law."""
    subject = Subject(exam.process, exam.words, exam.words.filtered, features, logits)
    controls = (ModelSoftmax(), RandomSubspace(), ShuffledBeliefs(permutations))
    joined = torch.cat([exam.words.next_token_laws.to(features.dtype), features], dim=-1)
    return [*(_controlled(control, subject) for control in controls), exam.probe(joined).assign(control=BESIDE_LAW)]


def _controlled(control: Control, subject: Subject) -> pd.DataFrame:
    held_out = score_control(control, subject, PROTOCOL, (True,))
    population = {"position": ["all"], "weights": ["population"], "r2": [control_population_r2(control, subject)]}
    population = pd.DataFrame({"offset": [True], **population})
    return pd.concat([held_out, population.dropna(subset="r2")], ignore_index=True).assign(control=control.name)


def _excess(exam: Examination, seen: Walk, iteration: str) -> pd.DataFrame:
    return pd.DataFrame({"iteration": [iteration], "excess": [exam.excess(seen)]})


def _walked(exam: Examination, model: Predictor, site: str, inference: Inference) -> Walk:
    """All words through a model that infers, with other inference settings than its own."""
    with model.examining(inference):
        return walk(model, exam.words, [site, *model.diagnostic_sites])


def _numbers(exam: Examination, model: Predictor, site: str, inference: Inference) -> dict[str, float]:
    seen = _walked(exam, model, site, inference)
    rows = exam.probe(seen.features(site), protocol=ONE_DEAL)
    scores = rows[rows["position"] == "all"].set_index("weights")["r2"]
    return {
        "r2 probability": scores["probability"],
        "r2 equal": scores["equal"],
        "excess": exam.excess(seen),
        "converged": float((seen.sites["diagnostics.status"] == Status.CONVERGED).double().mean()),
    }


BOUNDS = {"r2 probability": 1e-3, "r2 equal": 1e-3, "excess": 1e-4, "converged": 1e-3}


def _check(name: str, numbers: dict[str, float], reference: dict[str, float]) -> pd.DataFrame:
    table = pd.DataFrame({"value": numbers, "reference": reference, "bound": BOUNDS}).rename_axis("check").reset_index()
    table["check"] = name + ": " + table["check"]
    table["difference"] = (table["value"] - table["reference"]).abs()
    return table.assign(passed=table["difference"] <= table["bound"])


NEUTRAL = {"model": "", "trained": "", "scale": "", "seed": "", "site": "", "headline": False, "target": "filtered"}
NEUTRAL |= {"control": "", "iteration": EQUILIBRIUM}


def _rows(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Rows of probes.csv: what a part does not say has its neutral value."""
    table = pd.concat(parts, ignore_index=True)
    said = {column: table.get(column, pd.Series(pd.NA, table.index)).astype(object) for column in NEUTRAL}
    filled = {column: said[column].where(said[column].notna(), value) for column, value in NEUTRAL.items()}
    return table.assign(**filled).reindex(columns=list(SCHEMA["probes"]))
