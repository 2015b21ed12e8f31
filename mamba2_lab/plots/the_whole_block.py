"""Figures of notebook 06."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from mamba2_lab.config import Mamba2Config
from mamba2_lab.plots.style import AMOUNTS, COLOURS, INK, PALE_INK, PAPER, WIDTH, styled

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = COLOURS

# The block


@styled
def block_diagram(config: Mamba2Config, b: int, l: int) -> Figure:
    """The mixer from left to right: its steps as boxes, and the shapes of what flows between them.

    Args:
        config: the sizes. b, l: how many sequences, of how many tokens.
    """
    h, p, g, n = config.nheads, config.headdim, config.ngroups, config.d_state
    figure = Figure(figsize=(WIDTH, 4.8))
    axes = figure.add_subplot(xlim=(0, 14.95), ylim=(-2.75, 2.75))
    axes.set_axis_off()

    def flow(name: str, sizes: Sequence[int], x: tuple[float, float], y: float, label_at: float | None = None) -> None:
        _arrow(axes, ((x[0], y), (x[1], y)))
        _label(axes, sum(x) / 2 if label_at is None else label_at, y, name, sizes)

    def weighs(x: float, y: tuple[float, float], name: str, sizes: Sequence[int]) -> None:
        """Learned numbers that come in from below or above."""
        _arrow(axes, ((x, y[0]), (x, y[1])))
        height = y[0] + (0.18 if y[0] < y[1] else -0.1)
        axes.text(x + 0.15, height, name, va="center", size=9.5, weight="bold")
        shape = "×".join(map(str, sizes))
        axes.text(x + 0.32 + 0.11 * len(name), height, shape, va="center", size=8.5, color=PALE_INK)

    _box(axes, (1.2, 2.1), (-2.1, 2.1), "in_proj", ORANGE)
    _box(axes, (3.35, 4.75), (-0.05, 1.05), "causal_conv", BLUE)
    _box(axes, (3.35, 4.75), (-2.1, -1.1), "step_size", PURPLE)
    _box(axes, (6.05, 7.35), (-2.1, -0.9), "discretise", PURPLE)
    _box(axes, (8.8, 9.7), (-2.1, 0.55), "scan", GREEN)
    _box(axes, (10.9, 11.6), (-0.45, 1.2), "skip", BLUE)
    _box(axes, (11.55, 12.85), (1.4, 2.1), "gated_\nrms_norm", VERMILION)
    _box(axes, (12.7, 13.7), (-0.45, 0.95), "out_proj", ORANGE)

    flow("u", (b, l, config.d_model), (0.1, 1.2), 0.5)
    flow("z", (b, l, config.d_inner), (2.1, 11.55), 1.85)
    flow("xBC", (b, l, config.conv_dim), (2.1, 3.35), 0.5)
    flow("raw_dt", (b, l, h), (2.1, 3.35), -1.6)
    flow("dt", (b, l, h), (4.75, 6.05), -1.6)
    flow("x", (b, l, h, p), (4.75, 10.9), 0.9, label_at=7.9)
    flow("B, C", (b, l, g, n), (4.75, 8.8), 0.2, label_at=7.9)
    _arrow(axes, ((6.7, 0.9), (6.7, -0.9)))
    axes.plot(6.7, 0.9, "o", ms=4, color=INK)  # x branches here; the lines below only cross
    weighs(4.05, (-2.65, -2.1), "dt_bias", (h,))
    weighs(6.7, (-2.65, -2.1), "A", (h,))
    weighs(11.25, (-1.05, -0.45), "D", (h,))
    weighs(4.05, (1.6, 1.05), "weight", (config.conv_dim, config.d_conv))
    weighs(12.2, (2.65, 2.1), "weight", (config.d_inner,))
    if config.conv_bias:
        axes.text(4.2, 1.22, "and a bias for each channel", va="center", size=8.5, color=PALE_INK)
    flow("x dt", (b, l, h, p), (7.35, 8.8), -1.1)
    flow("log decay", (b, l, h), (7.35, 8.8), -1.75)
    flow("y", (b, l, h, p), (9.7, 10.9), -0.1)
    _arrow(axes, ((11.25, 1.2), (11.25, 1.6), (11.55, 1.6)))
    _arrow(axes, ((12.85, 1.75), (13.2, 1.75), (13.2, 0.95)))
    flow("out", (b, l, config.d_model), (13.7, 14.85), 0.25)
    return figure


def _box(axes: Axes, x: tuple[float, float], y: tuple[float, float], text: str, colour: str) -> None:
    tint = tuple(1 - 0.2 * (1 - channel) for channel in to_rgb(colour))
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch((x[0], y[0]), x[1] - x[0], y[1] - y[0], boxstyle=style, fc=tint, ec=colour, lw=1.2))
    axes.text(sum(x) / 2, sum(y) / 2, text, ha="center", va="center", size=9.5, color=INK, linespacing=1.2)


def _arrow(axes: Axes, way: Sequence[tuple[float, float]], colour: str = INK) -> None:
    """Along a way of straight pieces, its head at the end."""
    if len(way) > 2:
        axes.plot(*zip(*way[:-1], strict=True), color=colour, lw=1.2, solid_capstyle="butt")
    axes.add_patch(
        FancyArrowPatch(
            way[-2], way[-1], arrowstyle="-|>", mutation_scale=11, lw=1.2, color=colour, shrinkA=0, shrinkB=0
        )
    )


def _label(axes: Axes, x: float, y: float, name: str, sizes: Sequence[int]) -> None:
    shape = "×".join(map(str, sizes))
    axes.text(x, y + 0.07, name, ha="center", va="bottom", size=9.5, color=INK, weight="bold")
    axes.text(x, y - 0.08, shape, ha="center", va="top", size=8.5, color=PALE_INK)


@styled
def step_sizes(words: Sequence[str], dt: Any, at_rest: Any, limit: float) -> Figure:
    """How long each word lasts in each head: a dot per word, and a tick for a word that says nothing to the head.

    Args:
        dt: (l,h), the step sizes. at_rest: (h,), the step where raw_dt is 0. limit: the largest step allowed.
    """
    dt = np.asarray(dt)
    heads = range(dt.shape[1])
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.add_subplot()
    for head in heads:
        axes.plot(dt[:, head], [head] * len(words), "o", ms=7, color=BLUE, alpha=0.45, mew=0)
    axes.plot(at_rest, heads, "|", ms=15, mew=2.5, color=VERMILION)
    axes.axvline(limit, color=INK, lw=1.2, ls="--")
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_yticks(heads)
    axes.set_ylabel("head")
    axes.set_xlabel("step size dt")
    handles = [axes.lines[0], axes.lines[-2], axes.lines[-1]]
    names = [f"one of the {len(words)} words", "raw_dt = 0: the head at rest", f"dt_limit, {limit:g}"]
    figure.legend(handles, names, loc="outside upper center", ncols=3)
    return figure


@styled
def standing_still(drifts: Mapping[str, Any]) -> Figure:
    """How far the state of each head moves while padding is read, a bundle of lines for each way of reading it.

    Args:
        drifts: for each way, (1+padding, h): the distance from the state at the end of the text, relative to its size,
            there and after each token of padding.
    """
    figure = Figure(figsize=(WIDTH, 3.2))
    axes = figure.add_subplot()
    bundles = []
    for drift, colour, line in zip(drifts.values(), (BLUE, VERMILION), ("-", "--"), strict=False):
        lines = axes.plot(np.asarray(drift), color=colour, ls=line, lw=2, alpha=0.8, clip_on=False)
        bundles.append(lines[0])
    axes.set_xlabel("tokens of padding read after the text")
    axes.set_ylabel("how far each head's state\nhas moved (its size = 1)")
    axes.set_xlim(0, len(drift) - 1)
    axes.set_ylim(bottom=0)
    figure.legend(bundles, list(drifts), loc="outside upper center", ncols=len(drifts))
    return figure


@styled
def cages(errors: Mapping[str, Any], changes: Mapping[str, Any], cut: int, exchanged: int) -> Figure:
    """Broken blocks from outside, three to a row: a map of errors for each, and below it what one token changes.

    Args:
        errors: by the name on the cage, (l,h): how far each head's output is off at each token, relative to its size.
        changes: for the same, (l,): how much of the output changes if one token of the text is exchanged.
        cut: how many tokens are read at once; the others come one by one.
        exchanged: which token is exchanged.
    """
    rows = -(-len(errors) // 3)
    figure = Figure(figsize=(WIDTH, 3.0 * rows + 0.7))
    parts = figure.subplots(2 * rows, 3, sharex=True, height_ratios=[3, 1] * rows, squeeze=False)
    for i, (name, error) in enumerate(errors.items()):
        above, below = parts[2 * (i // 3) : 2 * (i // 3) + 2, i % 3]
        image = above.imshow(np.asarray(error).T, aspect="auto", cmap=AMOUNTS, vmin=0, vmax=1, interpolation="nearest")
        above.axvline(cut - 0.5, color=PAPER, lw=1.5, ls=":")
        above.set_title(f"cage {name}", weight="bold")
        above.tick_params(length=0)
        above.spines[:].set_visible(False)
        change = np.asarray(changes[name])
        below.bar(range(len(change)), change, color=[ORANGE if t == exchanged else BLUE for t in range(len(change))])
        below.set_ylim(0, 1)
    for axes in parts[-2:, len(errors) - 3 * (rows - 1) :].flat:
        axes.set_axis_off()
    for row, axes in enumerate(parts[:, 0]):
        axes.set_ylabel("change" if row % 2 else "head")
    for axes in parts[-1]:
        axes.set_xlabel("token")
    figure.colorbar(image, ax=parts, label="error, relative to the right output", extend="max", pad=0.01, shrink=0.5)
    return figure
