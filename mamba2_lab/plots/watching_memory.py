"""Figures of notebook 10."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from mamba2_lab.plots.style import (
    AMOUNTS,
    COLOURS,
    FAINT,
    INK,
    LINES,
    MARKS,
    PALE_INK,
    SIGNED,
    WIDTH,
    around_zero,
    largest,
    styled,
)
from mamba2_lab.words import visible

MONO = "DejaVu Sans Mono"
ROUND = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)  # ticks of a logarithmic axis

# How long heads remember


@styled
def half_lives(at_rest: ArrayLike, here: ArrayLike, kinds: Mapping[str, ArrayLike], named: Mapping[str, int]) -> Figure:
    """Each head's half-life at rest against the one on a text, both in tokens and logarithmic.

    Args:
        at_rest, here: (k,) of k heads.
        kinds: by name, (k,) which heads are of that kind.
        named: heads that are circled and called by a name.
    """
    at_rest, here = np.asarray(at_rest), np.asarray(here)
    figure = Figure(figsize=(WIDTH, 4.6))
    axes = figure.add_subplot(xscale="log", yscale="log")
    ends = np.array([0.7 * min(at_rest.min(), here.min()), 1.4 * max(at_rest.max(), here.max())])
    axes.plot(ends, ends, color=FAINT, lw=1.2)
    along: Any = {"rotation": 45, "rotation_mode": "anchor", "transform_rotates_text": True}
    axes.text(1.1 * ends[0], 1.4 * ends[0], "as A alone says", color=PALE_INK, size=10, **along)
    for (kind, chosen), colour, marker in zip(kinds.items(), COLOURS, MARKS, strict=False):
        chosen = np.asarray(chosen)
        label = f"{kind} ({chosen.sum()} heads)"
        axes.plot(at_rest[chosen], here[chosen], marker, color=colour, ms=8, mec="white", label=label)
    axes.set(xlabel="half-life at rest, tokens", ylabel="half-life on this text, tokens", xlim=ends, ylim=ends)
    for axis in (axes.xaxis, axes.yaxis):
        _round_ticks(axis)
    across = np.log(at_rest / ends[0]) / np.log(ends[1] / ends[0])  # as parts of the axis
    _name_above_the_diagonal(axes, {name: (at_rest[i], here[i], across[i]) for name, i in named.items()})
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _name_above_the_diagonal(axes: Axes, points: Mapping[str, tuple[float, float, float]]) -> None:
    """Rings around points (x, y, part of the axis), with names up where hardly a head is, apart from one another."""
    along = sorted(points.items(), key=lambda item: item[1][2])
    place = 0.16
    for i, (name, (x, y, across)) in enumerate(along):
        rest = len(along) - 1 - i  # must find room further up
        place = min(max(across, place + 0.09), 0.88 - 0.09 * rest)
        axes.plot(x, y, "o", ms=15, mfc="none", mec=INK, mew=1.2)
        axes.annotate(
            name,
            (x, y),
            (place - 0.12, place + 0.06),
            textcoords="axes fraction",
            ha="right",
            va="center",
            size=10.5,
            arrowprops={"arrowstyle": "-", "color": PALE_INK, "lw": 0.9, "shrinkB": 8},
        )


def _round_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis as one would write them."""
    axis.set_major_locator(FixedLocator(ROUND))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")


@styled
def losses_by_token(pieces: Sequence[str], decays: Mapping[str, ArrayLike]) -> Figure:
    """What some heads lose of their state at each token of a text, 1 - decay: a row for each head, on its own scale.

    Args:
        pieces: l tokens. decays: (l,) in 0..1 by name, what each head keeps.
    """
    figure = Figure(figsize=(WIDTH, 0.6 + 1.15 * len(decays)))
    panels: Any = figure.subplots(len(decays), 1, squeeze=False)[:, 0]
    for axes, (name, decay), colour in zip(panels, decays.items(), COLOURS, strict=False):
        axes.bar(range(len(pieces)), 1 - np.asarray(decay), color=colour, width=0.85)
        axes.set_title(name, size=11)
        axes.set(ylabel="lost", xlim=(-0.7, len(pieces) - 0.3), xticks=[])
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    _spell(panels[-1], pieces)
    return figure


# A pair that fades


@styled
def fading_pair(pieces: Sequence[str], kept: tuple[ArrayLike, ArrayLike], read: tuple[ArrayLike, ArrayLike]) -> Figure:
    """A pair written before these tokens: what is left of it, and how much of its value each of them reads.

    Args:
        pieces: l tokens. kept: (l,) each, the part left as predicted and as measured.
        read: (l,) each, with its sign, as predicted and as measured.
    """
    figure = Figure(figsize=(WIDTH, 4.3))
    above, below = figure.subplots(2, 1, height_ratios=[1, 1.3])
    for axes, (predicted, measured), label in ((above, kept, "left of it"), (below, read, "read of the value")):
        axes.bar(range(len(pieces)), np.asarray(predicted), color=COLOURS[4], width=0.85, label="predicted")
        axes.plot(range(len(pieces)), np.asarray(measured), "o", color=INK, ms=3.5, label="measured")
        axes.set(ylabel=label, xlim=(-0.7, len(pieces) - 0.3), xticks=[])
    above.set_ylim(0, 1.05)
    figure.legend(*above.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    below.axhline(0, color=INK, lw=0.8)
    _spell(below, pieces)
    return figure


# Maps


@styled
def signed_maps(pieces: Sequence[str], maps: Mapping[str, ArrayLike]) -> Figure:
    """Several maps (t,l) by name, target below target, each on a diverging scale of its own with zero in the middle."""
    figure = Figure(figsize=(WIDTH, 1.1 + WIDTH / len(maps)))
    panels: Any = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    for axes, (name, values) in zip(panels, maps.items(), strict=True):
        values = np.asarray(values)
        look: Any = {
            "cmap": SIGNED,
            "norm": around_zero(largest([values])),
            "aspect": "auto",
            "interpolation": "nearest",
        }
        image = axes.imshow(values, **look)
        axes.set_title(name, size=11)
        _spell(axes, pieces)
        axes.set_yticks(range(len(pieces)), map(visible, pieces), family=MONO, size=9, parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("source")
        figure.colorbar(image, ax=axes, location="bottom", shrink=0.8, aspect=30).locator = MaxNLocator(5)
    panels[0].set_ylabel("target")
    return figure


# What opens gates


@styled
def gate_openers(ratios: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> Figure:
    """How much faster some heads fade at each class of tokens than on average: a panel for each head, one scale.

    Args:
        ratios: for each head, by name, and each class: the ratio, and the lower and upper end of its interval.
    """
    classes = list(next(iter(ratios.values())))
    figure = Figure(figsize=(WIDTH, 0.9 + 0.34 * len(classes)))
    panels: Any = figure.subplots(1, len(ratios), sharex=True, sharey=True, squeeze=False)[0]
    rows = np.arange(len(classes))
    panels[0].set_xscale("log")  # a half is as far from 1 as a double
    for axes, (head, by_class), colour in zip(panels, ratios.items(), COLOURS, strict=False):
        middle, low, high = np.array([by_class[name] for name in classes]).T
        axes.axvline(1, color=FAINT, lw=1.2)
        axes.hlines(rows, low, high, color=colour, lw=2.5)
        axes.plot(middle, rows, "o", color=colour, ms=7)
        axes.set_title(head, size=11)
        axes.set_xlabel("times the average")
        axes.tick_params(axis="y", length=0)
    _round_ticks(panels[0].xaxis)
    panels[0].set_yticks(rows, classes)
    panels[0].invert_yaxis()
    return figure


# Surgery


@styled
def head_effects(tables: Mapping[str, ArrayLike], unit: str) -> Figure:
    """How much an operation on each head did: tables (layers,heads) of amounts by name, all on one scale from 0.

    Amounts of a tenth of the largest or more are written out.
    """
    figure = Figure(figsize=(WIDTH, 4.2))
    panels: Any = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    most = largest([np.asarray(table) for table in tables.values()])
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        table = np.asarray(table)
        image = axes.imshow(table, cmap=AMOUNTS, vmin=0, vmax=most, aspect="auto")
        for (layer, head), effect in np.ndenumerate(table):
            if effect >= 0.1 * most:
                paint = INK if effect > 0.5 * most else "white"
                axes.text(head, layer, f"{effect:.1f}", ha="center", va="center", size=10, color=paint)
        axes.set_title(name, size=11)
        axes.set(xlabel="head", xticks=range(table.shape[1]), yticks=range(table.shape[0]))
        axes.tick_params(length=0)
    panels[0].set_ylabel("layer")
    figure.colorbar(image, ax=panels, label=unit, shrink=0.9)
    return figure


# Probes


@styled
def probe_scores(scores: Mapping[str, Mapping[str, ArrayLike]], chance: str) -> Figure:
    """How well probes read something off each layer: a panel for each question, a line for each kind of probe.

    Args:
        scores: for each question and each kind of probe, (layers,splits) in 0..1. The line is the mean over the splits,
            the band runs from the lowest to the highest.
        chance: the kind that is drawn pale, being a control.
    """
    figure = Figure(figsize=(WIDTH, 3.4))
    panels: Any = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for axes, (question, kinds) in zip(panels, scores.items(), strict=True):
        for i, (kind, values) in enumerate(kinds.items()):
            values = np.asarray(values)
            colour = FAINT if kind == chance else COLOURS[i]
            layers = np.arange(len(values))
            axes.fill_between(layers, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.2, lw=0)
            axes.plot(layers, values.mean(axis=1), color=colour, ls=LINES[i], marker=MARKS[i], ms=5, lw=2, label=kind)
        axes.set_title(question, size=11)
        axes.set(xlabel="layer", ylim=(0, 1), xticks=layers)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    panels[0].set_ylabel("right, of held-out bytes")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


# Reach


@styled
def reaches(curves: Mapping[str, ArrayLike], mark: int, mark_name: str) -> Figure:
    """Which share of all influence comes from further back than a distance, on a logarithmic axis of distances.

    Args:
        curves: by name the mean influence of a token at each distance, (l,) from distance 0 on.
        mark: a distance to mark. mark_name: what it is called.
    """
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot(xscale="log")
    for (name, curve), colour, line in zip(curves.items(), COLOURS, LINES, strict=False):
        heard = np.asarray(curve, dtype=np.float64)
        further = 1 - heard.cumsum() / heard.sum()
        axes.plot(np.arange(1, len(heard)), further[1:], color=colour, ls=line, lw=2.2, label=name)
    axes.axvline(mark, color=PALE_INK, lw=1.2)
    axes.text(1.03 * mark, 0.99, mark_name, va="top", size=9.5, color=PALE_INK)
    _round_ticks(axes.xaxis)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    axes.set(xlabel="distance, tokens", ylabel="from further back", ylim=(0, 1))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _spell(axes: Axes, pieces: Sequence[str]) -> None:
    """The tokens themselves along the x axis."""
    axes.set_xticks(range(len(pieces)), map(visible, pieces), family=MONO, size=9, parse_math=False)
    axes.tick_params(axis="x", length=0)
