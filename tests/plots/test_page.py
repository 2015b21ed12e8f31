"""Pages and panels put things where their coordinates say, and letters are those of matplotlib."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from support.pages import DPI, assert_texts_are_legible, boxes, of_kind, pixel_at, pixels, texts

from mamba2_lab.plots import page as pages
from mamba2_lab.plots.page import Page, Panel, blank
from mamba2_lab.plots.style import WIDTH


@pytest.mark.parametrize(("side", "aligned"), [("left", "top"), ("center", "center"), ("right", "bottom")])
@pytest.mark.parametrize("rotation", [0, 90])
@pytest.mark.parametrize("away", [(0.0, 0.0), (-0.5, 0.1)])
def test_letters_stand_on_the_side_of_their_place_that_was_asked_for(
    side: str, aligned: str, rotation: int, away: tuple[float, float]
) -> None:
    page = Page(blank(2.0), (5, 1), (1, 1))
    page.write([(0, 0, "HHHH")], 20, side=side, aligned=aligned, rotation=rotation, away=away)
    rows, columns = np.nonzero(pixels(page.figure).min(axis=-1) < 0.5)
    x, y = (columns + 0.5) / DPI - 5 - away[0], 1 - (rows + 0.5) / DPI - away[1]
    along, up = (x, y) if rotation == 0 else (y, -x)
    ends = {"left": (0.0, 0.84), "center": (-0.42, 0.42), "right": (-0.84, 0.0)}  # 4 letters of 0.21 inches
    height = {"top": (-0.21, 0.0), "center": (-0.1, 0.1), "bottom": (0.0, 0.28)}
    assert (along.min(), along.max()) == pytest.approx(ends[side], abs=0.07)
    assert height[aligned][0] - 0.04 <= up.min() and up.max() <= height[aligned][1] + 0.04
    assert np.ptp(up) == pytest.approx(0.2, abs=0.02), "a capital letter of 20 points is 14.6 points high"


@pytest.mark.parametrize(
    ("aligned", "baselines"), [("top", (-0.76, -1.96)), ("center", (0.24, -0.96)), ("bottom", (1.44, 0.24))]
)
def test_lines_of_a_text_follow_one_another_downwards(aligned: str, baselines: tuple[float, float]) -> None:
    """H stands on its baseline. Letters of an inch, 1.2 inches from one baseline to the next."""
    page = Page(blank(6.0), (5, 3), (1, 1))
    page.write([(0, 0, "HH\nH")], 72, side="right", aligned=aligned)
    (_, box) = boxes(page.figure)[0]
    inches = (box.get_points() / page.figure.dpi) - (5, 3)
    assert inches[:, 1] == pytest.approx([baselines[1], baselines[0] + 0.729], abs=0.05)
    rows = pixels(page.figure).min(axis=-1) < 0.5
    ends = [np.flatnonzero(rows[int((3 - (line + 0.2)) * DPI)])[-1] / DPI - 5 for line in baselines]
    assert ends == pytest.approx([-0.1, -0.1], abs=0.03), "each line ends on the right"


@pytest.mark.parametrize("weight", ["normal", "bold"])
def test_a_text_is_as_wide_as_matplotlib_would_write_it(weight: str) -> None:
    for text in ("token 41, '·', reads", "0.016", "$x$ \\"):
        for family in (pages.SANS, pages.MONO):
            ours = pages._outlines(text, family, weight, "left", "baseline")
            font = FontProperties(family=family, weight=weight)
            theirs = TextPath((0, 0), text.replace("$", r"\$"), size=11, prop=font)
            np.testing.assert_allclose(
                11 * ours.get_extents().get_points(), theirs.get_extents().get_points(), atol=1
            )  # they kern


def test_a_text_that_is_empty_and_one_of_blanks_leave_nothing() -> None:
    page = Page(blank(1.0), (5, 0.5), (1, 1))
    page.write([], 10)
    assert not page.figure.artists
    page.write([(0, 0, ""), (1, 0, "  ")], 10)
    assert pixels(page.figure).min() == 1


def test_a_panel_has_its_ends_at_its_edges_and_its_axes_may_point_down() -> None:
    figure = blank(4.0)
    panel = Panel(figure, (0.1, 0.25, 0.5, 0.5), (-2, 3), (10, 0))
    corners = panel.transform.transform([(-2, 10), (3, 0)]) / figure.dpi
    np.testing.assert_allclose(corners, [(0.1 * WIDTH, 1), (0.6 * WIDTH, 3)])
    assert panel.at(0, 0) == (-2, 10) and panel.at(1, 1) == (3, 0) and panel.at(0.2, 1.5) == (-1, -5)


@pytest.mark.parametrize("lying", [False, True])
def test_bars_reach_from_zero_to_their_values_and_end_where_the_panel_does(lying: bool) -> None:
    figure = blank(4.0)
    panel = Panel(figure, (0.1, 0.25, 0.5, 0.5), (-2, 3), (-2, 3))
    panel.bars([0, 2], [9.0, -1.0], 10, ["red", "blue"], lying=lying)
    (bars,) = of_kind(figure, LineCollection)
    found = np.array(bars.get_segments())[..., :: -1 if lying else 1]
    assert found.tolist() == [[[0, 0], [0, 9]], [[2, 0], [2, -1]]]
    red = (1, 0, 0)
    for value, shown in ((2.9, red), (3.1, (1, 1, 1))):
        at = (value, 0) if lying else (0, value)
        np.testing.assert_array_equal(pixel_at(figure, bars, *at), shown)


def test_a_frame_has_its_ticks_and_their_numbers_at_their_values() -> None:
    figure = blank(4.0)
    panel = Panel(figure, (0.1, 0.25, 0.5, 0.5), (0, 10), (5, 0))
    panel.frame({2: "two", 8: "eight"}, "below", {1: "one"})
    places = texts(figure)
    assert places == {"two": (2, 5), "eight": (8, 5), "one": (0, 1), "below": (5, 5)}
    spines, ticks = of_kind(figure, LineCollection)
    np.testing.assert_array_equal(spines.get_segments(), [[(0, 0), (0, 5), (10, 5)]])
    starts, ends = np.swapaxes([panel.transform.transform(tick) / figure.dpi for tick in ticks.get_segments()], 0, 1)
    np.testing.assert_allclose(starts, [(2, 1), (5, 1), (1, 2.6)])
    np.testing.assert_allclose(ends - starts, [(0, -0.05), (0, -0.05), (-0.05, 0)], err_msg="ticks point outwards")
    covered = dict(boxes(figure))
    assert covered["two"].y1 < ends[0, 1] * figure.dpi and covered["one"].x1 < ends[2, 0] * figure.dpi
    assert_texts_are_legible(figure)


def test_a_picture_has_its_first_row_where_its_first_corner_is() -> None:
    figure = blank(4.0)
    panel = Panel(figure, (0.1, 0.25, 0.5, 0.5), (0, 3), (2, 0))
    values = np.array([[0.0, 0.2, 0.4], [0.6, 0.8, 1.0]])
    panel.picture(values, (0, 0, 3, 2), "gray", Normalize(0, 1))
    for (row, column), value in np.ndenumerate(values):
        shown = pixel_at(figure, Line2D([], [], transform=panel.transform), column + 0.5, row + 0.5)
        np.testing.assert_allclose(shown, value, atol=0.01)


def test_letters_lie_on_top_of_bars() -> None:
    figure = blank(4.0)
    panel = Panel(figure, (0, 0, 1, 1), (-1, 1), (-1, 1))
    panel.write([(0, 0.5, "HHHH")], 30, side="center", aligned="center", colour="white")
    panel.bars([0], [1.0], 200, "black")
    assert (pixels(figure)[50:150, 400:600] == 1).any(), "white letters on a black bar"
