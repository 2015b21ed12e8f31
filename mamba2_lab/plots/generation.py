"""Figures of notebook 09."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import ArrayLike

from mamba2_lab.plots.style import COLOURS, FAINT, INK, LINES, PALE_INK, PAPER, WIDTH, styled
from mamba2_lab.words import in_bytes, visible

MONO = "DejaVu Sans Mono"


# Filters


@styled
def filters(tokens: Mapping[str, Sequence[str]], chances: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """What filters make of the next token's probabilities: a row for each place in a text, a column for each filter.

    Args:
        tokens: for each place, by name, the tokens to show, the likeliest first.
        chances: for each filter, by name, the probabilities of these tokens at each place. The first one is what the
            model says: its bars stand as outlines behind the others.
    """
    figure = Figure(figsize=(WIDTH, 0.75 + 1.75 * len(tokens)))
    panels = figure.subplots(len(tokens), len(chances), sharey="row", squeeze=False)
    before = next(iter(chances.values()))
    for row, (place, shown) in zip(panels, tokens.items(), strict=True):
        row[0].set_ylim(0, 1.2 * max(np.asarray(by_place[place]).max() for by_place in chances.values()))
        for axes, (name, by_place) in zip(row, chances.items(), strict=True):
            _draw_chances(axes, shown, np.asarray(by_place[place]), np.asarray(before[place]))
            if axes in panels[0]:
                axes.set_title(name)
        row[0].set_ylabel("probability")
        row[0].annotate(
            f"after {place}",
            (0.98, 0.97),
            xycoords="axes fraction",
            ha="right",
            va="top",
            family=MONO,
            size=9.5,
            color=INK,
        )
    return figure


def _draw_chances(axes: Axes, tokens: Sequence[str], after: np.ndarray, before: np.ndarray) -> None:
    x = np.arange(len(tokens))
    axes.bar(x, after, width=0.8, color=COLOURS[0])
    axes.bar(x, before, width=0.8, color="none", ec=INK, lw=0.8)
    axes.set_xticks(x, map(visible, tokens), family=MONO, size=11)
    for label, left in zip(axes.get_xticklabels(), after, strict=True):
        label.set_color(INK if left > 0 else FAINT)
    axes.tick_params(axis="x", length=0)


# Beams


@styled
def beam_tree(tokens: Sequence[Sequence[str]], parents: Sequence[Sequence[int]]) -> Figure:
    """The rows of a beam search, step by step: which token each of them got, and which row it goes on from.

    Args:
        tokens: for each step, the token of each row, the likeliest row first.
        parents: for each step, the row of the step before that each row goes on from.
    """
    width, steps = len(tokens[0]), len(tokens)
    figure = Figure(figsize=(WIDTH, 0.9 + 0.45 * width))
    axes = figure.add_subplot(xlim=(-1.5, steps - 0.4), ylim=(width - 0.4, -0.6))
    best, alive = lineages(parents)
    for step in range(steps):
        for row, parent in enumerate(parents[step]):
            colour, line, on_top = _looks(row in best[step], row in alive[step])
            start = (step - 1, parent if step else (width - 1) / 2)
            axes.plot(*zip(start, (step, row), strict=True), color=colour, lw=line, zorder=on_top, gid="edge")
            text = visible(tokens[step][row])
            box = {"boxstyle": "round,pad=0.18", "fc": PAPER, "ec": colour, "lw": line}
            axes.text(
                step,
                row,
                text,
                ha="center",
                va="center",
                family=MONO,
                size=10.5,
                color=INK,
                bbox=box,
                zorder=on_top + 3,
            )
    axes.plot(-1, (width - 1) / 2, "o", ms=9, color=INK, zorder=6)
    axes.set_yticks(range(width), [f"row {row}" for row in range(width)])
    axes.set_xticks(range(0, steps, 2), [str(step + 1) for step in range(0, steps, 2)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("step")
    return figure


def lineages(parents: Sequence[Sequence[int]]) -> tuple[list[set[int]], list[set[int]]]:
    """For each step, the rows that the last step's best row comes from, and those that any of its rows comes from."""
    best, alive = [{0}], [set(range(len(parents[-1])))]
    for step in reversed(range(1, len(parents))):
        for chain in (best, alive):
            chain.insert(0, {parents[step][row] for row in chain[0]})
    return best, alive


def _looks(is_best: bool, is_alive: bool) -> tuple[str, float, int]:
    """Colour, line width and layer of a row: the best one's line, one that is still there, one that was given up."""
    if is_best:
        return COLOURS[0], 2.2, 3
    return (PALE_INK, 1.2, 2) if is_alive else ("#cfd4d9", 1.0, 1)


# Memory


@styled
def memory_by_length(lengths: Sequence[int], sizes: Mapping[str, Sequence[float]], meetings: Sequence[float]) -> Figure:
    """Bytes kept of a text against its length, both on logarithmic axes; a line for each way of remembering.

    Args:
        lengths: in tokens. sizes: in bytes, for each way; the last one is the constant that the others are held
            against.
        meetings: for each of the others, the length at which it reaches that constant.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot(xscale="log", yscale="log")
    for i, (name, kept) in enumerate(sizes.items()):
        axes.plot(lengths, kept, color=COLOURS[(5, 1, 0)[i % 3]], ls=LINES[(1, 2, 0)[i % 3]], lw=2.2, label=name)
    level = list(sizes.values())[-1][0]
    for i, length in enumerate(meetings):
        axes.plot(length, level, "o", color=PAPER, mec=INK, mew=1.5, ms=8, zorder=4)
        side, offset = (("right", (-8, 8)), ("left", (8, -16)))[i % 2]  # where no line passes
        text = f"{length:,.0f} tokens"
        axes.annotate(text, (length, level), offset, textcoords="offset points", ha=side, size=9.5, color=INK)
    axes.yaxis.set_major_locator(FixedLocator([10.0**power for power in range(3, 12)]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: in_bytes(value))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set(xlabel="tokens read", ylabel="bytes kept", xlim=(lengths[0], lengths[-1]))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


# With memory, and without


@styled
def surprises(text: Sequence[str], readers: Mapping[str, ArrayLike]) -> Figure:
    """How surprised each reader is by each token of the same text, in bits: a row of bars for each reader."""
    figure = Figure(figsize=(WIDTH, 0.6 + 1.35 * len(readers)))
    panels: Any = figure.subplots(len(readers), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, bits), colour in zip(panels, readers.items(), COLOURS, strict=False):
        axes.bar(range(len(text)), np.asarray(bits), color=colour, width=0.8)
        axes.set_title(f"{name}: {np.asarray(bits).mean():.2f} bits on average", size=11)
        axes.set_ylabel("bits")
        axes.set_xlim(-0.7, len(text) - 0.3)
        axes.tick_params(axis="x", length=0)
    panels[-1].set_xticks(range(len(text)), map(visible, text), family=MONO, size=9.5)
    return figure
