"""Figures of notebook 14: the places and the heights that were asked for."""

import numpy as np
import pytest

from mamba2_lab import plots


def test_each_part_of_a_file_lies_where_it_begins_in_the_row_of_its_kind():
    parts = [("header", 0, 500), ("D", 500, 1000), ("in_proj", 1000, 4000), ("D", 4000, 4500)]
    (axes,) = plots.where_it_lies(parts, 5000).axes
    found = [(bar.get_x(), bar.get_width(), round(bar.get_y() + bar.get_height() / 2)) for bar in axes.patches]
    assert found == [(0, 0.5, 0), (0.5, 0.5, 1), (1.0, 3.0, 2), (4.0, 0.5, 1)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["header", "D", "in_proj"]
    assert axes.get_xlim() == (0, pytest.approx(5.05)) and axes.yaxis_inverted() and "of 5" in axes.get_xlabel()


def test_half_lives_are_sorted_and_over_their_share_of_all_heads():
    (axes,) = plots.half_lives_by_model({"one": [4.0, 1.0, 2.0, 8.0], "other": [3.0]}).axes
    one, other = axes.lines
    assert one.get_ydata().tolist() == [1, 2, 4, 8] and other.get_ydata().tolist() == [3]
    assert one.get_xdata() == pytest.approx(np.array([12.5, 37.5, 62.5, 87.5])) and other.get_xdata().tolist() == [50]
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one, 4 heads", "other, 1 heads"]
