"""`pcnet probe`: arrays alone are enough, and a mistake is one line."""

import numpy as np
import pandas as pd
import pytest
import torch

from pcnet import cli
from pcnet.processes import filter_beliefs, mess3, rrxor, sample


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Tokens of rrxor, its beliefs linearly embedded as one site, noise as another."""
    folder = tmp_path_factory.mktemp("arrays")
    tokens = sample(rrxor(), 120, 7, torch.Generator().manual_seed(0))
    beliefs = filter_beliefs(rrxor(), tokens).filtered.numpy()
    random = np.random.default_rng(0)
    planted = (beliefs @ random.standard_normal((5, 12))).astype(np.float32)
    noise = random.standard_normal(planted.shape).astype(np.float32)
    np.save(folder / "tokens.npy", tokens.numpy())
    np.save(folder / "states.npy", planted)
    np.savez(folder / "sites.npz", planted=planted, noise=noise)
    np.save(folder / "matrices.npy", rrxor().transition_matrices.numpy())
    return folder


def run(files, *options, activations="states.npy", tokens="tokens.npy"):
    given = ["--activations", str(files / activations), "--tokens", str(files / tokens)]
    return cli.main(["probe", *given, "--permutations", "20", "--out", str(files / "out"), *options])


def test_planted_yes_and_planted_no(files, capsys):
    assert run(files, "--process", "rrxor", activations="sites.npz") == 0
    text = capsys.readouterr().out
    table = pd.read_csv(files / "out" / "summary.csv", keep_default_na=False).set_index(["site", "control"])["r2"]
    assert table["planted", ""] > 0.999
    assert table["noise", ""] < 0.01
    assert abs(table["planted", "shuffled"]) < 0.05
    assert "noise: no more than shuffled targets" in text
    assert "planted: +0." in text and "on top of the exact next-token law" in text
    scores = pd.read_csv(files / "out" / "scores.csv")
    assert set(scores["departures"].str.contains("sampled")) == {True}
    assert (scores["n_eff"] > 0).all()


def test_on_mess3_nothing_can_be_decided(files, capsys, tmp_path):
    tokens = sample(mess3(), 100, 6, torch.Generator().manual_seed(0))
    np.save(tmp_path / "tokens.npy", tokens.numpy())
    np.save(tmp_path / "states.npy", filter_beliefs(mess3(), tokens).filtered.numpy())
    assert run(tmp_path, "--process", "mess3") == 0
    assert "not decidable on this process: next_token alone explains 1.000" in capsys.readouterr().out


def test_own_matrices_and_harder_groups(files, capsys):
    assert run(files, "--matrices", str(files / "matrices.npy"), "--groups", "suffix", "--suffix", "4") == 0
    assert "groups=suffix 4" in capsys.readouterr().out
    assert run(files, "--process", "rrxor", "--groups", "belief", "--target", "predicted") == 0
    assert "predicted belief" in capsys.readouterr().out


def test_help_helps(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["probe", "--help"])
    text = capsys.readouterr().out
    for option in ("--activations", "--tokens", "--process", "--matrices", "--site", "--target", "--groups"):
        assert option in text
    cli.main([])
    assert "pcnet probe" in capsys.readouterr().out


def change(files, name, function):
    path = files / f"bad_{name}.npy"
    np.save(path, function(np.load(files / f"{name}.npy")))
    return path.name


def with_entry(index, value):
    def spoil(array):
        array = array.copy()
        array[index] = value
        return array

    return spoil


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("states", lambda x: x[:, :-1], "activations have shape (120, 6, 12); tokens have shape (120, 7)"),
        ("states", with_entry((2, 3, 4), np.nan), "features holds nan at row 17, column 4"),
        ("states", np.ones_like, "features: all 12 columns are constant"),
        ("tokens", with_entry((5, 1), 2), "tokens[5, 1] = 2 is no token of this process; legal are 0..1"),
        ("tokens", with_entry((5, 1), -1), "tokens hold -1 at row 5, position 1"),
        ("tokens", lambda x: x.astype(float), "tokens have dtype float64"),
        ("tokens", lambda x: np.concatenate([np.ones_like(x[:1]), x[1:]]), "tokens[0] is impossible: after its first"),
    ],
)
def test_bad_arrays_are_one_line_on_stderr(files, capsys, name, function, message):
    path = change(files, name, function)
    assert run(files, "--process", "rrxor", **{"activations" if name == "states" else "tokens": path}) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith("pcnet probe: ") and message in printed.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give either --process NAME or --matrices"),
        (("--process", "rrxxor"), "--process: none is called 'rrxxor'; there are "),
        (("--process", "rrxor", "--q", "1"), "there is no option --q; parameters of rrxor"),
        (("--process", "rrxor", "--suffix", "2"), "--suffix makes no sense with --groups word"),
        (("--process", "rrxor", "--groups", "suffix", "--suffix", "0"), "num_tokens=0"),
        (("--process", "rrxor", "--groups", "suffix", "--suffix", "1"), "in 2 groups (suffix 1); num_folds=5"),
        (("--process", "rrxor", "--site", "a"), "holds one array without a name"),
        (("--process", "rrxor", "--permutations", "0"), "--permutations must be at least 1"),
        (("--matrices", "none.npy"), "--matrices: there is no file none.npy"),
    ],
)
def test_bad_calls_are_one_line_on_stderr(files, capsys, options, message):
    assert run(files, *options) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and message in printed.err


def test_sites_that_do_not_exist_are_refused_with_those_that_do(files, capsys):
    assert run(files, "--process", "rrxor", "--site", "middle", activations="sites.npz") == 2
    assert "has no 'middle'; there are planted, noise" in capsys.readouterr().err
    assert cli.main(["probe", "--tokens", "x.npy"]) == 2
    assert "--activations is missing" in capsys.readouterr().err
