"""Where beliefs that predict the next token equally separate, and where they merge. ``python -m comparisons.redundancy``

On zrr and rrxor different beliefs have the same next-token law: to predict one token they need not be told apart, to predict
the following ones they must. For every layer of the transformer, the GRU's state, and the values and errors of
predictive-coding networks at every inference iteration: how much of the state's movement with the belief is between beliefs
of equal law, beside the belief's own share, untrained copies and states dealt out anew within each law.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes

from comparisons.belief_geometry import CASES, COPIES, MODELS, ONE_DEAL, Case, part, patient
from comparisons.belief_geometry_figures import COLOURS, NAMES, by_model, short
from comparisons.belief_geometry_tables import spread
from comparisons.checkpoints import Trained, trained, untrained
from comparisons.kept import markdown, progress, save_picture, save_table, whole
from pcnet import TemporalPC, Transformer, processes
from pcnet.cli.verbs import smoke
from pcnet.probing import belief_beyond_next_token_law, probe
from pcnet.probing.geometry.location import SiteState, site_states
from pcnet.probing.geometry.merging import separation
from pcnet.probing.rows.prefix_walk import walk
from pcnet.processes import Words

NEGLIGIBLE = 1e-6
"""A site whose values vary less than this (errors before inference has begun) holds nothing."""


def patterns(predictor: torch.nn.Module) -> list[str]:
    """The sites of a model from the senses to the read-out."""
    if isinstance(predictor, TemporalPC):
        return ["layers.0.error", "layers.[1-9].value", "layers.[1-9].error"]
    return (
        ["blocks.0.resid_pre", "blocks.*.resid_post", "norm"]
        if isinstance(predictor, Transformer)
        else ["cells.*.hidden"]
    )


def states(model: Trained, rows: Words) -> list[SiteState]:
    """What every site holds, at every iteration where there are any, and last the logits."""
    predictor = model.predictor
    found = site_states(predictor, rows, patterns(predictor))
    with patient(model) as iterations:
        if iterations:
            on_the_way = site_states(predictor, rows, patterns(predictor), iterations)
            found += [state for state in on_the_way if state.iteration != "equilibrium"]
    logits = walk(predictor, rows, patterns(predictor)[:1]).logits
    return [*found, SiteState("logits", "logits", "equilibrium", logits.log_softmax(-1))]


def lines_of(model: Trained, rows: Words) -> list[dict]:
    """Separation at every site and iteration, and how well a probe reads what the law leaves open of the belief."""
    rest, lines = belief_beyond_next_token_law(rows), []
    for state in states(model, rows):
        features = state.features.double().numpy()
        if features.std(axis=0).max() < NEGLIGIBLE:
            continue
        table = probe(features, rest, rows, ONE_DEAL, (True,))
        read = table[(table["position"] == "all") & (table["weights"] == "equal")]["r2"].iloc[0]
        line = {"site": state.site, "part": state.part, "iteration": state.iteration}
        line |= asdict(separation(features, rows)) | {"r2_beyond_law": float(read)}
        lines.append(line | {"shuffled": separation(features, rows, shuffled=True).share})
    return lines


def one_model(case: Case, name: str, seed: int, model: Trained, runs: Path, rows: Words, path: Path) -> None:
    """A trained model and its untrained copies, kept as one table."""
    lines = [{"copy": "trained"} | line for line in lines_of(model, rows)]
    for number in range(COPIES):
        copy = untrained(case.config, name, number, runs)
        lines += [{"copy": f"untrained {number}"} | line for line in lines_of(copy, rows)]
    exact = separation(rows.filtered, rows).share
    labels = {"process": case.config, "model": name, "seed": seed, "exact": exact}
    save_table([labels | line for line in lines], path)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A line per model and site at the equilibrium."""
    ended = table[table["iteration"] == "equilibrium"]
    lines = []
    for (process, model, site), rows in ended.groupby(["process", "model", "site"], sort=False):
        kept, copies = (rows[rows["copy"].str.startswith(kind)] for kind in ("trained", "untrained"))
        if not len(kept):
            continue
        line = {"process": process, "model": model, "site": site, "seeds": len(kept), "share": spread(kept["share"])}
        line |= {"of the exact": spread(kept["share"] / rows["exact"].iloc[0])}
        line |= {"untrained share": spread(copies["share"]), "shuffled": spread(kept["shuffled"])}
        line |= {"variance within law explained": spread(kept["explained"]), "untrained ": spread(copies["explained"])}
        lines.append(
            line | {"R2 beyond law": spread(kept["r2_beyond_law"]), "untrained  ": spread(copies["r2_beyond_law"])}
        )
    return pd.DataFrame(lines)


def draw(table: pd.DataFrame, path: Path) -> None:
    """A row per process: by site, and by inference iteration."""
    found = list(dict.fromkeys(table["process"]))
    page, grid = pyplot.subplots(
        len(found), 2, figsize=(13, 3.9 * len(found)), squeeze=False, layout="constrained", width_ratios=(3, 2)
    )
    for (left, right), process in zip(grid, found, strict=True):
        rows = table[table["process"] == process]
        for axes in (left, right):
            axes.axhline(rows["exact"].iloc[0], color="black", lw=1, ls="--", label="exact belief")
            axes.axhline(0, color="black", lw=1, ls=":", label="merged (equal laws, equal states)")
            axes.set_ylabel(f"{process}: share of movement\nbeyond the next-token law")
            axes.set_ylim(-0.08, 1.16)
            axes.spines[["top", "right"]].set_visible(False)
        by_site(left, rows[rows["iteration"] == "equilibrium"])
        by_iteration(right, rows)
    grid[0, 0].set_title("Circles: trained. Bars: untrained. Crosses: states shuffled within each law", fontsize=11)
    grid[0, 1].set_title("All values (solid), all errors (dotted)", fontsize=11)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    page.legend(handles, labels, loc="outside lower center", ncol=4, frameon=False)
    save_picture(page, path, dpi=130)


def by_site(axes: Axes, rows: pd.DataFrame) -> None:
    """Trained as circles, the line is the range over seeds; untrained as bars from least to most."""
    rows = by_model(rows)
    sites = list(dict.fromkeys(zip(rows["model"], rows["site"], strict=True)))
    for x, (model, site) in enumerate(sites):
        here = rows[(rows["model"] == model) & (rows["site"] == site)]
        kept, copies = (here[here["copy"].str.startswith(kind)] for kind in ("trained", "untrained"))
        first = x == [name for name, _ in sites].index(model)
        axes.vlines(x, kept["share"].min(), kept["share"].max(), color=COLOURS[model], lw=2)
        axes.plot(x, kept["share"].median(), "o", ms=7, color=COLOURS[model], label=NAMES[model] if first else None)
        axes.plot(x, kept["shuffled"].median(), "x", ms=5, color=COLOURS[model])
        axes.vlines(x + 0.3, copies["share"].min(), copies["share"].max(), color=COLOURS[model], lw=6, alpha=0.35)
        axes.plot(x + 0.3, copies["share"].max(), "_", color=COLOURS[model], ms=8)
    axes.set_xticks(
        range(len(sites)),
        [short(site) for _, site in sites],
        rotation=60,
        ha="right",
        rotation_mode="anchor",
        fontsize=8,
    )


def by_iteration(axes: Axes, rows: pd.DataFrame) -> None:
    """All values and all errors of predictive-coding networks; bands are ranges over seeds."""
    rows = rows[rows["site"].isin(["all value", "all error"]) & (rows["copy"] == "trained")]
    steps = rows[rows["iteration"] != "equilibrium"].assign(step=lambda part: part["iteration"].astype(int))
    for (model, site), curve in steps.groupby(["model", "site"], sort=False):
        curve = curve.groupby("step")["share"].agg(["median", "min", "max"])
        axes.plot(
            1 + curve.index, curve["median"], "-" if site == "all value" else ":", marker=".", color=COLOURS[model]
        )
        axes.fill_between(1 + curve.index, curve["min"], curve["max"], color=COLOURS[model], alpha=0.2, lw=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 2, 3, 5, 9, 17, 33, 65, 129], [0, 1, 2, 4, 8, 16, 32, 64, 128])
    axes.set_xlabel("inference iterations (Momentum) at the last token")


def measure(case: Case, models: Sequence[str], runs: Path, folder: Path, small: bool) -> None:
    """Do what is missing, a model at a time."""
    wanted = [(name, seed) for name in models for seed in case.seeds]
    missing = [pair for pair in wanted if not (folder / f"{part(case, *pair)}.csv").is_file()]
    if not missing:
        return
    ready = trained(case.config, models, case.seeds, runs, smoke if small else None)
    rows = processes.words(next(iter(ready.values())).comparison.process, case.length)
    with progress("{task.fields[model]}") as bar:
        task = bar.add_task(case.config, total=len(missing), model="")
        for name, seed in missing:
            bar.update(task, model=name)
            one_model(case, name, seed, ready[name, seed], runs, rows, folder / f"{part(case, name, seed)}.csv")
            bar.advance(task)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and look at what is missing, then write and print the table and draw the figure."""
    parser = argparse.ArgumentParser("python -m comparisons.redundancy", description=__doc__.split("\n\n")[1])
    parser.add_argument("--out", type=Path, default=Path("runs/redundancy"), help="default runs/redundancy")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs of pcnet compare lie; default runs")
    parser.add_argument(
        "--processes", nargs="+", choices=("zrr", "rrxor"), default=["zrr", "rrxor"], help="default both"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default all")
    parser.add_argument("--seeds", nargs="+", type=int, help="of training; default 0 1 2")
    parser.add_argument("--smoke", action="store_true", help="hardly trained models, short words")
    parser.add_argument("--replot", action="store_true", help="table and figure anew; nothing is computed")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = options.out / "smoke" if options.smoke else options.out
    runs = folder / "runs" if options.smoke else options.runs
    folder.mkdir(parents=True, exist_ok=True)
    if options.replot and not list(folder.glob("*.csv")):
        parser.error(f"nothing has been measured in {folder}")
    for case in CASES:
        if case.config in options.processes and not options.replot:
            case = replace(case, seeds=tuple(options.seeds or case.seeds))
            case = replace(case, length=6, ahead=2, seeds=(0,)) if options.smoke else case
            measure(case, options.models, runs, folder, options.smoke)
    parts = sorted(folder.glob("*.csv"))
    table = pd.concat([pd.read_csv(path, dtype={"iteration": str}) for path in parts], ignore_index=True)
    text = markdown(summary(by_model(table)))
    with whole(folder / "redundancy.md") as path:
        path.write_text(text)
    draw(table, folder / "redundancy.png")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
