"""Figures of notebook 13."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike

from mamba2_lab.plots.style import COLOURS, FAINT, INK, LINES, MARKS, PALE_INK, PAPER, WIDTH, styled

RADIUS = 0.4  # of a dial, in distances of dials


@styled
def one_way(levels: ArrayLike, thresholds: ArrayLike) -> Figure:
    """What stands in memories after 1, 2, ... presses, beside their thresholds; a cross where one is wrong.

    Args:
        levels: (k,presses), a panel for each memory. thresholds: (k,), above which it says that the lamp is on.
    """
    levels, thresholds = np.asarray(levels), np.asarray(thresholds)
    figure = Figure(figsize=(WIDTH, 3.2))
    panels: Any = figure.subplots(1, len(levels), squeeze=False)[0]
    presses = np.arange(1, levels.shape[1] + 1)
    for axes, level, threshold in zip(panels, levels, thresholds, strict=True):
        right = (level > threshold) == (presses % 2 == 1)
        axes.axhline(threshold, color=PALE_INK, ls="--", lw=1.2)
        axes.annotate(
            "threshold", (1, threshold), (0, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
            ha="right", va="bottom", size=9.5, color=PALE_INK,
        )  # fmt: skip
        axes.plot([0, *presses], [0.0, *level], color=FAINT, lw=1.5, zorder=1)
        axes.plot(presses[right], level[right], "o", color=COLOURS[0], ms=8, label="right")
        axes.plot(presses[~right], level[~right], "X", color=COLOURS[5], ms=9, label="wrong")
        first = presses[~right][0]
        axes.set_title(f"wrong first after {first} press{'es' if first > 1 else ''}", size=11)
        axes.set(xlabel="presses", xticks=[0, *presses])
        axes.margins(y=0.15)
    panels[0].set_ylabel("what stands in it")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


@styled
def hands(angles: Mapping[str, ArrayLike], bits: Sequence[int]) -> Figure:
    """Where a hand points after each bit: a row of dials for each name, from left to right. 0 points right.

    Args:
        angles: by name, (l,) in radians, counter-clockwise. bits: l of them; where one is 1 its dial is filled.
    """
    rows = len(angles)
    figure = Figure(figsize=(WIDTH, 0.55 + 0.76 * rows * min(1.0, 12 / len(bits))))
    axes = figure.add_subplot(xlim=(-0.6, max(len(bits), 9) - 0.4), ylim=(rows - 0.45, -0.62), aspect="equal")
    places = np.arange(len(bits))
    pressed = np.asarray(bits) == 1
    for row, each in enumerate(angles.values()):
        centres = np.stack([places, np.full(len(bits), row)], axis=1).astype(float)
        for chosen, face in ((pressed, "#fbe3b0"), (~pressed, PAPER)):
            _dials(axes, centres[chosen], face)
        angle = np.asarray(each, dtype=float)
        ends = centres + RADIUS * np.stack([np.cos(angle), -np.sin(angle)], axis=1)  # the axis goes down
        axes.add_collection(LineCollection(list(np.stack([centres, ends], axis=1)), colors=INK, linewidths=2.2))
    axes.set_xticks(places, [str(bit) for bit in bits])
    axes.set_yticks(range(rows), angles)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("bit: 1 is a press")
    return figure


def _dials(axes: Axes, centres: np.ndarray, face: str) -> None:
    sizes = np.full(len(centres), 2 * RADIUS)
    dials = EllipseCollection(
        sizes, sizes, np.zeros(len(centres)), units="x", offsets=centres, offset_transform=axes.transData,
        facecolors=face, edgecolors=FAINT, linewidths=1.2,
    )  # fmt: skip
    axes.add_collection(dials)


@styled
def errors_by_step(steps: Sequence[float], errors: Mapping[str, Sequence[float]]) -> Figure:
    """Errors against the length of a step, on logarithmic axes, beside lines of slope 1 and 2."""
    figure = Figure(figsize=(WIDTH, 4.0))
    axes = figure.add_subplot(xscale="log", yscale="log")
    for i, (name, values) in enumerate(errors.items()):
        axes.plot(steps, values, LINES[i], marker=MARKS[i], color=COLOURS[i], ms=6, lw=1.8, label=name)
    x, top = np.asarray(steps, dtype=float), max(max(values) for values in errors.values())
    for slope, dots, words in ((1, 1.5, "halves with the step"), (2, 4, "a quarter for half the step")):
        y = 2 * top * (x / x.max()) ** slope
        axes.plot(x, y, color=PALE_INK, lw=1.2, ls=(0, (1, dots)), zorder=0, label=words)
    axes.set(xlabel="length of a step", ylabel="error after 4 units of time")
    axes.set_xticks(x, [f"{step:.3g}" for step in x])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@styled
def surprise_by_position(curves: Mapping[str, Mapping[str, ArrayLike]], chance: Mapping[str, float]) -> Figure:
    """The surprise of the right answer after each bit, in bits: a panel for each task, a line for each model.

    Args:
        curves: by task and by model, (l,). chance: by task, the surprise of who guesses.
    """
    figure = Figure(figsize=(WIDTH, 3.9))
    panels: Any = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(name for by_model in curves.values() for name in by_model))
    for axes, (task, by_model) in zip(panels, curves.items(), strict=True):
        axes.axhline(chance[task], color=PALE_INK, lw=1.2, ls=":")
        axes.text(1, chance[task] + 0.03, "a guess", size=9.5, color=PALE_INK, va="bottom")
        for name, values in by_model.items():
            i, y = names.index(name), np.asarray(values)
            axes.plot(np.arange(1, len(y) + 1), y, LINES[i], marker=MARKS[i], ms=4, color=COLOURS[i], label=name)
        axes.set(xlabel="bits read", ylim=(-0.08, 1.3 * max(chance.values())))
        axes.set_title(task, size=11)
    panels[0].set_ylabel("surprise of the right answer (bits)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(names))
    return figure


@styled
def errors_by_token(errors: Mapping[str, ArrayLike], start: int, says: str) -> Figure:
    """Relative errors token by token, on a logarithmic axis; a line is drawn where something starts.

    Args:
        errors: by name, (l,); what is below 1e-8 is drawn there. says: what starts at the token `start`.
    """
    figure = Figure(figsize=(WIDTH, 4.2))
    axes = figure.add_subplot(yscale="log", ylim=(5e-9, 20))
    for i, (name, values) in enumerate(errors.items()):
        y = np.clip(np.asarray(values, dtype=float), 1e-8, None)
        axes.plot(y, LINES[i], marker=MARKS[i], markevery=8, ms=5, color=COLOURS[i], label=name)
    axes.axvline(start - 0.5, color=PALE_INK, lw=1.2, ls=":")
    axes.text(start, 8, says, size=9.5, color=PALE_INK, va="center")
    axes.set(xlabel="token", ylabel="relative error (1: all of it wrong)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
