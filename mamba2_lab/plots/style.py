"""The style sheet that every figure is drawn with, and `show`, which puts one into a notebook."""

from __future__ import annotations

import base64
import functools
import html
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from IPython.display import display
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from mamba2_lab.plots.described import description

WIDTH = 10.0  # inches; shown at 96 pixels to the inch it fits a notebook's column
SHOWN_DPI, DRAWN_DPI = 96, 144
MARGIN = 0.09  # inches: on a dark page a figure is a white card, and no letter may touch its edge
PAPER, INK, PALE_INK, FAINT = "#ffffff", "#22262b", "#5c646d", "#8a929b"
# Okabe and Ito's colours, told apart by every kind of colour vision (jfly.uni-koeln.de/color)
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
LINES: Any = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))  # with the colours, curves are told apart twice:
MARKS = "os^Dv*"  # by their lines, or by what marks their points
AMOUNTS = "cividis"  # for amounts from 0 up: even to the eye, and the same to colour-blind ones
SIGNED = "PuOr_r"  # for signed numbers: white at zero, purple below and orange above, apart for all colour vision

STYLE: Any = {
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": MARGIN,
    "figure.constrained_layout.h_pad": MARGIN,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.frameon": False,
}

Arguments = ParamSpec("Arguments")


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Draw with the style sheet of the course. The figure is labelled with the function's name."""

    @functools.wraps(draw)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            figure = draw(*args, **kwargs)
        figure.set_label(draw.__name__)
        return figure

    return call


def show(figure: Figure, which: str = "", *, alt: str | None = None, caption: str = "") -> None:
    """Display a figure with words: `alt` says what is on it, `caption` what to see in it.

    Args:
        which: of the descriptions in `plots.described`, where one figure is drawn in several places.
        alt, caption: for a figure of one's own; without an alt both are those that `plots.described` has.

    Raises:
        ValueError: if alt is empty, or if there is no description.
    """
    alt, caption = in_words(figure, alt, caption, which)
    if not alt.strip():
        raise ValueError("alt must say what is on the figure; got an empty text")
    display({"text/html": as_html(figure, alt, caption), "text/plain": f"[figure: {alt}]"}, raw=True)


def in_words(figure: Figure, alt: str | None, caption: str, which: str = "") -> tuple[str, str]:
    """The text in place of a figure and its caption: those given, or those of `plots.described`."""
    return description(str(figure.get_label()), which) if alt is None else (alt, caption)


def as_html(figure: Figure, alt: str, caption: str, *, live: bool = False) -> str:
    """The figure as an HTML <figure>, its image inside.

    Args:
        live: it answers a control that is being moved, so it is made quickly: coarser, and larger as a file.
    """
    png = _as_quick_png(figure) if live else in_few_colours(_as_png(figure))
    image = base64.b64encode(png)
    width = round(figure.get_figwidth() * SHOWN_DPI)
    return (
        f'<figure style="margin: 0"><img alt="{html.escape(alt)}" width="{width}" style="max-width: 100%; height: auto"'
        f' src="data:image/png;base64,{image.decode()}"/>'
        f'<figcaption style="max-width: {width}px; margin: 4px 0 8px 6px; font-style: italic">{html.escape(caption)}'
        "</figcaption></figure>"
    )


def _as_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=DRAWN_DPI)
    return buffer.getvalue()


def _as_quick_png(figure: Figure) -> bytes:
    """The pixels that `savefig` would give, which draws twice wherever something lays the figure out."""
    with matplotlib.rc_context(STYLE), _at_dpi(figure, SHOWN_DPI):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@contextmanager
def _at_dpi(figure: Figure, dpi: float) -> Iterator[None]:
    before = figure.dpi
    figure.dpi = dpi
    try:
        yield
    finally:
        figure.dpi = before


def in_few_colours(png: bytes) -> bytes:
    """The same image with a palette of 256 colours: a third of the size, and no difference that one could see."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        palette = image.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette.save(buffer, "PNG")
    return buffer.getvalue()


def plain_numbers(axis: Axis) -> None:
    """Ticks of a logarithmic axis as people write numbers, 2,000; if there are few, at 1, 2 and 5 of each decade."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 2000 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    axis.set_minor_formatter(NullFormatter())


def largest(arrays: Iterable[np.ndarray]) -> float:
    """The largest absolute value; 1 if all are 0, for an axis must have a length."""
    return max(float(np.abs(array).max()) for array in arrays) or 1.0


def around_zero(most: float) -> Normalize:
    """The scale of a diverging map, -most to most: zero in its middle."""
    return Normalize(-most, most)
