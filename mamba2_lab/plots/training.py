"""Figures of notebook 08, and `Live`, which draws one again while a training goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from IPython.display import DisplayHandle
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter
from numpy.typing import NDArray

from mamba2_lab.plots.style import (
    AMOUNTS,
    COLOURS,
    FAINT,
    INK,
    LINES,
    MARKS,
    PALE_INK,
    SHOWN_DPI,
    WIDTH,
    as_html,
    in_words,
    styled,
)

if TYPE_CHECKING:
    from mamba2_lab.training import Record

LONGEST = 20  # steps that are averaged; early on fewer, or the mean would lag behind the fall


class Live:
    """A figure that is drawn again while something goes on, at most once in `every` seconds.

    Args:
        draw: makes the figure as it should be now.
        alt, caption: as for `show`; the words in `plots.described` unless given.
    """

    def __init__(
        self, draw: Callable[[], Figure], *, alt: str | None = None, caption: str = "", every: float = 2.0
    ) -> None:
        self._draw, self._alt, self._caption, self._every = draw, alt, caption, every
        self._handle = DisplayHandle()
        self._handle.display(self._data(), raw=True)
        self._drawn_at = time.monotonic()

    def refresh(self, *, now: bool = False) -> None:
        """Draw again if it is time, or in any case."""
        if now or time.monotonic() - self._drawn_at >= self._every:
            self._handle.update(self._data(), raw=True)
            self._drawn_at = time.monotonic()  # after the drawing, which must not eat up the time between

    def _data(self) -> dict[str, str]:
        figure = self._draw()
        height = round(figure.get_figheight() * SHOWN_DPI)  # kept free: the page must not jump when the image changes
        alt, caption = in_words(figure, self._alt, self._caption)
        html = f'<div style="min-height: {height}px">{as_html(figure, alt, caption)}</div>'
        return {"text/html": html, "text/plain": f"[figure: {alt}]"}


# The run


@styled
def learning_curve(records: Sequence[Record], steps: int, levels: Mapping[str, float]) -> Figure:
    """The loss of a byte model in bits per byte, step by step and smoothed, and what was measured on held-out files.

    Args:
        records: those so far, of `steps` in all.
        levels: what rivals need, in bits per byte, drawn as lines across.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot(xlim=(0, steps), ylim=(1, 8.8))
    axes.set(xlabel="step", ylabel="bits per byte")
    for name, level in levels.items():
        _level(axes, level, f"{name}, {level:.2f}")
    at = [record.step + 1 for record in records]
    bits = [record.loss / math.log(2) for record in records]
    axes.plot(at, bits, color=COLOURS[0], lw=0.8, alpha=0.3)
    axes.plot(at, smoothed(bits), color=COLOURS[0], lw=2, label="training, smoothed")
    measured = {record.step + 1: record.bits_per_byte for record in records if record.bits_per_byte is not None}
    dots: dict[str, Any] = {"color": COLOURS[1], "mec": INK, "ms": 6.5, "clip_on": False, "label": "held-out files"}
    axes.plot(list(measured), list(measured.values()), "o", **dots)
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 0.88))
    if records:
        axes.set_title(f"step {len(records):,} of {steps:,}, after {records[-1].seconds:.0f} s")
    return figure


def _level(axes: Axes, level: float, text: str) -> None:
    """A line across, named beside the axes, where nothing else is drawn."""
    axes.axhline(level, color=FAINT, lw=1, ls=(0, (4, 3)))
    place: dict[str, Any] = {
        "xycoords": ("axes fraction", "data"),
        "xytext": (10, 0),  # beyond a dot that stands on the edge
        "textcoords": "offset points",
        "va": "center",
    }
    axes.annotate(text, (1.0, level), **place, size=9.5, color=PALE_INK)


def smoothed(values: Sequence[float]) -> NDArray[np.float64]:
    """Running means: of the last quarter of what there is at each step, at most `LONGEST` values."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    stop = np.arange(1, len(total))
    count = np.clip(stop // 4, 1, LONGEST)
    return (total[stop] - total[stop - count]) / count


@styled
def rate_and_norm(records: Sequence[Record], clip_norm: float) -> Figure:
    """Side by side, over the steps: the learning rate, and the gradient's norm with the length it was clipped to."""
    figure = Figure(figsize=(WIDTH, 2.9))
    left, right = figure.subplots(1, 2)
    at = [record.step + 1 for record in records]
    left.plot(at, [record.learning_rate for record in records], color=COLOURS[0], lw=2)
    left.set(title="learning rate", xlabel="step", ylim=(0, None), xlim=(0, len(at)))
    right.plot(at, [record.gradient_norm for record in records], color=COLOURS[2], lw=0.9)
    right.axhline(clip_norm, color=COLOURS[5], lw=1.5, ls="--")
    right.set(title=f"norm of the gradient (dashed: clipped to {clip_norm:g})", xlabel="step", xlim=(0, len(at)))
    right.set_yscale("log")
    _plain_numbers(right.yaxis, (0.1, 0.2, 0.5, 1, 2, 5, 10))
    return figure


# The sweep


@styled
def learning_rates(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """Left, the training loss of each run; right, what each needs on held-out files, against its learning rate.

    Args:
        runs: of the record that `pretrained.sweep` writes.
    """
    figure = Figure(figsize=(WIDTH, 4.2))
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    colours = matplotlib.colormaps[AMOUNTS](np.linspace(0, 0.85, len(runs)))
    for run, colour, line in zip(runs, colours, LINES * len(runs), strict=False):
        at = [step + 1 for step in run["curve"]["step"]]
        bits = [loss / math.log(2) for loss in run["curve"]["loss"]]
        left.plot(at, bits, color=colour, ls=line, lw=1.6, label=f"{run['learning_rate']:g}")
    left.set(title="training", xlabel="step", ylabel="bits per byte", yscale="log")
    left.legend(title="learning rate", ncols=2, loc="upper right", fontsize=9.5)
    _plain_numbers(left.yaxis, (2, 3, 4, 6, 8, 12, 16))
    ends = [(run, colour) for run, colour in zip(runs, colours, strict=True) if run["bits_per_byte"] is not None]
    rates, bits = [run["learning_rate"] for run, _ in ends], [run["bits_per_byte"] for run, _ in ends]
    right.plot(rates, bits, color=FAINT, lw=1.2, zorder=1)
    right.scatter(rates, bits, s=55, c=[colour for _, colour in ends], edgecolors=INK, zorder=2)
    lowest, rate = min(zip(bits, rates, strict=True))
    below: dict[str, Any] = {"xytext": (0, -18), "textcoords": "offset points", "ha": "center"}
    right.annotate(f"{rate:g}: {lowest:.2f}", (rate, lowest), **below, size=10, weight="bold")
    right.set(title="held-out files, at the end", xlabel="learning rate", ylabel="bits per byte", xscale="log")
    right.margins(y=0.18)
    _plain_numbers(right.xaxis, (0.001, 0.01, 0.1, 1))
    return figure


def _plain_numbers(axis: Axis, ticks: Sequence[float]) -> None:
    """Numbers where a log scale would put powers of ten; those that lie beyond the axis are left out."""
    low, high = axis.get_view_interval()
    axis.set_ticks([tick for tick in ticks if low <= tick <= high])
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())


# Sixteen bits


@styled
def rounded_memories(memories: Mapping[str, Mapping[str, Any]]) -> Figure:
    """A panel each: what is left of 1 after each step, for several ways to compute it.

    Args:
        memories: title of a panel -> name of a line -> (steps,).
    """
    figure = Figure(figsize=(WIDTH, 3.2))
    panels = figure.subplots(1, len(memories), sharey=True, squeeze=False)[0]
    widths = (3.2, 2.2, 1.6)  # lines that lie on each other show all the same
    for axes, (title, lines) in zip(panels, memories.items(), strict=True):
        for (name, values), colour, line, width in zip(lines.items(), COLOURS, LINES, widths, strict=False):
            axes.plot(np.asarray(values), color=colour, ls=line, lw=width, label=name)
        axes.set(title=title, xlabel="steps since it was written", ylim=(-0.03, 1.08), xlim=(0, None))
    panels[0].set_ylabel("what is left")
    panels[-1].legend(loc="upper right")
    return figure


# Memory


@styled
def kept_for_gradients(layers: Sequence[int], kept: Mapping[str, Sequence[float]]) -> Figure:
    """Bytes that the forward pass keeps for the backward pass, against the number of blocks; one line per way."""
    figure = Figure(figsize=(WIDTH * 0.62, 3.2))
    axes = figure.add_subplot()
    for (name, sizes), colour, line, mark in zip(kept.items(), COLOURS, LINES, MARKS, strict=False):
        axes.plot(layers, [size / 2**20 for size in sizes], mark, ls=line, color=colour, lw=2, label=name)
    axes.set(xlabel="blocks", ylabel="kept (MiB)", xlim=(0, None), ylim=(0, None), xticks=[0, *layers])
    axes.legend(loc="upper left")
    return figure


# Sudden learning


@styled
def recall_curves(curves: Mapping[str, Mapping[int, float]], chance: float) -> Figure:
    """Share of right answers against the step, one line per model: name -> {step: share}. `chance`: of a guess."""
    figure = Figure(figsize=(WIDTH, 3.2))
    axes = figure.add_subplot(ylim=(0, 1.04))
    for (name, shares), colour, line in zip(curves.items(), COLOURS, LINES * 2, strict=False):
        axes.plot(list(shares), list(shares.values()), color=colour, ls=line, lw=2, label=name)
    _level(axes, chance, "a guess")
    axes.set(xlabel="step", ylabel="right answers", xlim=(0, None))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


# Compared


@styled
def losses(curves: Mapping[str, Sequence[Record]]) -> Figure:
    """Smoothed training losses of byte models, in nats, one line per run."""
    figure = Figure(figsize=(WIDTH, 3.0))
    axes = figure.add_subplot()
    for (name, records), colour, line in zip(curves.items(), COLOURS, LINES * 2, strict=False):
        at = [record.step + 1 for record in records]
        axes.plot(at, smoothed([record.loss for record in records]), color=colour, ls=line, lw=2, label=name)
    axes.set(xlabel="step", ylabel="loss (nats per byte)", xlim=(0, None))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@styled
def gradient_errors(errors: Sequence[float]) -> Figure:
    """How wrong the gradient of each block is: |wrong - right| / |right|, a bar each."""
    figure = Figure(figsize=(WIDTH * 0.62, 2.8))
    axes = figure.add_subplot()
    bars = axes.bar(range(1, len(errors) + 1), errors, color=COLOURS[5], width=0.6)
    axes.bar_label(bars, [f"{error:.0%}" for error in errors], padding=3, color=INK)
    axes.set(xlabel="block", ylabel="error of its gradient", xticks=range(1, len(errors) + 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.margins(y=0.15)
    return figure


@styled
def comparison(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Bits per byte on the same text as bars, the worst on top; a mark where copies of that text were left in training.

    Args:
        rows: of `pretrained/comparison.json`; those with "parameters" are models that were trained.
    """
    rows = sorted(rows, key=lambda row: -row["bits_per_byte"])
    figure = Figure(figsize=(WIDTH, 0.8 + 0.42 * len(rows)))
    axes = figure.add_subplot()
    trained = [row.get("parameters") is not None for row in rows]
    colours = [COLOURS[0] if learns else FAINT for learns in trained]
    bars = axes.barh(range(len(rows)), [row["bits_per_byte"] for row in rows], color=colours, height=0.62)
    axes.bar_label(bars, [f"{row['bits_per_byte']:.2f}" for row in rows], padding=8, color=INK)
    copied = [(row["with_copies"], i) for i, row in enumerate(rows) if row.get("with_copies") is not None]
    if copied:
        axes.plot(*zip(*copied, strict=True), "d", color=COLOURS[1], mec=INK, ms=8, label="with copies left in")
        axes.legend(loc="lower right")
    axes.set_yticks(range(len(rows)), [_named(row) for row in rows])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)  # for the numbers; before the limits, which fix the axis
    axes.set(xlabel="bits per byte of held-out files (less is better)", xlim=(0, None))
    return figure


def _named(row: Mapping[str, Any]) -> str:
    parameters = row.get("parameters")
    return row["name"] if parameters is None else f"{row['name']}, {parameters / 1e6:.2g} M weights"
