"""Figures of the state debugger, drawn anew at every move of a reader's hand.

Nearly all the time that such a figure takes would go into axes, ticks and texts. So these figures have no axes: what is
on them are a few artists on a `Page`, which has coordinates and nothing else. All texts of a kind are one artist, a
`Lettering`, and the outlines of its letters are kept for the next figure. Charts over the tokens of a text have the
same margins and line up below one another.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import BboxImage
from matplotlib.patches import Polygon, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D, Bbox, TransformedBbox
from numpy.typing import ArrayLike

from mamba2_lab.checks import require
from mamba2_lab.plots.style import (
    COLOURS,
    FAINT,
    INK,
    SIGNED,
    WIDTH,
    around_zero,
    largest,
    styled,
    visible,
)

SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"
POSITIVE, NEGATIVE = "#e66101", "#5e3c99"  # orange and purple, as the two sides of SIGNED
LEFT, RIGHT = 1.2, 0.15  # inches beside a chart over the tokens
TOP, BOTTOM = 0.3, 0.5  # inches above the charts, for a title, and below them
NAMED = 80  # tokens that have room for their names below the axis
FRAMES = 6  # in a film strip of full width
GAP = 0.06  # between two frames, in widths of a frame
TICK = 0.05  # inches
POINTS = 72  # to the inch
# Where the baseline lies, in sizes of the letters above the place that is given, and how much of the width lies left.
ALIGNED = {"top": -0.76, "center": -0.36, "bottom": 0.24, "baseline": 0.0}
SIDES = {"left": 0.0, "center": 0.5, "right": 1.0}


@styled
def film_strip(states: Mapping[str, ArrayLike]) -> Figure:
    """States of one head side by side, on one scale with zero in its middle.

    Args:
        states: by title, (p,n) each.

    Raises:
        ValueError: naming the argument, if a number is not finite.
    """
    arrays = [_finite("states", state) for state in states.values()]
    p, n = arrays[0].shape
    stride = n + max(1, round(GAP * n))  # columns from one frame to the next
    cell = (WIDTH - 1.2) / (stride * max(FRAMES, len(arrays)))  # inches
    height = min(max(p * cell, 0.8), 1.6)
    row = height / p
    page = Page(height + 0.75, (0.55 + cell / 2, 0.42 + height - row / 2), (cell, -row))
    strip = np.full((p, stride * len(arrays)), np.nan)  # one picture of all: each picture has its price
    lefts = [i * stride - 0.5 for i in range(len(arrays))]
    for i, state in enumerate(arrays):
        strip[:, i * stride : i * stride + n] = state
    most = largest(arrays)
    _picture(page, strip, (-0.5, strip.shape[1] - 0.5), p, most)
    titles = [(left, -0.5 - 0.05 / row, title) for left, title in zip(lefts, states, strict=True)]
    _write(page, titles, 9.5, family=MONO)
    scale = len(arrays) * stride - 0.5, 0.1 / cell
    _scale(page, *scale, p, most)
    _outline(page, [*((left, n) for left in lefts), scale], p)
    left, below = -0.5 - 0.08 / cell, p - 0.5 + 0.13 / row
    _write(page, [(left, 0, "0"), (left, p - 1, str(p - 1))], 8.5, side="right", aligned="center")
    _write(page, [(0, below, "0"), (n - 1, below, str(n - 1))], 8.5, side="center", aligned="center")
    _write(page, [((n - 1) / 2, below, "key (n)")], 9.5, side="center", aligned="center")
    _write(page, [(left - 0.22 / cell, (p - 1) / 2, "value (p)")], 9.5, side="center", aligned="center", rotation=90)
    return page.figure


def _outline(page: Page, frames: Iterable[tuple[float, float]], height: float) -> None:
    """The borders of frames, left edge and width each: without one, a state of zeros would be white on white."""
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
    borders = [(left, -0.5) + corners * (width, height) for left, width in frames]
    page.add(LineCollection(borders, colors=FAINT, linewidths=0.8))


def _picture(page: Page, values: np.ndarray, ends: tuple[float, float], rows: int, most: float) -> None:
    """An array in the colours of -most to most: between two ends across, as high as so many rows, its first on top."""
    image = BboxImage(
        TransformedBbox(Bbox.from_extents(ends[0], -0.5, ends[1], rows - 0.5), page.transform),
        cmap=colormaps[SIGNED],
        norm=around_zero(most),
        origin="upper",
        interpolation="nearest",
    )
    image.set_data(values)
    page.figure.add_artist(image)


def _scale(page: Page, left: float, width: float, height: int, most: float) -> None:
    """What the colours mean, beside the frames."""
    _picture(page, np.linspace(most, -most, 101)[:, None], (left, left + width), height, most)
    marks = ((most, 0.03), (0.0, 0.5), (-most, 0.97))
    x = left + 1.4 * width
    _write(page, [(x, part * height - 0.5, _short(value)) for value, part in marks], 8.5, aligned="center")


@styled
def attention_rows(pieces: Sequence[str], rows: Mapping[int, ArrayLike]) -> Figure:
    """How the x of each token enters a head's output at some tokens: signed bars, zero in the middle, on one scale.

    Args:
        pieces: the text's l tokens.
        rows: for each target token, its row (l,) of hidden attention.

    Raises:
        ValueError: naming the argument, if a number is not finite.
    """
    arrays = {target: _finite("rows", row) for target, row in rows.items()}
    most = largest(arrays.values())
    end = 1.3 * most  # room for the names of bars
    figure, bands = _over_tokens(pieces, [(1.3, -end, end)] * len(arrays), gap=0.34)
    for band, (target, row) in zip(bands, arrays.items(), strict=True):
        unread = (target + 0.5, band.foot), len(row) - 1 - target, band.height
        band.page.add(Rectangle(*unread, color=FAINT, alpha=0.18, lw=0))
        _bars(band, np.maximum(row, 0), POSITIVE)
        _bars(band, np.minimum(row, 0), NEGATIVE)
        title = f"token {target}, {quoted(pieces[target])}, reads"
        _write(band.page, [(-0.5, band.foot + band.height + 0.07, title)], 11)
        _frame(band, "weight\nof x", {-most: _short(-most), 0.0: "0", most: _short(most)})
        if len(pieces) > NAMED:
            _name_strongest(band, pieces, row)
    return figure


@styled
def strengths(pieces: Sequence[str], dt: ArrayLike, decay: ArrayLike, written: ArrayLike, read: ArrayLike) -> Figure:
    """What one head did at each token of a text: a chart for each quantity, the tokens along the x axis.

    Args:
        dt, decay: (l,). written: (l,) norms of dt x B^T. read: (l,) norms of h C.

    Raises:
        ValueError: naming the argument, if a number is not finite.
    """
    charts = {
        "step size\ndt": _finite("dt", dt),
        "decay\nexp(dt A)": _finite("decay", decay),
        "written\n|dt x Bᵀ|": _finite("written", written),
        "read\n|h C|": _finite("read", read),
    }
    tops = [1.0 if name.startswith("decay") else largest([values]) for name, values in charts.items()]
    figure, bands = _over_tokens(pieces, [(0.6, 0.0, 1.1 * top) for top in tops], gap=0.16)
    for band, top, (name, values) in zip(bands, tops, charts.items(), strict=True):
        _bars(band, values, COLOURS[0])
        _frame(band, name, {0.0: "0", top: _short(top)})
    return figure


def across(token: int, l: int) -> float:
    """Where a token of l stands in a chart over the tokens: as a part of the figure's width, from its left edge."""
    return (LEFT + (token + 0.5) / l * (WIDTH - LEFT - RIGHT)) / WIDTH


def quoted(piece: str) -> str:
    """A token as it stands in a sentence: '·' for a blank."""
    return f"'{visible(piece)}'"


class Page:
    """A figure of full width and some height, without axes: artists stand at (x, y) in coordinates of its own.

    Args:
        origin: where (0, 0) lies, in inches from the lower left corner. unit: how long 1 is, in inches, across and up.
    """

    def __init__(self, height: float, origin: tuple[float, float], unit: tuple[float, float]) -> None:
        with matplotlib.rc_context({"figure.constrained_layout.use": False}):
            self.figure = Figure(figsize=(WIDTH, height))
        self.transform = Affine2D().scale(*unit).translate(*origin) + self.figure.dpi_scale_trans

    def add(self, artist: Artist) -> None:
        """Put it on the page, its points in these coordinates."""
        artist.set_transform(self.transform)
        self.figure.add_artist(artist)


@dataclass(frozen=True)
class Band:
    """A chart over the tokens, one of several on a page: x in tokens, y in inches from its foot upwards."""

    page: Page
    tokens: int
    foot: float
    height: float
    low: float
    high: float

    def y(self, value: Any) -> Any:
        """Where a value stands, or an array of them."""
        return self.foot + (value - self.low) / (self.high - self.low) * self.height

    def beside(self, inches: float) -> float:
        """The x that lies so far to the left of the chart."""
        return -0.5 - inches * self.tokens / (WIDTH - LEFT - RIGHT)


def _over_tokens(
    pieces: Sequence[str], charts: Sequence[tuple[float, float, float]], gap: float
) -> tuple[Figure, list[Band]]:
    """Charts below one another over the same tokens: each one's height in inches, and the two ends of its y axis."""
    total = sum(height for height, _, _ in charts) + gap * (len(charts) - 1)
    token = (WIDTH - LEFT - RIGHT) / len(pieces)
    page = Page(total + TOP + BOTTOM, (LEFT + token / 2, BOTTOM), (token, 1))
    bands = []
    top = total
    for height, low, high in charts:
        bands.append(Band(page, len(pieces), top - height, height, low, high))
        top -= height + gap
    _name_tokens(page, pieces)
    return page.figure, bands


def _bars(band: Band, values: np.ndarray, colour: str) -> None:
    """A bar for each token, all of them one polygon: hundreds of patches would take most of the time."""
    half = 0.4 if len(values) <= NAMED else 0.5
    x = np.arange(len(values))[:, None] + [-half, -half, half, half]
    y = band.y(values[:, None] * [0, 1, 1, 0])
    band.page.add(Polygon(np.stack([x, y], axis=-1).reshape(-1, 2), color=colour, lw=0))


def _frame(band: Band, label: str, ticks: Mapping[float, str]) -> None:
    """The lines below and beside a chart, one at its zero, and what is written on the left."""
    right, top, zero = band.tokens - 0.5, band.foot + band.height, band.y(0.0)
    lines = [[(-0.5, top), (-0.5, band.foot), (right, band.foot)], [(-0.5, zero), (right, zero)]]
    lines += [[(band.beside(TICK), band.y(value)), (-0.5, band.y(value))] for value in ticks]
    band.page.add(LineCollection(lines, colors=FAINT, linewidths=0.8))
    numbers = [(band.beside(2 * TICK), band.y(value), text) for value, text in ticks.items()]
    _write(band.page, numbers, 8.5, side="right", aligned="center")
    above, below = label.split("\n")
    x, middle = band.beside(0.5), band.foot + band.height / 2
    _write(band.page, [(x, middle + 0.08, above), (x, middle - 0.08, below)], 9.5, side="right", aligned="center")


def _name_tokens(page: Page, pieces: Sequence[str]) -> None:
    _write(page, [((len(pieces) - 1) / 2, -0.28, "token")], 11, side="center", aligned="top")
    if len(pieces) <= NAMED:
        names = [(i, -TICK, visible(piece)) for i, piece in enumerate(pieces)]
        _write(page, names, 9, side="center", aligned="top", family=MONO)
    else:
        values = [int(tick) for tick in MaxNLocator(6, integer=True).tick_values(0, len(pieces) - 1)]
        ticks = [tick for tick in values if 0 <= tick < len(pieces)]
        lines = [[(tick, 0), (tick, -TICK)] for tick in ticks]
        page.add(LineCollection(lines, colors=FAINT, linewidths=0.8))
        _write(page, [(tick, -2 * TICK, str(tick)) for tick in ticks], 10, side="center", aligned="top")


def _name_strongest(band: Band, pieces: Sequence[str], row: np.ndarray) -> None:
    """The names of the largest bars, as far as they can be seen and do not stand in each other's way."""
    named: list[int] = []
    for place in np.argsort(-np.abs(row))[:12].tolist():
        if abs(row[place]) > 0.02 * band.high and all(abs(place - other) > len(pieces) / 40 for other in named):
            named.append(place)
    for side, away, aligned in ((1, 0.03, "bottom"), (-1, -0.03, "top")):
        places = [place for place in named if side * row[place] > 0]
        names = [(place, band.y(row[place]) + away, visible(pieces[place])) for place in places]
        _write(band.page, names, 9, side="center", aligned=aligned, family=MONO)


class Lettering(PathCollection):
    """Texts of one kind, all of them one artist. A dollar sign is a letter in it, as any other."""

    def __init__(self, texts: Sequence[str], outlines: Sequence[Path], **how: Any) -> None:
        super().__init__(outlines, **how)
        self.texts = list(texts)


def _write(
    page: Page,
    entries: Sequence[tuple[float, float, str]],
    size: float,
    *,
    side: str = "left",
    aligned: str = "baseline",
    family: str = SANS,
    rotation: float = 0,
) -> None:
    """Texts (x, y, text): which side and part of them stands at (x, y) of the page, and their size in points."""
    if not entries:
        return
    letters = Lettering(
        [text for _, _, text in entries],
        [_outlines(text, size, family, side, aligned, rotation) for _, _, text in entries],
        offsets=[(x, y) for x, y, _ in entries],
        offset_transform=page.transform,
        facecolors=INK,
        linewidths=0,
    )
    letters.set_transform(Affine2D().scale(1 / POINTS) + page.figure.dpi_scale_trans)
    page.figure.add_artist(letters)


def _outlines(text: str, size: float, family: str, side: str, aligned: str, rotation: float) -> Path:
    """A text's outlines in points, around the place where it is to stand."""
    letters = [_letter(character, family) for character in text]
    *starts, end = itertools.accumulate((advance for _, advance in letters), initial=0.0)
    placed = [
        Path(np.asarray(path.vertices) + (x, 0), path.codes) for (path, _), x in zip(letters, starts, strict=True)
    ]
    to_place = Affine2D().translate(-SIDES[side] * end, ALIGNED[aligned]).scale(size).rotate_deg(rotation)
    return to_place.transform_path(Path.make_compound_path(*placed))


@functools.cache
def _letter(character: str, family: str) -> tuple[Path, float]:
    """The outlines of a letter of size 1, and by how much the next one stands further on.

    Every text is made of them: matplotlib takes milliseconds for the outlines of a text that it has not seen before.
    """
    bar, both = (TextPath((0, 0), text, size=1, prop=FontProperties(family=family)) for text in ("|", f"{character}|"))
    own = slice(0, len(both.vertices) - len(bar.vertices))  # of a blank, none
    return Path(
        np.asarray(both.vertices)[own], np.asarray(both.codes)[own]
    ), both.get_extents().x1 - bar.get_extents().x1


def _finite(name: str, values: ArrayLike) -> np.ndarray:
    """As an array. What is not a number would leave no trace on a figure."""
    array = np.asarray(values)
    wrong = array[~np.isfinite(array)][:1].tolist()
    require(not wrong, name, "finite", wrong)
    return array


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "\N{MINUS SIGN}")
