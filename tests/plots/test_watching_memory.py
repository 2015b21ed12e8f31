"""The figures of notebook 10 show the numbers they were given, where they belong."""

import io

import numpy as np
import pytest
import torch
from matplotlib.text import Text

from mamba2_lab import plots


def labels(ticks) -> list[str]:
    return [tick.get_text() for tick in ticks]


def panels_of(figure):
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def heights(axes) -> list[float]:
    return [bar.get_height() for bar in axes.patches]


def test_each_head_stands_at_its_two_half_lives_and_named_ones_are_ringed() -> None:
    kinds = {"short": [True, False, True], "long": torch.tensor([False, True, False])}
    (axes,) = plots.half_lives([2, 8, 50], torch.tensor([1, 8, 20]), kinds, {"here": 1}).axes
    dots = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert dots["short (2 heads)"] == [[2, 1], [50, 20]]
    assert dots["long (1 heads)"] == [[8, 8]]
    (name,) = (text for text in axes.texts if text.get_text() == "here")
    (ring,) = (line for line in axes.lines if line.get_markersize() == 15)
    assert name.xy == (8, 8) and ring.get_xydata().tolist() == [[8, 8]]


@pytest.mark.parametrize("places", [[100, 100, 101], [1, 1, 1], [1, 500, 501]], ids=str)
def test_names_of_heads_stay_inside_and_apart(places: list[float]) -> None:
    at_rest, here = [1, 500, *places], [1, 400, *places]
    named = {"short": 2, "long": 3, "reset-like": 4}
    figure = plots.half_lives(at_rest, here, {"all": [True] * 5}, named)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [Text.get_window_extent(text) for text in axes.texts if text.get_text() in named]  # without its line
    assert len(boxes) == 3
    for i, box in enumerate(boxes):
        assert axes.bbox.x0 <= box.x0 and box.y1 <= axes.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_what_is_lost_is_what_is_not_kept() -> None:
    figure = plots.losses_by_token(["a", "$b$"], {"one": torch.tensor([0.9, 0.25]), "two": [1.0, 0.5]})
    assert [heights(axes) for axes in figure.axes] == [pytest.approx([0.1, 0.75]), [0, 0.5]]
    assert [labels(axes.get_xticklabels()) for axes in figure.axes] == [[], ["a", "$b$"]]
    figure.savefig(io.BytesIO(), format="png")


def test_predictions_are_bars_and_measurements_dots() -> None:
    above, below = plots.fading_pair("abc", ([1, 0.5, 0.2], [0.9, 0.5, 0.1]), ([1, -1, 0], [1, -0.8, 0.1])).axes
    assert heights(above) == [1, 0.5, 0.2] and heights(below) == [1, -1, 0]
    assert above.lines[0].get_ydata().tolist() == [0.9, 0.5, 0.1]
    assert below.lines[0].get_ydata().tolist() == [1, -0.8, 0.1]


def test_zero_lies_in_the_middle_of_each_maps_own_scale() -> None:
    one, two = panels_of(plots.signed_maps("ab", {"one": [[1, 0], [-3, 2]], "two": [[0.1, 0], [0, 0.2]]}))
    assert one.images[0].get_clim() == (-3, 3) and two.images[0].get_clim() == (-0.2, 0.2)
    assert one.images[0].get_array().tolist() == [[1, 0], [-3, 2]]


def test_intervals_stand_in_the_row_of_their_class() -> None:
    (axes,) = plots.gate_openers({"head": {"newline": (2, 1.5, 3), "digit": (0.5, 0.4, 0.6)}}).axes
    segments = axes.collections[0].get_segments()
    assert [segment.tolist() for segment in segments] == [[[1.5, 0], [3, 0]], [[0.4, 1], [0.6, 1]]]
    assert axes.lines[1].get_xydata().tolist() == [[2, 0], [0.5, 1]]
    assert labels(axes.get_yticklabels()) == ["newline", "digit"]
    assert axes.yaxis_inverted(), "the first class stands on top"


def test_tables_share_a_scale_from_zero_and_name_what_is_large() -> None:
    one, two = panels_of(plots.head_effects({"one": [[2.0, 0.1], [0.5, 0]], "two": [[0.1, 0], [0, 0]]}, "log odds"))
    assert one.images[0].get_clim() == two.images[0].get_clim() == (0, 2)
    assert {text.get_position(): text.get_text() for text in one.texts} == {(0, 0): "2.0", (0, 1): "0.5"}
    assert not two.texts


def test_a_probes_line_is_its_mean_and_its_band_the_range() -> None:
    scores = {"q": {"state": [[0.8, 1.0], [0.5, 0.7]], "control": [[0.1, 0.1], [0.2, 0.4]]}}
    (axes,) = plots.probe_scores(scores, "control").axes
    assert [line.get_ydata() for line in axes.lines] == [pytest.approx([0.9, 0.6]), pytest.approx([0.1, 0.3])]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (0.5, 1.0)


def test_reach_is_the_share_from_further_back() -> None:
    (axes,) = plots.reaches({"model": [4, 3, 2, 1]}, 2, "here").axes
    line = axes.lines[0]
    assert line.get_xdata().tolist() == [1, 2, 3]
    assert np.asarray(line.get_ydata()) == pytest.approx([0.3, 0.1, 0.0])
