"""Figures of notebook 02."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mamba2_lab.checks import require
from mamba2_lab.plots.style import COLOURS, FAINT, INK, PALE_INK, SIGNED, WIDTH, styled

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
    axes.axhline(0, color=INK, lw=0.8)
    axes.set_xticks(hours)
    axes.set_xlabel("hour")
    axes.set_ylabel("gauge (cm)")
    figure.legend(loc="outside right center")
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
    figure = Figure(figsize=(WIDTH, 3.2))
    figure.set_layout_engine("none")
    _draw_loop(figure.add_axes((0.01, 0.12, 0.29, 0.70)), t, states, C)
    _draw_convolution(figure.add_axes((0.36, 0.12, 0.32, 0.70)), t, x, weights)
    _draw_matrix(figure.add_axes((0.76, 0.12, 0.23, 0.70)), t, x, matrix)
    return figure


# An explorer draws this figure at every move, so it is kept quick: a fixed layout, texts in place of ticks, and thick
# lines for bars, one artist for all of them, where `bar` makes one for each.


def _draw_loop(axes: Axes, t: int, states: Any, C: Any) -> None:
    _prepare(axes, (-0.6, len(C) - 0.4), _limits(states))
    barrels = np.arange(len(C))
    before = states[t - 1] if t > 0 else np.zeros(len(C))
    axes.vlines(barrels - 0.2, 0, before, color=FAINT, lw=22)
    axes.vlines(barrels + 0.2, 0, states[t], color=BLUE, lw=22)
    for i, c in enumerate(C):
        axes.text(i + 0.2, states[t, i], f"{states[t, i]:.2f}", ha="center", va="bottom", size=9)
        axes.annotate(f"C = {_signed(c)}", (i, 0), (0, -5), textcoords="offset points", ha="center", va="top", size=9)
    _name(axes, f"loop: C · h = {_signed(C @ states[t])}", "levels (cm), grey: before, blue: now")


def _draw_convolution(axes: Axes, t: int, x: Any, weights: Any) -> None:
    _prepare(axes, (-0.6, len(x) - 0.4), _limits([*x, *weights]))
    colours = [SKY if s <= t else YET_TO_COME for s in range(len(x))]
    axes.vlines(range(len(x)), 0, x, colors=colours, lw=13)
    axes.plot(range(t, -1, -1), weights[: t + 1], color=VERMILION, marker="o", ms=4, lw=1.5)
    axes.text(t, axes.get_ylim()[0], f"hour {t}", ha="center", va="top", size=9.5)
    _name(
        axes,
        f"convolution: sum = {_signed(weights[: t + 1] @ x[t::-1])}",
        "bars: rain (cm), line: kernel, from now back",
    )


def _draw_matrix(axes: Axes, t: int, x: Any, matrix: Any) -> None:
    l, most = len(x), np.abs(matrix).max()
    _prepare(axes, (0, l), (l, 0))
    axes.pcolormesh(matrix, cmap=SIGNED, vmin=-most, vmax=most)
    axes.add_patch(Rectangle((0, t), l, 1, fill=False, ec=INK, lw=2, clip_on=False))
    axes.text(-0.3, t + 0.5, str(t), ha="right", va="center", size=9.5)
    axes.text(l / 2, l + 0.3, "hour of the rain", ha="center", va="top", size=9.5)
    _name(axes, f"matrix: row {t} · x = {_signed(matrix[t] @ x)}", "purple: below 0, orange: above")


def _prepare(axes: Axes, xlim: tuple[float, float], ylim: tuple[float, float]) -> None:
    axes.set(xlim=xlim, ylim=ylim)
    axes.set_axis_off()
    if ylim[0] < ylim[1]:
        axes.axhline(0, color=INK, lw=0.8)


def _name(axes: Axes, title: str, note: str) -> None:
    axes.text(0, 1.13, title, transform=axes.transAxes, size=12)
    axes.text(0, 1.04, note, transform=axes.transAxes, size=9.5, color=PALE_INK)


def _limits(values: Any) -> tuple[float, float]:
    """The same axis at every step."""
    low, high = min(0.0, float(np.min(values))), max(0.0, float(np.max(values)))
    room = 0.05 * (high - low)
    return low - room, high + room


def _signed(number: float) -> str:
    return f"{number:.2f}".replace("-", "−")


@styled
def costs_by_length(lengths: Any, counted: Mapping[str, Any], measured: Mapping[str, Any]) -> Figure:
    """Work against length, both on logarithmic axes: multiply-adds as counted, and milliseconds as measured.

    Args:
        lengths: (k,). counted, measured: by name of the computation, the same names in both, (k,) each.
    """
    figure = Figure(figsize=(WIDTH, 3.8))
    panels = figure.subplots(1, 2)
    for axes, values, unit in zip(panels, (counted, measured), ("multiply-adds", "milliseconds"), strict=True):
        for (name, cost), colour, marker in zip(values.items(), (BLUE, ORANGE, GREEN, VERMILION), "os^D", strict=True):
            axes.loglog(lengths, cost, color=colour, marker=marker, ms=6, lw=1.8, label=name)
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axes.minorticks_off()
        axes.set_xlabel("length l")
        axes.set_ylabel(unit)
    panels[0].set_title("arithmetic, counted")
    panels[1].set_title("time, measured on this machine")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
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
    axes.axhline(0, color=INK, lw=0.8)
    axes.set_xticks(hours)
    axes.set_xlabel("hour")
    axes.set_ylabel("gauge (cm)")
    figure.legend(loc="outside right center")
    return figure
