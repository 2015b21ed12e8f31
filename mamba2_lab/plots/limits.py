"""Figures of notebook 11."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter
from numpy.typing import ArrayLike

from mamba2_lab.plots.style import COLOURS, FAINT, INK, LINES, MARKS, PALE_INK, WIDTH, styled


@styled
def interference(
    pairs: Sequence[int], measured: Mapping[str, ArrayLike], predicted: Mapping[str, Sequence[float]], columns: int
) -> Figure:
    """The squared error of what is read, against how many pairs one state holds.

    Args:
        measured: for each way to read, (draws,pairs): a dot at the mean, a bar from the least to the most.
        predicted: for each of these ways, the error at each number of pairs: a line.
        columns: of the state, marked on the axis of pairs.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot(xlim=(0, pairs[-1] + 4))
    _mark(axes, columns, f"n = {columns}")
    for (name, errors), colour, line, kind in zip(measured.items(), COLOURS, LINES, MARKS, strict=False):
        axes.plot(pairs, predicted[name], color=colour, ls=line, lw=2, label=f"predicted: {name}")
        _dots(axes, pairs, np.asarray(errors), colour, kind, f"measured: {name}")
    axes.set(xlabel="pairs in one state", ylabel="squared error\n(1: a whole value)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@styled
def recall(
    counts: Sequence[int],
    shares: Mapping[str, ArrayLike],
    chance: float,
    label: str,
    predicted: Mapping[str, ArrayLike] | None = None,
) -> Figure:
    """The share of right answers against a number on a logarithmic axis: a line for each reader, a band for its seeds.

    Args:
        shares: for each reader, (seeds,counts) in 0..1. The line is the mean, the band runs from the lowest to the
            highest.
        chance: what a guess gets. label: of the axis of counts.
        predicted: for some of the readers, what was expected of them, (draws,counts): a thin line of the same colour.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot(xscale="log", ylim=(0, 1.04))
    for (name, found), colour, kind in zip(shares.items(), COLOURS, MARKS, strict=False):
        values = np.asarray(found, dtype=np.float64)
        axes.fill_between(counts, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, lw=0)
        axes.plot(counts, values.mean(axis=0), color=colour, lw=2, marker=kind, ms=5, label=name)
        if predicted and name in predicted:
            expected = np.asarray(predicted[name]).mean(axis=0)
            axes.plot(counts, expected, color=colour, lw=1.3, ls="--", label=f"{name}, predicted")
    axes.axhline(chance, color=FAINT, lw=1, ls=(0, (4, 3)))
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    axes.annotate("a guess", (1, chance), (6, 0), **place, va="center", size=9.5, color=PALE_INK)
    _counted(axes, counts, label)
    axes.set_ylabel("right answers")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@styled
def needle_by_distance(distances: Sequence[int], bits: Mapping[str, ArrayLike]) -> Figure:
    """How many bits a needle still takes, against how far back it stands: a line for each kind of text.

    Args:
        bits: for each kind, (needles,distances): the line is the mean, the band runs from the least to the most.
    """
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.add_subplot(xscale="log")
    for (name, found), colour, line, kind in zip(bits.items(), COLOURS, LINES, MARKS, strict=False):
        values = np.asarray(found)
        axes.fill_between(distances, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, lw=0)
        axes.plot(distances, values.mean(axis=0), color=colour, ls=line, lw=2, marker=kind, ms=5, label=name)
    _counted(axes, distances, "tokens between the needle and the question")
    axes.set(ylabel="bits for the needle", ylim=(0, None))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@styled
def bits_along(edges: Sequence[int], bits: Mapping[str, ArrayLike], trained: int, model: str) -> Figure:
    """Bits per byte of stretches of a text, one after another: steps for each way of reading.

    Args:
        edges: where stretches begin and end, in tokens: one more than there are bits.
        trained: the length that the model was trained on, marked. model: its name.
    """
    figure = Figure(figsize=(WIDTH, 3.2))
    axes = figure.add_subplot(xscale="log")
    start = max(edges[0], edges[1] // 2)  # a logarithmic axis has no 0
    shown = [start, *edges[1:]]
    for (name, values), colour, line in zip(bits.items(), COLOURS, LINES, strict=False):
        axes.stairs(np.asarray(values), shown, baseline=None, color=colour, ls=line, lw=2, label=name)
    _mark(axes, trained, f"trained on {trained:,} tokens")
    _counted(axes, shown, "position in the text (tokens)", named={start: edges[0]})
    axes.set_ylabel(f"bits per byte of {model}")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _dots(axes: Axes, x: Sequence[int], values: np.ndarray, colour: str, kind: str, label: str) -> None:
    """A dot at the mean of each column, and a bar from its least to its most."""
    mean = values.mean(axis=0)
    spread = np.stack([mean - values.min(axis=0), values.max(axis=0) - mean])
    axes.errorbar(x, mean, spread, fmt=kind, color=colour, ms=6, mec=INK, capsize=2, lw=1.2, label=label)


def _mark(axes: Axes, x: float, text: str) -> None:
    """A line upwards at x, and beside its end what it stands for."""
    axes.axvline(x, color=FAINT, lw=1, ls=(0, (4, 3)))
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate(text, (x, 1), (4, -12), **place, size=9.5, color=PALE_INK)


def _counted(axes: Axes, counts: Sequence[int], label: str, named: Mapping[int, int] | None = None) -> None:
    """A logarithmic axis with a tick at each of these numbers, and no other; `named` are written as other numbers."""
    named = named or {}
    axes.xaxis.set_major_locator(FixedLocator(list(counts)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{named.get(round(value), value):,.0f}")
    axes.set_xlabel(label)
