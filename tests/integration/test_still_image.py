"""One still image: the small run end to end, torchvision's own loader, and the arithmetic of the table."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from comparisons.still_image import (
    COMPLETED,
    MEAN,
    RIDGE,
    Data,
    StillImage,
    complete,
    completion_errors,
    digit_images,
    patch_images,
    summary,
)
from pcnet.experiments import command

SMALL = StillImage(**StillImage.smoke)


def unheard(step: int, steps: int, loss: float | None) -> None: ...


def write_mnist(root: Path, train: np.ndarray, test: np.ndarray) -> None:
    """Files in the format of the MNIST database: magic number, sizes, bytes."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, images in (("train", train), ("t10k", test)):
        header = struct.pack(">IIII", 0x803, *images.shape)
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        labels = np.zeros(len(images), np.uint8)
        header = struct.pack(">II", 0x801, len(labels))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + labels.tobytes()))


@pytest.mark.slow
def test_smoke_learns_once_and_draws_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--smoke", "--out", str(tmp_path), "--root", str(tmp_path / "none"), "--workers", "0"]
    assert command("comparisons.still_image.StillImage", arguments) == 0
    printed = capsys.readouterr().out
    read = {name: StillImage.schema.read(tmp_path / f"{name}.csv", name) for name in StillImage.schema}
    assert set(read["errors"].data) == {"scikit-learn's digits", "photograph patches"}
    assert read["completions"].groupby(["data", "by"]).size().eq(SMALL.held_out).all()
    assert read["inference"].groupby(["data", "shown"]).size().tolist() == [SMALL.held_out] * 4
    errors = read["errors"][(read["errors"].node == "0") & (read["errors"].data == "scikit-learn's digits")]
    pixels = errors.groupby("iteration").rms.mean()
    assert pixels.iloc[-1] < pixels.iloc[0]
    files = [*tmp_path.glob("parts/*/*.csv"), *tmp_path.glob("pictures/*.npz")]
    kept = {path: path.stat().st_mtime_ns for path in files}
    assert len(kept) == 8
    for again in ([], ["--replot"]):
        assert command("comparisons.still_image.StillImage", [*arguments, *again]) == 0
        assert capsys.readouterr().out == printed
    assert {path: path.stat().st_mtime_ns for path in files} == kept
    for name in ("digits", "patches"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_mnist_is_read_where_it_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    train, test = (rng.integers(0, 256, (n, 28, 28)).astype(np.uint8) for n in (40, 20))
    write_mnist(tmp_path, train, test)
    data = digit_images(tmp_path, 8)
    assert data.name == "MNIST" and data.side == 28
    for found, bytes_ in ((data.train, train), (data.test, test[:8])):
        assert found.shape == (len(bytes_), 784)
        scaled = np.interp(found.numpy(), (found.min().item(), found.max().item()), (0, 255))
        np.testing.assert_allclose(scaled, bytes_.reshape(len(bytes_), -1), atol=1e-3)


def test_held_out_images_are_held_out() -> None:
    """No digit is both; patches come from other parts of the photographs."""
    data = digit_images(Path("nowhere"), 360)
    assert len(data.train) + len(data.test) == 1797
    patches = patch_images(16, seed=0)
    distances = torch.cdist(patches.test, patches.train)
    assert distances.min() > 1e-3


def test_what_is_learned_is_the_seed_s() -> None:
    data = digit_images(Path("nowhere"), 16)
    first, again, other = (replace(SMALL, seed=seed).learn(data, 3, unheard) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_the_table_is_arithmetic() -> None:
    """Errors of a completion that is off by .5 everywhere in the hidden half, and of the mean image."""
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.randn(n, 16, generator=generator) for n in (50, 6))
    data = Data("scikit-learn's digits", train, test)
    known = data.visible
    assert known.tolist() == [True] * 8 + [False] * 8
    completed, half = complete(SMALL.network(data), data)
    assert half.converged.all() and torch.equal(completed[:, known], test[:, known])
    mean = torch.where(known, test, train.mean(0))
    guesses = {COMPLETED: torch.where(known, test, test + 0.5), RIDGE: completed, MEAN: mean}
    rows = completion_errors(data, guesses)
    rms = rows.groupby("by").rms
    assert rms.min()[COMPLETED] == rms.max()[COMPLETED] == 0.5
    plain = (test[:, ~known] - train[:, ~known].mean(0)).square().mean(1).sqrt().mean()
    assert rms.mean()[MEAN] == pytest.approx(plain.item())
    lines = summary(*ended(data.name, rows))
    assert lines[0]["rms error of hidden pixels"] == "0.500 ± 0.000"
    assert lines[0]["reconstruction rms"] == "3.000"
    assert lines[0]["converged, whole / half"] == "75 % / 100 %"
    assert lines[0]["median iterations"] == "3 / 2"


def ended(name: str, completions: pd.DataFrame) -> list[pd.DataFrame]:
    """Tables of images that ended with pixel errors 2 and 4 after 5 iterations."""
    errors = pd.DataFrame({"iteration": [0, 0, 5, 5, 5], "node": ["0", "0", "0", "0", "1"], "rms": [9, 9, 2, 4, 9]})
    inference = pd.DataFrame(
        {
            "shown": ["whole"] * 4 + ["half"] * 2,
            "converged": [True, True, True, False, True, True],
            "steps": [1, 3, 4, 5, 2, 3],
        }
    )
    return [errors.assign(data=name), completions.assign(data=name), inference.assign(data=name)]
