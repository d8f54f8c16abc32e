"""One still image, shown until convergence. ``python -m comparisons.still_image``"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from sklearn.linear_model import RidgeCV
from torch import Tensor

from comparisons.kept import markdown, save_picture
from pcnet import (
    Example,
    Gaussian,
    GaussianWeights,
    HierarchicalPC,
    Inference,
    LaplacianPrior,
    Local,
    Momentum,
    Solution,
    Standard,
)
from pcnet.data import MNISTData, Whitening, cut_patches, digits, photographs, stratified_folds
from pcnet.experiments import Experiment, Job, Report, RunFolder, Schema, Tables, command
from pcnet.files import save_arrays

ITERATIONS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
SHOWN = Inference(Momentum(momentum=0.9), atol=1e-3, max_steps=5000)
"""Until the gradient's rms is below 1e-3 in every node group."""
PATCHES = "photograph patches"
COMPLETED, RIDGE, MEAN = "predictive coding, from above", "ridge regression", "mean training image"


@dataclass(frozen=True)
class Data:
    """Images (N, side * side) to learn from, and held-out ones."""

    name: str
    train: Tensor
    test: Tensor

    @property
    def side(self) -> int:
        return round(self.train.shape[1] ** 0.5)

    @property
    def visible(self) -> Tensor:
        """The upper half of the pixels."""
        return torch.arange(self.side**2) < self.side * (self.side // 2)

    @property
    def range(self) -> tuple[float, float]:
        """Values that are drawn black and white."""
        return (-2.5, 2.5) if self.name == PATCHES else (0.0, 1.0)


@dataclass(frozen=True)
class StillImage(Experiment):
    """One still image, shown until convergence.

    Generative predictive-coding networks learn by the local rule, at the equilibrium of every batch, on digits (MNIST where
    its files are in `root`, scikit-learn's 8 x 8 digits where they are not) and on whitened patches of scikit-learn's
    photographs. Shown: held-out images reconstructed over inference iterations, the features learned, and an occluded lower
    half completed from above, beside the mean training image and a ridge regression from the visible to the hidden half.

    Args:
        digit_steps: batches of digits that are learned from.
        patch_steps: batches of patches.
        hidden: widths of the digits' two hidden nodes.
        features: of the patches.
        batch_size: images per batch.
        held_out: images that are shown after learning.
        root: where torchvision's MNIST may lie.
        seed: of weights and batches.
    """

    digit_steps: int = 600
    patch_steps: int = 800
    hidden: tuple[int, int] = (128, 32)
    features: int = 100
    batch_size: int = 128
    held_out: int = 256
    root: str = "data"
    seed: int = 0

    name: ClassVar[str] = "still_image"
    schema = Schema(
        errors="data:text iteration node:text rms",
        completions="data:text by:text image rms",
        inference="data:text shown:text image converged:flag steps",
    )
    smoke: ClassVar[dict] = dict(digit_steps=8, patch_steps=8, hidden=[12, 6], features=16, batch_size=32, held_out=16)

    def jobs(self) -> list[Job]:
        return [Job(kind, partial(self.learn_and_show, kind)) for kind in ("digits", "patches")]

    def learn_and_show(self, kind: str, files: Path, told: Report) -> Tables:
        """Learn from one kind of images; what is drawn of it is left in a file."""
        if kind == "digits":
            data, steps = digit_images(Path(self.root), self.held_out), self.digit_steps
        else:
            data, steps = patch_images(self.held_out, self.seed), self.patch_steps
        net = self.learn(data, steps, told)
        frames, errors, solution = reconstruct(net, data)
        completed, half = complete(net, data)
        guesses = {COMPLETED: completed, RIDGE: by_ridge(data)}
        guesses[MEAN] = torch.where(data.visible, data.test, data.train.mean(0))
        save_arrays(pictures(files, kind), **drawn(data, net, frames, guesses))
        ends = [
            pd.DataFrame({"shown": shown, "image": range(len(data.test)), "converged": s.converged, "steps": s.steps})
            for shown, s in (("whole", solution), ("half", half))
        ]
        tables = {"errors": errors, "completions": completion_errors(data, guesses), "inference": pd.concat(ends)}
        return {name: table.assign(data=data.name) for name, table in tables.items()}

    def learn(self, data: Data, steps: int, told: Report) -> HierarchicalPC:
        """By the local rule at the equilibrium of every batch."""
        torch.manual_seed(self.seed)
        net = self.network(data)
        optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
        rule = Local(inference=Inference(Momentum(), atol=3e-2, max_steps=300))
        generator = torch.Generator().manual_seed(self.seed)
        for step in range(steps):
            rows = torch.randint(len(data.train), (self.batch_size,), generator=generator)
            loss = rule.loss(net, Example({net.inputs: data.train[rows]}))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            told(step + 1, steps, loss.item())
        return net

    def network(self, data: Data) -> HierarchicalPC:
        """Digits: two hidden nodes, the upper one sparse. Patches: one layer of sparse causes."""
        pixels = data.train.shape[1]
        if data.name == PATCHES:
            sparse = {1: LaplacianPrior(0.7)}
            layers = Standard(bias=False, weight_prior=GaussianWeights(0.2))
            return HierarchicalPC([pixels, self.features], 0.0, 1.0, priors=sparse, parameterisation=layers)
        energies = {0: Gaussian(pixels, precision=10.0), 1: Gaussian(self.hidden[0], precision=5.0)}
        top = {len(self.hidden): LaplacianPrior(0.5)}
        widths = [pixels, *self.hidden]
        layers = Standard(weight_prior=GaussianWeights(0.1))
        return HierarchicalPC(widths, 0.0, 1.0, energies=energies, priors=top, parameterisation=layers)

    def report(self, folder: RunFolder) -> str:
        errors, completions, inference = map(folder.table, self.schema)
        for kind in ("digits", "patches"):
            if pictures(folder.path, kind).is_file():
                with np.load(pictures(folder.path, kind)) as arrays:
                    name = str(arrays["name"])
                    draw(dict(arrays), errors[errors.data == name], folder.path / f"{kind}.png")
        tables = (errors, completions, inference)
        parts = [[table[table.data == name] for table in tables] for name in completions.data.unique()]
        return markdown(pd.DataFrame([line for part in parts for line in summary(*part)]))


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
    return Data(PATCHES, whiten(train).flatten(1).float(), whiten(test).flatten(1).float())


def same_contrast(patches: Tensor, least: float = 0.05) -> Tensor:
    """Mean 0, variance 1 each; those whose standard deviation is below `least` (sky) are left out."""
    patches = patches - patches.mean((2, 3), keepdim=True)
    size = patches.square().mean((2, 3), keepdim=True).sqrt()
    return (patches / size)[size.flatten() > least]


@torch.no_grad()
def reconstruct(net: HierarchicalPC, data: Data) -> tuple[dict[int, Tensor], pd.DataFrame, Solution]:
    """Whole images to convergence: reconstructions by iteration, the rms of every node's error, and where inference ended."""
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
                errors += [{"iteration": k, "node": node, "rms": float(size)} for size in sizes]
    return frames, pd.DataFrame(errors), solution


@torch.no_grad()
def complete(net: HierarchicalPC, data: Data) -> tuple[Tensor, Solution]:
    """Images whose lower half is hidden, completed, and where inference ended."""
    upper = net.clamp({net.inputs: data.test}, observed={net.inputs: data.visible})
    half = net.infer(upper, SHOWN)
    return net.answer(upper, half, net.inputs), half


def by_ridge(data: Data) -> Tensor:
    """The hidden half by regression on the visible one, its penalty chosen on the training images."""
    known, completed = data.visible, data.test.clone()
    ridge = RidgeCV(np.logspace(-3, 5, 17)).fit(data.train[:, known].numpy(), data.train[:, ~known].numpy())
    completed[:, ~known] = torch.as_tensor(ridge.predict(data.test[:, known].numpy()), dtype=data.test.dtype)
    return completed


def completion_errors(data: Data, guesses: dict[str, Tensor]) -> pd.DataFrame:
    """Rms over the hidden pixels, a row per image and guess."""
    errors = {by: (guess - data.test)[:, ~data.visible].square().mean(-1).sqrt() for by, guess in guesses.items()}
    rows = [pd.DataFrame({"by": by, "image": range(len(error)), "rms": error}) for by, error in errors.items()]
    return pd.concat(rows, ignore_index=True)


def summary(errors: pd.DataFrame, completions: pd.DataFrame, inference: pd.DataFrame) -> list[dict]:
    """The lines of one kind of images: errors in the hidden half, and how inference ended."""
    rms = completions.pivot(index="image", columns="by", values="rms")
    lines = []
    for by in (COMPLETED, RIDGE, MEAN):
        line = {"data": errors.data.iloc[0], "completion by": by, "rms error of hidden pixels": interval(rms[by])}
        lines.append(line | {"minus ridge, paired": interval(rms[by] - rms[RIDGE], "+")})
    ends = inference.groupby("shown")
    whole, half = (f"{100 * ends.converged.mean()[shown]:.0f} %" for shown in ("whole", "half"))
    steps = [int(ends.steps.quantile(interpolation="lower")[shown]) for shown in ("whole", "half")]
    final = errors[(errors.node == "0") & (errors.iteration == errors.iteration.max())].rms
    lines[0] |= {
        "reconstruction rms": f"{final.mean():.3f}",
        "converged, whole / half": f"{whole} / {half}",
        "median iterations": f"{steps[0]} / {steps[1]}",
    }
    return lines


def interval(numbers: pd.Series, sign: str = "") -> str:
    """Mean and 95 % interval over images."""
    return f"{numbers.mean():{sign}.3f} ± {1.96 * numbers.std() / len(numbers) ** 0.5:.3f}"


# --- figure -----------------------------------------------------------------------------------------------------------


def pictures(files: Path, kind: str) -> Path:
    """Where a run keeps what the figure of a kind of images is drawn from."""
    return files / "pictures" / f"{kind}.npz"


def drawn(data: Data, net: HierarchicalPC, frames: dict[int, Tensor], guesses: dict[str, Tensor]) -> dict:
    """The arrays that the figure shows: images as rows of pixels, features strongest first."""
    chosen = list(dict.fromkeys([*(k for k in frames if k in (0, 1, 4, 16, 64)), max(frames)]))
    weights = net.predictions[-1].layers[0].weight.detach()
    order = weights.norm(dim=0).argsort(descending=True)[:40]
    hidden = torch.where(data.visible, data.test, torch.tensor(sum(data.range) / 2))
    return {
        "name": data.name,
        "range": data.range,
        "iterations": chosen,
        "frames": torch.stack([*(frames[k][:4] for k in chosen), data.test[:4]], 1).numpy(),
        "features": weights[:, order].T.numpy(),
        "learned": weights.shape[1],
        "completions": torch.stack([hidden, guesses[COMPLETED], guesses[RIDGE], data.test])[:, :7].numpy(),
    }


def draw(arrays: dict[str, np.ndarray], errors: pd.DataFrame, path: Path) -> None:
    """Coming into focus, error curves, features, completions."""
    page = pyplot.figure(figsize=(11, 8.2), layout="constrained")
    upper, lower = page.subfigures(2, 1, height_ratios=(1.05, 1))
    left, right = upper.subfigures(1, 2, width_ratios=(3, 2))
    draw_grid(left, arrays["frames"], arrays["range"], (), [*map(str, arrays["iterations"][:-1]), "converged", "image"])
    left.suptitle("Reconstruction after so many iterations (held out)", fontsize=11)
    curves(right.subplots(), errors)
    features, completions = lower.subfigures(1, 2)
    draw_features(features, arrays)
    draw_grid(completions, arrays["completions"], arrays["range"], ("shown", "completed", "ridge", "image"), ())
    completions.suptitle("Lower half completed from above (held out)", fontsize=11)
    page.suptitle(str(arrays["name"]), fontsize=13)
    save_picture(page, path, dpi=150)


def picture(axes: Axes, pixels: np.ndarray, low: float, high: float, colours: str = "gray") -> None:
    side = round(len(pixels) ** 0.5)
    axes.imshow(pixels.reshape(side, side), cmap=colours, vmin=low, vmax=high)
    axes.set_xticks([])
    axes.set_yticks([])


def draw_grid(
    place: SubFigure, images: np.ndarray, limits: np.ndarray, rows: Sequence[str], columns: Sequence[str]
) -> None:
    """Images (rows, columns, pixels) with names of the rows and columns."""
    grid = place.subplots(*images.shape[:2])
    for axes, image in zip(grid.flat, images.reshape(-1, images.shape[-1])):
        picture(axes, image, *limits)
    for axes, name in zip(grid[:, 0], rows):
        axes.set_ylabel(name, fontsize=10)
    for axes, name in zip(grid[0], columns):
        axes.set_title(name, fontsize=10)


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


def draw_features(place: SubFigure, arrays: dict[str, np.ndarray]) -> None:
    """What the units next to the pixels predict of them, strongest first, on one scale."""
    features = arrays["features"]
    bound = float(np.abs(features).max())
    for axes, feature in zip(place.subplots(5, 8).flat, features):
        picture(axes, feature, -bound, bound, "RdBu_r")
    place.colorbar(place.axes[0].images[0], ax=place.axes, shrink=0.7, label="weight to a pixel")
    place.suptitle(f"Features: the {len(features)} strongest of {arrays['learned']}, one scale", fontsize=11)


if __name__ == "__main__":
    sys.exit(command("comparisons.still_image.StillImage"))
