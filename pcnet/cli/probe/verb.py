"""What `pcnet probe` is told and what it says; nothing heavy is imported before a call is known to be one."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

DESCRIPTION = """\
Ask whether activations linearly encode the beliefs of the process that made the tokens. Scores are held out and stand
beside those of controls that know less; see README for what they mean.

  pcnet probe --activations states.npy --tokens tokens.npy --process mess3
  pcnet probe --activations layers.npz --tokens tokens.npy --process mess3 --x 0.1 --a 0.7
  pcnet probe --activations states.npy --tokens tokens.npy --process rrxor --logits logits.npy --verdict

Activations are (B, L, D), or an .npz of several named sites; tokens are (B, L), from the process's start on, and
activation t has seen tokens 0..t. The process's own parameters are options, as in `pcnet process NAME --help`."""
EPILOG = """\
the folder then holds probe.png and probe.svg, summary.csv (what is printed), scores.csv (every fold seed and position),
readings.csv (calibration of decoded beliefs, overlaps of a product's factors) and, with --verdict, verdict.csv. For
each site of 64 features, 1000 sequences of 10 tokens take ten seconds and 30,000 a minute and a half; a verdict on 350 to
1000 words takes six to eight more

exit codes: 0 done, 2 something was wrong with the call, 130 interrupted"""
TARGETS = ("filtered", "predicted", "beyond", "next_token", "future")
GROUPS = ("word", "sequence", "belief", "suffix")
SUFFIX, STEPS = 3, 3
"""Tokens of --groups suffix and of --target future by default."""


def main(arguments: Sequence[str]) -> int:
    """Run the verb.

    Args:
        arguments: what follows it on the command line.

    Returns:
        The exit code.
    """
    known, rest = _parser().parse_known_args(arguments)
    try:
        _check(known)
        known.steps = STEPS if known.steps is None else known.steps
        known.suffix = SUFFIX if known.suffix is None else known.suffix
        from pcnet.cli.probe.answer import run

        print(run(known, rest, _progress))
        return 0
    except (ValueError, TypeError, OSError) as error:
        _progress("")
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
    _add_files(parser)
    parser.add_argument(
        "--target",
        choices=TARGETS,
        default="filtered",
        help="what to decode: the filtered belief (default), the predicted one, the belief beyond any function of the "
        "next-token law, that law, or the law of the next --steps tokens",
    )
    parser.add_argument("--steps", type=int, metavar="K", help=f"tokens of --target future (default: {STEPS})")
    parser.add_argument(
        "--groups", choices=GROUPS, default="word", help="rows that stay together when dealt to folds (default: word)"
    )
    parser.add_argument("--suffix", type=int, metavar="K", help=f"of --groups suffix (default: {SUFFIX} tokens)")
    parser.add_argument("--permutations", type=int, default=100, metavar="N", help="of shuffled beliefs (default: 100)")
    parser.add_argument(
        "--verdict",
        action="store_true",
        help="also answer yes, no, not decidable here, or present and not linear, at the 5 %% level",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="INTEGER", help="of every draw (default: 0)")
    return parser


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--activations", type=Path, metavar="FILE", help=".npy (B, L, D), read in pieces, or .npz with named sites"
    )
    parser.add_argument("--tokens", type=Path, metavar="FILE.npy", help="whole numbers (B, L)")
    parser.add_argument(
        "--logits", type=Path, metavar="FILE.npy", help="(B, L, V) of the next token: the model's softmax as a control"
    )
    parser.add_argument(
        "--process",
        metavar="NAME",
        help="what made the tokens; `pcnet process` lists the names; NAME,NAME is a product, each token a pair",
    )
    parser.add_argument("--matrices", type=Path, metavar="FILE.npy", help="an array (V, S, S) instead of --process")
    parser.add_argument(
        "--site", action="append", metavar="NAME", help="of an .npz, any number of times (default: all its sites)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where files go (default: runs/probe/ACTIVATIONS)")


def _check(known: argparse.Namespace) -> None:
    """ValueError for what can be known to be wrong without looking at any file."""
    for name in ("activations", "tokens"):
        if getattr(known, name) is None:
            raise ValueError(f"--{name} is missing; pcnet probe --help shows a call")
    if known.groups != "suffix" and known.suffix is not None:
        raise ValueError(f"--suffix makes no sense with --groups {known.groups}; it belongs to --groups suffix")
    if known.target != "future" and known.steps is not None:
        raise ValueError(f"--steps makes no sense with --target {known.target}; it belongs to --target future")
    if known.verdict and known.target != "filtered":
        raise ValueError(f"--verdict is calibrated for --target filtered and for no other, got {known.target}")
    if known.permutations < 1:
        raise ValueError(f"--permutations must be at least 1, got {known.permutations}")
    if known.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {known.seed}")


def _progress(doing: str) -> None:
    """One line that says what is being done, if standard error is a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{doing}", end="", file=sys.stderr, flush=True)
