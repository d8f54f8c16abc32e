"""`pcnet compare`: any experiment that a YAML file describes; by default the main one."""

from collections.abc import Sequence

from pcnet.experiments.door import OPTIONS, conduct

HELP = f"""\
usage: pcnet compare [CONFIG] [--SETTING VALUE ...] [options]

Train several sequence models on the same hidden Markov process and compare them at their best:
  * excess loss over the exact Bayesian observer, without sampling
  * how well a linear map decodes the observer's belief from their states, held out, beside its controls,
    and the calibrated verdict: do they encode the belief beyond every control?
  * what an answer costs: operations, latency, memory, sequential depth, inference iterations

CONFIG is a YAML file, or the name of one that comes with pcnet: mess3 (the default, a quarter of an hour on two busy cores),
rrxor, zrr, local_rules. A file may describe any other experiment: its class_path names it, its init_args are the settings.

any setting can be given as --PATH VALUE, with the path's keys joined by dots:
  pcnet compare                                              the main experiment
  pcnet compare rrxor                                        the process whose predictions do not give beliefs away
  pcnet compare --models.temporal_pc.init_args.width 32      into runs/mess3-temporal_pc.width=32
  pcnet compare --seeds '[0, 1, 2]' --out runs/three-seeds   three training seeds, so scores get an interval
  pcnet compare my.yaml --training.gru.steps 500
  pcnet compare --replot                                     draw figures and report of a folder again, train nothing

what a folder of a belief comparison holds:
  report.html, figures/           to look at
  training.csv probes.csv verdicts.csv excess.csv cost.csv inference.csv checks.csv    tidy tables
  config.yaml, checkpoints/       every setting as it was used, and what was learned

{OPTIONS}"""


def main(arguments: Sequence[str]) -> int:
    """Run the experiment that the arguments name; returns the exit code."""
    if "--help" in arguments or "-h" in arguments:
        print(HELP)
        return 0
    return conduct("pcnet compare", arguments, _settings, positional=True)


def _settings(config: str | None) -> dict:
    from pcnet.experiments.settings import find, read

    return read(find(config or "mess3"))
