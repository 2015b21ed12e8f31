"""Figures of notebook 02."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from mamba2_lab.checks import require
from mamba2_lab.plots.page import TICK, Panel, blank
from mamba2_lab.plots.style import COLOURS, FAINT, INK, PALE_INK, SIGNED, WIDTH, around_zero, largest, styled

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = COLOURS
YET_TO_COME = "#dfe3e6"


@styled
def echoes(x: Any, weights: Any) -> Figure:
    """Every input's own echo, stacked, and their sum: x (l,) and the kernel's weights (l,)."""
    x, weights = np.asarray(x), np.asarray(weights)
    hours = np.arange(len(x))
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.add_subplot()
    above, below = np.zeros(len(x)), np.zeros(len(x))
    showers = np.flatnonzero(x)
    for s, colour in zip(showers, (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION), strict=False):
        echo = np.concatenate([np.zeros(s), weights[: len(x) - s] * x[s]])
        bottom = np.where(echo > 0, above, below)
        axes.bar(hours, echo, bottom=bottom, color=colour, width=0.8, label=f"rain of hour {s}")
        above, below = above + np.maximum(echo, 0), below + np.minimum(echo, 0)
    axes.plot(hours, above + below, color=INK, marker="o", ms=6, lw=1.5, label="their sum, y")
    _read_by_the_hour(figure, axes, hours)
    return figure


@styled
def three_computations(t: int, x: Any, states: Any, C: Any, weights: Any, matrix: Any) -> Figure:
    """Output t of one system, as each of three computations gets it.

    Args:
        t: the step. x: (l,) inputs. states: (l, n), the loop's state after each step. C: (n,), how it is read.
        weights: (l,), the kernel. matrix: (l, l).

    Raises:
        ValueError: if t is not a step of x.
    """
    x, states, C, weights, matrix = (np.asarray(part) for part in (x, states, C, weights, matrix))
    l = len(x)
    require(0 <= t < l, "t", f"in 0..{l - 1}", t)
    figure = blank(3.2)
    _draw_loop(figure, t, states, C)
    _draw_convolution(figure, t, x, weights)
    _draw_matrix(figure, t, x, matrix)
    return figure


def _draw_loop(figure: Figure, t: int, states: Any, C: Any) -> None:
    panel = Panel(figure, (0.01, 0.12, 0.29, 0.70), (-0.6, len(C) - 0.4), _limits(states))
    barrels = np.arange(len(C))
    before = states[t - 1] if t > 0 else np.zeros(len(C))
    _mark_zero(panel)
    panel.bars(barrels - 0.2, before, 22, FAINT)
    panel.bars(barrels + 0.2, states[t], 22, BLUE)
    levels = [(i + 0.2, level, f"{level:.2f}") for i, level in enumerate(states[t])]
    panel.write(levels, 9, side="center", aligned="bottom")
    panel.write(
        [(i, 0, f"C = {_signed(c)}") for i, c in enumerate(C)], 9, side="center", aligned="top", away=(0, -0.07)
    )
    _name(panel, f"loop: C · h = {_signed(C @ states[t])}", "levels (cm), grey: before, blue: now")


def _draw_convolution(figure: Figure, t: int, x: Any, weights: Any) -> None:
    panel = Panel(figure, (0.375, 0.12, 0.275, 0.70), (-0.6, len(x) - 0.4), _limits([*x, *weights]))
    _mark_zero(panel)
    panel.bars(range(len(x)), x, 11, [SKY if s <= t else YET_TO_COME for s in range(len(x))])
    panel.add(Line2D(range(t, -1, -1), weights[: t + 1], color=VERMILION, marker="o", ms=4, lw=1.5))
    panel.write([(t, panel.y[0], f"hour {t}")], 9.5, side="center", aligned="top")
    _name(
        panel,
        f"convolution: sum = {_signed(weights[: t + 1] @ x[t::-1])}",
        "bars: rain (cm), line: kernel, from now back",
    )
    _scale_both_sides(panel)


def _scale_both_sides(panel: Panel) -> None:
    """Ticks for the rain on the left and for the kernel's weights on the right, each in the colour of what it is for.

    One unit is as long for both.
    """
    (left, right), step = panel.x, next(step for step in (0.1, 0.2, 0.5, 1, 2, 5) if panel.y[1] < 4 * step)
    heights = [step * i for i in range(-9, 10) if panel.y[0] < step * i < panel.y[1]]
    out = TICK / panel.unit[0]
    for edge, way, side, colour in ((left, -1, "right", BLUE), (right, 1, "left", VERMILION)):
        panel.lines([[(edge, panel.y[0]), (edge, panel.y[1])]], colour)
        panel.lines([[(edge, height), (edge + way * out, height)] for height in heights], colour)
        names = [(edge, height, f"{height:g}".replace("-", "−")) for height in heights]
        panel.write(names, 9, side=side, aligned="center", away=(2 * way * TICK, 0), colour=colour)


def _draw_matrix(figure: Figure, t: int, x: Any, matrix: Any) -> None:
    l = len(x)
    panel = Panel(figure, (0.76, 0.12, 0.23, 0.70), (0, l), (l, 0))
    panel.picture(matrix, (0, 0, l, l), SIGNED, around_zero(largest([matrix])))
    panel.add(Rectangle((0, t), l, 1, fill=False, ec=INK, lw=2))
    panel.write([(-0.3, t + 0.5, str(t))], 9.5, side="right", aligned="center")
    panel.write([(l / 2, l + 0.3, "hour of the rain")], 9.5, side="center", aligned="top")
    _name(panel, f"matrix: row {t} · x = {_signed(matrix[t] @ x)}", "purple: below 0, orange: above")


def _mark_zero(panel: Panel) -> None:
    left, right = panel.x
    panel.lines([[(left, 0), (right, 0)]], INK)


def _name(panel: Panel, title: str, note: str) -> None:
    panel.write([(*panel.at(0, 1.13), title)], 12)
    panel.write([(*panel.at(0, 1.04), note)], 9.5, colour=PALE_INK)


def _limits(values: Any) -> tuple[float, float]:
    """The same axis at every step."""
    low, high = min(0.0, float(np.min(values))), max(0.0, float(np.max(values)))
    room = 0.05 * (high - low)
    return low - room, high + room


def _signed(number: float) -> str:
    return f"{number:.2f}".replace("-", "−")


@styled
def multiply_adds_by_length(lengths: Any, counted: Mapping[str, Any]) -> Figure:
    """Work against length, both on logarithmic axes.

    Args:
        lengths: (k,). counted: by name of the computation, (k,) multiply-adds each.
    """
    figure = Figure(figsize=(0.7 * WIDTH, 3.6))
    axes = figure.add_subplot()
    for (name, count), colour, marker in zip(counted.items(), (BLUE, ORANGE, GREEN, VERMILION), "os^D", strict=True):
        axes.loglog(lengths, count, color=colour, marker=marker, ms=6, lw=1.8, label=name)
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axes.minorticks_off()
    axes.set_xlabel("length l")
    axes.set_ylabel("multiply-adds")
    figure.legend(loc="outside right center")
    return figure


@styled
def matrices(tables: Mapping[str, Any]) -> Figure:
    """Matrices (l, l) side by side on one scale, rows the hour that is read, columns the hour of the rain."""
    arrays = {name: np.asarray(table) for name, table in tables.items()}
    most = max(np.abs(array).max() for array in arrays.values())
    scale = Normalize(-most, most)
    figure = Figure(figsize=(WIDTH, 4.2))
    panels = figure.subplots(1, len(arrays), squeeze=False)[0]
    for axes, (name, array) in zip(panels, arrays.items(), strict=True):
        axes.imshow(array, cmap=SIGNED, norm=scale, interpolation="nearest")
        axes.spines[:].set_visible(False)
        axes.set_title(name)
        axes.set_xlabel("hour of the rain")
    panels[0].set_ylabel("hour that is read")
    figure.colorbar(ScalarMappable(scale, SIGNED), ax=list(panels), label="weight", shrink=0.85)
    return figure


@styled
def two_outputs(x: Any, right: Any, wrong: Any, name: str) -> Figure:
    """What fell, and two outputs for it, (l,) each: the right one, and one called `name`."""
    hours = np.arange(len(x))
    figure = Figure(figsize=(WIDTH, 3.0))
    axes = figure.add_subplot()
    axes.bar(hours, np.asarray(x), color=SKY, alpha=0.45, width=0.8, label="rain (cm)")
    axes.plot(hours, np.asarray(right), color=INK, marker="o", lw=1.8, label="right")
    axes.plot(hours, np.asarray(wrong), color=VERMILION, marker="D", ls="--", lw=1.8, label=name)
    _read_by_the_hour(figure, axes, hours)
    return figure


def _read_by_the_hour(figure: Figure, axes: Axes, hours: np.ndarray) -> None:
    axes.axhline(0, color=INK, lw=0.8)
    axes.set_xticks(hours)
    axes.set_xlabel("hour")
    axes.set_ylabel("gauge (cm)")
    figure.legend(loc="outside right center")
