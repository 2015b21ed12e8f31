"""A strip holds tokens, values and a choice; sends only what is new; and its colours leave text legible."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import traitlets
from hypothesis import given
from hypothesis import strategies as st

from mamba2_lab.widgets import TokenStrip
from mamba2_lab.widgets.token_strip import SCALES, shade, shades


class Sent(TokenStrip):
    """Keeps the messages that would go to a page."""

    def __init__(self, *args, **kwargs) -> None:
        self.messages: list[dict] = []
        super().__init__(*args, **kwargs)

    def send(self, content, buffers=None) -> None:
        self.messages.append(json.loads(json.dumps(content)))


def test_only_new_tokens_are_sent_and_the_state_is_written_at_the_end():
    strip = Sent(["a"], [0.5], label="probability")
    written = []
    strip.observe(lambda change: written.append(change.name), ["tokens", "values"])
    strip.append(["b", "\n"], [0.25, math.nan])
    strip.append(["c"], [1.0])
    assert strip.messages == [
        {"kind": "append", "at": 1, "tokens": ["b", "\n"], "values": [0.25, None]},
        {"kind": "append", "at": 3, "tokens": ["c"], "values": [1.0]},
    ]
    assert written == []
    assert (len(strip), strip.text) == (4, "ab\nc")
    strip.settle()
    assert sorted(written) == ["tokens", "values"]
    assert (strip.tokens, strip.values) == (["a", "b", "\n", "c"], [0.5, 0.25, None, 1.0])
    assert len(strip) == 4


def test_a_page_that_was_opened_later_is_told_what_it_has_missed():
    strip = Sent(["a"], [0.5])
    strip.append(["b", "c"], [0.25, math.nan])
    for at in (1, 2, 3):
        strip.messages.clear()
        strip._handle_custom_msg({"kind": "rest", "at": at}, [])
        missed = slice(at - 1, None)
        told = {"kind": "append", "at": at, "tokens": ["b", "c"][missed], "values": [0.25, None][missed]}
        assert strip.messages == [told]
    strip.settle()
    strip.messages.clear()
    strip._handle_custom_msg({"kind": "rest", "at": 3}, [])
    assert strip.messages == [{"kind": "append", "at": 3, "tokens": [], "values": []}]


def test_what_is_appended_costs_a_few_bytes_a_token():
    strip = Sent()
    for _ in range(100):
        strip.append(["e"] * 30, [0.123456789] * 30)
    assert sum(len(json.dumps(message)) for message in strip.messages) < 3000 * 20


def test_other_values_leave_everything_else_as_it_is():
    strip = TokenStrip(["a", "b", "c"], [0, 0, 0], lead="before", selected=1)
    written = []
    strip.observe(lambda change: written.append(change.name))
    strip.colour([0.123456, math.nan, -1])
    assert strip.values == [0.1235, None, -1]
    assert written == ["values"], "what is not sent, the page cannot lose"
    assert shades("amount")[shade(0.1235, 0.0)] in strip.still()


def test_other_values_for_tokens_that_came_one_by_one():
    strip = Sent(["a"], [0.5])
    strip.append(["b"], [0.25])
    with pytest.raises(ValueError, match=r"values must be as many as tokens, 2; got 1"):
        strip.colour([1.0])
    assert (strip.text, strip.values) == ("ab", [0.5]), "a refusal changes nothing"
    strip.colour([1.0, 0.75])
    assert (strip.tokens, strip.values) == (["a", "b"], [1.0, 0.75])
    strip.settle()
    assert (len(strip), strip.values) == (2, [1.0, 0.75])


def test_writing_anew_begins_from_nothing():
    strip = TokenStrip(["a", "b"], [0, 1], lead="before", selected=1)
    edition = strip.edition
    strip.append(["c"], [0])
    strip.write(["d"], [1])
    assert (strip.tokens, strip.values, strip.lead, strip.selected) == (["d"], [1], "before", None)
    assert strip.edition > edition
    strip.write([], [], lead="")
    assert (len(strip), strip.text, strip.lead) == (0, "", "")


def test_only_a_token_that_is_there_can_be_selected():
    strip = TokenStrip(["a", "b"], [0, 1])
    strip.selected = 1
    strip.append(["c"], [0])
    strip.selected = 2
    for wrong in (3, -1):
        with pytest.raises(traitlets.TraitError, match=f"selected must lie in 0..2, or be None; got {wrong}"):
            strip.selected = wrong
    assert strip.selected == 2


@pytest.mark.parametrize("act", [TokenStrip, TokenStrip().write, TokenStrip().append])
def test_tokens_and_values_must_be_as_many(act):
    with pytest.raises(ValueError, match=r"values must be as many as tokens, 2; got 1"):
        act(["a", "b"], [0.0])


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match=r"scale must be one of amount, chance, signed; got 'rainbow'"):
        TokenStrip(scale="rainbow")


# Colours

LIGHT, DARK = (255, 255, 255), (17, 17, 17)  # JupyterLab's backgrounds; its text is black or white, hardly transparent


def luminance(colour: tuple[float, ...]) -> float:
    """WCAG 2.1, relative luminance of an sRGB colour of 0..255."""
    parts = [c / 255 / 12.92 if c / 255 <= 0.03928 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def over(background: tuple[int, ...], css: str) -> tuple[float, ...]:
    *colour, opacity = map(float, re.findall(r"[\d.]+", css))
    return tuple(opacity * c + (1 - opacity) * b for c, b in zip(colour, background, strict=True))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("background", "text"), [(LIGHT, 0.13 * 255), (DARK, 0.87 * 255)], ids=["light", "dark"])
def test_text_stands_out_from_every_colour(scale, background, text):
    for css in shades(scale):
        pair = sorted([luminance(over(background, css)), luminance((text, text, text))])
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, css


@pytest.mark.parametrize("background", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("scale", "strongest_first"), [("amount", False), ("chance", True)])
def test_a_stronger_colour_is_further_from_the_page(background, scale, strongest_first):
    there = [math.dist(over(background, css), background) for css in shades(scale)]
    assert there == sorted(there, reverse=strongest_first)
    assert min(there) == 0


def test_a_signed_scale_is_clear_at_zero_and_has_two_colours():
    colours = shades("signed")
    assert over(LIGHT, colours[shade(0.0, -1.0)]) == LIGHT
    low, high = over(LIGHT, colours[shade(-1.0, -1.0)]), over(LIGHT, colours[shade(1.0, -1.0)])
    assert low[2] > low[0] and high[0] > high[2], "purple below zero, orange above"


@given(st.floats(allow_nan=False), st.sampled_from([0.0, -1.0]))
def test_the_shade_of_a_value_is_the_nearest_one(value, low):
    places = [low + (1 - low) * i / 20 for i in range(21)]
    assert abs(places[shade(value, low)] - min(max(value, low), 1)) == pytest.approx(
        min(abs(place - min(max(value, low), 1)) for place in places), abs=1e-9
    )


# Without a kernel, and without the internet


def test_a_viewer_without_a_kernel_gets_the_text_and_its_colours():
    strip = TokenStrip(["<a>", "\n"], [0.0, math.nan], lead="if ", scale="chance")
    bundle, _ = strip._repr_mimebundle_()
    assert bundle["text/plain"] == "if <a>\n"
    assert (
        f'<span style="background: {shades("chance")[0]}">&lt;a&gt;</span><span style="">\n</span>'
        in bundle["text/html"]
    )
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_a_long_text_makes_a_short_picture():
    strip = TokenStrip(["e"] * 5000, [0.5] * 5000)
    assert len(strip.still()) < 60_000
    assert "(4,400 more tokens)" in strip.still()


def test_the_page_loads_nothing_from_elsewhere_and_listens_to_what_is_sent():
    folder = Path(__file__).parents[2] / "mamba2_lab" / "widgets"
    script = (folder / "token_strip.js").read_text(encoding="utf-8")
    for text in (script, (folder / "token_strip.css").read_text(encoding="utf-8")):
        assert not re.search(r"https?:|\bimport\b|url\(|fetch\(", text)
    assert set(re.findall(r'model\.get\("(\w+)"\)', script)) <= set(TokenStrip().trait_names(sync=True))
