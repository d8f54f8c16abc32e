"""What a probe costs. ``python -m comparisons.probe_speed``"""

import resource
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from comparisons.kept import markdown
from pcnet.experiments import Experiment, Job, Report, RunFolder, Schema, Tables, command
from pcnet.probing import (
    AdditiveHistory,
    ConstrainedBelief,
    Control,
    LastToken,
    LastTokensTable,
    MarkovApproximation,
    ModelSoftmax,
    NextTokenLaw,
    Protocol,
    RandomSubspace,
    Rows,
    ShuffledBeliefs,
    ShuffledEverywhere,
    ShuffledKeepingLastToken,
    Subject,
    control_population_r2,
    permutation_scores,
    probe,
    score_control,
)
from pcnet.processes import mess3, sample, words

CONTROLS: tuple[Control, ...] = (
    NextTokenLaw(),
    LastToken(),
    AdditiveHistory(),
    ConstrainedBelief(),
    ModelSoftmax(),
    RandomSubspace(),
    *(LastTokensTable(k) for k in (1, 2, 3, 4)),
    *(MarkovApproximation(k) for k in (1, 2, 3)),
)
SHUFFLES = (ShuffledBeliefs(), ShuffledEverywhere(), ShuffledKeepingLastToken())
FIVE_DEALS, ONE_DEAL = Protocol(), Protocol(fold_seeds=(0,))


@dataclass(frozen=True)
class ProbeSpeed(Experiment):
    """What does a probe cost, with all its controls, in seconds and bytes?

    All words of Mess3 up to a length (29,523 up to length 9) are probed with the states of an untrained network, under the
    default protocol with five deals to folds; then activations that lie in a file.

    Args:
        length: of the longest words.
        width: features of every word.
        streams: numbers of sequences of ten tokens whose activations lie in a file.
        threads: of the processor that may be used.
    """

    length: int = 9
    width: int = 320
    streams: list[int] = field(default_factory=lambda: [10_000, 100_000])
    threads: int = 2

    name: ClassVar[str] = "probe_speed"
    schema = Schema(probe_speed="part:text seconds cpu_seconds peak_mib features_mib")
    smoke: ClassVar[dict] = {"length": 5, "width": 16, "streams": [50, 100]}

    def jobs(self) -> list[Job]:
        streams = [Job(f"streamed-{count:09}", partial(self.stream, count), alone=True) for count in self.streams]
        return [Job("probe", self.probe, alone=True), *streams]  # the first measures what its whole process takes

    def probe(self, files: Path, told: Report) -> Tables:
        """Time the model's own score and each control, one after the other."""
        with limited(self.threads):
            table = pd.DataFrame(parts(subject_of(self.length, self.width)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # the whole process, torch and all
        sums = table[["seconds", "cpu_seconds"]].sum().to_dict()
        table = pd.concat(
            [table, pd.DataFrame([{"part": "all together", **sums, "peak_mib": peak}])], ignore_index=True
        )
        return {"probe_speed": table.assign(features_mib=np.nan)}

    def stream(self, sequences: int, files: Path, told: Report) -> Tables:
        """Probe activations in a file."""
        with limited(self.threads):
            return {"probe_speed": pd.DataFrame([streamed_peak(sequences, self.width)]).assign(cpu_seconds=np.nan)}

    def said(self, part: str, tables: Tables) -> str:
        last = tables["probe_speed"].iloc[-1]
        return f"{last['part']}: {last['seconds']:.2f} s"

    def report(self, folder: RunFolder) -> str:
        return markdown(folder.table("probe_speed").round(2))


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Let torch and linear algebra use so many threads, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)


def reservoir(width: int, tokens: np.ndarray, lengths: np.ndarray, seed: int = 0) -> np.ndarray:
    """Hidden units of an untrained tanh network after each word."""
    random = np.random.default_rng(seed)
    inward = random.standard_normal((3, width)).astype(np.float32)
    recurrent = (random.standard_normal((width, width)) * 0.9 / np.sqrt(width)).astype(np.float32)
    hidden, kept = np.zeros((len(tokens), width), np.float32), np.zeros((len(tokens), width), np.float32)
    for place, column in enumerate(tokens.T, 1):
        hidden = np.tanh(inward[column] + hidden @ recurrent)
        kept[lengths == place] = hidden[lengths == place]
    return kept


def subject_of(length: int, width: int) -> Subject:
    """All words up to a length and an untrained network's features."""
    rows = words(mess3(), length)
    features = reservoir(width, rows.tokens.numpy(), rows.lengths.numpy())
    return Subject(mess3(), rows, rows.filtered, features, features[:, :3])


def timed(name: str, work: Callable[[], object]) -> dict:
    """Seconds of a piece of work."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return {"part": name, "seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}


def parts(subject: Subject) -> Iterator[dict]:
    """Seconds of the model's own score and of each control."""

    def own(features: np.ndarray) -> pd.DataFrame:
        return probe(features, subject.targets, subject.words, FIVE_DEALS, (True,))

    yield timed("model", partial(own, subject.features))
    for control in CONTROLS:
        yield timed(
            control.name,
            lambda control=control: (
                score_control(control, subject, FIVE_DEALS, (True,)),
                control_population_r2(control, subject),
            ),
        )
    for seed in (1, 2):  # untrained copies of this untrained network are networks of matched width as well
        tokens, lengths = subject.words.tokens.numpy(), subject.words.lengths.numpy()
        copy = reservoir(subject.features.shape[1], tokens, lengths, seed)
        yield timed(f"untrained copy {seed}", partial(own, copy))
    name = f"{len(SHUFFLES)} shuffles, {sum(each.num_permutations for each in SHUFFLES)} orders"
    yield timed(name, lambda: permutation_scores(SHUFFLES, subject, FIVE_DEALS, (True,)))


def streamed_peak(sequences: int, width: int, length: int = 10) -> dict:
    """Peak of Python's and numpy's allocations while activations in a file are probed, and their own size."""
    rows = Rows.of_sequences(sample(mess3(), sequences, length, torch.Generator().manual_seed(0)), mess3())
    groups, targets = rows.by_sequence(), rows.filtered.numpy()
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        file = np.lib.format.open_memmap(f"{folder}/states.npy", "w+", np.float32, (rows.num_words, width))
        for start in range(0, rows.num_words, 10_000):
            file[start : start + 10_000] = random.standard_normal(file[start : start + 10_000].shape, np.float32)
        features = np.load(f"{folder}/states.npy", mmap_mode="r")
        tracemalloc.start()
        start = time.perf_counter()
        probe(features, targets, rows, ONE_DEAL, (True,), groups)
        seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return {
        "part": f"streamed, {rows.num_words:,} rows",
        "seconds": seconds,
        "peak_mib": peak / 2**20,
        "features_mib": rows.num_words * width * 4 / 2**20,
    }


if __name__ == "__main__":
    sys.exit(command("comparisons.probe_speed.ProbeSpeed"))
