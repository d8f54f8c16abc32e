"""The verb `pcnet probe`: your own activations, scored beside their controls."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pcnet.card import Entry
    from pcnet.probing import Protocol, Rows
    from pcnet.probing.groups import Groups
    from pcnet.processes import Process

DESCRIPTION = """\
Ask whether activations linearly encode the beliefs of the process that made the tokens. Scores are held out and stand
beside those of controls that know less; see README for what they mean.

  pcnet probe --activations states.npy --tokens tokens.npy --process mess3
  pcnet probe --activations layers.npz --tokens tokens.npy --process mess3 --x 0.1 --a 0.7
  pcnet probe --activations states.npy --tokens tokens.npy --matrices mine.npy --groups suffix --suffix 3

Activations are (B, L, D), or an .npz of several named sites; tokens are (B, L), from the process's start on, and
activation t has seen tokens 0..t. The process's own parameters are options, as in `pcnet process NAME --help`."""
EPILOG = """\
the folder then holds scores.csv (every fold seed and position) and summary.csv (what is printed)

exit codes: 0 done, 2 something was wrong with the call, 130 interrupted"""
FOLDER = Path("runs/probe")
TARGETS = ("filtered", "predicted", "next_token")
GROUPS = ("word", "sequence", "belief", "suffix")


def main(arguments: Sequence[str]) -> int:
    """Run the verb.

    Args:
        arguments: what follows it on the command line.

    Returns:
        The exit code.
    """
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    try:
        return _answer(known, rest)
    except (ValueError, TypeError, OSError) as error:
        print(f"pcnet probe: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "pcnet probe",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--activations", type=Path, metavar="FILE", help=".npy (B, L, D), read in pieces, or .npz with named sites"
    )
    parser.add_argument("--tokens", type=Path, metavar="FILE.npy", help="whole numbers (B, L)")
    parser.add_argument("--process", metavar="NAME", help="what made the tokens; `pcnet process` lists the names")
    parser.add_argument("--matrices", type=Path, metavar="FILE.npy", help="an array (V, S, S) instead of --process")
    parser.add_argument(
        "--site", action="append", metavar="NAME", help="of an .npz, any number of times (default: all its sites)"
    )
    parser.add_argument(
        "--target", choices=TARGETS, default="filtered", help="what to decode (default: filtered belief)"
    )
    parser.add_argument(
        "--groups", choices=GROUPS, default="word", help="rows that stay together when dealt to folds (default: word)"
    )
    parser.add_argument("--suffix", type=int, metavar="K", help="tokens of --groups suffix (default: 3)")
    parser.add_argument("--permutations", type=int, default=100, metavar="N", help="of shuffled beliefs (default: 100)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="INTEGER", help="of permutations and of random processes"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where tables go (default: runs/probe/ACTIVATIONS)")
    return parser


def _answer(known: argparse.Namespace, rest: list[str]) -> int:
    for name in ("activations", "tokens"):
        if getattr(known, name) is None:
            raise ValueError(f"--{name} is missing; pcnet probe --help shows a call")
    if known.groups != "suffix" and known.suffix is not None:
        raise ValueError(f"--suffix makes no sense with --groups {known.groups}; it belongs to --groups suffix")
    process = _process(known, rest)
    sites = _sites(known.activations, known.site)
    rows = _rows(known.tokens, process)
    scores = _scores(known, process, rows, {name: rows.flatten(array) for name, array in sites.items()})
    folder = known.out or FOLDER / known.activations.stem
    summary = _summary(scores)
    _write(folder, {"scores": scores, "summary": summary})
    print(_text(summary, rows, known.target))
    print(f"\nTables: {folder / 'summary.csv'}")
    return 0


def _process(known: argparse.Namespace, rest: list[str]) -> "Process":
    from pcnet.card import catalogue
    from pcnet.processes import HiddenMarkovModel

    if (known.process is None) == (known.matrices is None):
        raise ValueError("give either --process NAME or --matrices FILE.npy")
    if known.matrices is not None:
        if rest:
            raise ValueError(f"--matrices takes the place of a process and its parameters; {rest[0]} makes no sense")
        return HiddenMarkovModel(_array("--matrices", known.matrices))
    entries = catalogue()
    if known.process not in entries:
        raise ValueError(f"--process: none is called {known.process!r}; there are {', '.join(entries)}")
    entry = entries[known.process]
    return entry.make(_parameters(entry, rest), known.seed)


def _parameters(entry: "Entry", rest: list[str]) -> dict:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in entry.parameters:
        parser.add_argument(*dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]))
    try:
        given, unknown = parser.parse_known_args(rest)
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from None
    if unknown:
        options = ", ".join(f"--{name}" for name in entry.parameters) or "none"
        raise ValueError(f"there is no option {unknown[0]}; parameters of {entry.name}: {options}")
    return {name: entry.parameters[name].parse(text) for name, text in vars(given).items() if text is not None}


def _array(option: str, path: Path) -> "np.ndarray":
    """An array saved by numpy, opened and not read."""
    import numpy as np

    if not path.is_file():
        raise ValueError(f"{option}: there is no file {path}")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        raise ValueError(f"{option}: {path} holds no array saved by numpy.save") from None


def _sites(path: Path, wanted: list[str] | None) -> "dict[str, np.ndarray]":
    found = _array("--activations", path)
    if path.suffix != ".npz":
        if wanted:
            raise ValueError(f"--site {wanted[0]}: {path} holds one array without a name; sites are those of an .npz")
        return {path.stem: found}
    if missing := [name for name in wanted or () if name not in found]:
        raise ValueError(f"--site: {path} has no {missing[0]!r}; there are {', '.join(found)}")
    return {name: found[name] for name in wanted or found}


def _rows(path: Path, process: "Process") -> "Rows":
    from pcnet.probing import Rows

    return Rows.of_sequences(_array("--tokens", path), process)


def _groups(known: argparse.Namespace, rows: "Rows") -> "Groups":
    makers = {"word": rows.by_word, "sequence": rows.by_sequence, "belief": rows.by_belief}
    return (
        rows.by_suffix(3 if known.suffix is None else known.suffix)
        if known.groups == "suffix"
        else makers[known.groups]()
    )


def _scores(
    known: argparse.Namespace, process: "Process", rows: "Rows", sites: "dict[str, np.ndarray]"
) -> "pd.DataFrame":
    """Held-out scores of every site and of what knows less, each named in the columns site and control."""
    import numpy as np
    import pandas as pd

    from pcnet.probing.protocol import DEFAULT_PROTOCOL as PROTOCOL

    if known.permutations < 1:
        raise ValueError(f"--permutations must be at least 1, got {known.permutations}")
    targets = {"filtered": rows.filtered, "predicted": rows.predicted, "next_token": rows.next_token_laws}[known.target]
    targets, groups = targets.numpy(), _groups(known, rows)
    rivals = {} if known.target == "next_token" else {"next_token": rows.next_token_laws.numpy()}
    rivals |= {f"last {k} tokens": _endings(rows, k, process.vocab_size) for k in (1, min(4, rows.sequences.shape[1]))}
    tables = [
        rows.probe(features, targets, PROTOCOL, (True,), groups).assign(site="", control=name)
        for name, features in rivals.items()
    ]
    for name, features in sites.items():
        alone = rows.probe(features, targets, PROTOCOL, (True,), groups)
        tables.append(alone.assign(site=name, control=""))
        shuffled = _shuffled(known, rows, features, targets, groups, PROTOCOL)
        tables.append(shuffled.assign(site=name, control="shuffled"))
        if rivals and "next_token" in rivals:
            both = np.concatenate([rivals["next_token"], features], axis=1)
            joined = rows.probe(both, targets, PROTOCOL, (True,), groups)
            tables.append(joined.assign(site=name, control="next_token + site"))
    return pd.concat(tables, ignore_index=True)


def _endings(rows: "Rows", num_tokens: int, vocab_size: int) -> "np.ndarray":
    """The last tokens, each one-hot, with a symbol for what came before the start."""
    import numpy as np

    sequences, origin, lengths = (part.numpy() for part in (rows.sequences, rows.origin, rows.lengths))
    places = lengths[:, None] - 1 - np.arange(num_tokens)
    seen = np.where(places >= 0, sequences[origin[:, None], np.maximum(places, 0)], vocab_size)
    return np.eye(vocab_size + 1, dtype=np.float32)[seen].reshape(len(lengths), -1)


def _shuffled(
    known: argparse.Namespace,
    rows: "Rows",
    features: "np.ndarray",
    targets: "np.ndarray",
    groups: "Groups",
    protocol: "Protocol",
) -> "pd.DataFrame":
    """The 95th percentile over permutations of the targets between groups' rows of one length, one deal to folds."""
    from dataclasses import replace

    import numpy as np

    from pcnet.probing.dataset import ProbeData
    from pcnet.probing.protocol import probe_replicates

    data = ProbeData.checked(features, targets, rows.lengths, rows.probabilities)
    order = np.tile(np.arange(len(targets))[:, None], known.permutations)
    generator = np.random.default_rng(known.seed)
    for length in np.unique(data.lengths):
        inside = np.flatnonzero(data.lengths == length)
        order[inside] = generator.permuted(order[inside], axis=0)
    once = replace(protocol, fold_seeds=protocol.fold_seeds[:1])
    scores = probe_replicates(data, order, once, (True,), groups)
    scores["departures"] = ", ".join(rows.departures) + ", " + scores["departures"]
    keys = ["offset", "position", "weights", "fold_seed", "rows", "n_eff", "features", "departures"]
    found = scores.groupby(keys, sort=False)
    return found.agg(r2=("r2", lambda values: values.quantile(0.95)), rmse=("rmse", "median")).reset_index()


def _summary(scores: "pd.DataFrame") -> "pd.DataFrame":
    """Median and range over fold seeds at all positions together, rows weighted equally within a length."""
    chosen = scores[(scores["position"] == "all") & (scores["weights"] == "equal")]
    groups = chosen.groupby(["site", "control", "rows", "n_eff", "features", "departures"], sort=False)
    return groups.agg(
        r2=("r2", "median"), r2_min=("r2", "min"), r2_max=("r2", "max"), rmse=("rmse", "median")
    ).reset_index()


def _text(summary: "pd.DataFrame", rows: "Rows", target: str) -> str:
    """The table, and a sentence for each site."""
    lines = [
        f"Held-out R2 of the {target.replace('_', '-')} {'law' if target == 'next_token' else 'belief'}; "
        f"{int(summary['rows'].iloc[0]):,} rows scored, worth {summary['n_eff'].iloc[0]:,.1f} equally weighted ones, "
        f"{rows.by_word().count:,} distinct words; {summary['departures'].iloc[0]}",
        "",
        f"{'':40}{'features':>9}{'R2':>9}{'range over fold seeds':>24}{'RMSE':>9}",
    ]
    for row in summary.itertuples():
        name = " ".join(filter(None, (row.site, row.control and f"({row.control})"))) if row.site else row.control
        spread = f"{row.r2_min:.3f} to {row.r2_max:.3f}"
        lines.append(f"{name:40}{row.features:9}{row.r2:9.3f}{spread:>24}{row.rmse:9.4f}")
    sites = [site for site in dict.fromkeys(summary["site"]) if site]
    return "\n".join([*lines, "", *(_sentence(summary, site) for site in sites)])


def _sentence(summary: "pd.DataFrame", site: str) -> str:
    """What may be said of one site."""
    found = summary[summary["site"] == site].set_index("control")["r2"]
    rivals = summary[summary["site"] == ""].set_index("control")["r2"]
    best, score = rivals.idxmax(), found[""]
    if not score > found["shuffled"]:
        return f"{site}: no more than shuffled targets ({found['shuffled']:.3f}); nothing is decoded"
    if rivals.max() >= 0.95:
        return f"{site}: not decidable on this process: {best} alone explains {rivals.max():.3f}"
    if "next_token + site" not in found:
        return f"{site}: {score - rivals.max():+.3f} beside {best}, the best control"
    gain = found["next_token + site"] - rivals["next_token"]
    return (
        f"{site}: {score - rivals.max():+.3f} beside {best}, the best control; {gain:+.3f} on top of the exact next-token "
        "law. Whether training did it only untrained copies can tell"
    )


def _write(folder: Path, tables: "dict[str, pd.DataFrame]") -> None:
    from pcnet.tables import replace_file

    for name, table in tables.items():
        replace_file(folder / f"{name}.csv", table.to_csv(index=False).encode())
