"""The door to every experiment: one parser, one set of exit codes, whoever opens it.

`pcnet compare FILE.yaml` and `python -m comparisons.NAME` both end in `conduct`.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

OPTIONS = """\
options of every experiment:
  --out DIR      where to keep the run (default: runs/NAME, with what was changed)
  --smoke        a shortened run, to see that everything works; under a minute
  --replot       only draw figures and report again from what the folder has; nothing is computed
  --workers N    jobs done side by side, one thread each (default: one for each processor that may be used; 0: in this
                 process, one after the other)
  --help         this text

Results appear in the folder as they come. Stop it whenever you like: the same command goes on from there.
exit codes: 0 done, 1 a job failed, 2 something was wrong with the call, 130 interrupted"""


def conduct(prog: str, arguments: Sequence[str], find_settings: Callable[[str | None], dict], positional: bool) -> int:
    """Run, or draw again, the experiment that a command line asks for; returns the exit code.

    Args:
        prog: the command, for messages.
        arguments: what follows it; every `--a.b VALUE` that is no option of the door's is a setting.
        find_settings: gives settings, from the configuration's name if the command takes one.
        positional: whether it takes one.
    """
    from pcnet.experiments.errors import ConfigError, RunFailed

    plain, overrides = split(arguments)
    known = _parser(prog, positional).parse_args(plain)
    try:
        return _conduct(known, _complete(overrides), find_settings)
    except (ConfigError, OSError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except RunFailed as error:
        kept = "Everything finished before is kept; the same command goes on from there."
        print(f"{prog}: {error}\n{kept}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Everything finished is kept; the same command goes on from there.", file=sys.stderr)
        return 130


def command(class_path: str, arguments: Sequence[str] | None = None) -> int:
    """The command line of one experiment, for ``python -m``; returns the exit code.

    Args:
        class_path: of the experiment, so that worker processes find it under its own name.
        arguments: of the command; by default those of this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    prog = f"python -m {class_path.rpartition('.')[0].removesuffix('.__main__')}"
    if "--help" in arguments or "-h" in arguments:
        print(_help(prog, class_path))
        return 0
    return conduct(prog, arguments, lambda _: {"class_path": class_path, "init_args": {}}, positional=False)


def _help(prog: str, class_path: str) -> str:
    from pcnet.experiments.settings import experiment_class, help_text

    kind = experiment_class({"class_path": class_path})
    about = inspect.cleandoc(kind.__doc__ or "").partition("\n\nArgs:")[0]
    return f"usage: {prog} [--SETTING VALUE ...] [options]\n\n{about}\n\n{help_text(kind)}\n\n{OPTIONS}"


def _conduct(known: argparse.Namespace, overrides: dict[str, str], find_settings: Callable[[str | None], dict]) -> int:
    from pcnet.experiments import harness
    from pcnet.experiments import settings as configuration
    from pcnet.experiments.errors import ConfigError
    from pcnet.experiments.executors import InThisProcess, LocalWorkers
    from pcnet.experiments.progress import terminal_view
    from pcnet.experiments.run_folder import RunFolder

    settings = find_settings(known.config)
    if known.smoke:
        kind = configuration.experiment_class(settings)
        settings = settings | {"init_args": kind.shortened(settings.get("init_args") or {})}
    settings = configuration.resolve(configuration.override(settings, overrides))
    experiment = configuration.build(settings)
    out = known.out or Path("runs") / folder_name(experiment.name, overrides, known.smoke)
    if known.replot:
        folder = RunFolder(out, experiment.schema)
        if not (out / "parts").is_dir():
            raise ConfigError(f"--replot: there is nothing computed in {out}")
        text = harness.laid_together(experiment, folder)
    else:
        executor = InThisProcess() if known.workers == 0 else LocalWorkers(known.workers)
        with terminal_view() as view:
            text = harness.run(settings, out, executor, view).text
    print(text)
    return 0


def _parser(prog: str, positional: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog, allow_abbrev=False, add_help=False)
    if positional:
        parser.add_argument("config", nargs="?")
    else:
        parser.set_defaults(config=None)
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--workers", type=_workers, metavar="N")
    parser.add_argument("--replot", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    return parser


def _workers(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {text!r}")
    return int(text)


OWN = {"--help", "--out", "--workers", "--replot", "--smoke"}


def split(arguments: Sequence[str]) -> tuple[list[str], dict[str, str | None]]:
    """The arguments of the command itself, and settings given as `--a.b.c value` or `--a.b.c=value`."""
    plain: list[str] = []
    overrides: dict[str, str | None] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        name, given, value = word.partition("=")
        if name in OWN or not re.fullmatch(r"--[A-Za-z_][\w.-]*", name):
            plain.append(word)
        elif given:
            overrides[name[2:]] = value
        else:
            overrides[name[2:]] = words.pop(0) if words and not words[0].startswith("--") else None
    return plain, overrides


def _complete(overrides: dict[str, str | None]) -> dict[str, str]:
    from pcnet.experiments.errors import ConfigError

    for path, value in overrides.items():
        if value is None:
            raise ConfigError(f"--{path} needs a value")
    return overrides


def folder_name(name: str, overrides: dict[str, str], short: bool) -> str:
    """What the default folder is called: the run's name and every setting that was changed."""
    quiet = {"models", "training", "init_args"}
    changes = [
        ".".join(key for key in path.split(".") if key not in quiet) + "=" + re.sub(r"[^\w.+-]+", "_", value).strip("_")
        for path, value in overrides.items()
    ]
    return "-".join([name, *(["smoke"] if short else []), *changes])
