"""The figures of notebook 13 show the numbers they are given, where they belong."""

import numpy as np
import pytest
from matplotlib.collections import EllipseCollection, LineCollection

from mamba2_lab import plots
from mamba2_lab.plots.turning_states import RADIUS


def test_one_way_marks_what_is_wrong_and_says_when_first():
    levels = [[-1.0, -1.5, -1.75, -1.9], [1.0, 1.5, 1.75, 1.9], [-1.0, -1.5, -1.75, -1.9]]
    panels = plots.one_way(levels, [0.0, 0.0, -1.2]).axes
    for axes, level, threshold, wrong in zip(panels, levels, (0, 0, -1.2), ([1, 3], [2, 4], [3]), strict=True):
        line, curve, right, crosses = axes.lines
        assert set(line.get_ydata()) == {threshold}
        assert list(curve.get_ydata()) == [0.0, *level] and list(curve.get_xdata()) == [0, 1, 2, 3, 4]
        assert list(crosses.get_xdata()) == wrong
        assert sorted([*right.get_xdata(), *crosses.get_xdata()]) == [1, 2, 3, 4]
        assert axes.get_title(loc="left").startswith(f"wrong first after {wrong[0]} press")


def test_hands_point_where_the_angles_say_and_presses_are_filled():
    figure = plots.hands({"one": [0.0, np.pi / 2, np.pi], "other": [0.0, 0.0, -np.pi / 2]}, [1, 0, 1])
    (axes,) = figure.axes
    assert axes.yaxis_inverted()
    lines = [lines for lines in axes.collections if isinstance(lines, LineCollection)]
    for row, (found, expected) in enumerate(
        zip(lines, ([(1, 0), (0, 1), (-1, 0)], [(1, 0), (1, 0), (0, -1)]), strict=True)
    ):
        segments = np.array(found.get_segments())
        np.testing.assert_allclose(segments[:, 0], [(i, row) for i in range(3)])
        pointing = (segments[:, 1] - segments[:, 0]) / RADIUS * (1, -1)  # up is up
        np.testing.assert_allclose(pointing, expected, atol=1e-12)
    filled, empty = [dials for dials in axes.collections if isinstance(dials, EllipseCollection)][:2]
    assert filled.get_offsets()[:, 0].tolist() == [0, 2] and empty.get_offsets()[:, 0].tolist() == [1]
    assert not np.allclose(filled.get_facecolor(), empty.get_facecolor())
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "other"]


def test_errors_by_step_are_on_logarithmic_axes_beside_both_slopes():
    steps, errors = [0.5, 0.25, 0.125, 0.0625], {"a": [0.4, 0.2, 0.1, 0.05], "b": [0.16, 0.04, 0.01, 0.0025]}
    (axes,) = plots.errors_by_step(steps, errors).axes
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert [list(line.get_ydata()) for line in axes.lines[:2]] == list(errors.values())
    for line, slope in zip(axes.lines[2:], (1, 2), strict=True):
        ratio = np.log(line.get_ydata()[0] / line.get_ydata()[-1]) / np.log(steps[0] / steps[-1])
        assert ratio == pytest.approx(slope)


def test_surprise_by_position_counts_bits_from_one_and_names_a_model_alike_in_all_panels():
    curves = {"two": {"x": [0.1, 1.0], "y": [0.0, 0.0], "z": [0.5, 0.5]}, "three": {"x": [1.5, 1.6], "z": [0.0, 0.1]}}
    figure = plots.surprise_by_position(curves, {"two": 1.0, "three": 1.58})
    for axes, (task, by_model), chance in zip(figure.axes, curves.items(), (1.0, 1.58), strict=True):
        assert axes.get_title(loc="left") == task
        guess, *lines = axes.lines
        assert set(guess.get_ydata()) == {chance}
        assert {line.get_label(): list(line.get_ydata()) for line in lines} == by_model
        assert all(list(line.get_xdata()) == [1, 2] for line in lines)
    colours = [{line.get_label(): line.get_color() for line in axes.lines[1:]} for axes in figure.axes]
    assert colours[0]["z"] == colours[1]["z"] and len(set(colours[0].values())) == 3


def test_errors_by_token_keeps_what_is_nothing_on_the_figure():
    figure = plots.errors_by_token({"a": [0.0, 0.5, 1.0], "b": [1e-3, 1e-12, 2.0]}, start=2, says="here")
    (axes,) = figure.axes
    assert list(axes.lines[0].get_ydata()) == [1e-8, 0.5, 1.0] and list(axes.lines[1].get_ydata()) == [1e-3, 1e-8, 2.0]
    assert set(axes.lines[2].get_xdata()) == {1.5}
    low, high = axes.get_ylim()
    assert low < 1e-8 and high > 2
    assert [text.get_text() for text in axes.texts] == ["here"]
