"""`pcnet probe`: arrays alone are enough, and a mistake is one line."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import image

from pcnet.cli import verbs as cli
from pcnet.cli.probe import answer
from pcnet.processes import filter_beliefs, mess3, next_token_law, rrxor, sample


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Tokens of rrxor; its beliefs linearly embedded as one site, noise as another, the last token as a third."""
    folder = tmp_path_factory.mktemp("arrays")
    tokens = sample(rrxor(), 110, 7, torch.Generator().manual_seed(0))
    beliefs = filter_beliefs(rrxor(), tokens).filtered
    random = np.random.default_rng(0)
    planted = (beliefs.numpy() @ random.standard_normal((5, 12))).astype(np.float32)
    last = (np.eye(2)[tokens.numpy()] @ random.standard_normal((2, 12))).astype(np.float16)
    noise = random.standard_normal(planted.shape).astype(np.float32)
    np.save(folder / "tokens.npy", tokens.numpy())
    np.save(folder / "states.npy", planted)
    np.savez(folder / "sites.npz", planted=planted, noise=noise, last=last)
    np.save(folder / "logits.npy", next_token_law(rrxor(), beliefs).clamp_min(1e-9).log().numpy() + 3)
    np.save(folder / "matrices.npy", rrxor().transition_matrices.numpy())
    return folder


def run(files, *options, activations="states.npy", tokens="tokens.npy"):
    given = ["--activations", str(files / activations), "--tokens", str(files / tokens)]
    return cli.main(["probe", *given, "--permutations", "10", "--out", str(files / "out"), *options])


def summary(files):
    return pd.read_csv(files / "out" / "summary.csv", keep_default_na=False).set_index(["site", "control"])["r2"]


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr(answer, "draw_probe", lambda *_: None)


@pytest.mark.usefixtures("undrawn")
def test_planted_yes_and_planted_no(files, capsys):
    options = ("--process", "rrxor", "--site", "planted", "--site", "noise")
    assert run(files, *options, activations="sites.npz") == 0
    text, table = capsys.readouterr().out, summary(files)
    assert table["planted", ""] > 0.999
    assert table["noise", ""] < 0.01
    assert table["planted", "shuffled"] < 0.05
    assert "planted: +0." in text and "on top of the exact next-token law" in text
    assert "noise: no" in text
    scores = pd.read_csv(files / "out" / "scores.csv")
    assert set(scores["departures"].str.contains("sampled")) == {True}
    assert (scores["n_eff"] > 0).all()


def test_controls_are_what_they_are_called(files, capsys):
    """A site that is a control in disguise scores as that control does, and a softmax of exact logits as the exact law."""
    options = ("--process", "rrxor", "--logits", str(files / "logits.npy"), "--site", "last")
    assert run(files, *options, activations="sites.npz") == 0
    assert {path.name for path in (files / "out").iterdir()} == {
        *("probe.png", "probe.svg", "readings.csv", "scores.csv", "summary.csv")
    }
    text, table = capsys.readouterr().out, summary(files)
    assert "last: -0." in text and "the best control: nothing beyond its controls is shown" in text
    assert table["last", ""] == pytest.approx(table["", "last_1_table"], abs=1e-3)
    assert table["", "softmax"] == pytest.approx(table["", "next_token"], abs=1e-6)
    assert table["last", "next_token + site"] > table["", "next_token"]
    known = [table["", f"last_{k}_table"] for k in (1, 2, 3, 4)]
    assert known == sorted(known)
    picture = image.imread(files / "out" / "probe.png")
    blue = np.isclose(picture[..., :3], np.array([0, 0x72, 0xB2]) / 255, atol=0.01).all(-1)
    assert blue.sum() > 20  # the site's own score
    assert np.allclose(picture[[0, -1], :, :3], 1) and np.allclose(picture[:, [0, -1], :3], 1)  # nothing is cut off


@pytest.mark.usefixtures("undrawn")
def test_on_mess3_nothing_can_be_decided(capsys, tmp_path):
    tokens = sample(mess3(), 80, 6, torch.Generator().manual_seed(0))
    np.save(tmp_path / "tokens.npy", tokens.numpy())
    np.save(tmp_path / "states.npy", filter_beliefs(mess3(), tokens).filtered.numpy())
    assert run(tmp_path, "--process", "mess3") == 0
    assert "not decidable on this process: next-token law alone explains 1.000" in capsys.readouterr().out
    assert run(tmp_path, "--process", "mess3", "--target", "beyond") == 2
    assert "the belief beyond the next-token law is the same at all rows" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_own_matrices_harder_groups_and_other_targets(files, capsys):
    matrices = ("--matrices", str(files / "matrices.npy"))
    assert run(files, *matrices, "--groups", "suffix", "--suffix", "4", "--target", "predicted") == 0
    text = capsys.readouterr().out
    assert "R2 of the predicted belief" in text and "groups=suffix 4" in text
    assert run(files, "--process", "rrxor", "--target", "beyond") == 0
    assert summary(files)["", "next_token"] < 0.05  # nothing is left that any function of the law could explain


def test_help_helps(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["probe", "--help"])
    text = capsys.readouterr().out
    for option in (
        "--activations",
        "--tokens",
        "--process",
        "--matrices",
        "--site",
        "--target",
        "--groups",
        "--verdict",
    ):
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
        ("states", lambda x: x[:, :-1], "activations have shape (110, 6, 12); tokens have shape (110, 7)"),
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
        (("--process", "rrxor,rrxxor"), "--process: none is called 'rrxxor'; there are "),
        (("--process", "rrxor,mess3", "--x", "0.1"), "--x makes no sense"),
        (("--process", "rrxor", "--suffix", "2"), "--suffix makes no sense with --groups word"),
        (("--process", "rrxor", "--groups", "suffix", "--suffix", "0"), "num_tokens=0"),
        (("--process", "rrxor", "--groups", "suffix", "--suffix", "1"), "in 2 groups (suffix 1); num_folds=5"),
        (("--process", "rrxor", "--site", "a"), "holds one array without a name"),
        (("--process", "rrxor", "--permutations", "0"), "--permutations must be at least 1"),
        (("--process", "rrxor", "--seed", "-1"), "--seed must be at least 0, got -1"),
        (("--process", "rrxor", "--steps", "2"), "--steps makes no sense with --target filtered"),
        (("--process", "rrxor", "--verdict", "--target", "future"), "--verdict is calibrated for --target filtered"),
        (("--process", "rrxor", "--target", "future", "--steps", "0"), "horizon=0"),
        (("--process", "rrxor", "--logits", "none.npy"), "--logits: there is no file none.npy"),
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


def test_logits_must_match_and_be_finite(files, capsys):
    logits = np.load(files / "logits.npy")
    for name, bad, message in (
        ("short", logits[:, 1:], "--logits: activations have shape"),
        ("nan", with_entry((0, 2, 1), np.nan)(logits), "holds nan for token 1 at row 2; it must be finite"),
    ):
        np.save(files / f"{name}.npy", bad)
        assert run(files, "--process", "rrxor", "--logits", str(files / f"{name}.npy")) == 2
        assert message in capsys.readouterr().err
