"""The figures of notebook 09 show the numbers they were given, where they belong."""

from __future__ import annotations

import pytest
import torch
from matplotlib.colors import to_hex

from mamba2_lab import plots
from mamba2_lab.plots.generation import lineages
from mamba2_lab.plots.style import COLOURS, FAINT, INK

# Filters

TOKENS = {"def f(": ["x", " ", "\n"], '"""': ["R", "S"]}
CHANCES = {
    "as it is": {"def f(": torch.tensor([0.5, 0.25, 0.125]), '"""': torch.tensor([0.75, 0.25])},
    "top-k": {"def f(": torch.tensor([0.6, 0.4, 0.0]), '"""': torch.tensor([1.0, 0.0])},
}


def bars(axes, *, filled: bool) -> list[float]:
    """Heights of the bars that have a colour, or of the outlines."""
    return [patch.get_height() for patch in axes.patches if (patch.get_facecolor()[3] > 0) is filled]


def test_each_filter_has_a_column_and_each_place_a_row() -> None:
    figure = plots.filters(TOKENS, CHANCES)
    panels = figure.axes
    assert [axes.get_title(loc="left") for axes in panels[:2]] == ["as it is", "top-k"]
    wanted = [[0.5, 0.25, 0.125], [0.6, 0.4, 0.0], [0.75, 0.25], [1.0, 0.0]]
    for axes, heights in zip(panels, wanted, strict=True):
        assert bars(axes, filled=True) == pytest.approx(heights)
    assert [axes.texts[0].get_text() for axes in panels if axes.texts] == ["after def f(", 'after """']


def test_outlines_are_what_the_model_says_and_nothing_rises_out_of_the_panel() -> None:
    panels = plots.filters(TOKENS, CHANCES).axes
    for axes, heights in zip(panels, [[0.5, 0.25, 0.125]] * 2 + [[0.75, 0.25]] * 2, strict=True):
        assert bars(axes, filled=False) == pytest.approx(heights)
        assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > max(bars(axes, filled=True) + heights)


def test_a_removed_token_is_pale_and_a_blank_can_be_seen() -> None:
    labels = plots.filters(TOKENS, CHANCES).axes[1].get_xticklabels()
    assert [label.get_text() for label in labels] == ["x", "·", "↵"]
    assert [label.get_color() for label in labels] == [INK, INK, FAINT]


# Beams

# Two rows, three steps: at step 2 both go on from row 1, so that row 0 of step 1 is given up.
BEAM_TOKENS = [["a", "b"], ["c", " "], ["e", "f"]]
PARENTS = [[0, 0], [1, 1], [1, 0]]


def test_lineages_follow_the_parents_back() -> None:
    best, alive = lineages(PARENTS)
    assert best == [{1}, {1}, {0}]
    assert alive == [{1}, {0, 1}, {0, 1}]


def test_every_token_stands_in_its_row_and_step() -> None:
    (axes,) = plots.beam_tree(BEAM_TOKENS, PARENTS).axes
    found = {text.get_position(): text.get_text() for text in axes.texts}
    assert found == {(0, 0): "a", (0, 1): "b", (1, 0): "c", (1, 1): "·", (2, 0): "e", (2, 1): "f"}


def test_edges_lead_from_parents_and_the_best_text_is_thick() -> None:
    (axes,) = plots.beam_tree(BEAM_TOKENS, PARENTS).axes
    edges = [line for line in axes.lines if line.get_gid() == "edge"]
    ends = [(tuple(line.get_xdata()), tuple(line.get_ydata())) for line in edges]
    assert ends[2:] == [((0, 1), (1, 0)), ((0, 1), (1, 1)), ((1, 2), (1, 0)), ((1, 2), (0, 1))]
    thick = [end for end, line in zip(ends, edges, strict=True) if line.get_color() == COLOURS[0]]
    assert thick == [((-1, 0), (0.5, 1)), ((0, 1), (1, 1)), ((1, 2), (1, 0))]


# Memory


def test_sizes_are_drawn_against_length_and_meet_on_the_level() -> None:
    sizes = {"KV cache": [1e3, 1e5], "half": [5e2, 5e4], "state": [1e4, 1e4]}
    (axes,) = plots.memory_by_length([10, 1000], sizes, [100, 200]).axes
    curves = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines[:3]}
    assert curves == {name: ([10, 1000], kept) for name, kept in sizes.items()}
    assert axes.get_xscale() == axes.get_yscale() == "log"
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines[3:]]
    assert dots == [(100, 1e4), (200, 1e4)]
    assert {text.get_text(): text.xy for text in axes.texts} == {"100 tokens": (100, 1e4), "200 tokens": (200, 1e4)}


def test_names_of_crossings_do_not_cover_each_other() -> None:
    figure = plots.memory_by_length([10, 10**6], {"a": [1e5, 1e10], "state": [1e6, 1e6]}, [113, 225])
    figure.draw_without_rendering()
    one, other = (text.get_window_extent() for text in figure.axes[0].texts)
    assert not one.overlaps(other)


# With memory, and without


def test_each_reader_has_a_row_of_bars_on_one_scale() -> None:
    readers = {"all kept": torch.tensor([1.0, 2.0, 0.0]), "both lost": [6.0, 3.0, 3.0]}
    figure = plots.surprises(["a", " ", "\n"], readers)
    first, second = figure.axes
    assert [patch.get_height() for patch in first.patches] == [1.0, 2.0, 0.0]
    assert [patch.get_height() for patch in second.patches] == [6.0, 3.0, 3.0]
    assert first.get_title(loc="left") == "all kept: 1.00 bits on average"
    assert second.get_title(loc="left") == "both lost: 4.00 bits on average"
    assert first.get_ylim() == second.get_ylim()
    assert [label.get_text() for label in second.get_xticklabels()] == ["a", "·", "↵"]
    assert to_hex(first.patches[0].get_facecolor()) != to_hex(second.patches[0].get_facecolor())
