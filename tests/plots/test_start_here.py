"""The figures of notebook 00 hold the data they were given."""

import numpy as np
import torch

from mamba2_lab import plots
from mamba2_lab.course import CHAPTERS


def test_the_map_names_every_chapter_and_its_text_stays_on_its_card() -> None:
    figure = plots.course_map(CHAPTERS)
    (axes,) = figure.axes
    texts = {text.get_text(): text for text in axes.texts}
    figure.draw_without_rendering()
    cards = [patch.get_window_extent() for patch in axes.patches]
    for chapter, card in zip(CHAPTERS, cards, strict=True):
        box = texts[f"{chapter.number:02d}  {chapter.title}"].get_window_extent()
        assert card.x0 < box.x0 and box.x1 < card.x1, chapter.title


def test_state_changes_draws_each_number_where_it_belongs() -> None:
    change = torch.tensor([[0.9, 0.7, 0.8], [0.1, 0.0, 0.2]])
    figure = plots.state_changes(["a", " ", "\n"], [1.0, 2.0, 0.5], change)
    above, below = figure.axes[:2]
    assert [bar.get_height() for bar in above.patches] == [1.0, 2.0, 0.5]
    assert [label.get_text() for label in below.get_xticklabels()] == ["a", "·", "↵"]
    drawn = np.asarray(below.images[0].get_array())
    assert np.array_equal(drawn, change[[1, 0]].numpy()), "the steady head belongs at the top"
