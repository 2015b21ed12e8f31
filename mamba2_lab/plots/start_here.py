"""Figures of notebook 00."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from mamba2_lab.course.chapters import Chapter
from mamba2_lab.plots.style import AMOUNTS, COLOURS, INK, WIDTH, styled
from mamba2_lab.words import visible


@styled
def course_map(chapters: Sequence[Chapter], passed: Mapping[int, tuple[int, int]] | None = None) -> Figure:
    """The chapters as a row of cards per part.

    Args:
        passed: of each chapter, by its number, how many exercises the reader has answered, and how many there are.
    """
    passed = passed or {}
    parts = list(dict.fromkeys(chapter.part for chapter in chapters))
    rows = [[chapter for chapter in chapters if chapter.part == part] for part in parts]
    figure = Figure(figsize=(WIDTH, 0.84 * len(rows)))
    axes = figure.add_subplot(xlim=(-0.345, max(map(len, rows))), ylim=(len(rows), 0))
    axes.set_axis_off()
    for i, (part, row) in enumerate(zip(parts, rows, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        axes.text(-0.03, i + 0.5, part, ha="right", va="center", weight="bold", color=INK)
        for column, chapter in enumerate(row):
            _card(axes, column, i, chapter, colour)
            if chapter.number in passed:
                _progress(axes, column, i, colour, *passed[chapter.number])
    return figure


def _card(axes: Axes, column: int, row: int, chapter: Chapter, colour: str) -> None:
    tint = tuple(1 - 0.2 * (1 - channel) for channel in to_rgb(colour))
    style = "round,pad=0,rounding_size=0.05"
    axes.add_patch(FancyBboxPatch((column + 0.02, row + 0.07), 0.96, 0.86, boxstyle=style, fc=tint, ec=colour))
    title = f"{chapter.number:02d}  {chapter.title}"
    axes.text(column + 0.06, row + 0.25, title, va="center", weight="bold", size=8.8, color=INK)
    summary = textwrap.fill(chapter.summary, 44)
    axes.text(column + 0.06, row + 0.52, summary, va="center", size=8.5, color=INK, linespacing=1.1)


def _progress(axes: Axes, column: int, row: int, colour: str, passed: int, exercises: int) -> None:
    """A bar at the foot of a card, and beside it in words how far it is filled."""
    left, right, middle = column + 0.06, column + 0.62, row + 0.8
    bar: dict[str, Any] = {"lw": 4, "solid_capstyle": "butt"}
    axes.plot([left, right], [middle, middle], color="#ffffff", **bar)
    axes.plot([left, left + (right - left) * passed / exercises], [middle, middle], color=colour, **bar)
    axes.text(right + 0.02, middle, f"{passed} of {exercises} passed", va="center", size=8, color=INK)


@styled
def state_changes(text: Sequence[str], surprise: Sequence[float], change: Any) -> Figure:
    """What the model wrote, how surprising each token was, and how much of each head's state it replaced.

    Args:
        text: one string per token. surprise: its bits, -log2 of its probability.
        change: (heads, tokens) in 0..1, see `inspect.state_change`; heads are drawn from steady to restless.
    """
    change = np.asarray(change)
    order = change.mean(axis=1).argsort()
    figure = Figure(figsize=(WIDTH, 5.2))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 3.4])
    above.bar(range(len(text)), surprise, color=COLOURS[0], width=0.75)
    above.set_ylabel("surprise\n(bits)")
    above.tick_params(bottom=False)
    image = below.imshow(change[order], aspect="auto", cmap=AMOUNTS, vmin=0, vmax=1, interpolation="nearest")
    below.set_xticks(range(len(text)), [visible(piece) for piece in text], family="DejaVu Sans Mono", size=9)
    below.tick_params(length=0)
    below.set_yticks([0, len(order) - 1], ["steady", "restless"])
    below.set_ylabel(f"{len(order)} heads", labelpad=-24)
    below.set_xlabel("the text, one byte after another")
    below.spines[:].set_visible(False)
    figure.colorbar(image, ax=below, label="share of the state replaced", pad=0.01, ticks=[0, 0.25, 0.5, 0.75, 1])
    return figure
