"""The figures of notebook 01 show the data they were given."""

import math

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from support.pages import assert_texts_are_legible, of_kind, texts

from mamba2_lab import plots


def heights(axes) -> list[float]:
    return [bar.get_height() for bar in axes.patches]


def line(axes, label: str):
    return next(found for found in axes.lines if found.get_label() == label)


def test_rain_stands_above_the_level_hour_by_hour():
    above, below = plots.rain_and_level([3.0, 0.0, 1.0], [3.0, 2.0, 2.5]).axes
    assert heights(above) == [3.0, 0.0, 1.0]
    assert heights(below) == [3.0, 2.0, 2.5]
    assert [bar.get_center()[0] for bar in below.patches] == [0, 1, 2]


def test_fading_draws_what_is_left_after_each_step_and_marks_two_of_them():
    figure = plots.fading(dt=0.5, A=-2.0, steps=4, mark=2)
    (bars,) = (lines for lines in of_kind(figure, LineCollection) if lines.get_linewidth() == 10)
    segments = np.array(bars.get_segments())  # (bars, ends, xy)
    assert segments[:, 1, 0].tolist() == [0, 1, 2, 3, 4]
    assert segments[:, 1, 1] == pytest.approx([1 / math.e**step for step in range(5)])
    assert segments[:, 0, 1].tolist() == [0] * 5
    dark = (bars.get_colors() == bars.get_colors()[2]).all(axis=1)
    assert dark.tolist() == [False, False, True, True, False]
    places = texts(figure)
    assert {name: places[name][0] for name in ("0", "2")} == {"0": 0, "2": 2}
    assert {name: places[name][1] for name in ("0.0", "0.5", "1.0")} == {"0.0": 0, "0.5": 0.5, "1.0": 1}
    (half,) = (lines for lines in of_kind(figure, LineCollection) if lines.get_linewidth() == 1)
    assert {y for line in half.get_segments() for _, y in line} == {0.5}


@pytest.mark.parametrize("dt, A, half_life", [(0.1, -1.0, "6.93"), (0.01, -16.0, "4.33")])
def test_fading_says_its_numbers(dt, A, half_life):
    (title,) = (text for text in texts(plots.fading(dt, A)) if text.startswith("a step"))
    assert f"writes {dt}" in title and f"after {half_life} steps" in title and f"{math.exp(dt * A):.3g}" in title


def test_fading_says_when_time_stands_still():
    assert any("time stands still" in text for text in texts(plots.fading(dt=0.0, A=-1.0)))


@pytest.mark.parametrize("dt, A, name", [(-0.1, -1.0, "dt"), (0.1, 0.0, "A"), (0.1, 1.0, "A"), (math.nan, -1.0, "dt")])
def test_fading_refuses_what_does_not_fade(dt, A, name):
    with pytest.raises(ValueError, match=f"^{name} must be "):
        plots.fading(dt, A)


def test_looks_are_drawn_at_the_end_of_their_steps():
    figure = plots.looks([4.0, 0.0], {"fine": (0.5, [1.0, 2.0, 1.5, 1.0]), "hourly": (1.0, [2.0, 1.0])})
    (axes,) = figure.axes
    assert heights(axes) == [4.0, 0.0]
    assert line(axes, "fine").get_xydata().tolist() == [[0.5, 1.0], [1.0, 2.0], [1.5, 1.5], [2.0, 1.0]]
    assert line(axes, "hourly").get_xydata().tolist() == [[1.0, 2.0], [2.0, 1.0]]


def test_exact_and_simple_meet_for_short_steps_and_part_for_long_ones():
    kept, written = plots.exact_and_simple((0.5, 1.5), longest=2.0).axes
    (exact_decay, euler), (exact_gain, simple_gain) = kept.lines[:2], written.lines[:2]
    assert exact_decay.get_ydata()[-1] == pytest.approx(math.exp(-2))
    assert euler.get_ydata()[-1] == pytest.approx(1 - 2)
    assert exact_gain.get_ydata()[-1] == pytest.approx((1 - math.exp(-2)) / 2)
    assert simple_gain.get_ydata()[-1] == 1
    for drawn in (exact_decay, euler, exact_gain, simple_gain):
        assert drawn.get_xdata()[-1] == 2.0
        assert drawn.get_ydata()[0] == pytest.approx(1, abs=1e-3)
    for axes in (kept, written):
        band = axes.patches[0].get_extents().transformed(axes.transData.inverted())
        assert (band.x0, band.x1) == pytest.approx((0.5, 1.5))


def test_barrels_are_read_at_the_steps_asked_for():
    left = np.array([[8.0, 8.0], [4.0, 2.0], [2.0, 0.5]])
    over_time, over_barrels = plots.barrels([-0.7, -1.4], left, [0, 1, 2]).axes
    assert [drawn.get_ydata().tolist() for drawn in over_time.lines if len(drawn.get_xdata()) == 3] == left.T.tolist()
    assert over_time.get_yscale() == "log"
    for step, drawn in enumerate(over_barrels.lines):
        assert drawn.get_xdata().tolist() == [-0.7, -1.4]
        assert drawn.get_ydata().tolist() == left[step].tolist()
        assert drawn.get_label() == f"{step} steps ago"


def test_explosions_end_where_numbers_do():
    (axes,) = plots.explosions({"grows": [1.0, 1e20, math.inf, math.nan], "fades": [1.0, 0.5, 0.0, 0.0]}, 1e30).axes
    assert axes.get_yscale() == "log"
    np.testing.assert_array_equal(line(axes, "grows").get_ydata(), [1.0, 1e20, math.nan, math.nan])
    np.testing.assert_array_equal(line(axes, "fades").get_ydata(), [1.0, 0.5, math.nan, math.nan])
    assert {1e30} in [set(drawn.get_ydata()) for drawn in axes.lines]


def test_texts_stay_on_the_page():
    for dt in (0.0, 0.001, 0.1, 1.0):
        assert_texts_are_legible(plots.fading(dt, -1.0))
    figures = [
        plots.exact_and_simple((0.001, 1.6)),
        plots.barrels([-0.1, -0.01], np.exp(np.arange(60)[:, None] * [-0.1, -0.01]), [5, 20, 50]),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        page = figure.bbox
        for axes in figure.axes:
            for text in [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]:
                if text.get_text():
                    box = text.get_window_extent()
                    inside = page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
                    assert inside, text
