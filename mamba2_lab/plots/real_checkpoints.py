"""Figures of notebook 14."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mamba2_lab.plots.style import COLOURS, LINES, MARKS, WIDTH, plain_numbers, styled


@styled
def where_it_lies(parts: Sequence[tuple[str, int, int]], size: int) -> Figure:
    """What lies where in a file: a bar from its first byte to its last, in kilobytes, with a row for each kind of part.

    Args:
        parts: kind, first byte, and the byte behind the last.
        size: of the file, in bytes.
    """
    kinds = list(dict.fromkeys(kind for kind, _, _ in parts))
    figure = Figure(figsize=(WIDTH, 0.9 + 0.36 * len(kinds)))
    axes = figure.add_subplot(ylim=(len(kinds) - 0.4, -0.6), xlim=(0, 1.01 * size / 1000))
    for kind, begin, end in parts:
        row = kinds.index(kind)
        colour = COLOURS[row % len(COLOURS)]  # of the edge too: it is all that is seen of a small tensor
        axes.barh(row, (end - begin) / 1000, left=begin / 1000, height=0.62, color=colour, ec=colour, lw=1)
    axes.set(xlabel=f"kilobytes from the beginning of the file, of {size / 1000:,.0f}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_yticks(range(len(kinds)), kinds)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


@styled
def half_lives_by_model(models: Mapping[str, ArrayLike]) -> Figure:
    """The half-lives of each model's heads, in tokens, from the shortest to the longest, over their share of all heads.

    Args:
        models: by name, (k,) of its k heads.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot(yscale="log", xlim=(0, 100))
    for i, (name, half_lives) in enumerate(models.items()):
        found = np.sort(np.asarray(half_lives, dtype=float))
        share = 100 * (np.arange(len(found)) + 0.5) / len(found)
        look = {"color": COLOURS[i], "ls": LINES[i], "marker": MARKS[i] if len(found) < 100 else ""}
        axes.plot(share, found, **look, ms=4, lw=1.6, label=f"{name}, {len(found)} heads")
    axes.set(xlabel="% of the heads have a shorter one", ylabel="half-life at rest, tokens")
    plain_numbers(axes.yaxis)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
