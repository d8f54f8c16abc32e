"""One still image, shown until convergence. ``python -m comparisons.still_image``

Generative predictive-coding networks learn by the local rule, at the equilibrium of every batch, on digits (MNIST where its
files are in `--root`, scikit-learn's 8 x 8 digits where they are not) and on whitened patches of scikit-learn's photographs.
Shown: held-out images reconstructed over inference iterations, the features learned, and an occluded lower half completed
from above, beside the mean training image and a ridge regression from the visible to the hidden half.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from sklearn.linear_model import RidgeCV
from torch import Tensor

import pcnet
from comparisons.kept import markdown, progress, save_picture, whole
from pcnet import (
    Example,
    Gaussian,
    GaussianWeights,
    HierarchicalPC,
    Inference,
    LaplacianPrior,
    Local,
    Momentum,
    Standard,
)
from pcnet.data import MNISTData, Whitening, cut_patches, digits, photographs, stratified_folds

ITERATIONS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
SHOWN = Inference(Momentum(momentum=0.9), atol=1e-3, max_steps=5000)
"""Until the gradient's rms is below 1e-3 in every node group."""


@dataclass(frozen=True)
class Data:
    """Images (N, side * side) to learn from, and held-out ones."""

    name: str
    train: Tensor
    test: Tensor

    @property
    def side(self) -> int:
        return round(self.train.shape[1] ** 0.5)


@dataclass(frozen=True)
class Plan:
    """How much learning.

    Args:
        steps: batches, digits and patches.
        hidden: widths of the digits' hidden nodes.
        features: of the patches.
        held_out: images that are shown after learning.
    """

    steps: tuple[int, int] = (600, 800)
    hidden: tuple[int, ...] = (128, 32)
    features: int = 100
    batch_size: int = 128
    held_out: int = 256


SMOKE = Plan((8, 8), (12, 6), 16, 32, 16)


def digit_images(root: Path, held_out: int) -> Data:
    """MNIST where it is, scikit-learn's digits where it is not; pixels from 0 to 1."""
    if (root / "MNIST" / "raw").is_dir():
        train, test = (part.values.flatten(1) for part in MNISTData(root).read())
        return Data("MNIST", train[:20000], test[:held_out])
    every = digits()
    train, test = stratified_folds(every.labels, folds=5, seed=0)[0]
    pixels = every.values.flatten(1)
    return Data("scikit-learn's digits", pixels[train], pixels[test][:held_out])


def patch_images(held_out: int, seed: int, size: int = 12) -> Data:
    """Whitened patches; held-out ones from the right parts of the photographs, which learning never sees."""
    photos = torch.nn.functional.avg_pool2d(photographs()[:, None], 2)[:, 0]
    cut = int(0.7 * photos.shape[2])
    generator = torch.Generator().manual_seed(seed)
    train = same_contrast(cut_patches(photos[:, :, :cut], 30000, size, generator))
    test = same_contrast(cut_patches(photos[:, :, cut:], 4 * held_out, size, generator))[:held_out]
    whiten = Whitening.fit(train, floor=0.3)
    return Data("photograph patches", whiten(train).flatten(1).float(), whiten(test).flatten(1).float())


def same_contrast(patches: Tensor, least: float = 0.05) -> Tensor:
    """Mean 0, variance 1 each; those whose standard deviation is below `least` (sky) are left out."""
    patches = patches - patches.mean((2, 3), keepdim=True)
    size = patches.square().mean((2, 3), keepdim=True).sqrt()
    return (patches / size)[size.flatten() > least]


def network(data: Data, plan: Plan) -> HierarchicalPC:
    """Digits: two hidden nodes, the upper one sparse. Patches: one layer of sparse causes."""
    pixels = data.train.shape[1]
    if data.name == "photograph patches":
        sparse = {1: LaplacianPrior(0.7)}
        layers = Standard(bias=False, weight_prior=GaussianWeights(0.2))
        return HierarchicalPC([pixels, plan.features], 0.0, 1.0, priors=sparse, parameterisation=layers)
    widths = [pixels, *plan.hidden]
    energies = {0: Gaussian(pixels, precision=10.0), 1: Gaussian(plan.hidden[0], precision=5.0)}
    top = {len(plan.hidden): LaplacianPrior(0.5)}
    layers = Standard(weight_prior=GaussianWeights(0.1))
    return HierarchicalPC(widths, 0.0, 1.0, energies=energies, priors=top, parameterisation=layers)


def learn(data: Data, plan: Plan, steps: int, seed: int, path: Path, keep: bool = True) -> HierarchicalPC:
    """By the local rule at the equilibrium of every batch; weights that are there already are taken."""
    torch.manual_seed(seed)
    net = network(data, plan)
    if path.is_file():
        net.load_state_dict(torch.load(path, weights_only=True))
        return net
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, 0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    rule = Local(inference=Inference(Momentum(), atol=3e-2, max_steps=300))
    generator = torch.Generator().manual_seed(seed)
    with progress("{task.fields[energy]}") as bar:
        task = bar.add_task(data.name, total=steps, energy="")
        for _ in range(steps):
            rows = torch.randint(len(data.train), (plan.batch_size,), generator=generator)
            loss = rule.loss(net, Example({net.inputs: data.train[rows]}))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update(task, advance=1, energy=f"energy {loss.item():.1f}")
    if keep:
        with whole(path) as temporary:
            torch.save(net.state_dict(), temporary)
    return net


@dataclass(frozen=True)
class Seen:
    """Held-out images while inference runs.

    Attributes:
        frames: reconstructions (iterations, images, pixels).
        errors: rms of every node's error, a row per iteration, node and image.
        completed: held-out images with their lower half completed.
        solution: where inference of whole images ended.
        half: where inference of occluded images ended.
    """

    frames: dict[int, Tensor]
    errors: pd.DataFrame
    completed: Tensor
    solution: pcnet.Solution
    half: pcnet.Solution


@torch.no_grad()
def watch(net: HierarchicalPC, data: Data) -> Seen:
    """Whole images to convergence, then the same with the lower half hidden."""
    clamped = net.clamp({net.inputs: data.test})
    problem = net.problem(clamped)
    solution = net.infer(clamped, SHOWN, record=ITERATIONS)
    last = int(solution.steps.max())
    states = {k: values for k, values in solution.trace.items() if k < last} | {last: solution.values}
    frames, errors = {}, []
    for k, values in states.items():
        reading = net.reading(problem, values)
        frames[k] = reading[net.inputs]["prediction"]
        for node, parts in reading.items():
            if "error" in parts:
                sizes = parts["error"].square().mean(-1).sqrt()
                errors += [{"data": data.name, "iteration": k, "node": node, "rms": float(size)} for size in sizes]
    upper = net.clamp({net.inputs: data.test}, observed={net.inputs: visible(data)})
    half = net.infer(upper, SHOWN)
    return Seen(frames, pd.DataFrame(errors), net.answer(upper, half, net.inputs), solution, half)


def visible(data: Data) -> Tensor:
    """The upper half of the pixels."""
    return torch.arange(data.side**2) < data.side * (data.side // 2)


def by_ridge(data: Data) -> Tensor:
    """The hidden half by regression on the visible one, its penalty chosen on the training images."""
    known = visible(data)
    ridge = RidgeCV(np.logspace(-3, 5, 17)).fit(data.train[:, known].numpy(), data.train[:, ~known].numpy())
    return torch.as_tensor(ridge.predict(data.test[:, known].numpy()), dtype=data.test.dtype)


def scores(data: Data, seen: Seen) -> list[dict]:
    """Errors in the hidden half (rms over pixels of each image), and how inference ended."""
    known = visible(data)
    hidden = data.test[:, ~known]
    guesses = {
        "predictive coding, from above": seen.completed[:, ~known],
        "ridge regression": by_ridge(data),
        "mean training image": data.train[:, ~known].mean(0).expand_as(hidden),
    }
    errors = {name: (guess - hidden).square().mean(-1).sqrt() for name, guess in guesses.items()}
    lines = []
    for name, error in errors.items():
        line = {"data": data.name, "completion by": name, "rms error of hidden pixels": interval(error)}
        lines.append(line | {"minus ridge, paired": interval(error - errors["ridge regression"], "+")})
    shown, partly = (100 * s.converged.double().mean().item() for s in (seen.solution, seen.half))
    steps = [int(s.steps.double().median()) for s in (seen.solution, seen.half)]
    final = seen.errors[(seen.errors.node == "0") & (seen.errors.iteration == seen.errors.iteration.max())].rms
    lines[0] |= {
        "reconstruction rms": f"{final.mean():.3f}",
        "converged, whole / half": f"{shown:.0f} % / {partly:.0f} %",
        "median iterations": f"{steps[0]} / {steps[1]}",
    }
    return lines


def interval(numbers: Tensor, sign: str = "") -> str:
    """Mean and 95 % interval over images."""
    return f"{numbers.mean():{sign}.3f} ± {1.96 * numbers.std() / len(numbers) ** 0.5:.3f}"


def picture(axes: Axes, pixels: Tensor, side: int, low: float, high: float, colours: str = "gray") -> None:
    axes.imshow(pixels.view(side, side).numpy(), cmap=colours, vmin=low, vmax=high)
    axes.set_xticks([])
    axes.set_yticks([])


def figure(data: Data, net: HierarchicalPC, seen: Seen, path: Path) -> None:
    """Coming into focus, error curves, features, completions."""
    low, high = (0.0, 1.0) if data.name != "photograph patches" else (-2.5, 2.5)
    page = pyplot.figure(figsize=(11, 8.2), layout="constrained")
    upper, lower = page.subfigures(2, 1, height_ratios=(1.05, 1))
    left, right = upper.subfigures(1, 2, width_ratios=(3, 2))
    chosen = [k for k in seen.frames if k in (0, 1, 4, 16, 64)] + [max(seen.frames)]
    chosen = list(dict.fromkeys(chosen))
    grid = left.subplots(4, len(chosen) + 1)
    for row in range(4):
        for column, k in enumerate(chosen):
            picture(grid[row, column], seen.frames[k][row], data.side, low, high)
        picture(grid[row, -1], data.test[row], data.side, low, high)
    for axes, k in zip(grid[0], chosen):
        axes.set_title("converged" if k == max(seen.frames) else f"{k}", fontsize=10)
    grid[0, -1].set_title("image", fontsize=10)
    left.suptitle("Reconstruction after so many iterations (held out)", fontsize=11)
    curves(right.subplots(), seen.errors)
    features, completions = lower.subfigures(1, 2)
    draw_features(features, net, data)
    draw_completions(completions, data, seen, low, high)
    page.suptitle(data.name, fontsize=13)
    save_picture(page, path, dpi=150)


def curves(axes: Axes, errors: pd.DataFrame) -> None:
    """Median and middle half over images."""
    for colour, (node, part) in zip(("#0072B2", "#D55E00", "#009E73"), errors.groupby("node")):
        spread = part.groupby("iteration").rms.quantile([0.25, 0.5, 0.75]).unstack()
        x = spread.index + 1
        axes.plot(x, spread[0.5], color=colour, label="pixels" if node == "0" else f"node {node}")
        axes.fill_between(x, spread[0.25], spread[0.75], color=colour, alpha=0.2, lw=0)
    axes.set_xscale("log")
    axes.set_ylim(0, None)
    axes.set_xlabel("1 + inference iterations")
    axes.set_ylabel("rms prediction error per image")
    axes.set_title("Errors: median and middle half", fontsize=11)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def draw_features(place: SubFigure, net: HierarchicalPC, data: Data) -> None:
    """What the units next to the pixels predict of them, strongest first, on one scale."""
    weights = net.predictions[-1].layers[0].weight.detach()
    order = weights.norm(dim=0).argsort(descending=True)[:40]
    bound = float(weights[:, order].abs().max())
    for axes, unit in zip(place.subplots(5, 8).flat, order):
        picture(axes, weights[:, unit], data.side, -bound, bound, "RdBu_r")
    image = place.axes[0].images[0]
    place.colorbar(image, ax=place.axes, shrink=0.7, label="weight to a pixel")
    place.suptitle(f"Features: the {len(order)} strongest of {weights.shape[1]}, one scale", fontsize=11)


def draw_completions(place: SubFigure, data: Data, seen: Seen, low: float, high: float) -> None:
    """What is shown, what is completed from above, what ridge regression makes of it, and what was hidden."""
    shown = torch.where(visible(data), data.test, torch.tensor((low + high) / 2))
    ridge = data.test.clone()
    ridge[:, ~visible(data)] = by_ridge(data)
    rows = {"shown": shown, "completed": seen.completed, "ridge": ridge, "image": data.test}
    grid = place.subplots(len(rows), 7)
    for row, (name, images) in enumerate(rows.items()):
        for column in range(7):
            picture(grid[row, column], images[column], data.side, low, high)
        grid[row, 0].set_ylabel(name, fontsize=10)
    place.suptitle("Lower half completed from above (held out)", fontsize=11)


def main(arguments: Sequence[str] | None = None) -> int:
    """Learn what has not been learned, then write and print the table and draw the figures."""
    parser = argparse.ArgumentParser("python -m comparisons.still_image", description=__doc__.split("\n\n")[1])
    parser.add_argument("--out", type=Path, default=Path("runs/still_image"), help="folder; default runs/still_image")
    parser.add_argument(
        "--root", type=Path, default=Path("data"), help="where torchvision's MNIST may lie; default data"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches; default 0")
    parser.add_argument("--smoke", action="store_true", help="small networks, little learning")
    parser.add_argument("--replot", action="store_true", help="table and figures anew; nothing is learned")
    options = parser.parse_args(arguments)
    plan = SMOKE if options.smoke else Plan()
    folder = options.out / "smoke" if options.smoke else options.out
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    sets = digit_images(options.root, plan.held_out), patch_images(plan.held_out, options.seed)
    paths = [folder / f"{name}-{options.seed}.pt" for name in ("digits", "patches")]
    if options.replot and not all(path.is_file() for path in paths):
        parser.error(f"nothing has been learned in {folder}")
    lines, errors = [], []
    for data, steps, path in zip(sets, plan.steps, paths):
        net = learn(data, plan, steps, options.seed, path)
        seen = watch(net, data)
        lines += scores(data, seen)
        errors.append(seen.errors)
        figure(data, net, seen, folder / f"{path.stem}.png")
    table = pd.DataFrame(lines)
    pd.concat(errors).to_csv(folder / "errors.csv", index=False)
    (folder / "still_image.md").write_text(markdown(table))
    print(markdown(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
