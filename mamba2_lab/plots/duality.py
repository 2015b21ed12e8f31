"""Figures of notebook 04."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mamba2_lab.plots.style import AMOUNTS, COLOURS, FAINT, INK, LINES, MARKS, PALE_INK, WIDTH, styled

DARKER_IS_MORE = f"{AMOUNTS}_r"  # on white cells, which hold nothing
PANEL = 3.6  # inches that a table of words takes at most
DECADES = 1e-8, 200.0  # the error axis: from below float32's rounding to above 1, with room for marks that say NaN
TOP = 10.0  # where those stand


@styled
def word_tables(words: Sequence[str], tables: Mapping[str, Any], joined_by: Sequence[str] = ()) -> Figure:
    """Tables of amounts from each word (columns) to each word (rows), side by side; an empty cell is a 0.

    Args:
        tables: by title, (l,l), entries >= 0. All share one scale.
        joined_by: what stands between neighbours, such as "∘" and "=".
    """
    arrays = {title: np.asarray(table) for title, table in tables.items()}
    figure = Figure(figsize=(min(WIDTH, PANEL * len(arrays) + 0.6), 3.6 if len(arrays) > 1 else 3.9))
    panels = figure.subplots(1, len(arrays), squeeze=False)[0]
    top = max(array.max() for array in arrays.values())
    for i, (axes, (title, array)) in enumerate(zip(panels, arrays.items(), strict=True)):
        _word_table(axes, words, title, array, top)
        if i < len(joined_by):
            axes.text(1.09, 0.5, joined_by[i], transform=axes.transAxes, ha="center", va="center", size=18, color=INK)
    figure.supylabel("target: reads", size=11)
    figure.supxlabel("source: was written", size=11)
    return figure


def _word_table(axes: Axes, words: Sequence[str], title: str, array: Any, top: float) -> None:
    scale = Normalize(0, top)
    axes.imshow(np.ma.masked_equal(array, 0), cmap=DARKER_IS_MORE, norm=scale)
    places = range(len(words))
    axes.set_xticks(places, words, rotation=45, ha="right", rotation_mode="anchor", size=9.5)
    axes.set_yticks(places, words, size=9.5)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(words) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(words) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=FAINT, linewidth=0.4)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set(visible=True, color=FAINT)
    axes.set_title(title, size=11)
    for (row, column), value in np.ndenumerate(array):
        if value != 0:
            dark = sum(colormaps[DARKER_IS_MORE](scale(value))[:3]) < 1.5
            colour = "white" if dark else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", size=8.5, color=colour)


@styled
def below_the_diagonal(ranks: Mapping[str, Sequence[int]], singular_values: Mapping[str, Any], n: int) -> Figure:
    """What crosses a cut through the text: the rank of M[cut:, :cut] for every cut, and the middle block's spectrum.

    Args:
        ranks: by name of the matrix, for cuts 1, 2, ...
        singular_values: by the same names, of the block at the middle cut, from large to small.
        n: the size of the state.
    """
    figure = Figure(figsize=(WIDTH, 3.9))
    left, right = figure.subplots(1, 2)
    for colour, line, name in zip(COLOURS, LINES, ranks, strict=False):
        left.plot(range(1, len(ranks[name]) + 1), ranks[name], ls=line, color=colour, label=name)
        values = np.asarray(singular_values[name])
        right.semilogy(range(1, len(values) + 1), values / values[0], marker=".", ls=line, color=colour, ms=5)
    left.axhline(n, color=PALE_INK, linestyle=":", linewidth=1.2)
    left.text(len(next(iter(ranks.values()))) / 2, n - 0.5, f"n = {n}", ha="center", va="top", color=PALE_INK)
    left.set(xlabel="cut (tokens before it)", ylabel="rank of M[cut:, :cut]", ylim=(0, None))
    right.axvline(n, color=PALE_INK, linestyle=":", linewidth=1.2)
    right.set(xlabel="singular value, from large to small", ylabel="its size (the largest is 1)", ylim=(1e-18, 3))
    left.set_title("every cut")
    right.set_title("the cut in the middle")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@styled
def error_by_length(lengths: Sequence[int], errors: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Relative error against length, a panel for each kind of input, a line for each way to compute.

    Args:
        errors: by kind of input, then by way to compute: one number per length. NaN or infinity is drawn as a cross on
            the line at the top.
    """
    figure = Figure(figsize=(WIDTH, 4.3))
    panels = figure.subplots(1, len(errors), sharey=True, squeeze=False)[0]
    for axes, (title, by_way) in zip(panels, errors.items(), strict=True):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        for i, (way, values) in enumerate(by_way.items()):
            _error_line(
                axes, lengths, np.asarray(values, dtype=float), COLOURS[i], MARKS[i], "--" if i == 4 else "-", way
            )
        axes.axhline(1, color=PALE_INK, linestyle=":", linewidth=1.2)
        axes.set_xticks(lengths, [str(length) for length in lengths], size=9)
        axes.tick_params(which="minor", bottom=False)
        axes.set(ylim=DECADES, yticks=[10.0**power for power in range(-8, 1, 2)], xlabel="length (tokens)")
        axes.set_title(title, size=11)
    panels[0].set_ylabel("relative error (1: all of it wrong)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=10)
    return figure


def _error_line(
    axes: Axes, lengths: Sequence[int], values: Any, colour: str, marker: str, line: str, label: str
) -> None:
    axes.plot(lengths, values, line, color=colour, marker=marker, markersize=5, label=label)
    lost = np.asarray(lengths)[~np.isfinite(values)]
    axes.plot(lost, np.full(len(lost), TOP), "X", color=colour, markersize=8)
    if len(lost):
        axes.text(lost[0], TOP * 2, "NaN", ha="center", va="bottom", color=colour)
