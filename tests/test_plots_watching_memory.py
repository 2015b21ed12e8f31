"""The figures of the state debugger show the numbers they were given, where they belong."""

import io

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Polygon, Rectangle

from mamba2_lab import plots
from mamba2_lab.plots.watching_memory import NAMED, NEGATIVE, POSITIVE, across, attention_rows, film_strip, strengths


def labels(ticks) -> list[str]:
    return [tick.get_text() for tick in ticks]


def bars(axes) -> list[tuple[str, np.ndarray]]:
    """Colour and heights of each set of bars; that each stands on its token is checked here."""
    found = []
    for patch in axes.patches:
        if not isinstance(patch, Polygon) or isinstance(patch, Rectangle):
            continue
        corners = patch.get_xy()[:-1].reshape(-1, 4, 2)
        np.testing.assert_allclose(corners[:, :, 0].mean(axis=1), np.arange(len(corners)))
        assert (corners[:, [0, 3], 1] == 0).all(), "bars stand on zero"
        np.testing.assert_array_equal(corners[:, 1, 1], corners[:, 2, 1])
        found.append((to_hex(patch.get_facecolor()), corners[:, 1, 1]))
    return found


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


STATES = {
    "0 'a'": torch.tensor([[0.5, 0.0, -1.0], [0.25, 0.0, 0.0]]),
    "1 '$x$'": np.array([[0.0, 2.0, 0.0], [0.0, 0.0, -4.0]]),
}


def test_the_film_shows_each_state_in_its_frame_on_one_scale_around_zero() -> None:
    figure = film_strip(STATES)
    (axes,) = figure.axes
    picture, scale = axes.images
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


def test_the_film_names_its_frames_rows_columns_and_the_ends_of_its_scale() -> None:
    (axes,) = film_strip(STATES).axes
    places = {text.get_text(): text.get_position() for text in axes.texts}
    assert places["0 'a'"][0] == -0.5 and places["1 '$x$'"][0] == 3.5, "a title begins where its frame does"
    assert places["4"][1] < places["−4"][1], "the y axis points down"
    assert {"key (n)", "value (p)", "0", "1", "2"} <= places.keys()
    assert (places["2"][0], places["1"][1]) == (2, 1)


@pytest.mark.parametrize(("p", "n", "frames"), [(32, 64, 6), (64, 64, 1), (1, 1, 2), (64, 16, 6), (4, 256, 7)])
def test_the_film_stays_on_the_page_for_any_shape(p: int, n: int, frames: int) -> None:
    figure = film_strip({f"{i} 'x'": np.ones((p, n)) for i in range(frames)})
    figure.draw_without_rendering()
    page = figure.bbox
    for artist in (*figure.axes[0].texts, *figure.axes[0].patches):
        box = artist.get_window_extent()
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, artist


def test_states_of_zeros_are_drawn_too() -> None:
    (axes,) = film_strip({"0 'a'": np.zeros((2, 2))}).axes
    assert axes.images[0].get_clim() == (-1, 1)


def test_rows_are_signed_bars_on_one_scale_with_zero_in_the_middle() -> None:
    rows = {2: torch.tensor([0.5, -2.0, 0.25, 0.0]), 0: [4.0, 0.0, 0.0, 0.0]}
    figure = attention_rows(["a", "$x", "$_$", "\n"], rows)
    for axes, (target, row) in zip(figure.axes, rows.items(), strict=True):
        row = np.asarray(row)
        assert bars(axes) == [(POSITIVE, pytest.approx(row.clip(0))), (NEGATIVE, pytest.approx(row.clip(max=0)))]
        low, high = axes.get_ylim()
        assert low == -high and high > 4
        assert axes.get_yticks().tolist() == [-4, 0, 4]
        assert labels(axes.get_yticklabels()) == ["−4", "0", "4"]
        (unread,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
        assert unread.get_x() == target + 0.5 and unread.get_x() + unread.get_width() == 3.5
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["token 2, '$_$', reads", "token 0, 'a', reads"]
    assert labels(figure.axes[-1].get_xticklabels()) == ["a", "$x", "$_$", "↵"]
    figure.savefig(io.BytesIO(), format="png")  # dollars are letters, not mathematics


def test_in_a_long_text_the_strongest_sources_are_named() -> None:
    row = np.zeros(NAMED + 20)
    row[[10, 11, 50]] = 1.0, 0.9, -0.5
    row[70] = 0.01
    (axes,) = attention_rows(["x"] * 10 + ["a", "b"] + ["y"] * 38 + [" "] + ["z"] * 49, {99: row}).axes
    assert texts(axes) == ["a", "·"], "b would stand in the way of a, and the bar of token 70 cannot be seen"
    assert [text.get_position()[0] for text in axes.texts] == [10, 50]
    assert axes.texts[0].get_position()[1] > 1 and axes.texts[1].get_position()[1] < -0.5
    assert labels(axes.get_xticklabels()) == [str(int(tick)) for tick in axes.get_xticks()]
    assert axes.get_xlim() == (-0.5, 99.5)


def test_strengths_have_a_chart_each_and_their_largest_value_on_its_axis() -> None:
    given = ([0.5, 0.125], [0.25, 0.75], torch.tensor([3.0, 6.0]), np.array([0.0, 0.0]))
    figure = strengths(["a", " "], *given)
    ends = ["0.5", "1", "6", "1"]  # a decay lies in 0..1; an axis must have a length where all is 0
    for axes, values, end in zip(figure.axes, given, ends, strict=True):
        ((_, heights),) = bars(axes)
        np.testing.assert_allclose(heights, values)
        assert labels(axes.get_yticklabels()) == ["0", end]
        assert axes.get_yticks().tolist() == [0, float(end)]
        assert axes.get_ylim()[1] > float(end)
    assert [axes.get_ylabel().split("\n")[0] for axes in figure.axes] == ["step size", "decay", "written", "read"]
    assert labels(figure.axes[-1].get_xticklabels()) == ["a", "·"]


@pytest.mark.parametrize("l", [1, 7, 512])
@pytest.mark.parametrize("draw", [lambda *of: strengths(*of), lambda pieces, row, *_: attention_rows(pieces, {0: row})])
def test_across_says_where_a_token_stands_in_every_chart(draw, l: int) -> None:
    figure = draw(["x"] * l, *[np.ones(l)] * 4)
    figure.draw_without_rendering()
    for axes in figure.axes:
        for token in {0, l // 3, l - 1}:
            x, _ = axes.transData.transform((token, 0))
            assert x / figure.bbox.width == pytest.approx(across(token, l))


def test_the_figures_are_drawn_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    pieces = ["x"] * 100
    for figure in (
        film_strip(STATES),
        attention_rows(pieces, {5: np.ones(100)}),
        strengths(pieces, *[np.ones(100)] * 4),
    ):
        assert "base64" in plots.as_html(figure, "alt", "", live=True)
    assert not recwarn.list
