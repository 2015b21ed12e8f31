"""The figures of the state debugger show the numbers they were given, where they belong."""

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.image import BboxImage
from matplotlib.patches import Polygon, Rectangle
from support.pages import assert_texts_are_legible, of_kind, pixel_at, pixels, texts

from mamba2_lab import plots
from mamba2_lab.plots import page
from mamba2_lab.plots.debugger import (
    LEGEND,
    NAMED,
    NEGATIVE,
    POSITIVE,
    TRACK,
    across,
    attention_rows,
    channel_strengths,
    film_strip,
    strengths,
    turning_strengths,
)
from mamba2_lab.plots.page import Lettering
from mamba2_lab.plots.style import COLOURS


def charts(figure, left: float = -0.5) -> list[float]:
    """The feet of all charts, from the top: where the line on the left of each one ends."""
    frames = [lines.get_segments()[0] for lines in of_kind(figure, LineCollection)]
    return [frame[1][1] for frame in frames if len(frame) == 3 and frame[0][0] == left]


def bars(figure) -> list[tuple[str, np.ndarray, float]]:
    """Colour, heights in inches, and foot of each set of bars; that each stands on its token is checked here."""
    found = []
    for patch in of_kind(figure, Polygon):
        corners = patch.get_xy()[:-1].reshape(-1, 4, 2)
        np.testing.assert_allclose(corners[:, :, 0].mean(axis=1), np.arange(len(corners)))
        (foot,) = np.unique(corners[:, [0, 3], 1])
        np.testing.assert_array_equal(corners[:, 1, 1], corners[:, 2, 1])
        found.append((to_hex(patch.get_facecolor()), corners[:, 1, 1] - foot, foot))
    return found


STATES = {
    "0 'a'": torch.tensor([[0.5, 0.0, -1.0], [0.25, 0.0, 0.0]]),
    "1 '$x$'": np.array([[0.0, 2.0, 0.0], [0.0, 0.0, -4.0]]),
}


def test_the_film_shows_each_state_in_its_frame_on_one_scale_around_zero() -> None:
    figure = film_strip(STATES)
    picture, scale = of_kind(figure, BboxImage)
    strip = np.ma.filled(picture.get_array(), np.nan)
    assert strip.shape == (2, 8)
    np.testing.assert_array_equal(strip[:, 0:3], STATES["0 'a'"])
    np.testing.assert_array_equal(strip[:, 4:7], STATES["1 '$x$'"])
    assert np.isnan(strip[:, [3, 7]]).all(), "nothing stands between frames"
    assert picture.get_clim() == scale.get_clim() == (-4.0, 4.0)
    assert picture.get_cmap() == scale.get_cmap()
    red, green, blue, _ = picture.get_cmap()(picture.norm(0.0))
    assert min(red, green, blue) > 0.95, "zero is white"
    assert (scale.get_array()[0], scale.get_array()[-1]) == (4.0, -4.0)


def test_every_number_of_the_film_stands_at_its_row_and_column() -> None:
    figure = film_strip(STATES)
    (borders,) = of_kind(figure, LineCollection)
    cmap = of_kind(figure, BboxImage)[0].get_cmap()
    for column, state in ((0, STATES["0 'a'"]), (4, STATES["1 '$x$'"])):
        for (p, n), value in np.ndenumerate(np.asarray(state)):
            expected = cmap((float(value) + 4) / 8)[:3]
            np.testing.assert_allclose(pixel_at(figure, borders, column + n, p), expected, atol=0.02)
    places = texts(figure)
    x = borders.get_segments()[-1][:2, 0].mean()  # the middle of the scale
    for y, value in ((places["4"][1] + 0.03, 4), (places["−4"][1] - 0.03, -4)):
        np.testing.assert_allclose(pixel_at(figure, borders, x, y), cmap((value + 4) / 8)[:3], atol=0.1)


def test_the_film_names_its_frames_rows_columns_and_the_ends_of_its_scale() -> None:
    figure = film_strip(STATES)
    places = texts(figure)
    assert places["0 'a'"][0] == -0.5 and places["1 '$x$'"][0] == 3.5, "a title begins where its frame does"
    borders = of_kind(figure, LineCollection)[0].get_segments()
    assert [(frame[0][0], frame[1][0]) for frame in borders[:2]] == [(-0.5, 2.5), (3.5, 6.5)]
    assert {tuple(frame[:, 1]) for frame in borders} == {(-0.5, -0.5, 1.5, 1.5, -0.5)}
    assert places["4"][1] < places["−4"][1], "the y axis points down"
    assert {"key (n)", "value (p)", "0", "1", "2"} <= places.keys()
    assert (places["2"][0], places["1"][1]) == (2, 1)


@pytest.mark.parametrize(("p", "n", "frames"), [(32, 64, 6), (64, 64, 1), (1, 1, 2), (64, 16, 6), (4, 256, 7)])
def test_the_film_stays_on_the_page_for_any_shape(p: int, n: int, frames: int) -> None:
    margin = 1 - pixels(film_strip({f"{i} 'x'": np.ones((p, n)) for i in range(frames)}))
    assert margin.max() > 0.5
    for edge in (margin[0], margin[-1], margin[:, 0], margin[:, -1]):
        assert edge.max() == 0, "something reaches the edge of the page"


def test_states_of_zeros_are_drawn_too() -> None:
    figure = film_strip({"0 'a'": np.zeros((2, 2))})
    assert of_kind(figure, BboxImage)[0].get_clim() == (-1, 1)


def test_rows_are_signed_bars_on_one_scale_with_zero_in_the_middle() -> None:
    rows = {2: torch.tensor([0.5, -2.0, 0.25, 0.0]), 0: [4.0, 0.0, 0.0, 0.0]}
    figure = attention_rows(["a", "$x", "$_$", "\n"], rows)
    feet = charts(figure)
    found = iter(bars(figure))
    inches = [
        at for letters in of_kind(figure, Lettering) if "−4" in letters.texts for at in letters.get_offsets()[:, 1]
    ]
    unread = of_kind(figure, Rectangle)
    assert len(inches) == 6 and len(unread) == len(feet) == 2
    for (target, row), foot, band, low, zero, high in zip(
        rows.items(), feet, unread, inches[::3], inches[1::3], inches[2::3], strict=True
    ):
        unit = (high - low) / 8  # inches
        assert zero - low == pytest.approx(high - zero)
        assert low > foot and high < foot + band.get_height(), "bars end inside of the chart"
        for colour, part in ((POSITIVE, np.asarray(row).clip(0)), (NEGATIVE, np.asarray(row).clip(max=0))):
            assert next(found) == (colour, pytest.approx(unit * part), pytest.approx(zero))
        assert band.get_x() == target + 0.5 and band.get_x() + band.get_width() == 3.5
        assert band.get_y() == foot
    places = texts(figure)
    assert places["token 2, '$_$', reads"][1] > places["token 0, 'a', reads"][1]
    assert [places[name][0] for name in ("a", "$x", "$_$", "↵")] == [0, 1, 2, 3]


def test_in_a_long_text_the_strongest_sources_are_named() -> None:
    row = np.zeros(NAMED + 20)
    row[[10, 11, 50]] = 1.0, 0.9, -0.5
    row[70] = 0.01
    figure = attention_rows(["x"] * 10 + ["a", "b"] + ["y"] * 38 + [" "] + ["z"] * 49, {99: row})
    places = texts(figure)
    assert "b" not in places, "it would stand in the way of a"
    assert "z" not in places, "the bar of token 70 cannot be seen"
    assert places["a"][0] == 10 and places["·"][0] == 50
    (_, above, zero), (_, below, _) = bars(figure)
    assert places["a"][1] > zero + above[10] and places["·"][1] < zero + below[50]


def test_a_long_text_has_numbers_below_its_ticks() -> None:
    figure = strengths(["x"] * 512, *[np.ones(512)] * 4)
    (numbers,) = (letters for letters in of_kind(figure, Lettering) if "100" in letters.texts)
    assert numbers.texts == ["0", "100", "200", "300", "400", "500"]
    assert numbers.get_offsets()[:, 0].tolist() == [0, 100, 200, 300, 400, 500]
    ticks = [lines.get_segments() for lines in of_kind(figure, LineCollection) if len(lines.get_segments()) == 6]
    assert [[segment[0][0] for segment in segments] for segments in ticks] == [[0, 100, 200, 300, 400, 500]]


def test_strengths_have_a_chart_each_and_their_largest_value_on_its_axis() -> None:
    given = ([0.5, 0.125], [0.25, 0.75], torch.tensor([3.0, 6.0]), np.array([0.0, 0.0]))
    figure = strengths(["a", " "], *given)
    ends = [0.5, 1, 6, 1]  # a decay lies in 0..1; an axis must have a length where all is 0
    numbers = [letters for letters in of_kind(figure, Lettering) if letters.texts[0] == "0"]
    assert [letters.texts for letters in numbers] == [["0", f"{end:g}"] for end in ends]
    feet = charts(figure)
    assert feet == sorted(feet, reverse=True)
    for (_, heights, foot), values, end, letters, bottom in zip(bars(figure), given, ends, numbers, feet, strict=True):
        zero, top = letters.get_offsets()[:, 1]
        assert zero == foot == bottom
        np.testing.assert_allclose(heights / (top - zero), np.asarray(values) / end, rtol=1e-6)
    labels = [text for letters in of_kind(figure, Lettering) for text in letters.texts if len(text) > 3]
    assert labels == ["token", "step size\ndt", "decay\nexp(dt A)", "written\n|dt x Bᵀ|", "read\n|h C|"]
    places = texts(figure)
    assert (places["a"][0], places["·"][0]) == (0, 1)


@pytest.mark.parametrize("l", [1, 7, 512])
@pytest.mark.parametrize("draw", [lambda *of: strengths(*of), lambda pieces, row, *_: attention_rows(pieces, {0: row})])
def test_across_says_where_a_token_stands_in_every_chart(draw, l: int) -> None:
    figure = draw(["x"] * l, *[np.ones(l)] * 4)
    for artist in of_kind(figure, Polygon):
        for token in {0, l // 3, l - 1}:
            x, _ = artist.get_transform().transform((token, 0))
            assert x / figure.bbox.width == pytest.approx(across(token, l))


def test_bars_are_where_a_reader_sees_them() -> None:
    dt = np.array([1.0, 0.1, 1.0, 0.1])
    figure = strengths(["x"] * 4, dt, *[np.ones(4)] * 3)
    artist = of_kind(figure, Polygon)[0]
    _, heights, foot = bars(figure)[0]
    for token in range(4):
        colour = pixel_at(figure, artist, token, foot + 0.5 * heights[0])
        np.testing.assert_allclose(colour, to_rgb(COLOURS[0]) if dt[token] == 1 else (1, 1, 1), atol=0.01)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_a_number_is_refused_and_named(wrong: float) -> None:
    with pytest.raises(ValueError, match=f"states must be finite; got .*{wrong}"):
        film_strip({"0 'a'": [[0.0, wrong]]})
    with pytest.raises(ValueError, match=f"rows must be finite; got .*{wrong}"):
        attention_rows("ab", {1: [wrong, 1.0]})
    for i, name in enumerate(("dt", "decay", "written", "read")):
        with pytest.raises(ValueError, match=f"{name} must be finite; got .*{wrong}"):
            strengths("ab", *[[1.0, wrong if i == j else 0.0] for j in range(4)])


def test_a_token_without_text_has_its_place_too() -> None:
    figure = attention_rows(["", "a"], {1: [1.0, 0.5]})
    assert texts(figure)["a"][0] == 1
    pixels(figure)


def test_no_figure_has_axes_and_the_number_of_artists_does_not_grow_with_the_text() -> None:
    """Axes, ticks and texts are what takes time in matplotlib; see the module."""

    def artists(l: int) -> list[int]:
        row = np.where(np.arange(l) % 40 == 0, 1.0, -0.01)
        pieces = [f"{i}" for i in range(l)]
        figures = strengths(pieces, *[np.ones(l)] * 4), attention_rows(pieces, {l - 1: row, l // 2: row})
        for figure in (*figures, film_strip({f"{i} 'x'": np.ones((32, 64)) for i in range(6)})):
            assert not (figure.axes or figure.texts or figure.legends or figure.subfigs)
        return [len(figure.artists) for figure in figures]

    assert artists(NAMED) == [18, 16]
    assert artists(512) == artists(4096) == [19, 19]
    assert len(film_strip(STATES).artists) == 9


def test_each_letter_is_outlined_once_whatever_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counting(place, text, **how):
        made.append(text)
        return outline(place, text, **how)

    outline = page.TextPath
    monkeypatch.setattr(page, "TextPath", counting)
    page._letter.cache_clear()
    pieces = [f"<{i}>" for i in range(30)]
    strengths(pieces, *[np.ones(30)] * 4)
    assert 0 < len(made) < 2 * 60, "two outlines for each letter, fewer than 60 in two fonts"
    made.clear()
    strengths(pieces[::-1], *[np.full(30, 10.0)] * 4)
    assert made == []


def test_the_figures_are_drawn_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    pieces = ["x"] * 100
    for figure in (
        film_strip(STATES),
        attention_rows(pieces, {5: np.ones(100)}),
        strengths(pieces, *[np.ones(100)] * 4),
    ):
        assert "base64" in plots.as_html(figure, "alt", "", live=True)
    assert not recwarn.list


# Tracks below the charts


def tracked(l: int, rows: int, seed: int = 0) -> tuple:
    """Quantities (l,) and a track (l,rows) around zero."""
    draw = np.random.default_rng(seed)
    return draw.random((5, l)), draw.standard_normal((l, rows))


@pytest.mark.parametrize(("l", "rows"), [(1, 1), (7, 4), (300, 32), (512, 128)])
def test_turns_are_a_picture_with_a_row_for_each_pair_below_the_charts(l: int, rows: int) -> None:
    columns, turns = tracked(l, rows)
    figure = turning_strengths(["x"] * l, *columns, turns)
    picture, scale = of_kind(figure, BboxImage)
    np.testing.assert_array_equal(picture.get_array(), turns.T)
    low, high = picture.get_clim()
    assert -low == high == scale.get_clim()[1] == pytest.approx(np.abs(turns).max())
    assert_texts_are_legible(figure)
    assert {"token", "turn of\neach pair", "at its end\nλ", "read\n|h q|", "pair 0"} <= texts(figure).keys()
    assert len(bars(figure)) == 5
    foot = min(charts(figure))
    for s in {0, rows - 1}:
        for t in {0, l // 2, l - 1}:
            row = (TRACK - LEGEND) / rows
            place = t, foot - 0.16 - LEGEND - (s + 0.5) * row
            expected = picture.get_cmap()(picture.norm(turns[t, s]))[:3]
            if l <= 7:  # the lines around it cover no cell
                np.testing.assert_allclose(pixel_at(figure, of_kind(figure, Polygon)[0], *place), expected, atol=0.02)


def test_numbers_of_a_channel_are_a_picture_on_a_scale_from_0_to_1() -> None:
    columns, _ = tracked(9, 1)
    decays = np.random.default_rng(0).random((9, 5))
    figure = channel_strengths(["x"] * 9, *columns[:3], decays)
    picture = of_kind(figure, BboxImage)[0]
    np.testing.assert_array_equal(picture.get_array(), decays.T)
    assert picture.get_clim() == (0, 1)
    assert_texts_are_legible(figure)
    assert {"decay\nexp(dt A)", "number 0", "number 4", "written\n|dt x Bᵀ|"} <= texts(figure).keys()


@pytest.mark.parametrize("place", range(6))
def test_what_has_a_track_refuses_what_is_not_a_number_too(place: int) -> None:
    columns, turns = tracked(3, 2)
    names = ("dt", "decay", "lam", "written", "read", "own_turns")
    given = [*columns, turns]
    given[place] = given[place] * np.nan
    with pytest.raises(ValueError, match=f"{names[place]} must be finite"):
        turning_strengths("abc", *given)


def test_rows_say_what_they_weigh() -> None:
    assert "weight\nof value" in texts(attention_rows("ab", {1: [0.5, 0.5]}, "value"))
