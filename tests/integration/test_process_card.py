"""`pcnet process` as a user meets it: the card's numbers, its drawings, its refusals."""

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from pcnet import processes
from pcnet.card import Card, Undefined, card_json, catalogue, make_card, render_card
from pcnet.card.listing import sections
from pcnet.cli import verbs as cli
from pcnet.report.plots.style import blank, styled
from pcnet.report.process import beliefs, figures, machine
from pcnet.report.process.curves import distinct
from pcnet.report.process.matrices import draw_matrices

BITS = 1 / math.log(2)


@cache
def card(name: str, **values: float) -> Card:
    entry = catalogue()[name]
    return make_card(entry.make(values), name, values, summary=entry.summary, reference=entry.reference)


@pytest.fixture(autouse=True)
def in_style() -> Iterator[None]:
    with styled():
        yield


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawings take longer than everything else."""
    monkeypatch.setattr("pcnet.report.process.draw_card", lambda card, folder: [folder / "card.png"])


def rows(text: str) -> dict[str, list[str]]:
    """The words of each row of a printed card, by the row's name."""
    return {line[:30].strip(): line[30:].split() for line in text.splitlines()}


# Entropy rate, statistical complexity, excess entropy in bits; mixed states (recurrent); is the next-token law enough?
PUBLISHED = {
    "coin": (1, 0, 0, "1 (1)", "yes"),
    "golden_mean": (2 / 3, 0.918296, 0.251629, "3 (2)", "yes"),
    "even": (2 / 3, 0.918296, 0.918296, "4 (2)", "yes"),
    "z1r": (1 / 3, 1.584963, 1.584963, "7 (3)", "no"),
    "rrxor": (2 / 3, 2.251629, 2.251629, "36 (5)", "no"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_printed_card_has_the_published_numbers(
    name: str, undrawn: None, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rate, complexity, excess, mixed, enough = PUBLISHED[name]
    assert cli.main(["process", name, "--out", str(tmp_path)]) == 0
    printed = rows(capsys.readouterr().out)
    for row, bits in (("entropy rate", rate), ("statistical complexity", complexity), ("excess entropy", excess)):
        assert [float(word) for word in printed[row][:2]] == pytest.approx([bits / BITS, bits], abs=2e-6), row
    assert " ".join(printed["mixed states (recurrent)"]) == mixed
    assert printed["next-token law gives belief"] == [enough]


def test_mess3_says_what_is_infinite_and_what_is_cut() -> None:
    shown = json.loads(card_json(card("mess3")))
    floor = [1.098612, 0.857719, 0.813356, 0.798118, 0.794740, 0.793783, 0.793543, 0.793480, 0.793463, 0.793459]
    assert shown["loss_floor_nats"][:10] == pytest.approx(floor, abs=1e-6)
    entropies = {
        name: fact["value"] if isinstance(fact, dict) else fact for name, fact in shown["entropies_nats"].items()
    }
    assert entropies["entropy rate"] * BITS == pytest.approx(1.144717, abs=2e-5)
    assert entropies["excess entropy"] * BITS == pytest.approx(0.57087, abs=1e-3)
    assert entropies["statistical complexity"] == "infinity"
    dimension = shown["mixed_state_dimension"]
    assert (dimension["value"] if isinstance(dimension, dict) else dimension) == pytest.approx(0.52, abs=0.02)
    assert shown["mixed_states"] == {"found": 30_000, "recurrent": 0, "closed": False, "depth": 9} | {
        "beyond": pytest.approx(1, abs=0.2)
    }
    assert shown["next_token_law_determines_belief"] is True
    assert shown["eigenvalues_of"] == "process" and shown["slowest_mode"].keys() == {"undefined"}
    printed = rows(render_card(card("mess3")))
    assert {"30,000", "9"} <= set(printed["mixed states (recurrent)"])
    assert printed["statistical complexity"][:2] == ["infinite", "infinite"]
    least = float(printed["statistical complexity"][-2])
    assert least == pytest.approx(shown["entropies_nats"]["excess entropy"]["low"], abs=1e-6)


SLOW = {"frdn", "leaky_rrxor", "matching_parentheses", "mess", "moon", "random_hmm", "simple_nonunifilar_source"}
"""Processes with very many mixed states; each takes some seconds."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in catalogue()]
)
def test_every_process_has_a_card(name: str) -> None:
    shown = make_card(catalogue()[name].make(required(name)), name, max_length=3)
    printed, told = render_card(shown), json.loads(card_json(shown))
    assert "nan" not in printed.lower().replace("nats", "")
    assert told["loss_floor_nats"] == pytest.approx(processes.myopic_entropies(shown.process, 3).tolist())
    assert sum(told["stationary_distribution"] @ shown.process.right_vector.numpy()[:, None]) == pytest.approx(1)


def required(name: str) -> dict[str, float]:
    """Values for what has no default: small numbers."""
    return {
        parameter.name: parameter.kind(3) for parameter in catalogue()[name].parameters.values() if parameter.required
    }


def test_a_generalised_process_says_why_it_has_no_such_number() -> None:
    """The golden mean process in a basis in which its matrices have negative entries."""
    basis = np.array([[1.0, 2.0], [0.5, -1.0]])
    known, back = card("golden_mean"), np.linalg.inv(basis)
    matrices = back @ known.process.transition_matrices.numpy() @ basis
    assert (matrices < 0).any()
    shown = make_card(processes.GeneralizedHiddenMarkovModel(matrices, back.sum(1)), "golden mean, turned")
    assert shown.floor.numpy() == pytest.approx(known.floor.numpy())
    assert len(shown.machine) == 3 and shown.machine.closed
    assert isinstance(shown.unifilar, Undefined) and not shown.has_states
    assert rows(render_card(shown))["unifilar"][0] == "undefined:"
    for name, fact in shown.entropies.items():
        assert (
            (len(fact.reason) > 20) if isinstance(fact, Undefined) else fact == pytest.approx(known.entropies[name])
        ), name
    assert len(points(figures.alone(shown, figures.beliefs)).get_offsets()) == 3
    assert figures.alone(shown, figures.states).axes[0].images, "no arrows between what are no states"


# --- drawings -----------------------------------------------------------------------------------------------------


def patches(figure: Figure, kind: type) -> list:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, kind)]


def test_the_diagram_has_an_arrow_for_each_pair_and_a_line_for_each_token() -> None:
    figure = figures.alone(card("rrxor"), figures.states)
    assert len(patches(figure, FancyArrowPatch)) == 8 and len(patches(figure, Circle)) == 5
    written = sorted(text.get_text() for text in figure.axes[0].texts)
    assert written == sorted([*"01234", *["0: 1/2"] * 3, *["1: 1/2"] * 3, "0: 1", "1: 1"])
    figure = figures.alone(card("z1r"), figures.mixed_states)
    assert len(patches(figure, FancyArrowPatch)) == 11 and len(patches(figure, Circle)) == 7
    hollow = [patch.get_facecolor()[:3] == (1, 1, 1) for patch in patches(figure, Circle)]
    assert sum(hollow) == 4, "four of the seven mixed states are never visited again"
    pairs = {(arrow.source, arrow.target) for arrow in machine.arrows(processes.mess3().transition_matrices.numpy())}
    assert len(pairs) == 9


def test_arrows_end_at_the_rims_of_their_states() -> None:
    drawn = machine.arrows(processes.mess3().transition_matrices.numpy())
    diagram = machine.lay_out(3, drawn, 5)
    for arrow, curve in diagram.curves.items():
        for end, state in ((curve[0], arrow.source), (curve[-1], arrow.target)):
            assert diagram.radius < np.linalg.norm(end - diagram.places[state]) < diagram.radius + 0.08
    assert np.linalg.norm(diagram.places, axis=1) == pytest.approx([1, 1, 1])


def test_too_many_arrows_become_matrices() -> None:
    matrices = np.random.default_rng(0).dirichlet(np.ones(5 * 7), 7).reshape(7, 5, 7).transpose(1, 0, 2)
    assert machine.lay_out(7, machine.arrows(matrices), 5) is None
    axes = blank(4, 4).subplots()
    draw_matrices(axes, matrices)
    picture = axes.images[0].get_array().filled(np.nan)
    blocks = [picture[8 * (x // 3) : 8 * (x // 3) + 7, 8 * (x % 3) : 8 * (x % 3) + 7] for x in range(5)]
    assert np.stack(blocks) == pytest.approx(matrices)


def test_order_around_the_circle_has_the_fewest_crossings() -> None:
    """A ring whose states are numbered out of order is drawn as a ring."""
    ring = [0, 3, 1, 4, 2, 5]
    pairs = list(zip(ring, ring[1:] + ring[:1], strict=True))
    seats = np.argsort(machine._ordered(6, pairs))
    assert sorted((seats[b] - seats[a]) % 6 for a, b in pairs) in ([1] * 6, [5] * 6)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.5, "1/2"),
        (2 / 3, "2/3"),
        (0.0425, ".0425"),
        (0.999999, ">.9999"),
        (0.765, ".765"),
        (3e-5, "3e-5"),
    ],
)
def test_probabilities_are_written_short(value: float, text: str) -> None:
    assert machine.probability(value) == text


def points(figure: Figure) -> PathCollection:
    return next(artist for artist in figure.axes[0].collections if isinstance(artist, PathCollection))


def test_every_belief_is_a_point_where_it_belongs() -> None:
    shown = card("z1r")
    cloud = points(figures.alone(shown, figures.beliefs))
    triangle = np.array([[0, 0], [1, 0], [0.5, math.sqrt(0.75)]])
    wanted = shown.machine.states.numpy() @ triangle
    drawn = np.asarray(cloud.get_offsets())
    assert np.sort(drawn, 0) == pytest.approx(np.sort(wanted, 0))
    assert len(points(figures.alone(card("mess3"), figures.beliefs)).get_offsets()) == 30_000
    areas = cloud.get_sizes()
    assert (np.diff(areas) <= 0).all() and areas[0] > areas[-1], "the more probable, the larger, and below"


def test_beliefs_weigh_what_their_words_weigh() -> None:
    """Average over lengths of the probability of all words that end in a belief, by enumeration."""
    shown = card("golden_mean")
    length = max(shown.machine.depth, len(shown.floor))
    level = processes.words(shown.process, length)
    everything = torch.cat([shown.process.initial_distribution[None], level.filtered])
    probabilities = torch.cat([torch.ones(1, dtype=torch.float64), level.probabilities])
    for state, weight in zip(shown.machine.states, shown.weights, strict=True):
        here = (everything - state).abs().amax(1) < 1e-9
        assert float(weight) == pytest.approx(float(probabilities[here].sum()) / (length + 1))


def test_a_projection_keeps_the_most_variance() -> None:
    rng = np.random.default_rng(1)
    cloud, weights = rng.dirichlet(np.ones(5), 300), rng.uniform(size=300)
    shown = beliefs.project(cloud, weights, states=True)
    spread = np.average(
        (shown.points - np.average(shown.points, axis=0, weights=weights)) ** 2, axis=0, weights=weights
    )
    assert spread == pytest.approx(np.linalg.eigvalsh(np.cov(cloud.T, aweights=weights, ddof=0))[::-1][:2])
    assert np.linalg.norm(shown.corners[:, None] - shown.corners, axis=2).max() <= math.sqrt(2)


def test_the_shaded_area_is_the_excess_entropy() -> None:
    axes = figures.alone(card("z1r"), figures.floor).axes[0]
    bars = [patch for patch in axes.patches if patch.get_width() == 1]
    assert sum(bar.get_height() * bar.get_width() for bar in bars) * BITS == pytest.approx(math.log2(3))
    line = next(line for line in axes.lines if len(line.get_xdata()) == 11)
    assert line.get_ydata()[:4] * BITS == pytest.approx([1, 0.918296, 2 / 3, 1 / 3], abs=1e-6)


def test_the_spectrum_is_all_there() -> None:
    shown = card("golden_mean")
    drawn = points(figures.alone(shown, figures.spectrum)).get_offsets()
    values, counts = distinct(np.linalg.eigvals(shown.machine.transition.numpy()))
    assert sorted(drawn[:, 0]) == pytest.approx(sorted(values.real), abs=1e-6)
    assert counts.sum() == len(shown.machine) == len(shown.spectrum.eigenvalues)
    assert distinct([1, 0.5, 0.5 + 1e-9, -0.5j])[1].tolist() == [1, 2, 1]


def test_the_page_holds_all_four_and_files_are_whole(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["process", "even", "--out", str(tmp_path), "--length", "4"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Drawings: {tmp_path / 'card.png'}"
    names = {"card", "states", "beliefs", "floor", "spectrum", "mixed_states"}
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("png", "svg")
    } | {
        "card.txt",
        "card.json",
    }
    titles = [axes.get_title(loc="left") for axes in figures.page(card("even")).axes]
    assert [title.split(";")[0] for title in titles if title] == [
        "Hidden states",
        "Beliefs: 4",
        "Loss floor",
        "Spectrum of the mixed states",
    ]


# --- calls --------------------------------------------------------------------------------------------------------


def test_parameters_reach_the_process_and_name_the_folder(
    undrawn: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["process", "rrxor", "--p1", "1/4", "--p2=1e-1", "--length", "1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["parameters"] == {"p1": 0.25, "p2": 0.1} and len(shown["loss_floor_nats"]) == 2
    assert shown["transition_matrices"] == processes.rrxor(0.25, 0.1).transition_matrices.tolist()
    assert Path("runs/process/rrxor-p1=0.25-p2=0.1/card.txt").read_text().startswith("rrxor(p1=0.25, p2=0.1)\n")


def test_a_random_machine_has_a_seed(undrawn: None, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sizes = ["--num_states", "3", "--vocab-size=2", "--entropy-rate", "0.1,0.5", "--seed", "7"]
    assert cli.main(["process", "random_epsilon_machine", *sizes, "--out", str(tmp_path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    generator = torch.Generator().manual_seed(7)
    wanted = processes.random_epsilon_machine(3, 2, generator, entropy_rate=(0.1, 0.5))
    assert shown["transition_matrices"] == wanted.transition_matrices.tolist()
    assert shown["parameters"]["seed"] == 7 and 0.1 <= shown["entropies_nats"]["entropy rate"] <= 0.5


def test_own_matrices(undrawn: None, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    np.save(tmp_path / "mine.npy", processes.golden_mean().transition_matrices.numpy())
    assert cli.main(["process", "--matrices", str(tmp_path / "mine.npy"), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("mine\n") and rows(printed)["entropy rate"][1] == "0.666667"


def test_the_list_and_the_help_explain(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["process"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in catalogue())
    assert cli.main(["process", "mess3", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "--a NUMBER in [0, 1]. At 1/3 the tokens say nothing. (default: 0.85)" in told
    assert "arXiv 2405.15943" in told and "Raises" not in told
    assert cli.main(["process", "--help"]) == 0
    assert "--matrices" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["messs3"], "mess3"),
        (["qqqqqq"], "`pcnet process`"),
        (["mess3", "--x", "5"], "x "),
        (["mess3", "--x", "many"], "--x"),
        (["mess3", "--y", "1"], "--x, --a"),
        (["--x", ".1", "mess3"], "--x"),
        (["mess"], "--num_states"),
        (["matching_parentheses", "--open_probabilities", "1,2,0"], "open_probabilities"),
        (["matching_parentheses", "--starts_empty", "maybe"], "starts_empty"),
        (["mess3", "--length", "-1"], "--length"),
        (["mess3", "--matrices", "a.npy"], "mess3"),
        (["--matrices", "nowhere.npy"], "nowhere.npy"),
        (["--matrices", __file__], "--matrices"),
        (["mess3", "--x", "0"], "initial"),
    ],
)
def test_bad_calls_get_one_line_and_exit_code_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["process", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and said in shown.err and shown.out == ""


def test_matrices_that_are_no_process_are_refused_by_the_entry(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    np.save(tmp_path / "bad.npy", np.full((2, 2, 2), 0.3))
    assert cli.main(["process", "--matrices", str(tmp_path / "bad.npy")]) == 2
    assert "transition_matrices[:, 0, :] sums to 1.2" in capsys.readouterr().err


def test_every_parameter_of_every_process_is_explained() -> None:
    bare = [(e.name, p.name) for e in catalogue().values() for p in e.parameters.values() if not p.explanation]
    assert bare == [] and {"mess3", "rrxor", "z1r"} <= catalogue().keys()
    parts = sections("One.\n\nTwo.\n\nArgs:\n    a: is\n        long.\n\nReference: A (1999),\n    B.")
    assert parts == {"": "One. Two.", "Args": "a: is long.", "Reference": "A (1999), B."}
