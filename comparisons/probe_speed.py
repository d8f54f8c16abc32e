"""What a probe costs: 29,523 words of Mess3 x 320 features with all controls, in seconds and bytes.

python -m comparisons.probe_speed            into runs/probe_speed: probe_speed.csv and .md
python -m comparisons.probe_speed --smoke    short words and few features
"""

import argparse
import resource
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from comparisons.kept import markdown, save_table, whole
from pcnet.probing import (
    AdditiveHistory,
    ConstrainedBelief,
    Control,
    LastToken,
    LastTokensTable,
    MarkovApproximation,
    ModelSoftmax,
    NextTokenLaw,
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
from pcnet.probing.regression.protocol import DEFAULT_PROTOCOL, Protocol
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
ONE_DEAL = Protocol(fold_seeds=(0,))


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


def timed(name: str, job: Callable[[], object]) -> dict:
    start, cpu = time.perf_counter(), time.process_time()
    job()
    row = {"part": name, "seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    print(f"{name:28}{row['seconds']:8.2f} s {row['cpu_seconds']:8.2f} s of CPU", flush=True)
    return row


def parts(subject: Subject) -> Iterator[dict]:
    """Seconds of the model's own score and of each control."""

    def own(features: np.ndarray) -> pd.DataFrame:
        return probe(features, subject.targets, subject.words, DEFAULT_PROTOCOL, (True,))

    yield timed("model", lambda: own(subject.features))
    for control in CONTROLS:
        yield timed(
            control.name,
            lambda control=control: (
                score_control(control, subject, DEFAULT_PROTOCOL, (True,)),
                control_population_r2(control, subject),
            ),
        )
    for seed in (1, 2):  # untrained copies of this untrained network are networks of matched width as well
        tokens, lengths = subject.words.tokens.numpy(), subject.words.lengths.numpy()
        copy = reservoir(subject.features.shape[1], tokens, lengths, seed)
        yield timed(f"untrained copy {seed}", lambda copy=copy: own(copy))
    name = f"{len(SHUFFLES)} shuffles, {sum(each.num_permutations for each in SHUFFLES)} orders"
    yield timed(name, lambda: permutation_scores(SHUFFLES, subject, DEFAULT_PROTOCOL, (True,)))


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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/probe_speed"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smoke", action="store_true")
    known = parser.parse_args(arguments)
    length, width, streams = (5, 16, (50, 100)) if known.smoke else (9, 320, (10_000, 100_000))
    torch.set_num_threads(known.threads)
    table = list(parts(subject_of(length, width)))
    sums = {name: sum(row[name] for row in table) for name in ("seconds", "cpu_seconds")}
    table.append({"part": "all together", **sums})
    table[-1]["peak_mib"] = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )  # the whole process, torch and all
    table += [streamed_peak(count, width) for count in streams]
    known.out.mkdir(parents=True, exist_ok=True)
    save_table(table, known.out / "probe_speed.csv")
    with whole(known.out / "probe_speed.md") as path:
        path.write_text(markdown(pd.DataFrame(table).round(2)))
    print((known.out / "probe_speed.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
