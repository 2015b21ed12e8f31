"""Figures of notebook 01."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mamba2_lab.checks import require
from mamba2_lab.plots.page import Panel, blank
from mamba2_lab.plots.style import COLOURS, FAINT, INK, PALE_INK, WIDTH, plain_numbers, styled

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = COLOURS


@styled
def rain_and_level(rain: Any, level: Any) -> Figure:
    """What fell in each hour, and the level after it: (l,) twice."""
    rain, level = np.asarray(rain), np.asarray(level)
    hours = np.arange(len(rain))
    figure = Figure(figsize=(WIDTH, 3.4))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2.2])
    above.bar(hours, rain, color=SKY, width=0.8)
    above.set_ylabel("rain (mm)")
    above.tick_params(bottom=False)
    below.bar(hours, level, color=BLUE, width=0.8)
    below.set_ylabel("level (mm)")
    below.set_xlabel("hour")
    below.set_xlim(-1, len(rain))
    return figure


@styled
def fading(dt: float, A: float, steps: int = 45, mark: int = 20) -> Figure:
    """What is left of one shower after each step, as a share of what was written, for a step of length dt.

    Args:
        dt: >= 0. A: < 0. steps: how many are drawn. mark: the step that is to be remembered: it and the next one
            are the darker bars.

    Raises:
        ValueError: as `checks` says it.
    """
    require(dt >= 0, "dt", "0 or more", dt)
    require(A < 0, "A", "below 0", A)
    log_decay = dt * A
    left = np.exp(log_decay * np.arange(steps + 1))
    figure = blank(3.1)
    panel = Panel(figure, (0.07, 0.16, 0.91, 0.70), (-0.7, steps + 0.7), (0, 1.06))
    colours = [BLUE if step in (mark, mark + 1) else SKY for step in range(steps + 1)]
    panel.bars(range(steps + 1), left, 10, colours)
    panel.lines([[(panel.x[0], 0.5), (panel.x[1], 0.5)]], INK, 1, style="dashed")
    ticks = sorted({*range(0, steps + 1, 10), mark})
    panel.frame({step: str(step) for step in ticks}, "steps since the shower", {0: "0.0", 0.5: "0.5", 1: "1.0"})
    panel.write([(*panel.at(0, 0.5), "share left")], 11, side="center", aligned="center", away=(-0.47, 0), rotation=90)
    panel.write([(*panel.at(0, 1.07), _in_words(dt, log_decay))], 12)
    return figure


def _in_words(dt: float, log_decay: float) -> str:
    if log_decay == 0:
        return f"a step writes {dt:.3g} of the rain and keeps everything: time stands still"
    half_life = math.log(2) / -log_decay
    return (
        f"a step writes {dt:.3g} of the rain and keeps {math.exp(log_decay):.3g} of the old; "
        f"half is left after {half_life:.3g} steps"
    )


@styled
def looks(rain: Any, looks: Mapping[str, tuple[float, Any]]) -> Figure:
    """A level in continuous time, and looked at in steps.

    Args:
        rain: (hours,) the rain of each hour.
        looks: by name, the length of its steps in hours and the level after each. The first, with the shortest
            steps, is drawn as a line, the others as points.
    """
    rain = np.asarray(rain)
    figure = Figure(figsize=(WIDTH, 3.2))
    axes = figure.add_subplot()
    axes.bar(np.arange(len(rain)) + 0.5, rain, width=1, color=SKY, alpha=0.45, label="rain (mm per hour)")
    styles: Sequence[dict[str, Any]] = [
        {"color": BLUE, "lw": 2},
        {"color": VERMILION, "ls": "", "marker": "o", "ms": 9, "mfc": "none", "mew": 2},
        {"color": INK, "ls": "", "marker": ".", "ms": 5},
    ]
    for (name, (dt, level)), style in zip(looks.items(), styles, strict=False):
        axes.plot((np.arange(len(level)) + 1) * dt, np.asarray(level), label=name, clip_on=False, **style)
    axes.set_xlim(0, len(rain))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("hours")
    axes.set_ylabel("level (mm)")
    figure.legend(loc="outside upper left", ncols=4)
    return figure


@styled
def exact_and_simple(starts: tuple[float, float], longest: float = 3.0) -> Figure:
    """How far the simple ways to take a step are from the exact one, against how much fades in it, -dt A.

    Args:
        starts: smallest and largest -dt A of a fresh model, drawn as a band.
        longest: the largest -dt A drawn.
    """
    fades = np.linspace(1e-4, longest, 400)
    exact = -np.expm1(-fades) / fades
    figure = Figure(figsize=(WIDTH, 3.4))
    kept, written = figure.subplots(1, 2)
    kept.plot(fades, np.exp(-fades), color=BLUE, lw=2)
    kept.text(longest, 0.42, "exact, and Mamba-2: exp(dt A)", color=BLUE, ha="right")
    kept.plot(fades, 1 - fades, color=VERMILION, lw=2, ls="--")
    kept.text(longest - 0.62, 1 - longest + 0.35, "1 + dt A", color=VERMILION, ha="right", va="bottom")
    kept.axhline(0, color=FAINT, lw=0.8)
    kept.set_title("kept: share of the old")
    written.plot(fades, exact, color=BLUE, lw=2)
    written.text(longest, exact[-1] + 0.07, "exact", color=BLUE, ha="right", va="bottom")
    written.plot(fades, np.ones_like(fades), color=GREEN, lw=2, ls="--")
    written.text(longest, 0.97, "Mamba-2: dt", color=GREEN, ha="right", va="top")
    written.set_ylim(0, 1.1)
    written.set_title("written: gain divided by dt")
    for axes in (kept, written):
        axes.axvspan(*starts, color=FAINT, alpha=0.18, lw=0)
        axes.set_xlim(0, longest)
        axes.set_xlabel("how much fades in a step, −dt A")
    kept.text(sum(starts) / 2, -1.9, "where heads begin", color=PALE_INK, ha="center", size=9.5)
    return figure


@styled
def barrels(log_decay: Any, left: Any, looks: Sequence[int]) -> Figure:
    """Several barrels after one shower: their levels over time, and at some times as a line over their log decay.

    Args:
        log_decay: (n,), one for each barrel. left: (l, n), the level of each after 0, 1, ... steps.
        looks: the steps at which all barrels are read.
    """
    log_decay, left = np.asarray(log_decay), np.asarray(left)
    figure = Figure(figsize=(WIDTH, 3.6))
    over_time, over_barrels = figure.subplots(1, 2, sharey=True)
    for one, levels in zip(log_decay, left.T, strict=True):
        over_time.semilogy(levels, color=PALE_INK, lw=1.2)
        over_time.text(len(left), levels[-1], f" {one:.2g}".replace("-", "−"), va="center", size=9.5, color=PALE_INK)
    for step, colour, marker in zip(looks, (BLUE, GREEN, VERMILION), "os^", strict=True):
        over_time.plot([step] * len(log_decay), left[step], color=colour, marker=marker, ls="", ms=6)
        name = f"{step} steps ago"
        over_barrels.plot(log_decay, left[step], color=colour, marker=marker, lw=1.5, ms=6, label=name)
    over_time.set_xlim(0, len(left) * 1.12)
    over_time.set_xlabel("steps since the shower")
    over_time.set_ylabel("level (mm)")
    plain_numbers(over_time.yaxis)
    over_time.set_title("each barrel over time, with its log decay")
    over_barrels.set_xlabel("log decay of the barrel")
    over_barrels.set_title("all barrels at one time")
    over_barrels.legend()
    return figure


@styled
def explosions(runs: Mapping[str, Any], limit: float) -> Figure:
    """Sizes of states that should have faded, on a logarithmic axis.

    Args:
        runs: by name, |h| (l,) after each step; what is not finite is left out.
        limit: the largest number of the dtype, drawn as a line.
    """
    figure = Figure(figsize=(WIDTH, 3.5))
    axes = figure.add_subplot(yscale="log")
    for (name, size), colour, line in zip(
        runs.items(), (BLUE, GREEN, ORANGE, VERMILION), ("-", "-.", "--", ":"), strict=False
    ):
        size = np.asarray(size, dtype=np.float64)
        seen = np.where(np.isfinite(size) & (size > 0), size, np.nan)
        axes.plot(seen, color=colour, ls=line, lw=2.2, label=name)
    axes.set_ylim(1e-15, limit * 1e6)
    axes.axhline(limit, color=INK, lw=1)
    axes.text(0, limit, "the largest number in float32", va="bottom", size=9.5)
    axes.set_xlabel("step")
    axes.set_ylabel("size of h")
    figure.legend(loc="outside right center")
    return figure
