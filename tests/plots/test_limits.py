"""The figures of notebook 11 show the numbers they were given, where they belong."""

import numpy as np
import pytest

from mamba2_lab import plots


def lines(axes) -> dict[str, list[list[float]]]:
    """What is drawn under each name."""
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines if not line.get_label().startswith("_")}


def ticks(figure) -> list[str]:
    figure.draw_without_rendering()
    return [tick.get_text() for tick in figure.axes[0].get_xticklabels()]


def test_interference_is_a_line_as_predicted_and_dots_at_the_mean_of_what_was_measured() -> None:
    figure = plots.interference([2, 4], {"keys": [[0.0, 1.0], [0.2, 3.0]]}, {"keys": [0.1, 1.5]}, 3)
    (axes,) = figure.axes
    assert lines(axes)["predicted: keys"] == [[2, 0.1], [4, 1.5]]
    ((dots, _, (bars,)),) = axes.containers
    assert dots.get_xydata().tolist() == [[2, pytest.approx(0.1)], [4, 2.0]]
    ends = np.array(bars.get_segments())[:, :, 1]
    assert ends == pytest.approx(np.array([[0.0, 0.2], [1.0, 3.0]]))
    assert [text.get_text() for text in axes.texts] == ["n = 3"]
    low, high = axes.get_ylim()
    assert low <= 0 and high >= 3


def test_recall_is_the_mean_over_seeds_in_a_band_from_the_lowest_to_the_highest() -> None:
    figure = plots.recall([2, 8], {"one": [[1.0, 0.5], [0.8, 0.1]]}, 0.05, "pairs", {"one": [[0.4, 0.2], [0.6, 0.4]]})
    (axes,) = figure.axes
    assert lines(axes)["one"] == [[2, pytest.approx(0.9)], [8, pytest.approx(0.3)]]
    assert lines(axes)["one, predicted"] == [[2, pytest.approx(0.5)], [8, pytest.approx(0.3)]]
    corners = axes.collections[0].get_paths()[0].vertices
    assert {tuple(corner) for corner in corners} == {(2, 0.8), (2, 1.0), (8, 0.1), (8, 0.5)}
    assert ticks(figure) == ["2", "8"] and axes.get_xlabel() == "pairs"


def test_a_needle_is_a_line_for_each_kind_of_text() -> None:
    found = {"read": [[1.0, 9.0], [3.0, 11.0]], "control": [[20.0, 20.0], [22.0, 22.0]]}
    figure = plots.needle_by_distance([10, 20_000], found)
    assert lines(figure.axes[0]) == {"read": [[10, 2], [20_000, 10]], "control": [[10, 21], [20_000, 21]]}
    assert ticks(figure) == ["10", "20,000"]


def test_bits_stand_on_their_stretches_and_the_first_one_begins_at_zero() -> None:
    figure = plots.bits_along([0, 256, 512], {"whole": [2.0, 1.5], "windows": [2.0, 1.6]}, 512, "small")
    (axes,) = figure.axes
    values, edges, _ = axes.patches[1].get_data()
    assert axes.patches[1].get_label() == "windows"
    assert values.tolist() == [2.0, 1.6] and edges.tolist() == [128, 256, 512]
    assert ticks(figure) == ["0", "256", "512"]
    assert [text.get_text() for text in axes.texts] == ["trained on 512 tokens"]
