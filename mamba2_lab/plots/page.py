"""Figures without axes, for what is drawn anew at every move of a reader's hand.

Nearly all the time that such a figure takes would go into axes, ticks and texts. So these figures have none of them:
what is on them are a few artists on a `Page`, which has coordinates and nothing else, or on a `Panel`, a page between
the ends of two axes. All bars of a kind are one artist. So are all texts of a kind, a `Lettering`, and the outlines of
its letters are kept for the next figure.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import BboxImage
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D, Bbox, TransformedBbox

from mamba2_lab.plots.style import FAINT, INK, WIDTH

SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"
TICK = 0.05  # inches
POINTS = 72  # to the inch
LINE = 1.2  # from one line of a text to the next, in sizes of the letters
# Where a text's baseline lies, in sizes of its letters above the place that is given; by which part of the lines that
# follow the first one is raised; and how much of the width lies left of the place.
ALIGNED = {"top": -0.76, "center": -0.36, "bottom": 0.24, "baseline": 0.0}
RAISED = {"top": 0.0, "center": 0.5, "bottom": 1.0, "baseline": 1.0}
SIDES = {"left": 0.0, "center": 0.5, "right": 1.0}


def blank(height: float) -> Figure:
    """A figure of full width and so many inches high. Nothing lays it out: all on it has its place."""
    with matplotlib.rc_context({"figure.constrained_layout.use": False}):
        return Figure(figsize=(WIDTH, height))


class Page:
    """Coordinates on a figure: artists stand at (x, y) in them.

    Args:
        figure: as `blank` makes it. origin: where (0, 0) lies, in inches from the figure's lower left corner.
        unit: how long 1 is, in inches, across and up; below 0 where an axis points to the left or down.
    """

    def __init__(self, figure: Figure, origin: tuple[float, float], unit: tuple[float, float]) -> None:
        self.figure, self.unit = figure, unit
        self.transform = Affine2D().scale(*unit).translate(*origin) + figure.dpi_scale_trans

    def add(self, artist: Artist) -> None:
        """Put it on the page, its points in these coordinates."""
        artist.set_transform(self.transform)
        self.figure.add_artist(artist)

    def lines(self, lines: Iterable[Any], colour: str = FAINT, width: float = 0.8, style: str = "solid") -> None:
        """Lines through points (points, 2) each, so many typographic points wide."""
        self.add(LineCollection(list(lines), colors=colour, linewidths=width, linestyles=style))

    def picture(
        self, values: Any, extents: tuple[float, float, float, float], colours: str | Colormap, scale: Normalize
    ) -> None:
        """An array (rows, columns) as cells in colours.

        Args:
            extents: the least x and y that it covers, then the largest. Its first row is on top.
            colours: a map, or the name of one. scale: takes a number to a place on that map.
        """
        image = BboxImage(
            TransformedBbox(Bbox.from_extents(*extents), self.transform),
            cmap=colormaps.get_cmap(colours),
            norm=scale,
            origin="upper",
            interpolation="nearest",
        )
        image.set_data(values)
        self.figure.add_artist(image)

    def write(
        self,
        entries: Iterable[tuple[float, float, str]],
        size: float,
        *,
        side: str = "left",
        aligned: str = "baseline",
        away: tuple[float, float] = (0.0, 0.0),
        colour: str = INK,
        family: str = SANS,
        weight: str = "normal",
        rotation: float = 0,
    ) -> None:
        """Texts (x, y, text), all of one kind.

        Args:
            size: of the letters, in points. side, aligned: which side and part of a text stands at its place.
            away: how far from that place, in inches across and up.
        """
        entries = list(entries)
        if not entries:
            return
        to_place = Affine2D().scale(size).rotate_deg(rotation).translate(*np.multiply(away, POINTS))
        letters = Lettering(
            [text for _, _, text in entries],
            [to_place.transform_path(_outlines(text, family, weight, side, aligned)) for _, _, text in entries],
            offsets=[(x, y) for x, y, _ in entries],
            offset_transform=self.transform,
            facecolors=colour,
            linewidths=0,
            zorder=Text.zorder,  # above bars and lines
        )
        letters.set_transform(Affine2D().scale(1 / POINTS) + self.figure.dpi_scale_trans)
        self.figure.add_artist(letters)


class Panel(Page):
    """A page that has its place on a figure, and two axes with ends.

    Args:
        place: left edge, lower edge, width and height, as parts of the figure's.
        x, y: the ends of the axes: at the left and at the right edge, at the lower and at the upper one.
    """

    def __init__(
        self,
        figure: Figure,
        place: tuple[float, float, float, float],
        x: tuple[float, float],
        y: tuple[float, float],
    ) -> None:
        self.x, self.y = x, y
        left, foot, width, height = np.multiply(place, np.tile(figure.get_size_inches(), 2)).tolist()
        unit = width / (x[1] - x[0]), height / (y[1] - y[0])
        super().__init__(figure, (left - x[0] * unit[0], foot - y[0] * unit[1]), unit)
        self._box = TransformedBbox(Bbox.from_bounds(*place), figure.transFigure)

    def add(self, artist: Artist, *, cut: bool = False) -> None:
        """Put it on the page, its points in these coordinates; cut off, if asked for, where the panel ends."""
        super().add(artist)
        if cut:
            artist.set_clip_box(self._box)

    def at(self, right: float, up: float) -> tuple[float, float]:
        """The place at these parts of the panel's width and height."""
        return self.x[0] + right * (self.x[1] - self.x[0]), self.y[0] + up * (self.y[1] - self.y[0])

    def bars(self, places: Any, values: Any, width: float, colours: Any, *, lying: bool = False) -> None:
        """Bars from 0 to values, so many typographic points wide, cut off where the panel ends.

        Args:
            places, values: (bars,). colours: one for all, or for each. lying: from left to right, places along y.
        """
        zeros = np.zeros(len(places))
        points = np.stack([places, zeros, places, values], axis=-1).reshape(-1, 2, 2)
        bars = list(points[..., ::-1] if lying else points)
        self.add(LineCollection(bars, colors=colours, linewidths=width), cut=True)

    def frame(self, xticks: Mapping[float, str], label: str, yticks: Mapping[float, str] | None = None) -> None:
        """The lines on the left and below, ticks with what is written at each, and the name of the axis below."""
        yticks = yticks or {}
        (left, foot), out = self.at(0, 0), np.divide(TICK, self.unit)
        self.lines([[self.at(0, 1), (left, foot), self.at(1, 0)]])
        ticks = [[(x, foot), (x, foot - out[1])] for x in xticks] + [[(left, y), (left - out[0], y)] for y in yticks]
        self.lines(ticks, INK)
        below, beside = (0.0, -2 * TICK), (-2 * TICK, 0.0)
        self.write([(x, foot, text) for x, text in xticks.items()], 10, side="center", aligned="top", away=below)
        self.write([(left, y, text) for y, text in yticks.items()], 10, side="right", aligned="center", away=beside)
        self.write([(*self.at(0.5, 0), label)], 11, side="center", aligned="top", away=(0, -0.28))


class Lettering(PathCollection):
    """Texts of one kind, all of them one artist. A dollar sign is a letter in it, as any other."""

    def __init__(self, texts: Sequence[str], outlines: Sequence[Path], **how: Any) -> None:
        super().__init__(outlines, **how)
        self.texts = list(texts)


def _outlines(text: str, family: str, weight: str, side: str, aligned: str) -> Path:
    """A text's outlines around the place where it is to stand, in letters of size 1."""
    lines = text.split("\n")
    first = ALIGNED[aligned] + RAISED[aligned] * LINE * (len(lines) - 1)
    return Path.make_compound_path(
        *(path for i, line in enumerate(lines) for path in _line(line, family, weight, side, first - i * LINE))
    )


def _line(text: str, family: str, weight: str, side: str, y: float) -> list[Path]:
    """The letters of a line, its baseline at y."""
    letters = [_letter(character, family, weight) for character in text]
    *starts, end = itertools.accumulate((advance for _, advance in letters), initial=0.0)
    left = SIDES[side] * end
    return [
        Path(np.asarray(path.vertices) + (x - left, y), path.codes)
        for (path, _), x in zip(letters, starts, strict=True)
    ]


@functools.cache
def _letter(character: str, family: str, weight: str) -> tuple[Path, float]:
    """The outlines of a letter of size 1, and by how much the next one stands further on.

    Every text is made of them: matplotlib takes milliseconds for the outlines of a text that it has not seen before.
    """
    font = FontProperties(family=family, weight=weight)
    bar, both = (TextPath((0, 0), text, size=1, prop=font) for text in ("|", f"{character}|"))
    own = slice(0, len(both.vertices) - len(bar.vertices))  # of a blank, none
    path = Path(np.asarray(both.vertices)[own], np.asarray(both.codes)[own])
    return path, both.get_extents().x1 - bar.get_extents().x1
