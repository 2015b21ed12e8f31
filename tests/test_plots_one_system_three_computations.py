"""The figures of notebook 02 show the data they were given."""

import numpy as np
import pytest

from mamba2_lab import plots

X = np.array([0.0, 2.0, 0.0, 1.0])
WEIGHTS = np.array([1.0, -0.5, -0.25, 0.125])
MATRIX = np.array([[1, 0, 0, 0], [-0.5, 1, 0, 0], [-0.25, -0.5, 1, 0], [0.125, -0.25, -0.5, 1]])
Y = np.array([0.0, 2.0, -1.0, 0.5])  # MATRIX @ X, by hand
STATES = np.array([[0.0, 0.0], [2.0, 1.0], [1.0, 1.5], [1.5, 0.5]])
C = np.array([1.5, -1.0])


def lines(axes, label: str):
    return next(found for found in axes.lines if found.get_label() == label)


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


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
    loop, slid, table = plots.three_computations(2, X, STATES, C, WEIGHTS, MATRIX).axes
    before, now = loop.collections
    assert tops(before) == STATES[1].tolist() and tops(now) == STATES[2].tolist()
    rain = slid.collections[0]
    (drawn,) = [found for found in slid.lines if found.get_marker() == "o"]
    assert tops(rain) == X.tolist()
    seen = (rain.get_colors() == rain.get_colors()[0]).all(axis=1)
    assert seen.tolist() == [True, True, True, False], "rain after the step has not been seen yet"
    assert dict(zip(drawn.get_xdata(), drawn.get_ydata(), strict=True)) == {2: 1.0, 1: -0.5, 0: -0.25}
    mesh, frame = table.collections[0], table.patches[0]
    np.testing.assert_array_equal(np.asarray(mesh.get_array()), MATRIX)
    assert (frame.get_y(), frame.get_height(), frame.get_width()) == (2, 1, 4)
    assert mesh.norm.vmin == -mesh.norm.vmax, "white must be zero"


@pytest.mark.parametrize("t", [-1, 4])
def test_a_step_that_is_not_there_is_refused(t):
    with pytest.raises(ValueError, match=r"^t must be in 0\.\.3; got"):
        plots.three_computations(t, X, STATES, C, WEIGHTS, MATRIX)


def test_costs_are_drawn_on_two_logarithmic_panels():
    counted = {"a": [1, 2], "b": [3, 4], "c": [5, 6], "d": [7, 8]}
    measured = {name: [10 * cost for cost in values] for name, values in counted.items()}
    panels = plots.costs_by_length([16, 64], counted, measured).axes
    for axes, values in zip(panels, (counted, measured), strict=True):
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        for name, cost in values.items():
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
