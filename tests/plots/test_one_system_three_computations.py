"""The figures of notebook 02 show the data they were given."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.image import BboxImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from support.pages import assert_texts_are_legible, of_kind, pixel_at, texts

from mamba2_lab import plots
from mamba2_lab.plots.page import Lettering
from mamba2_lab.plots.style import COLOURS

X = np.array([0.0, 2.0, 0.0, 1.0])
WEIGHTS = np.array([1.0, -0.5, -0.25, 0.125])
MATRIX = np.array([[1, 0, 0, 0], [-0.5, 1, 0, 0], [-0.25, -0.5, 1, 0], [0.125, -0.25, -0.5, 1]])
Y = np.array([0.0, 2.0, -1.0, 0.5])  # MATRIX @ X, by hand
STATES = np.array([[0.0, 0.0], [2.0, 1.0], [1.0, 1.5], [1.5, 0.5]])
C = np.array([1.5, -1.0])


def lines(axes, label: str):
    return next(found for found in axes.lines if found.get_label() == label)


def bars(figure, width: float) -> list[LineCollection]:
    return [found for found in of_kind(figure, LineCollection) if found.get_linewidth() == width]


def places(collection) -> list[float]:
    return [float(end[0]) for _, end in collection.get_segments()]


def written(figure) -> list[tuple[str, np.ndarray]]:
    """Every text and its place, equal ones too."""
    return [
        entry
        for letters in of_kind(figure, Lettering)
        for entry in zip(letters.texts, letters.get_offsets(), strict=True)
    ]


def tops(collection) -> list[float]:
    return [float(end[1]) for _, end in collection.get_segments()]


def test_echoes_stack_up_to_the_output():
    (axes,) = plots.echoes(X, WEIGHTS).axes
    showers = {container.get_label(): container for container in axes.containers}
    assert list(showers) == ["rain of hour 1", "rain of hour 3"]
    assert [bar.get_height() for bar in showers["rain of hour 1"]] == pytest.approx([0, 2, -1, -0.5])
    assert [bar.get_height() for bar in showers["rain of hour 3"]] == pytest.approx([0, 0, 0, 1])
    assert lines(axes, "their sum, y").get_ydata() == pytest.approx(Y)


def test_echoes_above_and_below_zero_do_not_cover_one_another():
    (axes,) = plots.echoes(np.array([1.0, 1.0, 1.0]), np.array([2.0, -1.0, -1.0])).axes
    boxes = [bar for container in axes.containers for bar in container if bar.get_height() != 0 and bar.get_x() > 1]
    assert sorted((bar.get_y(), bar.get_y() + bar.get_height()) for bar in boxes) == [(-1, -2), (0, -1), (0, 2)]


@pytest.mark.parametrize("t", range(4))
def test_three_computations_each_reach_the_output_on_their_own(t):
    figure = plots.three_computations(t, X, STATES, C, WEIGHTS, MATRIX)
    by_loop = 1.5 * STATES[t, 0] - STATES[t, 1]
    wanted = [f"loop: C · h = {by_loop:.2f}", f"convolution: sum = {Y[t]:.2f}", f"matrix: row {t} · x = {Y[t]:.2f}"]
    for title in wanted:
        assert title.replace("-", "−") in texts(figure)


def test_three_computations_draw_the_step_they_are_asked_for():
    figure = plots.three_computations(2, X, STATES, C, WEIGHTS, MATRIX)
    before, now = bars(figure, 22)
    assert tops(before) == STATES[1].tolist() and tops(now) == STATES[2].tolist()
    assert places(before) == pytest.approx([-0.2, 0.8]) and places(now) == pytest.approx([0.2, 1.2])
    (rain,) = bars(figure, 11)
    (drawn,) = of_kind(figure, Line2D)
    assert drawn.get_marker() == "o" and drawn.get_transform() == rain.get_transform()
    assert places(rain) == [0, 1, 2, 3]
    assert tops(rain) == X.tolist()
    seen = (rain.get_colors() == rain.get_colors()[0]).all(axis=1)
    assert seen.tolist() == [True, True, True, False], "rain after the step has not been seen yet"
    assert dict(zip(drawn.get_xdata(), drawn.get_ydata(), strict=True)) == {2: 1.0, 1: -0.5, 0: -0.25}
    (mesh,), (frame,) = of_kind(figure, BboxImage), of_kind(figure, Rectangle)
    np.testing.assert_array_equal(np.asarray(mesh.get_array()), MATRIX)
    assert (frame.get_x(), frame.get_y(), frame.get_height(), frame.get_width()) == (0, 2, 1, 4)
    assert mesh.norm.vmin == -mesh.norm.vmax, "white must be zero"
    for (row, column), weight in np.ndenumerate(MATRIX):
        shown = pixel_at(figure, frame, (column + 0.5) / 4, (row + 0.5 - 2) / 1)
        np.testing.assert_allclose(shown, mesh.get_cmap()(mesh.norm(weight))[:3], atol=0.01)


@pytest.mark.parametrize("t", range(4))
def test_three_computations_write_each_number_where_it_belongs(t):
    figure = plots.three_computations(t, X, STATES, C, WEIGHTS, MATRIX)
    found = texts(figure)
    for barrel, (level, c) in enumerate(zip(STATES[t], ("1.50", "−1.00"), strict=True)):
        at = [tuple(place) for text, place in written(figure) if text == f"{level:.2f}"]
        assert (barrel + 0.2, level) in at, "above its bar"
        assert found[f"C = {c}"] == (barrel, 0), "below the line at zero"
    assert found[f"hour {t}"][0] == t and found[str(t)] == (-0.3, t + 0.5)
    assert_texts_are_legible(figure)


def test_rain_and_kernel_have_a_scale_each():
    """In the colours of both, at the two edges of their panel; the line at 0 is that of both."""
    figure = plots.three_computations(2, X, STATES, C, WEIGHTS, MATRIX)
    (rain,), (kernel,) = bars(figure, 11), of_kind(figure, Line2D)
    for edge, colour in ((-0.6, COLOURS[0]), (len(X) - 0.4, kernel.get_color())):
        (ticks,) = (letters for letters in of_kind(figure, Lettering) if to_hex(letters.get_facecolor()[0]) == colour)
        assert ticks.get_offset_transform() == rain.get_transform() and len(ticks.texts) >= 3
        for text, place in zip(ticks.texts, ticks.get_offsets(), strict=True):
            assert tuple(place) == pytest.approx((edge, float(text.replace("−", "-"))))


@pytest.mark.parametrize("t", [-1, 4])
def test_a_step_that_is_not_there_is_refused(t):
    with pytest.raises(ValueError, match=r"^t must be in 0\.\.3; got"):
        plots.three_computations(t, X, STATES, C, WEIGHTS, MATRIX)


def test_work_is_drawn_on_logarithmic_axes():
    counted = {"a": [1, 2], "b": [3, 4], "c": [5, 6], "d": [7, 8]}
    (axes,) = plots.multiply_adds_by_length([16, 64], counted).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    for name, cost in counted.items():
        assert lines(axes, name).get_xydata().tolist() == [[16, cost[0]], [64, cost[1]]]


def test_matrices_share_a_scale_that_is_white_at_zero():
    figure = plots.matrices({"one": MATRIX, "two": 3 * MATRIX})
    one, two, scale = figure.axes
    np.testing.assert_array_equal(np.asarray(one.images[0].get_array()), MATRIX)
    np.testing.assert_array_equal(np.asarray(two.images[0].get_array()), 3 * MATRIX)
    for axes in (one, two):
        assert (axes.images[0].norm.vmin, axes.images[0].norm.vmax) == (-3, 3)
    assert scale.get_ylabel() == "weight"


def test_two_outputs_stand_over_the_rain():
    (axes,) = plots.two_outputs(X, Y, Y + 1, "one too high").axes
    assert [bar.get_height() for bar in axes.patches] == X.tolist()
    assert lines(axes, "right").get_ydata().tolist() == Y.tolist()
    assert lines(axes, "one too high").get_ydata().tolist() == (Y + 1).tolist()
