"""One still image: the small run end to end, torchvision's own loader, and what the table says."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from comparisons.still_image import (
    SMOKE,
    Data,
    Seen,
    digit_images,
    learn,
    main,
    network,
    patch_images,
    scores,
    visible,
    watch,
)


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
    arguments = ["--smoke", "--out", str(tmp_path), "--root", str(tmp_path / "none")]
    assert main(arguments) == 0
    folder = tmp_path / "smoke"
    text = (folder / "still_image.md").read_text()
    assert text in capsys.readouterr().out
    assert "scikit-learn's digits" in text and "photograph patches" in text and "MNIST" not in text
    assert text.count("ridge regression") == text.count("mean training image") == 2
    for name in ("digits", "patches"):
        assert (folder / f"{name}-0.png").read_bytes().startswith(b"\x89PNG")
    errors = pd.read_csv(folder / "errors.csv")
    pixels = errors[(errors.node == 0) & (errors.data == "scikit-learn's digits")].groupby("iteration").rms.mean()
    assert pixels.iloc[-1] < pixels.iloc[0]
    weights = {path: path.stat().st_mtime_ns for path in folder.glob("*.pt")}
    assert len(weights) == 2 and not list(folder.glob("*.new*"))
    assert main([*arguments, "--replot"]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.pt")} == weights
    assert (folder / "still_image.md").read_text() == text


def test_replot_needs_something_learned(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--smoke", "--replot", "--out", str(tmp_path), "--root", str(tmp_path)])


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
    first, again, other = (learn(data, SMOKE, 3, seed, Path(f"/nowhere/{seed}.pt"), keep=False) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_the_table_is_arithmetic() -> None:
    """Errors of a completion that is off by .5 everywhere in the hidden half, and of the mean image."""
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.randn(n, 16, generator=generator) for n in (50, 6))
    data = Data("scikit-learn's digits", train, test)
    known = visible(data)
    assert known.tolist() == [True] * 8 + [False] * 8
    seen = watch(network(data, SMOKE), data)
    assert torch.equal(seen.completed[:, known], test[:, known])
    shifted = Seen(seen.frames, seen.errors, torch.where(known, test, test + 0.5), seen.solution, seen.half)
    lines = {line["completion by"]: line for line in scores(data, shifted)}
    column = "rms error of hidden pixels"
    assert lines["predictive coding, from above"][column].startswith("0.500 ± 0.000")
    plain = (test[:, ~known] - train[:, ~known].mean(0)).square().mean(1).sqrt().mean()
    assert lines["mean training image"][column].startswith(f"{plain:.3f}")
