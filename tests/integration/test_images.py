"""Image sets: read from files in the published formats, split, shuffled, whitened, and taken up where they were left."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_sample_images
from torchvision import datasets

from pcnet.data import (
    Batches,
    BenchmarkData,
    CIFAR10Data,
    DigitsData,
    FashionMNISTData,
    Images,
    MNISTData,
    PatchData,
    Scaling,
    ShuffledBatches,
    Whitening,
    cut_patches,
    digits,
    photographs,
    stratified_folds,
)

TRAIN, TEST = 12, 5


# --- MNIST's format ------------------------------------------------------------------------------------------------------


def grey_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), rng.integers(0, 10, count, dtype=np.uint8)


def write_idx(folder: Path, packed: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The four files of MNIST as published: magic number, big-endian sizes, bytes."""
    folder.mkdir(parents=True)
    written = {"train": grey_images(TRAIN, 0), "t10k": grey_images(TEST, 1)}
    for part, (images, labels) in written.items():
        contents = {
            f"{part}-images-idx3-ubyte": struct.pack(">IIII", 2051, len(images), 28, 28) + images.tobytes(),
            f"{part}-labels-idx1-ubyte": struct.pack(">II", 2049, len(labels)) + labels.tobytes(),
        }
        for name, content in contents.items():
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return written


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "gz"])
@pytest.mark.parametrize(("kind", "name"), [(MNISTData, "MNIST"), (FashionMNISTData, "FashionMNIST")])
def test_idx_files_are_read_as_they_were_written(
    tmp_path: Path, kind: type[BenchmarkData], name: str, packed: bool
) -> None:
    written = write_idx(tmp_path / name / "raw", packed)
    data = kind(tmp_path, batch_size=4, validation=0)
    for part, found in (("train", data.split.train), ("t10k", data.split.test)):
        images, labels = written[part]
        np.testing.assert_array_equal(found.pixels.squeeze(1).numpy(), images)
        np.testing.assert_array_equal(found.labels.numpy(), labels)
    pixels, labels = next(iter(data.test_dataloader()))
    np.testing.assert_allclose(pixels.squeeze(1).numpy(), written["t10k"][0][:4] / 255, rtol=1e-6)
    assert labels.tolist() == written["t10k"][1][:4].tolist()
    assert data.val_dataloader() == []


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Six pickled batches and their names, as published; torchvision is told not to compare with the published checksums."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    batches = []
    for name in names:
        pixels = rng.integers(0, 256, (3, 3072), dtype=np.uint8)
        batches.append({"data": pixels, "labels": rng.integers(0, 10, 3).tolist(), "batch_label": name})
        (folder / name).write_bytes(pickle.dumps(batches[-1]))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(k) for k in range(10)]}))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name, None] for name in names[:5]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [[names[5], None]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"md5": None})
    return batches


def test_cifar_batches_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row holds 1024 red bytes, then green, then blue, each in the order of rows of the image."""
    batches = write_cifar(tmp_path, monkeypatch)
    split = CIFAR10Data(tmp_path, validation=0).split
    for found, parts in ((split.train, batches[:5]), (split.test, batches[5:])):
        np.testing.assert_array_equal(found.pixels.flatten(1).numpy(), np.concatenate([part["data"] for part in parts]))
        assert found.labels.tolist() == [label for part in parts for label in part["labels"]]
    red = batches[0]["data"][1, :1024].reshape(32, 32)
    np.testing.assert_array_equal(split.train.pixels[1, 0].numpy(), red)


@pytest.mark.parametrize(
    ("kind", "folder"),
    [(MNISTData, "MNIST/raw"), (FashionMNISTData, "FashionMNIST/raw"), (CIFAR10Data, "cifar-10-batches-py")],
)
def test_absent_files_are_an_error_that_names_the_folder(
    tmp_path: Path, kind: type[BenchmarkData], folder: str
) -> None:
    data = kind(tmp_path)
    data.prepare_data()  # nothing is downloaded unless asked for
    with pytest.raises(FileNotFoundError, match="pass download=True") as caught:
        data.setup()
    assert str((tmp_path / folder).resolve()) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_files_that_break_off_are_an_error_that_names_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "MNIST" / "raw"
    write_idx(folder, packed=False)
    images = folder / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"the files of MNIST in .*raw are not whole"):
        MNISTData(tmp_path, validation=0).setup()


def test_cifar_files_with_other_contents_are_refused(tmp_path: Path) -> None:
    """torchvision compares checksums, so that nobody else's pickles are loaded."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, _ in datasets.CIFAR10.train_list + datasets.CIFAR10.test_list:
        (folder / name).write_bytes(pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [0]}))
    with pytest.raises(FileNotFoundError, match="corrupted"):
        CIFAR10Data(tmp_path).setup()


def test_downloading_is_asked_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(datasets.MNIST, "download", lambda self: asked.append(self.train))
    data = MNISTData(tmp_path, download=True)
    with pytest.raises(RuntimeError, match="not found"):
        data.prepare_data()
    assert asked == [True]


# --- splits, orders and scales -------------------------------------------------------------------------------------------


def numbered(count: int) -> Images:
    """Images whose only pixel is their number."""
    return Images(torch.arange(count, dtype=torch.float64).view(-1, 1, 1, 1), torch.arange(count) % 3)


def seen(batches) -> list[list[int]]:
    return [pixels.flatten().int().tolist() for pixels, _ in batches]


def test_every_epoch_has_an_order_of_its_own_from_the_seed() -> None:
    loader, again = (ShuffledBatches(numbered(10), 3, seed=4) for _ in range(2))
    epochs = [seen(loader) for _ in range(3)]
    torch.manual_seed(7)  # the global generator has no say
    assert [seen(again) for _ in range(3)] == epochs
    assert [[len(batch) for batch in epoch] for epoch in epochs] == [[3, 3, 3]] * 3
    flat = [[number for batch in epoch for number in batch] for epoch in epochs]
    assert all(len(set(epoch)) == 9 for epoch in flat)
    assert flat[0] != flat[1] != flat[2] != flat[0]
    assert seen(ShuffledBatches(numbered(10), 3, seed=5)) != epochs[0]


def test_labels_stay_with_their_images() -> None:
    for pixels, labels in ShuffledBatches(numbered(10), 3, seed=0):
        assert labels.tolist() == [int(p) % 3 for p in pixels.flatten()]


@pytest.mark.parametrize("taken", [0, 1, 3, 4, 5])
def test_a_loader_goes_on_where_another_one_stopped(taken: int) -> None:
    """In the middle of an epoch, at its end, and in the next."""
    whole = ShuffledBatches(numbered(10), 3, seed=4)
    expected = seen(whole) + seen(whole) + seen(whole)
    stopped, batches = ShuffledBatches(numbered(10), 3, seed=4), []
    while len(batches) < taken:
        for pixels, _ in stopped:
            batches.append(pixels)
            if len(batches) == taken:
                break
    resumed = ShuffledBatches(numbered(10), 3, seed=4)
    resumed.load_state_dict(stopped.state_dict())
    rest = seen(resumed) + seen(resumed)
    assert expected[taken : taken + len(rest)] == rest


def test_processes_share_every_batch_of_one_process() -> None:
    one = seen(ShuffledBatches(numbered(13), 6, seed=2))
    two = [seen(ShuffledBatches(numbered(13), 3, seed=2, process=rank, processes=2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*two)] == one


def test_what_is_not_for_training_comes_once_and_in_order() -> None:
    assert seen(Batches(numbered(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(Batches(numbered(7), 3)) == 3


def test_held_out_images_are_not_trained_on(tmp_path: Path) -> None:
    written = write_idx(tmp_path / "MNIST" / "raw", packed=False)["train"][0]
    split = MNISTData(tmp_path, validation=5, seed=1).split
    assert (len(split.train), len(split.validation), len(split.test)) == (7, 5, TEST)
    parts = [[image.tobytes() for image in part.pixels.squeeze(1).numpy()] for part in (split.train, split.validation)]
    assert sorted(parts[0] + parts[1]) == sorted(image.tobytes() for image in written)
    other = MNISTData(tmp_path, validation=5, seed=2).split
    assert not torch.equal(other.validation.pixels, split.validation.pixels)


def test_standardising_measures_the_training_images_alone(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw", packed=False)
    data = MNISTData(tmp_path, batch_size=7, validation=5, standardise=True)
    (train, _), (held_out, _) = next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))
    assert train.double().mean().item() == pytest.approx(0, abs=1e-6)
    assert train.double().std(correction=0).item() == pytest.approx(1, abs=1e-6)
    raw = data.split.train.pixels.double() / 255
    expected = (data.split.validation.pixels.double() / 255 - raw.mean()) / raw.std(correction=0)
    torch.testing.assert_close(held_out.double(), expected, rtol=0, atol=1e-5)


# --- digits --------------------------------------------------------------------------------------------------------------


def test_digits_are_scikit_learns() -> None:
    bunch = load_digits()
    np.testing.assert_array_equal(digits().pixels.squeeze(1).numpy() * 16, bunch.images)
    np.testing.assert_array_equal(digits().labels.numpy(), bunch.target)


def test_folds_test_every_digit_once_and_share_out_the_classes() -> None:
    labels = digits().labels
    folds = stratified_folds(labels, 5, seed=3)
    assert torch.equal(torch.cat([test for _, test in folds]).sort().values, torch.arange(1797))
    counts = labels.bincount()
    for train, test in folds:
        assert torch.equal(torch.cat([train, test]).sort().values, torch.arange(1797))
        assert ((labels[test].bincount() - counts / 5).abs() < 1).all()
    assert not torch.equal(stratified_folds(labels, 5, seed=4)[0][1], folds[0][1])


def test_a_fold_of_the_digits_is_a_data_module() -> None:
    data = DigitsData(fold=2, batch_size=50, validation=100, seed=3)
    train, test = stratified_folds(digits().labels, 5, seed=3)[2]
    assert torch.equal(data.split.test.pixels, digits().pixels[test])
    assert len(data.split.train) == len(train) - 100
    held_out = {image.numpy().tobytes() for image in data.split.validation.pixels}
    assert held_out <= {image.numpy().tobytes() for image in digits().pixels[train]}


# --- patches -------------------------------------------------------------------------------------------------------------


def test_photographs_are_grey_by_the_standard_weights() -> None:
    china = load_sample_images().images[0].astype(float)
    expected = (0.299 * china[..., 0] + 0.587 * china[..., 1] + 0.114 * china[..., 2]) / 255
    np.testing.assert_allclose(photographs()[0].numpy(), expected, atol=1e-12)


def test_patches_are_pieces_of_the_photographs_from_anywhere() -> None:
    """Of a picture that counts its pixels: every patch is a window, and every place is as likely as any other."""
    photos = torch.arange(2 * 6 * 7, dtype=torch.float64).view(2, 6, 7)
    patches = cut_patches(photos, 4000, 5, torch.Generator().manual_seed(0)).squeeze(1)
    corners = patches[:, 0, 0].int()
    for patch, corner in zip(patches[:50], corners[:50]):
        p, i, j = np.unravel_index(int(corner), (2, 6, 7))
        assert torch.equal(patch, photos[p, i : i + 5, j : j + 5])
    places, counts = corners.unique(return_counts=True)
    assert places.tolist() == [42 * p + 7 * i + j for p in range(2) for i in range(2) for j in range(3)]
    spread = (4000 / 12 * (11 / 12)) ** 0.5
    assert ((counts - 4000 / 12).abs() < 4.5 * spread).all()
    again = cut_patches(photos, 4000, 5, torch.Generator().manual_seed(0)).squeeze(1)
    assert torch.equal(again, patches)


def test_whitened_patches_have_no_correlations_and_look_as_before() -> None:
    patches = cut_patches(photographs(), 3000, 6, torch.Generator().manual_seed(0))
    whitening = Whitening.fit(patches, floor=0.0)
    flat = whitening(patches).flatten(1)
    torch.testing.assert_close(flat.mean(0), torch.zeros(36, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.cov(flat.T, correction=0), torch.eye(36, dtype=torch.float64), rtol=0, atol=1e-8)
    # Of all whitenings the one nearest to the identity: its matrix is symmetric and positive.
    torch.testing.assert_close(whitening.matrix, whitening.matrix.T, rtol=0, atol=1e-10)
    assert torch.linalg.eigvalsh(whitening.matrix).min() > 0


def test_a_floor_keeps_fine_noise_small() -> None:
    """In closed form: a direction of variance v ends with v / (v + floor * mean v)."""
    patches = cut_patches(photographs(), 3000, 6, torch.Generator().manual_seed(0))
    variances, directions = torch.linalg.eigh(torch.cov(patches.flatten(1).T, correction=0))
    flat = Whitening.fit(patches, floor=0.1)(patches).flatten(1)
    found = (flat @ directions).var(0, correction=0)
    torch.testing.assert_close(found, variances / (variances + 0.1 * variances.mean()), rtol=1e-8, atol=1e-12)


def test_a_data_module_of_patches_has_no_labels_and_no_brightness() -> None:
    data = PatchData(size=8, train=500, test=100, batch_size=20, seed=1, standardise=True)
    batch = next(iter(data.train_dataloader()))
    assert batch.shape == (20, 1, 8, 8)
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch.mean((1, 2, 3)), torch.zeros(20), rtol=0, atol=1e-5)
    every = torch.cat([data.train_dataloader().batch(torch.arange(500))])
    assert every.double().std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(PatchData(size=8, train=500, test=100, seed=1).split.train.pixels, data.split.train.pixels)
    assert not torch.equal(PatchData(size=8, train=500, test=100, seed=2).split.train.pixels, data.split.train.pixels)


# --- what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Images(torch.zeros(3, 8, 8)), r"pixels must be \(images, channels, height, width\), got \(3, 8, 8\)"),
        (lambda: Images(torch.zeros(3, 1, 8, 8), torch.zeros(2).long()), r"labels must be \(3,\), got \(2,\)"),
        (lambda: Images(torch.full((1, 1, 2, 2), torch.nan)), "pixels must be finite"),
        (lambda: Scaling.standardising(Images(torch.ones(2, 1, 2, 2))), "all the same cannot be standardised"),
        (lambda: ShuffledBatches(numbered(5), 3, 0, processes=2), "a step takes 6 images, there are 5"),
        (lambda: DigitsData(batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda: DigitsData(validation=-1), "validation must be at least 0, got -1"),
        (lambda: DigitsData(validation=1500).setup(), r"validation must be less than .*, 1437, got 1500"),
        (lambda: DigitsData(fold=5), r"fold must be in \[0, 5\), got 5"),
        (lambda: stratified_folds(torch.tensor([0, 0, 1]), 2, 0), r"folds must be in \[2, 1\]"),
        (lambda: cut_patches(torch.zeros(1, 5, 5), 1, 6, torch.Generator()), r"size must be in \[1, 5\], got 6"),
        (lambda: cut_patches(torch.zeros(1, 5, 5), 0, 2, torch.Generator()), "count must be at least 1, got 0"),
        (lambda: Whitening.fit(torch.zeros(4, 1, 2, 2), floor=-1.0), "floor must be a finite number >= 0, got -1"),
        (lambda: Whitening.fit(torch.ones(4, 1, 2, 2), floor=0.0), "floor must be above 0"),
    ],
)
def test_impossible_images_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
