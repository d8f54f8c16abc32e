"""The figure: error rates by class, power against strength, and coverage of the intervals."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes

from comparisons.calibration.cases import STRENGTHS
from comparisons.calibration.tables import coverage, errors, power
from comparisons.kept import save_picture

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6b6b6b"  # Okabe & Ito


def draw(rows: pd.DataFrame, samples: pd.DataFrame, path: Path) -> None:
    """Writes the figure."""
    page, (left, middle, right) = pyplot.subplots(
        1, 3, figsize=(17, 5.6), layout="constrained", gridspec_kw={"width_ratios": [1.25, 1, 1.1]}
    )
    draw_errors(left, errors(rows))
    draw_power(middle, power(rows))
    draw_coverage(right, coverage(samples))
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=11)
    save_picture(page, path)


def bars(axes: Axes, lines: pd.DataFrame, names: Sequence[str], places: np.ndarray, label: str, **style) -> None:
    """Points with their intervals, one below the other."""
    middle, low, high = (100 * lines[name].to_numpy(float) for name in names)
    spread = np.maximum([middle - low, high - middle], 0)
    axes.errorbar(middle, places, xerr=spread, ls="", capsize=3, elinewidth=1.4, label=label, **style)


def draw_errors(axes: Axes, lines: pd.DataFrame) -> None:
    """How often each class is called yes, and how often the one control that describes it is beaten."""
    places = np.arange(len(lines))[::-1]
    bars(axes, lines, ("share", "low", "high"), places + 0.13, "verdict: yes (wrong)", color=BLUE, marker="o", ms=7)
    own = lines["own control rejects"].notna().to_numpy()
    names = ("own control rejects", "own low", "own high")
    label = "test against the one control\nthat describes the class: p ≤ .05"
    bars(axes, lines[own], names, places[own] - 0.17, label, color=ORANGE, marker="s", ms=6, mfc="white")
    axes.axvline(5, color=GREY, ls="--", lw=1.2)
    axes.text(5.2, len(lines) - 0.45, "5 %", color=GREY, fontsize=11)
    axes.set_yticks(places, [f"{name}\n({count} cases)" for name, count in zip(lines.cases, lines["count"])])
    axes.set_xlim(-0.4, max(20.0, 105 * lines[["high", "own high"]].max().max()))
    axes.set_ylim(-0.6, len(lines) - 0.1)
    axes.set_xlabel("share of planted negatives (%), 95 % intervals", fontsize=12)
    axes.set_title("Nothing planted: how often is the answer yes?", fontsize=13, loc="left")
    axes.legend(fontsize=10, loc="lower right", framealpha=0.9)


def draw_power(axes: Axes, lines: pd.DataFrame) -> None:
    """How often a planted belief is found, by its strength."""
    middle, low, high = (100 * lines[name].to_numpy() for name in ("share", "low", "high"))
    spread = np.maximum([middle - low, high - middle], 0)
    axes.errorbar(lines.strength, middle, yerr=spread, color=BLUE, marker="o", ms=7, lw=1.4, capsize=3)
    axes.axhline(95, color=GREY, ls="--", lw=1.2)
    axes.text(lines.strength.min(), 96.2, "95 %", color=GREY, fontsize=11)
    axes.axvspan(min(STRENGTHS) / 1.25, max(STRENGTHS) * 1.25, color="#e8f1f8", zorder=0)
    axes.text(np.sqrt(min(STRENGTHS) * max(STRENGTHS)), 4, "stated\nstrengths", ha="center", fontsize=11, color=BLUE)
    axes.set_xscale("log", base=2)
    axes.set_xticks(lines.strength, [f"{strength:g}" for strength in lines.strength])
    axes.minorticks_off()
    axes.set_ylim(-3, 104)
    axes.set_xlabel("variance of the belief / variance of the noise", fontsize=12)
    axes.set_ylabel("answer yes (%), 95 % intervals", fontsize=12)
    axes.set_title("Belief planted: how often is it found?", fontsize=13, loc="left")


def draw_coverage(axes: Axes, lines: pd.DataFrame) -> None:
    """How often intervals hold the score on fresh rows."""
    places = np.arange(len(lines))[::-1]
    bars(axes, lines, ("share", "low", "high"), places, "", color=BLUE, marker="o", ms=7)
    axes.axvspan(93, 97, color="#e8f1f8", zorder=0)
    axes.axvline(95, color=GREY, ls="--", lw=1.2)
    names = [
        name.replace(" sequences of ", " sequences\nof ").replace(", strength", ",\nstrength") for name in lines.cases
    ]
    axes.set_yticks(places, [f"{name} ({count})" for name, count in zip(names, lines["count"])], fontsize=10)
    axes.set_xlim(min(90.0, 100 * lines.low.min() - 0.5), 100)
    axes.set_ylim(-0.6, len(lines) - 0.4)
    axes.set_xlabel("intervals that hold the fresh score (%)", fontsize=12)
    axes.set_title("Sampled rows: coverage of 95 % intervals", fontsize=13, loc="left")
