"""The figures of notebook 04 show the numbers they are given, where they belong."""

import math

import numpy as np
import pytest

from mamba2_lab import plots

WORDS = ["a", "b", "c"]
FADE = np.array([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.25, 0.5, 1.0]])


def cell_texts(axes):
    """The numbers written in cells, by (row, column)."""
    return {
        tuple(map(int, text.get_position()))[::-1]: text.get_text()
        for text in axes.texts
        if text.get_transform() == axes.transData
    }


def test_word_tables_writes_each_amount_in_its_cell_and_leaves_zeros_empty():
    (axes,) = plots.word_tables(WORDS, {"fade": FADE}).axes
    shown = axes.images[0].get_array()
    assert np.array_equal(shown.filled(0), FADE)
    assert np.array_equal(np.ma.getmaskarray(shown), FADE == 0)
    below = {(0, 0): "1.00", (1, 0): "0.50", (1, 1): "1.00", (2, 0): "0.25", (2, 1): "0.50", (2, 2): "1.00"}
    assert cell_texts(axes) == below
    assert [label.get_text() for label in axes.get_xticklabels()] == WORDS
    assert [label.get_text() for label in axes.get_yticklabels()] == WORDS
    assert axes.yaxis_inverted(), "the first word reads in the top row"


def test_word_tables_share_one_scale_and_say_how_they_are_joined():
    figure = plots.word_tables(WORDS, {"fade": FADE, "match": 2 * FADE, "M": 3 * FADE}, joined_by="∘=")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["fade", "match", "M"]
    assert [axes.images[0].get_clim() for axes in figure.axes] == [(0, 3)] * 3
    between = [[text.get_text() for text in axes.texts if text.get_text() in "∘="] for axes in figure.axes]
    assert between == [["∘"], ["="], []]


def test_numbers_on_dark_cells_are_light():
    (axes,) = plots.word_tables(WORDS, {"fade": FADE}).axes
    colours = {text.get_text(): text.get_color() for text in axes.texts}
    assert colours["1.00"] == "white" and colours["0.25"] == "black"


def test_below_the_diagonal_draws_ranks_by_cut_and_spectra_from_1_down():
    ranks = {"M": [1, 2, 2, 1], "softmax": [1, 2, 2, 1]}
    spectra = {"M": [4.0, 1.0, 4e-16], "softmax": [2.0, 1.0, 0.5]}
    left, right = plots.below_the_diagonal(ranks, spectra, n=2).axes
    curve, _, border = left.lines
    assert list(curve.get_xdata()) == [1, 2, 3, 4] and list(curve.get_ydata()) == ranks["M"]
    assert list(border.get_ydata()) == [2, 2]
    assert np.allclose(right.lines[0].get_ydata(), [1.0, 0.25, 1e-16], rtol=1e-12, atol=0)
    assert right.lines[2].get_xdata() == [2, 2]
    low, high = right.get_ylim()
    assert low < 1e-16 and high > 1, "rounding errors and the largest value are both on the axis"


def test_error_by_length_draws_what_is_lost_as_crosses():
    errors = {"sound": [1e-7, 2e-7, 1e-7], "unsound": [1e-7, math.nan, math.inf]}
    figure = plots.error_by_length([16, 32, 64], {"new": errors, "trained": {"sound": [1e-7, 1e-7, 1e-7]}})
    first, second = figure.axes
    curves = {line.get_label(): line for line in first.lines}
    assert list(curves["sound"].get_ydata()) == errors["sound"]
    crosses = [line for line in first.lines if line.get_marker() == "X" and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in crosses] == [[32, 64]]
    assert crosses[0].get_color() == curves["unsound"].get_color()
    assert "NaN" in [text.get_text() for text in first.texts]
    assert not second.texts and not any(line.get_marker() == "X" and len(line.get_xdata()) for line in second.lines)
    low, high = first.get_ylim()
    assert low < 1e-7 and high > max(crosses[0].get_ydata()) > 1, "crosses stand above every error, on the figure"


@pytest.mark.parametrize("width", [1, 3])
def test_no_label_of_a_word_table_is_cut_off(width):
    figure = plots.word_tables(
        "snow fell . then it melted".split(), {f"table {i}": np.ones((6, 6)) for i in range(width)}
    )
    figure.draw_without_rendering()
    for axes in figure.axes:
        for text in (*axes.get_xticklabels(), *axes.get_yticklabels(), axes.title):
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text
