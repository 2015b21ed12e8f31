"""Figures reach a notebook with text for those who cannot see them."""

import ast
import base64
import importlib
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mamba2_lab import plots
from mamba2_lab.course import CHAPTERS
from mamba2_lab.plots import style
from mamba2_lab.plots.described import description
from mamba2_lab.plots.style import DRAWN_DPI, SHOWN_DPI

SOURCES = sorted((Path(__file__).resolve().parents[2] / "notebooks" / "source").glob("*.py"))


class Images(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.found.append(dict(attrs))


def test_a_shown_figure_carries_its_alt_text_and_caption() -> None:
    figure = plots.course_map(CHAPTERS)
    text = plots.as_html(figure, 'fifteen "cards" & a <row>', "look here")
    (image,) = Images(text).found
    assert image["alt"] == 'fifteen "cards" & a <row>'
    assert "look here" in text


def test_a_figure_without_alt_text_is_refused() -> None:
    with pytest.raises(ValueError, match="alt must say what is on the figure"):
        plots.show(plots.course_map(CHAPTERS), alt=" ")


def test_a_shown_figure_has_a_palette_and_looks_the_same() -> None:
    figure = plots.course_map(CHAPTERS)
    shown, live = (image_in(plots.as_html(figure, "cards", "", live=live)) for live in (False, True))
    assert (shown.mode, live.mode) == ("P", "RGB")
    assert shown.width / live.width == pytest.approx(DRAWN_DPI / SHOWN_DPI, rel=0.01)
    exact = io.BytesIO()
    figure.savefig(exact, format="png", dpi=DRAWN_DPI)
    difference = np.asarray(Image.open(exact).convert("RGB"), float) - np.asarray(shown.convert("RGB"), float)
    assert np.abs(difference).mean() < 1


def test_no_letter_touches_the_edge_of_its_card() -> None:
    """On a dark page a figure is a white card."""
    figure = plots.losses({"a name that needs the whole of its place": [], "another": []})
    figure.draw_without_rendering()
    drawn, margin = figure.get_tightbbox(), 0.08
    assert drawn.x0 >= margin and drawn.y0 >= margin
    assert drawn.x1 <= figure.get_figwidth() - margin and drawn.y1 <= figure.get_figheight() - margin


@pytest.mark.parametrize("laid_out", [True, False])
def test_a_live_figure_has_the_pixels_that_savefig_gives(laid_out: bool) -> None:
    """Drawn on a canvas at once, for `savefig` draws a figure that is laid out twice."""
    figure = plots.course_map(CHAPTERS) if laid_out else plots.fading(0.1, -1.0)
    before, exact = figure.dpi, io.BytesIO()
    live = image_in(plots.as_html(figure, "cards", "", live=True))
    assert figure.dpi == before
    figure.savefig(exact, format="png", dpi=SHOWN_DPI)
    np.testing.assert_array_equal(np.asarray(live), np.asarray(Image.open(exact).convert("RGB")))


def image_in(text: str) -> Image.Image:
    (found,) = Images(text).found
    return Image.open(io.BytesIO(base64.b64decode(found["src"].split(",")[1])))


def test_a_figure_is_shown_with_the_words_that_are_kept_for_it(monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(style, "display", lambda data, raw: shown.append(data))
    plots.show(plots.costs({"chunks": [1, 2]}, {"chunks": [1, 2]}, {"chunks": [1, 2]}, along="q"), "by chunk size")
    alt, caption = description("costs", "by chunk size")
    html = shown[0]["text/html"]
    assert f'alt="{alt}"' in html and f"{caption}</figcaption>" in html


def test_a_figure_that_is_drawn_in_several_places_must_say_in_which() -> None:
    with pytest.raises(ValueError, match="one of those described, costs: by length, costs: by chunk size; got 'costs'"):
        description("costs")
    with pytest.raises(ValueError, match="none; give alt and caption; got 'mine'"):
        description("mine")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_words_of_a_figure_stand_in_the_package_not_in_its_cell(source) -> None:
    """There a reader who is about to predict the figure would find the outcome."""
    text = source.read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert not [word.arg for node in calls for word in node.keywords if word.arg in ("alt", "caption")]
    described = importlib.import_module(f"mamba2_lab.plots.described.{source.stem[3:]}").DESCRIBED
    drawn = {node.func.attr for node in calls if isinstance(node.func, ast.Attribute)}
    quoted = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
    for figure, _, which in (key.partition(": ") for key in described):
        assert figure in drawn and (not which or which in quoted), "words for a figure that is not drawn"
    shown = [node for node in calls if ast.unparse(node.func) == "plots.show" and isinstance(node.args[0], ast.Call)]
    for figure, *rest in (node.args for node in shown):
        which = rest[0].value if rest and isinstance(rest[0], ast.Constant) else ""
        if not rest or which:
            assert description(figure.func.attr, which)
