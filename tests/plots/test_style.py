"""Figures reach a notebook with text for those who cannot see them."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mamba2_lab import plots
from mamba2_lab.course import CHAPTERS
from mamba2_lab.plots.style import DRAWN_DPI, SHOWN_DPI


class Images(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.found.append(dict(attrs))


def test_a_shown_figure_carries_its_alt_text_and_caption() -> None:
    figure = plots.course_map(CHAPTERS, [0])
    text = plots.as_html(figure, 'fifteen "cards" & a <row>', "look here")
    (image,) = Images(text).found
    assert image["alt"] == 'fifteen "cards" & a <row>'
    assert "look here" in text


def test_a_figure_without_alt_text_is_refused() -> None:
    with pytest.raises(ValueError, match="alt must say what is on the figure"):
        plots.show(plots.course_map(CHAPTERS, [0]), alt=" ")


def test_a_shown_figure_has_a_palette_and_looks_the_same() -> None:
    figure = plots.course_map(CHAPTERS, [0])
    shown, live = (image_in(plots.as_html(figure, "cards", "", live=live)) for live in (False, True))
    assert (shown.mode, live.mode) == ("P", "RGB")
    assert shown.width / live.width == pytest.approx(DRAWN_DPI / SHOWN_DPI, rel=0.01)
    exact = io.BytesIO()
    figure.savefig(exact, format="png", dpi=DRAWN_DPI)
    difference = np.asarray(Image.open(exact).convert("RGB"), float) - np.asarray(shown.convert("RGB"), float)
    assert np.abs(difference).mean() < 1


@pytest.mark.parametrize("laid_out", [True, False])
def test_a_live_figure_has_the_pixels_that_savefig_gives(laid_out: bool) -> None:
    """Drawn on a canvas at once, for `savefig` draws a figure that is laid out twice."""
    figure = plots.course_map(CHAPTERS, [0]) if laid_out else plots.fading(0.1, -1.0)
    before, exact = figure.dpi, io.BytesIO()
    live = image_in(plots.as_html(figure, "cards", "", live=True))
    assert figure.dpi == before
    figure.savefig(exact, format="png", dpi=SHOWN_DPI)
    np.testing.assert_array_equal(np.asarray(live), np.asarray(Image.open(exact).convert("RGB")))


def image_in(text: str) -> Image.Image:
    (found,) = Images(text).found
    return Image.open(io.BytesIO(base64.b64decode(found["src"].split(",")[1])))
