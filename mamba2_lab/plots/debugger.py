"""Figures of the state debugger, without axes as `page` makes them.

Charts over the tokens of a text have the same margins and line up below one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from mamba2_lab.checks import require
from mamba2_lab.plots.page import MONO, TICK, Page, blank
from mamba2_lab.plots.style import AMOUNTS, COLOURS, FAINT, SIGNED, WIDTH, around_zero, largest, styled
from mamba2_lab.words import quoted, visible

POSITIVE, NEGATIVE = "#e66101", "#5e3c99"  # orange and purple, as the two sides of SIGNED
LEFT, RIGHT = 1.2, 0.15  # inches beside a chart over the tokens
TOP, BOTTOM = 0.3, 0.5  # inches above the charts, for a title, and below them
NAMED = 80  # tokens that have room for their names below the axis
CHART, TRACK = 0.6, 1.5  # inches, of a chart and of a track
LEGEND = 0.3  # inches of a track that are above its picture
FRAMES = 6  # in a film strip of full width
GAP = 0.06  # between two frames, in widths of a frame


@styled
def film_strip(states: Mapping[str, ArrayLike]) -> Figure:
    """States of one head side by side, on one scale with zero in its middle.

    Args:
        states: by title, (p,n) each.

    Raises:
        ValueError: as `checks` says it, if a number is not finite.
    """
    arrays = [finite("states", state) for state in states.values()]
    p, n = arrays[0].shape
    stride = n + max(1, round(GAP * n))  # columns from one frame to the next
    cell = (WIDTH - 1.2) / (stride * max(FRAMES, len(arrays)))  # inches
    height = min(max(p * cell, 0.8), 1.6)
    row = height / p
    page = Page(blank(height + 0.75), (0.55 + cell / 2, 0.42 + height - row / 2), (cell, -row))
    strip = np.full((p, stride * len(arrays)), np.nan)  # one picture of all: each picture has its price
    lefts = [i * stride - 0.5 for i in range(len(arrays))]
    for i, state in enumerate(arrays):
        strip[:, i * stride : i * stride + n] = state
    most = largest(arrays)
    _picture(page, strip, (-0.5, strip.shape[1] - 0.5), p, most)
    titles = [(left, -0.5 - 0.05 / row, title) for left, title in zip(lefts, states, strict=True)]
    page.write(titles, 9.5, family=MONO)
    scale = len(arrays) * stride - 0.5, 0.1 / cell
    _scale(page, *scale, p, most)
    _outline(page, [*((left, n) for left in lefts), scale], p)
    left, below = -0.5 - 0.08 / cell, p - 0.5 + 0.13 / row
    page.write([(left, 0, "0"), (left, p - 1, str(p - 1))], 8.5, side="right", aligned="center")
    page.write([(0, below, "0"), (n - 1, below, str(n - 1))], 8.5, side="center", aligned="center")
    page.write([((n - 1) / 2, below, "key (n)")], 9.5, side="center", aligned="center")
    page.write([(left - 0.22 / cell, (p - 1) / 2, "value (p)")], 9.5, side="center", aligned="center", rotation=90)
    return page.figure


def _outline(page: Page, frames: Iterable[tuple[float, float]], height: float) -> None:
    """The borders of frames, left edge and width each: without one, a state of zeros would be white on white."""
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
    borders = [(left, -0.5) + corners * (width, height) for left, width in frames]
    page.lines(borders)


def _picture(page: Page, values: np.ndarray, ends: tuple[float, float], rows: int, most: float) -> None:
    """An array in the colours of -most to most: between two ends across, as high as so many rows, its first on top."""
    page.picture(values, (ends[0], -0.5, ends[1], rows - 0.5), SIGNED, around_zero(most))


def _scale(page: Page, left: float, width: float, height: int, most: float) -> None:
    """What the colours mean, beside the frames."""
    _picture(page, np.linspace(most, -most, 101)[:, None], (left, left + width), height, most)
    marks = ((most, 0.03), (0.0, 0.5), (-most, 0.97))
    x = left + 1.4 * width
    page.write([(x, part * height - 0.5, _short(value)) for value, part in marks], 8.5, aligned="center")


@styled
def attention_rows(pieces: Sequence[str], rows: Mapping[int, ArrayLike], of: str = "x") -> Figure:
    """How the x of each token enters a head's output at some tokens: signed bars, zero in the middle, on one scale.

    Args:
        pieces: the text's l tokens.
        rows: for each target token, its row (l,) of hidden attention.
        of: what the weights are weights of.

    Raises:
        ValueError: as `checks` says it, if a number is not finite.
    """
    arrays = {target: finite("rows", row) for target, row in rows.items()}
    most = largest(arrays.values())
    end = 1.3 * most  # room for the names of bars
    figure, bands = _over_tokens(pieces, [(1.3, -end, end)] * len(arrays), gap=0.34)
    for band, (target, row) in zip(bands, arrays.items(), strict=True):
        unread = (target + 0.5, band.foot), len(row) - 1 - target, band.height
        band.page.add(Rectangle(*unread, color=FAINT, alpha=0.18, lw=0))
        _bars(band, np.maximum(row, 0), POSITIVE)
        _bars(band, np.minimum(row, 0), NEGATIVE)
        title = f"token {target}, {quoted(pieces[target])}, reads"
        band.page.write([(-0.5, band.foot + band.height + 0.07, title)], 11)
        _frame(band, f"weight\nof {of}", {-most: _short(-most), 0.0: "0", most: _short(most)})
        if len(pieces) > NAMED:
            _name_strongest(band, pieces, row)
    return figure


@styled
def strengths(pieces: Sequence[str], dt: ArrayLike, decay: ArrayLike, written: ArrayLike, read: ArrayLike) -> Figure:
    """What one head did at each token of a text: a chart for each quantity, the tokens along the x axis.

    Args:
        dt, decay: (l,). written: (l,) norms of dt x B^T. read: (l,) norms of h C.

    Raises:
        ValueError: as `checks` says it, if a number is not finite.
    """
    charts = {
        "step size\ndt": finite("dt", dt),
        "decay\nexp(dt A)": finite("decay", decay),
        "written\n|dt x Bᵀ|": finite("written", written),
        "read\n|h C|": finite("read", read),
    }
    return _charts(pieces, charts, {"decay\nexp(dt A)": 1.0})


@styled
def turning_strengths(
    pieces: Sequence[str],
    dt: ArrayLike,
    decay: ArrayLike,
    lam: ArrayLike,
    written: ArrayLike,
    read: ArrayLike,
    own_turns: ArrayLike,
) -> Figure:
    """The same of a head of Mamba-3, whose memory turns: below the charts, how far each pair turns at each token.

    Args:
        dt, decay, lam: (l,). written: (l,) norms of (gamma + delta) x k^T. read: (l,) norms of h q.
        own_turns: (l,s) of s pairs.

    Raises:
        ValueError: as `checks` says it, if a number is not finite.
    """
    charts = {
        "step size\ndt": finite("dt", dt),
        "decay\nexp(dt A)": finite("decay", decay),
        "at its end\nλ": finite("lam", lam),
        "written\n|(γ+δ)xkᵀ|": finite("written", written),
        "read\n|h q|": finite("read", read),
    }
    turns = finite("own_turns", own_turns)
    most = largest([turns])
    track = Track("turn of\neach pair", "pair", turns, (-most, most), SIGNED, "turns (above 0 counter-clockwise)")
    return _charts(pieces, charts, {"decay\nexp(dt A)": 1.0, "at its end\nλ": 1.0}, track)


@styled
def channel_strengths(
    pieces: Sequence[str], dt: ArrayLike, written: ArrayLike, read: ArrayLike, decays: ArrayLike
) -> Figure:
    """The same of a channel of Mamba-1: below the charts, what each number of its state keeps at each token.

    Args:
        dt: (l,). written: (l,) norms of dt x B^T. read: (l,) norms of h C. decays: (l,n).

    Raises:
        ValueError: as `checks` says it, if a number is not finite.
    """
    charts = {
        "step size\ndt": finite("dt", dt),
        "written\n|dt x Bᵀ|": finite("written", written),
        "read\n|h C|": finite("read", read),
    }
    track = Track("decay\nexp(dt A)", "number", finite("decays", decays), (0.0, 1.0), AMOUNTS, "= all is kept")
    return _charts(pieces, charts, {}, track)


class Track(NamedTuple):
    """Something of which a head has several at each token: a picture below the charts, a row for each of them."""

    label: str
    row: str  # what a row is
    values: np.ndarray  # (l,rows)
    ends: tuple[float, float]  # of the colours
    colours: str
    unit: str


def _charts(
    pieces: Sequence[str], charts: Mapping[str, np.ndarray], tops: Mapping[str, float], track: Track | None = None
) -> Figure:
    """Bars for each quantity, up to its largest value or the top that it has, and the track."""
    ends = [tops.get(name) or largest([values]) for name, values in charts.items()]
    heights = [(CHART, 0.0, 1.1 * end) for end in ends]
    heights += [] if track is None else [(TRACK, 0.0, 1.0)]
    figure, bands = _over_tokens(pieces, heights, gap=0.16)
    for band, top, (name, values) in zip(bands, ends, charts.items(), strict=False):
        _bars(band, values, COLOURS[0])
        _frame(band, name, {0.0: "0", top: _short(top)})
    if track is not None:
        _track(bands[-1], track)
    return figure


def _track(band: Band, track: Track) -> None:
    """The picture, the names of its first and last row, and above it what its colours mean."""
    page, rows = band.page, track.values.shape[1]
    top, scale = band.foot + band.height - LEGEND, Normalize(*track.ends)
    right = band.tokens - 0.5
    page.picture(track.values.T, (-0.5, band.foot, right, top), track.colours, scale)
    page.lines([[(-0.5, top), (-0.5, band.foot), (right, band.foot), (right, top), (-0.5, top)]])
    half = (top - band.foot) / rows / 2
    names = [(band.beside(2 * TICK), top - half, f"{track.row} 0")]
    names += [(band.beside(2 * TICK), band.foot + half, f"{track.row} {rows - 1}")] if rows > 1 else []
    page.write(names, 8.5, side="right", aligned="center")
    page.write([(band.beside(0.5), (top + band.foot) / 2, track.label)], 9.5, side="right", aligned="center")
    inch = -0.5 - band.beside(1.0)  # tokens to the inch
    left, foot = right - 3.5 * inch, top + 0.07
    page.picture(np.linspace(*track.ends, 101)[None], (left, foot, left + inch, foot + 0.12), track.colours, scale)
    page.lines([[(left, foot), (left + inch, foot), (left + inch, foot + 0.12), (left, foot + 0.12), (left, foot)]])
    low, high = map(_short, track.ends)
    page.write([(left - 0.06 * inch, foot + 0.06, low)], 8.5, side="right", aligned="center")
    page.write([(left + 1.06 * inch, foot + 0.06, f"{high} {track.unit}")], 8.5, aligned="center")


def across(token: int, l: int) -> float:
    """Where a token of l stands in a chart over the tokens: as a part of the figure's width, from its left edge."""
    return (LEFT + (token + 0.5) / l * (WIDTH - LEFT - RIGHT)) / WIDTH


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
    page = Page(blank(total + TOP + BOTTOM), (LEFT + token / 2, BOTTOM), (token, 1))
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
    band.page.lines(lines)
    numbers = [(band.beside(2 * TICK), band.y(value), text) for value, text in ticks.items()]
    band.page.write(numbers, 8.5, side="right", aligned="center")
    middle = band.foot + band.height / 2
    band.page.write([(band.beside(0.5), middle, label)], 9.5, side="right", aligned="center")


def _name_tokens(page: Page, pieces: Sequence[str]) -> None:
    page.write([((len(pieces) - 1) / 2, -0.28, "token")], 11, side="center", aligned="top")
    if len(pieces) <= NAMED:
        names = [(i, -TICK, visible(piece)) for i, piece in enumerate(pieces)]
        page.write(names, 9, side="center", aligned="top", family=MONO)
    else:
        values = [int(tick) for tick in MaxNLocator(6, integer=True).tick_values(0, len(pieces) - 1)]
        ticks = [tick for tick in values if 0 <= tick < len(pieces)]
        page.lines([[(tick, 0), (tick, -TICK)] for tick in ticks])
        page.write([(tick, -2 * TICK, str(tick)) for tick in ticks], 10, side="center", aligned="top")


def _name_strongest(band: Band, pieces: Sequence[str], row: np.ndarray) -> None:
    """The names of the largest bars, as far as they can be seen and do not stand in each other's way."""
    named: list[int] = []
    for place in np.argsort(-np.abs(row))[:12].tolist():
        if abs(row[place]) > 0.02 * band.high and all(abs(place - other) > len(pieces) / 40 for other in named):
            named.append(place)
    for side, away, aligned in ((1, 0.03, "bottom"), (-1, -0.03, "top")):
        places = [place for place in named if side * row[place] > 0]
        names = [(place, band.y(row[place]) + away, visible(pieces[place])) for place in places]
        band.page.write(names, 9, side="center", aligned=aligned, family=MONO)


def finite(name: str, values: ArrayLike) -> np.ndarray:
    """As an array. What is not a number would leave no trace on a figure."""
    array = np.asarray(values)
    wrong = array[~np.isfinite(array)][:1].tolist()
    require(not wrong, name, "finite", wrong)
    return array


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "\N{MINUS SIGN}")
