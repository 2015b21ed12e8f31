"""Figures of notebook 10 and of its state debugger.

The debugger draws some of them at every move of a reader's hand, and most of the time goes into axes and their ticks.
So there are few of both, and margins are set by hand: matplotlib's search for good ones takes longer than all the rest.
Charts over the tokens of a text have the same margins and line up below one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from mamba2_lab.plots.one_system_three_computations import SIGNED
from mamba2_lab.plots.style import COLOURS, FAINT, INK, WIDTH, styled, visible

MONO = "DejaVu Sans Mono"
POSITIVE, NEGATIVE = "#e66101", "#5e3c99"  # orange and purple, as the two sides of SIGNED
LEFT, RIGHT = 1.2, 0.15  # inches beside a chart over the tokens
TOP, BOTTOM = 0.3, 0.5  # inches above the charts, for a title, and below them
NAMED = 80  # tokens that have room for their names below the axis
FRAMES = 6  # in a film strip of full width
GAP = 0.06  # between two frames, in widths of a frame


@styled
def film_strip(states: Mapping[str, ArrayLike]) -> Figure:
    """States of one head side by side, on one scale with zero in its middle.

    Args:
        states: by title, (p,n) each.
    """
    arrays = [np.asarray(state) for state in states.values()]
    p, n = arrays[0].shape
    stride = n + max(1, round(GAP * n))  # columns from one frame to the next
    columns = stride * max(FRAMES, len(arrays))
    cell = (WIDTH - 1.2) / columns  # inches
    height = min(max(p * cell, 0.8), 1.6)
    figure = _figure(height + 0.75)
    axes = _place(figure, 0.55, 0.42, WIDTH - 0.6, height)
    strip = np.full((p, stride * len(arrays)), np.nan)  # one picture of all: each picture has its price
    for i, (title, state) in enumerate(zip(states, arrays, strict=True)):
        strip[:, i * stride : i * stride + n] = state
        axes.text(i * stride - 0.5, -0.5 - 0.05 * p / height, title, size=9.5, family=MONO, parse_math=False)
        _outline(axes, i * stride - 0.5, n, p)
    look: dict[str, Any] = {
        "cmap": colormaps[SIGNED],
        "norm": _around_zero(arrays),
        "aspect": "auto",
        "interpolation": "nearest",
    }
    axes.imshow(strip, **look)
    _scale(axes, len(arrays) * stride - 0.5, 0.1 / cell, p, look)
    axes.set(xlim=(-0.5, (WIDTH - 0.6) / cell - 0.5), ylim=(p - 0.5, -0.5))
    axes.set_axis_off()
    left, below = -0.5 - 0.08 / cell, p - 0.5 + 0.13 * p / height
    for y in (0, p - 1):
        axes.text(left, y, str(y), size=8.5, ha="right", va="center")
    for x in (0, n - 1):
        axes.text(x, below, str(x), size=8.5, ha="center", va="center")
    axes.text((n - 1) / 2, below, "key (n)", size=9.5, ha="center", va="center")
    axes.text(left - 0.22 / cell, (p - 1) / 2, "value (p)", size=9.5, ha="center", va="center", rotation=90)
    return figure


def _outline(axes: Axes, left: float, width: float, height: float) -> None:
    """A frame's border: without one, a state of zeros would be white on white."""
    axes.add_artist(Rectangle((left, -0.5), width, height, fill=False, ec=FAINT, lw=0.8, clip_on=False))


def _scale(axes: Axes, left: float, width: float, height: float, look: dict[str, Any]) -> None:
    """What the colours mean, beside the frames; much quicker to draw than a colorbar with axes of its own."""
    most = look["norm"].vmax
    axes.imshow(np.linspace(most, -most, 101)[:, None], extent=(left, left + width, height - 0.5, -0.5), **look)
    _outline(axes, left, width, height)
    for value, part in ((most, 0.03), (0.0, 0.5), (-most, 0.97)):
        axes.text(left + 1.4 * width, part * height - 0.5, _short(value), size=8.5, va="center")


@styled
def attention_rows(pieces: Sequence[str], rows: Mapping[int, ArrayLike]) -> Figure:
    """How the x of each token enters a head's output at some tokens: signed bars, zero in the middle, on one scale.

    Args:
        pieces: the text's l tokens.
        rows: for each target token, its row (l,) of hidden attention.
    """
    arrays = {target: np.asarray(row) for target, row in rows.items()}
    most = _most(arrays.values())
    figure, panels = _over_tokens(pieces, [1.3] * len(arrays), gap=0.34)
    for axes, (target, row) in zip(panels, arrays.items(), strict=True):
        _bars(axes, np.maximum(row, 0), POSITIVE)
        _bars(axes, np.minimum(row, 0), NEGATIVE)
        axes.axhline(0, color=FAINT, lw=0.8)
        axes.axvspan(target + 0.5, len(row) - 0.5, color=FAINT, alpha=0.18, lw=0)
        axes.set_title(f"token {target}, {quoted(pieces[target])}, reads", size=11, y=1.02, parse_math=False)
        axes.set_ylim(-1.3 * most, 1.3 * most)
        _label(axes, "weight\nof x")
        axes.set_yticks([-most, 0, most], [_short(-most), "0", _short(most)])
        if len(pieces) > NAMED:
            _name_strongest(axes, pieces, row, most)
    return figure


@styled
def strengths(pieces: Sequence[str], dt: ArrayLike, decay: ArrayLike, written: ArrayLike, read: ArrayLike) -> Figure:
    """What one head did at each token of a text: a chart for each quantity, the tokens along the x axis.

    Args:
        dt, decay: (l,). written: (l,) norms of dt x B^T. read: (l,) norms of h C.
    """
    charts = {
        "step size\ndt": (dt, None),
        "decay\nexp(dt A)": (decay, 1.0),
        "written\n|dt x Bᵀ|": (written, None),
        "read\n|h C|": (read, None),
    }
    figure, panels = _over_tokens(pieces, [0.6] * len(charts), gap=0.16)
    for axes, (name, (values, end)) in zip(panels, charts.items(), strict=True):
        values = np.asarray(values)
        top = end or _most([values])
        _bars(axes, values, COLOURS[0])
        axes.set_ylim(0, 1.1 * top)
        axes.set_yticks([0, top], ["0", _short(top)], size=8.5)
        _label(axes, name)
    return figure


def _bars(axes: Axes, values: np.ndarray, colour: str) -> None:
    """A bar for each token, all of them one polygon: hundreds of patches would take most of the time."""
    half = 0.4 if len(values) <= NAMED else 0.5
    x = np.arange(len(values))[:, None] + [-half, -half, half, half]
    y = values[:, None] * [0, 1, 1, 0]
    axes.add_artist(Polygon(np.stack([x, y], axis=-1).reshape(-1, 2), color=colour, lw=0))


def _label(axes: Axes, text: str) -> None:
    """Where it stands is said, since looking for a place beside the ticks takes time."""
    axes.set_ylabel(text, rotation=0, ha="right", va="center", size=9.5)
    axes.yaxis.set_label_coords(-0.5 / (WIDTH - LEFT - RIGHT), 0.5)


def across(token: int, l: int) -> float:
    """Where a token of l stands in a chart over the tokens: as a part of the figure's width, from its left edge."""
    return (LEFT + (token + 0.5) / l * (WIDTH - LEFT - RIGHT)) / WIDTH


def quoted(piece: str) -> str:
    """A token as it stands in a sentence: '·' for a blank."""
    return f"'{visible(piece)}'"


def _most(arrays: Iterable[np.ndarray]) -> float:
    """The largest absolute value; 1 if all are 0, for an axis must have a length."""
    return max(float(np.abs(array).max()) for array in arrays) or 1.0


def _around_zero(arrays: Iterable[np.ndarray]) -> Normalize:
    most = _most(arrays)
    return Normalize(-most, most)


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "\N{MINUS SIGN}")


def _figure(height: float) -> Figure:
    """An empty figure whose axes stay where they are put."""
    with matplotlib.rc_context({"figure.constrained_layout.use": False}):
        return Figure(figsize=(WIDTH, height))


def _place(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _over_tokens(pieces: Sequence[str], heights: Sequence[float], gap: float) -> tuple[Figure, list[Axes]]:
    """Charts below one another whose x axis is the tokens, their heights in inches; the last one names the tokens."""
    total = sum(heights) + gap * (len(heights) - 1)
    figure = _figure(total + TOP + BOTTOM)
    panels = []
    top = BOTTOM + total
    for height in heights:
        axes = _place(figure, LEFT, top - height, WIDTH - LEFT - RIGHT, height)
        axes.set_xlim(-0.5, len(pieces) - 0.5)
        axes.xaxis.set_visible(False)
        panels.append(axes)
        top -= height + gap
    _name_tokens(panels[-1], pieces)
    panels[-1].xaxis.set_label_coords(0.5, -0.25 / heights[-1])
    return figure, panels


def _name_tokens(axes: Axes, pieces: Sequence[str]) -> None:
    axes.xaxis.set_visible(True)
    axes.set_xlabel("token")
    if len(pieces) <= NAMED:
        axes.set_xticks(range(len(pieces)), map(visible, pieces), family=MONO, size=9, parse_math=False)
        axes.tick_params(axis="x", length=0)
    else:
        ticks = [int(tick) for tick in MaxNLocator(6, integer=True).tick_values(0, len(pieces) - 1)]
        axes.set_xticks([tick for tick in ticks if 0 <= tick < len(pieces)])


def _name_strongest(axes: Axes, pieces: Sequence[str], row: np.ndarray, most: float) -> None:
    """The names of the largest bars, as far as they can be seen and do not stand in each other's way."""
    named: list[int] = []
    for place in np.argsort(-np.abs(row))[:12].tolist():
        if abs(row[place]) > 0.03 * most and all(abs(place - other) > len(pieces) / 40 for other in named):
            named.append(place)
            above = row[place] > 0
            axes.text(
                place,
                row[place] + (0.06 if above else -0.06) * most,
                visible(pieces[place]),
                ha="center",
                va="bottom" if above else "top",
                family=MONO,
                size=9,
                color=INK,
                parse_math=False,
            )
