"""Figures of notebook 07."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from mamba2_lab.plots.style import AMOUNTS, COLOURS, FAINT, INK, LINES, PALE_INK, PAPER, WIDTH, styled
from mamba2_lab.words import visible

MONO = "DejaVu Sans Mono"


# From tokens to logits


@styled
def model_map(n_layer: int, d_model: int, rows: int) -> Figure:
    """The whole model: a stream from the table to the table, with a norm and a mixer beside it in every block."""
    figure = Figure(figsize=(WIDTH, 3.0))
    axes = figure.add_subplot(xlim=(-0.1, 10.3), ylim=(-1.75, 1.2))
    axes.set_axis_off()
    blue, green, orange = COLOURS[0], COLOURS[2], COLOURS[1]
    _arrow(axes, (1.55, 0), (7.45, 0), blue, width=5)
    axes.text(1.7, 0.3, f"the residual stream: {d_model} numbers for each token", color=INK, size=10.5)
    _box(axes, 0.75, 0, 1.5, f"the table\n{rows} × {d_model}", orange)
    for centre, name in ((2.75, "1"), (4.4, "2"), (6.35, f"{n_layer}")):
        _block(axes, centre, name, green)
    axes.text(5.4, -1.0, "…", ha="center", va="center", size=16, color=PALE_INK)
    _box(axes, 7.95, 0, 0.9, "norm", green)
    _arrow(axes, (8.45, 0), (8.75, 0), blue)
    _box(axes, 9.5, 0, 1.4, f"the table\n{d_model} × {rows}", orange)
    _arrow(axes, (0.75, 0.42), (9.5, 0.42), orange, curve=-0.13, style="<|-|>", line="--")
    axes.text(5.1, 0.87, "the same weights", ha="center", va="center", size=10, color=INK, backgroundcolor=PAPER)
    axes.text(0.75, -0.75, "token ids\ngo in", ha="center", va="center", size=10, color=INK)
    axes.text(9.5, -0.75, "logits\ncome out", ha="center", va="center", size=10, color=INK)
    return figure


def _block(axes: Axes, centre: float, name: str, colour: str) -> None:
    _arrow(axes, (centre - 0.6, -0.05), (centre - 0.6, -0.72), FAINT)
    _arrow(axes, (centre + 0.6, -0.72), (centre + 0.6, -0.12), FAINT)
    _box(axes, centre, -1.0, 1.5, "norm → mixer", colour)
    axes.text(centre, -1.55, f"block {name}", ha="center", va="center", size=9.5, color=PALE_INK)
    axes.plot(centre + 0.6, 0, "o", ms=15, mfc=PAPER, mec=INK, mew=1)
    axes.text(centre + 0.6, -0.015, "+", ha="center", va="center", size=13, color=INK)


def _box(axes: Axes, x: float, y: float, width: float, text: str, colour: str) -> None:
    tint = tuple(1 - 0.2 * (1 - channel) for channel in to_rgb(colour))
    corner = (x - width / 2, y - 0.3)
    axes.add_patch(FancyBboxPatch(corner, width, 0.6, boxstyle="round,pad=0,rounding_size=0.06", fc=tint, ec=colour))
    axes.text(x, y, text, ha="center", va="center", size=9.5, color=INK, linespacing=1.15)


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    *,
    width: float = 1.5,
    curve: float = 0.0,
    style: str = "-|>",
    line: str = "-",
) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle=style,
            connectionstyle=f"arc3,rad={curve}",
            mutation_scale=10 + 2 * width,
            lw=width,
            ls=line,
            color=colour,
            shrinkA=0,
            shrinkB=0,
        )
    )


@styled
def expectations(prompts: Sequence[str], guesses: Sequence[Sequence[str]], probabilities: Any) -> Figure:
    """What a model expects after each prompt, a panel each, the likeliest on top.

    Args:
        guesses: for each prompt, the tokens it thinks likeliest. probabilities: (prompts, guesses) in 0..1.
    """
    figure = Figure(figsize=(WIDTH, 2.7))
    panels = figure.subplots(1, len(prompts), sharex=True, squeeze=False)[0]
    for axes, prompt, tokens, bars in zip(panels, prompts, guesses, np.asarray(probabilities), strict=True):
        axes.barh(range(len(tokens)), bars, color=COLOURS[0], height=0.7)
        axes.set_yticks(range(len(tokens)), [visible(token) for token in tokens], family=MONO, size=11)
        axes.set_title(f"{visible(prompt)}▁", family=MONO, size=11)
        axes.invert_yaxis()
        axes.tick_params(left=False)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    figure.supxlabel("probability of the next byte", size=11)
    return figure


@styled
def logit_lens(text: Sequence[str], surprise: Sequence[float], guesses: Sequence[Sequence[str]], given: Any) -> Figure:
    """How surprising each token of a text was, and what the head reads in the stream after each layer.

    Args:
        text: the l tokens. surprise: (l-1,) bits, for the second token to the last.
        guesses: (layers+1, l-1) the likeliest next token, read before the first block and after each.
        given: (layers+1, l-1) in 0..1, the probability given to the token that does follow.
    """
    given = np.asarray(given)
    rows, columns = given.shape
    figure = Figure(figsize=(WIDTH, 5.6))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 3.2])
    above.bar(range(columns), surprise, color=COLOURS[0], width=0.75)
    above.set_ylabel("surprise\n(bits)")
    above.tick_params(bottom=False)
    above.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    image = below.imshow(given, aspect="auto", cmap=AMOUNTS, vmin=0, vmax=1, interpolation="nearest")
    for row, guessed in enumerate(guesses):
        for column, token in enumerate(guessed):
            ink = PAPER if given[row, column] < 0.55 else INK
            below.text(column, row, visible(token), ha="center", va="center", family=MONO, size=10.5, color=ink)
    below.set_xticks(range(columns), map(visible, text[:-1]), family=MONO, size=11)
    below.set_yticks(range(rows), ["table", *map(str, range(1, rows))])
    below.tick_params(length=0)
    below.set_ylabel("read after layer")
    below.set_xlabel(f"the text, byte by byte; {visible(text[-1])} comes at its end")
    below.spines[:].set_visible(False)
    figure.colorbar(image, ax=below, label="probability given to what follows", pad=0.01, ticks=[0, 0.5, 1])
    return figure


# Weights


@styled
def weight_shares(presets: Sequence[str], parts: Mapping[str, Sequence[int]]) -> Figure:
    """Where the weights of each model are: a bar of shares for each, its parts side by side.

    Args:
        presets: names of the models. parts: for each part, its weights in each of them.
    """
    totals = np.sum(list(parts.values()), axis=0)
    figure = Figure(figsize=(WIDTH, 0.9 + 0.4 * len(presets)))
    axes = figure.add_subplot(xlim=(0, 100), ylim=(len(presets) - 0.45, -0.55))
    left = np.zeros(len(presets))
    for (name, weights), colour in zip(parts.items(), COLOURS, strict=False):
        share = 100 * np.asarray(weights) / totals
        axes.barh(range(len(presets)), share, left=left, color=colour, height=0.72, label=name, ec=PAPER)
        for y, (start, width) in enumerate(zip(left, share, strict=True)):
            if width > 3.2:  # room for two digits
                ink = PAPER if _dark(colour) else INK
                axes.text(start + width / 2, y, f"{width:.0f}", ha="center", va="center", size=9.5, color=ink)
        left += share
    axes.set_yticks(
        range(len(presets)), [f"{name}  {total / 1e6:,.0f}M" for name, total in zip(presets, totals, strict=True)]
    )
    axes.tick_params(left=False)
    axes.set_xlabel("share of the weights (%)")
    figure.legend(loc="outside upper center", ncols=len(parts))
    return figure


def _dark(colour: str) -> bool:
    red, green, blue = to_rgb(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.4


@styled
def signal_through_depth(runs: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """The size of the stream after each layer, and of the loss's gradient there, a line for each model.

    Both charts end at 10^-8 and 10^8: a line that leaves them has vanished or exploded. A value of 0, or one that is
    not finite, has no place on a logarithmic axis: the line ends before it.

    Args:
        runs: for each model, the sizes of the stream and those of the gradient, both from the first layer to the last.
    """
    figure = Figure(figsize=(WIDTH, 3.5))
    left, right = figure.subplots(1, 2)
    for i, (name, both) in enumerate(runs.items()):
        for axes, sizes in zip((left, right), both, strict=True):
            axes.plot(_drawable(sizes), color=COLOURS[(0, 1, 2, 5, 3)[i % 5]], ls=LINES[i % 5], lw=2, label=name)
    for axes, title in ((left, "forward: size of the stream"), (right, "backward: size of the gradient")):
        axes.set_title(title)
        axes.set_xlabel("layer")
        _powers_of_ten(axes, -8, 8, 4)
    left.set_ylabel("root mean square")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@styled
def memory_reach(distances: Sequence[int], influence: Mapping[str, Sequence[float]]) -> Figure:
    """How much one byte still changes what a model expects, against how long ago it stood, a line per model.

    The chart ends at 10^-6: what lies below is rounding.

    Args:
        distances: in bytes. influence: for each model, one relative change per distance; 0 is left out.
    """
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.add_subplot()
    for i, (name, changes) in enumerate(influence.items()):
        axes.plot(
            distances, _drawable(changes), "o", color=COLOURS[(0, 5, 2)[i % 3]], ls=LINES[i % 3], lw=2, label=name
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(distances, [str(distance) for distance in distances])
    axes.set_xlabel("how many bytes ago it stood")
    axes.set_ylabel("relative change of the logits")
    _powers_of_ten(axes, -6, 0.5, 2)
    figure.legend(loc="outside right upper")
    return figure


def _drawable(values: Any) -> np.ndarray:
    """The values with NaN in place of those that a logarithmic axis has no place for."""
    values = np.asarray(values, dtype=float)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _powers_of_ten(axes: Axes, low: int, high: float, step: int) -> None:
    axes.set_yscale("log")
    axes.set_ylim(10.0**low, 10.0**high)
    axes.set_yticks([10.0**power for power in range(low, int(high) + 1, step)])
    axes.minorticks_off()
