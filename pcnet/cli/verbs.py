"""The command `pcnet`."""

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pcnet.cli import probe as probe_command
from pcnet.cli import process as process_command

if TYPE_CHECKING:
    from pcnet.config import Settings

DESCRIPTION = """\
Predictive-coding networks beside transformers and recurrent networks: one question, one bill.

  pcnet compare            train them on a hidden Markov process, ask whether their states hold its belief
                           geometry, measure what an answer costs; ends with a table and a report to look at
  pcnet process mess3      everything that is known exactly about a process, printed and drawn
  pcnet probe              score your own activations: do they encode the beliefs of the process behind the tokens?

Each verb explains itself: pcnet compare --help"""

COMPARE = """\
Train several sequence models on the same hidden Markov process and compare them at their best:
  * excess loss over the exact Bayesian observer, without sampling
  * how well a linear map decodes the observer's belief from their states, held out, beside its controls
  * what an answer costs: operations, latency, memory, sequential depth, inference iterations

Without arguments: configs/mess3.yaml into runs/mess3, about six minutes on two cores. Results appear in the folder as they
come. Stop it whenever you like: the same command goes on from there."""

EXAMPLES = """\
any setting of the YAML can be given as --PATH VALUE, with the path's keys joined by dots:
  pcnet compare                                              the main experiment
  pcnet compare rrxor                                        the process whose predictions do not give beliefs away
  pcnet compare --models.temporal_pc.init_args.width 32      into runs/mess3-temporal_pc.width=32
  pcnet compare --seeds '[0, 1, 2]' --out runs/three-seeds   three training seeds, so scores get an interval
  pcnet compare my.yaml --training.gru.steps 500
  pcnet compare --replot                                     draw figures and report of a folder again, train nothing

what a folder holds:
  report.html, figures/           to look at
  training.csv probes.csv excess.csv cost.csv inference.csv checks.csv    tidy tables
  config.yaml, checkpoints/       every setting as it was used, and what was learned

exit codes: 0 done, 1 a job failed, 2 something was wrong with the call, 130 interrupted"""


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["process"]:  # whose options depend on which process
        return process_command.main(arguments[1:])
    if arguments[:1] == ["probe"]:  # whose options include those of the process
        return probe_command.main(arguments[1:])
    parser = argparse.ArgumentParser(
        "pcnet", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    _add_compare(verbs)
    verbs.add_parser("process", help="show what is known exactly about a process", add_help=False)
    verbs.add_parser("probe", help="score your own activations beside their controls", add_help=False)
    plain, overrides = _split(arguments)
    known = parser.parse_args(plain)
    if known.version:
        from importlib.metadata import version

        print(version("pcnet"))
        return 0
    if known.verb is None:
        parser.print_help()
        return 2
    return _compare(known, overrides)


def _add_compare(verbs: argparse._SubParsersAction) -> None:
    compare = verbs.add_parser(
        "compare",
        help="train, probe and bill models on one process",
        description=COMPARE,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    compare.add_argument(
        "config", nargs="?", default="mess3", metavar="CONFIG", help="a YAML file, or mess3 or rrxor (default: mess3)"
    )
    compare.add_argument(
        "--out", type=Path, metavar="DIR", help="where to keep the run (default: runs/NAME, with what was overridden)"
    )
    compare.add_argument(
        "--replot", action="store_true", help="only draw figures and report again from what the folder has"
    )
    compare.add_argument(
        "--smoke", action="store_true", help="a few steps and short words, to see that everything runs; under a minute"
    )


def _compare(known: argparse.Namespace, overrides: dict[str, str | None]) -> int:
    from pcnet.config import ConfigError
    from pcnet.experiment import RunFailed

    try:
        return _run(known, _complete(overrides))
    except (ConfigError, OSError) as error:
        print(f"pcnet compare: {error}", file=sys.stderr)
        return 2
    except RunFailed as error:
        print(
            f"pcnet compare: {error}\nEverything finished before is kept; the same command goes on from there.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Everything finished is kept; the same command goes on from there.", file=sys.stderr)
        return 130


def _run(known: argparse.Namespace, overrides: dict[str, str]) -> int:
    from pcnet import config, report
    from pcnet.experiment import run
    from pcnet.view import terminal_view

    settings = config.override(config.read(config.find(known.config)), overrides)
    if known.smoke:
        settings = smoke(settings)
    settings = config.resolve(settings)
    config.build(settings)
    out = known.out or Path("runs") / _folder_name(settings["name"], overrides, known.smoke)
    if known.replot:
        if not out.is_dir():
            raise config.ConfigError(f"--replot: there is no folder {out}")
        report.write(out)
    else:
        with terminal_view() as view:
            run(settings, out, view)
    print(report.render_summary(report.summary(out)))
    print(f"\nReport: {out / 'report.html'}")
    return 0


def smoke(settings: "Settings") -> "Settings":
    """The same settings with a few steps and short words."""
    training = {name: entry | {"steps": 4, "batch_size": 8} for name, entry in settings["training"].items()}
    evaluation = (settings.get("evaluation") or {}) | {
        "permutations": 100,
        "iterations": [0, 1],
        "timing_seconds": 0.01,
    }
    evaluation |= {"untrained_gains": [0.9], "untrained_seeds": [0], "batch_sizes": [1]}
    return settings | {
        "training": training,
        "evaluation": evaluation,
        "context": 5,
        "log_every": 1,
        "checkpoint_every": 2,
    }


OPTIONS = {"--help", "--version", "--out", "--replot", "--smoke"}


def _split(arguments: list[str]) -> tuple[list[str], dict[str, str | None]]:
    """The arguments of the command itself, and settings given as `--a.b.c value` or `--a.b.c=value`."""
    plain: list[str] = []
    overrides: dict[str, str | None] = {}
    words = iter(arguments)
    for word in words:
        name, given, value = word.partition("=")
        if name in OPTIONS or not re.fullmatch(r"--[A-Za-z_][\w.-]*", name):
            plain.append(word)
        else:
            overrides[name[2:]] = value if given else next(words, None)
    return plain, overrides


def _complete(overrides: dict[str, str | None]) -> dict[str, str]:
    from pcnet.config import ConfigError

    for path, value in overrides.items():
        if value is None:
            raise ConfigError(f"--{path} needs a value")
    return overrides


def _folder_name(name: str, overrides: dict[str, str], short: bool) -> str:
    quiet = {"models", "training", "init_args"}
    changes = [
        ".".join(key for key in path.split(".") if key not in quiet) + "=" + re.sub(r"[^\w.+-]+", "_", value).strip("_")
        for path, value in overrides.items()
    ]
    return "-".join([name, *(["smoke"] if short else []), *changes])


if __name__ == "__main__":
    sys.exit(main())
